// Search: by text, image or both, with excluded terms and a filter.
import { ask, curl, show, showTimes } from "./api.js";
import { byId, el, fill, milliseconds, runner, showWarning } from "./dom.js";
import { PictureField, encode } from "./pictures.js";
import { sampleOf, thumbnail } from "./samples.js";

const MINUS = -0.5; // as `twinlens search --not`
const EXAMPLES = ["a red heart", "a smiling face", "something to eat", "a blue circle", "an animal"];
const TITLES = ["caption", "title", "name", "label", "text"];
const SHOWN = 4;
const BROWSED = 24;

let field;
let run;
let warnings = new Map(); // by collection: its pictures are not what its model knows
let ready; // the collections are here, or why they are not

export function start() {
  run = runner(byId("search-status"), (signal, act, ...given) => act(signal, ...given));
  field = new PictureField(byId("search-image"), {
    label: "Image to search by",
    changed: (files) => {
      byId("search-share").disabled = files.length === 0;
      byId("search-more").open ||= files.length > 0;
      if (files.length) run(find, readForm);
    },
  });
  byId("search-form").addEventListener("submit", (event) => {
    event.preventDefault();
    run(find, readForm);
  });
  for (const id of ["search-minus", "search-filter", "search-k", "search-share", "search-collection"]) {
    byId(id).addEventListener("change", () => (hasQuery() ? run(find, readForm) : id === "search-collection" && run(browse)));
  }
  byId("search-collection").addEventListener("change", warn);
  byId("search-examples").append(...EXAMPLES.map((text) => el("button", { type: "button", className: "chip", text, on: { click: () => example(text) } })));
}

const hasQuery = () => byId("search-text").value.trim() !== "" || field.files.length > 0;

export async function open(isFirst) {
  await (ready = listCollections());
  field.offer();
  if (isFirst && !hasQuery() && byId("search-status").textContent === "") run(browse);
}

/* Show a sample of the collection before the first search. */
async function browse() {
  const collection = byId("search-collection").value;
  const ids = await sampleOf(collection, BROWSED);
  byId("search-times").hidden = true;
  byId("search-results").replaceChildren(...ids.map((id) => showHit({ id, metadata: {}, thumbnail: thumbnail(collection, id) }, collection)));
  return ids.length ? "Sample of this collection. Type a search, or click an image for similar ones." : "This collection is empty.";
}

async function listCollections() {
  const { body } = await ask("/collections");
  warnings = new Map(body.data.map(({ name, warning }) => [name, warning]));
  fill(byId("search-collection"), body.data.map(({ name, count }) => [name, `${name} (${count.toLocaleString("en")})`]));
  warn();
  if (!body.data.length) throw new Error("This server has no collection: start it with --collection NAME=FOLDER or --images FOLDER, or try `twinlens demo`.");
}

function warn() {
  showWarning("search-warning", warnings.get(byId("search-collection").value));
}

export function findLike(collection, id) {
  ready = ready.then(() => (byId("search-collection").value = collection));
  byId("search-text").value = "";
  field.clear();
  run(find, async () => [{ item: id }], `like ${id}`);
  byId("search-status").scrollIntoView({ block: "center" });
}

function example(text) {
  field.files.length && field.clear();
  byId("search-text").value = text;
  run(find, readForm);
}

/* Return the terms of the query from the form. */
async function readForm() {
  const text = byId("search-text").value.trim();
  const minus = byId("search-minus").value.split(",").map((term) => term.trim()).filter(Boolean);
  const share = Number(byId("search-share").value);
  const both = text && field.files.length;
  const parts = [];
  if (text) parts.push({ text, weight: both ? 1 - share : 1 });
  for (const file of field.files) parts.push({ image: await encode(file), weight: both ? share : 1 });
  if (!parts.length) throw new Error("Type a search, or drop an image.");
  return [...parts, ...minus.map((term) => ({ text: term, weight: MINUS }))];
}

async function find(signal, read, what = "") {
  await ready;
  const collection = byId("search-collection").value;
  if (!collection) throw new Error("There is no collection to search.");
  const json = { collection, query: await read(), k: Math.min(200, Math.max(1, Math.round(Number(byId("search-k").value)) || 24)) };
  const filter = byId("search-filter").value.trim();
  if (filter) json.filter = filter;
  byId("search-curl").textContent = curl("/search", { json });
  const { body, response, took } = await ask("/search", { json, signal });
  byId("search-results").replaceChildren(...body.data.map((hit) => showHit(hit, collection)));
  const doubt = body.none_of_these ? "Nothing here seems to match. " : "";
  const count = body.data.length === 1 ? "1 result" : `${body.data.length} results`;
  showTimes(byId("search-times"), response);
  return `${doubt}${count}${what && ` ${what}`} in ${milliseconds(took)}. ${tellRecall(body.recall, body.recall_state)}`;
}

/* Return the measured recall of the index by kind of query. */
function tellRecall(recall, states) {
  const known = Object.entries(recall ?? {}).filter(([, value]) => value !== null);
  if (Object.values(states ?? {}).some((state) => state.startsWith("stale"))) return "Recall: stale, measuring.";
  if (!known.length) return "Recall not measured.";
  if (known.every(([, value]) => value === 1)) return "Exact search.";
  return `Measured recall: ${known.map(([kind, value]) => `${kind} ${value.toFixed(3)}`).join(", ")}.`;
}

function showHit(hit, collection) {
  const named = TITLES.find((key) => typeof hit.metadata[key] === "string");
  const title = named ? hit.metadata[named] : hit.id;
  const image = el("img", { alt: "", loading: "lazy", width: 160, height: 160 });
  image.addEventListener("error", () => image.replaceWith(el("span", { className: "blank", text: "no picture" })), { once: true });
  show(image, hit.thumbnail);
  const like = el("button", { type: "button", className: "like", title: `More like ${title}`, "aria-label": `More like ${title}`, on: { click: () => findLike(collection, hit.id) } }, image, el("span", { className: "more", "aria-hidden": "true", text: "more like this" }));
  const rest = Object.entries(hit.metadata).filter(([key, value]) => key !== named && value !== null);
  const pairs = rest.slice(0, SHOWN).flatMap(([key, value]) => [el("dt", { text: key }), el("dd", { text: shorten(value) })]);
  const score = hit.score === undefined ? null : el("span", { className: "score", title: "score", text: hit.score.toFixed(3) });
  return el("li", { className: "hit", title: JSON.stringify({ id: hit.id, ...hit.metadata }) }, like, score, el("div", {}, el("strong", { text: title }), pairs.length ? el("dl", {}, ...pairs) : null));
}

function shorten(value) {
  const text = typeof value === "string" ? value : JSON.stringify(value);
  return text.length > 80 ? `${text.slice(0, 79)}…` : text;
}
