// Uploads archives, images or whole folders into a dataset: what is chosen, what is asked about it,
// and how far it is.
import { Card, Dropzone, Field, FolderButton, Progress } from "./components.js";
import { worthSending } from "./folders.js";
import { fail } from "./notices.js";
import { commonRoot, onlyArchives, uploads } from "./parts.js";
import { nothingToSend, sendAll } from "./sending.js";
import { bytes, count } from "./text.js";
import { UploadReport } from "./upload_report.js";
import { html, useEffect, useRef, useState } from "./view.js";

export function Upload({ dataset, onDone }) {
  const [waiting, setWaiting] = useState(null);
  const [moving, setMoving] = useState(null);
  const [report, setReport] = useState(null);
  const stop = useRef(null);
  useEffect(() => () => stop.current?.abort(), []);
  useLeavingAsked(moving !== null);

  const start = async (files, facts = {}) => {
    setWaiting(null);
    setReport(null);
    stop.current = new AbortController();
    const { sum, problem } = await sendAll(dataset.id, uploads(files), facts, { signal: stop.current.signal, show: setMoving });
    if (problem) fail(problem);
    if (!problem || sum.files > 0) setReport(sum);
    setMoving(null);
    onDone();
  };
  // A ZIP says its own classes and goes at once; images and folders are asked about first.
  const choose = (given) => {
    const { files, left } = worthSending(given);
    if (files.length === 0) fail(nothingToSend(left));
    else if (onlyArchives(files)) start(files);
    else setWaiting({ files, left });
  };

  return html`<${Card} title="Upload images" id="upload-title">
    ${moving
      ? html`<${Moving} moving=${moving} onStop=${() => stop.current?.abort()} />`
      : html`<${Dropzone} id="upload-file" testid="upload-file" multiple accept=".zip,.dcm,.dicom,.png,.jpg,.jpeg,application/zip,application/dicom,image/png,image/jpeg,*/*"
            title="Choose a ZIP or images, or drop files or a folder here" hint="DICOM, PNG or JPEG. Patient details are removed before anything is stored." onFiles=${choose} />
          <div class="buttons"><${FolderButton} id="upload-folder" testid="upload-folder" label="Choose a folder" onFiles=${choose} />
            <span class="hint grow">with all folders inside it; each folder that holds images is a class</span></div>`}
    ${waiting && html`<${Ask} waiting=${waiting} classes=${Object.keys(dataset.classes)} onStart=${(facts) => start(waiting.files, facts)} onDrop=${() => setWaiting(null)} />`}
    ${report && html`<${UploadReport} report=${report} />`}
    <details><summary>How should a ZIP or a folder look?</summary>
      <p>Either one folder per class:</p>
      <pre>benign/0001.dcm${"\n"}malignant/0002.dcm</pre>
      <p>or images with a table named <code>labels.csv</code>. The columns <code>patient</code> and <code>split</code> (train, validation, test) may be left out:</p>
      <pre>file,label,patient,split${"\n"}0001.png,benign,A17,train${"\n"}0002.png,malignant,B04,test</pre>
      <p>Patient numbers keep all images of one patient together. They are turned into keys and never stored. DICOM files bring their own.</p>
    </details>
  <//>`;
}

/** The browser asks before a page is left that still sends files. */
function useLeavingAsked(busy) {
  useEffect(() => {
    if (!busy) return undefined;
    const ask = (event) => event.preventDefault();
    addEventListener("beforeunload", ask);
    return () => removeEventListener("beforeunload", ask);
  }, [busy]);
}

function Moving({ moving, onStop }) {
  const part = moving.of > 1 ? `Part ${moving.at} of ${moving.of}: ` : "";
  return html`<div class="moving" role="status" data-testid="upload-progress">
    <p><strong class="break">${part}${moving.name}</strong></p>
    <${Progress} label="Upload" share=${moving.share} />
    <div class="buttons"><span class="hint grow" data-testid="upload-stage">${doing(moving)}</span>
      <button type="button" data-testid="upload-stop" onClick=${onStop}>Stop</button></div>
  </div>`;
}

function doing({ stage, waiting, loaded, all, read, files }) {
  if (waiting) return "The server is busy or cannot be reached. Trying again";
  if (stage === "packing") return "Looking at the files on this computer";
  if (stage === "sending") return `Sending: ${bytes(loaded)} of ${bytes(all)}`;
  if (!files) return "Sent. The server is about to read the files";
  return `The server is reading and checking: ${read.toLocaleString("en")} of ${count(files, "file")}`;
}

function Ask({ waiting, classes, onStart, onDrop }) {
  const [label, setLabel] = useState("");
  const [patient, setPatient] = useState("");
  const { files, left } = waiting;
  const { folders, bare, table } = shape(files);
  const submit = (event) => {
    event.preventDefault();
    onStart({ label: label.trim(), patient: patient.trim() });
  };
  return html`<form class="ask" onSubmit=${submit} data-testid="upload-ask">
    <p><strong>${count(files.length, "file")} chosen</strong>, ${bytes(files.reduce((sum, { file }) => sum + file.size, 0))}${left > 0 && `; ${count(left, "hidden file, program or document", "hidden files, programs and documents")} left out`}</p>
    ${table && html`<p>The classes come from <code>labels.csv</code>.</p>`}
    ${!table && folders.length > 0 && html`<p>Each folder is a class: <strong>${folders.slice(0, 8).join(", ")}</strong>${folders.length > 8 && ` and ${folders.length - 8} more`}. Is that right? A folder per patient would make every patient a class.</p>`}
    <div class="grid two">
      ${bare && !table && html`<${Field} label=${folders.length > 0 ? "Class of the images outside of the folders" : "Class of these images"} id="upload-label" hint="Without a class, only pretraining learns from them.">
        <input id="upload-label" data-testid="upload-label" list="known-classes" value=${label} onInput=${(event) => setLabel(event.target.value)} />
        <datalist id="known-classes">${classes.map((name) => html`<option value=${name}></option>`)}</datalist><//>`}
      <${Field} label="Patient number, if all are of one patient" id="upload-patient" hint="Turned into a key, never stored.">
        <input id="upload-patient" data-testid="upload-patient" autocomplete="off" value=${patient} onInput=${(event) => setPatient(event.target.value)} /><//>
    </div>
    <div class="buttons"><button type="submit" class="primary" data-testid="upload-start">Upload ${count(files.length, "file")}</button>
      <button type="button" onClick=${onDrop}>Choose others</button></div>
  </form>`;
}

/** What the server will make of the paths: folders that hold files, files outside of any, a table. */
function shape(files) {
  const paths = files.map(({ path }) => path);
  const root = commonRoot(paths);
  const inner = paths.map((path) => path.slice(root.length));
  const folders = new Set(inner.map((path) => path.split("/").at(-2)).filter(Boolean));
  return {
    folders: [...folders].sort(),
    bare: inner.some((path) => !path.includes("/")),
    table: inner.some((path) => path.toLowerCase() === "labels.csv"),
  };
}
