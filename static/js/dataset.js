// One dataset: upload, classes, images, frozen versions.
import { get, remove } from "./api.js";
import { Bars, Card, ConfirmButton, Empty, Loaded, Page } from "./components.js";
import { Gallery } from "./gallery.js";
import { fail } from "./notices.js";
import { usePatients } from "./patients.js";
import { Rejected } from "./rejected.js";
import { useResource } from "./resource.js";
import { go } from "./router.js";
import { allows, Needs, useSession } from "./session.js";
import { count } from "./text.js";
import { Upload } from "./upload.js";
import { Versions } from "./versions.js";
import { html } from "./view.js";

/** Classes that are shown before the rest is folded. */
const SHOWN = 10;

export function DatasetPage({ id }) {
  const who = useSession();
  const dataset = useResource((signal) => get(`/datasets/${id}`, {}, signal), [id]);
  const drop = async () => {
    try {
      await remove(`/datasets/${id}`);
      go("#/datasets");
    } catch (problem) {
      fail(problem);
    }
  };
  const actions = dataset.value && allows(who, "trainer") && html`<${ConfirmButton} label="Delete dataset" title="Delete this dataset?" confirm="Delete for good" testid="delete-dataset" action=${drop}
    text=${`"${dataset.value.name}", its ${count(dataset.value.images, "image")} and its versions are deleted. This cannot be undone.`} />`;
  const back = { href: "#/datasets", text: "All datasets" };
  return html`<${Page} title=${dataset.value?.name ?? "Dataset"} back=${back} actions=${actions}>
    <${Loaded} resource=${dataset} what="the dataset">${(value) => html`<${Body} dataset=${value} onChange=${dataset.reload} />`}<//>
  <//>`;
}

function Body({ dataset, onChange }) {
  const empty = dataset.images === 0;
  return html`<p class="lead" data-testid="dataset-counts">${count(dataset.images, "image")} of ${count(dataset.patients, "patient")} in ${count(Object.keys(dataset.classes).length, "class", "classes")}</p>
    <div class="columns">
      <div>
        <${Needs} role="trainer" to="upload images"><${Upload} dataset=${dataset} onDone=${onChange} /><//>
        ${dataset.rejected > 0 && html`<${Rejected} dataset=${dataset} />`}
      </div>
      <${Classes} dataset=${dataset} />
    </div>
    ${!empty && html`<${Versions} dataset=${dataset} />`}
    ${!empty && html`<${Gallery} dataset=${dataset} onChange=${onChange} />`}`;
}

function Classes({ dataset }) {
  const patients = usePatients(dataset);
  const labels = Object.keys(dataset.classes);
  const labelled = Object.values(dataset.classes).reduce((sum, images) => sum + images, 0);
  const rows = labels.map((label) => {
    const own = patients?.[label];
    return { label, value: dataset.classes[label], text: count(dataset.classes[label], "image") + (own ? `, ${count(own, "patient")}` : "") };
  });
  const most = Math.max(...rows.map((row) => row.value), 1);
  const without = dataset.images - labelled;
  return html`<${Card} title="Classes" id="classes-title" testid="classes">
    ${labels.length === 0
      ? html`<${Empty} title="No class yet">A class is what the model shall tell apart, such as "benign" and "malignant". Upload a folder or a ZIP with one folder per class. Images without classes are of use too: they can adapt a backbone to your kind of images.<//>`
      : html`<${Bars} rows=${rows.slice(0, SHOWN)} max=${most} caption="Images and patients of each class" />
          ${rows.length > SHOWN && html`<details class="folded"><summary>${count(rows.length - SHOWN, "further class", "further classes")}</summary><${Bars} rows=${rows.slice(SHOWN)} max=${most} caption="Images and patients of further classes" /></details>`}`}
    ${without > 0 && html`<p class="hint">${count(without, "image")} without a class: kept. Pretraining can learn from them when a version takes them in; nothing else does.</p>`}
    ${labels.length === 1 && html`<p class="hint">A run needs at least two classes.</p>`}
  <//>`;
}
