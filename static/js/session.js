// Who the caller is, what the role allows, and the box that takes the access key.
import { get, key, refused, setKey } from "./api.js";
import { fail } from "./notices.js";
import { store, useStore } from "./store.js";
import { html, useEffect, useState } from "./view.js";

const ORDER = ["viewer", "trainer", "admin"];

/** `state`: `loading`, `known`, `locked` (a key is needed or the given one is wrong) or `down`. */
export const session = store({ state: "loading", role: null, name: null, open: false });

export async function identify() {
  try {
    session.set({ state: "known", ...(await get("/me")) });
  } catch (problem) {
    session.set({ state: problem.status === 401 ? "locked" : "down", role: null, name: null, open: false });
    if (problem.status !== 401) fail(problem);
  }
}

export function useSession() {
  return useStore(session);
}

export function allows(who, role) {
  return who.state === "known" && ORDER.indexOf(who.role) >= ORDER.indexOf(role);
}

/** Shows its children to callers of a role, and says to the others what is missing. */
export function Needs({ role, to, children }) {
  const who = useSession();
  if (allows(who, role)) return children;
  if (who.state !== "known") return null;
  return html`<p class="hint">Your key has the role "${who.role}". Ask for a key with the role "${role}" to ${to}.</p>`;
}

export function KeyBox() {
  const who = useSession();
  const held = useStore(key);
  const [text, setText] = useState("");
  const [editing, setEditing] = useState(false);

  useEffect(() => {
    identify();
  }, [held]);
  useEffect(() => refused.listen(identify), []);

  const use = (event) => {
    event.preventDefault();
    setKey(text.trim());
    setText("");
    setEditing(false);
  };
  const asking = editing || who.state === "locked";
  return html`<div class="keybox" data-testid="keybox">
    <span class="who" role="status" data-testid="session">${describe(who, held)}</span>
    ${asking
      ? html`<form onSubmit=${use}>
          <label class="hidden" for="access-key">Access key</label>
          <input id="access-key" data-testid="access-key" type="password" autocomplete="off" placeholder="Access key: lvmed_..." value=${text} onInput=${(event) => setText(event.target.value)} />
          <button type="submit" class="small-button" data-testid="use-key" disabled=${!text.trim()}>Use key</button>
          ${editing && html`<button type="button" class="quiet" onClick=${() => setEditing(false)}>Close</button>`}
        </form>`
      : html`<button type="button" class="quiet" data-testid="enter-key" onClick=${() => setEditing(true)}>${held ? "Change key" : "Enter key"}</button>`}
    ${held && html`<button type="button" class="quiet" data-testid="forget-key" onClick=${() => setKey("")}>Forget key</button>`}
  </div>`;
}

function describe(who, held) {
  if (who.state === "loading") return "Connecting";
  if (who.state === "down") return "No connection";
  if (who.state === "locked") return held ? "This key is not accepted" : "This server needs a key";
  if (who.open) return "Local use: no key needed yet";
  return `${who.name ? `${who.name}, ` : ""}${who.role}`;
}
