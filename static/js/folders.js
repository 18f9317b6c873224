// Files as people give them, by choice or by drop, folders with all that is in them: a list of
// `{ path, file }`, the path with the folders that the file lies in.

/** What systems and tools leave behind. */
const CLUTTER = new Set(["__macosx", "thumbs.db", "desktop.ini", "autorun.inf", "dicomdir"]);
/** Programs and documents: whatever they are, they are no pictures and no table of labels. */
const OTHER = /\.(exe|dll|msi|bat|cmd|sh|jar|js|css|html?|xml|json|ya?ml|py|ipynb|m|r|log|tmp|bak|txt|md|rtf|pdf|docx?|odt|pptx?|lnk|url|inf|ini|db|sqlite)$/i;

/** Of a file input, with `webkitdirectory` or without. */
export function chosen(list) {
  return [...list].map((file) => ({ path: file.webkitRelativePath || file.name, file }));
}

/** Of a drop. What is dropped must be asked for before the first pause: the browser forgets it then. */
export async function dropped(transfer) {
  const items = [...(transfer.items ?? [])].filter((item) => item.kind === "file");
  const found = items.map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (found.length === 0) return chosen(transfer.files);
  const files = [];
  for (const entry of found) await collect(entry, files);
  return files;
}

async function collect(entry, files) {
  if (entry.isFile) {
    const file = await new Promise((resolve, reject) => { entry.file(resolve, reject); });
    files.push({ path: entry.fullPath.replace(/^\/+/, ""), file });
    return;
  }
  // A folder that tools keep their own things in may hold very many.
  if (isClutter(entry.name)) return;
  const reader = entry.createReader();
  for (;;) {
    // A folder is read a hundred entries at a time, until nothing more comes.
    const some = await new Promise((resolve, reject) => { reader.readEntries(resolve, reject); });
    if (some.length === 0) return;
    for (const inner of some) await collect(inner, files);
  }
}

function isClutter(name) {
  return name.startsWith(".") || CLUTTER.has(name.toLowerCase());
}

/** Files that may matter, and how many were left out. A file that somebody picked by hand stays. */
export function worthSending(files) {
  const kept = files.filter(({ path }) => {
    const parts = path.split("/");
    return parts.length === 1 || !(parts.some(isClutter) || OTHER.test(path));
  });
  return { files: kept, left: files.length - kept.length };
}

/** Whether a file is still there and no folder, which some browsers pass off as a file. */
export async function isReadable(file) {
  try {
    await file.slice(0, 1).arrayBuffer();
    return true;
  } catch {
    return false;
  }
}
