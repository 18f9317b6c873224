// What became of an upload: what was kept, what was there already, and why the rest was not taken.
import { Notes } from "./components.js";
import { Receipt } from "./receipt.js";
import { RejectedTable } from "./rejected.js";
import { count } from "./text.js";
import { html } from "./view.js";

export function UploadReport({ report }) {
  const bad = report.rejected_total;
  const unlisted = bad - report.rejected.length;
  return html`<div class="report" role="status" data-testid="upload-report">
    <h3>What became of the upload</h3>
    <ul class="tiles">
      <li><b data-testid="report-images">${report.images.toLocaleString("en")}</b> ${report.images === 1 ? "image" : "images"} kept<small>from ${count(report.files, "file")}</small></li>
      <li><b data-testid="report-duplicates">${report.duplicates.toLocaleString("en")}</b> already there<small>not added again</small></li>
      <li class=${bad ? "bad" : ""}><b data-testid="report-rejected">${bad.toLocaleString("en")}</b> not taken<small>${bad ? "reasons below" : "nothing was lost"}</small></li>
    </ul>
    <${Notes} notices=${[...counted(report), ...report.notices]} />
    <${Receipt} report=${report} />
    ${report.rejected.length > 0 && html`<${RejectedTable} files=${report.rejected} />`}
    ${unlisted > 0 && html`<p class="hint">${count(unlisted, "further file")} not listed.</p>`}
  </div>`;
}

/** The counts as sentences. */
function counted({ files_without_label: unlabelled, files_without_patient: nameless }) {
  return [
    unlabelled > 0 && `${count(unlabelled, "file has", "files have")} no label: kept, and only pretraining can learn from ${unlabelled === 1 ? "it" : "them"}.`,
    nameless > 0 && `${count(nameless, "file names", "files name")} no patient; ${nameless === 1 ? "it counts" : "each counts"} as a patient of its own. Give the patient number, or a column "patient" in labels.csv, when one patient has several images.`,
  ].filter(Boolean);
}
