// Tag: pictures to the nearest words of a vocabulary; nobody names classes.
import { ask, curl, showTimes } from "./api.js";
import { byId, el, fill, milliseconds, percent, runner, say, showWarning } from "./dom.js";
import { isDraft } from "./lessons.js";
import { describeCard, fillModels } from "./models.js";
import { PictureField, picture } from "./pictures.js";
import { shrink } from "./shrink.js";
import { track } from "./verdicts.js";

const LEXICON = "lexicon"; // the server's own words
const GROUP = 8; // pictures of a request

let images;
let models = [];

export function start() {
  const run = runner(byId("tag-status"), tag, clear);
  images = new PictureField(byId("tag-images"), { label: "Images to tag", many: true, changed: (files) => (files.length ? run() : clear()) });
  byId("tag-form").addEventListener("submit", (event) => {
    event.preventDefault();
    run();
  });
  for (const id of ["tag-words", "tag-model", "tag-count"]) byId(id).addEventListener("change", () => images.files.length && run());
  byId("tag-model").addEventListener("change", showCard);
}

export async function open() {
  const canTag = ({ modalities }) => modalities.includes("image") && modalities.includes("text");
  const [found, { body }] = await Promise.all([fillModels(byId("tag-model"), canTag), ask("/classifiers")]);
  models = found;
  const stored = body.data.map(({ name }) => name).filter((name) => !isDraft(name) && name !== LEXICON);
  fill(byId("tag-words"), [["", "everyday things, in English"], ...stored.map((name) => [name, `the stored classifier ${name}`])]);
  showCard();
  images.offer();
}

function showCard() {
  const id = byId("tag-model").value;
  byId("tag-card").textContent = describeCard({ ...models.find((model) => model.id === id), id });
}

async function tag(signal) {
  const files = [...images.files];
  const options = [["top_k", byId("tag-count").value], ["model", byId("tag-model").value]];
  if (byId("tag-words").value) options.push(["classifier", byId("tag-words").value]);
  byId("tag-curl").textContent = curl("/tag", { fields: options, files: files.length ? files.map(({ name }) => name) : ["FILE"] });
  if (!files.length) throw new Error("Drop at least one image.");
  const began = performance.now();
  const cards = [];
  let words = 0;
  for (let at = 0; at < files.length; at += GROUP) {
    const some = files.slice(at, at + GROUP);
    const { body, response } = await post(some, options, signal);
    cards.push(...body.data.map((answer) => drawCard(answer, some[answer.index])));
    words = body.words;
    showWarning("tag-warning", body.warnings?.join(" "));
    showTimes(byId("tag-times"), response);
    byId("tag-results").replaceChildren(...cards);
    say(byId("tag-status"), `${cards.length} of ${files.length}…`);
  }
  return `${files.length === 1 ? "1 image" : `${files.length} images`}, ${words} words, in ${milliseconds(performance.now() - began)}.`;
}

async function post(files, options, signal) {
  const model = models.find(({ id }) => id === byId("tag-model").value);
  const side = Math.max(...(model?.image_size ?? [224]));
  const form = new FormData();
  for (const file of files) form.append("images", await shrink(file, side), file.name);
  for (const [name, value] of options) form.append(name, value);
  return ask("/tag", { form, signal });
}

function drawCard({ error, tags, none_of_these: isNone }, file) {
  if (error) return el("article", { className: "card" }, picture(file), el("p", { className: "error", text: error.message }));
  const verdict = isNone ? el("p", { className: "note verdict", text: "None of the words fits; the nearest are" }) : null;
  return el("article", { className: "card" }, picture(file), el("div", {}, verdict, el("ol", { className: "labels" }, ...tags.map(drawTag))));
}

/* Draw a tag by its probability; a bundle without calibration has cosines alone. */
function drawTag({ tag: word, similarity, probability }) {
  const cosine = `cosine ${similarity.toFixed(3)}`;
  const bar = el("span", { className: "tracks", "aria-hidden": "true" }, track(probability ?? similarity, ""));
  return el("li", { title: cosine }, el("span", { text: word }), bar, el("span", { className: "score", text: probability === null ? cosine : percent(probability) }));
}

function clear() {
  byId("tag-results").replaceChildren();
  byId("tag-times").hidden = true;
  showWarning("tag-warning", "");
}
