// What a run was asked for, and what it takes to repeat it.
import { Card, Digest, Facts } from "./components.js";
import { HEADS, METHODS, recipe } from "./methods.js";
import { VersionName } from "./names.js";
import { OBJECTIVES } from "./pretrain_objectives.js";
import { recorded } from "./pretrain_settings.js";
import { RunInputs } from "./run_inputs.js";
import { figure, when } from "./text.js";
import { LABELS, settingText } from "./training_settings.js";
import { html } from "./view.js";

export function Asked({ run }) {
  const { provenance } = run;
  return html`<${Card} title="What was asked" id="asked-title">
    <${RunInputs} spec=${recipe(run)} />
    <${Facts} rows=${[
      ...(run.spec.kind === "pretrain" ? pretraining(run.spec) : finetuning(run)),
      ["Queued", when(run.created_at)],
      ["Attempt", `${run.attempt} of ${run.max_attempts}`],
      ["Dataset digest", html`<${Digest} value=${provenance.dataset_digest} what="the dataset version" />`],
      ["Backbone weights", provenance.backbone_sha256 && html`<${Digest} value=${provenance.backbone_sha256} what="the backbone's weights" />`],
      ["Program version", provenance.code_version],
      ["Compute threads", provenance.threads],
      ["Images at a time, as settled", provenance.micro_batch],
    ]} />
    ${run.spec.kind === "pretrain" && html`<details><summary>All settings</summary><${Facts} rows=${recorded(run.spec)} /></details>`}
  <//>`;
}

function finetuning(run) {
  const spec = recipe(run);
  return [
    ...(run.spec.kind === "replay" ? [["Replay of", html`<a href=${`#/runs/${run.spec.run}`}>another run</a>`], ["Steps to compare", run.spec.steps]] : []),
    ["Method", METHODS[spec.method]?.short ?? spec.method],
    ["Classifier", HEADS[spec.head]?.name ?? "logistic regression, by the former rule"],
    ["Images per class", spec.shots ?? "all"],
    ["Seed", String(spec.seed)],
    ["Repeats", spec.repeats],
    ["Random network for comparison", spec.random_baseline ? "yes" : "no"],
    ...(spec.method === "probe" ? [] : Object.entries(spec.training).map(([name, value]) => [LABELS[name] ?? name, settingText(value, figure)])),
  ];
}

function pretraining({ objective, gate, learning, seed }) {
  return [
    ["Objective", OBJECTIVES[objective.kind]?.short ?? objective.kind],
    ["Check before and after", gate ? html`<${VersionName} id=${gate.dataset_version} />` : "none"],
    ["Minutes, at most", learning.max_minutes ?? "no limit"],
    ["Epochs, at most", learning.epochs],
    ["Batch size", learning.batch_size],
    ["Seed", String(seed)],
  ];
}
