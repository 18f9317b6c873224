// The messages at the top of the page: what failed, what worked, and how to dismiss them.
import { store, useStore } from "./store.js";
import { sentence } from "./text.js";
import { html } from "./view.js";

/** Characters of a sentence at most; of longer ones the rest is folded. */
const MOST_CHARACTERS = 400;

const shown = store([]);
let next = 1;

function add(notice) {
  const same = (other) => other.title === notice.title && other.detail === notice.detail;
  shown.set([...shown.get().filter((other) => !same(other)), { ...notice, id: next++ }].slice(-4));
}

export function fail(problem) {
  if (problem?.name === "AbortError") return;
  const { title, detail = "", status = 0, errors = [], requestId = "" } = problem;
  add({ kind: "error", title: title || "Something went wrong", detail: detail || (title ? "" : String(problem.message)), status, errors, requestId });
}

export function succeed(title, detail = "") {
  add({ kind: "good", title, detail, errors: [], requestId: "" });
}

export function clearNotices() {
  if (shown.get().length) shown.set([]);
}

/** One problem, wherever it is shown: what happened in a sentence, the rest folded. */
export function ProblemText({ problem }) {
  const { title, detail, status, errors = [], requestId } = problem;
  const long = detail?.length > MOST_CHARACTERS;
  const short = long ? `${detail.slice(0, MOST_CHARACTERS)}…` : detail;
  // What the server says stands for itself; its titles are for programs.
  const head = status > 0 && detail ? sentence(short) : title;
  const further = errors.filter((error) => error.detail !== detail);
  return html`<strong class="said">${head}</strong>
    ${head === title && detail && detail !== title && html`<p class="pre">${short}</p>`}
    ${(long || further.length > 0 || requestId) && html`<details class="folded"><summary>Details</summary>
      ${long && html`<p class="pre">${detail}</p>`}
      ${further.length > 0 && html`<ul>${further.map((error) => html`<li>${error.detail}</li>`)}</ul>`}
      ${requestId && html`<p class="small">For support: request ${requestId}</p>`}
    </details>`}`;
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
