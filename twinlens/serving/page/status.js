// Status: models, collections and load, from the same paths that monitoring reads.
import { ask, curl } from "./api.js";
import { byId, bytes, el, milliseconds, percent, say } from "./dom.js";

const EVERY = 3000;
let timer = null;
let generation = 0;

export function start() {
  byId("status-curl").textContent = ["/v1/models", "/collections", "/jobs", "/metrics"].map((path) => curl(path)).join("\n");
}

export async function open() {
  close();
  await follow(++generation);
}

export function close() {
  generation++;
  clearTimeout(timer);
}

/* Load, show, and reload regularly while the panel is open. */
async function follow(mine) {
  if (!document.hidden) {
    try {
      await refresh();
    } catch (error) {
      say(byId("status-status"), error.message, true);
    }
  }
  if (mine === generation) timer = setTimeout(() => follow(mine), EVERY);
}

async function refresh() {
  const ready = await fetch("/readyz").then((response) => response.json(), () => null);
  if (ready === null) throw new Error("The server does not respond. Is it still running?");
  const [models, collections, jobs, metrics] = await Promise.all(["/v1/models", "/collections", "/jobs", "/metrics"].map((path) => ask(path)));
  const isReady = ready.status === "ready";
  // Set only when it changes: a screen reader would repeat it with every update.
  const told = isReady ? "Ready." : `Not ready: ${(ready.faults ?? []).join("; ")}`;
  if (byId("status-status").textContent !== told) say(byId("status-status"), told, !isReady);
  table("status-models", ["Name", "For", "Bundle", "Revision", "Reads", "Dimensions", "Precisions", "Runs on"], models.body.data.map((m) => [m.id, m.card?.domain ?? "–", m.bundle, m.revision.slice(0, 12), m.modalities.join(", "), m.dimensions.join(", "), m.precisions.join(", "), m.provider]));
  table("status-collections", ["Name", "Items", "Size", "Bundle", "Accuracy by image", "by text"], collections.body.data.map((c) => [c.name, c.count, bytes(c.bytes), c.bundle.name, share(c.recall.image), share(c.recall.text)]));
  table("status-jobs", ["Job", "Kind", "State", "Progress", "Error"], jobs.body.data.slice(0, 20).map((j) => [j.id, j.kind, j.state, meter(j.progress, percent(j.progress)), j.error ?? ""]));
  showMetrics(parse(metrics.body));
}

const share = (recall) => (recall === null || recall === undefined ? "not measured" : percent(recall));

/* Return the samples of Prometheus' text: {name, labels, value}. */
export function parse(text) {
  const samples = [];
  for (const line of text.split("\n")) {
    const found = /^(\w+)(?:\{(.*)\})? (\S+)$/.exec(line);
    if (!found) continue;
    const labels = Object.fromEntries([...(found[2] ?? "").matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)].map(([, key, value]) => [key, value]));
    samples.push({ name: found[1], labels, value: Number(found[3].replace("Inf", "Infinity")) });
  }
  return samples;
}

function showMetrics(samples) {
  const queues = new Map();
  for (const { name, labels, value } of samples) {
    const at = { twinlens_queue_items: 0, twinlens_held_items: 1 }[name];
    if (at === undefined) continue;
    const key = Object.values(labels).join(" ");
    if (!queues.has(key)) queues.set(key, [0, 0]);
    queues.get(key)[at] = value;
  }
  table("status-queues", ["Queue", "Waiting", "Held"], [...queues].map(([key, values]) => [key, ...values]));
  const stages = readStages(samples);
  const longest = Math.max(...stages.map(({ mean }) => mean), 1e-9);
  const rows = stages.map(({ model, stage, count, mean, half, most }) => [model, stage, count, meter(mean / longest, milliseconds(mean), `at-${stage}`), half, most]);
  table("status-stages", ["Model", "Stage", "Requests", "Mean", "p50", "p95"], rows);
}

/* Return the rows of the stages: a quantile is the bound of the bucket that it falls in. */
function readStages(samples) {
  const stages = new Map();
  for (const { name, labels, value } of samples) {
    if (!name.startsWith("twinlens_stage_seconds_") || name.endsWith("_created")) continue;
    const key = `${labels.model}\n${labels.stage}`;
    if (!stages.has(key)) stages.set(key, { labels, buckets: [] });
    const held = stages.get(key);
    if (name.endsWith("_bucket")) held.buckets.push([Number(labels.le.replace("+Inf", "Infinity")), value]);
    else held[name.endsWith("_sum") ? "sum" : "count"] = value;
  }
  return [...stages.values()]
    .filter(({ count }) => count > 0)
    .map(({ labels: { model, stage }, buckets, sum, count }) => ({ model, stage, count, mean: (sum / count) * 1000, half: bound(buckets, count * 0.5), most: bound(buckets, count * 0.95) }));
}

function bound(buckets, wanted) {
  const found = buckets.find(([, count]) => count >= wanted);
  return found && Number.isFinite(found[0]) ? milliseconds(found[0] * 1000) : "over 30 s";
}

/* A number with a bar beside it. */
function meter(share, text, kind = "") {
  const bar = el("i", { className: kind });
  bar.style.width = `${Math.max(0, Math.min(1, share)) * 100}%`;
  return el("span", { className: "meter" }, el("span", { className: "track", "aria-hidden": "true" }, bar), el("span", { className: "score", text }));
}

function table(id, heads, rows) {
  const isNumber = heads.map((_, i) => rows.length > 0 && rows.every((row) => typeof row[i] === "number"));
  const style = (i) => (isNumber[i] ? "number" : "");
  const shown = (value) => (value instanceof Node ? value : document.createTextNode(typeof value === "number" ? value.toLocaleString("en") : value));
  const body = rows.length ? rows.map((row) => el("tr", {}, ...row.map((value, i) => el("td", { className: style(i) }, shown(value))))) : [el("tr", {}, el("td", { colSpan: heads.length, text: "none" }))];
  byId(id).replaceChildren(el("thead", {}, el("tr", {}, ...heads.map((text, i) => el("th", { scope: "col", className: style(i), text })))), el("tbody", {}, ...body));
}
