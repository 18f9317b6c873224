// A backbone before and after pretraining: two intervals on one axis, and the difference in words.
import { Notes } from "./components.js";
import { count } from "./text.js";
import { html } from "./view.js";

/** With its sign, unless it is 0 to the third digit. */
const signed = (value) => {
  const text = Math.abs(value).toFixed(3);
  return Number(text) === 0 ? text : `${value < 0 ? "-" : "+"}${text}`;
};
const ranged = ({ value, low, high }) => `${value.toFixed(2)} (95 % interval ${low.toFixed(2)} to ${high.toFixed(2)})`;

/** What the comparison says, for people who never saw an AUROC: in a word, and why. */
function words({ verdict, difference, tolerance, each, repeats }) {
  if (verdict === "better") return ["Better.", "Tested on the same patients, a quick classifier does better with the new backbone, and the difference is more than chance."];
  if (verdict === "not_worse") return ["No clear difference.", "A quick classifier does about as well with the new backbone as with the old one; what differs may be chance."];
  const harmed = (each ?? []).find((found) => found.difference.high < 0);
  if (harmed && difference.high >= 0) return ["Worse.", `Where it learns from ${learnt(harmed, repeats)}, a quick classifier does worse with the new backbone, and the difference is more than chance; the table shows the others.`];
  return difference.high < 0
    ? ["Worse.", "A quick classifier does worse with the new backbone than with the one it started from, and the difference is more than chance."]
    : ["Not shown to be as good.", `A quick classifier does worse with the new backbone by more than ${tolerance}. It may be chance, but it is for the new backbone to show that it can be trusted.`];
}

export function Comparison({ comparison }) {
  const { difference } = comparison;
  const [word, why] = words(comparison);
  const each = comparison.each ?? [];
  const shots = each.length > 1 ? "different numbers of training images in turn" : learnt(comparison, each.length === 0 ? 1 : comparison.repeats);
  return html`<div class="comparison" data-testid="comparison">
    <p class="verdict"><strong data-testid="verdict">${word}</strong> ${why}</p>
    <${Picture} comparison=${comparison} />
    <p>Difference <strong data-testid="comparison-difference">${signed(difference.value)}</strong>, 95 % interval ${signed(difference.low)} to ${signed(difference.high)}. ${interpreted(difference)}</p>
    <${Notes} notices=${comparison.notices ?? []} />
    ${each.length > 1 && html`<${Counts} each=${each} repeats=${comparison.repeats} />`}
    <p class="hint">The numbers are AUROCs: shown one image with a class and one without, how often the classifier gives the first the higher probability. 0.5 is a coin toss, 1 is perfect.
      It learnt from ${shots}, ${count(comparison.repeats, "time")}, and was tested on ${count(comparison.images, "image")} of ${count(comparison.patients, "patient")}. The small dots are the single repeats. Patients and repeats were redrawn ${count(comparison.resamples, "time")} for the intervals, the same ones before and after.</p>
  </div>`;
}

function learnt({ shots }, repeats) {
  if (shots !== null && shots !== undefined) return `${count(shots, "training image")} of each class`;
  return repeats > 1 ? "all training images but those of a fifth of the patients" : "all training images";
}

/** The difference with each number of training images: a backbone may help with few labels and harm with many. */
function Counts({ each, repeats }) {
  return html`<div class="scroll"><table class="metrics" data-testid="comparison-counts"><caption class="hidden">By number of training images</caption>
    <thead><tr><th>Learnt from</th><th>Before</th><th>After</th><th>Difference</th><th>95 % interval</th></tr></thead>
    <tbody>${each.map((found) => html`<tr key=${String(found.shots)}>
      <td>${learnt(found, repeats)}</td><td>${found.before.value.toFixed(2)}</td><td>${found.after.value.toFixed(2)}</td>
      <td>${signed(found.difference.value)}</td><td>${signed(found.difference.low)} to ${signed(found.difference.high)}</td>
    </tr>`)}</tbody>
  </table></div>`;
}

function interpreted({ low, high }) {
  if (low === 0 && high === 0) return "Both did exactly as well on these test images, so this check cannot tell them apart; harder or more images could.";
  return low <= 0 && high >= 0 ? "The interval includes 0, so the difference may be chance." : "The interval does not include 0.";
}

/** The axis from a round number below everything to one above. */
function axis({ before, after, before_repeats: first, after_repeats: second }) {
  const all = [before.low, before.high, after.low, after.high, ...first, ...second];
  const step = Math.max(...all) - Math.min(...all) > 0.2 ? 0.1 : 0.05;
  const low = Math.max(0, Math.floor((Math.min(...all) - 0.01) / step) * step);
  const high = Math.min(1, Math.max(low + step, Math.ceil((Math.max(...all) + 0.01) / step) * step));
  const ticks = [];
  for (let at = 0; low + at * step <= high + 1e-9; at += 1) ticks.push(low + at * step);
  return { place: (value) => `${3 + ((value - low) / (high - low)) * 94}%`, ticks };
}

function Picture({ comparison }) {
  const { place, ticks } = axis(comparison);
  const rows = [["Before", comparison.before, comparison.before_repeats, 34], ["After", comparison.after, comparison.after_repeats, 84]];
  const title = `Before ${ranged(comparison.before)}, after ${ranged(comparison.after)}`;
  return html`<svg class="intervals" width="100%" height="126" role="img" aria-label=${title}>
    ${ticks.map((tick) => html`<g key=${tick}><line class="tick" x1=${place(tick)} x2=${place(tick)} y1="8" y2="104" /><text class="tick-text" x=${place(tick)} y="121" text-anchor="middle">${tick.toFixed(2)}</text></g>`)}
    ${rows.map(([name, estimate, repeats, y]) => html`<g key=${name} class=${name.toLowerCase()}>
      <text x="3%" y=${y - 12}><tspan class="name">${name}</tspan> ${ranged(estimate)}</text>
      <line class="range" x1=${place(estimate.low)} x2=${place(estimate.high)} y1=${y + 4} y2=${y + 4} />
      ${[estimate.low, estimate.high].map((end) => html`<line class="end" x1=${place(end)} x2=${place(end)} y1=${y - 2} y2=${y + 10} />`)}
      ${repeats.map((value) => html`<circle class="repeat" cx=${place(value)} cy=${y + 15} r="2.5" />`)}
      <circle class="value" cx=${place(estimate.value)} cy=${y + 4} r="5" />
    </g>`)}
  </svg>`;
}

/** Says that a backbone is a candidate, wherever one is chosen. */
export function CandidateNote({ backbone }) {
  if (backbone?.stage !== "candidate") return null;
  return html`<div class="warning" data-testid="candidate-note"><strong>This backbone is a candidate.</strong> ${candidateReason(backbone)}${" "}
    It can be used, but look at <a href=${`#/backbones/${backbone.id}`}>its comparison</a> first, and compare the result with that of an approved backbone.</div>`;
}

export function candidateReason({ comparison }) {
  if (!comparison) return "It was not compared with another backbone on labelled images, so nobody knows whether it is any better.";
  const { before, after, images } = comparison;
  const numbers = `(AUROC ${after.value.toFixed(2)} instead of ${before.value.toFixed(2)}, on ${count(images, "test image")})`;
  return comparison.verdict === "worse"
    ? `In the check before and after pretraining it did worse than the network it started from ${numbers}, so it was not approved automatically.`
    : `It did not do worse in the check ${numbers}, but nobody has approved it yet.`;
}
