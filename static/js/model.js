// One model: try it on an image, download it, read its report and where it comes from.
import { get, remove } from "./api.js";
import { Card, ConfirmButton, Digest, Facts, Loaded, Page } from "./components.js";
import { Downloads } from "./downloads.js";
import { Report } from "./evaluation.js";
import { fail } from "./notices.js";
import { Predict } from "./predict.js";
import { useResource } from "./resource.js";
import { go } from "./router.js";
import { RunInputs } from "./run_inputs.js";
import { allows, useSession } from "./session.js";
import { figure, when } from "./text.js";
import { html } from "./view.js";

export function ModelPage({ id }) {
  const who = useSession();
  const resource = useResource((signal) => get(`/models/${id}`, {}, signal), [id]);
  const model = resource.value;
  const drop = async () => {
    try {
      await remove(`/models/${id}`);
      go("#/models");
    } catch (problem) {
      fail(problem);
    }
  };
  const actions = model && allows(who, "trainer") && html`<${ConfirmButton} label="Delete model" title="Delete this model?" confirm="Delete for good" testid="delete-model" action=${drop}
    text=${`"${model.name}" version ${model.version} and its files are deleted. The run and its report stay. This cannot be undone.`} />`;
  const title = model ? `${model.name}, version ${model.version}` : "Model";
  return html`<${Page} title=${title} back=${{ href: "#/models", text: "All models" }} actions=${actions}>
    <${Loaded} resource=${resource} what="the model">${(value) => html`
      <p class="warning" data-testid="clinical-note"><strong>Not for clinical use.</strong> This is a research result, not a medical device. Do not base decisions about patients on it.</p>
      <${Predict} model=${value} />
      <div class="columns"><${Downloads} model=${value} /><${Origin} model=${value} /></div>
      <${Report} evaluation=${value.evaluation} />
    `}<//>
  <//>`;
}

function Origin({ model }) {
  const { preprocessing: input } = model;
  const { value: run } = useResource((signal) => get(`/runs/${model.run}`, {}, signal), [model.run]);
  return html`<${Card} title="Where it comes from" id="origin-title">
    <${Facts} rows=${[
      ["Licence", html`<span data-testid="model-license">${model.license}</span>`],
      ["Made by", html`<a href=${`#/runs/${model.run}`}>this run</a>`],
      ["Published", `${when(model.created_at)}, ${model.stage}`],
    ]} />
    ${run && html`<${RunInputs} spec=${run.spec} />`}
    <${Facts} rows=${[
      ["Classes", model.labels.join(", ")],
      ["Input", `${input.size} x ${input.size} pixels, ${input.channel_order.toUpperCase()}`],
      ["Mean", input.mean.map(figure).join(", ")],
      ["Standard deviation", input.std.map(figure).join(", ")],
      ["Dataset digest", run && html`<${Digest} value=${run.provenance.dataset_digest} what="the dataset version" />`],
      ["Backbone weights", run && html`<${Digest} value=${run.provenance.backbone_sha256} what="the backbone's weights" />`],
      ["Program version", run?.provenance.code_version],
    ]} />
  <//>`;
}
