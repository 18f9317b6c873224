// The name of a dataset version, which runs know only by its id; asked for once.
import { get } from "./api.js";
import { html, useEffect, useState } from "./view.js";

const known = new Map();

async function find(id) {
  const version = await get(`/versions/${id}`);
  const dataset = await get(`/datasets/${version.dataset}`);
  return { href: `#/datasets/${dataset.id}`, text: `${dataset.name}, version ${version.number}` };
}

export function VersionName({ id }) {
  const [name, setName] = useState(null);
  useEffect(() => {
    let here = true;
    if (!known.has(id)) known.set(id, find(id));
    known.get(id).then(
      (found) => here && setName(found),
      () => {
        known.delete(id);
        if (here) setName({ text: "no longer here" });
      },
    );
    return () => { here = false; };
  }, [id]);
  if (!name) return "";
  return name.href ? html`<a href=${name.href}>${name.text}</a>` : html`<span class="hint">${name.text}</span>`;
}
