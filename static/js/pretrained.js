// What came of a pretraining run: the backbone, and whether it is better than the one before.
import { get } from "./api.js";
import { candidateReason, Comparison } from "./comparison.js";
import { Card, Notes } from "./components.js";
import { useResource } from "./resource.js";
import { html } from "./view.js";

export function Pretrained({ run }) {
  if (run.status !== "succeeded" || !run.backbone) return null;
  return html`<${Outcome} run=${run} />`;
}

function Outcome({ run }) {
  const { value: backbone, problem } = useResource((signal) => get(`/backbones/${run.backbone}`, {}, signal), [run.backbone]);
  return html`<${Card} title="What came of it" id="pretrained-title" testid="pretrained">
    ${problem?.status === 404
      ? html`<p>The backbone that this run made is no longer on the server.</p>`
      : html`<p>The run made the backbone <a data-testid="backbone-link" href=${`#/backbones/${run.backbone}`}>${backbone?.name ?? "of this run"}</a>.${backbone?.stage === "candidate" ? "" : " It can be chosen for the next run like any other."}</p>`}
    ${backbone?.stage === "candidate" && html`<p class="warning" data-testid="candidate-note"><strong>It is a candidate.</strong> ${candidateReason({ ...backbone, comparison: backbone.comparison ?? run.comparison })}</p>`}
    <${Notes} title="Notes from pretraining" notices=${backbone?.notices ?? []} />
    ${run.comparison
      ? html`<${Comparison} comparison=${run.comparison} />`
      : html`<p class="hint">${backbone?.stage === "candidate" ? "" : "It was not checked before and after, so nobody knows yet whether it is better for your images. "}To find out, train a model with it and one with another backbone, and compare their tests.</p>`}
  <//>`;
}
