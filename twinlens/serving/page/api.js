// Requests to the server: keys, error messages, timings, and the same call as a curl command.
import { byId, el } from "./dom.js";

const KEY = "twinlens-key"; // in sessionStorage: gone with the tab

export const hasKey = () => sessionStorage.getItem(KEY) !== null;

/* Return {body, response, took}; `json`, `form` or `raw` is what is sent. */
export async function ask(path, options = {}) {
  for (;;) {
    const began = performance.now();
    const response = await send(path, options);
    if (response.status === 401) {
      await askForKey();
      continue;
    }
    if (!response.ok) throw Object.assign(new Error(await explain(response)), { status: response.status, wait: Number(response.headers.get("retry-after")) || undefined });
    const body = options.blob ? await response.blob() : await read(response);
    return { body, response, took: performance.now() - began };
  }
}

async function send(path, { method, json, form, raw, accept, signal, keepalive }) {
  const headers = {};
  const key = sessionStorage.getItem(KEY);
  if (key !== null) headers["Authorization"] = `Bearer ${key}`;
  if (json !== undefined) headers["Content-Type"] = "application/json";
  if (raw !== undefined) headers["Content-Type"] = raw.type;
  if (accept !== undefined) headers["Accept"] = accept;
  const body = json !== undefined ? JSON.stringify(json) : form ?? raw;
  try {
    return await fetch(path, { method: method ?? (body === undefined ? "GET" : "POST"), headers, body, signal, keepalive });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server does not respond. Is it still running?");
  }
}

async function read(response) {
  const type = response.headers.get("content-type") ?? "";
  return type.startsWith("application/json") ? response.json() : response.text();
}

async function explain(response) {
  let message = `The server answered ${response.status}.`;
  try {
    const { error } = await response.json();
    message = error.message;
  } catch {
    // Not an answer of the server, maybe of a proxy: show the status alone.
  }
  const wait = response.headers.get("retry-after");
  const words = message.charAt(0).toUpperCase() + message.slice(1);
  return wait ? `${words} (try again in ${wait} s)` : words;
}

let asking = null;

/* Ask for a key once, for all requests that wait for it. */
function askForKey() {
  asking ??= new Promise((resolve, reject) => {
    const dialog = byId("key-dialog");
    const form = byId("key-form");
    const held = hasKey();
    byId("key-told").textContent = held ? "This key is unknown to the server." : "This server requires an API key.";
    const finish = (settle) => {
      asking = null;
      form.onsubmit = dialog.oncancel = byId("key-cancel").onclick = null;
      if (dialog.open) dialog.close();
      settle();
    };
    const refuse = () => finish(() => reject(new Error("This needs an API key.")));
    form.onsubmit = (event) => {
      event.preventDefault();
      const key = byId("key").value.trim();
      if (!/^[\x21-\x7e]+$/.test(key)) return;
      sessionStorage.setItem(KEY, key);
      byId("key").value = "";
      finish(resolve);
    };
    dialog.oncancel = refuse;
    byId("key-cancel").onclick = refuse;
    dialog.showModal();
    byId("key").focus();
  });
  return asking;
}

/* Show the server's time per stage, as a bar and as text. */
export function showTimes(node, response) {
  const header = response.headers.get("server-timing") ?? "";
  const stages = [...header.matchAll(/([\w-]+);dur=([\d.]+)/g)].map(([, name, time]) => [name, Number(time)]);
  const bar = el("div", { className: "spans", "aria-hidden": "true" }, ...stages.map(([name, time]) => span(name, time)));
  const words = stages.map(([name, time]) => el("span", { className: "key" }, el("i", { className: `at-${name}`, "aria-hidden": "true" }), `${name} ${time.toFixed(1)}`));
  node.replaceChildren(bar, el("p", {}, "ms in the server: ", ...words));
  node.hidden = stages.length === 0;
}

function span(name, time) {
  const part = el("i", { className: `at-${name}`, title: `${name} ${time.toFixed(1)} ms` });
  part.style.flexGrow = String(Math.max(time, 0.01));
  return part;
}

/* Set the source of an <img>. With a key the image has to be fetched, since an <img> sends none. */
export async function show(image, path) {
  if (!hasKey()) {
    image.src = path;
    return;
  }
  try {
    const { body } = await ask(path, { blob: true });
    image.src = URL.createObjectURL(body);
    image.onload = () => URL.revokeObjectURL(image.src);
  } catch {
    image.dispatchEvent(new Event("error"));
  }
}

const quote = (text) => `'${text.replaceAll("'", `'\\''`)}'`;

/* Return the call as a shell command; images are named FILE1, FILE2 instead of embedded. */
export function curl(path, { json, fields, files, accept, body, method } = {}) {
  const parts = [`curl -s ${quote(location.origin + path)}`];
  if (method) parts.push(`-X ${method}`);
  if (hasKey()) parts.push('-H "Authorization: Bearer $TWINLENS_KEY"');
  if (accept) parts.push(`-H ${quote(`Accept: ${accept}`)}`);
  for (const file of files ?? []) parts.push(`-F ${quote(`images=@${file}`)}`);
  for (const [name, value] of fields ?? []) parts.push(`--form-string ${quote(`${name}=${value}`)}`);
  if (body) parts.push(`-H ${quote(`Content-Type: ${body.type}`)}`, `--data-binary ${quote(`@${body.name}`)}`);
  if (json === undefined) return parts.join(" \\\n  ");
  parts.push("-H 'Content-Type: application/json'", withPictures(JSON.stringify(json)));
  return parts.join(" \\\n  ");
}

const DATA_URI = /data:image\/[\w.+-]+;base64,[\w+/=]*/g;

/* Images are read from standard input: command arguments have a length limit. */
function withPictures(text) {
  if (text.search(DATA_URI) < 0) return `-d ${quote(text)}`;
  let count = 0;
  const safe = text.replaceAll(/[\\$`]/g, (sign) => `\\${sign}`);
  const filled = safe.replace(DATA_URI, (uri) => `${uri.slice(0, uri.indexOf(",") + 1)}$(base64 < FILE${++count} | tr -d '\\n')`);
  return `-d @- <<END\n${filled}\nEND`;
}
