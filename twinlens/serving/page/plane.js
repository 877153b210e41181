// A scatter of points on a canvas: hover, zoom, move, select; by mouse, touch and keyboard.
// Points are written as pixels, not drawn as shapes: 100,000 fit in one frame without a GPU.
import { Landmarks } from "./landmarks.js";
import { isInside, outline } from "./lasso.js";
import { paintNames, placeNames } from "./names.js";

const REACH = 14; // pixels within which a point counts as pointed at
const STEP = 40;
const MARGIN = 30;
const MOST_ZOOM = 200; // times the zoom at which all points fit
const LEAST_ZOOM = 0.5; // of it: one never zooms out into nothing
const MANY = 5000; // points, from which on they are drawn smaller
const HELD_BACK = 200; // milliseconds without a move, before the view is told

export class PlaneView {
  constructor(canvas, { point, select, fetch, moved = () => {} }) {
    Object.assign(this, { canvas, point, select, moved, ids: [], points: new Float32Array(), near: -1, frame: null, path: null, isLasso: false });
    this.bounds = [-1, -1, 1, 1];
    this.names = [];
    this.inks = null; // the colour of each point, or null for one colour
    this.chosen = null; // flags of the selected points, or null
    this.landmarks = new Landmarks(fetch, () => this.draw());
    this.pointers = new Map();
    this.whole();
    canvas.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    canvas.addEventListener("pointerdown", (event) => this.#down(event));
    canvas.addEventListener("pointermove", (event) => this.#move(event));
    for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, (event) => this.#up(event));
    canvas.addEventListener("keydown", (event) => this.#key(event));
    new ResizeObserver(() => this.draw()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  /* Show other points; `keepsView` where they are the same items, moved a little. */
  load(ids, points, { names = [], keepsView = false } = {}) {
    const flat = new Float32Array(points.length * 2);
    for (let i = 0; i < points.length; i++) [flat[2 * i], flat[2 * i + 1]] = points[i];
    Object.assign(this, { ids, points: flat, names, near: -1, path: null, inks: null, chosen: null });
    this.#measure();
    this.landmarks.clear(keepsView);
    if (keepsView) this.draw();
    else this.whole();
  }

  /* Colour the points: an array of [r, g, b] by point, or null. */
  colour(colours) {
    this.inks = colours && Uint32Array.from(colours, ([r, g, b]) => (b << 16) | (g << 8) | r);
    this.draw();
  }

  mark(flags) {
    this.chosen = flags;
    this.draw();
  }

  showPictures(wanted) {
    this.landmarks.isShown = wanted;
    this.draw();
  }

  /* Show every point, as large as they fit; sizes are known when it is painted. */
  whole() {
    this.isWhole = true;
    this.draw();
  }

  /* Return the middle and the zoom, for an address; null shows all. */
  get view() {
    return this.isWhole || Math.abs(this.zoom - 1) < 1e-6 ? null : [this.x, this.y, this.zoom];
  }

  set view([x, y, zoom]) {
    this.isWhole = false;
    Object.assign(this, { x, y, zoom: Math.min(MOST_ZOOM, Math.max(LEAST_ZOOM, zoom)) });
    this.#hold();
    this.draw();
  }

  #measure() {
    let [left, top, right, bottom] = [Infinity, Infinity, -Infinity, -Infinity];
    for (let i = 0; i < this.points.length; i += 2) {
      left = Math.min(left, this.points[i]);
      right = Math.max(right, this.points[i]);
      top = Math.min(top, this.points[i + 1]);
      bottom = Math.max(bottom, this.points[i + 1]);
    }
    this.bounds = this.ids.length ? [left, top, right, bottom] : [-1, -1, 1, 1];
  }

  #fit() {
    this.isWhole = false;
    const [left, top, right, bottom] = this.bounds;
    Object.assign(this, { zoom: 1, x: (left + right) / 2, y: (top + bottom) / 2 });
  }

  draw() {
    this.frame ??= requestAnimationFrame(() => {
      this.frame = null;
      this.#paint();
    });
  }

  /* Pixels of one unit where all points fit, times the zoom. */
  #scaleFor(width, height) {
    const [left, top, right, bottom] = this.bounds;
    const room = [(width - 2 * MARGIN) / Math.max(right - left, 1e-6), (height - 2 * MARGIN) / Math.max(bottom - top, 1e-6)];
    return Math.max(1e-6, Math.min(...room, 1e6)) * this.zoom;
  }

  get #scale() {
    return this.#scaleFor(this.canvas.clientWidth, this.canvas.clientHeight);
  }

  /* Keep the middle of the view among the points. */
  #hold() {
    const [left, top, right, bottom] = this.bounds;
    this.x = Math.min(right, Math.max(left, this.x));
    this.y = Math.min(bottom, Math.max(top, this.y));
  }

  /* Return what takes a point to the canvas; reading sizes is slow, so once for all points. */
  #placing() {
    const { clientWidth, clientHeight } = this.canvas;
    const scale = this.#scaleFor(clientWidth, clientHeight);
    const [left, top] = [clientWidth / 2 - this.x * scale, clientHeight / 2 + this.y * scale];
    return { scale, left, top, at: (i) => [left + this.points[2 * i] * scale, top - this.points[2 * i + 1] * scale] };
  }

  #paint() {
    const { clientWidth, clientHeight } = this.canvas;
    if (!clientWidth) return;
    if (this.isWhole) this.#fit();
    const ratio = devicePixelRatio;
    const [width, height] = [Math.round(clientWidth * ratio), Math.round(clientHeight * ratio)];
    if (this.canvas.width !== width || this.canvas.height !== height) Object.assign(this.canvas, { width, height });
    const context = (this.context ??= this.canvas.getContext("2d", { willReadFrequently: true }));
    const style = getComputedStyle(this.canvas);
    const placing = this.#placing();
    context.setTransform(1, 0, 0, 1, 0, 0);
    this.#stipple(context, ratio, placing, style);
    context.scale(ratio, ratio);
    const names = placeNames(context, this.names, placing, clientWidth, clientHeight);
    this.landmarks.paint(context, this.ids, placing.at, clientWidth, clientHeight, names);
    paintNames(context, names, style);
    context.strokeStyle = style.color;
    context.lineWidth = 2;
    if (this.near >= 0) {
      context.beginPath();
      context.arc(...placing.at(this.near), 8, 0, 2 * Math.PI);
      context.stroke();
    }
    if (this.path) this.#trace(context);
  }

  #trace(context) {
    context.beginPath();
    for (const [x, y] of outline(this.path)) context.lineTo(x, y);
    context.closePath();
    context.stroke();
  }

  /* Write every point as a small disc; where many lie the colour grows denser. */
  #stipple(context, ratio, { scale, left, top }, style) {
    const { width, height } = this.canvas;
    if (this.image?.width !== width || this.image?.height !== height) {
      this.image = context.createImageData(width, height);
      this.pixels = new Uint32Array(this.image.data.buffer);
    } else this.pixels.fill(0);
    const { pixels, points, inks, chosen } = this;
    const colour = parseInt(style.getPropertyValue("--strong").trim().slice(1), 16);
    const plain = ((colour & 255) << 16) | (colour & 0xff00) | (colour >> 16); // bytes are R, G, B, A
    const count = this.ids.length;
    const alpha = count > MANY ? 130 : 190;
    const dot = drawDot((count > MANY ? 1 : 2.6) * ratio, width);
    const reach = Math.ceil(3 * ratio);
    const [zoom, x0, y0] = [scale * ratio, left * ratio + 0.5, top * ratio + 0.5];
    const [right, bottom] = [width - reach, height - reach];
    for (let i = 0; i < count; i++) {
      const column = (x0 + points[2 * i] * zoom) | 0;
      const row = (y0 - points[2 * i + 1] * zoom) | 0;
      if (column < reach || row < reach || column >= right || row >= bottom) continue;
      const ink = inks === null ? plain : inks[i];
      const dense = chosen === null ? alpha : chosen[i] ? 255 : 40;
      const middle = row * width + column;
      for (let d = 0; d < dot.length; d++) {
        const at = middle + dot[d];
        const sum = (pixels[at] >>> 24) + dense;
        pixels[at] = ink | ((sum > 255 ? 255 : sum) << 24);
      }
    }
    context.putImageData(this.image, 0, 0);
  }

  #hover(x, y) {
    const { scale, left, top } = this.#placing();
    let nearest = -1;
    let best = REACH ** 2;
    for (let i = 0; i < this.ids.length; i++) {
      const dx = left + this.points[2 * i] * scale - x;
      const dy = top - this.points[2 * i + 1] * scale - y;
      const distance = dx * dx + dy * dy;
      if (distance < best) [nearest, best] = [i, distance];
    }
    if (nearest < 0 || nearest === this.near) return;
    this.near = nearest;
    this.point(this.ids[nearest]);
    this.draw();
  }

  /* Zoom so that what is under (x, y) stays there. */
  #zoomAt(x, y, factor) {
    if (this.isWhole) this.#fit();
    const before = this.#scale;
    this.zoom = Math.min(MOST_ZOOM, Math.max(LEAST_ZOOM, this.zoom * factor));
    const change = 1 / before - 1 / this.#scale;
    this.x += (x - this.canvas.clientWidth / 2) * change;
    this.y -= (y - this.canvas.clientHeight / 2) * change;
    this.#settle();
  }

  #pan(x, y) {
    if (this.isWhole) this.#fit();
    this.x -= x / this.#scale;
    this.y += y / this.#scale;
    this.#settle();
  }

  #settle() {
    this.#hold();
    this.draw();
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.moved(), HELD_BACK);
  }

  #wheel(event) {
    event.preventDefault();
    this.#zoomAt(event.offsetX, event.offsetY, Math.exp(-event.deltaY / 400));
  }

  #down(event) {
    this.canvas.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, [event.offsetX, event.offsetY]);
    if (event.shiftKey || this.isLasso) this.path = [[event.offsetX, event.offsetY]];
    this.#hover(event.offsetX, event.offsetY);
  }

  #move(event) {
    const { offsetX: x, offsetY: y } = event;
    const held = this.pointers.get(event.pointerId);
    if (!held) return this.#hover(x, y);
    if (this.path) {
      this.path.push([x, y]);
      return this.draw();
    }
    if (this.pointers.size === 2) {
      const [other] = [...this.pointers].filter(([id]) => id !== event.pointerId).map(([, at]) => at);
      const apart = (at) => Math.hypot(at[0] - other[0], at[1] - other[1]) || 1;
      this.#zoomAt((x + other[0]) / 2, (y + other[1]) / 2, apart([x, y]) / apart(held));
    } else this.#pan(x - held[0], y - held[1]);
    this.pointers.set(event.pointerId, [x, y]);
  }

  #up(event) {
    this.pointers.delete(event.pointerId);
    if (!this.path) return;
    const corners = outline(this.path);
    this.path = null;
    const { at } = this.#placing();
    this.select(this.ids.map((_, i) => i).filter((i) => isInside(corners, ...at(i))));
    this.draw();
  }

  #key(event) {
    const middle = [this.canvas.clientWidth / 2, this.canvas.clientHeight / 2];
    const acts = {
      ArrowLeft: () => this.#pan(STEP, 0),
      ArrowRight: () => this.#pan(-STEP, 0),
      ArrowUp: () => this.#pan(0, STEP),
      ArrowDown: () => this.#pan(0, -STEP),
      "+": () => this.#zoomAt(...middle, 1.3),
      "=": () => this.#zoomAt(...middle, 1.3),
      "-": () => this.#zoomAt(...middle, 1 / 1.3),
      0: () => (this.whole(), this.moved()),
    };
    const act = acts[event.key];
    if (!act || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    act();
    this.#hover(...middle);
  }
}

/* Return the offsets from the centre of a disc to its pixels in an image of this width. */
function drawDot(radius, width) {
  const steps = [];
  const reach = Math.floor(radius);
  for (let y = -reach; y <= reach; y++) {
    for (let x = -reach; x <= reach; x++) if (x * x + y * y <= radius * radius) steps.push(y * width + x);
  }
  return Int32Array.from(steps);
}
