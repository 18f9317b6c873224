// Replays: the button that asks for one, and what one found.
import { post } from "./api.js";
import { Card } from "./components.js";
import { fail } from "./notices.js";
import { go } from "./router.js";
import { count } from "./text.js";
import { html, useState } from "./view.js";

const STEPS = 10;

export function ReplayButton({ run }) {
  const [busy, setBusy] = useState(false);
  const start = async () => {
    setBusy(true);
    try {
      const replay = await post(`/runs/${run.id}/replay`, { steps: STEPS });
      go(`#/runs/${replay.id}`);
    } catch (problem) {
      fail(problem);
    }
    setBusy(false);
  };
  return html`<button type="button" data-testid="replay-run" disabled=${busy} title=${`Does the first ${STEPS} steps again and compares their losses with those on record`} onClick=${start}>Check by replay</button>`;
}

export function ReplayReport({ run }) {
  const { replayed } = run;
  if (!replayed) return null;
  const difference = replayed.first_difference;
  return html`<${Card} title="What the replay found" id="replayed-title" testid="replayed">
    <p class="verdict">${replayed.equal
      ? html`<strong>The same.</strong> ${count(replayed.compared, "loss", "losses")} of <a href=${`#/runs/${run.spec.run}`}>the run</a> were computed again and are equal to the last bit.`
      : html`<strong>Not the same.</strong> ${difference ? `Step ${difference.step} has a loss of ${difference.found}; ${difference.recorded} is on record.` : `Only ${count(replayed.compared, "loss", "losses")} could be computed.`} <a href=${`#/runs/${run.spec.run}`}>The run</a> was done on another kind of machine or by another version of the program, or something on this one has changed.`}</p>
  <//>`;
}
