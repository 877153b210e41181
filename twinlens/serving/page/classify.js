// Classify: images against class names, stored classifiers, or classes with example images.
import { ask, curl, showTimes } from "./api.js";
import { byId, el, fill, lines, milliseconds, percent, runner, say, showWarning } from "./dom.js";
import { doubt, fillModels, headline } from "./models.js";
import { PictureField, picture } from "./pictures.js";
import { Lessons } from "./lessons.js";

const TEMPLATES = [["", "the bundle's own"], ["plain", "plain: the bare name"], ["photo", "photo"], ["artwork", "artwork"], ["icon", "icon"], ["product", "product"], ["broad", "broad: 80 of them"]];
const MOST_BARS = 8;

let images;
let shown; // the field of examples
let lessons;
let models = [];
let run;

export function start() {
  run = runner(byId("classify-status"), classify);
  images = new PictureField(byId("classify-images"), { label: "Images to classify", many: true, changed: (files) => files.length && run() });
  shown = new PictureField(byId("teach-images"), { label: "Example images of a class", many: true });
  lessons = new Lessons();
  fill(byId("classify-templates"), TEMPLATES);
  byId("classify-form").addEventListener("submit", (event) => {
    event.preventDefault();
    run();
  });
  byId("classify-classes").addEventListener("input", listClasses);
  byId("classify-model").addEventListener("change", showCard);
  for (const id of ["classify-classes", "classify-stored", "classify-templates", "classify-model", "classify-none", "classify-multi"]) {
    byId(id).addEventListener("change", () => images.files.length && run());
  }
  byId("classify-stored").addEventListener("change", () => (byId("classify-classes").disabled = byId("classify-stored").value !== ""));
  byId("teach-add").addEventListener("click", addExamples);
  byId("teach-save").addEventListener("click", () => runner(byId("teach-told"), save)());
  addEventListener("pagehide", () => lessons.forget());
  listClasses();
}

export async function open() {
  [models] = await Promise.all([fillModels(byId("classify-model"), (model) => model.modalities.includes("image")), listStored()]);
  showCard();
  for (const field of [images, shown]) field.offer();
}

/* Show what the chosen model is for. */
function showCard() {
  const model = byId("classify-model").value;
  const found = models.find(({ id }) => id === model) ?? {};
  const told = [headline(found), doubt(found)].filter(Boolean).join("; ");
  byId("classify-card").textContent = told && `Model ${model}: ${told}.`;
}

async function listStored(chosen) {
  const { body } = await ask("/classifiers");
  fill(byId("classify-stored"), [["", "none: the classes typed here"], ...body.data.filter(({ name }) => !lessons.isDraft(name)).map(({ name }) => [name, name])], chosen);
  byId("classify-classes").disabled = byId("classify-stored").value !== "";
}

function listClasses() {
  fill(byId("teach-class"), lines(byId("classify-classes").value).map((name) => [name, name]));
}

/* Return the request without its images; `classifier` replaces the classes typed here. */
function readOptions(classifier) {
  const options = [["model", byId("classify-model").value]];
  const classes = lines(byId("classify-classes").value);
  if (classifier) options.push(["classifier", classifier]);
  else if (!classes.length) throw new Error("Type at least one class, or choose a stored classifier.");
  else options.push(...classes.map((name) => ["classes", name]));
  if (!classifier && byId("classify-templates").value) options.push(["templates", byId("classify-templates").value]);
  if (byId("classify-none").checked) options.push(["none_of_these", "true"]);
  if (byId("classify-multi").checked) options.push(["multi_label", "true"]);
  return options;
}

/* Classify; with example images also by names alone, to show the difference. */
async function classify(signal) {
  const files = [...images.files];
  const stored = byId("classify-stored").value;
  const classes = lines(byId("classify-classes").value);
  const isTaught = lessons.cover(classes) && (stored === "" || stored === lessons.saved);
  const draft = isTaught && stored === "" ? await lessons.store(describe(classes), signal) : "";
  const fields = readOptions(stored || draft);
  byId("classify-curl").textContent = curl("/zeroshot", { fields, files: files.length ? files.map((file) => file.name) : ["FILE"] });
  if (!files.length) throw new Error("Drop at least one image.");
  const before = isTaught && readsText() ? await zeroshot(files, readOptions(""), signal) : null;
  const { body, response, took } = await zeroshot(files, fields, signal);
  const earlier = (i) => new Map((before?.body.data[i].labels ?? []).map(({ label, score, calibrated }) => [label, calibrated ?? score]));
  byId("classify-legend").hidden = before === null;
  showWarning("classify-warning", body.warnings?.join(" "));
  byId("classify-results").replaceChildren(...body.data.map((answer, i) => showAnswer(answer, files[answer.index], earlier(i))));
  showTimes(byId("classify-times"), response);
  return `${files.length === 1 ? "1 image" : `${files.length} images`} in ${milliseconds(took)}.`;
}

const readsText = () => models.find(({ id }) => id === byId("classify-model").value)?.modalities.includes("text");

function zeroshot(files, fields, signal) {
  const form = new FormData();
  for (const file of files) form.append("images", file);
  for (const [name, value] of fields) form.append(name, value);
  return ask("/zeroshot", { form, signal });
}

function showAnswer(answer, file, earlier) {
  if (answer.error) return el("article", { className: "card" }, picture(file), el("p", { className: "error", text: answer.error.message }));
  const bars = answer.labels.slice(0, MOST_BARS).map((label) => showLabel(label, earlier.get(label.label)));
  const hidden = answer.labels.length - bars.length;
  const verdict = answer.none_of_these ? el("p", { className: "note verdict", text: "None of these." }) : null;
  return el("article", { className: "card" }, picture(file), el("div", {}, verdict, el("ol", { className: "labels" }, ...bars), hidden > 0 ? el("p", { className: "hint", text: `and ${hidden} less likely` }) : null));
}

/* Show a label by its calibrated probability where the bundle tells it, else by its score. */
function showLabel({ label, score: plain, calibrated, similarity }, earlier) {
  const score = calibrated ?? plain;
  const tracks = el("span", { className: "tracks", "aria-hidden": "true" }, earlier === undefined ? null : track(earlier, "before"), track(score, ""));
  const told = earlier === undefined ? percent(score) : `${percent(earlier).replace(" %", "")} → ${percent(score)}`;
  return el("li", { title: `cosine ${similarity.toFixed(3)}` }, el("span", { text: label }), tracks, el("span", { className: "score", text: told }));
}

function track(share, kind) {
  const bar = el("i", { className: kind });
  bar.style.width = `${Math.max(0, Math.min(1, share)) * 100}%`;
  return el("span", { className: "track" }, bar);
}

function addExamples() {
  const name = byId("teach-class").value;
  if (!name || !shown.files.length) return say(byId("teach-told"), "Type a class above, and drop example images of it.", true);
  lessons.add(name, shown.files);
  shown.clear();
  showHeld();
  if (images.files.length) run();
}

/* Show the examples of each class, with a button that removes them. */
function showHeld() {
  const rows = [...lessons.held].map(([name, files]) => {
    const forget = el("button", { type: "button", className: "link", text: "remove", "aria-label": `Remove the examples of ${name}`, on: { click: () => drop(name) } });
    return el("p", {}, el("strong", { text: name }), ` ${files.length} `, ...files.slice(0, 6).map(picture), " ", forget);
  });
  byId("teach-held").replaceChildren(...rows);
  say(byId("teach-told"), rows.length ? "Used in this tab until it is closed; save them to keep them." : "");
}

function drop(name) {
  lessons.drop(name);
  showHeld();
  if (images.files.length) run();
}

/* Return the classes of a classifier from the form. */
function describe(classes) {
  const json = { classes, model: byId("classify-model").value };
  if (byId("classify-templates").value) json.templates = byId("classify-templates").value;
  return json;
}

/* Store the classes with their examples under a name, select them, and classify again. */
async function save(signal) {
  const name = byId("teach-name").value.trim();
  if (!name) throw new Error("Give the classifier a name.");
  await lessons.save(name, describe(lines(byId("classify-classes").value)), signal);
  await listStored(name);
  if (images.files.length) run();
  return `Saved as ${name}; it is used now.`;
}
