// Images on the map: as many of the visible points as fit without overlap.
// They are chosen again when the map stops moving; while it moves they move with their points.

import { overlap } from "./names.js";

const SIZE = 38;
const CELL = SIZE + 6;
const MOST = 160;
const RESTS = 150; // milliseconds without a new view
const AT_ONCE = 6;

export class Landmarks {
  isShown = true;
  #chosen = []; // indices of points
  #images = new Map(); // id -> image, or null while it loads and where there is none
  #timer = null;
  #view = "";

  /* `fetch` returns an image for an id, or null; `changed` is told when one has come. */
  constructor(fetch, changed) {
    Object.assign(this, { fetch, changed });
  }

  /* Begin with another map; one of the same items keeps their images. */
  clear(keepsImages = false) {
    this.#chosen = [];
    if (!keepsImages) this.#images = new Map(); // what still loads belongs to the old map
    this.#view = "";
  }

  /* Paint the images, but none that would cover one of the `names`. */
  paint(context, ids, place, width, height, names = []) {
    if (!this.isShown) return;
    const view = [ids.length, width, height, ...(ids.length ? place(0) : []), ...(ids.length > 1 ? place(1) : [])].join();
    if (view !== this.#view) {
      this.#view = view;
      clearTimeout(this.#timer);
      this.#timer = setTimeout(() => this.#choose(ids, place, width, height), RESTS);
    }
    for (const i of this.#chosen) {
      const image = this.#images.get(ids[i]);
      const [x, y] = place(i);
      const box = [x - CELL / 2, y - CELL / 2, x + CELL / 2, y + CELL / 2];
      if (image && !names.some((name) => overlap(box, name.box))) paintPicture(context, image, x, y);
    }
  }

  /* Go over the points in order and keep those that come into no other's way. */
  #choose(ids, place, width, height) {
    const cells = new Map();
    this.#chosen = [];
    for (let i = 0; i < ids.length && this.#chosen.length < MOST; i++) {
      const [x, y] = place(i);
      if (x < SIZE / 2 || y < SIZE / 2 || x > width - SIZE / 2 || y > height - SIZE / 2) continue;
      if (isTaken(cells, x, y)) continue;
      cells.set(keyOf(x, y), [x, y]);
      this.#chosen.push(i);
    }
    this.#load(this.#chosen.map((i) => ids[i]).filter((id) => !this.#images.has(id)));
    this.changed();
  }

  async #load(wanted) {
    const images = this.#images;
    for (const id of wanted) images.set(id, null);
    const next = async () => {
      for (let id = wanted.pop(); id !== undefined && images === this.#images; id = wanted.pop()) {
        images.set(id, await this.fetch(id));
        this.changed();
      }
    };
    wanted.reverse();
    await Promise.all(Array.from({ length: AT_ONCE }, next));
  }
}

const keyOf = (x, y) => `${Math.floor(x / CELL)},${Math.floor(y / CELL)}`;

function isTaken(cells, x, y) {
  for (const dx of [-CELL, 0, CELL]) {
    for (const dy of [-CELL, 0, CELL]) {
      const other = cells.get(keyOf(x + dx, y + dy));
      if (other && Math.max(Math.abs(other[0] - x), Math.abs(other[1] - y)) < CELL) return true;
    }
  }
  return false;
}

function paintPicture(context, image, x, y) {
  const [left, top] = [Math.round(x - SIZE / 2), Math.round(y - SIZE / 2)];
  context.fillStyle = "#fff";
  context.beginPath();
  context.roundRect(left - 1, top - 1, SIZE + 2, SIZE + 2, 6);
  context.fill();
  context.lineWidth = 1;
  context.strokeStyle = "rgb(128 128 140 / 60%)";
  context.stroke();
  const { naturalWidth, naturalHeight } = image;
  const shrink = (SIZE - 4) / Math.max(naturalWidth, naturalHeight);
  const [wide, high] = [naturalWidth * shrink, naturalHeight * shrink];
  context.drawImage(image, x - wide / 2, y - high / 2, wide, high);
}
