// What a run will take, asked of the server whenever the form changes.
import { post } from "./api.js";
import { ProblemText } from "./notices.js";
import { bytes, count, duration } from "./text.js";
import { html, useEffect, useState } from "./view.js";

/** Milliseconds without a change before the server is asked. */
const PAUSE = 600;
/** Milliseconds before it is asked again while it measures. */
const AGAIN = 2000;

/** `told` gives the settings that a refusal names the names that they have in the form. */
export function Estimate({ spec, told = (problem) => problem }) {
  const [state, setState] = useState({ busy: true, found: null, problem: null });
  const text = JSON.stringify(spec);
  useEffect(() => {
    const asking = new AbortController();
    setState((before) => ({ ...before, busy: true }));
    const ask = () => {
      post("/runs/estimate", JSON.parse(text), {}, asking.signal).then(
        (found) => {
          if (asking.signal.aborted) return;
          setState({ busy: false, found, problem: null });
          if (!found.measured) timer = setTimeout(ask, AGAIN);
        },
        (problem) => asking.signal.aborted || setState({ busy: false, found: null, problem }),
      );
    };
    let timer = setTimeout(ask, PAUSE);
    return () => {
      asking.abort();
      clearTimeout(timer);
    };
  }, [text]);

  const { busy, found, problem } = state;
  return html`<div class="estimate" role="status" aria-live="polite" data-testid="estimate">
    ${problem && !busy && html`<div class="notice error"><div><${ProblemText} problem=${told(problem)} /></div></div>`}
    ${busy && html`<p class="hint">Estimating time and memory${found ? "" : "; the first time takes some seconds"}</p>`}
    ${found && !busy && !found.measured && html`<p class="hint">${found.notice}.</p>`}
    ${found && !busy && found.advice && html`<p class="warning" data-testid="estimate-advice">${found.advice}.</p>`}
    ${found && !busy && found.measured && html`<p>About <strong>${duration(found.seconds)}</strong>${spec.kind === "pretrain" ? "" : " at most"} on this computer, with up to <strong>${bytes(found.memory_bytes)}</strong> of memory (${bytes(found.available_bytes)} may be used)${found.micro_batch === null ? "." : `, ${count(found.micro_batch, "image")} at a time.`}</p>`}
  </div>`;
}
