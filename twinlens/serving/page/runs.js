// Training: the numbers of a run, drawn as it goes on.
import { ask, curl } from "./api.js";
import { writeAddress } from "./address.js";
import { byId, el, fill, say } from "./dom.js";

const EVERY = 2000;
const WIDE = 420;
const HIGH = 180;
const SIDES = [44, 8, 8, 22]; // left, right, top, bottom
const SVG = "http://www.w3.org/2000/svg";
const MOST = 24; // charts

let timer = null;
let rows = [];
let shown = ""; // the run that `rows` are of

export function start() {
  byId("runs-name").addEventListener("change", () => restart());
}

export async function open(isFirst, params) {
  const { body } = await ask("/runs");
  fill(byId("runs-name"), body.data.map(({ name, method, is_live: isLive }) => [name, `${name}${method && ` (${method})`}${isLive ? ", running" : ""}`]), params.get("run") ?? byId("runs-name").value);
  if (!body.data.length) return say(byId("runs-status"), "There are no runs. Start the server with --runs DIR, a folder that contains run folders.");
  await restart();
}

export function close() {
  clearTimeout(timer);
}

/* Show whether there are runs at all: without any the panel has no tab. */
export async function hasRuns() {
  const { body } = await ask("/runs");
  return body.data.length > 0;
}

async function restart() {
  clearTimeout(timer);
  [rows, shown] = [[], byId("runs-name").value];
  writeAddress("runs", { run: shown }, { title: `${shown} – Training` });
  byId("runs-curl").textContent = curl(`/runs/${encodeURIComponent(shown)}/log?after=0`);
  byId("runs-charts").replaceChildren();
  await follow();
}

async function follow() {
  const mine = shown;
  try {
    if (!document.hidden) await refresh(mine);
  } catch (error) {
    say(byId("runs-status"), error.message, true);
  }
  if (mine === shown && !byId("runs").hidden) timer = setTimeout(follow, EVERY);
}

async function refresh(name) {
  const after = rows.at(-1)?.step ?? -1;
  const [{ body: log }, { body: list }] = await Promise.all([ask(`/runs/${encodeURIComponent(name)}/log?after=${after}`), ask("/runs")]);
  if (name !== shown) return;
  rows.push(...log.rows);
  const run = list.data.find((one) => one.name === name);
  const step = rows.at(-1)?.step;
  const progress = run?.steps ? ` of ${run.steps.toLocaleString("en")}` : "";
  say(byId("runs-status"), step === undefined ? "Nothing is logged yet." : `Step ${step.toLocaleString("en")}${progress}${run?.is_live ? ", running." : ", not running."}`);
  if (log.rows.length || !byId("runs-charts").childElementCount) byId("runs-charts").replaceChildren(...listNames().map(drawChart));
}

/* The loss first, then everything else by name. */
function listNames() {
  const names = [...new Set(rows.flatMap((row) => Object.keys(row).filter((key) => key !== "step" && typeof row[key] === "number")))];
  const rank = (name) => (name === "loss" ? 0 : name.includes("loss") ? 1 : name.includes("/") ? 3 : 2);
  return names.sort((a, b) => rank(a) - rank(b) || a.localeCompare(b)).slice(0, MOST);
}

function drawChart(name) {
  const points = rows.filter((row) => Number.isFinite(row[name])).map((row) => [row.step, row[name]]);
  const [steps, values] = [points.map(([step]) => step), points.map(([, value]) => value)];
  const [low, high] = range(values);
  const [first, last] = [steps[0], Math.max(steps.at(-1), steps[0] + 1)];
  const [left, right, top, bottom] = SIDES;
  const x = (step) => left + ((step - first) / (last - first)) * (WIDE - left - right);
  const y = (value) => HIGH - bottom - ((value - low) / (high - low)) * (HIGH - top - bottom);
  const line = points.map(([step, value], i) => `${i ? "L" : "M"}${x(step).toFixed(1)} ${y(value).toFixed(1)}`).join("");
  const picture = node("svg", { viewBox: `0 0 ${WIDE} ${HIGH}`, role: "img", "aria-label": `${name}: ${short(values.at(-1))} at step ${steps.at(-1)}` },
    ...[low, (low + high) / 2, high].map((value) => node("path", { d: `M${left} ${y(value)}H${WIDE - right}`, class: "rule" })),
    ...[low, high].map((value) => node("text", { x: left - 4, y: y(value) + 4, "text-anchor": "end" }, short(value))),
    node("text", { x: left, y: HIGH - 6 }, String(first)),
    node("text", { x: WIDE - right, y: HIGH - 6, "text-anchor": "end" }, String(last)),
    node("path", { d: line, class: "line" }));
  return el("figure", { className: "tile" }, el("figcaption", {}, el("strong", { text: name }), ` ${short(values.at(-1))}`), picture);
}

function range(values) {
  const low = values.reduce((a, b) => Math.min(a, b), Infinity);
  const high = values.reduce((a, b) => Math.max(a, b), -Infinity);
  return high > low ? [low, high] : [low - 0.5, low + 0.5];
}

const short = (value) => (value === 0 ? "0" : Math.abs(value) >= 1e5 || Math.abs(value) < 1e-3 ? value.toExponential(1) : String(Number(value.toPrecision(4))));

function node(tag, attributes, ...children) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}
