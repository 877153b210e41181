// Images that a user chooses, drops or pastes, and their conversion for requests.
import { show } from "./api.js";
import { el } from "./dom.js";
import { fetchPicture, samples, thumbnail } from "./samples.js";

// Images that some browsers give no type.
const UNTYPED = [".heic", ".heif", ".hif", ".avif", ".tif", ".tiff"];

/* A field for images inside `host`. `changed` is called with the list of files. */
export class PictureField {
  constructor(host, { label, many = false, changed = () => {} }) {
    this.files = [];
    this.many = many;
    this.changed = changed;
    this.input = el("input", { type: "file", accept: ["image/*", ...UNTYPED].join(","), multiple: many, "aria-label": label, on: { change: () => this.#take(this.input.files) } });
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
    this.zone.addEventListener("drop", () => this.zone.classList.remove("over"));
    // Images pasted or dropped anywhere in a section go to that section's field.
    const place = host.closest("[data-paste]") ?? host.closest("section");
    const takeFrom = (source) => (event) => {
      if (placeOf(event.target) === place && event[source]?.files.length) this.#take(event[source].files);
    };
    document.addEventListener("paste", takeFrom("clipboardData"));
    document.addEventListener("drop", takeFrom("dataTransfer"));
  }

  clear() {
    this.#set([]);
  }

  /* Offer pictures of a collection to try; again and again does no harm. */
  async offer(count = 6) {
    const found = await samples(count);
    this.offered?.remove();
    this.offered = el("div", { className: "offer", role: "group", "aria-label": "Pictures to try" }, el("span", { text: "or try" }), ...found.map((sample) => this.#try(sample)));
    if (found.length) this.zone.append(this.offered);
  }

  #try(sample) {
    const image = el("img", { alt: "", width: 40, height: 40 });
    const take = async () => this.#take([await fetchPicture(sample)]);
    const button = el("button", { type: "button", title: sample.id, "aria-label": `Try ${sample.id}`, on: { click: take } }, image);
    image.addEventListener("error", () => button.remove(), { once: true }); // a text has no picture
    show(image, thumbnail(sample.collection, sample.id));
    return button;
  }

  #take(list) {
    const images = [...list].filter((file) => file.type.startsWith("image/") || UNTYPED.some((end) => file.name.toLowerCase().endsWith(end)));
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

const placeOf = (target) => target.closest?.("[data-paste], section") ?? document.querySelector("section:not([hidden])");

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
