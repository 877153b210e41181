// A few items of a collection, for users without an image of their own.
import { ask } from "./api.js";

export const thumbnail = (collection, id) => `/collections/${encodeURIComponent(collection)}/thumbnails/${id.split("/").map(encodeURIComponent).join("/")}`;

const kept = new Map(); // collection -> a promise of ids

/* Return some ids of a collection, the same ones each time. */
export async function sampleOf(collection, count) {
  if (!kept.has(collection)) {
    const path = `/collections/${encodeURIComponent(collection)}/map?points=24`;
    kept.set(collection, ask(path).then(({ body }) => body.ids));
    kept.get(collection).catch(() => kept.delete(collection));
  }
  return (await kept.get(collection)).slice(0, count);
}

/* Return some items of the first non-empty collection: {collection, id}. */
export async function samples(count) {
  const { body } = await ask("/collections");
  const first = body.data.find((one) => one.count > 0);
  if (!first) return [];
  return (await sampleOf(first.name, count)).map((id) => ({ collection: first.name, id }));
}

/* Return the thumbnail of an item as a file. */
export async function fetchPicture({ collection, id }) {
  const { body } = await ask(thumbnail(collection, id), { blob: true });
  return new File([body], `${id.split("/").at(-1)}.webp`, { type: body.type });
}

const WORDS = /^[\p{L}][\p{L} '-]{2,28}$/u;
const tried = new Map(); // collection -> a promise of texts

/* Return texts to search for that this collection can answer: names and captions of its items. */
export function examplesOf(collection, count = 5) {
  if (!tried.has(collection)) {
    const path = `/collections/${encodeURIComponent(collection)}/map?points=200`;
    tried.set(collection, ask(path).then(({ body }) => chooseTexts(body.ids, count)));
    tried.get(collection).catch(() => tried.delete(collection));
  }
  return tried.get(collection);
}

/* Return names that are words, spread over the collection. */
function chooseTexts(ids, count) {
  const names = ids.map((id) => id.split("/").at(-1).replace(/\.\w{2,5}$/, "").replaceAll(/[_]+/g, " "));
  const words = [...new Set(names.filter((name) => WORDS.test(name)))];
  const step = Math.max(1, Math.floor(words.length / count));
  return words.filter((_, i) => i % step === 0).slice(0, count);
}
