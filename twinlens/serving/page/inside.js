// Map: the collection as points in a plane, and attention maps of images.
import { readAddress, writeAddress } from "./address.js";
import { ask, curl, show } from "./api.js";
import { colourByCluster, colourByScore, colourByValue, drawLegend } from "./colours.js";
import { byId, el, fill, milliseconds, percent, runner, say } from "./dom.js";
import { PlaneView } from "./plane.js";
import { fillModels } from "./models.js";
import { PictureField, picture } from "./pictures.js";
import { thumbnail } from "./samples.js";
import { Selection } from "./selection.js";

const POLL = 1500;
const PLAIN = ["", "one colour"];
const CLUSTERS = ["@groups", "groups"]; // no field is called so

let view;
let field;
let run;
let draw;
let paint;
let selection;
let map = null; // the answer that the map shows
let pointed = null;
let follower = null; // a timer that asks for the better layout
let filled = Promise.resolve(); // when the models are known: an image may be given before

export function start() {
  draw = runner(byId("map-status"), drawMap);
  paint = runner(byId("map-colour-status"), paintMap);
  view = new PlaneView(byId("map"), { point: pointAt, select: (places) => selection.show(map.collection, places.map((i) => map.ids[i]), places), fetch: fetchLandmark, moved: remember });
  selection = new Selection({ marked: markPoints, changed: () => draw() });
  run = runner(byId("attention-status"), look);
  field = new PictureField(byId("attention-image"), { label: "Image for the attention map", changed: (files) => files.length && run() });
  byId("map-form").addEventListener("submit", (event) => {
    event.preventDefault();
    byId("map-find").value.trim() || byId("map-colour").value ? paint() : draw();
  });
  for (const id of ["map-collection", "map-points"]) byId(id).addEventListener("change", () => draw());
  byId("map-colour").addEventListener("change", () => ((byId("map-find").value = ""), paint()));
  byId("map-find").addEventListener("change", () => paint());
  byId("map-picture").addEventListener("error", () => (byId("map-picture").hidden = true)); // a text, or a file that is gone
  byId("map-whole").addEventListener("click", () => (view.whole(), remember()));
  byId("map-lasso").addEventListener("click", () => {
    view.isLasso = !view.isLasso;
    byId("map-lasso").setAttribute("aria-pressed", String(view.isLasso));
  });
  byId("map-pictures").addEventListener("change", () => view.showPictures(byId("map-pictures").checked));
  byId("map-like").addEventListener("click", () => dispatchEvent(new CustomEvent("twinlens-like", { detail: { collection: map.collection, id: pointed } })));
  byId("map-open").addEventListener("click", () => dispatchEvent(new CustomEvent("twinlens-look", { detail: { collection: map.collection, id: pointed } })));
  byId("attention-form").addEventListener("submit", (event) => {
    event.preventDefault();
    run();
  });
}

export async function open(isFirst, params) {
  const listing = ask("/collections");
  filled = fillModels(byId("attention-model"), (model) => model.has_attention);
  const [{ body }, models] = await Promise.all([listing, filled]);
  fill(byId("map-collection"), body.data.map(({ name }) => [name, name]), params.get("in") ?? byId("map-collection").value);
  const can = models.some((model) => model.has_attention);
  byId("attention").hidden = !can;
  if (can) field.offer();
  if (!body.data.length) return say(byId("map-status"), "There are no pictures here yet. Add some under “My pictures”.");
  if (isFirst) {
    const points = params.get("points");
    if (points) byId("map-points").value = points;
    byId("map-find").value = params.get("find") ?? "";
    await draw();
    const place = params.get("at")?.split(",").map(Number);
    if (place?.length === 3 && place.every(Number.isFinite)) view.view = place;
    byId("map-colour").value = params.get("by") ?? byId("map-colour").value;
    if (params.get("by") || params.get("find")) await paint();
  } else view.draw();
}

export function close() {
  clearTimeout(follower);
}

/* Write what the map shows into the address. */
function remember() {
  if (readAddress().panel !== "inside") return;
  const { value, options } = byId("map-collection");
  const points = byId("map-points").value;
  const at = view.view?.map((part) => part.toFixed(3)).join(",") ?? "";
  writeAddress("inside", { in: options.length > 1 ? value : "", points: points === "2000" ? "" : points, at, by: byId("map-colour").value, find: byId("map-find").value.trim() }, { title: "Map" });
}

async function drawMap(signal) {
  clearTimeout(follower);
  const name = byId("map-collection").value;
  if (!name) throw new Error("There is no collection to draw.");
  const path = pathOf("map", `&layout=neighbours`);
  byId("map-curl").textContent = curl(path);
  const { body } = await ask(path, { signal });
  const isSame = map?.collection === name && map.ids.length === body.ids.length;
  load(body, isSame);
  if (!isSame) await listFields(name);
  if (body.refining) follow(path);
  remember();
  return tell(body);
}

const pathOf = (what, rest = "") => `/collections/${encodeURIComponent(byId("map-collection").value)}/${what}?points=${byId("map-points").value}${rest}`;

function tell(body) {
  const count = `${body.ids.length.toLocaleString("en")} of ${body.total.toLocaleString("en")} pictures`;
  return body.refining ? `${count}; a better map, with neighbours together, is being computed…` : `${count}.`;
}

function load(body, keepsView) {
  map = body;
  byId("map-item").hidden ||= !keepsView;
  selection.clear();
  const names = (body.clusters ?? []).filter(({ names: words }) => words.length).map(({ names: words, at: [x, y] }) => ({ text: words.join(", "), x, y }));
  view.load(body.ids, body.points, { names, keepsView });
  const isRefined = body.method === "neighbours";
  byId("map-told").textContent = isRefined ? "Pictures that the model finds alike lie together." : `The two directions in which pictures differ most: ${percent(body.variance_share)} of the variance.`;
  const values = [...byId("map-colour").options].map(({ value }) => value);
  if (isRefined && body.clusters && !values.includes(CLUSTERS[0])) byId("map-colour").append(el("option", { value: CLUSTERS[0], text: CLUSTERS[1] }));
  if (byId("map-colour").value || byId("map-find").value.trim()) paint();
  else byId("map-legend").replaceChildren();
}

/* Ask again until the layout of neighbours is there. */
function follow(path) {
  follower = setTimeout(async () => {
    try {
      const { body } = await ask(path);
      if (body.method === "neighbours") {
        load(body, true);
        if (view.view === null) view.whole();
        say(byId("map-status"), tell(body));
      } else if (body.refining) follow(path);
      else say(byId("map-status"), tell(body));
    } catch {
      follow(path); // the server may be busy
    }
  }, POLL);
}

/* Offer the fields whose values group the pictures as colours. */
async function listFields(name) {
  const { body } = await ask(`/collections/${encodeURIComponent(name)}/facets`);
  const fields = body.data.filter(({ values }) => values.length > 1).map(({ field: one }) => [one, one]);
  fill(byId("map-colour"), [PLAIN, ...(map.clusters ? [CLUSTERS] : []), ...fields]);
}

async function paintMap(signal) {
  const [text, by] = [byId("map-find").value.trim(), byId("map-colour").value];
  remember();
  if (!map) return "";
  const painted = await findColours(signal, text, by);
  view.colour(painted?.colours ?? null);
  byId("map-legend").replaceChildren(...drawLegend(painted?.legend ?? []));
  return "";
}

async function findColours(signal, text, by) {
  if (text) {
    const path = `/collections/${encodeURIComponent(map.collection)}/map/scores`;
    const { body } = await ask(path, { json: { query: { text }, points: Number(byId("map-points").value), layout: "neighbours" }, signal });
    if (body.scores.length !== map.ids.length) throw new Error("The collection has changed: draw the map again.");
    return colourByScore(body.scores);
  }
  if (!by) return null;
  if (by === CLUSTERS[0]) return colourByCluster(map.labels, map.clusters);
  const { body } = await ask(pathOf("map/values", `&layout=neighbours&field=${encodeURIComponent(by)}`), { signal });
  if (body.values.length !== map.ids.length) throw new Error("The collection has changed: draw the map again.");
  return colourByValue(body.values);
}

function markPoints(places) {
  if (!places) return view.mark(null);
  const flags = new Uint8Array(map.ids.length);
  for (const place of places) flags[place] = 1;
  view.mark(flags);
}

function pointAt(id) {
  if (id === pointed && !byId("map-item").hidden) return;
  pointed = id;
  byId("map-item").hidden = false;
  byId("map-name").textContent = id;
  byId("map-picture").alt = id;
  byId("map-picture").hidden = false;
  show(byId("map-picture"), thumbnail(map.collection, id));
}

/* Return the thumbnail of an item once loaded; null if it has none. */
function fetchLandmark(id) {
  return new Promise((resolve) => {
    const image = new Image();
    image.onerror = () => resolve(null);
    image.addEventListener("load", () => resolve(image), { once: true });
    show(image, thumbnail(map.collection, id));
  });
}

async function look(signal) {
  const [file] = field.files;
  if (!file) throw new Error("Drop an image.");
  await filled;
  const path = `/attention?model=${encodeURIComponent(byId("attention-model").value)}`;
  byId("attention-curl").textContent = `${curl(path, { accept: "image/png", body: file })} -o map.png`;
  const { body, took } = await ask(path, { raw: file, accept: "image/png", blob: true, signal });
  const overlay = picture(new File([body], "attention over the image", { type: body.type }));
  const seen = [picture(file), overlay].map((image, i) => el("figure", { className: "card wide" }, image, el("figcaption", { text: i ? "bright where the encoder looks" : "the picture" })));
  byId("attention-result").replaceChildren(...seen);
  return `Last layer, mean of the heads, in ${milliseconds(took)}.`;
}
