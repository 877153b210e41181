// What is drawn around points to select them.

/* Return the corners of what was drawn: a straight line spans a rectangle. */
export function outline(path) {
  const [[x0, y0], [x1, y1]] = [path[0], path.at(-1)];
  const span = Math.hypot(x1 - x0, y1 - y0) || 1;
  const bend = Math.max(...path.map(([x, y]) => Math.abs((x1 - x0) * (y - y0) - (y1 - y0) * (x - x0)) / span));
  return bend < 6 ? [[x0, y0], [x1, y0], [x1, y1], [x0, y1]] : path;
}

/* Whether a point lies inside of a polygon: a ray from it crosses the edges an odd number of times. */
export function isInside(corners, x, y) {
  let inside = false;
  for (let i = 0, j = corners.length - 1; i < corners.length; j = i++) {
    const [[xi, yi], [xj, yj]] = [corners[i], corners[j]];
    if (yi > y !== yj > y && x < ((xj - xi) * (y - yi)) / (yj - yi) + xi) inside = !inside;
  }
  return inside;
}
