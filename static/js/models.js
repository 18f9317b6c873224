// Models: what finished runs have published.
import { get } from "./api.js";
import { Card, Empty, Loaded, Page } from "./components.js";
import { interval } from "./evaluation.js";
import { useResource } from "./resource.js";
import { when } from "./text.js";
import { html } from "./view.js";

export function ModelsPage() {
  const resource = useResource((signal) => get("/models", {}, signal), []);
  return html`<${Page} title="Models" lead="What finished runs have made: open one to download it or to try it on an image.">
    <${Loaded} resource=${resource} what="models">${({ items }) => items.length === 0
      ? html`<${Empty} title="No model yet">A model appears here when a <a href="#/runs">run</a> has finished.<//>`
      : html`<${Card} title="All models" id="models-title"><${Table} models=${items} /><//>`}<//>
  <//>`;
}

function Table({ models }) {
  return html`<div class="scroll"><table data-testid="model-table">
    <thead><tr><th>Name</th><th>Classes</th><th>Accuracy on the test</th><th>Licence</th><th>Published</th></tr></thead>
    <tbody>${models.map((model) => html`<tr key=${model.id} data-testid="model-row">
      <td><a href=${`#/models/${model.id}`}>${model.name}</a><small>version ${model.version}, ${model.stage}</small></td>
      <td>${model.labels.slice(0, 4).join(", ")}${model.labels.length > 4 ? ` and ${model.labels.length - 4} more` : ""}</td>
      <td>${interval(model.evaluation.accuracy)}</td>
      <td>${model.license}</td>
      <td class="nowrap">${when(model.created_at)}</td>
    </tr>`)}</tbody>
  </table></div>`;
}
