// Runs: the form that starts one, and the list that follows those under way.
import { get } from "./api.js";
import { Card, Empty, Field, Loaded, Page } from "./components.js";
import { fail } from "./notices.js";
import { useResource } from "./resource.js";
import { isFinal, RunTable } from "./run_table.js";
import { Needs } from "./session.js";
import { Start } from "./start.js";
import { html, useEffect, useState } from "./view.js";

const PAGE = 50;
const STATUSES = ["queued", "running", "succeeded", "failed", "cancelled"];

export function RunsPage({ query }) {
  const [kind, version, backbone] = ["kind", "version", "backbone"].map((name) => query.get(name) ?? "");
  return html`<${Page} title="Runs" lead="A run learns from a frozen dataset version. It trains a model and tests it on patients it has not seen, or it adapts a backbone to your images.">
    <${Needs} role="trainer" to="start runs"><${Start} key=${`${kind}/${version}/${backbone}`} kind=${kind} version=${version} backbone=${backbone} /><//>
    <${RunList} />
  <//>`;
}

function RunList() {
  const [status, setStatus] = useState("");
  const [older, setOlder] = useState({ items: [], next: undefined });
  const resource = useResource((signal) => get("/runs", { status, limit: PAGE }, signal), [status]);
  const active = resource.value?.items.some((run) => !isFinal(run.status));
  useEffect(() => setOlder({ items: [], next: undefined }), [status]);
  useEffect(() => {
    if (!active) return undefined;
    const timer = setInterval(() => {
      get("/runs", { status, limit: PAGE }).then(resource.replace, () => {});
    }, 3000);
    return () => clearInterval(timer);
  }, [active, status]);

  const more = async (before) => {
    try {
      const page = await get("/runs", { status, before, limit: PAGE });
      setOlder((known) => ({ items: [...known.items, ...page.items], next: page.next }));
    } catch (problem) {
      fail(problem);
    }
  };
  const filter = html`<${Field} label="Show" id="run-filter"><select id="run-filter" value=${status} onChange=${(event) => setStatus(event.target.value)}>
    <option value="">all runs</option>${STATUSES.map((word) => html`<option value=${word}>${word}</option>`)}
  </select><//>`;
  return html`<${Card} title="All runs" id="runs-title" actions=${filter}>
    <${Loaded} resource=${resource} what="runs">${({ items, next }) => {
      const cursor = older.next === undefined ? next : older.next;
      const ids = new Set(items.map((run) => run.id));
      const all = [...items, ...older.items.filter((run) => !ids.has(run.id))];
      return html`${all.length === 0
        ? html`<${Empty} title=${status ? `No ${status} run` : "No run yet"}>${status ? "Choose another filter." : "Start one with the form above. The quick method takes seconds to minutes."}<//>`
        : html`<${RunTable} runs=${all} />`}
      ${cursor && html`<div class="buttons"><button type="button" onClick=${() => more(cursor)}>Show older runs</button></div>`}`;
    }}<//>
  <//>`;
}
