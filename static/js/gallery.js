// The images of a dataset as pages of thumbnails, by class if wanted.
import { get } from "./api.js";
import { Card, Field, Loaded } from "./components.js";
import { Picture, previewUrl } from "./picture.js";
import { useResource } from "./resource.js";
import { Viewer } from "./viewer.js";
import { html, useEffect, useState } from "./view.js";

const PAGE = 36;

export function Gallery({ dataset, onChange }) {
  const [label, setLabel] = useState("");
  // The cursors of the pages before this one, so that "Previous" works.
  const [trail, setTrail] = useState([undefined]);
  const [open, setOpen] = useState(null);
  const after = trail[trail.length - 1];
  const resource = useResource(
    (signal) => get(`/datasets/${dataset.id}/images`, { label, after, limit: PAGE }, signal),
    [dataset.id, label, after, dataset.images],
  );
  useEffect(() => setTrail([undefined]), [label]);

  const filter = html`<${Field} label="Class" id="gallery-class"><select id="gallery-class" value=${label} onChange=${(event) => setLabel(event.target.value)}>
    <option value="">All images</option>
    ${Object.keys(dataset.classes).map((name) => html`<option value=${name}>${name}</option>`)}
  </select><//>`;
  return html`<${Card} title="Images" id="images-title" actions=${filter}>
    <${Loaded} resource=${resource} what="images">${({ items, next }) => html`
      <ul class="thumbs">${items.map((image) => html`<li key=${image.id}><button type="button" class="thumb" data-testid="thumb" onClick=${() => setOpen(image)}>
        <${Picture} url=${previewUrl(image.id, { max_side: 160 })} alt="" />
        <span class="caption">${image.label ?? "no class"}</span><span class="caption file">${name(image)}</span>
      </button></li>`)}</ul>
      ${items.length === 0 && html`<p class="hint">No image here.</p>`}
      ${(next || trail.length > 1) && html`<nav class="buttons" aria-label="Pages of images">
        <button type="button" disabled=${trail.length < 2} onClick=${() => setTrail(trail.slice(0, -1))}>Previous</button>
        <span class="hint">Page ${trail.length}</span>
        <button type="button" disabled=${!next} onClick=${() => setTrail([...trail, next])}>Next</button>
      </nav>`}
    `}<//>
    ${open && html`<${Viewer} image=${open} onClose=${() => setOpen(null)} onGone=${() => { setOpen(null); onChange(); }} />`}
  <//>`;
}

export function name({ file, number, frame }) {
  const shown = file ?? `image ${number}`;
  return frame > 0 ? `${shown}, frame ${frame + 1}` : shown;
}
