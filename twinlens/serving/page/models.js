// The served bundles, for the pickers of several panels.
import { ask } from "./api.js";
import { fill } from "./dom.js";

/* Fill a picker with the models that `fits` accepts; return all models. */
export async function fillModels(select, fits = () => true) {
  const { body } = await ask("/v1/models");
  fill(select, body.data.filter(fits).map(({ id }) => [id, id]));
  return body.data;
}
