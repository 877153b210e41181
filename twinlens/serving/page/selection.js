// The selected points of the map, and what can be done with them: look, tag, save, teach, delete.
import { ask, show } from "./api.js";
import { byId, el, runner } from "./dom.js";
import { saveText, toCsv } from "./files.js";
import { fetchPicture, thumbnail } from "./samples.js";

const MOST_SHOWN = 30;
const MOST_TAUGHT = 20; // examples of a class
const GROUP = 1000; // items of a request

export class Selection {
  #ids = [];
  #collection = "";

  /* `marked` gets the places of the points, or null; `changed` is called after a deletion. */
  constructor({ marked, changed }) {
    Object.assign(this, { marked, changed });
    const act = (work) => runner(byId("pick-status"), work);
    byId("pick-clear").addEventListener("click", () => this.clear());
    byId("pick-gallery").addEventListener("click", () => dispatchEvent(new CustomEvent("twinlens-list", { detail: { collection: this.#collection, ids: this.#ids } })));
    byId("pick-save").addEventListener("click", () => act(() => this.#save())());
    byId("pick-tag-form").addEventListener("submit", (event) => {
      event.preventDefault();
      act(() => this.#tag())();
    });
    byId("pick-teach").addEventListener("click", () => act(() => this.#teach())());
    byId("pick-delete").addEventListener("click", () => act((signal) => this.#delete(signal))());
  }

  clear() {
    this.#ids = [];
    byId("pick").hidden = true;
    this.#calm();
    this.marked(null);
  }

  show(collection, ids, places) {
    if (!ids.length) return this.clear();
    this.#ids = ids;
    this.#collection = collection;
    this.#calm();
    this.marked(places);
    byId("pick").hidden = false;
    byId("pick-status").textContent = "";
    const shown = ids.slice(0, MOST_SHOWN).map((id) => {
      const image = el("img", { alt: id, title: id });
      show(image, thumbnail(collection, id));
      return el("span", { className: "preview" }, image);
    });
    const count = ids.length.toLocaleString("en");
    byId("map-selection").replaceChildren(el("p", { className: "hint", text: ids.length > MOST_SHOWN ? `${count} selected, ${MOST_SHOWN} shown` : `${count} selected` }), ...shown);
  }

  /* The first press of "Delete" asks, the second one deletes. */
  #calm() {
    byId("pick-delete").textContent = "Delete";
    byId("pick-delete").classList.remove("danger");
  }

  async #save() {
    saveText(`${this.#collection}-selection.csv`, toCsv([["id"], ...this.#ids.map((id) => [id])]), "text/csv");
    return `${this.#ids.length} ids saved.`;
  }

  async #tag() {
    const [field, value] = [byId("pick-field").value.trim(), byId("pick-value").value.trim()];
    if (!field || !value) throw new Error("Type a field and its value, such as: trip = Rome.");
    await this.#send("PATCH", (ids) => ({ items: ids.map((id) => ({ id, metadata: { [field]: value } })) }));
    return `${this.#ids.length} have ${field} = ${value}. Filter by it in Search.`;
  }

  async #teach() {
    const name = byId("pick-value").value.trim();
    if (!name) throw new Error("Type the name of the class into the field beside “=”.");
    const step = Math.max(1, Math.floor(this.#ids.length / MOST_TAUGHT));
    const some = this.#ids.filter((_, i) => i % step === 0).slice(0, MOST_TAUGHT);
    const files = await Promise.all(some.map((id) => fetchPicture({ collection: this.#collection, id })));
    dispatchEvent(new CustomEvent("twinlens-teach", { detail: { name, files } }));
    return `${files.length} examples of ${name} are in Classify.`;
  }

  async #delete() {
    const button = byId("pick-delete");
    const count = this.#ids.length.toLocaleString("en");
    if (!button.classList.contains("danger")) {
      button.textContent = `Delete ${count} from the collection?`;
      button.classList.add("danger");
      return "Files on disk are not deleted.";
    }
    await this.#send("DELETE", (ids) => ({ ids }));
    this.clear();
    this.changed();
    return `${count} deleted.`;
  }

  async #send(method, describe) {
    const path = `/collections/${encodeURIComponent(this.#collection)}/items`;
    for (let at = 0; at < this.#ids.length; at += GROUP) await ask(path, { method, json: describe(this.#ids.slice(at, at + GROUP)) });
  }
}
