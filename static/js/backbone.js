// One backbone, with its comparison and its files in view.
import { get } from "./api.js";
import { Backbone } from "./backbone_card.js";
import { Loaded, Page } from "./components.js";
import { useResource } from "./resource.js";
import { go } from "./router.js";
import { html } from "./view.js";

export function BackbonePage({ id }) {
  const resource = useResource((signal) => get(`/backbones/${id}`, {}, signal), [id]);
  return html`<${Page} title=${resource.value?.name ?? "Backbone"} back=${{ href: "#/backbones", text: "All backbones" }}>
    <${Loaded} resource=${resource} what="the backbone">${(backbone) => html`
      <${Backbone} alone backbone=${backbone} onChange=${resource.reload} onGone=${() => go("#/backbones")} />
    `}<//>
  <//>`;
}
