// The files of a model or a backbone: plain links, or fetched with the key where one is used.
import { key, objectUrl, path } from "./api.js";
import { Card, Digest } from "./components.js";
import { fail } from "./notices.js";
import { useStore } from "./store.js";
import { bytes } from "./text.js";
import { html, useState } from "./view.js";

const MEANING = {
  "model.safetensors": "The weights, with torchvision's names. For PyTorch.",
  "model.onnx": "The whole network. Runs in ONNX Runtime, Triton and many viewers.",
  "config.json": "Classes, image preparation and metrics, for programs.",
  "card.md": "The model card: what it is, how it was tested, its limits.",
};

export function Downloads({ model }) {
  return html`<${Card} title="Download" id="downloads-title">
    <${ArtifactTable} route=${`/models/${model.id}`} artifacts=${model.artifacts} meaning=${MEANING} />
    <p class="hint">The licence of the backbone goes with these files: <strong>${model.license}</strong>. Compare the SHA-256 after copying them.</p>
  <//>`;
}

/** The files under a route; `meaning` says what each is for. */
export function ArtifactTable({ route, artifacts, meaning }) {
  return html`<div class="scroll"><table class="downloads"><tbody>${artifacts.map((artifact) => html`<tr key=${artifact.name}>
    <td><${Download} route=${route} artifact=${artifact} /><small>${meaning[artifact.name] ?? artifact.media_type}</small></td>
    <td class="num nowrap">${bytes(artifact.size_bytes)}</td>
    <td><${Digest} value=${artifact.sha256} what=${artifact.name} /></td>
  </tr>`)}</tbody></table></div>`;
}

function Download({ route, artifact }) {
  const held = useStore(key);
  const [busy, setBusy] = useState(false);
  const url = path(`${route}/artifacts/${encodeURIComponent(artifact.name)}`);
  const fetchWithKey = async (event) => {
    if (!held) return;
    event.preventDefault();
    if (busy) return;
    setBusy(true);
    try {
      save(await objectUrl(url), artifact.name);
    } catch (problem) {
      fail(problem);
    } finally {
      setBusy(false);
    }
  };
  return html`<a href=${url} download=${artifact.name} data-testid=${`artifact-${artifact.name}`} aria-busy=${busy} onClick=${fetchWithKey}>${artifact.name}</a>
    ${busy && html`<span class="hint" role="status">${" "}downloading</span>`}`;
}

function save(address, name) {
  const link = document.createElement("a");
  link.href = address;
  link.download = name;
  document.body.append(link);
  link.click();
  link.remove();
  // The browser has its own hold on the file soon after the click.
  setTimeout(() => URL.revokeObjectURL(address), 60000);
}
