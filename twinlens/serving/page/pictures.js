// Images that a user chooses, drops or pastes, and their conversion for requests.
import { show } from "./api.js";
import { el } from "./dom.js";
import { filesOfDrop, filesOfList, keepPaths } from "./files.js";
import { fetchPicture, samples, thumbnail } from "./samples.js";

const MOST_PREVIEWS = 12;

// Images that some browsers give no type.
const UNTYPED = [".heic", ".heif", ".hif", ".avif", ".tif", ".tiff"];

/* Whether a file is a picture, by its type or its name. */
export const isPicture = ({ name, type = "" }) => type.startsWith("image/") || /\.(jpe?g|jpe|jfif|png|apng|webp|bmp|gif|tiff?|avif|hei[cf]|hif)$/i.test(name);

/* A field for images inside `host`. `changed` is called with the list of files. */
export class PictureField {
  constructor(host, { label, many = false, hasFolder = false, changed = () => {} }) {
    this.files = [];
    this.many = many;
    this.changed = changed;
    this.input = el("input", { type: "file", accept: ["image/*", ...UNTYPED].join(","), multiple: many, "aria-label": label, on: { change: () => this.#take(this.input.files) } });
    const folder = el("input", { type: "file", webkitdirectory: true, "aria-label": `${label}: a folder`, on: { change: () => this.#takeFolder(folder) } });
    const chooseFolder = el("label", { className: "choose" }, el("span", { text: "a folder" }), folder);
    this.previews = el("div", { className: "previews" });
    const prompt = el("span", { text: many ? "Drop or paste images, or " : "Drop or paste an image, or " });
    const choose = el("label", { className: "choose" }, el("span", { text: many ? "choose files" : "choose a file" }), this.input);
    this.zone = el("div", { className: "drop", role: "group", "aria-label": label }, this.previews, el("p", {}, prompt, choose, ...(hasFolder ? [" or ", chooseFolder] : [])));
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
      if (placeOf(event.target) !== place || !event[source]?.files.length) return;
      if (many && source === "dataTransfer") filesOfDrop(event[source]).then((given) => this.#take(keepPaths(given)));
      else this.#take(event[source].files);
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
    const images = [...list].filter(isPicture);
    if (!this.many && images.length > 1) return; // for “My pictures”, which takes several
    if (images.length) this.#set(this.many ? [...this.files, ...images] : images.slice(0, 1));
    this.input.value = "";
  }

  #takeFolder(input) {
    const given = filesOfList(input.files);
    input.value = "";
    this.#take(keepPaths(given));
  }

  #set(files) {
    this.files = files;
    const rest = files.length - MOST_PREVIEWS;
    const more = el("span", { className: "hint", text: `and ${rest} more` });
    const drop = el("button", { type: "button", className: "link", text: "Remove all", on: { click: () => this.clear() } });
    this.previews.replaceChildren(...files.slice(0, MOST_PREVIEWS).map((file) => this.#preview(file)), ...(rest > 0 ? [more] : []), ...(files.length > 1 ? [drop] : []));
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
