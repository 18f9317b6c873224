// The newest matched pair of graphs of a pretraining run: its picture, in words, and as a table.
import { get } from "./api.js";
import { Card } from "./components.js";
import { Legend, LEVELS, MatchingPicture } from "./matching_picture.js";
import { isFinal } from "./run_table.js";
import { count, percent } from "./text.js";
import { html, useEffect, useState } from "./view.js";

/** Milliseconds between two looks while the run goes on. */
const PAUSE = 4000;

export function Matching({ run, curves }) {
  // Asked for once the run has matched something: before, there is nothing to show.
  const pair = useNewest(run, curves.has("matching_accuracy"));
  if (run.spec.objective.kind !== "matching") return null;
  return pair ? html`<${Shown} key=${run.id} pair=${pair} run=${run} />` : null;
}

function useNewest(run, ready) {
  const [pair, setPair] = useState(null);
  const over = isFinal(run.status);
  useEffect(() => {
    if (!ready) return undefined;
    const stop = new AbortController();
    let timer = 0;
    const look = async () => {
      if (!document.hidden) {
        try {
          const found = await get(`/runs/${run.id}/matching`, {}, stop.signal);
          setPair((known) => (known?.step === found.step ? known : found));
        } catch {
          // None yet, or no connection: the next look may find it.
        }
      }
      if (!over && !stop.signal.aborted) timer = setTimeout(look, PAUSE);
    };
    // The picture comes a moment after the first numbers.
    timer = setTimeout(look, over ? 0 : 1000);
    return () => {
      stop.abort();
      clearTimeout(timer);
    };
  }, [run.id, ready, over]);
  return pair;
}

/** Each image of the first view with what was found for it, and the range of the affinities found. */
export function links({ partners, affinity }) {
  const found = partners.map((partner, node) => (partner === null || partner === undefined ? null : affinity[node][partner]));
  const given = found.filter((value) => value !== null);
  const [low, high] = given.length ? [Math.min(...given), Math.max(...given)] : [0, 0];
  const level = (value) => (high > low ? Math.min(LEVELS - 1, Math.floor(((value - low) / (high - low)) * LEVELS)) : LEVELS - 1);
  const rows = found.map((value, node) => ({ node, value, partner: value === null ? null : partners[node], right: partners[node] === node, level: value === null ? 0 : level(value) }));
  return { rows, low, high };
}

function Shown({ pair, run }) {
  const [chosen, setChosen] = useState(null);
  const { rows: found, low, high } = links(pair);
  const total = found.length;
  const right = found.filter((link) => link.right).length;
  const alone = found.filter((link) => link.partner === null).length;
  const goesOn = !isFinal(run.status);
  return html`<${Card} title="Which images the network takes for the same" id="matching-title" testid="matching">
    <p class="verdict" data-testid="matching-accuracy">At step ${pair.step.toLocaleString("en")}, <strong>${right} of ${count(total, "image")}</strong> were matched with themselves (${percent(right / total)})${alone > 0 ? `; ${alone} stayed alone` : ""}. Guessing finds about one.${goesOn ? " The picture is renewed while the run goes on." : ""}</p>
    <div class="matching">
      <${MatchingPicture} pair=${pair} links=${found} chosen=${chosen} onChoose=${setChosen} text=${`${right} of ${total} images are matched with themselves, ${total - right - alone} with another image, ${alone} with none.`} />
      <div class="matching-words">
        <p>Each image is shown to the network twice, cropped and coloured differently: left the first view, right the second. The network says which belong together. A level line is right; a slanting one is a mistake.</p>
        <${Legend} low=${low} high=${high} alone=${alone} />
        <${Chosen} pair=${pair} link=${found[chosen ?? -1]} />
        <p class="hint">The thin curves at the sides join the images that resemble each other most; the matching respects them as well. Some mistakes are normal: chance is added while training so that the network must be clear. This is one group of images; the curve of the matching accuracy counts all of them.</p>
      </div>
    </div>
    <details><summary>The same as a table</summary><${Table} pair=${pair} links=${found} /></details>
  <//>`;
}

const words = ({ node, partner, right, value }) => {
  if (partner === null) return `Image ${node + 1} found no partner.`;
  return right ? `Image ${node + 1} was matched with itself. Affinity ${value.toFixed(2)}.` : `Image ${node + 1} was taken for image ${partner + 1}. Affinity ${value.toFixed(2)}.`;
};

function Chosen({ pair, link }) {
  if (!link) return html`<p class="hint">Point at an image to see it larger.</p>`;
  const second = link.partner ?? link.node;
  return html`<figure class="chosen-pair">
    <img src=${pair.nodes[link.node].first} alt=${`Image ${link.node + 1}, first view`} />
    <img src=${pair.nodes[second].second} alt=${`Image ${second + 1}, second view`} class=${link.partner === null ? "absent" : ""} />
    <figcaption>${words(link)}${!link.right && link.partner !== null ? ` With its own second view it has ${pair.affinity[link.node][link.node].toFixed(2)}.` : ""}</figcaption>
  </figure>`;
}

function Table({ pair, links: rows }) {
  return html`<div class="scroll short" tabindex="0" role="region" aria-label="Matched images"><table data-testid="matching-table">
    <thead><tr><th>First view</th><th>Matched with the second view of</th><th class="num">Affinity</th><th>Right?</th></tr></thead>
    <tbody>${rows.map(({ node, partner, right, value }) => html`<tr key=${node}>
      <td class="nowrap"><img class="mini" src=${pair.nodes[node].first} alt="" /> Image ${node + 1}</td>
      <td class="nowrap">${partner === null ? "none" : html`<img class="mini" src=${pair.nodes[partner].second} alt="" /> Image ${partner + 1}`}</td>
      <td class="num">${value === null ? "" : value.toFixed(2)}</td>
      <td>${right ? "yes" : "no"}</td>
    </tr>`)}</tbody>
  </table></div>`;
}
