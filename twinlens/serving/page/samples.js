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
