// The names of clusters on the map, largest first; one that would cover another is left out.

const FONT = "600 13px system-ui, sans-serif";
const ROOM = 6;
const HIGH = 20;

/* Return the names that are shown, with the boxes that they take. */
export function placeNames(context, names, { scale, left, top }, width, height) {
  context.font = FONT;
  const placed = [];
  for (const { text, x, y } of names) {
    const [across, down] = [left + x * scale, top - y * scale];
    const wide = context.measureText(text).width / 2 + ROOM;
    const box = [across - wide, down - HIGH / 2, across + wide, down + HIGH / 2];
    if (box[0] < 0 || box[1] < 0 || box[2] > width || box[3] > height) continue;
    if (!placed.some((other) => overlap(box, other.box))) placed.push({ text, across, down, box });
  }
  return placed;
}

export function paintNames(context, placed, style) {
  Object.assign(context, { font: FONT, textAlign: "center", textBaseline: "middle", lineJoin: "round", lineWidth: 4 });
  context.strokeStyle = style.backgroundColor;
  context.fillStyle = style.color;
  for (const { text, across, down } of placed) {
    context.strokeText(text, across, down);
    context.fillText(text, across, down);
  }
}

export const overlap = (a, b) => a[0] < b[2] && a[2] > b[0] && a[1] < b[3] && a[3] > b[1];
