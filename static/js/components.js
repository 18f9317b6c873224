// Small parts that every page uses: states, chips, bars, copy buttons, dialogs.
import { chosen, dropped } from "./folders.js";
import { fail, ProblemText, succeed } from "./notices.js";
import { percent } from "./text.js";
import { html, useEffect, useRef, useState } from "./view.js";

export function Page({ title, lead, back, actions, children }) {
  useEffect(() => {
    document.title = `${title} - LVM-Med`;
  }, [title]);
  return html`<div class="page">
    ${back && html`<nav class="back" aria-label="Back"><a href=${back.href}>${back.text}</a></nav>`}
    <div class="head"><h1 id="page-title" tabindex="-1">${title}</h1><div class="actions">${actions}</div></div>
    ${lead && html`<p class="lead">${lead}</p>`}
    ${children}
  </div>`;
}

export function Card({ title, id, actions, children, testid }) {
  return html`<section class="card" aria-labelledby=${id} data-testid=${testid}>
    <div class="head"><h2 id=${id}>${title}</h2><div class="actions">${actions}</div></div>
    ${children}
  </section>`;
}

/** Draws a resource: loading, its problem with a way to try again, or its value. */
export function Loaded({ resource, what, children }) {
  const { value, problem, loading, reload } = resource;
  if (value) return children(value);
  if (problem) {
    return html`<div class="notice error" role="alert"><div class="grow"><${ProblemText} problem=${problem} /></div>
      <button type="button" onClick=${reload}>Try again</button></div>`;
  }
  return loading && html`<p class="loading" role="status">Loading ${what}</p>`;
}

export function Empty({ title, children }) {
  return html`<div class="empty"><strong>${title}</strong><p>${children}</p></div>`;
}

export function Chip({ status, testid }) {
  return html`<span class=${`chip ${status}`} data-testid=${testid}>${status}</span>`;
}

export function Progress({ label, share, testid }) {
  const value = share === null ? undefined : Math.min(1, Math.max(0, share));
  return html`<progress aria-label=${label} max="1" value=${value} data-testid=${testid}>${percent(value ?? 0)}</progress>`;
}

/** Rows of `{ label, value, text }` as horizontal bars; the longest fills the width. */
export function Bars({ rows, max, caption }) {
  const top = max ?? Math.max(...rows.map((row) => row.value), 1e-9);
  return html`<table class="bars"><caption class="hidden">${caption}</caption><tbody>
    ${rows.map((row) => html`<tr key=${row.label} class=${row.strong ? "strong" : ""}>
      <th scope="row">${row.label}</th>
      <td class="track"><div class="bar" style=${{ width: percent(row.value / top, 2).replace(" ", "") }}></div></td>
      <td class="amount">${row.text}</td>
    </tr>`)}
  </tbody></table>`;
}

export function Notes({ notices, title = "Good to know", grave }) {
  if (!notices?.length) return null;
  return html`<div class=${grave ? "notes grave" : "notes"}><strong>${title}</strong><${Folded} items=${notices} what="notes">${(all) => html`<ul>${all.map((notice) => html`<li>${notice}</li>`)}</ul>`}<//></div>`;
}

export function Facts({ rows }) {
  const given = rows.filter(([, value]) => value !== null && value !== undefined && value !== "");
  return html`<dl class="facts">${given.map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>`;
}

export function Copy({ text, what }) {
  const copy = async () => {
    if (await copyText(text)) succeed(`Copied ${what}`);
  };
  return html`<button type="button" class="quiet" aria-label=${`Copy ${what}`} onClick=${copy}>Copy</button>`;
}

/** The clipboard API is missing on plain http; the old command still works there. */
async function copyText(text) {
  if (navigator.clipboard) {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {
      // Refused by the browser; the way below may still work.
    }
  }
  const area = document.createElement("textarea");
  area.value = text;
  area.className = "hidden";
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  return done;
}

/** A SHA-256, shortened for the eye, whole in the title and on copying. */
export function Digest({ value, what }) {
  return html`<span class="digest"><code title=${value}>${value.slice(0, 12)}...</code><${Copy} text=${value} what=${`SHA-256 of ${what}`} /></span>`;
}

/** A modal window; Escape and the close button call `onClose`. */
export function Dialog({ title, onClose, wide, children, testid }) {
  const box = useRef(null);
  useEffect(() => {
    const before = document.activeElement;
    box.current?.showModal();
    return () => before instanceof HTMLElement && before.focus();
  }, []);
  const cancel = (event) => {
    event.preventDefault();
    onClose();
  };
  return html`<dialog ref=${box} class=${wide ? "wide" : ""} aria-label=${title} onCancel=${cancel} data-testid=${testid}>
    <div class="head"><h2>${title}</h2><button type="button" class="quiet" onClick=${onClose}>Close</button></div>
    ${children}
  </dialog>`;
}

/** A button that asks before it does something grave; `calm` when nothing is lost by it. */
export function ConfirmButton({ label, title, text, confirm, keep = "Keep it", action, testid, quiet, calm }) {
  const [open, setOpen] = useState(false);
  const [busy, setBusy] = useState(false);
  const run = async () => {
    setBusy(true);
    try {
      await action();
    } finally {
      setBusy(false);
      setOpen(false);
    }
  };
  const look = [quiet && "quiet", !calm && "danger-text"].filter(Boolean).join(" ");
  return html`<button type="button" class=${look} data-testid=${testid} onClick=${() => setOpen(true)}>${label}</button>
    ${open && html`<${Dialog} title=${title} onClose=${() => setOpen(false)} testid="confirm-dialog">
      <p>${text}</p>
      <div class="buttons">
        <button type="button" class=${calm ? "primary" : "danger"} data-testid="confirm" disabled=${busy} onClick=${run}>${confirm}</button>
        <button type="button" onClick=${() => setOpen(false)}>${keep}</button>
      </div>
    <//>`}`;
}

export function Field({ label, id, hint, children }) {
  return html`<div class="field"><label for=${id}>${label}</label>${children}${hint && html`<p class="hint" id=${`${id}-hint`}>${hint}</p>`}</div>`;
}

/** A label around a hidden file input that also takes dropped files and folders: `onFiles` is given a
 * list of `{ path, file }`. */
export function Dropzone({ id, title, hint, accept, multiple, disabled, onFiles, testid }) {
  const [over, setOver] = useState(false);
  const drop = (event) => {
    event.preventDefault();
    setOver(false);
    if (!disabled) dropped(event.dataTransfer).then(onFiles, () => fail({ title: "What was dropped cannot be read", detail: "Choose the files or the folder with the button instead." }));
  };
  const drag = (event) => {
    event.preventDefault();
    setOver(true);
  };
  const choose = (event) => {
    if (event.target.files.length > 0) onFiles(chosen(event.target.files));
    event.target.value = "";
  };
  return html`<label class=${`dropzone${over ? " over" : ""}${disabled ? " off" : ""}`} for=${id} onDragOver=${drag} onDragLeave=${() => setOver(false)} onDrop=${drop} data-testid=${testid && `${testid}-drop`}>
    <input id=${id} class="hidden" type="file" accept=${accept} multiple=${multiple} disabled=${disabled} data-testid=${testid} onChange=${choose} />
    <span class="pick">${title}</span><span class="hint">${hint}</span>
  </label>`;
}

/** A button that chooses a folder with all that is in it. */
export function FolderButton({ id, label, testid, onFiles }) {
  const input = useRef(null);
  const choose = (event) => {
    if (event.target.files.length > 0) onFiles(chosen(event.target.files));
    event.target.value = "";
  };
  return html`<input ref=${input} id=${id} class="hidden" type="file" webkitdirectory=${true} tabindex="-1" aria-hidden="true" data-testid=${testid} onChange=${choose} />
    <button type="button" onClick=${() => input.current.click()}>${label}</button>`;
}

/** How many entries of a list are shown before the rest is folded. */
const SHOWN = 10;

/** A long list shows its first entries; the rest opens on a click. */
export function Folded({ items, what, children }) {
  if (items.length <= SHOWN) return children(items);
  return html`<details class="folded"><summary>${items.length.toLocaleString("en")} ${what}</summary>${children(items)}</details>`;
}
