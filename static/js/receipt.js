// The receipt of an upload: which number each file has got, as a table to keep. The server does not
// store the names of files, so that this is the only time that it can be had.
import { count } from "./text.js";
import { html } from "./view.js";

const COLUMNS = ["file", "picture", "images", "new images", "not taken because"];

export function Receipt({ report }) {
  const listed = report.receipt.length + report.rejected.length;
  const all = report.files + report.rejected_total;
  if (listed === 0) return null;
  return html`<div class="buttons"><button type="button" data-testid="receipt" onClick=${() => save(table(report))}>Download the receipt (CSV)</button>
    <span class="hint grow">It says which picture each of your files has become. Names of files are not stored here: this list is offered now and not again.${listed < all && ` It has the first ${count(listed, "file")} of ${all.toLocaleString("en")}.`}</span></div>`;
}

/** The receipt as CSV, one line for each file. */
export function table({ receipt, rejected }) {
  const taken = receipt.map(({ file, name, images, added }) => [file, name, images, added, ""]);
  const refused = rejected.map(({ file, reason }) => [file, "", "", "", reason]);
  return [COLUMNS, ...taken, ...refused].map((row) => row.map(cell).join(",")).join("\r\n") + "\r\n";
}

/** A cell that no spreadsheet takes for a formula, whatever a file is called. */
function cell(value) {
  const text = String(value);
  const plain = /^[\s]*[=+\-@\uFF1D\uFF0B\uFF0D\uFF20]|^[\t\r\n]/.test(text) ? `'${text}` : text;
  return `"${plain.replaceAll('"', '""')}"`;
}

function save(text) {
  // The mark at the start makes spreadsheets read it as UTF-8.
  const address = URL.createObjectURL(new Blob(["\uFEFF", text], { type: "text/csv;charset=utf-8" }));
  const link = document.createElement("a");
  link.href = address;
  link.download = "receipt.csv";
  document.body.append(link);
  link.click();
  link.remove();
  // The browser has its own hold on the file soon after the click.
  setTimeout(() => URL.revokeObjectURL(address), 60000);
}
