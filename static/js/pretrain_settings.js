// The settings of pretraining with what each does, the recipe made of them, and how one is read.
import { Field } from "./components.js";
import { OBJECTIVES } from "./pretrain_objectives.js";
import { check, choice, number } from "./settings.js";
import { figure } from "./text.js";
import { PRESETS } from "./training_settings.js";
import { html } from "./view.js";

/** What is asked outside "More settings". */
const MAIN = [
  number("learning.max_minutes", "Minutes, at most", 60, [0.001, 100000], "Then the run ends with what it has. Empty: no limit."),
  number("learning.epochs", "Epochs, at most", 100, [1, 10000, 1], "Passes over all images."),
  number("learning.batch_size", "Batch size", "", [2, 4096, 1], "Images looked at together. Empty: 64, fewer when the version is small."),
];

const LEARNING = [
  choice("learning.optimiser", "Optimiser", "adam", { adam: "Adam", adamw: "AdamW", sgd: "SGD with momentum" }, "Adam is the paper's."),
  number("learning.learning_rate", "Learning rate", 0.002, [1e-9, 10], "How large each correction is, at its peak. Smaller keeps more of the backbone it starts from."),
  choice("learning.schedule", "Learning rate over time", "halving", { halving: "halved in equal parts", cosine: "warm-up, then cosine" }, "Halving is the paper's."),
  { ...number("learning.halvings", "Halvings", 4, [0, 20, 1], "How often the rate is halved."), when: ["learning.schedule", "halving"] },
  { ...number("learning.warmup", "Warm-up share", 0.1, [0, 1], "Share of all steps that raise the rate slowly."), when: ["learning.schedule", "cosine"] },
  number("learning.weight_decay", "Weight decay", 0, [0, 1], "Holds weights small."),
  number("learning.clip_norm", "Largest gradient", 0, [0, 1000000], "Longer ones are shortened to it; 0 leaves them."),
  number("learning.accumulate", "Batches for one correction", 1, [1, 1024, 1], "More make each correction calmer and rarer."),
  number("learning.checkpoint_seconds", "Seconds between checkpoints", 60, [1, 86400, 1], "So much is lost at most when the computer stops."),
  check("learning.frozen_statistics", "Keep the backbone's normalisation statistics", false, "For batches of few images."),
];

const VIEWS = [
  choice("views.preset", "Kind of picture", "general", PRESETS, "What is left empty below follows from it (crops only where it is none): an X-ray of the chest in a mirror has its heart on the wrong side."),
  number("views.size", "Size of a view, pixels", "", [32, 1024, 1], "A multiple of 32 (of 14 for DINOv2). Empty: the backbone's own."),
  number("views.min_area", "Smallest crop", 0.4, [0.001, 1], "As a share of the image. Large enough that a finding stays in it."),
  number("views.max_area", "Largest crop", 1, [0.001, 1], "As a share of the image."),
  number("views.small_crops", "Small crops", 0, [0, 8, 1], "Further, smaller views beside the two."),
  { ...number("views.small_size", "Size of a small crop, pixels", 96, [32, 1024, 1], "A multiple of 32 (of 14 for DINOv2)."), unless: ["views.small_crops", "0"] },
  { ...number("views.small_min_area", "Smallest small crop", 0.08, [0.001, 1], "As a share of the image."), unless: ["views.small_crops", "0"] },
  { ...number("views.small_max_area", "Largest small crop", 0.4, [0.001, 1], "As a share of the image."), unless: ["views.small_crops", "0"] },
  number("views.flip", "Chance of mirroring", "", [0, 1], "Empty: by the kind of picture; 0 where a side means something."),
  number("views.jitter", "Chance of other colours", "", [0, 1], "Changes brightness, contrast and colour. Empty: by the kind of picture."),
  number("views.jitter_strength", "Largest change of colours", "", [0, 1], "Smaller where brightness itself is the finding. Empty: by the kind of picture."),
  number("views.grey", "Chance of grey", "", [0, 1], "Takes the colours away. Empty: by the kind of picture."),
  number("views.blur", "Chance of blur", "", [0, 1], "Empty: by the kind of picture; 0 where fine detail is the finding."),
  check("views.flip_positions", "Mirror places along with the image", true, "Off, regions of mirrored images are compared with the wrong ones, as in the authors' program."),
];

const GATE = [
  number("gate.shots", "Images per class for the check", "", [1, 1000000, 1], "Empty: 5, 20 and all training images in turn, as far as the labelled version has them; a verdict at one number may be another at the next."),
  number("gate.repeats", "Repeats of the check", 5, [1, 100, 1], "Each on other images; more show how much is chance."),
  number("gate.every", "Epochs between checks", "", [1, 1000, 1], "Empty: only before and after."),
];

const objective = Object.values(OBJECTIVES).flatMap(({ settings }) => settings);
const LABELS = new Map([...objective, ...MAIN, ...LEARNING, ...VIEWS, ...GATE].map(({ path, label }) => [path, label]));

const fresh = (settings) => Object.fromEntries(settings.map(({ path, value, check: yes }) => [path, yes ? value : String(value)]));

export const EMPTY_PRETRAIN = fresh([...MAIN, ...LEARNING, ...VIEWS, ...GATE]);

/** What our studies found: messages and loud noise harmed, whatever the start. */
const FOUND = { matching: { "objective.message_layers": "0", "objective.noise.scale": "0.05" } };
/** What our study of random networks learnt with; a learnt one gets the paper's. */
const RATES = {
  true: { "learning.optimiser": "adamw", "learning.learning_rate": "0.001", "learning.weight_decay": "0.01", "learning.schedule": "cosine" },
  false: { "learning.optimiser": "adam", "learning.learning_rate": "0.002", "learning.weight_decay": "0", "learning.schedule": "halving" },
};

export const objectiveDefaults = (kind, isRandom) => ({ ...fresh(OBJECTIVES[kind].settings), ...FOUND[kind], ...RATES[isRandom] });

/** The batch when none is given: 64, or the largest of 32, 16, 8, 4, 2 that the version fills. */
export function fittingBatch(images) {
  return [64, 32, 16, 8, 4].find((batch) => batch <= images) ?? 2;
}

function shown({ when, unless }, values) {
  if (when && values[when[0]] !== when[1]) return false;
  return !(unless && values[unless[0]] === unless[1]);
}

/** The recipe's parts as the server takes them; an empty text leaves the choice to it. */
export function pretrainRequest(values, kind, images) {
  const spec = { objective: { kind }, learning: {}, views: {}, gate: {} };
  for (const setting of [...OBJECTIVES[kind].settings, ...MAIN, ...LEARNING, ...VIEWS, ...GATE]) {
    const value = values[setting.path];
    if (value === "" || value === undefined || !shown(setting, values)) continue;
    if (setting.path === "gate.shots") put(spec, ["gate", "shots"], [Number(value)]);
    else put(spec, setting.path.split("."), setting.options || setting.check ? value : Number(value));
  }
  spec.learning.batch_size ??= fittingBatch(images);
  if (kind === "matching") {
    spec.objective.nodes ??= Math.max(2, Math.min(16, spec.learning.batch_size));
    spec.objective.neighbours ??= Math.max(1, Math.min(5, spec.objective.nodes - 1));
  }
  return spec;
}

function put(spec, [part, ...rest], value) {
  if (rest.length === 0) spec[part] = value;
  else put((spec[part] ??= {}), rest, value);
}

/** A refusal of the server that calls settings by their names in the form. */
export function named(problem) {
  if (!problem?.errors?.length) return problem;
  const label = (pointer) => LABELS.get(pointer.slice(1).replaceAll("/", ".")) ?? pointer;
  const errors = problem.errors.map(({ pointer, detail }) => ({ pointer, detail: pointer ? `${label(pointer)}: ${detail}` : detail }));
  const detail = errors.length === 1 ? errors[0].detail : problem.detail;
  return Object.assign(Object.create(Object.getPrototypeOf(problem)), problem, { detail, errors });
}

export function MainFields({ values, onChange, batch }) {
  const placeholders = { "learning.max_minutes": "no limit", "learning.batch_size": String(batch) };
  return html`<${Fields} settings=${MAIN} values=${values} onChange=${onChange} placeholders=${placeholders} />`;
}

export function MoreSettings({ values, kind, gated, onChange, request }) {
  const { nodes, neighbours } = request.objective;
  const placeholders = { "objective.nodes": nodes, "objective.neighbours": neighbours, "gate.shots": "5, 20 and all" };
  const groups = [["Objective", OBJECTIVES[kind].settings], ["Learning", LEARNING], ["Views", VIEWS], ...(gated ? [["Check before and after", GATE]] : [])];
  return groups.map(([title, settings]) => html`<fieldset key=${title}><legend>${title}</legend>
    <${Fields} settings=${settings} values=${values} onChange=${onChange} placeholders=${placeholders} /></fieldset>`);
}

function Fields({ settings, values, onChange, placeholders }) {
  const used = settings.filter((setting) => shown(setting, values));
  const set = (path) => (event) => onChange({ [path]: event.target.value });
  const input = ({ path, options, min, max, step, value }, id) => (options
    ? html`<select id=${id} data-testid=${id} value=${values[path]} onChange=${set(path)} aria-describedby=${`${id}-hint`}>
        ${Object.entries(options).map(([name, text]) => html`<option key=${name} value=${name} selected=${name === values[path]}>${text}</option>`)}</select>`
    : html`<input id=${id} data-testid=${id} type="number" min=${min} max=${max} step=${step} required=${value !== "" && path !== "learning.max_minutes"} placeholder=${placeholders[path] ?? ""} value=${values[path]} onInput=${set(path)} aria-describedby=${`${id}-hint`} />`);
  return html`<div class="grid three">${used.filter((setting) => !setting.check).map((setting) => {
      const id = setting.path.replaceAll(".", "-").replaceAll("_", "-");
      return html`<${Field} key=${id} label=${setting.label} id=${id} hint=${setting.hint}>${input(setting, id)}<//>`;
    })}</div>
    ${used.filter((setting) => setting.check).map(({ path, label, hint }) => html`<label key=${path} class="check">
      <input type="checkbox" checked=${values[path]} onChange=${(event) => onChange({ [path]: event.target.checked })} /><span>${label}<small>${hint}</small></span></label>`)}`;
}

/** The recorded settings of a recipe as rows of label and value. */
export function recorded({ objective: wanted, learning, views, gate }) {
  return Object.entries({ objective: wanted, learning, views, gate: gate ?? {} }).flatMap(([part, values]) => rows(part, values ?? {}));
}

function rows(path, value) {
  if (Array.isArray(value)) return LABELS.has(path) ? [[LABELS.get(path), value.join(", ")]] : [];
  if (value !== null && typeof value === "object") return Object.entries(value).flatMap(([name, inner]) => rows(`${path}.${name}`, inner));
  if (!LABELS.has(path) || value === null) return [];
  const options = [...objective, ...LEARNING, ...VIEWS].find((setting) => setting.path === path && setting.options)?.options;
  const text = typeof value === "boolean" ? (value ? "yes" : "no") : typeof value === "number" ? figure(value) : options?.[value] ?? value;
  return [[LABELS.get(path), text]];
}
