/** The photograph on a canvas, with a map and the outline over it; zoomed and moved. */

/** @typedef {import("./outline.js").Ring} Ring */

const MOST_ZOOM = 40; // screen pixels per pixel of the photograph
const MARGIN = 12;
const MOST_OVERLAY = 8e6; // pixels; telephones refuse much larger canvases
const OUTLINE = "#ff00e6";
const HALO = "rgba(0, 0, 0, 0.55)";

export class View {
  /** @param {HTMLCanvasElement} canvas */
  constructor(canvas) {
    this.canvas = canvas;
    this.context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
    this.overlay = document.createElement("canvas");
    /** @type {ImageBitmap | null} */
    this.picture = null;
    this.width = 1;
    this.height = 1;
    this.scale = 1;
    this.x = 0; // of the photograph's corner on the canvas, CSS pixels
    this.y = 0;
    this.isFit = true;
    this.hasOverlay = false;
    /** @type {Path2D | null} */
    this.outline = null;
    /** @type {{x: number, y: number, radius: number} | null} */
    this.brush = null;
    this.frame = 0;
    /** Called when the zoom changes. */
    this.onzoom = () => {};
    new ResizeObserver(() => this.resized()).observe(canvas);
  }

  get box() {
    return { width: this.canvas.clientWidth, height: this.canvas.clientHeight };
  }

  /** Shows another photograph, whole; null for none.
   * @param {ImageBitmap | null} picture @param {number} width @param {number} height pixels */
  show(picture, width = 1, height = 1) {
    this.picture?.close();
    this.picture = picture;
    this.width = width;
    this.height = height;
    this.outline = null;
    this.hasOverlay = false;
    this.fit();
  }

  resized() {
    const ratio = window.devicePixelRatio || 1;
    this.canvas.width = Math.round(this.box.width * ratio);
    this.canvas.height = Math.round(this.box.height * ratio);
    if (this.isFit) this.fit();
    else this.draw();
  }

  get fitScale() {
    const { width, height } = this.box;
    return Math.max(Math.min((width - 2 * MARGIN) / this.width, (height - 2 * MARGIN) / this.height), 1e-3);
  }

  fit() {
    const { width, height } = this.box;
    this.scale = this.fitScale;
    this.x = (width - this.width * this.scale) / 2;
    this.y = (height - this.height * this.scale) / 2;
    this.isFit = true;
    this.moved();
  }

  /** Zooms so that the point under (x, y) stays; the middle of the canvas by default.
   * @param {number} factor @param {number} [x] CSS pixels @param {number} [y] */
  zoom(factor, x = this.box.width / 2, y = this.box.height / 2) {
    const least = Math.min(this.fitScale, 1);
    const scale = Math.min(Math.max(this.scale * factor, least), MOST_ZOOM);
    this.x = x - ((x - this.x) * scale) / this.scale;
    this.y = y - ((y - this.y) * scale) / this.scale;
    this.scale = scale;
    this.isFit = false;
    this.moved();
  }

  /** @param {number} dx CSS pixels @param {number} dy */
  pan(dx, dy) {
    this.x += dx;
    this.y += dy;
    this.isFit = false;
    this.moved();
  }

  /** Keeps the photograph in sight: it covers the middle of the canvas. */
  moved() {
    const { width, height } = this.box;
    const inside = (/** @type {number} */ at, /** @type {number} */ size, /** @type {number} */ room) =>
      Math.min(Math.max(at, room / 2 - size), room / 2);
    this.x = inside(this.x, this.width * this.scale, width);
    this.y = inside(this.y, this.height * this.scale, height);
    this.onzoom();
    this.draw();
  }

  /** Brings a point of the photograph into sight. @param {number} x pixels @param {number} y */
  reveal(x, y) {
    const { width, height } = this.box;
    const [screenX, screenY] = [this.x + x * this.scale, this.y + y * this.scale];
    const dx = Math.max(MARGIN * 2 - screenX, 0) + Math.min(width - MARGIN * 2 - screenX, 0);
    const dy = Math.max(MARGIN * 2 - screenY, 0) + Math.min(height - MARGIN * 2 - screenY, 0);
    if (dx || dy) this.pan(dx, dy);
  }

  /** @param {number} x CSS pixels of the canvas @param {number} y @returns {[number, number]} in the photograph */
  toPicture(x, y) {
    return [(x - this.x) / this.scale, (y - this.y) / this.scale];
  }

  /** Lays a map over the photograph; null for none.
   * @param {Uint8Array | null} values [height * width] @param {Uint32Array} [colours] RGBA by value */
  setOverlay(values, colours) {
    this.hasOverlay = values !== null;
    if (values && colours) {
      const step = Math.ceil(Math.sqrt((this.width * this.height) / MOST_OVERLAY));
      const [width, height] = [Math.ceil(this.width / step), Math.ceil(this.height / step)];
      Object.assign(this.overlay, { width, height });
      const image = new ImageData(width, height);
      const pixels = new Uint32Array(image.data.buffer);
      for (let y = 0; y < height; y++) {
        for (let x = 0; x < width; x++) pixels[y * width + x] = colours[values[y * step * this.width + x * step]];
      }
      /** @type {CanvasRenderingContext2D} */ (this.overlay.getContext("2d")).putImageData(image, 0, 0);
    }
    this.draw();
  }

  /** @param {Ring[] | null} rings null for no outline */
  setOutline(rings) {
    this.outline = rings && pathOf(rings);
    this.draw();
  }

  /** @param {{x: number, y: number, radius: number} | null} brush in pixels of the photograph */
  setBrush(brush) {
    this.brush = brush;
    this.draw();
  }

  draw() {
    if (!this.frame) this.frame = requestAnimationFrame(() => this.drawNow());
  }

  drawNow() {
    this.frame = 0;
    const { context, canvas } = this;
    const ratio = window.devicePixelRatio || 1;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, canvas.width, canvas.height);
    if (!this.picture) return;
    context.setTransform(this.scale * ratio, 0, 0, this.scale * ratio, this.x * ratio, this.y * ratio);
    context.imageSmoothingEnabled = this.scale < 3;
    context.imageSmoothingQuality = "high";
    context.drawImage(this.picture, 0, 0, this.width, this.height);
    if (this.hasOverlay) context.drawImage(this.overlay, 0, 0, this.width, this.height);
    context.lineJoin = "round";
    if (this.outline) this.stroke(this.outline, OUTLINE, 2);
    if (this.brush) {
      const circle = new Path2D();
      circle.arc(this.brush.x, this.brush.y, this.brush.radius, 0, 2 * Math.PI);
      this.stroke(circle, "#fff", 1.5);
    }
  }

  /** Draws a line of equal width at every zoom, with a dark rim that shows it on bright skin.
   * @param {Path2D} path @param {string} colour @param {number} width CSS pixels */
  stroke(path, colour, width) {
    for (const [style, pixels] of /** @type {[string, number][]} */ ([[HALO, width + 2], [colour, width]])) {
      this.context.strokeStyle = style;
      this.context.lineWidth = pixels / this.scale;
      this.context.stroke(path);
    }
  }
}

/** @param {Ring[]} rings @returns {Path2D} */
export function pathOf(rings) {
  const path = new Path2D();
  for (const ring of rings) {
    ring.forEach(([x, y], i) => (i ? path.lineTo(x, y) : path.moveTo(x, y)));
    path.closePath();
  }
  return path;
}
