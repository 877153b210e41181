// My pictures: files, folders and zips into a collection, which is searchable as it grows.
import { ask, curl } from "./api.js";
import { byId, el, fill, runner, say, showWarning } from "./dom.js";
import { filesOfDrop, filesOfList } from "./files.js";
import { Intake } from "./intake.js";
import { describeCard, fillModels } from "./models.js";

const NEW = " "; // no collection is called so
const POLL = 700;
const MOST_LISTED = 200;

let run;
let models = [];
let warnings = new Map(); // by collection: its pictures are not what its model knows
let current = null; // an AbortController while something is being added

export function start() {
  run = runner(byId("add-status"), (signal, work) => work(signal));
  for (const id of ["add-files", "add-folder"]) {
    byId(id).addEventListener("change", () => {
      const given = filesOfList(byId(id).files);
      byId(id).value = "";
      addFiles(given);
    });
  }
  byId("add-collection").addEventListener("change", () => (showName(), showWarning("add-warning", warnings.get(chosen()))));
  byId("add-model").addEventListener("change", showCard);
  byId("add-path-form").addEventListener("submit", (event) => {
    event.preventDefault();
    addPath();
  });
  byId("add-stop").addEventListener("click", () => current?.abort());
  byId("add-search").addEventListener("click", () => dispatchEvent(new CustomEvent("twinlens-search", { detail: { collection: chosen() } })));
  document.addEventListener("paste", (event) => {
    if (!byId("add").hidden && event.clipboardData.files.length) addFiles(filesOfList(event.clipboardData.files));
  });
}

export async function open() {
  const [{ body }, folders] = await Promise.all([ask("/collections"), ask("/folders").catch(() => ({ body: { allowed: false, roots: [] } }))]);
  models = await fillModels(byId("add-model"), (model) => model.modalities.includes("image"));
  byId("add-model").parentElement.hidden = byId("add-model").options.length < 2;
  fill(byId("add-collection"), [[NEW, "a new collection"], ...body.data.map(({ name, count }) => [name, `${name} (${count.toLocaleString("en")})`])]);
  showName();
  showCard();
  warnings = new Map(body.data.map(({ name, warning }) => [name, warning]));
  showWarning("add-warning", warnings.get(chosen()));
  byId("add-path-form").hidden = !folders.body.allowed;
  byId("add-roots").textContent = `The server may add pictures from ${folders.body.roots.join(" or ")}.`;
  if (!byId("add-path").value) byId("add-path").value = folders.body.roots[0] ?? "";
  byId("add-curl").textContent = curl(`/collections/${encodeURIComponent(chosen())}/items`, { json: { items: [{ id: "FILE", image: "data:image/jpeg;base64,..." }] } });
}

/* What was dropped anywhere on this panel, or several files on another one. */
export async function take(transfer) {
  await addFiles(await filesOfDrop(transfer));
}

function showCard() {
  const model = models.find(({ id }) => id === byId("add-model").value);
  byId("add-card").textContent = model ? describeCard(model) : "";
}

function showName() {
  const isNew = byId("add-collection").value === NEW;
  byId("add-name").parentElement.hidden = !isNew;
}

const chosen = () => (byId("add-collection").value === NEW ? byId("add-name").value.trim() : byId("add-collection").value);

/* Return the name of the collection, created if it is new. */
async function prepare(signal) {
  if (!byId("add-collection").options.length) await open();
  const name = chosen();
  if (!name) throw new Error("Give the new collection a name.");
  const { body } = await ask("/collections", { signal });
  if (!body.data.some((one) => one.name === name)) {
    const model = byId("add-model").value;
    await ask(`/collections/${encodeURIComponent(name)}`, { method: "PUT", json: model ? { model } : {}, signal });
  }
  await open();
  byId("add-collection").value = name;
  showName();
  return name;
}

function addFiles(given) {
  if (!given.length) return;
  return run(async () => {
    const stop = begin(given.length);
    try {
      const name = await prepare(stop.signal);
      const { body } = await ask(`/collections/${encodeURIComponent(name)}`);
      const model = models.find(({ revision }) => revision === body.bundle.revision);
      const intake = new Intake(name, { side: Math.max(...(model?.image_size ?? [224])), signal: stop.signal, changed: () => showIntake(intake, given.length) });
      try {
        await intake.add(given);
      } catch (error) {
        if (error.name !== "AbortError") intake.faults.push({ name: given[0].name, reason: error.message });
      }
      showIntake(intake, given.length);
      return tellIntake(intake, stop.signal.aborted);
    } finally {
      end();
    }
  });
}

function tellIntake(intake, isStopped) {
  const parts = [`${isStopped ? "Stopped. " : ""}${count(intake.added, "picture")} added to ${intake.collection}.`];
  if (intake.shrunk) parts.push(`${count(intake.shrunk, "large picture")} shrunk first; the model sees no difference.`);
  if (intake.faults.length) parts.push(`${intake.faults.length} failed, listed below.`);
  if (intake.skipped) parts.push(`${count(intake.skipped, "file")} skipped: not pictures.`);
  return parts.join(" ");
}

const count = (number, what) => `${number.toLocaleString("en")} ${what}${number === 1 ? "" : "s"}`;

function showIntake(intake, least) {
  const done = intake.added + intake.faults.length + intake.skipped;
  showProgress(done, Math.max(done, least), intake.added);
  showFaults(intake.faults);
}

/* Have the server add a folder of its own machine, and follow the job. */
function addPath() {
  return run(async () => {
    const stop = begin(1);
    try {
      const name = await prepare(stop.signal);
      const path = `/collections/${encodeURIComponent(name)}/folders`;
      const json = { path: byId("add-path").value.trim() };
      byId("add-curl").textContent = curl(path, { json });
      const { body } = await ask(path, { json, signal: stop.signal });
      return await follow(body.job.id, stop.signal);
    } finally {
      end();
    }
  });
}

async function follow(id, signal) {
  for (;;) {
    const { body: job } = await ask(`/jobs/${id}`);
    showProgress(job.done, Math.max(1, job.total), job.done);
    if (job.state === "failed") throw new Error(job.error);
    if (job.state === "done") {
      const { collection, added, unchanged, failed, failed_count: faults } = job.result;
      showFaults(failed.map(({ id: name, error }) => ({ name, reason: error })), faults);
      return `${count(added, "picture")} added to ${collection}${unchanged ? `, ${unchanged} were there already` : ""}${faults ? `, ${faults} failed, listed below` : ""}.`;
    }
    if (signal.aborted) return "The server continues in the background; see Status.";
    await new Promise((resolve) => setTimeout(resolve, POLL));
  }
}

function begin(total) {
  current?.abort();
  current = new AbortController();
  showFaults([]);
  showProgress(0, total, 0);
  byId("add-progress-row").hidden = false;
  byId("add-stop").hidden = false;
  return current;
}

function end() {
  current = null;
  byId("add-stop").hidden = true;
  open().catch((error) => say(byId("add-status"), error.message, true));
}

function showProgress(done, total, added) {
  byId("add-progress").max = total;
  byId("add-progress").value = done;
  byId("add-counts").textContent = `${done.toLocaleString("en")} of ${total.toLocaleString("en")}`;
  byId("add-search").hidden = !added;
}

function showFaults(faults, total = faults.length) {
  byId("add-faults").hidden = !total;
  byId("add-faults-title").textContent = `${total} failed`;
  const rows = faults.slice(0, MOST_LISTED).map(({ name, reason }) => el("li", {}, el("strong", { text: name }), ` ${reason}`));
  byId("add-faults-list").replaceChildren(...rows);
}
