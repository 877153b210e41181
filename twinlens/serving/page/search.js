// Search: by text, image, or items of the collection; without terms and with a filter.
import { writeAddress } from "./address.js";
import { ask, curl, showTimes } from "./api.js";
import { byId, el, fill, milliseconds, runner, showWarning } from "./dom.js";
import { Facets } from "./facets.js";
import { galleryOf } from "./gallery.js";
import { Lightbox } from "./lightbox.js";
import { describeCard } from "./models.js";
import { PictureField, encode } from "./pictures.js";
import { examplesOf } from "./samples.js";

const MINUS = -0.5; // as `twinlens search --not`
const PAGE = 48;
const MOST_SKIPPED = 9000; // the server's limit
const FIELDS = { q: "search-text", minus: "search-minus", filter: "search-filter", share: "search-share" };
const DEFAULTS = { share: "0.5" };

let field;
let run;
let gallery;
let facets;
let lightbox;
let like = []; // ids of items to search by
let unlike = []; // ids of items to keep away from
let looking = ""; // the item in the lightbox
let cards = null; // a promise of what each model is good at
let warnings = new Map(); // by collection: its pictures are not what its model knows
let pending = null; // what another panel asked for, until the collections are here
let ready = Promise.resolve(); // the collections are here, or why they are not

export function start() {
  run = runner(byId("search-status"), (signal, ...given) => find(signal, ...given), clear);
  gallery = galleryOf("search", { open: (place) => look(place, true), like: ({ id }) => seek({ like: [id] }) });
  facets = new Facets(() => run({ isStep: true }));
  lightbox = new Lightbox({
    step: (by) => look(placeOf(looking) + by),
    closed: leave,
    like: ({ id }) => seek({ like: [id] }),
    unlike: ({ id }) => seek({ like, unlike: [...new Set([...unlike, id])], keepsText: true }),
  });
  field = new PictureField(byId("search-image"), {
    label: "Image to search by",
    changed: (files) => {
      byId("search-share").disabled = files.length === 0;
      byId("search-more").open ||= files.length > 0;
      if (files.length) run({ isStep: true });
    },
  });
  byId("search-form").addEventListener("submit", (event) => {
    event.preventDefault();
    if (byId("search-text").value.trim()) like = [];
    run({ isStep: true });
  });
  for (const id of ["search-minus", "search-filter", "search-share"]) byId(id).addEventListener("change", () => run({ isStep: true }));
  byId("search-collection").addEventListener("change", () => {
    [like, unlike] = [[], []];
    facets.clear();
    byId("search-filter").value = "";
    follow();
    run({ isStep: true });
  });
}

/* Show what the address says. */
export async function open(isFirst, params) {
  for (const [key, id] of Object.entries(FIELDS)) byId(id).value = params.get(key) ?? DEFAULTS[key] ?? "";
  [like, unlike] = [params.getAll("like"), params.getAll("unlike")];
  await (ready = listCollections(params.get("in")));
  field.offer();
  facets.read(params.getAll("is"));
  byId("search-more").open ||= Boolean(params.get("minus") || params.get("filter"));
  const act = pending;
  pending = null;
  if (act) return act();
  if (isFirst || params.toString() !== describe(looking).toString()) await run({ item: params.get("item") ?? "" });
}

export function close() {
  lightbox.close();
}

/* Return what the address holds of this panel. */
function state(item = "") {
  const values = Object.fromEntries(Object.entries(FIELDS).map(([key, id]) => [key, byId(id).value.trim()]));
  if (values.share === DEFAULTS.share || !field.files.length) values.share = "";
  const { value, options } = byId("search-collection");
  return { ...values, in: options.length > 1 ? value : "", like, unlike, is: facets.write(), item };
}

function describe(item) {
  return new URLSearchParams(Object.entries(state(item)).flatMap(([key, value]) => [value].flat().filter(Boolean).map((one) => [key, one])));
}

function remember(isStep = false) {
  const what = byId("search-text").value.trim() || (like.length ? `like ${like.join(", ")}` : "");
  writeAddress("search", state(looking), { isStep, title: looking || what });
}

async function listCollections(wanted) {
  const { body } = await ask("/collections");
  warnings = new Map(body.data.map(({ name, warning }) => [name, warning]));
  fill(byId("search-collection"), body.data.map(({ name, count }) => [name, `${name} (${count.toLocaleString("en")})`]), wanted ?? byId("search-collection").value);
  if (!body.data.length) throw new Error("There are no pictures here yet. Add some under “My pictures”.");
  follow();
}

/* Show what belongs to the chosen collection: its warning, its facets, terms to try. */
function follow() {
  const collection = byId("search-collection").value;
  showWarning("search-warning", warnings.get(collection));
  facets.list(collection).catch(() => byId("search-facets").replaceChildren());
  examplesOf(collection).then((texts) => {
    if (byId("search-collection").value !== collection) return;
    byId("search-text").placeholder = texts.length ? `${texts[0]}, or drop a picture anywhere` : "Say what is in it, or drop a picture anywhere";
    byId("search-examples").replaceChildren(...texts.map((text) => el("button", { type: "button", className: "chip", text, on: { click: () => seek({ text }) } })));
  }, () => byId("search-examples").replaceChildren());
}

/* What other panels ask for is done when this one has opened. */
export function findLike(collection, id) {
  pending = () => {
    choose(collection);
    return seek({ like: [id] });
  };
}

export function lookAt(collection, id) {
  pending = () => {
    choose(collection);
    return run({ item: id });
  };
}

/* Show some items of a collection, as selected on the map. */
export function showList(collection, ids) {
  pending = () => run({ list: { collection, ids } });
}

function choose(collection) {
  byId("search-collection").value = collection;
  follow();
}

/* Search for something else; the filters stay. */
async function seek({ text = "", like: wanted = [], unlike: unwanted = [], keepsText = false }) {
  [like, unlike] = [wanted, unwanted];
  if (!keepsText) {
    byId("search-text").value = text;
    field.files.length && field.clear();
  }
  await run({ isStep: true });
  byId("search-status").scrollIntoView({ block: "nearest" });
}

/* Return the terms of the query from the form; none: there is nothing to compare with. */
async function readTerms() {
  const text = byId("search-text").value.trim();
  const minus = byId("search-minus").value.split(",").map((term) => term.trim()).filter(Boolean);
  const share = Number(byId("search-share").value);
  const both = text && field.files.length;
  const parts = [];
  if (text) parts.push({ text, weight: both ? 1 - share : 1 });
  for (const file of field.files) parts.push({ image: await encode(file), weight: both ? share : 1 });
  for (const item of like) parts.push({ item, weight: 1 });
  if (!parts.length) return [];
  return [...parts, ...minus.map((term) => ({ text: term, weight: MINUS })), ...unlike.map((item) => ({ item, weight: MINUS }))];
}

async function find(signal, { isStep = false, item = "", list = null } = {}) {
  await ready;
  if (list) return showChosen(list);
  const collection = byId("search-collection").value;
  if (!collection) throw new Error("There are no pictures here yet. Add some under “My pictures”.");
  looking = item;
  showTerms();
  remember(isStep);
  const query = await readTerms();
  const filter = facets.filter(byId("search-filter").value.trim());
  const told = query.length ? await search(signal, collection, query, filter) : await browse(signal, collection, filter);
  if (item) await reopen(item);
  else lightbox.close();
  return told;
}

function showChosen({ collection, ids }) {
  byId("search-collection").value = collection;
  byId("search-times").hidden = true;
  const page = (from) => ids.slice(from, from + PAGE).map((id) => ({ id, metadata: {} }));
  gallery.load(collection, page(0), async () => page(gallery.hits.length));
  return `${ids.length.toLocaleString("en")} selected on the map.`;
}

async function search(signal, collection, query, filter) {
  const json = { collection, query, k: PAGE, ...(filter ? { filter } : {}) };
  byId("search-curl").textContent = curl("/search", { json });
  const { body, response, took } = await ask("/search", { json, signal });
  const next = async () => {
    const offset = gallery.hits.length;
    return offset > MOST_SKIPPED ? [] : (await ask("/search", { json: { ...json, offset } })).body.data;
  };
  gallery.load(collection, body.data, body.data.length < PAGE ? null : next);
  showTimes(byId("search-times"), response);
  tellModel(body.model);
  byId("search-recall").textContent = tellRecall(body.recall, body.recall_state);
  const doubt = body.none_of_these ? "Nothing here seems to match; these are the nearest. " : "";
  const count = body.data.length === 1 ? "1 result" : `${body.data.length}${body.data.length < PAGE ? "" : " best"} results`;
  return `${doubt}${body.data.length ? `${count} in ${milliseconds(took)}.` : "Nothing matches this filter. Remove a part of it."}`;
}

/* Show the collection itself, newest last, before a search. */
async function browse(signal, collection, filter) {
  let cursor = "";
  const path = () => `/collections/${encodeURIComponent(collection)}/items?${new URLSearchParams({ limit: PAGE, ...(cursor && { cursor }), ...(filter && { filter }) })}`;
  const next = async (given) => {
    const { body } = await ask(path(), given);
    cursor = body.next ?? "";
    return body.data;
  };
  byId("search-curl").textContent = curl(path());
  byId("search-times").hidden = true;
  byId("search-recall").textContent = "";
  gallery.load(collection, await next({ signal }), async () => (cursor ? next() : []));
  if (!gallery.hits.length) return filter ? "Nothing matches this filter. Remove a part of it." : "This collection is empty. Add pictures under “My pictures”.";
  return filter ? "All pictures that match the filter. Type a search." : "All pictures. Type a search, or open one.";
}

function clear() {
  gallery.clear();
  byId("search-times").hidden = true;
  byId("search-recall").textContent = "";
}

/* Show the parts of the query that no field holds as chips that remove them. */
function showTerms() {
  const chip = (text, remove) => el("button", { type: "button", className: "chip term", "aria-label": `Remove: ${text}`, text: `${text} ×`, on: { click: () => (remove(), run({ isStep: true })) } });
  byId("search-terms").replaceChildren(
    ...like.map((id) => chip(`like ${id}`, () => (like = like.filter((one) => one !== id)))),
    ...unlike.map((id) => chip(`not like ${id}`, () => (unlike = unlike.filter((one) => one !== id)))),
  );
}

const placeOf = (id) => gallery.hits.findIndex((hit) => hit.id === id);

/* Open the hit at a place; more are fetched where the list is longer. */
async function look(place, isStep = false) {
  await gallery.reach(place);
  const hit = gallery.hits[place];
  if (!hit) return;
  looking = hit.id;
  remember(isStep);
  await lightbox.show(gallery.collection, hit, { isFirst: place === 0, isLast: place === gallery.hits.length - 1 && byId("search-next").hidden });
}

/* Open the item of an address, also one that is no hit. */
async function reopen(item) {
  const place = placeOf(item);
  if (place >= 0) return look(place);
  looking = item;
  remember();
  await lightbox.show(gallery.collection, { id: item }, { isFirst: true, isLast: true });
}

/* The lightbox was closed: the address forgets the item, and the focus goes back to it. */
function leave() {
  const place = placeOf(looking);
  looking = "";
  if (byId("search").hidden) return;
  remember();
  if (place >= 0) gallery.focus(place);
}

/* Say what the model that answered is good at. */
async function tellModel(name) {
  cards ??= ask("/v1/models").then(({ body }) => new Map(body.data.map((model) => [model.id, describeCard(model)])));
  byId("search-card").textContent = (await cards.catch(() => (cards = null)))?.get(name) ?? "";
}

/* Return the measured recall of the index by kind of query. */
function tellRecall(recall, states) {
  const known = Object.entries(recall ?? {}).filter(([, value]) => value !== null);
  if (Object.values(states ?? {}).some((state) => state.startsWith("stale"))) return "Recall: stale, measuring.";
  if (!known.length) return "Recall not measured.";
  if (known.every(([, value]) => value === 1)) return "Exact search.";
  return `Measured recall: ${known.map(([kind, value]) => `${kind} ${value.toFixed(3)}`).join(", ")}.`;
}

