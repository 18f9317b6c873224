// A backbone with everything needed to trust it: where it comes from, its checks, its files.
import { patch, remove } from "./api.js";
import { candidateReason, Comparison } from "./comparison.js";
import { Card, ConfirmButton, Digest, Facts, Notes } from "./components.js";
import { ArtifactTable } from "./downloads.js";
import { BackboneName } from "./names.js";
import { fail, succeed } from "./notices.js";
import { allows, Needs, useSession } from "./session.js";
import { bytes, count, figure, when } from "./text.js";
import { html } from "./view.js";

const MEANING = {
  "model.safetensors": "The weights, under the names that the original was released with. For PyTorch.",
  "model.onnx": "The network from image to numbers. Runs in ONNX Runtime, Triton and many viewers.",
  "card.md": "What it is, how it was made and checked, its limits.",
};

/** `alone`: on a page of its own, with the details open. */
export function Backbone({ backbone, alone, onChange, onGone }) {
  const who = useSession();
  const drop = async () => {
    try {
      await remove(`/backbones/${backbone.id}`);
      succeed(`Deleted the backbone "${backbone.name}"`);
      onGone();
    } catch (problem) {
      fail(problem);
    }
  };
  const actions = html`
    ${allows(who, "trainer") && html`<a class="button" data-testid="adapt-backbone" href=${`#/runs?kind=pretrain&backbone=${backbone.id}`}>Adapt to your images</a>`}
    ${allows(who, "admin") && html`<${ConfirmButton} quiet label="Delete" title="Delete this backbone?" confirm="Delete backbone" action=${drop}
      text=${`"${backbone.name}" is removed from the server. Models already made from it keep working.`} />`}`;
  const title = alone ? "About this backbone" : html`<a href=${`#/backbones/${backbone.id}`}>${backbone.name}</a>`;
  const made = Boolean(backbone.run);
  return html`<${Card} title=${title} id=${`backbone-${backbone.id}`} actions=${actions} testid="backbone-card">
    ${backbone.stage === "candidate" && html`<${Candidate} backbone=${backbone} onChange=${onChange} />`}
    <${AboutIt} backbone=${backbone} made=${made} />
    <${Notes} title=${made ? "Notes from pretraining" : "Notes from the import"} notices=${backbone.notices} />
    ${backbone.comparison && html`<details open=${alone || backbone.stage === "candidate"}><summary>Before and after pretraining</summary><${Comparison} comparison=${backbone.comparison} /></details>`}
    ${backbone.artifacts?.length > 0 && html`<details open=${alone}><summary>Download</summary>
      <${ArtifactTable} route=${`/backbones/${backbone.id}`} artifacts=${backbone.artifacts} meaning=${MEANING} />
      <p class="hint">The licence goes with these files: <strong>${backbone.license}</strong>. Compare the SHA-256 after copying them.</p></details>`}
    <details><summary>Hashes and preparation</summary><${Hashes} backbone=${backbone} made=${made} /></details>
  <//>`;
}

function AboutIt({ backbone, made }) {
  const { preprocessing: input, parity } = backbone;
  return html`<${Facts} rows=${[
    ["Architecture", `${backbone.architecture}, ${(backbone.parameters / 1e6).toFixed(1)} million weights`],
    ["Input", `${input.size} x ${input.size} pixels, ${input.channel_order.toUpperCase()}`],
    ["Output", `${count(backbone.embedding_size, "number")} per image`],
    ["Licence", backbone.license],
    ["Stage", backbone.stage === "candidate" ? "candidate, not approved yet" : made ? "approved" : null],
    ["Made from", made && (backbone.parent ? html`<${BackboneName} id=${backbone.parent} />` : "random weights")],
    ["Made by", made && html`<a href=${`#/runs/${backbone.run}`}>this pretraining run</a>`],
    ["Source", html`<${Source} url=${backbone.source_url} />`],
    [made ? "Made" : "Imported", when(backbone.created_at)],
    ["Check of the conversion", parity && html`<span title="Largest difference between two independent computations of the same image">difference ${figure(parity.max_relative_difference)}, allowed ${figure(parity.bound)}</span>`],
    ["Stored size", bytes(backbone.weights_size_bytes)],
  ].map(([name, value]) => [name, value === false ? null : value])} />`;
}

function Candidate({ backbone, onChange }) {
  const approve = async () => {
    try {
      await patch(`/backbones/${backbone.id}`, { stage: "approved" });
      succeed(`Approved the backbone "${backbone.name}"`, "It is offered for runs without a warning now.");
      onChange();
    } catch (problem) {
      fail(problem);
    }
  };
  return html`<div class="warning" data-testid="candidate-note">
    <p><strong>Candidate, not approved yet.</strong> ${candidateReason(backbone)} It is kept so that you can decide. Runs that choose it are warned.</p>
    <${Needs} role="trainer" to="approve it"><div class="buttons"><${ConfirmButton} calm label="Approve this backbone" title="Approve this backbone?" confirm="Approve" keep="Leave it a candidate" testid="approve-backbone" action=${approve}
      text="Approve it when you have reasons to trust it, for example a model trained with it that did well on your own test. Approving removes the warning; it changes nothing else." /></div><//>
  </div>`;
}

function Hashes({ backbone, made }) {
  const { preprocessing: input } = backbone;
  const digest = (value, what) => value && html`<${Digest} value=${value} what=${what} />`;
  return html`<${Facts} rows=${[
    ["Imported file", !made && digest(backbone.source_sha256, "the imported file")],
    ["Stored weights", digest(backbone.weights_sha256, "the weights")],
    ["ONNX file", digest(backbone.onnx_sha256, "the ONNX file")],
    ["Mean", input.mean.map(figure).join(", ")],
    ["Standard deviation", input.std.map(figure).join(", ")],
  ].map(([name, value]) => [name, value === false ? null : value])} />`;
}

/** A link only for web addresses: a source may be any text, `javascript:` too. */
export function Source({ url }) {
  return /^https?:\/\//i.test(url) ? html`<a href=${url} rel="noreferrer noopener" target="_blank">${url}</a>` : url;
}
