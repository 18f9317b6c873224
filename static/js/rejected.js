// Files that could not be taken: how many for which reason, and the whole list for those who ask.
import { get } from "./api.js";
import { Folded, Loaded } from "./components.js";
import { useResource } from "./resource.js";
import { count } from "./text.js";
import { html, useState } from "./view.js";

/** More files than these are summed up by reason. */
const FEW = 10;
/** Reasons that the summary names. */
const REASONS = 5;

export function Rejected({ dataset }) {
  const [open, setOpen] = useState(false);
  return html`<details class="card" onToggle=${(event) => event.target === event.currentTarget && setOpen(event.target.open)}>
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
  return html`${files.length > FEW && html`<${Summary} files=${files} />`}
    <${Folded} items=${files} what="files, one by one">${(all) => html`<div class="scroll short" tabindex="0" role="region" aria-label="Files that could not be taken"><table>
      <thead><tr><th>File</th><th>Why it was not taken</th></tr></thead>
      <tbody>${all.map((file) => html`<tr data-testid="rejected-row"><td class="break">${file.file ?? place(file)}</td><td>${file.reason}</td></tr>`)}</tbody>
    </table></div>`}<//>`;
}

/** Reasons go on after the name of one file. */
function each(reason, number) {
  const goesOn = /^(?:it )?((?:is|has|cannot|takes|made|was|could)\b.*)$/s.exec(reason);
  return number > 1 && goesOn ? `, each of which ${goesOn[1]}` : `: ${reason}`;
}

function Summary({ files }) {
  const sums = new Map();
  for (const { reason } of files) sums.set(reason, (sums.get(reason) ?? 0) + 1);
  const sorted = [...sums].sort(([, one], [, other]) => other - one);
  const rest = sorted.slice(REASONS).reduce((sum, [, number]) => sum + number, 0);
  return html`<ul data-testid="rejected-reasons">${sorted.slice(0, REASONS).map(([reason, number]) => html`<li><strong>${count(number, "file")}</strong>${each(reason, number)}</li>`)}
    ${rest > 0 && html`<li><strong>${count(rest, "file")}</strong> for other reasons</li>`}</ul>`;
}
