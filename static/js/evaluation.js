// The report of a run or model: every number with its interval and what it means.
import { Card, Notes } from "./components.js";
import { Confusion } from "./confusion.js";
import { count, percent } from "./text.js";
import { html } from "./view.js";

const METRICS = [
  ["accuracy", "Accuracy", "higher", (value) => `Of 100 test images, about ${Math.round(value * 100)} are named correctly.`],
  ["balanced_accuracy", "Balanced accuracy", "higher", () => "Accuracy with every class counting the same, however rare it is. The better number when classes differ in size."],
  ["macro_auroc", "AUROC", "higher", () => "How well the model ranks: shown one image with the class and one without, how often it gives the first the higher probability. 0.5 is a coin toss, 1 is perfect. Mean over classes."],
  ["macro_auprc", "Average precision", "higher", () => "When images are sorted by suspicion, how clean the top of the list is. Compare it with the share of the class: that is what guessing gives. Mean over classes."],
  ["macro_f1", "F1", "higher", () => "One number for missed cases and false alarms together. 1 means neither. Mean over classes."],
  ["brier", "Brier score", "lower", () => "How far the probabilities are from the truth, 0 to 2. 0 is perfect."],
  ["log_loss", "Log loss", "lower", () => "How far the probabilities are from the truth, where being sure and wrong costs most. 0 is perfect."],
  ["ece", "Calibration error", "lower", (value) => `How honest the probabilities are: a stated certainty is off by about ${Math.round(value * 100)} percentage points on average.`, calibration],
];

export function Report({ evaluation, title = "Result on the test images" }) {
  const right = evaluation.confusion.reduce((sum, row, at) => sum + row[at], 0);
  return html`<${Card} title=${title} id="report-title" testid="report">
    <p class="verdict">The model named <strong>${right} of ${count(evaluation.images, "test image")}</strong> correctly (${percent(right / Math.max(1, evaluation.images))}). They come from ${count(evaluation.patients, "patient")} that it did not learn from, as far as the dataset tells patients apart.</p>
    <${Notes} grave title="Read this first" notices=${evaluation.notices} />
    <div class="report-columns">
      <${Metrics} evaluation=${evaluation} />
      <${Confusion} evaluation=${evaluation} />
    </div>
  <//>`;
}

function Metrics({ evaluation }) {
  return html`<div>
    <table class="metrics"><caption class="hidden">Metrics with 95 % intervals</caption>
      <thead><tr><th>Measure</th><th>Value</th></tr></thead>
      <tbody>${METRICS.filter(([name]) => name !== "log_loss" || evaluation[name]).map(([name, label, better, explain, shown = interval]) => {
        const estimate = evaluation[name];
        return html`<tr key=${name}>
          <th scope="row">${label}<small>${better} is better</small></th>
          <td><span class="estimate" data-testid=${`metric-${name.replaceAll("_", "-")}`}>${estimate ? shown(estimate) : "not measurable on this test set"}</span>
            <small>${explain(estimate?.value ?? 0)}</small></td>
        </tr>`;
      })}</tbody>
    </table>
    ${(evaluation.baselines ?? []).map((floor) => html`<p key=${floor.name} data-testid=${`baseline-${floor.name}`}>For comparison, ${floor.name === "pixels" ? "without any backbone, " : ""}${floor.about}: AUROC ${floor.macro_auroc ? interval(floor.macro_auroc) : "not measurable"}, balanced accuracy ${interval(floor.balanced_accuracy)}.</p>`)}
    <p class="hint">The 95 % interval says how much the value may move with other patients of the same kind: the test patients of each class were redrawn ${count(evaluation.resamples, "time")}. A wide interval means: test more patients before you rely on it.</p>
  </div>`;
}

/** Few images show some error however honest the probabilities are. */
function calibration({ value, by_chance: mean, by_chance_95: high }) {
  if (typeof mean !== "number") return value.toFixed(2);
  const verdict = value > high ? "more than chance explains" : "no more than chance explains";
  return `${value.toFixed(2)} (${verdict}: honest probabilities would show ${mean.toFixed(2)}, seldom over ${high.toFixed(2)})`;
}

export function interval({ value, low, high }) {
  return `${value.toFixed(2)} (95 % interval ${low.toFixed(2)}-${high.toFixed(2)})`;
}
