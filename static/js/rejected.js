// The files of all uploads so far that could not be taken, loaded when somebody asks.
import { get } from "./api.js";
import { Loaded } from "./components.js";
import { useResource } from "./resource.js";
import { count } from "./text.js";
import { html, useState } from "./view.js";

export function Rejected({ dataset }) {
  const [open, setOpen] = useState(false);
  return html`<details class="card" onToggle=${(event) => setOpen(event.target.open)}>
    <summary>${count(dataset.rejected, "file")} could not be taken, over all uploads</summary>
    ${open && html`<${List} dataset=${dataset} />`}
  </details>`;
}

function List({ dataset }) {
  const resource = useResource((signal) => get(`/datasets/${dataset.id}/rejected`, {}, signal), [dataset.id, dataset.rejected]);
  return html`<${Loaded} resource=${resource} what="the list">${({ items }) => html`<${RejectedTable} files=${items} />`}<//>`;
}

/** Names are not stored: afterwards only the place in the upload is known. */
const place = ({ entry }) => (entry ? `file ${entry.toLocaleString("en")} of its upload` : "an upload");

export function RejectedTable({ files }) {
  return html`<div class="scroll short" tabindex="0" role="region" aria-label="Files that could not be taken"><table>
    <thead><tr><th>File</th><th>Why it was not taken</th></tr></thead>
    <tbody>${files.map((file) => html`<tr data-testid="rejected-row"><td class="break">${file.file ?? place(file)}</td><td>${file.reason}</td></tr>`)}</tbody>
  </table></div>`;
}
