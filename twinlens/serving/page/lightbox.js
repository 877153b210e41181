// The lightbox: one picture as large as the window, what is known of it, and what to do with it.
import { ask, hasKey, show } from "./api.js";
import { byId, el, say } from "./dom.js";
import { describeMetadata, titleOf } from "./gallery.js";
import { thumbnail } from "./samples.js";

const MOST_ZOOM = 8;
const WHEEL = 300; // of the wheel, for a zoom by e
const MOST_ENLARGED = 3; // a small picture is shown at this many times its size, not as large as the window

export class Lightbox {
  #shown = null; // {collection, id, hit}
  #zoom = 1;
  #at = [0, 0];
  #held = new Map(); // pointers on the picture

  /* `step` moves by -1 or 1, `closed` is told; `like` and `unlike` get the item. */
  constructor({ step, closed, like, unlike }) {
    this.dialog = byId("look");
    this.image = byId("look-image");
    this.acts = { step, like, unlike };
    this.dialog.addEventListener("close", () => {
      this.#shown = null;
      closed();
    });
    this.dialog.addEventListener("keydown", (event) => this.#key(event));
    const clicks = {
      "look-close": () => this.close(),
      "look-previous": () => step(-1),
      "look-next": () => step(1),
      "look-in": () => this.#zoomBy(1.5),
      "look-out": () => this.#zoomBy(1 / 1.5),
      "look-like": () => this.#leaveFor(like),
      "look-unlike": () => this.#leaveFor(unlike),
      "look-copy": () => this.#copyPicture(),
      "look-link": () => this.#copyLink(),
      "look-download": (event) => hasKey() && this.#download(event),
    };
    for (const [id, act] of Object.entries(clicks)) byId(id).addEventListener("click", act);
    this.#followPointers(byId("look-stage"));
  }

  get isOpen() {
    return this.dialog.open;
  }

  close() {
    if (this.dialog.open) this.dialog.close();
  }

  /* Show an item: its thumbnail at once, its picture when it has come. */
  async show(collection, hit, { isFirst, isLast }) {
    const mine = (this.#shown = { collection, id: hit.id, hit });
    this.#reset();
    this.#limit();
    byId("look-previous").disabled = isFirst;
    byId("look-next").disabled = isLast;
    byId("look-title").textContent = titleOf(hit);
    byId("look-path").textContent = hit.id;
    byId("look-data").replaceChildren();
    say(byId("look-told"), "");
    this.image.alt = titleOf(hit);
    this.image.hidden = false;
    this.image.onerror = () => this.#shown === mine && this.#miss();
    show(this.image, thumbnail(collection, hit.id));
    if (!this.dialog.open) this.dialog.showModal();
    await this.#complete(mine);
  }

  async #complete(mine) {
    try {
      const path = `/collections/${encodeURIComponent(mine.collection)}/items/${encodePath(mine.id)}`;
      const { body } = await ask(path);
      if (this.#shown !== mine) return;
      byId("look-title").textContent = titleOf(body);
      const score = mine.hit.score === undefined ? {} : { "similarity (cosine)": mine.hit.score.toFixed(3) };
      byId("look-data").replaceChildren(...describeMetadata({ ...body.metadata, ...score }));
      this.#link(mine, body.picture);
      if (body.picture) this.#load(mine, body.picture);
      else say(byId("look-told"), "Only this preview is kept on the server.");
    } catch (error) {
      if (this.#shown === mine) say(byId("look-told"), error.message, true);
    }
  }

  /* Replace the thumbnail once the picture is decoded, so that nothing flickers. */
  async #load(mine, path) {
    const large = new Image();
    await show(large, path);
    try {
      await large.decode();
    } catch {
      return; // the file is gone: the thumbnail stays
    }
    if (this.#shown !== mine) return;
    this.image.src = large.src;
    this.#limit(large);
    byId("look-size").textContent = `${large.naturalWidth} × ${large.naturalHeight}`;
  }

  #limit({ naturalWidth = 0, naturalHeight = 0 } = {}) {
    this.image.style.maxWidth = naturalWidth ? `${MOST_ENLARGED * naturalWidth}px` : "";
    this.image.style.maxHeight = naturalHeight ? `${MOST_ENLARGED * naturalHeight}px` : "";
  }

  #miss() {
    this.image.hidden = true;
    say(byId("look-told"), "This item has no picture: it is a text, or its file is gone.");
  }

  #link(mine, picture) {
    const link = byId("look-download");
    link.href = picture ? `${picture}?download=true` : thumbnail(mine.collection, mine.id);
    link.download = mine.id.split("/").at(-1);
  }

  /* A link sends no key: fetch the file and save what has come. */
  async #download(event) {
    const link = byId("look-download");
    if (link.href.startsWith("blob:")) return;
    event.preventDefault();
    const { body } = await ask(link.getAttribute("href"), { blob: true });
    const saved = el("a", { href: URL.createObjectURL(body), download: link.download });
    saved.click();
    setTimeout(() => URL.revokeObjectURL(saved.href), 10000);
  }

  #leaveFor(act) {
    const { collection, hit } = this.#shown;
    this.close();
    act(hit, collection);
  }

  async #copyPicture() {
    try {
      const canvas = el("canvas", { width: this.image.naturalWidth, height: this.image.naturalHeight });
      canvas.getContext("2d").drawImage(this.image, 0, 0);
      const picture = new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
      await navigator.clipboard.write([new ClipboardItem({ "image/png": picture })]);
      say(byId("look-told"), "The picture is in the clipboard.");
    } catch {
      say(byId("look-told"), "This browser does not let pages copy pictures here; use Download.", true);
    }
  }

  async #copyLink() {
    try {
      await navigator.clipboard.writeText(location.href);
      say(byId("look-told"), "The link to this picture is in the clipboard.");
    } catch {
      say(byId("look-told"), `Copy this link: ${location.href}`);
    }
  }

  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const acts = {
      ArrowLeft: () => byId("look-previous").disabled || this.acts.step(-1),
      ArrowRight: () => byId("look-next").disabled || this.acts.step(1),
      "+": () => this.#zoomBy(1.5),
      "=": () => this.#zoomBy(1.5),
      "-": () => this.#zoomBy(1 / 1.5),
      0: () => this.#reset(),
    };
    if (!(event.key in acts)) return;
    event.preventDefault();
    acts[event.key]();
  }

  #reset() {
    this.#zoom = 1;
    this.#at = [0, 0];
    byId("look-size").textContent = "";
    this.#place();
  }

  /* Zoom so that what is under (x, y), from the middle of the stage, stays there. */
  #zoomBy(factor, x = 0, y = 0) {
    const before = this.#zoom;
    this.#zoom = Math.min(MOST_ZOOM, Math.max(1, before * factor));
    const grown = this.#zoom / before;
    this.#at = this.#zoom === 1 ? [0, 0] : [x - (x - this.#at[0]) * grown, y - (y - this.#at[1]) * grown];
    this.#place();
  }

  #place() {
    this.image.style.transform = `translate(${this.#at[0]}px, ${this.#at[1]}px) scale(${this.#zoom})`;
    byId("look-out").disabled = this.#zoom === 1;
    byId("look-in").disabled = this.#zoom === MOST_ZOOM;
  }

  #followPointers(stage) {
    const middle = (event) => {
      const box = stage.getBoundingClientRect();
      return [event.clientX - box.left - box.width / 2, event.clientY - box.top - box.height / 2];
    };
    stage.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.#zoomBy(Math.exp(-event.deltaY / WHEEL), ...middle(event));
    }, { passive: false });
    stage.addEventListener("dblclick", (event) => (this.#zoom > 1 ? this.#reset() : this.#zoomBy(3, ...middle(event))));
    stage.addEventListener("pointerdown", (event) => {
      stage.setPointerCapture(event.pointerId);
      this.#held.set(event.pointerId, { at: middle(event), began: middle(event) });
    });
    stage.addEventListener("pointermove", (event) => this.#drag(event, middle(event)));
    for (const name of ["pointerup", "pointercancel"]) stage.addEventListener(name, (event) => this.#lift(event, middle(event)));
  }

  #drag(event, at) {
    const held = this.#held.get(event.pointerId);
    if (!held) return;
    const others = [...this.#held].filter(([id]) => id !== event.pointerId).map(([, one]) => one.at);
    if (others.length) {
      const apart = ([x, y]) => Math.hypot(x - others[0][0], y - others[0][1]) || 1;
      this.#zoomBy(apart(at) / apart(held.at), (at[0] + others[0][0]) / 2, (at[1] + others[0][1]) / 2);
      held.began = null; // two fingers are no swipe
    } else if (this.#zoom > 1) {
      this.#at = [this.#at[0] + at[0] - held.at[0], this.#at[1] + at[1] - held.at[1]];
      this.#place();
    }
    held.at = at;
  }

  /* A swipe over the whole picture goes to its neighbour. */
  #lift(event, at) {
    const held = this.#held.get(event.pointerId);
    this.#held.delete(event.pointerId);
    if (!held?.began || this.#zoom > 1 || event.type === "pointercancel") return;
    const moved = at[0] - held.began[0];
    if (Math.abs(moved) < 60 || Math.abs(at[1] - held.began[1]) > Math.abs(moved)) return;
    const button = byId(moved > 0 ? "look-previous" : "look-next");
    if (!button.disabled) button.click();
  }
}

export const encodePath = (id) => id.split("/").map(encodeURIComponent).join("/");
