// The dataset version and the backbone of a run, by name; either may be gone by now.
import { get } from "./api.js";
import { Facts } from "./components.js";
import { useResource } from "./resource.js";
import { html } from "./view.js";

const orNull = (promise) => promise.catch(() => null);

async function load({ dataset_version: id, backbone }, signal) {
  const [version, base] = await Promise.all([orNull(get(`/versions/${id}`, {}, signal)), backbone ? orNull(get(`/backbones/${backbone}`, {}, signal)) : null]);
  const dataset = version && (await orNull(get(`/datasets/${version.dataset}`, {}, signal)));
  return { version, base, dataset };
}

export function RunInputs({ spec }) {
  const { value } = useResource((signal) => load(spec, signal), [spec.dataset_version, spec.backbone]);
  if (!value) return null;
  const { version, base, dataset } = value;
  return html`<${Facts} rows=${[
    ["Dataset", version ? html`<a href=${`#/datasets/${version.dataset}`}>${dataset?.name ?? "Dataset"}, version ${version.number}</a>` : "no longer on the server"],
    ["Backbone", base ? html`<a href=${`#/backbones/${base.id}`}>${base.name}</a>` : spec.backbone ? "no longer on the server" : `none: ${spec.architecture} with random weights`],
  ]} />`;
}
