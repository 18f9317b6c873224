// Reads a server-sent event stream through fetch, since EventSource cannot send the key.
import { path, send } from "./api.js";

/** Calls `onEvent` for each event until a stream ends and `finished()` says so; reconnects otherwise. */
export async function follow(route, { signal, onEvent, onLost, finished }) {
  let last = "";
  let pause = 1000;
  while (!signal.aborted) {
    try {
      const headers = { Accept: "text/event-stream", ...(last ? { "Last-Event-ID": last } : {}) };
      const response = await send("GET", path(route), { headers, signal });
      for await (const event of parse(response.body)) {
        if (event.id) last = event.id;
        pause = 1000;
        onLost(false);
        onEvent(event);
      }
      if (await finished()) return;
    } catch (problem) {
      if (signal.aborted) return;
      if (problem.status === 401 || problem.status === 403 || problem.status === 404) throw problem;
      onLost(true);
    }
    await sleep(pause, signal);
    pause = Math.min(pause * 2, 15000);
  }
}

function sleep(milliseconds, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, milliseconds);
    signal.addEventListener("abort", () => { clearTimeout(timer); resolve(); }, { once: true });
  });
}

/** The events of a stream, as the HTML standard's "event stream interpretation" reads them. */
async function* parse(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let event = { id: "", data: [] };
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const lines = (rest + value).split(/\r\n|\n|\r(?!$)/);
      rest = lines.pop();
      for (const line of lines) {
        if (line === "") {
          if (event.data.length) yield { id: event.id, data: event.data.join("\n") };
          event = { id: "", data: [] };
        } else {
          take(event, line);
        }
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

function take(event, line) {
  const colon = line.indexOf(":");
  if (colon === 0) return;
  const field = colon < 0 ? line : line.slice(0, colon);
  const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
  if (field === "id") event.id = value;
  if (field === "data") event.data.push(value);
}
