// The shell of the page: header, navigation, messages, and the page that the address names.
import { BackbonePage } from "./js/backbone.js";
import { BackbonesPage } from "./js/backbones.js";
import { DatasetPage } from "./js/dataset.js";
import { DatasetsPage } from "./js/datasets.js";
import { KeysPage } from "./js/keys.js";
import { ModelPage } from "./js/model.js";
import { ModelsPage } from "./js/models.js";
import { clearNotices, Notices } from "./js/notices.js";
import { OverviewPage } from "./js/overview.js";
import { useRoute } from "./js/router.js";
import { RunPage } from "./js/run.js";
import { RunsPage } from "./js/runs.js";
import { allows, KeyBox, useSession } from "./js/session.js";
import { Empty, Page } from "./js/components.js";
import { html, render, useEffect, useRef } from "./js/view.js";

const PLACES = [
  ["", "Overview"],
  ["backbones", "Backbones"],
  ["datasets", "Datasets"],
  ["runs", "Runs"],
  ["models", "Models"],
  ["keys", "Keys"],
];

function Current({ parts, query }) {
  const [place = "", id] = parts;
  if (parts.length > 2) return html`<${Missing} />`;
  if (place === "") return html`<${OverviewPage} />`;
  if (place === "datasets") return id ? html`<${DatasetPage} key=${id} id=${id} />` : html`<${DatasetsPage} />`;
  if (place === "runs") return id ? html`<${RunPage} key=${id} id=${id} />` : html`<${RunsPage} query=${query} />`;
  if (place === "models") return id ? html`<${ModelPage} key=${id} id=${id} />` : html`<${ModelsPage} />`;
  if (place === "backbones") return id ? html`<${BackbonePage} key=${id} id=${id} />` : html`<${BackbonesPage} />`;
  if (place === "keys" && !id) return html`<${KeysPage} />`;
  return html`<${Missing} />`;
}

/** Nothing is asked of the server before it is known whether a key is needed. */
function Place({ state, parts, query }) {
  if (state === "loading") return html`<p class="loading" role="status">Connecting</p>`;
  return state === "locked" ? html`<${Locked} />` : html`<${Current} parts=${parts} query=${query} />`;
}

function Missing() {
  return html`<${Page} title="Page not found">
    <${Empty} title="There is no page at this address">Go back to the <a href="#/">overview</a>.<//>
  <//>`;
}

function Locked() {
  return html`<${Page} title="An access key is needed">
    <div class="card" data-testid="locked"><p>Paste your access key in the box at the top right and press "Use key". Keys start with <code>lvmed_</code>; the person who runs this server hands them out.</p>
    <p class="hint">The key stays in this browser tab and is forgotten when you close it.</p></div>
  <//>`;
}

function App() {
  const { parts, query } = useRoute();
  const who = useSession();
  const main = useRef(null);
  const first = useRef(true);
  const place = parts.join("/");

  useEffect(() => {
    clearNotices();
    if (first.current) {
      first.current = false;
      return;
    }
    window.scrollTo(0, 0);
    main.current?.focus({ preventScroll: true });
  }, [place]);

  const skip = (event) => {
    event.preventDefault();
    main.current?.focus();
  };
  const links = PLACES.filter(([name]) => name !== "keys" || allows(who, "admin"));
  return html`<a class="skip" href="#main" onClick=${skip}>Skip to the content</a>
    <header><div class="bar-inner">
      <a class="brand" href="#/"><img src="/static/icon.svg" alt="" width="26" height="26" />LVM-Med</a>
      <nav aria-label="Main">${links.map(([name, text]) => html`<a key=${name} href=${`#/${name}`} aria-current=${(parts[0] ?? "") === name ? "page" : undefined}>${text}</a>`)}</nav>
      <${KeyBox} />
    </div></header>
    <main id="main" tabindex="-1" ref=${main}>
      <${Notices} />
      <${Place} state=${who.state} parts=${parts} query=${query} />
    </main>
    <footer>Research use. Results are not for clinical decisions. <a href="/docs">Interface for programs</a></footer>`;
}

// What is dropped beside the place for it would replace the page, and end an upload that goes on.
for (const kind of ["dragover", "drop"]) addEventListener(kind, (event) => event.preventDefault());

const root = document.getElementById("app");
root.replaceChildren();
render(html`<${App} />`, root);
