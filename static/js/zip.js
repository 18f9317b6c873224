// A ZIP archive of files as they are, made in the browser: nothing is packed, and no file is held in
// memory. The archive is a Blob of small headers and of the files themselves, which the browser reads
// from the disk while it sends them. Numbers in brackets are sections of PKWARE's APPNOTE 6.3.10.

/** Bytes of a file that are in memory while its checksum is computed. */
const CHUNK = 4 << 20;
/** What the fields of the original format hold at most; beyond it stands in ZIP64 fields (4.3.14). */
const MOST = 0xffffffff;
const MOST_ENTRIES = 0xffff;
/** Names are UTF-8 (4.4.4, bit 11). */
const UTF8 = 0x0800;
/** 1 January 1980 (4.4.6): when a file was made is nobody's business. */
const DAY = 0x0021;

const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit += 1) value = value & 1 ? 0xedb88320 ^ (value >>> 1) : value >>> 1;
  return value;
});

/**
 * Makes an archive of `{ path, file }`, the paths with `/` between folders. A file that cannot be read
 * is left out and given to `onUnreadable`; `onRead` is told the bytes read so far.
 */
export async function zip(entries, { signal, onRead, onUnreadable } = {}) {
  const parts = [];
  const directory = [];
  let [offset, read] = [0, 0];
  for (const { path, file } of entries) {
    let sum;
    try {
      sum = await checksum(file, signal, (bytes) => onRead?.(read + bytes));
    } catch (error) {
      if (signal?.aborted || !onUnreadable) throw error;
      onUnreadable({ path, file });
      continue;
    } finally {
      read += file.size;
    }
    const entry = { name: new TextEncoder().encode(path), sum, size: file.size, offset };
    const header = localHeader(entry);
    parts.push(header, file);
    directory.push(centralHeader(entry));
    offset += header.length + file.size;
  }
  const size = directory.reduce((bytes, header) => bytes + header.length, 0);
  return new Blob([...parts, ...directory, end(directory.length, size, offset)], { type: "application/zip" });
}

/** CRC-32 of a file (4.4.7), read piece by piece. */
async function checksum(file, signal, onRead) {
  let value = -1;
  for (let at = 0; at < file.size; at += CHUNK) {
    signal?.throwIfAborted();
    const bytes = new Uint8Array(await file.slice(at, at + CHUNK).arrayBuffer());
    for (const byte of bytes) value = TABLE[(value ^ byte) & 0xff] ^ (value >>> 8);
    onRead(at + bytes.length);
  }
  return ~value >>> 0;
}

/** Stands in front of a file (4.3.7); both sizes go to the ZIP64 field when one is too large (4.5.3). */
function localHeader({ name, sum, size }) {
  const wide = size >= MOST;
  const extra = wide ? record(2, 1, 2, 16, 8, size, 8, size) : [];
  const sizes = wide ? MOST : size;
  return join(
    record(4, 0x04034b50, 2, wide ? 45 : 20, 2, UTF8, 2, 0, 2, 0, 2, DAY, 4, sum, 4, sizes, 4, sizes, 2, name.length, 2, extra.length),
    name,
    extra,
  );
}

/** Names a file in the directory at the archive's end (4.3.12). */
function centralHeader({ name, sum, size, offset }) {
  const large = [...(size >= MOST ? [8, size, 8, size] : []), ...(offset >= MOST ? [8, offset] : [])];
  const extra = large.length ? record(2, 1, 2, large.length * 4, ...large) : [];
  const version = large.length ? 45 : 20;
  const sizes = Math.min(size, MOST);
  return join(
    record(4, 0x02014b50, 2, version, 2, version, 2, UTF8, 2, 0, 2, 0, 2, DAY, 4, sum, 4, sizes, 4, sizes, 2, name.length, 2, extra.length),
    record(2, 0, 2, 0, 2, 0, 4, 0, 4, Math.min(offset, MOST)),
    name,
    extra,
  );
}

/** Ends the archive (4.3.16), with the ZIP64 records before it where a number is too large (4.3.14, 4.3.15). */
function end(entries, size, offset) {
  const wide = entries >= MOST_ENTRIES || size >= MOST || offset >= MOST;
  const count = Math.min(entries, MOST_ENTRIES);
  const large = wide
    ? [
        record(4, 0x06064b50, 8, 44, 2, 45, 2, 45, 4, 0, 4, 0, 8, entries, 8, entries, 8, size, 8, offset),
        record(4, 0x07064b50, 4, 0, 8, offset + size, 4, 1),
      ]
    : [];
  return join(...large, record(4, 0x06054b50, 2, 0, 2, 0, 2, count, 2, count, 4, Math.min(size, MOST), 4, Math.min(offset, MOST), 2, 0));
}

/** Numbers in little-endian bytes: each width, in bytes, followed by its value. */
function record(...fields) {
  const bytes = [];
  for (let at = 0; at < fields.length; at += 2) {
    let value = fields[at + 1];
    for (let byte = 0; byte < fields[at]; byte += 1) {
      bytes.push(value % 256);
      // Not shifted: shifts know 32 bits only.
      value = Math.floor(value / 256);
    }
  }
  return bytes;
}

function join(...parts) {
  return Uint8Array.from(parts.flatMap((part) => [...part]));
}
