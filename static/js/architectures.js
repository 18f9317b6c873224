// The architectures of networks that the server knows.
import { get } from "./api.js";
import { useResource } from "./resource.js";

/** All of them; none until they are known, and the problem where they cannot be had. */
export function useArchitectures() {
  const { value, problem } = useResource((signal) => get("/architectures", {}, signal), []);
  return { known: value?.items ?? [], problem };
}
