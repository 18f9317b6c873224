// The settings of training by gradients, each with what it does; a method shows those it uses.
import { Field } from "./components.js";
import { html } from "./view.js";

/** The server's defaults; an empty text leaves the choice to it. */
export const EMPTY_TRAINING = {
  epochs: "20", patience: "5", batch_size: "16", stages: "1", rank: "8", alpha: "16", learning_rate: "", weight_decay: "0.01", warmup: "0.1",
  layer_decay: "1", clip_norm: "1", label_smoothing: "0", ema_decay: "0", max_minutes: "", micro_batch: "",
  augment: "", imbalance: "none", optimiser: "adamw", schedule: "cosine", select: "loss", batch_norm: "auto", mixup: "",
};

const NUMBERS = [
  ["epochs", "Epochs, at most", "Passes over all training images; training of the last layers makes 100 steps at least where there are validation images.", 1, 1000, 1],
  ["patience", "Patience, in epochs", "Stops after this many passes without improvement, and 20 steps at least.", 1, 1000, 1],
  ["max_minutes", "Minutes, at most", "Then the best state so far is kept. Empty: no limit.", 0.001, 100000, "any"],
  ["stages", "Stages or blocks trained", "How many of the last ones; more adapts more and takes longer.", 1, 100, 1, ["last"]],
  ["rank", "Rank", "Size of the added matrices; 4 to 16 is usual.", 1, 256, 1, ["lora"]],
  ["alpha", "Alpha", "How strongly the added matrices count; twice the rank is usual.", 0.000001, 1024, "any", ["lora"]],
  ["batch_size", "Batch size", "Images in a step.", 1, 1024, 1],
  ["micro_batch", "Images at a time", "Fewer need less memory; the batch stays. Empty: as the memory allows.", 1, 1024, 1],
  ["learning_rate", "Learning rate", "How large each correction is, at its peak. Empty: the method's usual one.", 1e-9, 1, "any"],
  ["weight_decay", "Weight decay", "Holds weights small, against learning by heart.", 0, 1, "any"],
  ["warmup", "Warm-up share", "Share of all steps that raise the learning rate slowly.", 0, 1, "any"],
  ["layer_decay", "Layer-wise decay", "Learning rate of a stage over that of the one after it; below 1, early layers change less.", 0.01, 1, "any"],
  ["clip_norm", "Largest gradient", "Longer ones are shortened to it; 0 leaves them.", 0, 1000000, "any"],
  ["label_smoothing", "Label smoothing", "Share of certainty taken from the labels; helps when some are wrong.", 0, 0.99, "any"],
  ["mixup", "Mixup", "Trains on mixtures of two images; 0.2 to 0.4 is usual. Empty: none.", 0.05, 10, "any"],
  ["ema_decay", "Averaged weights", "Share that the moving average keeps at each step, such as 0.99; 0: none.", 0, 0.9999, "any"],
];

const CHOICES = [
  ["imbalance", "Classes of unequal size", "What is done about them.", { none: "nothing", class_weights: "small classes weigh more", balanced_sampling: "each class is shown alike", oversampling: "small classes are shown again" }],
  ["optimiser", "Optimiser", "AdamW suits nearly everything.", { adamw: "AdamW", adam: "Adam", sgd: "SGD with momentum" }],
  ["schedule", "Learning rate over time", "Cosine suits nearly everything.", { cosine: "warm-up, then cosine", constant: "constant", step: "in steps", plateau: "lower when nothing improves" }],
  ["select", "Best epoch by", "Also decides which of several repeats is published.", { loss: "validation loss", accuracy: "validation accuracy", auroc: "validation AUROC" }],
  ["batch_norm", "Normalisation statistics", "Automatic keeps the pretrained ones below 256 images.", { auto: "automatic", frozen: "pretrained", train: "of the batches" }],
];

/** Presets of augmentation, each with the pictures that it is safe for. */
export const PRESETS = {
  none: "none: pictures as they are", general: "general: little, safe nearly everywhere", chest_xray: "chest X-ray: never mirrored", ct: "CT", mri: "MRI",
  ultrasound: "ultrasound", fundus: "fundus", histology: "histology", dermoscopy: "dermoscopy", endoscopy: "endoscopy",
};

/** What the settings are called; also on the page of a run. */
export const LABELS = { augment: "Augmentation", plateau_patience: "Plateau patience", checkpoint_seconds: "Seconds between checkpoints", flip: "Mirroring" };
for (const [name, label] of [...NUMBERS, ...CHOICES]) LABELS[name] = label;

export function AugmentField({ values, method, onChange }) {
  const automatic = method === "last" ? "Automatic changes nothing, so that the frozen part is computed once an image. A preset makes every epoch as slow as full fine-tuning's forward pass." : "Training images are varied at random so that the model sees more than it has. Automatic is general.";
  return html`<${Field} label="Augmentation" id="run-augment" hint=${`${automatic} Choose the kind of picture: what could change a finding stays off.`}>
    <select id="run-augment" data-testid="run-augment" value=${values.augment} onChange=${(event) => onChange({ ...values, augment: event.target.value })} aria-describedby="run-augment-hint">
      ${[["", "automatic"], ...Object.entries(PRESETS)].map(([value, text]) => html`<option key=${value} value=${value} selected=${value === values.augment}>${text}</option>`)}
    </select><//>`;
}

export function TrainingSettings({ values, method, onChange }) {
  const set = (name) => (event) => onChange({ ...values, [name]: event.target.value });
  const used = NUMBERS.filter(([, , , , , , methods]) => !methods || methods.includes(method));
  return html`<fieldset><legend>Training</legend>
    <div class="grid three">
      ${used.map(([name, label, hint, min, max, step]) => html`<${Field} key=${name} label=${label} id=${`training-${name}`} hint=${hint}>
        <input id=${`training-${name}`} data-testid=${`training-${name}`} type="number" required=${EMPTY_TRAINING[name] !== ""} min=${min} max=${max} step=${step} value=${values[name]} onInput=${set(name)} /><//>`)}
      ${CHOICES.map(([name, label, hint, options]) => html`<${Field} key=${name} label=${label} id=${`training-${name}`} hint=${hint}>
        <select id=${`training-${name}`} data-testid=${`training-${name}`} value=${values[name]} onChange=${set(name)}>
          ${Object.entries(options).map(([value, text]) => html`<option key=${value} value=${value} selected=${value === values[name]}>${text}</option>`)}
        </select><//>`)}
    </div>
  </fieldset>`;
}

/** The settings as the server takes them. */
export function trainingRequest(values) {
  const numbers = NUMBERS.map(([name]) => [name, values[name]]).filter(([name, value]) => value !== "" && name !== "mixup");
  const training = Object.fromEntries(numbers.map(([name, value]) => [name, Number(value)]));
  for (const [name] of CHOICES) training[name] = values[name];
  if (values.augment) training.augment = values.augment;
  if (values.mixup !== "") training.mixup = { alpha: Number(values.mixup) };
  return training;
}

/** A recorded setting as people read it. */
export function settingText(value, figure) {
  if (value === null || value === undefined) return null;
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value === "number") return figure(value);
  return typeof value === "string" ? value : JSON.stringify(value);
}
