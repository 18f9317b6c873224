// The form that imports a backbone, with the progress of its upload.
import { post, upload } from "./api.js";
import { useArchitectures } from "./architectures.js";
import { Card, Field, Progress } from "./components.js";
import { isReadable } from "./folders.js";
import { fail, ProblemText, succeed } from "./notices.js";
import { percent } from "./text.js";
import { html, useRef, useState } from "./view.js";

/** `first`: there is no backbone yet. */
export function ImportForm({ first, onDone }) {
  const form = useRef(null);
  const [sent, setSent] = useState(null);
  const [deep, setDeep] = useState(null);
  const { known } = useArchitectures();

  const submit = async (event) => {
    event.preventDefault();
    setDeep(null);
    if (!(await isReadable(form.current.elements.file.files[0]))) {
      fail({ title: "The weights file cannot be read", detail: "It may have been moved, or be a folder. Choose the file again." });
      return;
    }
    setSent(0);
    try {
      const backbone = await upload("/backbones", {
        body: multipart(form.current.elements),
        onProgress: (loaded, total) => total && setSent(loaded / total),
      });
      succeed(`Imported the backbone "${backbone.name}"`, "It can be used for runs now.");
      form.current.reset();
      onDone();
    } catch (problem) {
      if (asksToFlatten(problem)) setDeep(problem);
      else fail(problem);
    } finally {
      setSent(null);
    }
  };
  const flatten = () => {
    form.current.elements.collapse_depth.checked = true;
    form.current.requestSubmit();
  };

  const busy = sent !== null;
  return html`<${Card} title="Import a backbone" id="import-title">
    <${Origins} open=${first} onDone=${onDone} />
    <form ref=${form} onSubmit=${submit} id="import-form">
      <div class="grid two">
        <${Field} label="Weights file" id="backbone-file" hint="safetensors or a PyTorch weights file. Nothing in the file is executed.">
          <input id="backbone-file" data-testid="backbone-file" name="file" type="file" required aria-describedby="backbone-file-hint" onChange=${() => setDeep(null)} /><//>
        <${Field} label="Name" id="backbone-name">
          <input id="backbone-name" data-testid="backbone-name" name="name" required maxlength="120" placeholder="LVM-Med ResNet-50" /><//>
        <${Field} label="Source address" id="backbone-source" hint="Where the weights were downloaded from. Kept in every model card.">
          <input id="backbone-source" data-testid="backbone-source" name="source_url" required placeholder="https://" aria-describedby="backbone-source-hint" /><//>
        <${Field} label="Licence of the weights" id="backbone-license" hint="Models made from it inherit this licence.">
          <textarea id="backbone-license" data-testid="backbone-license" name="license" rows="2" required placeholder="CC-BY-NC-ND-2.0, or the whole text" aria-describedby="backbone-license-hint"></textarea><//>
        <${Field} label="Architecture" id="backbone-architecture">
          <select id="backbone-architecture" data-testid="backbone-architecture" name="architecture">
            <option value="">Find out from the file</option>
            ${known.map(({ architecture, title }) => html`<option key=${architecture} value=${architecture}>${title}</option>`)}
          </select><//>
        <${Field} label="Input size in pixels" id="backbone-size" hint="224 unless the source says otherwise; a multiple of 32, of DINOv2 of 14.">
          <input id="backbone-size" data-testid="backbone-size" name="size" type="number" min="32" max="2048" step="1" defaultValue="224" aria-describedby="backbone-size-hint" /><//>
      </div>
      <label class="check"><input type="checkbox" name="collapse_depth" data-testid="backbone-collapse" />
        <span>The file holds 3-D filters; flatten them to 2-D ("collapse depth"). The import says when it is needed, as for <code>lvmmed_resnet.torch</code>.</span></label>
      ${deep && !busy && html`<div class="warning" role="alert" data-testid="flatten-note">
        <${ProblemText} problem=${deep} />
        <div class="buttons"><button type="button" class="primary" data-testid="flatten" onClick=${flatten}>Flatten and import</button>
          <span class="hint grow">Each filter is summed over its depth: on a single slice the network then answers as it did on a stack of equal slices.</span></div>
      </div>`}
      <div class="buttons">
        <button type="submit" class="primary" data-testid="import-backbone" disabled=${busy}>${busy ? "Importing" : "Import backbone"}</button>
        ${busy && html`<div class="grow" role="status"><${Progress} label="Upload" share=${sent < 1 ? sent : null} />
          <span class="hint">${sent < 1 ? `Uploading, ${percent(sent)}` : "Uploaded. The server is converting and checking it; this can take a minute."}</span></div>`}
      </div>
    </form>
  <//>`;
}

/** Whether the same form would be taken with `collapse_depth`. */
function asksToFlatten(problem) {
  return problem.errors?.some(({ pointer }) => pointer === "/collapse_depth") ?? false;
}

function Origins({ open, onDone }) {
  return html`<details class="origins" open=${open} data-testid="origins"><summary>Where do weights come from?</summary>
    <p>No weights come with this server. These fit, downloaded on a computer with internet:</p>
    <ul>
      <li><strong>LVM-Med</strong> (ResNet-50 and ViT-B, trained on 1.3 million medical images): the links in the README of the authors' project, <a href="https://github.com/duyhominhnguyen/LVM-Med" rel="noreferrer" target="_blank">github.com/duyhominhnguyen/LVM-Med</a>. For non-commercial use only; read the licence there.</li>
      <li><strong>ImageNet ResNets of torchvision</strong> (ResNet-18 to ResNet-152, photographs of everyday things): PyTorch's model pages, under the BSD licence of torchvision.</li>
      <li><strong>DINOv2</strong> (ViT-S, B and L, photographs without labels) and what others made of it for medicine, such as <strong>RAD-DINO</strong> (chest X-rays): the authors' <code>.pth</code> files and Hugging Face's <code>model.safetensors</code>. RAD-DINO wants an input of 518 pixels.</li>
    </ul>
    <p>To see how everything works without a download, let the server make random weights. They have learnt nothing: what comes of them is worth nothing either.</p>
    <div class="buttons"><${RandomButton} onDone=${onDone} /></div>
  </details>`;
}

/** Makes the smallest backbone of random weights. */
function RandomButton({ onDone }) {
  const [busy, setBusy] = useState(false);
  const make = async () => {
    setBusy(true);
    try {
      const backbone = await post("/backbones/random", { name: "Random weights, for trying out", architecture: "resnet18", seed: 0 });
      succeed(`Made the backbone "${backbone.name}"`, "It has learnt nothing: use it to see how everything works.");
      onDone();
    } catch (problem) {
      fail(problem);
    } finally {
      setBusy(false);
    }
  };
  return html`<button type="button" data-testid="random-backbone" disabled=${busy} onClick=${make}>${busy ? "Making random weights" : "Try with random weights"}</button>`;
}

/** The file comes last, so that the server can stream it to disk knowing everything else. */
function multipart(elements) {
  const body = new FormData();
  for (const name of ["name", "source_url", "license", "architecture", "size"]) {
    const value = elements[name].value.trim();
    if (value) body.append(name, value);
  }
  body.append("collapse_depth", String(elements.collapse_depth.checked));
  body.append("file", elements.file.files[0]);
  return body;
}
