// Files on their way into a collection: listed, shrunk, sent in groups; each that fails is told.
import { ask } from "./api.js";
import { encode, isPicture } from "./pictures.js";
import { shrink } from "./shrink.js";
import { isZip, unzip } from "./unzip.js";

const AT_ONCE = 2; // requests
const GROUP = 8; // pictures of a request
const GROUP_BYTES = 6e6;
const PAUSE = 1000; // before another try where the server is full
const TRIES = 20;

/* Yield {name, file} of everything that was given: files, what zips hold, folders that were dropped. */
export async function* listFiles(given) {
  for (const { name, file } of given) {
    if (isZip(file)) yield* unzip(file, name.replace(/\.zip$/i, ""));
    else yield { name, read: async () => file, type: file.type };
  }
}

export class Intake {
  added = 0;
  skipped = 0; // files that are no pictures
  faults = []; // {name, reason}
  shrunk = 0;
  #group = [];
  #bytes = 0;
  #sending = new Set();

  /* `side` is the model's; `changed` is called as the counts change. */
  constructor(collection, { side, signal, changed }) {
    Object.assign(this, { collection, side, signal, changed });
  }

  async add(given) {
    for await (const one of listFiles(given)) {
      this.signal.throwIfAborted();
      if (!isPicture(one)) {
        this.skipped++;
        continue;
      }
      await this.#take(one);
      this.changed();
    }
    this.#send();
    await Promise.all(this.#sending);
  }

  async #take({ name, read }) {
    try {
      const file = await read();
      const small = await shrink(file, this.side);
      if (small !== file) this.shrunk++;
      if (this.#group.length && this.#bytes + small.size > GROUP_BYTES) this.#send();
      this.#group.push({ id: name, image: await encode(small) });
      this.#bytes += small.size;
    } catch (error) {
      this.faults.push({ name, reason: error.message });
    }
    if (this.#group.length >= GROUP) this.#send();
    while (this.#sending.size >= AT_ONCE) await Promise.race(this.#sending);
  }

  #send() {
    if (!this.#group.length) return;
    const items = this.#group;
    [this.#group, this.#bytes] = [[], 0];
    const task = this.#post(items).finally(() => this.#sending.delete(task));
    this.#sending.add(task);
  }

  async #post(items) {
    const path = `/collections/${encodeURIComponent(this.collection)}/items`;
    for (let left = TRIES; ; left--) {
      try {
        const { body } = await ask(path, { json: { items, keep: true }, signal: this.signal });
        for (const one of body.data) if (one.error) this.faults.push({ name: one.id, reason: one.error.message });
        this.added += body.upserted;
        break;
      } catch (error) {
        if (error.name === "AbortError") return;
        if (error.status === 429 && left > 0) {
          await new Promise((resolve) => setTimeout(resolve, (error.wait ?? 1) * PAUSE));
          continue;
        }
        // Of a group in which nothing succeeded the server names the first fault alone.
        if (items.length > 1 && error.status === 400) await Promise.all(items.map((item) => this.#post([item])));
        else this.faults.push(...items.map(({ id }) => ({ name: id, reason: error.message })));
        break;
      }
    }
    this.changed();
  }
}
