// The API documentation from /openapi.json: every path, its body and answers, and curl examples.
import { curl } from "./api.js";
import { byId, el, say } from "./dom.js";

const TOP = ["embeddings", "zero-shot", "similarity", "collections", "classifiers"];

async function start() {
  try {
    const response = await fetch("/openapi.json");
    draw(await response.json());
  } catch {
    say(byId("docs-status"), "The server does not respond. Is it still running?", true);
  }
}

function draw(description) {
  const groups = new Map();
  for (const [path, methods] of Object.entries(description.paths)) {
    for (const [method, operation] of Object.entries(methods)) {
      const tag = operation.tags?.[0] ?? "other";
      groups.set(tag, [...(groups.get(tag) ?? []), showOperation(method, path, operation)]);
    }
  }
  const rank = (tag) => (TOP.indexOf(tag) + 1 || TOP.length + 1);
  const sorted = [...groups].sort(([a], [b]) => rank(a) - rank(b));
  byId("docs-paths").append(
    ...sorted.flatMap(([tag, shown]) => [el("h2", { text: tag }), ...shown]),
    el("h2", { text: "schemas" }),
    ...Object.entries(description.components.schemas).map(([name, schema]) => fold(name, show(schema), `schema-${name}`)),
  );
  say(byId("docs-status"), `Version ${description.info.version}. Errors follow the schema Error.`);
  openAsked();
}

function showOperation(method, path, operation) {
  const head = el("summary", {}, el("code", { className: "method", text: method.toUpperCase() }), " ", el("code", { text: path }), ` ${operation.description?.split("\n")[0] ?? operation.summary ?? ""}`);
  const body = operation.requestBody?.content ?? {};
  const answers = Object.entries(operation.responses ?? {}).map(([status, answer]) => showAnswer(status, answer));
  return el("details", {}, head, ...(operation.parameters ?? []).map(showParameter), ...Object.entries(body).flatMap(([type, content]) => showContent("Reads", type, content, path, method)), ...answers);
}

function showParameter({ name, in: place, required, schema, description }) {
  return el("p", {}, el("code", { text: name }), ` in ${place}${required ? ", required" : ""}: `, el("code", { text: JSON.stringify(schema) }), description ? ` ${description}` : "");
}

function showContent(verb, type, { schema, examples }, path, method) {
  const shown = Object.entries(examples ?? {}).map(([name, { value }]) => {
    const put = method === "post" ? "" : ` \\\n  -X ${method.toUpperCase()}`;
    return fold(`Example: ${name}`, el("pre", { tabIndex: 0, text: curl(path, { json: value }) + put }));
  });
  return [el("p", {}, `${verb} `, el("code", { text: type }), schema ? link(schema) : ""), ...(schema && !alternatives(schema).every((one) => one.$ref) ? [show(schema)] : []), ...shown];
}

function showAnswer(status, { description, content }) {
  const types = Object.entries(content ?? {}).flatMap(([type, { schema }]) => [" ", el("code", { text: type }), schema ? link(schema) : ""]);
  return el("p", {}, el("strong", { text: status }), ` ${description ?? ""}`, ...types);
}

/** The schemas of which one applies: several, or the one. */
const alternatives = (schema) => schema.anyOf ?? [schema];

function link(schema) {
  const names = alternatives(schema).flatMap((one) => (one.$ref ? [one.$ref.split("/").at(-1)] : []));
  const links = names.map((name) => el("a", { href: `#schema-${name}`, text: name }));
  return el("span", {}, ...links.flatMap((one, i) => [i ? " or " : " ", one]));
}

const show = (schema) => el("pre", { tabIndex: 0, text: JSON.stringify(schema, null, 2).replaceAll("#/components/schemas/", "") });

function fold(title, inner, id) {
  return el("details", { id }, el("summary", { text: title }), inner);
}

/* Open the schema named in the address. */
function openAsked() {
  const asked = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (asked instanceof HTMLDetailsElement) {
    asked.open = true;
    asked.scrollIntoView();
  }
}

addEventListener("hashchange", openAsked);
start();
