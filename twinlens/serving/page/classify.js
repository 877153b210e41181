// Classify: images against class names, stored classifiers, or classes with example images.
import { ask, curl, showTimes } from "./api.js";
import { byId, el, fill, lines, milliseconds, percent, runner, say, showWarning } from "./dom.js";
import { pathOf, saveText, toCsv } from "./files.js";
import { describeCard, doubt, fillModels } from "./models.js";
import { PictureField, picture } from "./pictures.js";
import { Lessons, isDraft } from "./lessons.js";
import { shrink } from "./shrink.js";
import { VerdictTable, decide, drawCard, drawConfusion, listVerdicts, truthOf } from "./verdicts.js";

const TEMPLATES = [["", "the bundle's own"], ["plain", "plain: the bare name"], ["photo", "photo"], ["artwork", "artwork"], ["icon", "icon"], ["product", "product"], ["broad", "broad: 80 of them"]];
const LEXICON = "lexicon"; // the vocabulary of tags, not classes of the user's
const MOST_CARDS = 12;
const GROUP = 8; // pictures of a request

let images;
let shown; // the field of examples
let lessons;
let models = [];
let run;
let rows = []; // {file, answer, earlier}
let judgedRows = [];
let table;
let named = {}; // templates by name

export function start() {
  run = runner(byId("classify-status"), classify, clear);
  table = new VerdictTable(byId("classify-table"));
  images = new PictureField(byId("classify-images"), { label: "Images to classify", many: true, hasFolder: true, changed: (files) => (offerFolders(files), files.length ? run() : clear()) });
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
  byId("classify-least").addEventListener("input", drawRows);
  for (const id of ["classify-as-auto", "classify-as-cards", "classify-as-table"]) byId(id).addEventListener("change", drawRows);
  byId("classify-csv").addEventListener("click", () => saveText("classes.csv", toCsv(listVerdicts(judgedRows, classNames())), "text/csv"));
  byId("classify-templates").addEventListener("change", showTemplates);
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
  const worth = doubt(found);
  byId("classify-card").textContent = [describeCard({ ...found, id: model }), worth && `It is ${worth}.`].filter(Boolean).join(" ");
  showTemplates();
}

/* Show the prompts that the chosen templates make of the first class. */
function showTemplates() {
  const model = models.find(({ id }) => id === byId("classify-model").value);
  const chosen = byId("classify-templates").value;
  const templates = chosen ? (named[chosen] ?? ["{}"]) : (model?.templates ?? []);
  const [first = "cat"] = lines(byId("classify-classes").value);
  const shown = templates.slice(0, 8).map((text) => `“${text.replaceAll("{}", first)}”`);
  const rest = templates.length - shown.length;
  byId("classify-prompts").textContent = shown.length ? `The model reads: ${shown.join(", ")}${rest > 0 ? ` and ${rest} more` : ""}.` : "";
}

async function listStored(chosen) {
  const { body } = await ask("/classifiers");
  named = body.templates;
  byId("teach-kept").textContent = body.kept ? "Saved classes are kept in the server’s data folder and outlive it." : "This server has no data folder: saved classes are lost when it stops. Start it with --data DIR to keep them.";
  showTemplates();
  fill(byId("classify-stored"), [["", "none: the classes typed here"], ...body.data.filter(({ name }) => !isDraft(name) && name !== LEXICON).map(({ name }) => [name, name])], chosen);
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
  const before = isTaught && readsText() ? readOptions("") : null;
  byId("classify-legend").hidden = before === null;
  rows = [];
  const began = performance.now();
  for (let at = 0; at < files.length; at += GROUP) {
    await classifyGroup(files.slice(at, at + GROUP), fields, before, signal);
    if (files.length > GROUP) say(byId("classify-status"), `${rows.length} of ${files.length}…`);
    drawRows();
  }
  return `${files.length === 1 ? "1 image" : `${files.length} images`} in ${milliseconds(performance.now() - began)}.`;
}

/* Classify some pictures and append their rows. */
async function classifyGroup(files, fields, before, signal) {
  const model = models.find(({ id }) => id === byId("classify-model").value);
  const side = Math.max(...(model?.image_size ?? [224]));
  const sent = await Promise.all(files.map((file) => shrink(file, side)));
  const earlier = before && (await zeroshot(sent, before, signal)).body.data;
  const { body, response } = await zeroshot(sent, fields, signal);
  const scores = (answer) => new Map((answer?.labels ?? []).map(({ label, score, calibrated }) => [label, calibrated ?? score]));
  rows.push(...body.data.map((answer, i) => ({ file: files[answer.index], answer, earlier: scores(earlier?.[i]) })));
  showWarning("classify-warning", body.warnings?.join(" "));
  showTimes(byId("classify-times"), response);
}

/* Draw the answers by the threshold: cards for a few pictures, a table for many. */
function drawRows() {
  const least = Number(byId("classify-least").value);
  byId("classify-least-told").textContent = least ? percent(least) : "off";
  const known = classNames();
  const judged = rows.map((row) => ({ ...row, ...decide(row.answer, least), truth: truthOf(row.file, known) }));
  const isMany = byId("classify-as-table").checked || (rows.length > MOST_CARDS && !byId("classify-as-cards").checked);
  byId("classify-tools").hidden = rows.length === 0;
  byId("classify-table-scroll").hidden = !isMany;
  byId("classify-results").hidden = isMany;
  if (isMany) table.draw(judged);
  else byId("classify-results").replaceChildren(...judged.map((row) => drawCard(row.answer, row.file, row.earlier, least)));
  byId("classify-confusion").replaceChildren(...(drawConfusion(judged) ?? []));
  judgedRows = judged;
}

/* Return the names of the classes that the answers are about. */
function classNames() {
  const answered = rows.find(({ answer }) => answer.labels)?.answer.labels ?? [];
  return [...answered].sort((a, b) => a.index - b.index).map(({ label }) => label);
}

function clear() {
  rows = [];
  drawRows();
  byId("classify-times").hidden = true;
}

const readsText = () => models.find(({ id }) => id === byId("classify-model").value)?.modalities.includes("text");

function zeroshot(files, fields, signal) {
  const form = new FormData();
  for (const file of files) form.append("images", file);
  for (const [name, value] of fields) form.append(name, value);
  return ask("/zeroshot", { form, signal });
}

/* Offer the names of the pictures' folders as classes. */
function offerFolders(files) {
  const names = [...new Set(files.map((file) => pathOf(file).split("/").at(-2)).filter(Boolean))];
  byId("classify-folders").hidden = names.length < 2;
  byId("classify-folders").onclick = () => {
    byId("classify-classes").value = names.map((name) => name.replaceAll(/[_-]+/g, " ")).join("\n");
    byId("classify-folders").hidden = true;
    listClasses();
    run();
  };
}

/* Take examples of a class from another panel; a class that is new joins the list. */
export function teach(name, files) {
  const classes = lines(byId("classify-classes").value);
  if (!classes.includes(name)) byId("classify-classes").value = [...classes, name].join("\n");
  listClasses();
  lessons.add(name, files);
  byId("teach").open = true;
  showHeld();
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
