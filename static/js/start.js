// The card that starts something: a run that trains a model, or one that adapts a backbone.
import { get } from "./api.js";
import { Card, Empty, Loaded } from "./components.js";
import { useResource } from "./resource.js";
import { PretrainForm } from "./start_pretrain.js";
import { FinetuneForm } from "./start_run.js";
import { html, useState } from "./view.js";

async function choices(signal) {
  const [backbones, datasets] = await Promise.all([get("/backbones", {}, signal), get("/datasets", {}, signal)]);
  const lists = await Promise.all(datasets.items.map((dataset) => get(`/datasets/${dataset.id}/versions`, {}, signal)));
  const versions = lists.flatMap(({ items }, at) => items.map((version) => ({ ...version, name: datasets.items[at].name })));
  versions.sort((one, other) => other.created_at.localeCompare(one.created_at));
  // Approved ones first, so that no candidate is chosen by accident.
  const rank = ({ stage }) => (stage === "candidate" ? 1 : 0);
  return { backbones: [...backbones.items].sort((one, other) => rank(one) - rank(other)), versions };
}

const KINDS = {
  finetune: { title: "Train a model", text: "Learns to name the classes of your images, and is tested. Needs images with classes." },
  pretrain: { title: "Adapt a backbone", text: "Pretraining: a backbone gets used to your kind of images. Classes are not needed." },
};

export function Start({ kind: wanted, version, backbone }) {
  const [kind, setKind] = useState(wanted === "pretrain" ? "pretrain" : "finetune");
  const resource = useResource(choices, []);
  return html`<${Card} title="Start a run" id="start-title">
    <fieldset class="kinds"><legend class="hidden">What the run shall do</legend>
      ${Object.entries(KINDS).map(([name, { title, text }]) => html`<label key=${name} class=${name === kind ? "kind chosen" : "kind"}>
        <input type="radio" name="run-kind" value=${name} checked=${name === kind} data-testid=${`kind-${name}`} onChange=${() => setKind(name)} />
        <span><strong>${title}</strong><small>${text}</small></span></label>`)}
    </fieldset>
    <${Loaded} resource=${resource} what="datasets and backbones">${({ backbones, versions }) => kind === "pretrain"
      ? html`<${Pretrain} backbones=${backbones} versions=${versions} version=${version} backbone=${backbone} />`
      : html`<${Finetune} backbones=${backbones} versions=${versions.filter(({ labels }) => labels.length > 0)} version=${version} />`}<//>
  <//>`;
}

function Finetune({ backbones, versions, version }) {
  if (backbones.length === 0) return html`<${Empty} title="A backbone is missing">Every run starts from one. <a href="#/backbones">Import a backbone</a> first.<//>`;
  if (versions.length === 0) return html`<${Empty} title="A frozen dataset version with classes is missing">Open a <a href="#/datasets">dataset</a>, upload images and freeze a version.<//>`;
  return html`<${FinetuneForm} backbones=${backbones} versions=${versions} chosen=${version} />`;
}

function Pretrain({ backbones, versions, version, backbone }) {
  if (versions.length === 0) return html`<${Empty} title="A frozen dataset version is missing">Open a <a href="#/datasets">dataset</a>, upload images and freeze a version. The images need no classes.<//>`;
  return html`<${PretrainForm} backbones=${backbones} versions=${versions} chosen=${{ version, backbone }} />`;
}
