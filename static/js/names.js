// Names of dataset versions and backbones, which runs know only by their ids; asked for once.
import { get } from "./api.js";
import { html, useEffect, useState } from "./view.js";

async function version(id) {
  const found = await get(`/versions/${id}`);
  const dataset = await get(`/datasets/${found.dataset}`);
  return { href: `#/datasets/${dataset.id}`, text: `${dataset.name}, version ${found.number}` };
}

async function backbone(id) {
  const { name } = await get(`/backbones/${id}`);
  return { href: `#/backbones/${id}`, text: name };
}

const versions = { known: new Map(), find: version };
const backbones = { known: new Map(), find: backbone };

export const VersionName = ({ id }) => html`<${NameOf} of=${versions} id=${id} />`;
export const BackboneName = ({ id }) => html`<${NameOf} of=${backbones} id=${id} />`;

function NameOf({ of: { known, find }, id }) {
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
