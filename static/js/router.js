// Which page the address names: `#/datasets/42?x=1` gives parts ["datasets", "42"] and query x.
import { useEffect, useState } from "./view.js";

export function parse(hash) {
  const [route, search = ""] = hash.replace(/^#\/?/, "").split("?");
  const parts = route.split("/").filter(Boolean).map(decode);
  return { parts, query: new URLSearchParams(search) };
}

function decode(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

export function useRoute() {
  const [route, setRoute] = useState(() => parse(location.hash));
  useEffect(() => {
    const follow = () => setRoute(parse(location.hash));
    window.addEventListener("hashchange", follow);
    return () => window.removeEventListener("hashchange", follow);
  }, []);
  return route;
}

export function go(hash) {
  location.hash = hash;
}
