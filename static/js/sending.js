// Sends uploads one after the other, tells how far they are, and adds up what became of them.
import { get, Problem, upload, uuid } from "./api.js";
import { zip } from "./zip.js";

/** Milliseconds before the first question how far the server is, and the most before another one. */
const LOOK = { first: 100, most: 1000 };
/** Of many uploads one is tried again, after a pause in milliseconds, when nothing is wrong with it. */
const TRIES = { busy: 100, unavailable: 20, unreachable: 5 };
const PAUSE = 5000;
/** Shares of one upload's bar: files are looked at here, sent, and read by the server. */
const SHARES = { packing: [0, 0.1], sending: [0.1, 0.6], reading: [0.6, 1] };

/** What each upload counts, and the page for all of them together. */
const COUNTS = ["files", "images", "duplicates", "rejected_total", "files_without_label", "files_without_patient"];
/** The server's own words for counts, which the page says of the sums. */
const isCount = (notice) => /^[\d,]+ files? (?:has|have|names?) no (?:label|patient)/.test(notice);

/** Resolves to `{ sum, problem }`: the report of everything that was taken in, and what stopped it. */
export async function sendAll(dataset, uploads, facts, { signal, show }) {
  const sum = { ...Object.fromEntries(COUNTS.map((name) => [name, 0])), receipt: [], rejected: [], notices: [] };
  const total = Math.max(1, uploads.reduce((bytes, one) => bytes + size(one), 0));
  let before = 0;
  for (const [at, one] of uploads.entries()) {
    const own = size(one);
    const tell = (stage, share, more = {}) => {
      const [from, to] = SHARES[stage];
      const part = from + (to - from) * Math.min(1, share);
      show({ name: one.name, at: at + 1, of: uploads.length, stage, share: (before + own * part) / total, ...more });
    };
    try {
      add(sum, await send(dataset, one, facts, { signal, tell, sum, many: uploads.length > 1 }), one.prefix ?? "");
    } catch (problem) {
      if (problem.name === "AbortError") {
        sum.notices.push("You stopped the upload. What the server had received whole by then is kept.");
        return { sum, problem: null };
      }
      // One bad file among many is a line of the report; anything else ends the upload.
      if (uploads.length === 1 || one.entries || problem.status !== 422) return { sum, problem };
      reject(sum, one.name, problem.detail || problem.title);
    }
    before += own;
  }
  return { sum, problem: null };
}

function reject(sum, file, reason) {
  sum.rejected.push({ file, reason });
  sum.rejected_total += 1;
}

function size({ file, entries }) {
  return file ? file.size : entries.reduce((bytes, one) => bytes + one.file.size, 0);
}

async function send(dataset, one, facts, { signal, tell, sum, many }) {
  const body = one.file ?? (await pack(one.entries, { signal, tell, sum }));
  const query = { file: one.name, ...facts };
  for (let tried = 1; ; tried += 1) {
    try {
      return await sendOnce(dataset, body, query, { signal, tell });
    } catch (problem) {
      if (signal.aborted || tried >= (TRIES[problem.code] ?? 1) || !many) throw problem;
    }
    tell("sending", 0, { waiting: true });
    await sleep(PAUSE, signal);
  }
}

async function sendOnce(dataset, body, query, { signal, tell }) {
  const id = uuid();
  const asking = new AbortController();
  let reading = false;
  const onProgress = (loaded, all) => {
    if (reading) return;
    if (loaded < all) {
      tell("sending", loaded / all, { loaded, all });
      return;
    }
    reading = true;
    tell("reading", 0, { read: 0, files: 0 });
    watch(id, asking.signal, (read, files) => tell("reading", files ? read / files : 0, { read, files }));
  };
  tell("sending", 0, { loaded: 0, all: body.size });
  try {
    return await upload(`/datasets/${dataset}/uploads`, { query: { ...query, progress: id }, body, type: "application/octet-stream", onProgress, signal });
  } finally {
    asking.abort();
  }
}

async function pack(entries, { signal, tell, sum }) {
  const total = entries.reduce((bytes, one) => bytes + one.file.size, 0) || 1;
  const onUnreadable = ({ path }) => reject(sum, path, "could not be read on this computer; it may have been moved or be open elsewhere");
  tell("packing", 0);
  return zip(entries, { signal, onUnreadable, onRead: (read) => tell("packing", read / total) });
}

/** Asks how many files the server has read until the upload has its answer, more seldom the longer it takes. */
async function watch(id, signal, onRead) {
  for (let pause = LOOK.first; ; pause = Math.min(LOOK.most, 1.5 * pause)) {
    await sleep(pause, signal);
    if (signal.aborted) return;
    try {
      const { stage, files_read: read, files_total: files } = await get(`/uploads/${id}`, {}, signal);
      if (!signal.aborted && stage === "reading") onRead(read, files);
    } catch {
      // The upload itself says what became of it.
    }
  }
}

function sleep(milliseconds, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, milliseconds);
    signal.addEventListener("abort", () => { clearTimeout(timer); resolve(); }, { once: true });
  });
}

function add(sum, report, prefix) {
  for (const name of COUNTS) sum[name] += report[name];
  const named = ({ file, ...rest }) => ({ ...rest, file: prefix && file.startsWith(prefix) ? file.slice(prefix.length) : file });
  sum.receipt = sum.receipt.concat(report.receipt.map(named));
  sum.rejected = sum.rejected.concat(report.rejected.map(named));
  sum.notices = sum.notices.concat(report.notices.filter((notice) => !isCount(notice) && !sum.notices.includes(notice)));
}

/** What to say where nothing of what was given can be sent. */
export function nothingToSend(left) {
  return new Problem({
    title: "There is nothing to upload",
    detail: left > 0 ? "It holds only hidden files, programs and documents. Choose DICOM, PNG or JPEG files, or a ZIP of them." : "The folder is empty.",
    code: "empty",
  });
}
