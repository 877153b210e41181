// A scatter of points on a canvas: hover, zoom, move, select; by mouse, touch and keyboard.
// Points are written as pixels, not drawn as shapes: 20,000 fit in one frame without a GPU.
import { Landmarks } from "./landmarks.js";

const REACH = 14; // pixels within which a point counts as pointed at
const STEP = 40;
const MARGIN = 30;

export class PlaneView {
  constructor(canvas, { point, select, fetch }) {
    Object.assign(this, { canvas, point, select, ids: [], points: new Float32Array(), near: -1, frame: null, rectangle: null });
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

  load(ids, points) {
    Object.assign(this, { ids, points: Float32Array.from(points.flat()), near: -1, rectangle: null });
    this.landmarks.clear();
    this.whole();
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

  #fit() {
    this.isWhole = false;
    const [low, high] = [[Infinity, Infinity], [-Infinity, -Infinity]];
    this.points.forEach((value, i) => {
      low[i % 2] = Math.min(low[i % 2], value);
      high[i % 2] = Math.max(high[i % 2], value);
    });
    if (!this.ids.length) return Object.assign(this, { zoom: 1, x: 0, y: 0 });
    const { clientWidth, clientHeight } = this.canvas;
    const room = [clientWidth, clientHeight].map((size, axis) => (size - 2 * MARGIN) / Math.max(high[axis] - low[axis], 1e-6));
    Object.assign(this, { zoom: 1, x: (low[0] + high[0]) / 2, y: (low[1] + high[1]) / 2 });
    this.zoom = Math.min(200, Math.min(...room) / this.#scale);
  }

  draw() {
    this.frame ??= requestAnimationFrame(() => {
      this.frame = null;
      this.#paint();
    });
  }

  get #scale() {
    return (Math.min(this.canvas.clientWidth, this.canvas.clientHeight) / 2 - 16) * this.zoom;
  }

  /* Return what takes a point to the canvas; reading sizes is slow, so once for all points. */
  #placing() {
    const scale = this.#scale;
    const left = this.canvas.clientWidth / 2 - this.x * scale;
    const top = this.canvas.clientHeight / 2 + this.y * scale;
    return (i) => [left + this.points[2 * i] * scale, top - this.points[2 * i + 1] * scale];
  }

  #paint() {
    const { clientWidth, clientHeight } = this.canvas;
    if (!clientWidth) return;
    if (this.isWhole) this.#fit();
    const ratio = devicePixelRatio;
    this.canvas.width = Math.round(clientWidth * ratio);
    this.canvas.height = Math.round(clientHeight * ratio);
    const context = this.canvas.getContext("2d");
    this.#stipple(context, ratio);
    context.scale(ratio, ratio);
    this.landmarks.paint(context, this.ids, this.#placing(), clientWidth, clientHeight);
    context.strokeStyle = getComputedStyle(this.canvas).color;
    context.lineWidth = 2;
    if (this.near >= 0) {
      context.beginPath();
      context.arc(...this.#placing()(this.near), 8, 0, 2 * Math.PI);
      context.stroke();
    }
    if (this.rectangle) {
      const [x, y, right, bottom] = this.rectangle;
      context.strokeRect(x, y, right - x, bottom - y);
    }
  }

  /* Write every point as a small disc; where many lie the colour grows denser. */
  #stipple(context, ratio) {
    const { width, height } = this.canvas;
    const image = context.createImageData(width, height);
    const pixels = new Uint32Array(image.data.buffer);
    const colour = parseInt(getComputedStyle(this.canvas).getPropertyValue("--strong").trim().slice(1), 16);
    const ink = ((colour & 255) << 16) | (colour & 0xff00) | (colour >> 16); // bytes are R, G, B, A
    const isMany = this.ids.length > 5000;
    const alpha = isMany ? 110 : 190;
    const place = this.#placing();
    const dot = drawDot((isMany ? 1 : 2.6) * ratio, width);
    const reach = Math.ceil(3 * ratio);
    for (let i = 0; i < this.ids.length; i++) {
      const [x, y] = place(i);
      const [column, row] = [Math.round(x * ratio), Math.round(y * ratio)];
      if (column < reach || row < reach || column + reach > width || row + reach > height) continue;
      for (const step of dot) {
        const at = row * width + column + step;
        pixels[at] = ink | (Math.min(255, (pixels[at] >>> 24) + alpha) << 24);
      }
    }
    context.putImageData(image, 0, 0);
  }

  #hover(x, y) {
    let nearest = -1;
    let best = REACH ** 2;
    const place = this.#placing();
    for (let i = 0; i < this.ids.length; i++) {
      const [px, py] = place(i);
      const distance = (px - x) ** 2 + (py - y) ** 2;
      if (distance < best) [nearest, best] = [i, distance];
    }
    if (nearest < 0 || nearest === this.near) return;
    this.near = nearest;
    this.point(this.ids[nearest]);
    this.draw();
  }

  /* Zoom so that what is under (x, y) stays there. */
  #zoomAt(x, y, factor) {
    const before = this.#scale;
    this.zoom = Math.min(200, Math.max(0.02, this.zoom * factor));
    const change = 1 / before - 1 / this.#scale;
    this.x += (x - this.canvas.clientWidth / 2) * change;
    this.y -= (y - this.canvas.clientHeight / 2) * change;
    this.draw();
  }

  #pan(x, y) {
    this.x -= x / this.#scale;
    this.y += y / this.#scale;
    this.draw();
  }

  #wheel(event) {
    event.preventDefault();
    this.#zoomAt(event.offsetX, event.offsetY, Math.exp(-event.deltaY / 400));
  }

  #down(event) {
    this.canvas.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, [event.offsetX, event.offsetY]);
    if (event.shiftKey) this.rectangle = [event.offsetX, event.offsetY, event.offsetX, event.offsetY];
    this.#hover(event.offsetX, event.offsetY);
  }

  #move(event) {
    const { offsetX: x, offsetY: y } = event;
    const held = this.pointers.get(event.pointerId);
    if (!held) return this.#hover(x, y);
    if (this.rectangle) {
      this.rectangle.splice(2, 2, x, y);
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
    if (!this.rectangle) return;
    const [x0, y0, x1, y1] = this.rectangle;
    this.rectangle = null;
    const isWithin = ([x, y]) => (x - x0) * (x - x1) <= 0 && (y - y0) * (y - y1) <= 0;
    const place = this.#placing();
    this.select(this.ids.filter((_, i) => isWithin(place(i))));
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
      0: () => this.whole(),
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
  return steps;
}
