// The architectures of networks that the server knows.
import { get } from "./api.js";
import { useResource } from "./resource.js";

/** All of them; none until they are known. */
export function useArchitectures() {
  const resource = useResource((signal) => get("/architectures", {}, signal), []);
  return resource.value?.items ?? [];
}
