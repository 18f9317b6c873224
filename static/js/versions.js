// Frozen versions of a dataset: the form that freezes one, and what each holds.
import { get, post } from "./api.js";
import { Card, Digest, Empty, Field, Loaded, Notes } from "./components.js";
import { fail, succeed } from "./notices.js";
import { useResource } from "./resource.js";
import { Needs } from "./session.js";
import { count, when } from "./text.js";
import { html, useState } from "./view.js";

const SPLITS = [["train", "Training"], ["validation", "Validation"], ["test", "Test"]];

export function Versions({ dataset }) {
  const resource = useResource((signal) => get(`/datasets/${dataset.id}/versions`, {}, signal), [dataset.id]);
  return html`<${Card} title="Frozen versions" id="versions-title">
    <p>A version is a snapshot that never changes. ${unlabelled(dataset) < dataset.images && "Its images are divided by patient: most to learn from, some to decide when to stop, and some kept aside for the test."}</p>
    <${Needs} role="trainer" to="freeze versions"><${FreezeForm} dataset=${dataset} onDone=${resource.reload} /><//>
    <${Loaded} resource=${resource} what="versions">${({ items }) => items.length === 0
      ? html`<${Empty} title="No version yet">When all images are uploaded, press "Freeze version". Then a run can use it.<//>`
      : html`<${Table} versions=${[...items].sort((one, other) => other.number - one.number)} />`}<//>
  <//>`;
}

/** Images without a class. */
export const unlabelled = ({ images, classes }) => images - Object.values(classes).reduce((sum, number) => sum + number, 0);

function FreezeForm({ dataset, onDone }) {
  const [seed, setSeed] = useState("0");
  const [validation, setValidation] = useState("15");
  const [test, setTest] = useState("25");
  const [including, setIncluding] = useState(false);
  const [busy, setBusy] = useState(false);
  const left = 100 - Number(validation) - Number(test);
  const without = unlabelled(dataset);
  const noClass = without === dataset.images;
  const submit = async (event) => {
    event.preventDefault();
    setBusy(true);
    try {
      const shares = noClass ? {} : { validation: Number(validation) / 100, test: Number(test) / 100 };
      const version = await post(`/datasets/${dataset.id}/versions`, { seed: Number(seed), ...shares, ...(noClass || (without > 0 && including) ? { include_unlabelled: true } : {}) });
      succeed(`Froze version ${version.number}`, noClass ? "A backbone can be adapted to it now." : "It can be used for runs now.");
      onDone();
    } catch (problem) {
      fail(problem);
    } finally {
      setBusy(false);
    }
  };
  if (noClass) {
    return html`<form onSubmit=${submit}>
      <p data-testid="freeze-unlabelled">No image has a class. The version holds all ${count(dataset.images, "image")}; a backbone can be adapted to them (pretraining), but no model can be trained or tested on it.</p>
      <div class="buttons"><button type="submit" class="primary" data-testid="freeze" disabled=${busy}>${busy ? "Freezing" : "Freeze version"}</button></div>
    </form>`;
  }
  const text = (set) => (event) => set(event.target.value);
  return html`<form onSubmit=${submit}>
    <div class="row">
      <${Field} label="Validation, %" id="share-validation" hint="Decides when training stops; a probe learns from it too."><input id="share-validation" data-testid="share-validation" type="number" min="0" max="90" step="1" required value=${validation} onInput=${text(setValidation)} /><//>
      <${Field} label="Test, %" id="share-test"><input id="share-test" data-testid="share-test" type="number" min="1" max="90" step="1" required value=${test} onInput=${text(setTest)} /><//>
      <${Field} label="Seed" id="freeze-seed"><input id="freeze-seed" data-testid="freeze-seed" type="number" min="0" max="9007199254740991" step="1" required value=${seed} onInput=${text(setSeed)} /><//>
      <button type="submit" class="primary" data-testid="freeze" disabled=${busy || left <= 0}>${busy ? "Freezing" : "Freeze version"}</button>
    </div>
    ${without > 0 && html`<label class="check"><input type="checkbox" data-testid="include-unlabelled" checked=${including} onChange=${(event) => setIncluding(event.target.checked)} />
      <span>Also take the ${count(without, "image")} without a class<small>Only pretraining learns from them. They do not take part in validation and test.</small></span></label>`}
    <p class="hint">${left > 0 ? `About ${left} % of the images remain for training.` : "Nothing would remain for training: make validation or test smaller."} The seed decides the draw: the same seed gives the same division. If your table named splits, those are kept.</p>
  </form>`;
}

function Table({ versions }) {
  return html`<div class="scroll"><table>
    <thead><tr><th>Version</th>${SPLITS.map(([, name]) => html`<th class="num">${name}</th>`)}<th>Frozen</th><th>Digest</th><th><span class="hidden">Run</span></th></tr></thead>
    <tbody>${versions.map((version) => html`<tr key=${version.id} data-testid="version-row" data-version=${version.id}>
      <td><strong>Version ${version.number}</strong><small>${version.labels.length > 0 ? `seed ${version.seed}, ${count(version.labels.length, "class", "classes")}` : "without classes: for pretraining"}</small></td>
      ${SPLITS.map(([split]) => html`<${Split} counts=${version.splits[split]} />`)}
      <td class="nowrap">${when(version.created_at)}</td>
      <td><${Digest} value=${version.digest} what=${`version ${version.number}`} /></td>
      <td><div class="stack">
        ${version.labels.length > 0 && html`<a class="button" data-testid="run-from-version" href=${`#/runs?version=${version.id}`}>Start a run</a>`}
        <a class="button" data-testid="pretrain-from-version" href=${`#/runs?kind=pretrain&version=${version.id}`} title="Pretraining: a backbone gets used to these images; classes are not needed">Adapt a backbone</a>
      </div></td>
    </tr>
    ${version.notices.length > 0 && html`<tr key=${`${version.id}-notes`} class="under"><td colspan="7"><${Notes} notices=${version.notices} /></td></tr>`}`)}</tbody>
  </table></div>`;
}

function Split({ counts }) {
  if (!counts) return html`<td class="num">0 images</td>`;
  const classes = Object.entries(counts.classes).map(([label, images]) => `${label}: ${images}`).join("\n");
  const without = unlabelled(counts);
  return html`<td class="num nowrap" title=${classes}>${count(counts.images, "image")}<small>${count(counts.patients, "patient")}</small>${without > 0 && html`<small>${without === counts.images ? "no classes" : `${without.toLocaleString("en")} without a class`}</small>`}</td>`;
}
