// Look inside: the collection as a map, and attention maps of images.
import { ask, curl, show } from "./api.js";
import { byId, el, fill, milliseconds, percent, runner } from "./dom.js";
import { PlaneView } from "./plane.js";
import { fillModels } from "./models.js";
import { PictureField, picture } from "./pictures.js";
import { thumbnail } from "./samples.js";

const MOST_SHOWN = 30;

let view;
let field;
let run;
let drawn = ""; // the collection that the map shows
let pointed = null;
let filled = Promise.resolve(); // when the models are known: an image may be given before

export function start() {
  const draw = runner(byId("map-status"), drawMap);
  view = new PlaneView(byId("map"), { point: pointAt, select: showSelection, fetch: fetchLandmark });
  run = runner(byId("attention-status"), look);
  field = new PictureField(byId("attention-image"), { label: "Image for the attention map", changed: (files) => files.length && run() });
  byId("map-form").addEventListener("submit", (event) => {
    event.preventDefault();
    draw();
  });
  byId("map-picture").addEventListener("error", () => (byId("map-picture").hidden = true)); // a text, or a file that is gone
  byId("map-whole").addEventListener("click", () => view.whole());
  byId("map-pictures").addEventListener("change", () => view.showPictures(byId("map-pictures").checked));
  byId("map-like").addEventListener("click", () => dispatchEvent(new CustomEvent("twinlens-like", { detail: { collection: drawn, id: pointed } })));
  byId("attention-form").addEventListener("submit", (event) => {
    event.preventDefault();
    run();
  });
}

export async function open(isFirst) {
  const listing = ask("/collections");
  filled = fillModels(byId("attention-model"), (model) => model.has_attention);
  const [{ body }, models] = await Promise.all([listing, filled]);
  fill(byId("map-collection"), body.data.map(({ name }) => [name, name]));
  const can = models.some((model) => model.has_attention);
  byId("attention-form").hidden = byId("attention-call").hidden = !can;
  if (can) field.offer();
  if (!can) byId("attention-status").textContent = "No served bundle has an attention graph; `twinlens export` writes one for vision transformers.";
  if (!body.data.length) byId("map-status").textContent = "This server has no collection to draw.";
  else if (isFirst) byId("map-form").requestSubmit();
  else view.draw();
}

async function drawMap(signal) {
  const name = byId("map-collection").value;
  if (!name) throw new Error("There is no collection to draw.");
  const path = `/collections/${encodeURIComponent(name)}/map?points=${byId("map-points").value}`;
  byId("map-curl").textContent = curl(path);
  const { body } = await ask(path, { signal });
  drawn = name;
  byId("map-item").hidden = true;
  byId("map-selection").replaceChildren();
  view.load(body.ids, body.points);
  return `${body.ids.length.toLocaleString("en")} of ${body.total.toLocaleString("en")} items; the two axes hold ${percent(body.variance_share)} of the variance.`;
}

function pointAt(id) {
  if (id === pointed && !byId("map-item").hidden) return;
  pointed = id;
  byId("map-item").hidden = false;
  byId("map-name").textContent = id;
  byId("map-picture").alt = id;
  byId("map-picture").hidden = false;
  show(byId("map-picture"), thumbnail(drawn, id));
}

/* Return the thumbnail of an item once loaded; null if it has none. */
function fetchLandmark(id) {
  return new Promise((resolve) => {
    const image = new Image();
    image.onerror = () => resolve(null);
    image.addEventListener("load", () => resolve(image), { once: true });
    show(image, thumbnail(drawn, id));
  });
}

function showSelection(ids) {
  const shown = ids.slice(0, MOST_SHOWN).map((id) => {
    const image = el("img", { alt: id, title: id });
    show(image, thumbnail(drawn, id));
    return el("span", { className: "preview" }, image);
  });
  const told = ids.length > MOST_SHOWN ? `${ids.length} selected, ${MOST_SHOWN} shown` : `${ids.length} selected`;
  byId("map-selection").replaceChildren(el("p", { className: "hint", text: told }), ...shown);
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
