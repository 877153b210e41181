// Search: words, a picture or both, less of some things, within a filter.
import { ask, curl, show, stages } from "./api.js";
import { byId, el, fill, milliseconds, runner } from "./dom.js";
import { PictureField, encode } from "./pictures.js";

const MINUS = -0.5; // as `twinlens search --not`
const EXAMPLES = ["a red heart", "a smiling face", "something to eat", "a blue circle", "an animal"];
const TITLES = ["caption", "title", "name", "label", "text"];
const SHOWN = 4;

let field;
let run;
let ready; // the collections are here, or why they are not

export function start() {
  run = runner(byId("search-status"), find);
  field = new PictureField(byId("search-image"), {
    label: "Image to search by",
    changed: (files) => {
      byId("search-share").disabled = files.length === 0;
      byId("search-more").open ||= files.length > 0;
      if (files.length) run(readForm);
    },
  });
  byId("search-form").addEventListener("submit", (event) => {
    event.preventDefault();
    run(readForm);
  });
  for (const id of ["search-minus", "search-filter", "search-k", "search-share", "search-collection"]) {
    byId(id).addEventListener("change", () => (byId("search-text").value.trim() || field.files.length) && run(readForm));
  }
  byId("search-examples").append(...EXAMPLES.map((text) => el("button", { type: "button", className: "chip", text, on: { click: () => example(text) } })));
  byId("search-text").focus();
}

export function open() {
  return (ready = listCollections());
}

async function listCollections() {
  const { body } = await ask("/collections");
  fill(byId("search-collection"), body.data.map(({ name, count }) => [name, `${name} (${count.toLocaleString("en")})`]));
  if (!body.data.length) throw new Error("This server has no collection: start it with --collection NAME=FOLDER or --images FOLDER, or try `twinlens demo`.");
}

export function findLike(collection, id) {
  ready = ready.then(() => (byId("search-collection").value = collection));
  run(async () => [{ item: id }], `like ${id}`);
}

function example(text) {
  field.files.length && field.clear();
  byId("search-text").value = text;
  run(readForm);
}

/* Return the terms of the query as the form has them. */
async function readForm() {
  const text = byId("search-text").value.trim();
  const minus = byId("search-minus").value.split(",").map((term) => term.trim()).filter(Boolean);
  const share = Number(byId("search-share").value);
  const both = text && field.files.length;
  const parts = [];
  if (text) parts.push({ text, weight: both ? 1 - share : 1 });
  for (const file of field.files) parts.push({ image: await encode(file), weight: both ? share : 1 });
  if (!parts.length) throw new Error("Say what to find, or drop an image.");
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
  const count = body.data.length === 1 ? "1 result" : `${body.data.length} results`;
  const time = `${milliseconds(took)} (in the server: ${stages(response)} ms)`;
  return `${count}${what && ` ${what}`} in ${time}. ${tellRecall(body.recall)}`;
}

/* Say how much of the exact answer this index was measured to find, by kind of query. */
function tellRecall(recall) {
  const known = Object.entries(recall ?? {}).filter(([, value]) => value !== null);
  if (!known.length) return "Recall not measured.";
  if (known.every(([, value]) => value === 1)) return "Recall 1: searched exactly.";
  return `Measured recall: ${known.map(([kind, value]) => `${kind} ${value.toFixed(3)}`).join(", ")}.`;
}

function showHit(hit, collection) {
  const named = TITLES.find((key) => typeof hit.metadata[key] === "string");
  const title = named ? hit.metadata[named] : hit.id;
  const image = el("img", { alt: title, loading: "lazy", width: 160, height: 160 });
  image.addEventListener("error", () => image.replaceWith(el("span", { className: "blank", text: "no picture" })), { once: true });
  show(image, hit.thumbnail);
  const rest = Object.entries(hit.metadata).filter(([key, value]) => key !== named && value !== null);
  const pairs = rest.slice(0, SHOWN).flatMap(([key, value]) => [el("dt", { text: key }), el("dd", { text: shorten(value) })]);
  const like = el("button", { type: "button", className: "link", text: "More like this", "aria-label": `More like ${title}`, on: { click: () => findLike(collection, hit.id) } });
  return el("li", { className: "hit", title: JSON.stringify({ id: hit.id, ...hit.metadata }) }, image, el("div", {}, el("strong", { text: title }), el("span", { className: "score", text: `score ${hit.score.toFixed(3)}` }), el("dl", {}, ...pairs), like));
}

function shorten(value) {
  const text = typeof value === "string" ? value : JSON.stringify(value);
  return text.length > 80 ? `${text.slice(0, 79)}…` : text;
}
