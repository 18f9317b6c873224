// Backbones: what was imported, with everything needed to trust it, and the import form.
import { get, remove } from "./api.js";
import { Card, ConfirmButton, Digest, Empty, Facts, Loaded, Notes, Page } from "./components.js";
import { ImportForm } from "./import_backbone.js";
import { fail, succeed } from "./notices.js";
import { useResource } from "./resource.js";
import { allows, Needs, useSession } from "./session.js";
import { bytes, count, figure, when } from "./text.js";
import { html } from "./view.js";

export function BackbonesPage() {
  const resource = useResource((signal) => get("/backbones", {}, signal), []);
  return html`<${Page} title="Backbones" lead="A backbone is a pretrained network that turns an image into numbers a classifier can work with. Import one before the first run.">
    <${Loaded} resource=${resource} what="backbones">${({ items }) => html`
      ${items.length === 0 && html`<${Empty} title="No backbone yet">Import the weights file of a ResNet or of SAM's ViT-B, for example LVM-Med's <code>lvmmed_resnet.torch</code> or <code>lvmmed_vit.pth</code>, with the form below.<//>`}
      ${items.map((backbone) => html`<${Backbone} key=${backbone.id} backbone=${backbone} onGone=${resource.reload} />`)}
    `}<//>
    <${Needs} role="admin" to="import backbones"><${ImportForm} onDone=${resource.reload} /><//>
  <//>`;
}

function Backbone({ backbone, onGone }) {
  const who = useSession();
  const { preprocessing: input, parity } = backbone;
  const drop = async () => {
    try {
      await remove(`/backbones/${backbone.id}`);
      succeed(`Deleted the backbone "${backbone.name}"`);
      onGone();
    } catch (problem) {
      fail(problem);
    }
  };
  const actions = allows(who, "admin") && html`<${ConfirmButton} quiet label="Delete" title="Delete this backbone?" confirm="Delete backbone" action=${drop}
    text=${`"${backbone.name}" is removed from the server. Models already made from it keep working.`} />`;
  return html`<${Card} title=${backbone.name} id=${`backbone-${backbone.id}`} actions=${actions} testid="backbone-card">
    <${Facts} rows=${[
      ["Architecture", `${backbone.architecture}, ${(backbone.parameters / 1e6).toFixed(1)} million weights`],
      ["Input", `${input.size} x ${input.size} pixels, ${input.channel_order.toUpperCase()}`],
      ["Output", `${count(backbone.embedding_size, "number")} per image`],
      ["Licence", backbone.license],
      ["Source", html`<${Source} url=${backbone.source_url} />`],
      ["Imported", when(backbone.created_at)],
      ["Check of the conversion", html`<span title="Largest difference between two independent computations of the same image">difference ${figure(parity.max_relative_difference)}, allowed ${figure(parity.bound)}</span>`],
      ["Stored size", bytes(backbone.weights_size_bytes)],
    ]} />
    <${Notes} title="Notes from the import" notices=${backbone.notices} />
    <details><summary>Hashes and preparation</summary>
      <${Facts} rows=${[
        ["Imported file", html`<${Digest} value=${backbone.source_sha256} what="the imported file" />`],
        ["Stored weights", html`<${Digest} value=${backbone.weights_sha256} what="the weights" />`],
        ["ONNX file", html`<${Digest} value=${backbone.onnx_sha256} what="the ONNX file" />`],
        ["Mean", input.mean.map(figure).join(", ")],
        ["Standard deviation", input.std.map(figure).join(", ")],
      ]} />
    </details>
  <//>`;
}

/** A link only for web addresses: a source may be any text, `javascript:` too. */
export function Source({ url }) {
  return /^https?:\/\//i.test(url) ? html`<a href=${url} rel="noreferrer noopener" target="_blank">${url}</a>` : url;
}
