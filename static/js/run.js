// One run: live while it works, then its report.
import { get, post } from "./api.js";
import { Asked } from "./asked.js";
import { Card, Chip, Loaded, Notes, Page, Progress } from "./components.js";
import { Curves } from "./curves.js";
import { Report } from "./evaluation.js";
import { useLiveRun } from "./live_run.js";
import { Matching } from "./matching.js";
import { recipe } from "./methods.js";
import { Mistakes } from "./mistakes.js";
import { fail } from "./notices.js";
import { Pretrained } from "./pretrained.js";
import { Repeats } from "./repeats.js";
import { ReplayButton, ReplayReport } from "./replay.js";
import { useResource } from "./resource.js";
import { isFinal, runTitle } from "./run_table.js";
import { allows, useSession } from "./session.js";
import { count, duration, figure, percent, when } from "./text.js";
import { html, useEffect, useRef, useState } from "./view.js";

export function RunPage({ id }) {
  const who = useSession();
  const [round, setRound] = useState(0);
  const resource = useResource((signal) => get(`/runs/${id}`, {}, signal), [id]);
  const run = resource.value;
  const live = useLiveRun(id, run, resource.replace, round);

  const act = (verb) => async () => {
    try {
      resource.replace(await post(`/runs/${id}/${verb}`));
      if (verb === "retry") setRound((number) => number + 1);
    } catch (problem) {
      fail(problem);
    }
  };
  const may = run && allows(who, "trainer");
  const actions = html`
    ${run?.model && html`<a class="button primary" data-testid="model-link" href=${`#/models/${run.model}`}>Open the model</a>`}
    ${run?.backbone && html`<a class="button primary" href=${`#/backbones/${run.backbone}`}>Open the backbone</a>`}
    ${may && !isFinal(run.status) && html`<button type="button" class="danger-text" data-testid="cancel-run" disabled=${run.cancel_requested} onClick=${act("cancel")}>${run.cancel_requested ? "Stopping" : "Cancel run"}</button>`}
    ${may && run.status === "succeeded" && run.spec.kind === "finetune" && html`<${ReplayButton} run=${run} />`}
    ${may && ["failed", "cancelled"].includes(run.status) && html`<button type="button" class="primary" data-testid="retry-run" onClick=${act("retry")}>Try again</button>`}`;
  return html`<${Page} title=${run ? runTitle(run) : "Run"} back=${{ href: "#/runs", text: "All runs" }} actions=${actions}>
    <${Loaded} resource=${resource} what="the run">${(value) => html`<${Body} run=${value} live=${live} />`}<//>
  <//>`;
}

function Body({ run, live }) {
  const done = run.status === "succeeded" && run.evaluation;
  return html`
    <${Now} run=${run} lost=${live.lost} />
    <${Notes} notices=${run.notices} title="What to know of this run" />
    <${ReplayReport} run=${run} />
    ${done && html`<${Report} evaluation=${run.evaluation} /><${Repeats} repeats=${run.evaluation.repeats} /><${Mistakes} run=${run} />`}
    ${run.spec.kind === "pretrain" && html`<${Pretrained} run=${run} /><${Matching} run=${run} curves=${live.curves} />`}
    ${live.curves.size > 0 && html`<${Card} title="Curves" id="curves-title"><${Curves} curves=${live.curves} kind=${run.spec.kind} /><//>`}
    <div class="columns">
      <${Asked} run=${run} />
      <${Log} lines=${live.log} />
    </div>`;
}

function Now({ run, lost }) {
  const { progress } = run;
  const repeats = recipe(run).repeats ?? recipe(run).gate?.repeats ?? 1;
  const share = run.status === "succeeded" ? 1 : run.status === "queued" ? 0 : progress.fraction;
  const taken = run.started_at && run.finished_at ? (new Date(run.finished_at) - new Date(run.started_at)) / 1000 : null;
  return html`<section class="card" aria-label="State of the run">
    <div class="now" role="status" aria-live="polite"><${Chip} status=${run.status} testid="run-status" /><span data-testid="run-stage">${sentence(run, taken)}</span></div>
    <${Progress} label="Progress of the run" share=${share} testid="run-progress" />
    ${run.status === "running" && html`<ul class="facts-row">
      <li><b>${percent(share)}</b> done</li>
      ${progress.total > 0 && html`<li><b>${progress.done} / ${progress.total}</b> of this stage</li>`}
      ${progress.eta_seconds !== null && html`<li><b>${duration(progress.eta_seconds)}</b> to go</li>`}
      ${progress.images_per_second !== null && html`<li><b>${figure(progress.images_per_second)}</b> images/s</li>`}
      ${progress.repeat !== null && html`<li>repeat <b>${progress.repeat} / ${repeats}</b></li>`}
      ${progress.epoch !== null && html`<li>epoch <b>${progress.epoch}</b></li>`}
      ${progress.loss !== null && html`<li>loss <b>${figure(progress.loss)}</b></li>`}
    </ul>`}
    ${run.error && html`<div class="notice error" data-testid="run-error"><div><strong>The run failed</strong><p class="pre">${run.error}</p></div></div>`}
    ${lost && html`<p class="hint" role="status">The connection was lost. Trying again; the run goes on in the meantime.</p>`}
  </section>`;
}

function sentence(run, taken) {
  switch (run.status) {
    case "queued":
      return run.queue_position ? `Waiting: ${count(run.queue_position, "run")} before this one` : "Waiting: next in the queue";
    case "running":
      return run.cancel_requested ? "Stopping at the next safe point" : `Now ${run.progress.stage || "starting"}`;
    case "succeeded":
      return `Finished ${when(run.finished_at)}${taken === null ? "" : `, in ${duration(taken)}`}`;
    case "failed":
      return `Stopped by an error, ${when(run.finished_at)}`;
    default:
      return `Cancelled ${when(run.finished_at)}`;
  }
}

function Log({ lines }) {
  const box = useRef(null);
  const stick = useRef(true);
  useEffect(() => {
    if (stick.current && box.current) box.current.scrollTop = box.current.scrollHeight;
  });
  const scrolled = ({ target }) => {
    stick.current = target.scrollHeight - target.scrollTop - target.clientHeight < 24;
  };
  return html`<${Card} title="Log" id="log-title">
    ${lines.length === 0
      ? html`<p class="hint">Nothing yet.</p>`
      : html`<div class="log" ref=${box} tabindex="0" role="log" aria-label="Log of the run" aria-live="off" data-testid="run-log" onScroll=${scrolled}>
          ${lines.map((line) => html`<div class=${line.kind}><time>${new Date(line.at).toLocaleTimeString("en-GB")}</time> ${line.text}</div>`)}</div>`}
  <//>`;
}
