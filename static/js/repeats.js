// How the result varies with the seed: mean and interval over the repeats of a run.
import { Card } from "./components.js";
import { count } from "./text.js";
import { html } from "./view.js";

const ROWS = [["accuracy", "Accuracy"], ["balanced_accuracy", "Balanced accuracy"], ["macro_auroc", "AUROC"]];

export function Repeats({ repeats }) {
  if (!repeats) return null;
  const fixed = (value) => value.toFixed(2);
  return html`<${Card} title="Over all repeats" id="repeats-title" testid="repeats">
    <p>The whole was done ${count(repeats.seeds.length, "time")} with other seeds, judged on the same test images. Repeat ${repeats.published + 1} (seed ${repeats.seeds[repeats.published]}) is published and reported above.</p>
    <div class="scroll"><table class="metrics"><caption class="hidden">Means over repeats</caption>
      <thead><tr><th>Measure</th><th>Mean and 95 % t-interval</th><th>Each repeat</th></tr></thead>
      <tbody>${ROWS.filter(([name]) => repeats[name]).map(([name, label]) => {
        const { values, mean, low, high } = repeats[name];
        return html`<tr key=${name}><th scope="row">${label}</th>
          <td><span class="estimate" data-testid=${`repeats-${name.replaceAll("_", "-")}`}>${fixed(mean)} (${fixed(low)} to ${fixed(high)})</span></td>
          <td>${values.map(fixed).join(", ")}</td></tr>`;
      })}</tbody>
    </table></div>
    <p class="hint">This interval says how much the result depends on chance: which images were drawn and how training went. The intervals above say how much it depends on the test patients. Neither includes the other.</p>
  <//>`;
}
