// The settings of full fine-tuning, each with what it does.
import { Field } from "./components.js";
import { html } from "./view.js";

/** The server's defaults. */
export const EMPTY_FULL = { epochs: "20", batch_size: "16", learning_rate: "0.0001", weight_decay: "0.01", warmup: "0.1", patience: "5", flip: true };

/** What the settings are called; also on the page of a run. */
export const LABELS = { flip: "Mirroring" };

const NUMBERS = [
  ["epochs", "Epochs, at most", "Passes over all training images.", 1, 1000, 1],
  ["patience", "Patience, in epochs", "Stops after this many passes without improvement.", 1, 1000, 1],
  ["batch_size", "Batch size", "Images looked at together. Smaller needs less memory.", 1, 1024, 1],
  ["learning_rate", "Learning rate", "How large each correction is, at its peak.", 1e-9, 1, "any"],
  ["weight_decay", "Weight decay", "Holds weights small, against learning by heart.", 0, 1, "any"],
  ["warmup", "Warm-up share", "Share of all steps that raise the learning rate slowly.", 0, 1, "any"],
];

for (const [name, label] of NUMBERS) LABELS[name] = label;

export function FullSettings({ values, onChange }) {
  const set = (name) => (event) => onChange({ ...values, [name]: event.target.value });
  return html`<fieldset><legend>Full fine-tuning</legend>
    <div class="grid three">${NUMBERS.map(([name, label, hint, min, max, step]) => html`<${Field} key=${name} label=${label} id=${`full-${name}`} hint=${hint}>
      <input id=${`full-${name}`} data-testid=${`full-${name}`} type="number" required min=${min} max=${max} step=${step} value=${values[name]} onInput=${set(name)} /><//>`)}</div>
    <label class="check"><input type="checkbox" data-testid="full-flip" checked=${values.flip} onChange=${(event) => onChange({ ...values, flip: event.target.checked })} />
      <span>Mirror training images left to right at random. Switch off when the side matters.</span></label>
  </fieldset>`;
}
