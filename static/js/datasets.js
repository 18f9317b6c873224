// Datasets: the list, and the form that creates one.
import { get, post } from "./api.js";
import { Card, Empty, Field, Loaded, Page } from "./components.js";
import { fail } from "./notices.js";
import { useResource } from "./resource.js";
import { go } from "./router.js";
import { Needs } from "./session.js";
import { when } from "./text.js";
import { html, useState } from "./view.js";

export function DatasetsPage() {
  const resource = useResource((signal) => get("/datasets", {}, signal), []);
  return html`<${Page} title="Datasets" lead="A dataset holds the images of one question, for example: which of these classes does the image show?">
    <${Needs} role="trainer" to="create datasets"><${CreateForm} /><//>
    <${Loaded} resource=${resource} what="datasets">${({ items }) => items.length === 0
      ? html`<${Empty} title="No dataset yet">Give it a name above, then upload your images.<//>`
      : html`<${Card} title="All datasets" id="all-datasets"><${List} datasets=${items} /><//>`}<//>
  <//>`;
}

function List({ datasets }) {
  return html`<div class="scroll"><table data-testid="dataset-table">
    <thead><tr><th>Name</th><th class="num">Images</th><th class="num">Patients</th><th>Classes</th><th class="num">Not taken</th><th>Created</th></tr></thead>
    <tbody>${datasets.map((dataset) => html`<tr key=${dataset.id} data-testid="dataset-row">
      <td><a href=${`#/datasets/${dataset.id}`}>${dataset.name}</a></td>
      <td class="num">${dataset.images.toLocaleString("en")}</td>
      <td class="num">${dataset.patients.toLocaleString("en")}</td>
      <td>${names(Object.keys(dataset.classes))}</td>
      <td class="num">${dataset.rejected}</td>
      <td class="nowrap">${when(dataset.created_at)}</td>
    </tr>`)}</tbody>
  </table></div>`;
}

function names(classes) {
  if (classes.length === 0) return html`<span class="hint">none yet</span>`;
  const rest = classes.length - 4;
  return classes.slice(0, 4).join(", ") + (rest > 0 ? ` and ${rest} more` : "");
}

function CreateForm() {
  const [name, setName] = useState("");
  const [busy, setBusy] = useState(false);
  const submit = async (event) => {
    event.preventDefault();
    setBusy(true);
    try {
      const dataset = await post("/datasets", { name });
      go(`#/datasets/${dataset.id}`);
    } catch (problem) {
      fail(problem);
      setBusy(false);
    }
  };
  return html`<${Card} title="Create a dataset" id="create-title">
    <form class="row" onSubmit=${submit}>
      <${Field} label="Name" id="dataset-name">
        <input id="dataset-name" data-testid="dataset-name" required maxlength="120" placeholder="Breast ultrasound 2026" value=${name} onInput=${(event) => setName(event.target.value)} /><//>
      <button type="submit" class="primary" data-testid="create-dataset" disabled=${busy || !name.trim()}>Create dataset</button>
    </form>
    <p class="hint">Do not use patient names here: the name is shown to everyone with a key.</p>
  <//>`;
}
