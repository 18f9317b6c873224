// How files become uploads: a ZIP is sent as it is, a lone file too, all others in archives of bounded
// size, so that a broken connection costs one of them and not twenty gigabytes.

/** Bytes and files of one archive at most; a larger file has one of its own. */
const MOST_BYTES = 1 << 30;
const MOST_FILES = 10_000;
/** Stands for a common folder where there is none. */
const PLAIN = "files";

const ZIP_TYPES = ["application/zip", "application/x-zip-compressed"];
const isZip = ({ file }) => /\.zip$/i.test(file.name) || ZIP_TYPES.includes(file.type);
const isTable = (path) => /(^|\/)labels\.csv$/i.test(path);

/** Whether everything is an archive, which says its own classes. */
export function onlyArchives(files) {
  return files.every(isZip);
}

/** Uploads, in order: `{ name, file }` to be sent as it is, or `{ name, entries, prefix }` to be packed. */
export function uploads(files, most = { bytes: MOST_BYTES, files: MOST_FILES }) {
  const whole = files.filter(isZip);
  const loose = files.filter((one) => !whole.includes(one));
  const sent = whole.map(({ file }) => ({ name: file.name, file }));
  if (loose.length === 1 && !loose[0].path.includes("/")) return [...sent, { name: loose[0].file.name, file: loose[0].file }];
  return [...sent, ...(loose.length > 0 ? packed(loose, most) : [])];
}

/** The folder that holds everything, with its slash, if there is one and it holds other folders or the
 * table: it is no class. The server looks at each archive in the same way. */
export function commonRoot(paths) {
  const first = paths[0]?.split("/")[0];
  if (!paths.every((path) => path.startsWith(`${first}/`))) return "";
  const inner = paths.map((path) => path.slice(first.length + 1));
  const isSplit = /^(train|training|val|valid|validation|test|testing)$/i.test(first);
  const holds = inner.some(isTable) || (!isSplit && inner.some((path) => path.includes("/")));
  return holds ? `${first}/` : "";
}

function packed(files, most) {
  const root = commonRoot(files.map(({ path }) => path));
  const name = `${root.slice(0, -1) || PLAIN}.zip`;
  // A table speaks of all files: they stay together, however many they are.
  const together = files.some(({ path }) => isTable(path));
  const groups = together ? [files] : split(files, most);
  if (groups.length === 1) return [{ name, entries: files, prefix: "" }];
  return groups.map((group) => anchored(group, root, name));
}

function split(files, most) {
  const groups = [];
  let [group, bytes] = [[], 0];
  for (const one of files) {
    if (group.length > 0 && (group.length === most.files || bytes + one.file.size > most.bytes)) {
      groups.push(group);
      [group, bytes] = [[], 0];
    }
    group.push(one);
    bytes += one.file.size;
  }
  return [...groups, group];
}

/** A part whose files happen to lie in one folder would lose it, or gain one, as the folder that holds
 * everything; under a folder of our own they are read as they would be beside all others. */
function anchored(group, root, name) {
  const entries = group.map(({ path, file }) => ({ path: path.slice(root.length), file }));
  const prefix = entries.some(({ path }) => path.includes("/")) ? root || `${PLAIN}/` : "";
  return { name, entries: entries.map(({ path, file }) => ({ path: prefix + path, file })), prefix: root ? "" : prefix };
}
