// The served bundles, for the pickers of several panels.
import { ask } from "./api.js";
import { fill } from "./dom.js";

/* Return what calibration measured of a model; empty if it has none. */
export function doubt({ calibration }) {
  const measured = calibration?.measured;
  return measured ? `calibrated: names a class for ${Math.round(measured.mistakes * 100)} % of pictures of none of ${measured.classes} classes` : "";
}

/* Return the card of a model as sentences: what it is good at, and what it is not for. */
export function describeCard({ id, card }) {
  if (!card) return "";
  const good = card.good_for?.length ? card.good_for.join("; ") : card.domain;
  const bad = card.not_for?.length ? ` Do not rely on it for ${card.not_for.join("; ")}.` : "";
  return `${good ? `Model ${id} is good at ${good}.` : ""}${bad}`;
}

/* Fill a picker with the models that `fits` accepts; return all models. */
export async function fillModels(select, fits = () => true) {
  const { body } = await ask("/v1/models");
  fill(select, body.data.filter(fits).map(({ id }) => [id, id]));
  return body.data;
}
