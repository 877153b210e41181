// The served bundles, for the pickers of several panels.
import { ask } from "./api.js";
import { fill } from "./dom.js";

/* Return what a model is for and not for; empty if its card does not say. */
export function headline({ card }) {
  const parts = [card?.domain && `for ${card.domain}`, card?.not_for?.length && `not for ${card.not_for.join("; ")}`];
  return parts.filter(Boolean).join("; ");
}

/* Return what calibration measured of a model; empty if it has none. */
export function doubt({ calibration }) {
  const measured = calibration?.measured;
  return measured ? `calibrated: of pictures of none of ${measured.classes} classes it names ${Math.round(measured.mistakes * 100)} %` : "";
}

/* Fill a picker with the models that `fits` accepts; return all models. */
export async function fillModels(select, fits = () => true) {
  const { body } = await ask("/v1/models");
  fill(select, body.data.filter(fits).map(({ id }) => [id, id]));
  return body.data;
}
