// Two graphs side by side: thumbnails, their own edges at the sides, the matching between them.
import { html, useEffect, useRef, useState } from "./view.js";

const HEAD = 26;

/** Shades of a match, from a weak affinity to a high one. */
export const LEVELS = 5;

/** Sizes in pixels: the picture is drawn for the width it has, so that thumbnails stay legible. */
function layout(width, nodes) {
  const pitch = nodes <= 20 ? 44 : nodes <= 40 ? 32 : 24;
  const thumb = pitch - 6;
  const side = Math.max(34, Math.min(84, width * 0.13));
  const left = side;
  const right = width - side - thumb;
  return { width, height: HEAD + nodes * pitch + 4, thumb, side, left, right, top: (node) => HEAD + node * pitch, middle: (node) => HEAD + node * pitch + thumb / 2 };
}

export function MatchingPicture({ pair, links, chosen, onChoose, text }) {
  const box = useRef(null);
  const [width, setWidth] = useState(0);
  useEffect(() => {
    const measure = () => setWidth(Math.min(620, box.current.clientWidth));
    const watch = new ResizeObserver(measure);
    watch.observe(box.current);
    measure();
    return () => watch.disconnect();
  }, []);
  return html`<div class="matching-box" ref=${box}>${width > 0 && html`<${Drawing} pair=${pair} links=${links} chosen=${chosen} onChoose=${onChoose} text=${text} at=${layout(width, pair.nodes.length)} />`}</div>`;
}

function Drawing({ pair, links, chosen, onChoose, text, at }) {
  const matchedBy = new Map(links.filter(({ partner }) => partner !== null).map(({ node, partner }) => [partner, node]));
  const line = (link) => html`<line key=${link.node} class=${`match level-${link.level} ${link.right ? "right" : "wrong"}${chosen === link.node ? " chosen" : ""}`}
    x1=${at.left + at.thumb + 3} y1=${at.middle(link.node)} x2=${at.right - 3} y2=${at.middle(link.partner)} onPointerEnter=${() => onChoose(link.node)} />`;
  const drawn = links.filter(({ partner }) => partner !== null);
  // The wrong ones, and the chosen one, lie on top.
  const order = (link) => (link.node === chosen ? 2 : link.right ? 0 : 1);
  const sorted = [...drawn].sort((one, other) => order(one) - order(other));
  return html`<svg class=${chosen === null ? "pair" : "pair picking"} width=${at.width} height=${at.height} viewBox=${`0 0 ${at.width} ${at.height}`} role="img" aria-labelledby="pair-name pair-text" onPointerLeave=${() => onChoose(null)}>
    <title id="pair-name">The matching of two views</title>
    <desc id="pair-text">${text} The table below says the same line by line.</desc>
    <text class="column" x=${at.left + at.thumb / 2} y="15" text-anchor="middle">First view</text>
    <text class="column" x=${at.right + at.thumb / 2} y="15" text-anchor="middle">Second view</text>
    <g class="edges">${arcs(pair.first_edges, at, at.left - 3, -1)}${arcs(pair.second_edges, at, at.right + at.thumb + 3, 1)}</g>
    <g>${sorted.map(line)}</g>
    ${pair.nodes.map(({ first, second }, node) => html`<g key=${node}>
      <${Thumb} url=${first} x=${at.left} y=${at.top(node)} side=${at.thumb} on=${chosen === node} onEnter=${() => onChoose(node)} />
      <${Thumb} url=${second} x=${at.right} y=${at.top(node)} side=${at.thumb} on=${chosen !== null && matchedBy.get(node) === chosen} onEnter=${() => matchedBy.has(node) && onChoose(matchedBy.get(node))} />
    </g>`)}
  </svg>`;
}

function Thumb({ url, x, y, side, on, onEnter }) {
  return html`<g class=${on ? "node chosen" : "node"} onPointerEnter=${onEnter}>
    <image href=${url} x=${x} y=${y} width=${side} height=${side} preserveAspectRatio="xMidYMid slice" />
    <rect x=${x} y=${y} width=${side} height=${side} rx="3" /></g>`;
}

/** Each pair of neighbours once, as an arc that bulges further the further they are apart. */
function arcs(edges, at, x, direction) {
  const seen = new Set(edges.map(([from, to]) => `${Math.min(from, to)}-${Math.max(from, to)}`));
  const most = at.side - 8;
  return [...seen].map((name) => {
    const [one, other] = name.split("-").map(Number);
    const [from, to] = [at.middle(one), at.middle(other)];
    const bulge = x + direction * Math.min(most * 1.33, 10 + (to - from) * 0.22);
    return html`<path key=${name} d=${`M ${x} ${from} C ${bulge} ${from}, ${bulge} ${to}, ${x} ${to}`} />`;
  });
}

export function Legend({ low, high, alone }) {
  const sample = (name) => html`<svg width="44" height="12" aria-hidden="true"><line class=${`match ${name}`} x1="2" x2="42" y1="6" y2="6" /></svg>`;
  return html`<ul class="legend">
    <li><span class="levels">${Array.from({ length: LEVELS }, (_, level) => html`<svg width="9" height="12" aria-hidden="true"><line class=${`match right level-${level}`} x1="0" x2="9" y1="6" y2="6" /></svg>`)}</span>
      matched with itself: from the weakest affinity here (${low.toFixed(2)}) to the strongest (${high.toFixed(2)})</li>
    <li>${sample("wrong")} taken for another image; paler when less alike</li>
    ${alone > 0 && html`<li>no line: stayed alone</li>`}
    <li><svg width="44" height="16" aria-hidden="true" class="edges"><path d="M 8 1 C 40 1, 40 15, 8 15" /></svg> neighbours: images that resemble each other</li>
  </ul>
  <p class="hint">Affinity is how alike the network finds two views.</p>`;
}
