// What a user drops or chooses as a list of {name, file}; names are paths within what was given.

/* Return the files of a drop with their paths; folders are read to their end. */
export async function filesOfDrop(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.length) return filesOfList(transfer.files);
  const found = [];
  for (const entry of entries) await walk(entry, found);
  return found;
}

export const filesOfList = (list) => [...list].map((file) => ({ name: file.webkitRelativePath || file.name, file }));

async function walk(entry, found) {
  if (entry.name.startsWith(".")) return;
  if (entry.isFile) {
    const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
    found.push({ name: entry.fullPath.replace(/^\//, ""), file });
    return;
  }
  const reader = entry.createReader();
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) return;
    for (const one of some) await walk(one, found);
  }
}

const paths = new WeakMap(); // file -> its path, where that is more than its name

export const pathOf = (file) => paths.get(file) ?? file.webkitRelativePath ?? file.name;

/* Return the files of a list, which remember their paths. */
export function keepPaths(given) {
  for (const { name, file } of given) paths.set(file, name);
  return given.map(({ file }) => file);
}

/* Save a text as a file of the user's. */
export function saveText(name, text, type) {
  const url = URL.createObjectURL(new Blob([text], { type }));
  const link = document.createElement("a");
  Object.assign(link, { href: url, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}

/* Return rows as CSV; what a spreadsheet would run as a formula is quoted as text. */
export function toCsv(rows) {
  const cell = (value) => {
    const text = String(value ?? "");
    const safe = typeof value === "string" && /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
    return /[",\n\r]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
  };
  return rows.map((row) => row.map(cell).join(",")).join("\r\n") + "\r\n";
}
