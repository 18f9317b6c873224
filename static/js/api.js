// Every request to the server: the key, JSON, problems, uploads with progress, and files.
import { store } from "./store.js";

const ROOT = "/api/v1";
const KEY_SLOT = "lvmed-key";

/** The access key of this browser tab; gone when the tab is closed. */
export const key = store(readKey());

function readKey() {
  try {
    return sessionStorage.getItem(KEY_SLOT) ?? "";
  } catch {
    return "";
  }
}

/** Counts answers that refused the key, so that the page can ask for another. */
export const refused = store(0);

export function setKey(text) {
  try {
    if (text) sessionStorage.setItem(KEY_SLOT, text);
    else sessionStorage.removeItem(KEY_SLOT);
  } catch {
    // Storage is switched off: the key lasts until the page is reloaded.
  }
  key.set(text);
}

/** What went wrong, in the server's words (RFC 9457) or ours when there was no answer. */
export class Problem extends Error {
  constructor({ title, detail, status = 0, code = "", request_id = "", errors = [] }) {
    super(detail || title);
    Object.assign(this, { title, detail, status, code, requestId: request_id, errors });
  }

  static unreachable() {
    return new Problem({
      title: "The server does not answer",
      detail: "Check that the server is running and that this computer is in its network, then try again.",
      code: "unreachable",
    });
  }

  static brokenOff() {
    return new Problem({
      title: "The connection broke off",
      detail: "The upload did not arrive whole. Check the connection, and that the files are still where they were, then try again: what is here already is not added twice.",
      code: "unreachable",
    });
  }

  static parse(status, text, statusText) {
    try {
      const body = JSON.parse(text);
      if (body && typeof body.title === "string") {
        return new Problem({ ...body, status, errors: Array.isArray(body.errors) ? body.errors : [] });
      }
    } catch {
      // Not a problem document; a proxy may have answered.
    }
    return new Problem({ title: `The server answered ${status} ${statusText}`.trim(), detail: text.slice(0, 300), status });
  }
}

export function path(route, query = {}) {
  const given = Object.entries(query).filter(([, value]) => value !== undefined && value !== null && value !== "");
  const search = new URLSearchParams(given).toString();
  return ROOT + route + (search ? `?${search}` : "");
}

export function authorization() {
  return key.get() ? { Authorization: `Bearer ${key.get()}` } : {};
}

/** A fetch that throws a Problem for everything but success. */
export async function send(method, url, { headers = {}, body, signal } = {}) {
  let response;
  try {
    response = await fetch(url, { method, headers: { ...authorization(), ...headers }, body, signal, cache: "no-store" });
  } catch (error) {
    throw error.name === "AbortError" ? error : Problem.unreachable();
  }
  if (response.status === 401 && url !== path("/me")) refused.set(refused.get() + 1);
  if (!response.ok) throw Problem.parse(response.status, await response.text(), response.statusText);
  return response;
}

async function answer(response) {
  return response.status === 204 ? null : response.json();
}

export async function get(route, query, signal) {
  return answer(await send("GET", path(route, query), { signal }));
}

export async function post(route, value = {}, headers = {}, signal = undefined) {
  const body = JSON.stringify(value);
  return answer(await send("POST", path(route), { headers: { "Content-Type": "application/json", ...headers }, body, signal }));
}

export async function patch(route, value) {
  const headers = { "Content-Type": "application/json" };
  return answer(await send("PATCH", path(route), { headers, body: JSON.stringify(value) }));
}

export async function remove(route) {
  return answer(await send("DELETE", path(route)));
}

/** Posts a file or form and reports the share of bytes sent; fetch cannot. */
export function upload(route, { query, body, type, onProgress, signal }) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", path(route, query));
    for (const [name, value] of Object.entries(authorization())) request.setRequestHeader(name, value);
    if (type) request.setRequestHeader("Content-Type", type);
    request.upload.onprogress = (event) => onProgress?.(event.loaded, event.lengthComputable ? event.total : 0);
    request.upload.onload = () => onProgress?.(1, 1);
    let begun = false;
    request.upload.onloadstart = () => { begun = true; };
    request.onerror = () => reject(begun ? Problem.brokenOff() : Problem.unreachable());
    request.onabort = () => reject(new DOMException("stopped", "AbortError"));
    request.onload = () => {
      if (request.status < 200 || request.status > 299) {
        reject(Problem.parse(request.status, request.responseText, request.statusText));
      } else {
        resolve(JSON.parse(request.responseText));
      }
    };
    signal?.addEventListener("abort", () => request.abort());
    if (signal?.aborted) reject(new DOMException("stopped", "AbortError"));
    else request.send(body);
  });
}

/** An address for a file that needs the key: the caller revokes it. */
export async function objectUrl(url, signal) {
  const response = await send("GET", url, { signal });
  return URL.createObjectURL(await response.blob());
}

/** A word that is new for every attempt; `crypto.randomUUID` is missing on plain http in a network. */
export function idempotencyKey() {
  return hexadecimal(crypto.getRandomValues(new Uint8Array(16)));
}

/** A random UUID (RFC 9562, version 4). */
export function uuid() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  return hexadecimal(bytes).replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}

function hexadecimal(bytes) {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
