// Loads something for a page, and says whether it is loading, here, or failed.
import { key } from "./api.js";
import { useStore } from "./store.js";
import { useCallback, useEffect, useRef, useState } from "./view.js";

/** `load(signal)` runs again when `inputs` or the key change, and on `reload()`. */
export function useResource(load, inputs) {
  const held = useStore(key);
  const [state, setState] = useState({ value: null, problem: null, loading: true });
  const [round, setRound] = useState(0);
  const latest = useRef(load);
  latest.current = load;

  useEffect(() => {
    const stop = new AbortController();
    setState((before) => ({ ...before, loading: true }));
    latest.current(stop.signal).then(
      (value) => stop.signal.aborted || setState({ value, problem: null, loading: false }),
      (problem) => stop.signal.aborted || setState({ value: null, problem, loading: false }),
    );
    return () => stop.abort();
  }, [...inputs, held, round]);

  const reload = useCallback(() => setRound((count) => count + 1), []);
  const replace = useCallback((value) => setState({ value, problem: null, loading: false }), []);
  return { ...state, reload, replace };
}
