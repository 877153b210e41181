// Answers of a classification: cards for a few pictures, a table for many, how they agree with the
// names of folders, and a file of it all.
import { el, percent } from "./dom.js";
import { pathOf } from "./files.js";
import { picture } from "./pictures.js";

const MOST_BARS = 8;
const NEAREST = 3; // labels that are named where none fits
export const NONE = "none of these";

/* Return what an answer says: {label, share}; below `least`, or where the server says so, none. */
export function decide(answer, least) {
  if (answer.error) return { label: "", share: 0 };
  const [best] = answer.labels;
  const share = best.calibrated ?? best.score;
  return { label: answer.none_of_these || share < least ? NONE : best.label, share };
}

/* Return the class that a file's folder names, or "". */
export function truthOf(file, classes) {
  const folder = plain(pathOf(file).split("/").at(-2) ?? "");
  return classes.find((name) => plain(name) === folder) ?? "";
}

const plain = (text) => text.toLowerCase().replaceAll(/[_\s-]+/g, " ").trim();

export function drawCard(answer, file, earlier, least) {
  if (answer.error) return el("article", { className: "card" }, picture(file), el("p", { className: "error", text: answer.error.message }));
  const { label } = decide(answer, least);
  if (label === NONE && answer.labels[0].calibrated === undefined) return drawNone(answer, file);
  const bars = answer.labels.slice(0, MOST_BARS).map((one) => drawLabel(one, earlier.get(one.label)));
  const hidden = answer.labels.length - bars.length;
  const verdict = label === NONE ? el("p", { className: "note verdict", text: "None of these." }) : null;
  return el("article", { className: "card" }, picture(file), el("div", {}, verdict, el("ol", { className: "labels" }, ...bars), hidden > 0 ? el("p", { className: "hint", text: `and ${hidden} less likely` }) : null));
}

/* Shares of classes of which none fits would only tell which is the least wrong: name them alone. */
function drawNone(answer, file) {
  const nearest = answer.labels.slice(0, NEAREST).map(({ label }) => label).join(", ");
  const verdict = el("p", { className: "note verdict", text: "None of these." });
  return el("article", { className: "card" }, picture(file), el("div", {}, verdict, el("p", { className: "hint", text: `Nearest: ${nearest}.` })));
}

/* Draw a label by its calibrated probability where the bundle tells it, else by its score. */
function drawLabel({ label, score: relative, calibrated, similarity }, earlier) {
  const share = calibrated ?? relative;
  const tracks = el("span", { className: "tracks", "aria-hidden": "true" }, earlier === undefined ? null : track(earlier, "before"), track(share, ""));
  const told = earlier === undefined ? percent(share) : `${percent(earlier).replace(" %", "")} → ${percent(share)}`;
  return el("li", { title: `cosine ${similarity.toFixed(3)}` }, el("span", { text: label }), tracks, el("span", { className: "score", text: told }));
}

export function track(share, kind) {
  const bar = el("i", { className: kind });
  bar.style.width = `${Math.max(0, Math.min(1, share)) * 100}%`;
  return el("span", { className: "track" }, bar);
}

/* A table of answers that its headings sort. `rows` are {file, answer, label, share, truth}. */
export class VerdictTable {
  #by = "order";
  #isDown = false;

  constructor(table) {
    this.table = table;
  }

  draw(rows) {
    this.rows = rows;
    const hasTruth = rows.some(({ truth }) => truth);
    const columns = [["order", ""], ["name", "Picture"], ["label", "Class"], ["share", "Probability"], ["second", "Next"], ...(hasTruth ? [["truth", "Folder"]] : [])];
    const heads = columns.map(([key, text]) => (text ? el("th", { scope: "col", "aria-sort": this.#sortOf(key) }, el("button", { type: "button", className: "sort", text: `${text}${this.#arrow(key)}`, on: { click: () => this.#sort(key) } })) : el("td", {}, el("span", { className: "hidden", text: "Image" }))));
    const shown = this.#order(rows).map((row) => this.#draw(row, hasTruth));
    this.table.replaceChildren(el("thead", {}, el("tr", {}, ...heads)), el("tbody", {}, ...shown));
  }

  #draw({ file, answer, label, share, truth }, hasTruth) {
    const name = el("td", { text: pathOf(file) });
    const cells = answer.error
      ? [el("td", { className: "error", colSpan: 3, text: answer.error.message })]
      : [el("td", {}, el("strong", { text: label })), el("td", { className: "number", text: label === NONE ? "" : percent(share) }), el("td", { text: secondOf(answer, label) })];
    const agrees = truth && truth === label;
    const folder = hasTruth ? [el("td", { className: truth && !agrees ? "error" : "", text: truth && `${agrees ? "✓" : "✗"} ${truth}` })] : [];
    return el("tr", {}, el("td", {}, picture(file)), name, ...cells, ...folder);
  }

  #order(rows) {
    if (this.#by === "order") return rows;
    const value = { name: ({ file }) => pathOf(file), label: ({ label }) => label, share: ({ share }) => share, second: ({ answer, label }) => secondOf(answer, label), truth: ({ truth }) => truth }[this.#by];
    const compare = (a, b) => (typeof a === "number" ? a - b : a.localeCompare(b, "en", { numeric: true }));
    return [...rows].sort((a, b) => compare(value(a), value(b)) * (this.#isDown ? -1 : 1));
  }

  #sort(key) {
    [this.#by, this.#isDown] = [key, this.#by === key ? !this.#isDown : key === "share"];
    this.draw(this.rows);
    this.table.querySelector(`th[aria-sort]:not([aria-sort=none]) button`)?.focus();
  }

  #sortOf(key) {
    return key !== this.#by ? "none" : this.#isDown ? "descending" : "ascending";
  }

  #arrow(key) {
    return key !== this.#by ? "" : this.#isDown ? " ↓" : " ↑";
  }
}

/* The label after the first one; where none fits the first is what comes next. */
const secondOf = (answer, label) => answer.labels?.[label === NONE ? 0 : 1]?.label ?? "";

/* Return a table of folders against classes, and the share that agrees; null without folders. */
export function drawConfusion(rows) {
  const judged = rows.filter(({ truth, answer }) => truth && !answer.error);
  if (!judged.length) return null;
  const truths = [...new Set(judged.map(({ truth }) => truth))].sort();
  const labels = [...new Set([...truths, ...judged.map(({ label }) => label)])];
  const count = (truth, label) => judged.filter((row) => row.truth === truth && row.label === label).length;
  const right = judged.filter(({ truth, label }) => truth === label).length;
  const head = el("tr", {}, el("td", { text: "folder" }), ...labels.map((text) => el("th", { scope: "col", text })));
  const body = truths.map((truth) => {
    const all = judged.filter((row) => row.truth === truth).length;
    return el("tr", {}, el("th", { scope: "row", text: truth }), ...labels.map((label) => heat(count(truth, label), all)));
  });
  const told = `${percent(right / judged.length)} agree with the names of their folders: ${right} of ${judged.length}.`;
  return [el("p", { text: told }), el("table", { className: "heat" }, el("thead", {}, head), el("tbody", {}, ...body))];
}

function heat(number, all) {
  const cell = el("td", { text: String(number) });
  cell.style.backgroundColor = `rgb(var(--heat) / ${(0.5 * (number / Math.max(1, all))).toFixed(3)})`;
  return cell;
}

/* Return the rows of a file: the verdict, and the probability of every class. */
export function listVerdicts(rows, classes) {
  const scoreOf = (answer, name) => {
    const found = answer.labels?.find(({ label }) => label === name);
    return found ? (found.calibrated ?? found.score).toFixed(4) : "";
  };
  const head = ["picture", "class", "probability", "folder", "error", ...classes];
  return [head, ...rows.map(({ file, answer, label, share, truth }) => [pathOf(file), label, answer.error || label === NONE ? "" : share.toFixed(4), truth, answer.error?.message ?? "", ...classes.map((name) => scoreOf(answer, name))])];
}
