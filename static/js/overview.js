// The start page: three steps from nothing to a model, what is done, and what comes next.
import { get } from "./api.js";
import { Card, Loaded, Page } from "./components.js";
import { useResource } from "./resource.js";
import { RunTable } from "./run_table.js";
import { count } from "./text.js";
import { html } from "./view.js";

async function load(signal) {
  const [backbones, datasets, runs, models] = await Promise.all([
    get("/backbones", {}, signal),
    get("/datasets", {}, signal),
    get("/runs", { limit: 5 }, signal),
    get("/models", {}, signal),
  ]);
  const newest = [...datasets.items].sort((one, other) => other.created_at.localeCompare(one.created_at)).slice(0, 50);
  const versions = await Promise.all(newest.map((dataset) => get(`/datasets/${dataset.id}/versions`, {}, signal)));
  return {
    backbones: backbones.items,
    datasets: datasets.items,
    versions: versions.flatMap((answer) => answer.items),
    runs: runs.items,
    models: models.items,
  };
}

function steps({ backbones, datasets, versions, runs, models }) {
  const filled = datasets.filter((dataset) => dataset.images > 0);
  const dataset = filled[0] ?? datasets[0];
  return [
    {
      title: "Backbone",
      text: "A network that has already learnt to see medical images. Import its weights once; every run starts from it.",
      state: backbones.length ? count(backbones.length, "backbone") : "None imported yet",
      done: backbones.length > 0,
      href: "#/backbones",
      action: backbones.length ? "See backbones" : "Import a backbone",
    },
    {
      title: "Dataset",
      text: "Your own images with their classes. Upload them, look at them, then freeze a version so that results can be repeated.",
      state: versions.length
        ? `${count(datasets.length, "dataset")}, ${count(versions.length, "frozen version")}`
        : filled.length
          ? `${count(filled[0].images, "image")} uploaded, no frozen version yet`
          : datasets.length ? "Created, no images yet" : "None yet",
      done: versions.some(({ labels }) => labels.length > 0),
      href: versions.length || !dataset ? "#/datasets" : `#/datasets/${dataset.id}`,
      action: versions.length ? "See datasets" : filled.length ? "Freeze a version" : dataset ? "Upload images" : "Create a dataset",
    },
    {
      title: "Run",
      text: "The server trains on the training patients and tests on patients it has not seen. You get a model and an honest report.",
      state: models.length ? `${count(models.length, "model")} ready to use` : runs.length ? "Started, no model yet" : "None yet",
      done: models.length > 0,
      href: "#/runs",
      action: runs.length ? "See runs" : "Start a run",
    },
  ];
}

function Steps({ facts }) {
  const list = steps(facts);
  const next = list.findIndex((step) => !step.done);
  return html`<ol class="steps">${list.map((step, at) => {
    const state = step.done ? "done" : at === next ? "next" : "later";
    const word = { done: "Done", next: "Next step", later: "Later" }[state];
    return html`<li key=${step.title} class=${`step ${state}`} aria-current=${state === "next" ? "step" : undefined} data-testid=${`step-${at + 1}`}>
      <div class="head"><h2><span class="number">${at + 1}</span>${step.title}</h2><span class=${`chip ${state}`}>${word}</span></div>
      <p>${step.text}</p>
      <p class="state">${step.state}</p>
      <a class=${state === "next" ? "button primary" : "button"} href=${step.href}>${step.action}</a>
    </li>`;
  })}</ol>`;
}

export function OverviewPage() {
  const resource = useResource(load, []);
  return html`<${Page} title="Overview" lead="From labelled images to a tested model, in three steps.">
    <${Loaded} resource=${resource} what="the overview">${(facts) => html`
      <${Steps} facts=${facts} />
      ${facts.runs.length > 0 && html`<${Card} title="Latest runs" id="latest-runs" actions=${html`<a href="#/runs">All runs</a>`}><${RunTable} runs=${facts.runs} /><//>`}
      <p class="hint">Many images without classes? They can <a href="#/runs?kind=pretrain">adapt a backbone</a> to your kind of images before the first run.</p>
      <p class="hint">Names, dates and other patient details are removed from DICOM files before anything is stored. Everything stays on this server.</p>
    `}<//>
  <//>`;
}
