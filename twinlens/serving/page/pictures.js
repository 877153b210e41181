// Pictures that a person gives: chosen, dropped or pasted; and how they become a request's.
import { el } from "./dom.js";

/* A field for pictures inside `host`. `changed` is called with the list of files. */
export class PictureField {
  constructor(host, { label, many = false, changed = () => {} }) {
    this.files = [];
    this.many = many;
    this.changed = changed;
    this.input = el("input", { type: "file", accept: "image/*", multiple: many, "aria-label": label, on: { change: () => this.#take(this.input.files) } });
    this.previews = el("div", { className: "previews" });
    const prompt = el("span", { text: many ? "Drop or paste images, or " : "Drop or paste an image, or " });
    const choose = el("label", { className: "choose" }, el("span", { text: many ? "choose files" : "choose a file" }), this.input);
    this.zone = el("div", { className: "drop", role: "group", "aria-label": label }, this.previews, el("p", {}, prompt, choose));
    host.replaceChildren(this.zone);
    this.zone.addEventListener("dragover", (event) => {
      event.preventDefault();
      this.zone.classList.add("over");
    });
    this.zone.addEventListener("dragleave", () => this.zone.classList.remove("over"));
    this.zone.addEventListener("drop", (event) => {
      event.preventDefault();
      this.zone.classList.remove("over");
      this.#take(event.dataTransfer.files);
    });
    // Paste works wherever the panel has the focus.
    host.closest("section").addEventListener("paste", (event) => {
      const target = host.closest("[data-paste]") ?? host.closest("section");
      if (target.contains(event.target) && event.clipboardData.files.length) this.#take(event.clipboardData.files);
    });
  }

  clear() {
    this.#set([]);
  }

  #take(list) {
    const images = [...list].filter((file) => file.type.startsWith("image/"));
    if (images.length) this.#set(this.many ? [...this.files, ...images] : images.slice(0, 1));
    this.input.value = "";
  }

  #set(files) {
    this.files = files;
    this.previews.replaceChildren(...files.map((file) => this.#preview(file)));
    this.changed(files);
  }

  #preview(file) {
    const drop = () => {
      this.#set(this.files.filter((one) => one !== file));
      this.input.focus();
    };
    return el("span", { className: "preview" }, picture(file), el("button", { type: "button", text: "×", title: `Remove ${file.name}`, "aria-label": `Remove ${file.name}`, on: { click: drop } }));
  }
}

/* Return an <img> of a file. */
export function picture(file) {
  const url = URL.createObjectURL(file);
  const image = el("img", { src: url, alt: file.name });
  image.addEventListener("load", () => URL.revokeObjectURL(url), { once: true });
  return image;
}

/* Return a file as a data URI. */
export function encode(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(new Error(`${file.name} cannot be read.`));
    reader.readAsDataURL(file);
  });
}
