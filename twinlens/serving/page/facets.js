// Facets: the values of the metadata with their numbers of items, as chips that filter.
import { ask } from "./api.js";
import { byId, el } from "./dom.js";

const SHOWN = 6; // values of a field before "more"

export class Facets {
  chosen = new Map(); // field -> values
  #collection = "";

  constructor(changed) {
    this.changed = changed;
  }

  /* Take the choices of an address: JSON of [field, value]. */
  read(texts) {
    this.chosen.clear();
    for (const text of texts) {
      try {
        const [field, value] = JSON.parse(text);
        this.#set(String(field), value, true);
      } catch {
        // An address that somebody typed: leave out what cannot be read.
      }
    }
  }

  write() {
    return [...this.chosen].flatMap(([field, values]) => values.map((value) => JSON.stringify([field, value])));
  }

  clear() {
    this.chosen.clear();
  }

  /* Return the filter of all choices, joined with one that the user typed. */
  filter(typed) {
    const parts = [...this.chosen].map(([field, values]) => `${quoteField(field)} in (${values.map((value) => JSON.stringify(value)).join(", ")})`);
    return [...(typed ? [parts.length ? `(${typed})` : typed] : []), ...parts].join(" and ");
  }

  /* Show the fields of a collection; without any nothing is shown. */
  async list(collection) {
    this.#collection = collection;
    const { body } = await ask(`/collections/${encodeURIComponent(collection)}/facets`);
    if (this.#collection !== collection) return;
    const groups = body.data.filter(({ values }) => values.length > 1).map((facet) => this.#draw(facet, body.total));
    byId("search-facets").replaceChildren(...groups);
  }

  #draw({ field, values, distinct }) {
    const chips = values.map(({ value, count }) => this.#chip(field, value, count));
    const rest = el("details", {}, el("summary", { text: `${distinct - SHOWN} more` }), ...chips.slice(SHOWN));
    return el("div", { className: "facet", role: "group", "aria-label": field }, el("span", { className: "hint", text: field }), ...chips.slice(0, SHOWN), chips.length > SHOWN ? rest : null);
  }

  #chip(field, value, count) {
    const isChosen = () => this.chosen.get(field)?.includes(value) ?? false;
    const chip = el("button", { type: "button", className: "chip", "aria-pressed": String(isChosen()) }, String(value), el("small", { text: count.toLocaleString("en") }));
    chip.addEventListener("click", () => {
      this.#set(field, value, !isChosen());
      chip.setAttribute("aria-pressed", String(isChosen()));
      this.changed();
    });
    return chip;
  }

  #set(field, value, isWanted) {
    const others = (this.chosen.get(field) ?? []).filter((one) => one !== value);
    const values = isWanted ? [...others, value] : others;
    if (values.length) this.chosen.set(field, values);
    else this.chosen.delete(field);
  }
}

const KEYWORDS = new Set(["and", "or", "not", "in", "has", "contains", "between", "within", "near", "true", "false"]);

/* Names of fields that are no plain words stand in backticks in filters. */
const quoteField = (field) => (/^[A-Za-z_]\w*$/.test(field) && !KEYWORDS.has(field) ? field : `\`${field}\``);
