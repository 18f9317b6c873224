// The form that adapts a backbone to images (pretraining), in plain words.
import { idempotencyKey, post } from "./api.js";
import { useArchitectures } from "./architectures.js";
import { CandidateNote } from "./comparison.js";
import { Field } from "./components.js";
import { Estimate } from "./estimate.js";
import { fail, ProblemText } from "./notices.js";
import { OBJECTIVES } from "./pretrain_objectives.js";
import { EMPTY_PRETRAIN, MainFields, MoreSettings, named, objectiveDefaults, pretrainRequest } from "./pretrain_settings.js";
import { go } from "./router.js";
import { count } from "./text.js";
import { html, useRef, useState } from "./view.js";

/** Every image that is not in the test is shown. */
export function imagesToShow(version) {
  return ["train", "validation"].reduce((sum, split) => sum + (version?.splits[split]?.images ?? 0), 0);
}

export function PretrainForm({ backbones, versions, chosen }) {
  const of = (list, id) => list.find((item) => item.id === id);
  const isRandom = (start) => of(backbones, start) === undefined;
  const first = (of(backbones, chosen.backbone) ?? backbones[0])?.id ?? "resnet18";
  const [values, setValues] = useState({
    version: (of(versions, chosen.version) ?? versions[0]).id,
    start: first,
    objective: "matching", gate: null, name: "", seed: "0",
    settings: { ...EMPTY_PRETRAIN, ...objectiveDefaults("matching", isRandom(first)) },
  });
  const [busy, setBusy] = useState(false);
  const networks = useArchitectures();
  const { known } = networks;
  // Kept until the server has answered: pressing twice, or trying again after a lost answer, starts one run.
  const attempt = useRef(idempotencyKey());
  const change = (part) => {
    attempt.current = idempotencyKey();
    setValues((before) => ({ ...before, ...part, settings: { ...before.settings, ...part.settings } }));
  };
  const set = (name) => (event) => change({ [name]: event.target.value });
  const setSettings = (settings) => change({ settings });
  const chooseObjective = ({ target }) => change({ objective: target.value, settings: objectiveDefaults(target.value, isRandom(values.start)) });
  const chooseStart = ({ target }) => change({ start: target.value, settings: isRandom(target.value) === isRandom(values.start) ? {} : objectiveDefaults(values.objective, isRandom(target.value)) });

  const version = of(versions, values.version);
  const backbone = of(backbones, values.start);
  const labelled = versions.filter(({ labels }) => labels.length > 1);
  // Until somebody chooses, the backbone is judged on the version itself where it has classes.
  const gate = values.gate ?? (version.labels.length > 1 ? version.id : "");
  const request = recipe(values, version, backbone, gate);

  const submit = async (event) => {
    event.preventDefault();
    setBusy(true);
    try {
      const run = await post("/runs", request, { "Idempotency-Key": attempt.current });
      go(`#/runs/${run.id}`);
    } catch (problem) {
      if (problem.status >= 400 && problem.status < 500) attempt.current = idempotencyKey();
      fail(named(problem));
      setBusy(false);
    }
  };
  return html`<form onSubmit=${submit} id="pretrain-form" data-testid="pretrain-form">
    <div class="grid two">
      <${Field} label="Dataset version" id="pretrain-version" hint=${describe(version)}>
        <select id="pretrain-version" data-testid="pretrain-version" required value=${values.version} onChange=${set("version")} aria-describedby="pretrain-version-hint">
          ${versions.map(({ id, name, number, labels }) => html`<option key=${id} value=${id} selected=${id === values.version}>${name}, version ${number}${labels.length === 0 ? ", without classes" : ""}</option>`)}
        </select><//>
      <${Field} label="Start from" id="pretrain-start" hint=${backbone ? "The backbone stays as it is; the run makes a new one from it." : "A network that knows nothing yet. It needs very many images and much time: start from a backbone if there is one."}>
        <select id="pretrain-start" data-testid="pretrain-start" required value=${values.start} onChange=${chooseStart} aria-describedby="pretrain-start-hint">
          ${backbones.length > 0 && html`<optgroup label="A backbone (recommended)">${backbones.map(({ id, name, architecture, stage }) => html`<option key=${id} value=${id} selected=${id === values.start}>${name} (${architecture})${stage === "candidate" ? ", candidate" : ""}</option>`)}</optgroup>`}
          <optgroup label="A random network">${known.map(({ architecture, title }) => html`<option key=${architecture} value=${architecture} selected=${architecture === values.start}>${title}, random weights</option>`)}</optgroup>
        </select><//>
    </div>
    ${networks.problem && html`<${ProblemText} problem=${networks.problem} />`}
    <${CandidateNote} backbone=${backbone} />
    <div class="grid two">
      <${Field} label="What it learns (objective)" id="pretrain-objective" hint=${OBJECTIVES[values.objective].hint}>
        <select id="pretrain-objective" data-testid="pretrain-objective" value=${values.objective} onChange=${chooseObjective} aria-describedby="pretrain-objective-hint">
          ${Object.entries(OBJECTIVES).map(([kind, { name }]) => html`<option key=${kind} value=${kind} selected=${kind === values.objective}>${name}</option>`)}
        </select><//>
      <${Field} label="Check before and after" id="pretrain-gate" hint=${gate
        ? "A quick classifier is trained on this version with the old and with the new backbone, and both are tested on patients kept aside. A backbone that did worse is marked as a candidate and not used unnoticed."
        : "Without labelled images nobody knows whether the new backbone is any better, so it stays a candidate until somebody approves it. Choose a version with classes if there is one."}>
        <select id="pretrain-gate" data-testid="pretrain-gate" value=${gate} onChange=${set("gate")} aria-describedby="pretrain-gate-hint">
          <option value="" selected=${gate === ""}>no check</option>
          ${labelled.map(({ id, name, number, labels }) => html`<option key=${id} value=${id} selected=${id === gate}>${name}, version ${number} (${labels.length} classes)</option>`)}
        </select><//>
    </div>
    <${MainFields} values=${values.settings} onChange=${setSettings} batch=${request.learning.batch_size} />
    <details><summary>More settings</summary>
      <div class="grid two">
        <${Field} label="Name of the new backbone" id="pretrain-name" hint="Made from the names of the backbone and the dataset when empty.">
          <input id="pretrain-name" data-testid="pretrain-name" maxlength="120" value=${values.name} onInput=${set("name")} aria-describedby="pretrain-name-hint" /><//>
        <${Field} label="Seed" id="pretrain-seed" hint="Decides every random choice: the same seed gives the same run.">
          <input id="pretrain-seed" data-testid="pretrain-seed" type="number" min="0" max="9007199254740991" step="1" required value=${values.seed} onInput=${set("seed")} aria-describedby="pretrain-seed-hint" /><//>
      </div>
      <${MoreSettings} values=${values.settings} kind=${values.objective} gated=${gate !== ""} onChange=${setSettings} request=${request} />
    </details>
    <${Amount} images=${imagesToShow(version)} request=${request} />
    <div class="buttons"><button type="submit" class="primary" data-testid="start-pretrain" disabled=${busy}>${busy ? "Starting" : "Start adapting"}</button></div>
  </form>`;
}

function describe(version) {
  const test = version.splits.test?.images ?? 0;
  const kept = test > 0 ? ` ${count(test, "test image")} stay aside.` : "";
  const classes = version.labels.length > 0 ? " Classes are not looked at." : "";
  return `${count(imagesToShow(version), "image")} to learn from.${kept}${classes}`;
}

/** What the run will do at most, and what that takes here. */
function Amount({ images, request }) {
  const { batch_size: batch, epochs, max_minutes: minutes } = request.learning;
  // What the form itself says is wrong needs no second word.
  if (!(batch >= 2)) return null;
  const steps = Math.floor(images / batch);
  if (steps === 0) {
    return html`<p class="warning" data-testid="pretrain-amount">${count(images, "image")} do not fill a batch of ${batch}. Choose a smaller batch or a version with more images.</p>`;
  }
  const few = images < 200 ? " Expect little from so few images." : "";
  const passes = epochs ? `, ${count(epochs, "pass", "passes")} at most` : "";
  const end = minutes === undefined ? "" : ` The run learns for ${minutes} minutes at most.`;
  return html`<p data-testid="pretrain-amount">${count(steps, "step")} of ${batch} images in a pass${passes}.${end}${few}</p>
    <${Estimate} spec=${request} told=${named} />`;
}

function recipe(values, version, backbone, gate) {
  const { gate: checks, ...parts } = pretrainRequest(values.settings, values.objective, imagesToShow(version));
  const spec = { kind: "pretrain", dataset_version: version.id, seed: Number(values.seed), ...parts };
  if (backbone) spec.backbone = backbone.id;
  else spec.architecture = values.start;
  if (values.name.trim()) spec.name = values.name.trim();
  if (gate) spec.gate = { dataset_version: gate, ...checks };
  return spec;
}
