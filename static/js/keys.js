// Access keys: who may do what. Only admins see this page.
import { get, post, remove, setKey } from "./api.js";
import { Card, ConfirmButton, Copy, Empty, Field, Loaded, Page } from "./components.js";
import { fail, succeed } from "./notices.js";
import { useResource } from "./resource.js";
import { identify, Needs, useSession } from "./session.js";
import { when } from "./text.js";
import { html, useState } from "./view.js";

const ROLES = [
  ["viewer", "Viewer: looks at everything and asks for predictions"],
  ["trainer", "Trainer: also uploads datasets and starts runs"],
  ["admin", "Admin: also imports backbones and manages keys"],
];

/** Days, and their words. */
const LIFETIMES = [["", "until revoked"], ["1", "a day"], ["7", "a week"], ["30", "a month"], ["90", "three months"], ["365", "a year"]];

export function KeysPage() {
  return html`<${Page} title="Keys" lead="A key lets a person or a program in. Give each its own, with the smallest role that will do.">
    <${Needs} role="admin" to="manage keys"><${Keys} /><//>
  <//>`;
}

function Keys() {
  const who = useSession();
  const resource = useResource((signal) => get("/keys", {}, signal), []);
  const revoke = (held) => async () => {
    try {
      await remove(`/keys/${held.id}`);
      succeed(`Revoked the key "${held.name}"`);
      resource.reload();
      identify();
    } catch (problem) {
      fail(problem);
    }
  };
  return html`
    ${who.open && html`<p class="warning">No key exists yet, so everyone on this computer is an admin. From the first key on, every caller needs one: make the first key an admin key, and copy it.</p>`}
    <${CreateKey} first=${who.open} onDone=${resource.reload} />
    <${Loaded} resource=${resource} what="keys">${({ items }) => items.length === 0
      ? html`<${Empty} title="No key yet">Create one before you let others use this server.<//>`
      : html`<${Card} title="All keys" id="keys-title"><div class="scroll"><table data-testid="key-table">
          <thead><tr><th>Name</th><th>Role</th><th>Starts with</th><th>Created</th><th>Last used</th><th>Valid until</th><th><span class="hidden">Revoke</span></th></tr></thead>
          <tbody>${items.map((held) => html`<tr key=${held.id} data-testid="key-row">
            <td>${held.name}</td><td>${held.role}</td><td><code>${held.prefix}</code></td><td class="nowrap">${when(held.created_at)}</td><td class="nowrap">${when(held.last_used_at)}</td><td class="nowrap" data-testid="key-until">${held.expires_at ? when(held.expires_at) : "revoked"}</td>
            <td><${ConfirmButton} quiet label="Revoke" title="Revoke this key?" confirm="Revoke key" testid="revoke-key" action=${revoke(held)} text=${`Whoever uses "${held.name}" is locked out at once.`} /></td>
          </tr>`)}</tbody>
        </table></div><//>`}<//>`;
}

function CreateKey({ first, onDone }) {
  const [name, setName] = useState("");
  const [role, setRole] = useState(first ? "admin" : "viewer");
  const [days, setDays] = useState("");
  const [secret, setSecret] = useState("");
  const [busy, setBusy] = useState(false);
  const submit = async (event) => {
    event.preventDefault();
    setBusy(true);
    try {
      setSecret((await post("/keys", { name, role, valid_days: days ? Number(days) : null })).secret);
      setName("");
      if (!first) onDone();
    } catch (problem) {
      fail(problem);
    } finally {
      setBusy(false);
    }
  };
  return html`<${Card} title="Create a key" id="create-key-title">
    <form class="row" onSubmit=${submit}>
      <${Field} label="For whom or what" id="key-name"><input id="key-name" data-testid="key-name" required maxlength="120" placeholder="Reading room" value=${name} onInput=${(event) => setName(event.target.value)} /><//>
      <${Field} label="Role" id="key-role"><select id="key-role" data-testid="key-role" value=${role} onChange=${(event) => setRole(event.target.value)}>
        ${ROLES.map(([word, text]) => html`<option value=${word} selected=${word === role}>${text}</option>`)}</select><//>
      ${!first && html`<${Field} label="Valid for" id="key-days"><select id="key-days" data-testid="key-days" value=${days} onChange=${(event) => setDays(event.target.value)}>
        ${LIFETIMES.map(([word, text]) => html`<option value=${word} selected=${word === days}>${text}</option>`)}</select><//>`}
      <button type="submit" class="primary" data-testid="create-key" disabled=${busy || !name.trim()}>Create key</button>
    </form>
    ${secret && html`<div class="notice good" role="status"><div class="grow"><strong>Copy the key now. It is shown only once.</strong>
      <p><code class="secret" data-testid="key-secret">${secret}</code> <${Copy} text=${secret} what="the key" /></p>
      ${first && html`<p>From now on this server asks for a key. <button type="button" data-testid="use-new-key" onClick=${() => setKey(secret)}>Use this key in this tab</button></p>`}</div></div>`}
  <//>`;
}
