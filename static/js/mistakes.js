// The test images that a run got wrong, the surest mistakes first.
import { get } from "./api.js";
import { Card, Empty, Loaded } from "./components.js";
import { fail } from "./notices.js";
import { name, Picture, previewUrl } from "./picture.js";
import { useResource } from "./resource.js";
import { count, percent } from "./text.js";
import { Viewer } from "./viewer.js";
import { html, useState } from "./view.js";

const PAGE = 24;

export function Mistakes({ run }) {
  const { labels } = run.evaluation;
  const [shown, setShown] = useState(PAGE);
  const [open, setOpen] = useState(null);
  const resource = useResource((signal) => get(`/runs/${run.id}/predictions`, {}, signal), [run.id]);
  const look = async (id) => {
    try {
      setOpen(await get(`/images/${id}`));
    } catch (problem) {
      fail(problem);
    }
  };
  return html`<${Card} title="Wrong predictions" id="mistakes-title" testid="mistakes">
    <${Loaded} resource=${resource} what="predictions">${({ items }) => {
      const wrong = mistakes(items, labels);
      if (wrong.length === 0) return html`<${Empty} title="None">Every one of the ${count(items.length, "test image")} was named correctly.<//>`;
      return html`<p>${count(wrong.length, "test image")} named wrongly, the most confident mistakes first. Look at them: often a label is wrong, or the image is of a kind that the training images lack.</p>
        <ul class="thumbs">${wrong.slice(0, shown).map((item) => html`<li key=${item.image}><button type="button" class="thumb" data-testid="mistake" onClick=${() => look(item.image)}>
          <${Picture} url=${previewUrl(item.image, { max_side: 160 })} alt="" />
          <span class="caption">is <b>${item.truth}</b></span><span class="caption">said <b>${item.said}</b>, ${percent(item.certainty)}</span>
          <span class="caption file">${name(item)}</span>
        </button></li>`)}</ul>
        ${wrong.length > shown && html`<div class="buttons"><button type="button" onClick=${() => setShown(shown + PAGE)}>Show more</button></div>`}`;
    }}<//>
    ${open && html`<${Viewer} image=${open} onClose=${() => setOpen(null)} />`}
  <//>`;
}

function mistakes(items, labels) {
  return items
    .map((item) => {
      const certainty = Math.max(...item.probabilities);
      return { ...item, certainty, said: labels[item.probabilities.indexOf(certainty)] };
    })
    .filter((item) => item.said !== item.truth)
    .sort((one, other) => other.certainty - one.certainty);
}
