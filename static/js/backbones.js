// Backbones: those imported and those that pretraining made, and the import form.
import { get } from "./api.js";
import { Backbone } from "./backbone_card.js";
import { Empty, Loaded, Page } from "./components.js";
import { ImportForm } from "./import_backbone.js";
import { useResource } from "./resource.js";
import { Needs } from "./session.js";
import { html } from "./view.js";

export function BackbonesPage() {
  const resource = useResource((signal) => get("/backbones", {}, signal), []);
  return html`<${Page} title="Backbones" lead="A backbone is a pretrained network that turns an image into numbers a classifier can work with. Import one before the first run; then you can adapt it to your own images.">
    <${Loaded} resource=${resource} what="backbones">${({ items }) => html`
      ${items.length === 0 && html`<${Empty} title="No backbone yet">Import the weights file of a ResNet, of SAM's ViT-B or of a DINOv2, for example LVM-Med's <code>lvmmed_resnet.torch</code> or <code>lvmmed_vit.pth</code>, with the form below. It also says where weights come from, and can make random ones to try things out.<//>`}
      ${items.map((backbone) => html`<${Backbone} key=${backbone.id} backbone=${backbone} onChange=${resource.reload} onGone=${resource.reload} />`)}
    `}<//>
    <${Needs} role="admin" to="import backbones"><${ImportForm} first=${resource.value?.items.length === 0} onDone=${resource.reload} /><//>
  <//>`;
}
