// The confusion matrix as a coloured table, and what it means for each class.
import { percent } from "./text.js";
import { html } from "./view.js";

const LEVELS = 6;

export function Confusion({ evaluation: { labels, confusion } }) {
  return html`<div class="confusion">
    <h3>Which classes are mixed up</h3>
    <div class="scroll"><table class="matrix" data-testid="confusion">
      <caption>Rows: the true class. Columns: what the model said.</caption>
      <thead><tr><th scope="col">True class</th>${labels.map((label) => html`<th scope="col">said ${label}</th>`)}</tr></thead>
      <tbody>${confusion.map((row, truth) => {
        const total = row.reduce((sum, images) => sum + images, 0);
        return html`<tr key=${labels[truth]}><th scope="row">${labels[truth]}</th>
          ${row.map((images, said) => html`<td class=${`${truth === said ? "right" : "wrong"} heat-${heat(images, total)}`}><b>${images}</b><small>${total ? percent(images / total) : ""}</small></td>`)}</tr>`;
      })}</tbody>
    </table></div>
    <table class="per-class"><caption class="hidden">Found and trusted, by class</caption>
      <thead><tr><th>Class</th><th>Found (sensitivity)</th><th>Right when it says so (precision)</th></tr></thead>
      <tbody>${labels.map((label, at) => {
        const own = confusion[at].reduce((sum, images) => sum + images, 0);
        const said = confusion.reduce((sum, row) => sum + row[at], 0);
        return html`<tr key=${label}><th scope="row">${label}</th><td>${share(confusion[at][at], own)}</td><td>${share(confusion[at][at], said)}</td></tr>`;
      })}</tbody>
    </table>
  </div>`;
}

function heat(images, total) {
  return images === 0 ? 0 : Math.max(1, Math.ceil((images / total) * LEVELS));
}

function share(part, whole) {
  return whole ? `${part} of ${whole} (${percent(part / whole)})` : "no such image";
}
