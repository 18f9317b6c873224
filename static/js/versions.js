// Frozen versions of a dataset: the form that freezes one, and what each holds.
import { get, post } from "./api.js";
import { Card, Digest, Empty, Field, Loaded, Notes } from "./components.js";
import { fail, succeed } from "./notices.js";
import { useResource } from "./resource.js";
import { Needs } from "./session.js";
import { when } from "./text.js";
import { html, useState } from "./view.js";

const SPLITS = [["train", "Training"], ["validation", "Validation"], ["test", "Test"]];

export function Versions({ dataset }) {
  const resource = useResource((signal) => get(`/datasets/${dataset.id}/versions`, {}, signal), [dataset.id]);
  return html`<${Card} title="Frozen versions" id="versions-title">
    <p>A version is a snapshot that never changes. Its images are divided by patient: most to learn from, some to decide when to stop, and some kept aside for the test.</p>
    <${Needs} role="trainer" to="freeze versions"><${FreezeForm} dataset=${dataset} onDone=${resource.reload} /><//>
    <${Loaded} resource=${resource} what="versions">${({ items }) => items.length === 0
      ? html`<${Empty} title="No version yet">When all images are uploaded, press "Freeze version". Then a run can use it.<//>`
      : html`<${Table} versions=${[...items].sort((one, other) => other.number - one.number)} />`}<//>
  <//>`;
}

function FreezeForm({ dataset, onDone }) {
  const [seed, setSeed] = useState("0");
  const [validation, setValidation] = useState("15");
  const [test, setTest] = useState("25");
  const [busy, setBusy] = useState(false);
  const left = 100 - Number(validation) - Number(test);
  const submit = async (event) => {
    event.preventDefault();
    setBusy(true);
    try {
      const version = await post(`/datasets/${dataset.id}/versions`, { seed: Number(seed), validation: Number(validation) / 100, test: Number(test) / 100 });
      succeed(`Froze version ${version.number}`, "It can be used for runs now.");
      onDone();
    } catch (problem) {
      fail(problem);
    } finally {
      setBusy(false);
    }
  };
  const text = (set) => (event) => set(event.target.value);
  return html`<form onSubmit=${submit}>
    <div class="row">
      <${Field} label="Validation, %" id="share-validation"><input id="share-validation" data-testid="share-validation" type="number" min="0" max="90" step="1" required value=${validation} onInput=${text(setValidation)} /><//>
      <${Field} label="Test, %" id="share-test"><input id="share-test" data-testid="share-test" type="number" min="1" max="90" step="1" required value=${test} onInput=${text(setTest)} /><//>
      <${Field} label="Seed" id="freeze-seed"><input id="freeze-seed" data-testid="freeze-seed" type="number" min="0" max="9007199254740991" step="1" required value=${seed} onInput=${text(setSeed)} /><//>
      <button type="submit" class="primary" data-testid="freeze" disabled=${busy || left <= 0}>${busy ? "Freezing" : "Freeze version"}</button>
    </div>
    <p class="hint">${left > 0 ? `About ${left} % of the images remain for training.` : "Nothing would remain for training: make validation or test smaller."} The seed decides the draw: the same seed gives the same division. If your table named splits, those are kept.</p>
  </form>`;
}

function Table({ versions }) {
  return html`<div class="scroll"><table>
    <thead><tr><th>Version</th>${SPLITS.map(([, name]) => html`<th class="num">${name}</th>`)}<th>Frozen</th><th>Digest</th><th><span class="hidden">Run</span></th></tr></thead>
    <tbody>${versions.map((version) => html`<tr key=${version.id} data-testid="version-row" data-version=${version.id}>
      <td><strong>Version ${version.number}</strong><small>seed ${version.seed}, ${version.labels.length} classes</small></td>
      ${SPLITS.map(([split]) => html`<${Split} counts=${version.splits[split]} />`)}
      <td class="nowrap">${when(version.created_at)}</td>
      <td><${Digest} value=${version.digest} what=${`version ${version.number}`} /></td>
      <td><a class="button" data-testid="run-from-version" href=${`#/runs?version=${version.id}`}>Start a run</a></td>
    </tr>
    ${version.notices.length > 0 && html`<tr key=${`${version.id}-notes`} class="under"><td colspan="7"><${Notes} notices=${version.notices} /></td></tr>`}`)}</tbody>
  </table></div>`;
}

function Split({ counts }) {
  if (!counts) return html`<td class="num">0 images</td>`;
  const classes = Object.entries(counts.classes).map(([label, images]) => `${label}: ${images}`).join("\n");
  return html`<td class="num" title=${classes}>${counts.images} images<small>${counts.patients} patients</small></td>`;
}
