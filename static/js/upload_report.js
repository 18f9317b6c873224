// What became of an upload: what was kept, what was there already, and why the rest was not taken.
import { Notes } from "./components.js";
import { save } from "./downloads.js";
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
    <${Notes} notices=${report.notices} />
    ${report.receipt.length > 0 && html`<${Receipt} receipt=${report.receipt} />`}
    ${report.rejected.length > 0 && html`<${RejectedTable} files=${report.rejected} />`}
    ${unlisted > 0 && html`<p class="hint">${count(unlisted, "further file")} not listed.</p>`}
  </div>`;
}

function Receipt({ receipt }) {
  const keep = () => save(URL.createObjectURL(new Blob([table(receipt)], { type: "text/csv" })), "upload.csv");
  return html`<div class="buttons"><button type="button" data-testid="save-receipt" onClick=${keep}>Save the list of numbers (CSV)</button>
    <span class="hint grow">The server does not keep the names of your files. This list says which number each has here; it is offered only now.</span></div>`;
}

function table(receipt) {
  const columns = ["file", "number", "name", "images", "added"];
  const rows = receipt.map((one) => columns.map((column) => cell(one[column])).join(","));
  return `${columns.join(",")}\r\n${rows.map((row) => `${row}\r\n`).join("")}`;
}

/** A cell of RFC 4180; what a spreadsheet would take for a formula is marked as text. */
function cell(value) {
  const text = String(value ?? "").replace(/^[=+\-@\t\r]/, "'$&");
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
