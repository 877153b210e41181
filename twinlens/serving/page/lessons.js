// Classes with example images: a draft classifier on the server at first, a named one when saved.
import { ask } from "./api.js";
import { encode } from "./pictures.js";

const PREFIX = "page-draft-";

/* Whether a stored classifier is such a draft. */
export const isDraft = (name) => name.startsWith(PREFIX);

export class Lessons {
  held = new Map(); // class -> files
  saved = ""; // the name under which these lessons were kept
  #draft = PREFIX + [...crypto.getRandomValues(new Uint8Array(6))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  #stored = ""; // what the draft was made of
  #count = 0; // grows with each change of the examples

  /* Whether any of these classes has examples. */
  cover(classes) {
    return classes.some((name) => this.held.has(name));
  }

  add(name, files) {
    this.held.set(name, [...(this.held.get(name) ?? []), ...files]);
    this.#count++;
  }

  drop(name) {
    this.held.delete(name);
    this.#count++;
  }

  /* Save the classes as a draft of this tab, unless they are; return its name. */
  async store(described, signal) {
    const made = JSON.stringify([described, this.#count]);
    if (made !== this.#stored) {
      await this.#put(this.#draft, described, signal);
      this.#stored = made;
    }
    return this.#draft;
  }

  async save(name, described, signal) {
    await this.#put(name, described, signal);
    this.saved = name;
    this.forget();
  }

  /* Take the draft off the server; the tab may be closing, so nobody waits for it. */
  forget() {
    if (this.#stored) ask(`/classifiers/${this.#draft}`, { method: "DELETE", keepalive: true }).catch(() => {});
    this.#stored = "";
  }

  async #put(name, { classes, ...rest }, signal) {
    const filled = classes.map(async (label) => {
      const files = this.held.get(label) ?? [];
      return files.length ? { name: label, examples: await Promise.all(files.map(encode)) } : label;
    });
    const json = { classes: await Promise.all(filled), ...rest };
    await ask(`/classifiers/${encodeURIComponent(name)}`, { method: "PUT", json, signal });
  }
}
