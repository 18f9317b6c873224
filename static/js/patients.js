// Counts the patients of each class of a dataset, which the server gives only for the whole.
import { get } from "./api.js";
import { useEffect, useState } from "./view.js";

/** Larger datasets are not walked: the counts are a help, not worth minutes of loading. */
const MOST_IMAGES = 5000;

export function usePatients({ id, images }) {
  const [counts, setCounts] = useState(null);
  useEffect(() => {
    if (images === 0 || images > MOST_IMAGES) {
      setCounts(null);
      return undefined;
    }
    const stop = new AbortController();
    walk(id, stop.signal).then(setCounts, () => {});
    return () => stop.abort();
  }, [id, images]);
  return counts;
}

async function walk(id, signal) {
  const seen = {};
  let after;
  do {
    const page = await get(`/datasets/${id}/images`, { after, limit: 1000 }, signal);
    for (const image of page.items) {
      if (image.label !== null) (seen[image.label] ??= new Set()).add(image.patient_key);
    }
    after = page.next;
  } while (after);
  return Object.fromEntries(Object.entries(seen).map(([label, keys]) => [label, keys.size]));
}
