// Talking to the server: keys, errors in words, times, and the same call as a curl line.
import { byId } from "./dom.js";

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
    if (!response.ok) throw new Error(await explain(response));
    const body = options.blob ? await response.blob() : await read(response);
    return { body, response, took: performance.now() - began };
  }
}

async function send(path, { method, json, form, raw, accept, signal }) {
  const headers = {};
  const key = sessionStorage.getItem(KEY);
  if (key !== null) headers["Authorization"] = `Bearer ${key}`;
  if (json !== undefined) headers["Content-Type"] = "application/json";
  if (raw !== undefined) headers["Content-Type"] = raw.type;
  if (accept !== undefined) headers["Accept"] = accept;
  const body = json !== undefined ? JSON.stringify(json) : form ?? raw;
  try {
    return await fetch(path, { method: method ?? (body === undefined ? "GET" : "POST"), headers, body, signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server does not answer. Is it still running?");
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
    // Not the server's own words: a proxy's, say. The status has to do.
  }
  const wait = response.headers.get("retry-after");
  const words = message.charAt(0).toUpperCase() + message.slice(1);
  return wait ? `${words} (try again in ${wait} s)` : words;
}

let asking = null;

/* Ask for a key, once however many requests wait for it. */
function askForKey() {
  asking ??= new Promise((resolve, reject) => {
    const dialog = byId("key-dialog");
    const form = byId("key-form");
    const held = hasKey();
    byId("key-told").textContent = held ? "That key is not known to this server." : "This server takes requests with an API key.";
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

/* Return the stages of the answer, as "encode 3.1 ms, search 0.4 ms". */
export function stages(response) {
  const header = response.headers.get("server-timing") ?? "";
  return [...header.matchAll(/([\w-]+);dur=([\d.]+)/g)].map(([, name, time]) => `${name} ${Number(time).toFixed(1)}`).join(", ");
}

/* Set what an <img> shows. With a key the picture has to be fetched, since an <img> sends none. */
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

/* Return the call as a line for a shell; pictures are named FILE1, FILE2 rather than spelt out. */
export function curl(path, { json, fields, files, accept } = {}) {
  const parts = [`curl -s ${quote(location.origin + path)}`];
  if (hasKey()) parts.push('-H "Authorization: Bearer $TWINLENS_KEY"');
  if (accept) parts.push(`-H ${quote(`Accept: ${accept}`)}`);
  for (const file of files ?? []) parts.push(`-F ${quote(`images=@${file}`)}`);
  for (const [name, value] of fields ?? []) parts.push(`--form-string ${quote(`${name}=${value}`)}`);
  if (json !== undefined) {
    let count = 0;
    const body = quote(JSON.stringify(json)).replace(
      /data:image\/[\w.+-]+;base64,[\w+/=]*/g,
      (uri) => `${uri.slice(0, uri.indexOf(",") + 1)}'"$(base64 -w0 FILE${++count})"'`,
    );
    parts.push("-H 'Content-Type: application/json'", `-d ${body}`);
  }
  return parts.join(" \\\n  ");
}
