// Live curves of a run, drawn by uPlot.
import { percent } from "./text.js";
import { html, useEffect, useRef } from "./view.js";

/** Fewer points than these are drawn as dots too: one alone makes no line. */
const FEW = 20;

const CHARTS = [
  { names: ["train_loss"], title: "Training loss", x: "step", hint: "Should fall: the model fits the training images better." },
  { names: ["validation_loss"], title: "Validation loss", x: "epoch", hint: "Should fall too. When it rises, the model learns by heart; the run then stops and keeps the best state." },
  { names: ["validation_accuracy"], title: "Validation accuracy", x: "epoch", hint: "Share of validation images named correctly." },
  { names: ["validation_auroc"], title: "Validation AUROC", x: "epoch", hint: "How well the model ranks the validation images; 0.5 is a coin toss." },
  { names: ["cv_loss"], title: "Cross-validation loss", x: "candidate", lowest: true, hint: "The quick method tries several strengths of restraint and keeps the one with the lowest loss." },
];

/** Curves of pretraining. */
const PRETRAINING = [
  { names: ["loss"], title: "Loss", x: "step", hint: "What training makes smaller. Should fall. Its size depends on the objective: compare it only within a run." },
  { names: ["matching_accuracy"], title: "Matching accuracy", x: "step", share: true, hint: "Share of images matched to themselves. Should rise; guessing finds about one of each graph." },
  { names: ["zero_gradient_share"], title: "Graphs without a gradient", x: "step", share: true, hint: "Share of graphs from which nothing is learnt, because a nudge did not change their matching. When it stays near 100 % while the accuracy is low, raise lambda." },
  { names: ["affinity_gradient_norm"], title: "Strength of the correction", x: "step", hint: "How strongly the matching asks the network to change. 0 asks for nothing." },
  { names: ["duality_gap"], title: "Distance to the best matching", x: "step", hint: "How far the matchings found may be from the best possible ones. 0 proves that they are the best." },
  { names: ["probe_auroc"], title: "Check on labelled images (AUROC)", x: "step", hint: "How well a quick classifier on the backbone ranks images. Should not fall; 0.5 is a coin toss." },
  { names: ["learning_rate"], title: "Learning rate", x: "step", hint: "How large each correction is. Becomes smaller over the run, as planned." },
  { names: ["images_per_second"], title: "Speed", x: "step", hint: "Images looked at in a second. Has no bearing on the result." },
];

export function Curves({ curves, kind }) {
  const named = kind === "pretrain" ? PRETRAINING : CHARTS;
  const known = new Set(named.flatMap((chart) => chart.names));
  const others = [...curves.keys()].filter((name) => !known.has(name)).map(further);
  const charts = [...named, ...others].filter((chart) => chart.names.some((name) => curves.has(name)));
  if (charts.length === 0) return null;
  return html`<div class="charts">${charts.map((chart) => html`<${Chart} key=${chart.title} chart=${chart} points=${curves.get(chart.names[0])} size=${curves.get(chart.names[0]).size} />`)}</div>`;
}

/** A curve of a further repeat is drawn as the first one's is; any other by its name. */
function further(name) {
  const [first, repeat] = name.split("/");
  const chart = CHARTS.find((known) => known.names.includes(first));
  return chart && repeat ? { ...chart, names: [name], title: `${chart.title}, repeat ${repeat}`, hint: "" } : { names: [name], title: name, x: "step", hint: "" };
}

function Chart({ chart, points }) {
  const box = useRef(null);
  const plot = useRef(null);
  const data = columns(points);

  useEffect(() => {
    const dark = matchMedia("(prefers-color-scheme: dark)");
    const make = () => {
      plot.current?.destroy();
      plot.current = new uPlot(options(chart, box.current.clientWidth), columns(points), box.current);
    };
    make();
    const watch = new ResizeObserver(() => plot.current.setSize({ width: box.current.clientWidth, height: 180 }));
    watch.observe(box.current);
    dark.addEventListener("change", make);
    return () => {
      watch.disconnect();
      dark.removeEventListener("change", make);
      plot.current.destroy();
    };
  }, []);
  const newest = data[0].length - 1;
  // A curve that starts anew may come to the same number of points.
  useEffect(() => plot.current.setData(data), [points.size, data[0][newest], data[1][newest]]);

  const values = data[1];
  const text = chart.share ? percent : short;
  const last = chart.lowest ? Math.min(...values) : values[values.length - 1];
  const which = chart.lowest ? "lowest" : "newest";
  return html`<figure class="chart"><figcaption><strong>${chart.title}</strong> <span class="last">${chart.lowest ? "lowest " : ""}${text(last)}</span></figcaption>
    <div ref=${box} class="plot" role="img" aria-label=${`${chart.title}, ${data[0].length} points, ${which} ${text(last)}`}></div>
    <p class="hint">${chart.hint}</p></figure>`;
}

function columns(points) {
  const sorted = [...points].sort((one, other) => one[0] - other[0]);
  return [sorted.map(([step]) => step), sorted.map(([, value]) => value)];
}

function short(value) {
  return value === 0 || Math.abs(value) >= 0.001 ? String(Number(value.toPrecision(3))) : value.toExponential(1);
}

function options(chart, width) {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  const font = "12px system-ui, sans-serif";
  const axis = { stroke: colour("--muted"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false }, font };
  return {
    width,
    height: 180,
    legend: { show: false },
    cursor: { y: false, points: { size: 7 } },
    scales: { x: { time: false }, ...(chart.share ? { y: { range: [0, 1] } } : {}) },
    axes: [
      { ...axis, label: chart.x, labelFont: font, labelSize: 18, size: 28, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 50000, 100000] },
      { ...axis, size: 58, values: (_, ticks) => ticks.map((tick) => (chart.share ? percent(tick) : short(Number(tick.toPrecision(6))))) },
    ],
    series: [{}, { label: chart.title, stroke: colour("--accent"), width: 2, points: { show: (plot) => chart.x !== "step" || plot.data[0].length < FEW, size: 6, fill: colour("--accent") } }],
  };
}
