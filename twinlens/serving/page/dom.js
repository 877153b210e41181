// Creates elements. Text is set as text and never parsed as markup.

export function el(tag, options = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(options)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "on") for (const [event, act] of Object.entries(value)) node.addEventListener(event, act);
    else if (name === "text") node.textContent = String(value);
    else if (name in node && name !== "list") node[name] = value;
    else node.setAttribute(name, String(value));
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

export const byId = (id) => document.getElementById(id);

/* Show a warning, or hide its place if there is none. */
export function showWarning(id, text) {
  byId(id).textContent = text ? `${text[0].toUpperCase()}${text.slice(1)}.` : "";
  byId(id).hidden = !text;
}

export function lines(text) {
  return text.split("\n").map((line) => line.trim()).filter(Boolean);
}

export function fill(select, options, chosen = select.value) {
  select.replaceChildren(...options.map(([value, text]) => el("option", { value, text })));
  if (options.some(([value]) => value === chosen)) select.value = chosen;
}

export function percent(share) {
  return `${(share * 100).toFixed(share > 0.0995 || share === 0 ? 0 : 1)} %`;
}

export function bytes(count) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  const step = count > 0 ? Math.min(units.length - 1, Math.floor(Math.log10(count) / 3)) : 0;
  return `${(count / 1000 ** step).toFixed(step ? 1 : 0)} ${units[step]}`;
}

export function milliseconds(value) {
  return value < 10 ? `${value.toFixed(1)} ms` : value < 1000 ? `${Math.round(value)} ms` : `${(value / 1000).toFixed(1)} s`;
}

/* Show a panel's status message; screen readers announce it (role=status). */
export function say(node, text, isError = false) {
  node.textContent = text;
  node.classList.toggle("error", isError);
}

/* Run a form's action; a newer run cancels the older one. Errors become status messages, and
   `clear` takes away what the action showed before, which would be stale. */
export function runner(status, work, clear = () => {}) {
  let current = null;
  return async (...given) => {
    current?.abort();
    const mine = (current = new AbortController());
    say(status, "Working…");
    try {
      const text = await work(mine.signal, ...given);
      if (mine === current) say(status, text ?? "");
    } catch (error) {
      if (error.name === "AbortError" || mine !== current) return;
      clear();
      say(status, error.message, true);
    }
  };
}
