// Runs as a table: what was asked, how far it is, and what came out.
import { Chip, Progress } from "./components.js";
import { METHODS, recipe } from "./methods.js";
import { VersionName } from "./names.js";
import { OBJECTIVES } from "./pretrain_objectives.js";
import { percent, when } from "./text.js";
import { html } from "./view.js";

const VERDICTS = { better: "better than before", not_worse: "no clear difference", worse: "worse: kept as a candidate" };

export const isFinal = (status) => ["succeeded", "failed", "cancelled"].includes(status);

export function runTitle(run) {
  if (run.spec.kind === "replay") return `Replay of ${run.spec.recipe.name ?? `run ${run.spec.run.slice(-6)}`}`;
  if (run.spec.kind === "pretrain") return run.spec.name ?? `Pretraining ${run.id.slice(-6)}`;
  return run.spec.name ?? `Run ${run.id.slice(-6)}`;
}

function method(run) {
  if (run.spec.kind !== "pretrain") return METHODS[recipe(run).method]?.short ?? recipe(run).method;
  const { kind } = run.spec.objective;
  return html`pretraining<small>${OBJECTIVES[kind]?.short ?? kind}</small>`;
}

export function RunTable({ runs }) {
  return html`<div class="scroll"><table data-testid="run-table">
    <thead><tr><th>Run</th><th>Dataset</th><th>Method</th><th title="Training images per class">Shots</th><th>Status</th><th class="wide-cell">Progress</th><th>Started</th></tr></thead>
    <tbody>${runs.map((run) => html`<tr key=${run.id} data-testid="run-row">
      <td><a href=${`#/runs/${run.id}`}>${runTitle(run)}</a></td>
      <td><${VersionName} id=${recipe(run).dataset_version} /></td>
      <td>${method(run)}</td>
      <td>${run.spec.kind === "pretrain" ? "" : recipe(run).shots ?? "all"}</td>
      <td><${Chip} status=${run.status} /></td>
      <td class="wide-cell"><${State} run=${run} /></td>
      <td class="nowrap">${when(run.created_at)}</td>
    </tr>`)}</tbody>
  </table></div>`;
}

function State({ run }) {
  if (run.status === "running") {
    return html`<div class="inline-progress"><${Progress} label=${`Progress of ${runTitle(run)}`} share=${run.progress.fraction} /><span>${percent(run.progress.fraction)}</span></div><small>${run.progress.stage}</small>`;
  }
  if (run.status === "queued") return run.queue_position ? `${run.queue_position} before it` : "next in the queue";
  if (run.status === "failed") return html`<span class="clip" title=${run.error ?? ""}>${run.error ?? "failed"}</span>`;
  if (run.replayed) return run.replayed.equal ? "the same, bit for bit" : "not the same";
  if (run.evaluation) return html`accuracy ${run.evaluation.accuracy.value.toFixed(2)} <small>95 % interval ${run.evaluation.accuracy.low.toFixed(2)}-${run.evaluation.accuracy.high.toFixed(2)}</small>`;
  if (run.comparison) return html`AUROC ${run.comparison.before.value.toFixed(2)} before, ${run.comparison.after.value.toFixed(2)} after <small>${VERDICTS[run.comparison.verdict]}</small>`;
  if (run.backbone) return html`<a href=${`#/backbones/${run.backbone}`}>backbone made</a> <small>not checked before and after</small>`;
  return "";
}
