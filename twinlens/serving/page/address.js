// Where the user is, in the address: the panel, and what it shows. So a reload, a link and the
// back button lead to the same place. `#search?q=a+red+heart&in=demo`
const NAME = "Twinlens";

/* Return {panel, params} of the address. */
export function readAddress() {
  const [panel, query = ""] = location.hash.slice(1).split(/\?(.*)/s);
  return { panel, params: new URLSearchParams(query) };
}

/* Write the address; `isStep` makes it a step that "back" undoes. Empty values are left out. */
export function writeAddress(panel, values, { isStep = false, title = "" } = {}) {
  const params = new URLSearchParams();
  for (const [key, value] of Object.entries(values)) {
    for (const one of [value].flat()) if (one !== "" && one !== null && one !== undefined) params.append(key, one);
  }
  const query = params.toString();
  const hash = `#${panel}${query ? `?${query}` : ""}`;
  if (hash !== location.hash) history[isStep ? "pushState" : "replaceState"](null, "", hash);
  document.title = title ? `${title} – ${NAME}` : NAME;
}
