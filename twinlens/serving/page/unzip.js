// A zip read in the browser: its directory first, then one file after the other.
const END = 0x06054b50; // of the directory's end
const ENTRY = 0x02014b50;
const LONGEST_END = 65557; // bytes: the end's record with the longest comment
const MOST_BYTES = 512e6; // of one file inside: a small zip may claim to hold terabytes

export const isZip = (file) => file.type === "application/zip" || file.type === "application/x-zip-compressed" || /\.zip$/i.test(file.name);

/* Yield {name, read} of the files in a zip; hidden ones and folders are left out. */
export async function* unzip(zip, folder) {
  const text = new TextDecoder();
  const { start, size, count } = await findDirectory(zip);
  const view = new DataView(await zip.slice(start, start + size).arrayBuffer());
  let at = 0;
  for (let i = 0; i < count; i++) {
    if (at + 46 > view.byteLength || view.getUint32(at, true) !== ENTRY) throw new Error(`${zip.name} is damaged: its directory ends early.`);
    const [method, packed, whole] = [view.getUint16(at + 10, true), view.getUint32(at + 20, true), view.getUint32(at + 24, true)];
    const [nameLength, extra, comment] = [28, 30, 32].map((offset) => view.getUint16(at + offset, true));
    const offset = view.getUint32(at + 42, true);
    const name = text.decode(new Uint8Array(view.buffer, at + 46, nameLength));
    at += 46 + nameLength + extra + comment;
    if (name.endsWith("/") || name.split("/").some((part) => part.startsWith(".") || part === "__MACOSX")) continue;
    yield { name: `${folder}/${name}`, type: "", read: () => readEntry(zip, name, { method, packed, whole, offset }) };
  }
}

async function findDirectory(zip) {
  const from = Math.max(0, zip.size - LONGEST_END);
  const view = new DataView(await zip.slice(from).arrayBuffer());
  for (let at = view.byteLength - 22; at >= 0; at--) {
    if (view.getUint32(at, true) !== END) continue;
    const found = { count: view.getUint16(at + 10, true), size: view.getUint32(at + 12, true), start: view.getUint32(at + 16, true) };
    if (found.count === 0xffff || found.start === 0xffffffff) throw new Error(`${zip.name} is too large to unpack here: add its files as a folder.`);
    return found;
  }
  throw new Error(`${zip.name} is not a zip file, or is damaged.`);
}

async function readEntry(zip, name, { method, packed, whole, offset }) {
  const head = new DataView(await zip.slice(offset, offset + 30).arrayBuffer());
  const start = offset + 30 + head.getUint16(26, true) + head.getUint16(28, true);
  const raw = zip.slice(start, start + packed);
  const short = name.split("/").at(-1);
  if (method === 0) return new File([raw], short);
  if (method !== 8) throw new Error(`${short} uses a compression that is not supported: unpack the zip.`);
  if (whole > MOST_BYTES) throw new Error(`${short} is larger than ${MOST_BYTES / 1e6} MB.`);
  return new File([await inflate(raw, whole, short)], short);
}

/* Unpack, and stop as soon as there is more than the directory says. */
async function inflate(raw, whole, name) {
  const parts = [];
  let size = 0;
  for await (const part of chunks(raw.stream().pipeThrough(new DecompressionStream("deflate-raw")))) {
    size += part.byteLength;
    if (size > whole) throw new Error(`${name} is damaged: it holds more than the zip says.`);
    parts.push(part);
  }
  return new Blob(parts);
}

async function* chunks(stream) {
  const reader = stream.getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    yield value;
  }
}
