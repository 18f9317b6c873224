// The form that trains a model, in plain words, with the defaults that suit most teams.
import { idempotencyKey, post } from "./api.js";
import { CandidateNote } from "./comparison.js";
import { Field } from "./components.js";
import { Estimate } from "./estimate.js";
import { fitting, HEADS, METHODS } from "./methods.js";
import { fail } from "./notices.js";
import { go } from "./router.js";
import { AugmentField, EMPTY_TRAINING, TrainingSettings, trainingRequest } from "./training_settings.js";
import { html, useRef, useState } from "./view.js";

export function FinetuneForm({ backbones, versions, chosen }) {
  const known = versions.some((version) => version.id === chosen);
  const [values, setValues] = useState({
    version: known ? chosen : versions[0].id, backbone: backbones[0].id, method: "probe", head: "auto", shots: "", repeats: "1", seed: "0", name: "", random: false, training: EMPTY_TRAINING,
  });
  const [busy, setBusy] = useState(false);
  // Kept until the server has answered: pressing twice, or trying again after a lost answer, starts one run.
  const attempt = useRef(idempotencyKey());
  const change = (part) => {
    attempt.current = idempotencyKey();
    setValues((before) => ({ ...before, ...part }));
  };
  const set = (name) => (event) => change({ [name]: event.target.value });

  const submit = async (event) => {
    event.preventDefault();
    setBusy(true);
    try {
      const run = await post("/runs", request(values), { "Idempotency-Key": attempt.current });
      go(`#/runs/${run.id}`);
    } catch (problem) {
      if (problem.status >= 400 && problem.status < 500) attempt.current = idempotencyKey();
      fail(problem);
      setBusy(false);
    }
  };
  const version = versions.find(({ id }) => id === values.version);
  const backbone = backbones.find(({ id }) => id === values.backbone);
  const methods = fitting(backbone?.architecture);
  const chooseBackbone = ({ target }) => {
    const { architecture } = backbones.find(({ id }) => id === target.value) ?? {};
    const fits = fitting(architecture).includes(values.method);
    change({ backbone: target.value, method: fits ? values.method : "probe" });
  };
  return html`<form onSubmit=${submit} id="start-form">
    <div class="grid two">
      <${Field} label="Dataset version" id="run-version" hint=${describe(version)}>
        <select id="run-version" data-testid="run-version" required value=${values.version} onChange=${set("version")} aria-describedby="run-version-hint">
          ${versions.map(({ id, name, number }) => html`<option key=${id} value=${id} selected=${id === values.version}>${name}, version ${number}</option>`)}
        </select><//>
      <${Field} label="Backbone" id="run-backbone" hint="The pretrained network that the run starts from.">
        <select id="run-backbone" data-testid="run-backbone" required value=${values.backbone} onChange=${chooseBackbone} aria-describedby="run-backbone-hint">
          ${backbones.map(({ id, name, architecture, stage }) => html`<option key=${id} value=${id} selected=${id === values.backbone}>${name} (${architecture})${stage === "candidate" ? ", candidate" : ""}</option>`)}
        </select><//>
    </div>
    <${CandidateNote} backbone=${backbone} />
    ${version?.notices?.length ? html`<ul class="hint">${version.notices.map((notice) => html`<li>${notice}</li>`)}</ul>` : null}
    <div class="grid two">
      <${Field} label="Method" id="run-method" hint=${METHODS[values.method].hint}>
        <select id="run-method" data-testid="run-method" value=${values.method} onChange=${set("method")} aria-describedby="run-method-hint">
          ${methods.map((method) => html`<option key=${method} value=${method} selected=${method === values.method}>${METHODS[method].name}</option>`)}
        </select><//>
      <${Field} label="Training images per class (shots)" id="run-shots" hint="Leave empty to use all. A small number shows how far few labelled images reach.">
        <input id="run-shots" data-testid="run-shots" type="number" min="1" max="1000000" step="1" placeholder="all" value=${values.shots} onInput=${set("shots")} aria-describedby="run-shots-hint" /><//>
    </div>
    <div class="grid two">
      <${Field} label="Repeats" id="run-repeats" hint="Does the whole so many times with other seeds and reports the mean and its interval. With few images, 5 or more show how much is chance.">
        <input id="run-repeats" data-testid="run-repeats" type="number" min="1" max="100" step="1" required value=${values.repeats} onInput=${set("repeats")} aria-describedby="run-repeats-hint" /><//>
      ${values.method !== "probe" && html`<${AugmentField} values=${values.training} method=${values.method} onChange=${(training) => change({ training })} />`}
    </div>
    <details><summary>More settings</summary>
      <div class="grid two">
        <${Field} label="Name of the model" id="run-name" hint="Made from the dataset's and the backbone's name when empty.">
          <input id="run-name" data-testid="run-name" maxlength="120" value=${values.name} onInput=${set("name")} /><//>
        <${Field} label="Seed" id="run-seed" hint="Decides every random choice: the same seed gives the same run.">
          <input id="run-seed" data-testid="run-seed" type="number" min="0" max="9007199254740991" step="1" required value=${values.seed} onInput=${set("seed")} /><//>
        <${Field} label="Classifier" id="run-head" hint=${`${HEADS[values.head].hint}${values.method === "probe" ? "" : " Training starts from it."}`}>
          <select id="run-head" data-testid="run-head" value=${values.head} onChange=${set("head")} aria-describedby="run-head-hint">
            ${Object.entries(HEADS).map(([head, { name }]) => html`<option key=${head} value=${head} selected=${head === values.head}>${name}</option>`)}
          </select><//>
      </div>
      <label class="check"><input type="checkbox" data-testid="run-random-baseline" checked=${values.random} onChange=${(event) => change({ random: event.target.checked })} />
        <span>Compare with a random network<small>Also says what the same architecture reaches with random weights, frozen, and a classifier like this one. Takes as long as the features do.</small></span></label>
      ${values.method !== "probe" && html`<${TrainingSettings} values=${values.training} method=${values.method} onChange=${(training) => change({ training })} />`}
    </details>
    <${Estimate} spec=${request(values)} />
    <div class="buttons"><button type="submit" class="primary" data-testid="start-run" disabled=${busy}>${busy ? "Starting" : "Start run"}</button></div>
  </form>`;
}

function describe(version) {
  // Images without a class may belong to the version; only pretraining learns from those.
  const images = (split) => Object.values(version.splits[split]?.classes ?? {}).reduce((sum, number) => sum + number, 0);
  return `${images("train")} images to learn from, ${images("validation")} for validation (a probe learns from them too), ${images("test")} for the test; ${version.labels.length} classes.`;
}

function request({ version, backbone, method, head, shots, repeats, seed, name, random, training }) {
  const spec = { kind: "finetune", dataset_version: version, backbone, method, head, seed: Number(seed), repeats: Number(repeats) };
  if (shots !== "") spec.shots = Number(shots);
  if (random) spec.random_baseline = true;
  if (name.trim()) spec.name = name.trim();
  if (method !== "probe") spec.training = trainingRequest(training);
  return spec;
}
