// Compare: every item of one list with every item of another, as a heat map of cosines.
import { ask, curl, showTimes } from "./api.js";
import { byId, el, lines, milliseconds, runner } from "./dom.js";
import { fillModels } from "./models.js";
import { PictureField, encode, picture } from "./pictures.js";

const sides = {};
let run;

export function start() {
  run = runner(byId("compare-status"), compare);
  for (const side of ["left", "right"]) {
    sides[side] = new PictureField(byId(`compare-${side}-images`), { label: side === "left" ? "Images of the rows" : "Images of the columns", many: true });
  }
  byId("compare-form").addEventListener("submit", (event) => {
    event.preventDefault();
    run();
  });
}

export async function open() {
  await fillModels(byId("compare-model"));
  for (const side of Object.values(sides)) side.offer(5);
}

/* Return the items of one side: their request values and their row or column headers. */
async function readSide(side) {
  const texts = lines(byId(`compare-${side}`).value);
  const images = await Promise.all(sides[side].files.map(async (file) => ({ sent: { image: await encode(file) }, name: file.name, head: () => picture(file) })));
  const items = [...texts.map((text) => ({ sent: text, name: text, head: () => document.createTextNode(text) })), ...images];
  if (!items.length) throw new Error(`Give the ${side === "left" ? "rows" : "columns"} at least one text or image.`);
  return items;
}

async function compare(signal) {
  const [left, right] = await Promise.all([readSide("left"), readSide("right")]);
  const json = { left: left.map(({ sent }) => sent), right: right.map(({ sent }) => sent), model: byId("compare-model").value };
  byId("compare-curl").textContent = curl("/similarity", { json });
  const { body, response, took } = await ask("/similarity", { json, signal });
  draw(left, right, body.similarities);
  showTimes(byId("compare-times"), response);
  return `${left.length} × ${right.length} cosines in ${milliseconds(took)}.`;
}

/* Colours range from the smallest value to the largest; the cells contain the numbers. */
function draw(left, right, values) {
  const all = values.flat();
  const low = Math.min(...all);
  const span = Math.max(...all) - low || 1;
  const head = el("tr", {}, el("td"), ...right.map((item) => el("th", { scope: "col" }, item.head())));
  const rows = left.map((item, i) => el("tr", {}, el("th", { scope: "row" }, item.head()), ...values[i].map((value, j) => cell(value, (value - low) / span, `${item.name} and ${right[j].name}`))));
  byId("compare-table").replaceChildren(el("thead", {}, head), el("tbody", {}, ...rows));
}

function cell(value, share, title) {
  const node = el("td", { text: value.toFixed(3), title });
  node.style.backgroundColor = `rgb(var(--heat) / ${(0.03 + 0.5 * share).toFixed(3)})`;
  return node;
}
