// Classify: pictures against classes in words, stored classes, or classes taught by examples.
import { ask, curl, stages } from "./api.js";
import { byId, el, fill, lines, milliseconds, percent, runner } from "./dom.js";
import { fillModels } from "./models.js";
import { PictureField, encode, picture } from "./pictures.js";

const TEMPLATES = [["", "the bundle's own"], ["plain", "plain: the bare name"], ["photo", "photo"], ["artwork", "artwork"], ["icon", "icon"], ["product", "product"], ["broad", "broad: 80 of them"]];
const MOST_BARS = 8;

const examples = new Map(); // class -> files
let images;
let lessons;
let run;

export function start() {
  run = runner(byId("classify-status"), classify);
  images = new PictureField(byId("classify-images"), { label: "Images to classify", many: true, changed: (files) => files.length && run() });
  lessons = new PictureField(byId("teach-images"), { label: "Example images of a class", many: true });
  fill(byId("classify-templates"), TEMPLATES);
  byId("classify-form").addEventListener("submit", (event) => {
    event.preventDefault();
    run();
  });
  byId("classify-classes").addEventListener("input", listClasses);
  for (const id of ["classify-classes", "classify-stored", "classify-templates", "classify-model", "classify-none", "classify-multi"]) {
    byId(id).addEventListener("change", () => images.files.length && run());
  }
  byId("classify-stored").addEventListener("change", () => (byId("classify-classes").disabled = byId("classify-stored").value !== ""));
  byId("teach-add").addEventListener("click", addExamples);
  byId("teach-save").addEventListener("click", () => runner(byId("teach-told"), save)());
  listClasses();
}

export async function open() {
  const models = byId("classify-model");
  await Promise.all([fillModels(models, (model) => model.modalities.includes("image")), listStored()]);
}

async function listStored(chosen) {
  const { body } = await ask("/classifiers");
  fill(byId("classify-stored"), [["", "none: the classes typed here"], ...body.data.map(({ name }) => [name, name])], chosen);
  byId("classify-classes").disabled = byId("classify-stored").value !== "";
}

function listClasses() {
  fill(byId("teach-class"), lines(byId("classify-classes").value).map((name) => [name, name]));
}

function readOptions() {
  const options = [["model", byId("classify-model").value]];
  const stored = byId("classify-stored").value;
  const classes = lines(byId("classify-classes").value);
  if (stored) options.push(["classifier", stored]);
  else if (!classes.length) throw new Error("Type at least one class, or choose a stored classifier.");
  else options.push(...classes.map((name) => ["classes", name]));
  if (!stored && byId("classify-templates").value) options.push(["templates", byId("classify-templates").value]);
  if (byId("classify-none").checked) options.push(["none_of_these", "true"]);
  if (byId("classify-multi").checked) options.push(["multi_label", "true"]);
  return options;
}

async function classify(signal) {
  const files = [...images.files];
  const fields = readOptions();
  byId("classify-curl").textContent = curl("/zeroshot", { fields, files: files.length ? files.map((file) => file.name) : ["FILE"] });
  if (!files.length) throw new Error("Drop at least one image.");
  const form = new FormData();
  for (const file of files) form.append("images", file);
  for (const [name, value] of fields) form.append(name, value);
  const { body, response, took } = await ask("/zeroshot", { form, signal });
  byId("classify-results").replaceChildren(...body.data.map((answer) => showAnswer(answer, files[answer.index])));
  return `${files.length === 1 ? "1 image" : `${files.length} images`} in ${milliseconds(took)} (in the server: ${stages(response)} ms)`;
}

function showAnswer(answer, file) {
  if (answer.error) return el("article", { className: "card" }, picture(file), el("p", { className: "error", text: answer.error.message }));
  const bars = answer.labels.slice(0, MOST_BARS).map(showLabel);
  const hidden = answer.labels.length - bars.length;
  const verdict = answer.none_of_these ? el("p", { className: "note verdict", text: "None of these." }) : null;
  return el("article", { className: "card" }, picture(file), el("div", {}, verdict, el("ol", { className: "labels" }, ...bars), hidden > 0 ? el("p", { className: "hint", text: `and ${hidden} less likely` }) : null));
}

function showLabel({ label, score, similarity }) {
  const bar = el("i");
  bar.style.width = `${Math.max(0, Math.min(1, score)) * 100}%`;
  return el("li", { title: `cosine ${similarity.toFixed(3)}` }, el("span", { text: label }), el("span", { className: "track", "aria-hidden": "true" }, bar), el("span", { className: "score", text: percent(score) }));
}

function addExamples() {
  const name = byId("teach-class").value;
  if (!name || !lessons.files.length) return tell("Type a class above, and drop images that show it.", true);
  examples.set(name, [...(examples.get(name) ?? []), ...lessons.files]);
  lessons.clear();
  tell();
}

function tell(text, isError = false) {
  const counts = [...examples].map(([name, files]) => `${name}: ${files.length}`).join(", ");
  byId("teach-told").textContent = text ?? `Examples: ${counts}. Save to use them.`;
  byId("teach-told").classList.toggle("error", isError);
}

/* Store the classes with their examples, choose them, and classify anew: the change shows. */
async function save(signal) {
  const name = byId("teach-name").value.trim();
  if (!name) throw new Error("Give the classifier a name.");
  const classes = await Promise.all(
    lines(byId("classify-classes").value).map(async (label) => {
      const files = examples.get(label) ?? [];
      return files.length ? { name: label, examples: await Promise.all(files.map(encode)) } : label;
    }),
  );
  const json = { classes, model: byId("classify-model").value };
  if (byId("classify-templates").value) json.templates = byId("classify-templates").value;
  await ask(`/classifiers/${encodeURIComponent(name)}`, { method: "PUT", json, signal });
  await listStored(name);
  if (images.files.length) run();
  return `Saved as ${name}; it is used now.`;
}
