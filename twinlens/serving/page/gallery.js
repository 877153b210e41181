// Results as a gallery: rows of one height, pictures in their own proportions, more as one scrolls.
import { show } from "./api.js";
import { byId, el, percent } from "./dom.js";
import { thumbnail } from "./samples.js";

const TITLES = ["caption", "title", "name", "label", "text"];
const AHEAD = "600px"; // below the window, where the next page is fetched

/* Return what people call an item: its caption if it has one, else the name of its file. */
export function titleOf({ id, metadata = {} }) {
  const named = TITLES.find((key) => typeof metadata[key] === "string" && metadata[key]);
  return named ? metadata[named] : id.split("/").at(-1).replace(/\.\w{2,5}$/, "");
}

export class Gallery {
  hits = []; // what is shown, in order
  #next = null; // fetches the next page; null: this is all
  #busy = false;

  /* `open` is called with the place of a hit, `like` with a hit. */
  constructor(list, more, { open, like }) {
    Object.assign(this, { list, more, open, like });
    more.addEventListener("click", () => this.#fetch());
    new IntersectionObserver((seen) => seen[0].isIntersecting && this.#fetch(), { rootMargin: AHEAD }).observe(more);
  }

  /* Show the first hits; `next` returns the next ones, and an empty list at the end. */
  load(collection, hits, next) {
    Object.assign(this, { collection, hits: [] });
    this.#next = next;
    this.list.replaceChildren();
    this.#add(hits);
  }

  clear() {
    this.load(this.collection, [], null);
  }

  focus(place) {
    this.list.children[place]?.querySelector("button").focus();
  }

  /* Fetch more hits until place `wanted` is there, or the end. */
  async reach(wanted) {
    while (this.hits.length <= wanted && this.#next) if (!(await this.#fetch())) return;
  }

  #add(hits) {
    if (!hits.length) this.#next = null;
    const start = this.hits.length;
    this.hits.push(...hits);
    this.list.append(...hits.map((hit, i) => this.#draw(hit, start + i)));
    this.more.hidden = this.#next === null;
  }

  /* Add a page; return whether there was one. Only one is fetched at a time. */
  async #fetch() {
    if (this.#busy || !this.#next) return false;
    this.#busy = true;
    const mine = this.#next;
    try {
      const hits = await mine();
      if (mine === this.#next) this.#add(hits);
      return hits.length > 0;
    } catch {
      this.more.textContent = "Show more";
      return false; // the button tries again
    } finally {
      this.#busy = false;
    }
  }

  #draw(hit, place) {
    const title = titleOf(hit);
    const image = el("img", { alt: "", loading: "lazy", draggable: false });
    const item = el("li", { className: "hit" });
    image.addEventListener("load", () => setRatio(item, image.naturalWidth / image.naturalHeight), { once: true });
    image.addEventListener("error", () => image.replaceWith(el("span", { className: "blank", text: "no picture" })), { once: true });
    show(image, hit.thumbnail ?? thumbnail(this.collection, hit.id));
    const open = el("button", { type: "button", className: "open", "aria-label": `Open ${title}`, on: { click: () => this.open(place) } }, image);
    const like = el("button", { type: "button", className: "like", title: `More like ${title}`, "aria-label": `More like ${title}`, text: "Similar", on: { click: () => this.like(hit) } });
    const worth = hit.calibrated === undefined ? null : el("span", { className: "score", title: "probability that this matches", text: percent(hit.calibrated) });
    setRatio(item, 1);
    item.append(open, el("div", {}, el("strong", { text: title, title }), worth, like));
    return item;
  }
}

/* Set the width that a picture takes of its row. */
function setRatio(item, ratio) {
  const held = Math.min(3, Math.max(0.6, ratio || 1));
  item.style.flexGrow = String(held);
  item.style.flexBasis = `calc(var(--row) * ${held.toFixed(3)})`;
}

/* Return the metadata of an item as a list of terms and values. */
export function describeMetadata(metadata) {
  const pairs = Object.entries(metadata).filter(([, value]) => value !== null);
  return pairs.flatMap(([key, value]) => [el("dt", { text: key }), el("dd", { text: typeof value === "string" ? value : JSON.stringify(value) })]);
}

export const galleryOf = (name, acts) => new Gallery(byId(`${name}-results`), byId(`${name}-next`), acts);
