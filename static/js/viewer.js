// One image, larger, with the window (brightness and contrast) under the reader's hand.
import { remove } from "./api.js";
import { ConfirmButton, Dialog, Facts } from "./components.js";
import { name } from "./gallery.js";
import { fail } from "./notices.js";
import { Picture, previewUrl } from "./picture.js";
import { allows, useSession } from "./session.js";
import { bytes, when } from "./text.js";
import { html, useEffect, useState } from "./view.js";

/** Centre and width in Hounsfield units. */
const CT_WINDOWS = [["Soft tissue", 40, 400], ["Lung", -600, 1500], ["Bone", 480, 2500], ["Brain", 40, 80]];

export function Viewer({ image, onClose, onGone }) {
  const who = useSession();
  const [window, setWindow] = useState(null);
  const asked = useSettled(window, 150);
  const drop = async () => {
    try {
      await remove(`/images/${image.id}`);
      onGone();
    } catch (problem) {
      fail(problem);
    }
  };
  const url = previewUrl(image.id, { max_side: 900, ...(asked ?? {}) });
  return html`<${Dialog} title=${image.label ?? "No class"} wide onClose=${onClose} testid="viewer">
    <div class="viewer">
      <div class="stage"><${Picture} url=${url} alt=${`${image.label ?? "image"}, ${name({ ...image, frame: 0 })}`} testid="viewer-image" /></div>
      <div>
        <${WindowControls} image=${image} window=${window} onChange=${setWindow} />
        <${Facts} rows=${[
          ["File", html`<span class="break">${name({ ...image, frame: 0 })}</span>`],
          ["Frame", image.frame > 0 ? image.frame + 1 : null],
          ["Format", image.format.toUpperCase() + (image.modality ? `, ${image.modality}` : "")],
          ["Size", `${image.width} x ${image.height} pixels, ${bytes(image.size_bytes)}`],
          ["Split asked for", image.split],
          ["Patient key", html`<code title=${image.patient_key}>${image.patient_key.slice(0, 12)}</code>`],
          ["Uploaded", when(image.created_at)],
        ]} />
        ${onGone && allows(who, "trainer") && html`<${ConfirmButton} label="Delete image" title="Delete this image?" confirm="Delete image" action=${drop} text="The image is removed from the dataset. This cannot be undone." />`}
      </div>
    </div>
  <//>`;
}

function start({ window, format }) {
  if (window) return window;
  return format === "dicom" ? { center: 40, width: 400 } : { center: 128, width: 256 };
}

/** Ranges wide enough for the file's own window and for what was typed. */
function ranges({ window, format }, { center, width }) {
  const [low, high, widest] = window
    ? [window.center - 2 * window.width, window.center + 2 * window.width, 4 * window.width]
    : format === "dicom" ? [-1024, 3071, 4096] : [0, 255, 512];
  return { low: Math.floor(Math.min(low, center)), high: Math.ceil(Math.max(high, center)), widest: Math.ceil(Math.max(widest, width)) };
}

function WindowControls({ image, window, onChange }) {
  const now = window ?? start(image);
  const { low, high, widest } = ranges(image, now);
  const set = (part) => (event) => {
    const value = Number(event.target.value);
    if (event.target.value !== "" && Number.isFinite(value)) onChange({ ...now, [part]: part === "width" ? Math.max(1, value) : value });
  };
  return html`<fieldset class="window"><legend>Window (brightness and contrast)</legend>
    <${Slider} id="window-center" label="Centre" value=${now.center} min=${low} max=${high} onInput=${set("center")} />
    <${Slider} id="window-width" label="Width" value=${now.width} min="1" max=${widest} onInput=${set("width")} />
    <div class="buttons">
      <button type="button" disabled=${!window} onClick=${() => onChange(null)}>${image.window ? "As recorded in the file" : "Automatic"}</button>
      ${image.modality === "CT" && CT_WINDOWS.map(([text, center, width]) => html`<button type="button" onClick=${() => onChange({ center, width })}>${text}</button>`)}
    </div>
    <p class="hint">Only changes how it looks here. Models see the window ${image.window ? "recorded in the file" : "chosen from the image's own values"}.</p>
  </fieldset>`;
}

function Slider({ id, label, value, min, max, onInput }) {
  return html`<div class="slider"><label for=${id}>${label}</label>
    <input id=${id} data-testid=${id} type="range" min=${min} max=${max} step="1" value=${value} onInput=${onInput} />
    <input type="number" aria-label=${`${label}, number`} value=${value} step="any" onChange=${onInput} /></div>`;
}

/** The value once it has stood still: a dragged slider asks the server only now and then. */
function useSettled(value, milliseconds) {
  const [settled, setSettled] = useState(value);
  useEffect(() => {
    const timer = setTimeout(() => setSettled(value), milliseconds);
    return () => clearTimeout(timer);
  }, [value]);
  return settled;
}
