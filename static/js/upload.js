// Uploads a ZIP or single images into a dataset, and shows what became of every file.
import { upload } from "./api.js";
import { Card, Dropzone, Field, Notes, Progress } from "./components.js";
import { fail } from "./notices.js";
import { Receipt } from "./receipt.js";
import { RejectedTable } from "./rejected.js";
import { bytes, count, percent } from "./text.js";
import { html, useEffect, useRef, useState } from "./view.js";

const isZip = (file) => /\.zip$/i.test(file.name) || /zip/.test(file.type);

export function Upload({ dataset, onDone }) {
  const [waiting, setWaiting] = useState([]);
  const [moving, setMoving] = useState(null);
  const [report, setReport] = useState(null);
  const stop = useRef(null);
  useEffect(() => () => stop.current?.abort(), []);

  const start = async (files, facts = {}) => {
    setWaiting([]);
    setReport(null);
    stop.current = new AbortController();
    try {
      const found = await sendAll(dataset.id, files, facts, stop.current.signal, setMoving);
      if (found) setReport(found);
    } catch (problem) {
      fail(problem);
    }
    setMoving(null);
    onDone();
  };
  // A ZIP says its own classes and goes at once; single images are asked for theirs first.
  const choose = (files) => (files.every(isZip) ? start(files) : setWaiting(files));

  return html`<${Card} title="Upload images" id="upload-title">
    ${moving
      ? html`<${Moving} moving=${moving} onStop=${() => stop.current?.abort()} />`
      : html`<${Dropzone} id="upload-file" testid="upload-file" multiple accept=".zip,.dcm,.dicom,.png,.jpg,.jpeg,application/zip,application/dicom,image/png,image/jpeg,*/*"
          title="Choose a ZIP or images, or drop them here" hint="DICOM, PNG or JPEG. Patient details are removed before anything is stored." onFiles=${choose} />`}
    ${waiting.length > 0 && html`<${Ask} files=${waiting} classes=${Object.keys(dataset.classes)} onStart=${(facts) => start(waiting, facts)} onDrop=${() => setWaiting([])} />`}
    ${report && html`<${Report} report=${report} />`}
    <details><summary>How should the ZIP look?</summary>
      <p>Either one folder per class:</p>
      <pre>benign/0001.dcm${"\n"}malignant/0002.dcm</pre>
      <p>or images with a table named <code>labels.csv</code>. The columns <code>patient</code> and <code>split</code> (train, validation, test) may be left out:</p>
      <pre>file,label,patient,split${"\n"}0001.png,benign,A17,train${"\n"}0002.png,malignant,B04,test</pre>
      <p>Patient numbers keep all images of one patient together. They are turned into keys and never stored. DICOM files bring their own.</p>
    </details>
  <//>`;
}

const COUNTS = ["files", "images", "duplicates", "rejected_total", "files_without_label", "files_without_patient"];

/** The server counts in each upload; here the counts of all of them are told instead. */
const isCount = (notice) => /^\d+ files? (has|have|names?) no (label|patient)/.test(notice);

/** The counts as sentences. */
function counted({ files_without_label: unlabelled, files_without_patient: nameless }) {
  return [
    unlabelled > 0 && `${count(unlabelled, "file has", "files have")} no label: kept, and only pretraining can learn from ${unlabelled === 1 ? "it" : "them"}.`,
    nameless > 0 && `${count(nameless, "file names", "files name")} no patient; ${nameless === 1 ? "it counts" : "each counts"} as a patient of its own. Give the patient number, or a column "patient" in labels.csv, when one patient has several images.`,
  ].filter(Boolean);
}

async function sendAll(id, files, facts, signal, show) {
  const sum = { files: 0, images: 0, duplicates: 0, rejected_total: 0, files_without_label: 0, files_without_patient: 0, receipt: [], rejected: [], notices: [] };
  const total = files.reduce((size, file) => size + file.size, 0) || 1;
  let before = 0;
  for (const [at, file] of files.entries()) {
    const place = { file: file.name, at: at + 1, of: files.length, total };
    const onProgress = (loaded) => show({ ...place, loaded: before + Math.min(loaded, file.size) });
    show({ ...place, loaded: before });
    try {
      const report = await upload(`/datasets/${id}/uploads`, {
        query: { file: file.name, ...facts },
        body: file,
        type: "application/octet-stream",
        onProgress: (loaded, all) => onProgress(all === 1 ? file.size : loaded),
        signal,
      });
      for (const name of COUNTS) sum[name] += report[name];
      sum.receipt = sum.receipt.concat(report.receipt);
      sum.rejected = sum.rejected.concat(report.rejected);
      sum.notices.push(...report.notices.filter((notice) => !isCount(notice) && !sum.notices.includes(notice)));
    } catch (problem) {
      if (problem.name === "AbortError") {
        sum.notices.push(`You stopped the upload at ${file.name}. What was uploaded before stays.`);
        return sum;
      }
      // One bad image among many is a line of the report; anything else ends the upload.
      if (files.length === 1 || problem.status !== 422) throw problem;
      sum.rejected.push({ file: file.name, reason: problem.detail || problem.title });
      sum.rejected_total += 1;
    }
    before += file.size;
  }
  return sum;
}

function Moving({ moving, onStop }) {
  const share = moving.loaded / moving.total;
  const reading = share >= 1;
  const part = moving.of > 1 ? `File ${moving.at} of ${moving.of}: ` : "";
  return html`<div class="moving" role="status" data-testid="upload-progress">
    <p><strong class="break">${part}${moving.file}</strong></p>
    <${Progress} label="Upload" share=${reading ? null : share} />
    <div class="buttons"><span class="hint grow">${reading
      ? "Uploaded. The server is reading and checking the files."
      : `${bytes(moving.loaded)} of ${bytes(moving.total)}, ${percent(share)}`}</span>
      <button type="button" onClick=${onStop}>Stop</button></div>
  </div>`;
}

function Ask({ files, classes, onStart, onDrop }) {
  const [label, setLabel] = useState("");
  const [patient, setPatient] = useState("");
  const submit = (event) => {
    event.preventDefault();
    onStart({ label: label.trim(), patient: patient.trim() });
  };
  return html`<form class="ask" onSubmit=${submit}>
    <p><strong>${count(files.length, "file")} chosen</strong>, ${bytes(files.reduce((sum, file) => sum + file.size, 0))}</p>
    <div class="grid two">
      <${Field} label="Class of these images" id="upload-label" hint="Without a class, only pretraining learns from them.">
        <input id="upload-label" data-testid="upload-label" list="known-classes" value=${label} onInput=${(event) => setLabel(event.target.value)} />
        <datalist id="known-classes">${classes.map((name) => html`<option value=${name}></option>`)}</datalist><//>
      <${Field} label="Patient number, if all are of one patient" id="upload-patient" hint="Turned into a key, never stored.">
        <input id="upload-patient" data-testid="upload-patient" autocomplete="off" value=${patient} onInput=${(event) => setPatient(event.target.value)} /><//>
    </div>
    <div class="buttons"><button type="submit" class="primary" data-testid="upload-start">Upload ${count(files.length, "file")}</button>
      <button type="button" onClick=${onDrop}>Choose others</button></div>
  </form>`;
}

function Report({ report }) {
  const bad = report.rejected_total;
  return html`<div class="report" role="status" data-testid="upload-report">
    <h3>What became of the upload</h3>
    <ul class="tiles">
      <li><b data-testid="report-images">${report.images.toLocaleString("en")}</b> ${report.images === 1 ? "image" : "images"} kept<small>from ${count(report.files, "file")}</small></li>
      <li><b data-testid="report-duplicates">${report.duplicates.toLocaleString("en")}</b> already there<small>not added again</small></li>
      <li class=${bad ? "bad" : ""}><b data-testid="report-rejected">${bad.toLocaleString("en")}</b> not taken<small>${bad ? "reasons below" : "nothing was lost"}</small></li>
    </ul>
    <${Notes} notices=${[...counted(report), ...report.notices]} />
    <${Receipt} report=${report} />
    ${bad > 0 && html`<${RejectedTable} files=${report.rejected} />`}
  </div>`;
}
