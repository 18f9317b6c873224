// A value that pages share: read it, set it, and redraw what shows it.
import { useEffect, useReducer } from "./view.js";

export function store(initial) {
  let value = initial;
  const listeners = new Set();
  return {
    get: () => value,
    set(next) {
      value = next;
      for (const listener of [...listeners]) listener();
    },
    listen(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
  };
}

export function useStore(shared) {
  const [, redraw] = useReducer((count) => count + 1, 0);
  useEffect(() => shared.listen(redraw), [shared]);
  return shared.get();
}
