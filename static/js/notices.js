// The messages at the top of the page: what failed, what worked, and how to dismiss them.
import { store, useStore } from "./store.js";
import { html } from "./view.js";

const shown = store([]);
let next = 1;

function add(notice) {
  const same = (other) => other.title === notice.title && other.detail === notice.detail;
  shown.set([...shown.get().filter((other) => !same(other)), { ...notice, id: next++ }].slice(-4));
}

export function fail(problem) {
  if (problem?.name === "AbortError") return;
  const { title, detail = "", errors = [], requestId = "" } = problem;
  add({ kind: "error", title: title || "Something went wrong", detail: detail || (title ? "" : String(problem.message)), errors, requestId });
}

export function succeed(title, detail = "") {
  add({ kind: "good", title, detail, errors: [], requestId: "" });
}

export function clearNotices() {
  if (shown.get().length) shown.set([]);
}

/** One problem, wherever it is shown. */
export function ProblemText({ problem }) {
  return html`<strong>${problem.title}</strong>
    ${problem.detail && problem.detail !== problem.title && html`<p class="pre">${problem.detail}</p>`}
    ${problem.errors?.length > 0 && html`<ul>
      ${problem.errors.map((error) => html`<li>${error.pointer && html`<code>${error.pointer}</code>${": "}`}${error.detail}</li>`)}
    </ul>`}
    ${problem.requestId && html`<p class="small">For support: request ${problem.requestId}</p>`}`;
}

export function Notices() {
  const notices = useStore(shown);
  const dismiss = (id) => shown.set(shown.get().filter((notice) => notice.id !== id));
  return html`<div class="notices" aria-live="assertive" id="notices" data-testid="notices">
    ${notices.map((notice) => html`<div key=${notice.id} class=${`notice ${notice.kind}`} data-testid=${`notice-${notice.kind}`}>
      <div class="grow"><${ProblemText} problem=${notice} /></div>
      <button type="button" class="quiet" onClick=${() => dismiss(notice.id)}>Dismiss</button>
    </div>`)}
  </div>`;
}
