// Compare: two searches side by side, or texts with pictures under one model or two.
import { readAddress, writeAddress } from "./address.js";
import { ask, curl, show, showTimes } from "./api.js";
import { byId, el, fill, lines, milliseconds, percent, runner } from "./dom.js";
import { titleOf } from "./gallery.js";
import { fillModels } from "./models.js";
import { PictureField, encode, picture } from "./pictures.js";

const SIDES = ["left", "right"];
const SHOWN = 12; // hits of each search

const fields = {};
let run;
let runSearches;

export function start() {
  run = runner(byId("compare-status"), compare, () => byId("compare-tables").replaceChildren());
  runSearches = runner(byId("pair-status"), searchBoth, () => SIDES.forEach((side) => byId(`pair-${side}-results`).replaceChildren()));
  for (const side of SIDES) {
    fields[side] = new PictureField(byId(`compare-${side}-images`), { label: side === "left" ? "Images of the rows" : "Images of the columns", many: true });
  }
  const submit = (id, act) => byId(id).addEventListener("submit", (event) => {
    event.preventDefault();
    act();
  });
  submit("compare-form", run);
  submit("pair-form", runSearches);
}

export async function open(isFirst, params) {
  const [{ body }, models] = await Promise.all([ask("/collections"), fillModels(byId("compare-model"))]);
  fill(byId("compare-second"), [["", "no second model"], ...models.map(({ id }) => [id, id])]);
  byId("compare-second").parentElement.hidden = models.length < 2;
  const names = body.data.map(({ name, bundle }) => [name, `${name} (${bundle.name})`]);
  for (const [side, key] of [["left", ""], ["right", "2"]]) {
    fill(byId(`pair-${side}-in`), names, params.get(`in${key}`) ?? byId(`pair-${side}-in`).value);
    byId(`pair-${side}`).value = params.get(`q${key}`) ?? byId(`pair-${side}`).value;
  }
  byId("pair").hidden = !names.length;
  for (const field of Object.values(fields)) field.offer(5);
  if (params.get("q") && params.get("q2")) await runSearches();
}

/* Search with both queries; what both found is marked. */
async function searchBoth(signal) {
  const asked = SIDES.map((side) => ({ collection: byId(`pair-${side}-in`).value, text: byId(`pair-${side}`).value.trim(), k: SHOWN }));
  if (asked.some(({ text }) => !text)) throw new Error("Type two searches, or one search for two collections.");
  const [first, second] = asked;
  if (readAddress().panel === "compare") writeAddress("compare", { q: first.text, in: first.collection, q2: second.text, in2: second.collection }, { title: `${first.text} / ${second.text}` });
  byId("compare-curl").textContent = asked.map((json) => curl("/search", { json })).join("\n");
  const answers = await Promise.all(asked.map((json) => ask("/search", { json, signal })));
  const found = answers.map(({ body }) => new Set(body.data.map(({ id }) => id)));
  const shared = [...found[0]].filter((id) => found[1].has(id));
  SIDES.forEach((side, i) => byId(`pair-${side}-results`).replaceChildren(...answers[i].body.data.map((hit) => drawHit(hit, found[1 - i].has(hit.id)))));
  return `${shared.length} of ${Math.max(found[0].size, found[1].size)} are in both.`;
}

function drawHit(hit, isShared) {
  const title = titleOf(hit);
  const image = el("img", { alt: title, loading: "lazy" });
  show(image, hit.thumbnail);
  return el("li", { className: isShared ? "shared" : "" }, image, el("span", { text: title, title }), isShared ? el("small", { text: "in both" }) : null);
}

/* Return the items of one side: their request values and their row or column headers. */
async function readSide(side) {
  const texts = lines(byId(`compare-${side}`).value);
  const images = await Promise.all(fields[side].files.map(async (file) => ({ sent: { image: await encode(file) }, name: file.name, head: () => picture(file) })));
  const items = [...texts.map((text) => ({ sent: text, name: text, head: () => document.createTextNode(text) })), ...images];
  if (!items.length) throw new Error(`Add at least one text or image to the ${side === "left" ? "rows" : "columns"}.`);
  return items;
}

async function compare(signal) {
  const [left, right] = await Promise.all([readSide("left"), readSide("right")]);
  const models = [byId("compare-model").value, byId("compare-second").value].filter((name, i, all) => name && all.indexOf(name) === i);
  const ask1 = (model) => ({ left: left.map(({ sent }) => sent), right: right.map(({ sent }) => sent), model });
  byId("compare-curl").textContent = models.map((model) => curl("/similarity", { json: ask1(model) })).join("\n");
  const began = performance.now();
  const answers = await Promise.all(models.map((model) => ask("/similarity", { json: ask1(model), signal })));
  byId("compare-tables").replaceChildren(...answers.map(({ body }, i) => draw(left, right, body.similarities, models.length > 1 ? models[i] : "")));
  showTimes(byId("compare-times"), answers[0].response);
  const agreement = models.length > 1 ? ` ${percent(agree(...answers.map(({ body }) => body.similarities)))} of the rows have the same best column.` : "";
  return `${left.length} × ${right.length} pairs in ${milliseconds(performance.now() - began)}.${agreement}`;
}

/* Return the share of rows whose best column is the same under both models. */
function agree(first, second) {
  const best = (row) => row.indexOf(Math.max(...row));
  return first.filter((row, i) => best(row) === best(second[i])).length / first.length;
}

/* Colours range from the smallest value to the largest; the cells contain the numbers. */
function draw(left, right, values, model) {
  const all = values.flat();
  const low = Math.min(...all);
  const span = Math.max(...all) - low || 1;
  const head = el("tr", {}, el("td"), ...right.map((item) => el("th", { scope: "col" }, item.head())));
  const rows = left.map((item, i) => {
    const best = Math.max(...values[i]);
    return el("tr", {}, el("th", { scope: "row" }, item.head()), ...values[i].map((value, j) => cell(value, (value - low) / span, `${item.name} and ${right[j].name}`, value === best)));
  });
  const table = el("table", { className: "heat" }, model ? el("caption", { text: model }) : null, el("thead", {}, head), el("tbody", {}, ...rows));
  return el("div", { className: "scroll", tabIndex: 0, role: "region", "aria-label": model ? `Similarities by ${model}` : "Similarities" }, table);
}

function cell(value, share, title, isBest) {
  const node = el("td", { text: value.toFixed(3), title, className: isBest ? "best" : "" });
  node.style.backgroundColor = `rgb(var(--heat) / ${(0.03 + 0.5 * share).toFixed(3)})`;
  return node;
}
