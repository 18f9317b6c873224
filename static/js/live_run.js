// Follows one run: its row, its events as they come, its curves and its log.
import { get } from "./api.js";
import { follow } from "./events.js";
import { fail } from "./notices.js";
import { addPoint, newPoints, setAside } from "./points.js";
import { isFinal } from "./run_table.js";
import { useEffect, useRef, useState } from "./view.js";

const MOST_LINES = 2000;

/** `round` starts the following again, after a retry. */
export function useLiveRun(id, run, replace, round) {
  const [lost, setLost] = useState(false);
  const [, redraw] = useState(0);
  // Written by events faster than the screen is drawn; drawn once a frame.
  const facts = useRef({ log: [], points: newPoints(), seen: 0 });
  const latest = useRef(run);
  latest.current = run;
  const known = run !== null;

  useEffect(() => {
    if (!known) return undefined;
    const stop = new AbortController();
    let frame = 0;
    const draw = () => {
      frame ||= requestAnimationFrame(() => { frame = 0; redraw((count) => count + 1); });
    };
    const refresh = async () => {
      const fresh = await get(`/runs/${id}`, {}, stop.signal);
      replace(fresh);
      return fresh;
    };
    const onEvent = ({ data }) => {
      const event = JSON.parse(data);
      // A stream that starts over after a retry repeats what is known.
      if (event.sequence <= facts.current.seen) return;
      facts.current.seen = event.sequence;
      if (event.event === "status") {
        // The row is the truth: a replayed event may be of an earlier attempt.
        refresh().catch(() => {});
        if (event.status === "queued") setAside(facts.current.points);
        log(facts.current, event.at, event.detail ? `${event.status}: ${event.detail}` : event.status, "status");
      } else if (event.event === "progress") {
        if (latest.current && !isFinal(latest.current.status)) replace({ ...latest.current, progress: event.progress });
      } else if (event.event === "metric") {
        addPoint(facts.current.points, event.name, event.step, event.value);
      } else if (event.event === "log") {
        log(facts.current, event.at, event.message, "line");
      }
      draw();
    };

    const finished = async () => isFinal((await refresh()).status);
    follow(`/runs/${id}/events`, { signal: stop.signal, onEvent, onLost: setLost, finished }).catch(fail);
    // The place in the queue changes without an event of this run.
    const timer = setInterval(() => {
      if (latest.current && !isFinal(latest.current.status)) refresh().catch(() => {});
    }, 5000);
    return () => {
      stop.abort();
      clearInterval(timer);
      cancelAnimationFrame(frame);
    };
  }, [id, known, round]);

  return { lost: lost && run && !isFinal(run.status), log: facts.current.log, curves: facts.current.points.shown };
}

function log(facts, at, text, kind) {
  facts.log.push({ at, text, kind });
  if (facts.log.length > MOST_LINES) facts.log.splice(0, facts.log.length - MOST_LINES);
}
