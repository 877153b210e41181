// The frame: tabs, copying, and server data shared by the panels.
import { readAddress, writeAddress } from "./address.js";
import { ask } from "./api.js";
import { byId, say } from "./dom.js";
import * as add from "./add.js";
import * as classify from "./classify.js";
import * as compare from "./compare.js";
import * as inside from "./inside.js";
import * as runs from "./runs.js";
import * as search from "./search.js";
import * as status from "./status.js";
import * as tag from "./tag.js";

const panels = { search, add, classify, tag, compare, inside, runs, status };
const allTabs = [...document.querySelectorAll("[role=tab]")];
let tabs = allTabs;
const DROPS = { search: "Drop here: one picture to search by, several to add", add: "Drop here to add", classify: "Drop here to classify", tag: "Drop here to tag" };
const opened = new Set();
const left = new Map(); // panel -> what its address held when it was left
const titles = Object.fromEntries(allTabs.map((tab) => [tab.getAttribute("aria-controls"), tab.textContent]));

/* Show a panel: as it was left, or as `params` of an address say. */
function select(name, { focus = false, params = null } = {}) {
  for (const tab of allTabs) {
    const chosen = tab.getAttribute("aria-controls") === name;
    tab.setAttribute("aria-selected", String(chosen));
    tab.tabIndex = chosen ? 0 : -1;
    byId(tab.getAttribute("aria-controls")).hidden = !chosen;
    if (chosen && focus) tab.focus();
  }
  for (const [other, panel] of Object.entries(panels)) if (other !== name) panel.close?.();
  openPanel(name, params ?? left.get(name) ?? new URLSearchParams());
}

const current = () => allTabs.find((tab) => tab.getAttribute("aria-selected") === "true").getAttribute("aria-controls");

/* Go to a panel as a step that "back" undoes. */
function goTo(name, focus = false) {
  const { panel, params } = readAddress();
  if (panel in panels) left.set(panel, params);
  writeAddress(name, Object.fromEntries(groupParams(left.get(name) ?? new URLSearchParams())), { isStep: true, title: titles[name] });
  select(name, { focus });
}

const groupParams = (params) => [...new Set(params.keys())].map((key) => [key, params.getAll(key)]);

/* Show what the address says, after "back", a reload or a link. */
function obey() {
  const { panel, params } = readAddress();
  const name = panel in panels ? panel : "search";
  if (name === "runs") byId("tab-runs").hidden = false;
  document.title = name === "search" ? "Twinlens" : `${titles[name]} – Twinlens`;
  select(name, { params });
}

/* A panel loads its data when it is opened; if that fails, it tries again the next time. */
async function openPanel(name, params) {
  try {
    await panels[name].open?.(!opened.has(name), params);
    opened.add(name);
  } catch (error) {
    say(byId(`${name === "inside" ? "map" : name}-status`), error.message, true);
  }
}

function moveAlong(event) {
  tabs = allTabs.filter((tab) => !tab.hidden);
  const at = tabs.indexOf(document.activeElement);
  const next = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: tabs.length - 1 }[event.key];
  if (at < 0 || next === undefined) return;
  event.preventDefault();
  goTo(tabs[(next + tabs.length) % tabs.length].getAttribute("aria-controls"), true);
}

async function copy(button) {
  const source = byId(button.dataset.copy);
  try {
    await navigator.clipboard.writeText(source.textContent);
    button.textContent = "Copied";
  } catch {
    // Clipboards need a secure origin; selecting the text lets the user copy by hand.
    getSelection().selectAllChildren(source);
    button.textContent = "Selected: press Ctrl+C";
  }
  setTimeout(() => (button.textContent = "Copy"), 2000);
}

for (const tab of allTabs) tab.addEventListener("click", () => goTo(tab.getAttribute("aria-controls")));
byId("tabs").addEventListener("keydown", moveAlong);
for (const button of document.querySelectorAll("[data-copy]")) button.addEventListener("click", () => copy(button));
// An image dropped beside its field would otherwise replace the page.
for (const name of ["dragover", "drop"]) addEventListener(name, (event) => event.preventDefault());
const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
let overlayTimer = null;
addEventListener("dragover", (event) => {
  if (!hasFiles(event)) return;
  byId("drop-here").hidden = false;
  byId("drop-here").firstElementChild.textContent = DROPS[current()] ?? "Drop here";
  clearTimeout(overlayTimer); // browsers tell of a drag every few hundred milliseconds while it lasts
  overlayTimer = setTimeout(hideOverlay, 600);
});
addEventListener("drop", (event) => {
  hideOverlay();
  const { files } = event.dataTransfer;
  const isMany = files.length > 1 || [...files].some((file) => /\.zip$/i.test(file.name)) || [...event.dataTransfer.items].some((item) => item.webkitGetAsEntry?.()?.isDirectory);
  if (!hasFiles(event) || !(current() === "add" || (current() === "search" && isMany))) return;
  const taken = add.take(event.dataTransfer); // read before the event ends
  if (current() !== "add") goTo("add");
  return taken;
});

function hideOverlay() {
  clearTimeout(overlayTimer);
  byId("drop-here").hidden = true;
}
addEventListener("twinlens-like", (event) => {
  goTo("search");
  search.findLike(event.detail.collection, event.detail.id);
});
addEventListener("twinlens-look", (event) => {
  goTo("search");
  search.lookAt(event.detail.collection, event.detail.id);
});
addEventListener("twinlens-list", (event) => {
  goTo("search");
  search.showList(event.detail.collection, event.detail.ids);
});
addEventListener("twinlens-teach", (event) => classify.teach(event.detail.name, event.detail.files));
addEventListener("twinlens-search", (event) => {
  left.set("search", new URLSearchParams({ in: event.detail.collection }));
  goTo("search");
});
addEventListener("popstate", obey); // "back", "forward", and an address that was typed

for (const panel of Object.values(panels)) panel.start(ask);
obey();
// The tab of training runs is there where the server shows any; the arrow keys pass over a hidden one.
runs.hasRuns().then((isShown) => (byId("tab-runs").hidden &&= !isShown), () => {});
// Not earlier: the browser moves the focus when it processes the address's fragment.
addEventListener("load", () => setTimeout(() => !byId("search").hidden && document.activeElement === document.body && byId("search-text").focus()));
