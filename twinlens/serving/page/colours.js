// What colours the points of the map: their cluster, a field of the metadata, or a query's score.
import { el } from "./dom.js";

// Eight hues that people tell apart, also without seeing red or green; the rest is grey.
const HUES = [[0, 114, 178], [230, 159, 0], [0, 158, 115], [204, 121, 167], [213, 94, 0], [86, 180, 233], [148, 103, 189], [140, 86, 75]];
const REST = [138, 144, 160];
const LOW = [120, 130, 160]; // of scores, to
const HIGH = [214, 60, 20];
const STEPS = 5; // of numbers

/* Return {colours, legend} for the values of the points. */
export function colourByValue(values) {
  const numbers = values.filter((value) => typeof value === "number");
  const distinct = new Set(numbers);
  if (numbers.length && numbers.length === values.filter((value) => value !== null).length && distinct.size > HUES.length) return colourByNumber(values, numbers);
  const counts = new Map();
  for (const value of values) if (value !== null) counts.set(value, (counts.get(value) ?? 0) + 1);
  const kept = [...counts].sort((a, b) => b[1] - a[1]).slice(0, HUES.length).map(([value]) => value);
  const hues = new Map(kept.map((value, i) => [value, HUES[i]]));
  const legend = kept.map((value, i) => [String(value), HUES[i]]);
  const others = counts.size > kept.length || values.includes(null);
  return { colours: values.map((value) => hues.get(value) ?? REST), legend: others ? [...legend, ["other", REST]] : legend };
}

function colourByNumber(values, numbers) {
  const low = numbers.reduce((a, b) => Math.min(a, b));
  const span = numbers.reduce((a, b) => Math.max(a, b)) - low || 1;
  const legend = Array.from({ length: STEPS }, (_, i) => [format(low + (span * i) / (STEPS - 1)), between(i / (STEPS - 1))]);
  return { colours: values.map((value) => (typeof value === "number" ? between((value - low) / span) : REST)), legend };
}

/* Colour by score: only what stands out is told apart. */
export function colourByScore(scores) {
  const known = scores.filter((score) => score !== null).sort((a, b) => a - b);
  if (!known.length) return { colours: scores.map(() => REST), legend: [] };
  const low = known[Math.floor(known.length * 0.5)];
  const span = known.at(-1) - low || 1;
  const share = (score) => Math.max(0, (score - low) / span) ** 1.5;
  return { colours: scores.map((score) => (score === null ? REST : between(share(score)))), legend: [["no match", between(0)], ["near", between(0.5)], ["best", between(1)]] };
}

export function colourByCluster(labels, clusters) {
  const colours = labels.map((label) => HUES[label] ?? REST); // the largest groups come first
  const legend = clusters.slice(0, HUES.length).map(({ names }, i) => [names.join(", ") || `group ${i + 1}`, HUES[i]]);
  return { colours, legend: clusters.length > HUES.length ? [...legend, ["other", REST]] : legend };
}

export const drawLegend = (legend) => legend.map(([text, [r, g, b]]) => {
  const swatch = el("i", { "aria-hidden": "true" });
  swatch.style.backgroundColor = `rgb(${r} ${g} ${b})`;
  return el("span", {}, swatch, text);
});

const between = (share) => LOW.map((low, i) => Math.round(low + (HIGH[i] - low) * Math.min(1, share)));
const format = (number) => (Number.isInteger(number) ? String(number) : number.toPrecision(3));
