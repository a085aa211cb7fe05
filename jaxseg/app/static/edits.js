/** Corrections by brush, over whatever the threshold gives, with undo and redo. */

/** @typedef {{x: number, y: number, width: number, height: number, before: Uint8Array, after: Uint8Array}} Stroke */

const MOST_STROKES = 200;

export class Edits {
  /** @param {number} width @param {number} height */
  constructor(width, height) {
    this.width = width;
    this.height = height;
    /** ADD, ERASE or 0 for each pixel. */
    this.marks = new Uint8Array(width * height);
    /** @type {Stroke[]} */
    this.done = [];
    /** @type {Stroke[]} */
    this.undone = [];
    /** @type {Uint8Array | null} */
    this.before = null;
    this.box = { left: width, top: height, right: 0, bottom: 0 };
  }

  get isEmpty() {
    return !this.marks.some(Boolean);
  }

  /** Starts a stroke. */
  begin() {
    this.before = this.marks.slice();
    this.box = { left: this.width, top: this.height, right: 0, bottom: 0 };
  }

  /** Paints a disc: all pixels whose middle it holds.
   * @param {number} x @param {number} y its middle, pixels @param {number} radius pixels
   * @param {number} value ADD or ERASE */
  dab(x, y, radius, value) {
    const left = Math.max(Math.floor(x - radius), 0);
    const top = Math.max(Math.floor(y - radius), 0);
    const right = Math.min(Math.ceil(x + radius), this.width);
    const bottom = Math.min(Math.ceil(y + radius), this.height);
    for (let v = top; v < bottom; v++) {
      for (let u = left; u < right; u++) {
        if ((u + 0.5 - x) ** 2 + (v + 0.5 - y) ** 2 <= radius ** 2) this.marks[v * this.width + u] = value;
      }
    }
    if (left >= right || top >= bottom) return;
    const { box } = this;
    this.box = {
      left: Math.min(box.left, left),
      top: Math.min(box.top, top),
      right: Math.max(box.right, right),
      bottom: Math.max(box.bottom, bottom),
    };
  }

  /** Paints from one point to another.
   * @param {[number, number]} from @param {[number, number]} to @param {number} radius @param {number} value */
  line([x, y], [toX, toY], radius, value) {
    const steps = Math.max(Math.ceil(Math.hypot(toX - x, toY - y) / Math.max(radius / 4, 0.5)), 1);
    for (let i = 1; i <= steps; i++) this.dab(x + ((toX - x) * i) / steps, y + ((toY - y) * i) / steps, radius, value);
  }

  /** Ends a stroke; undo takes it back whole. */
  end() {
    const { before, box } = this;
    this.before = null;
    if (!before || box.left >= box.right) return;
    const [x, y, width, height] = [box.left, box.top, box.right - box.left, box.bottom - box.top];
    this.done.push({
      x, y, width, height,
      before: this.cut(before, x, y, width, height),
      after: this.cut(this.marks, x, y, width, height),
    });
    if (this.done.length > MOST_STROKES) this.done.shift();
    this.undone = [];
  }

  /** Takes all corrections back, as one stroke. */
  clear() {
    this.begin();
    this.marks.fill(0);
    this.box = { left: 0, top: 0, right: this.width, bottom: this.height };
    this.end();
  }

  /** @returns {boolean} whether there was a stroke to take back */
  undo() {
    return this.move(this.done, this.undone, "before");
  }

  /** @returns {boolean} whether there was a stroke to paint again */
  redo() {
    return this.move(this.undone, this.done, "after");
  }

  /** @param {Stroke[]} from @param {Stroke[]} to @param {"before" | "after"} which */
  move(from, to, which) {
    const stroke = from.pop();
    if (!stroke) return false;
    to.push(stroke);
    for (let row = 0; row < stroke.height; row++) {
      const cut = stroke[which].subarray(row * stroke.width, (row + 1) * stroke.width);
      this.marks.set(cut, (stroke.y + row) * this.width + stroke.x);
    }
    return true;
  }

  /** @param {Uint8Array} marks @param {number} x @param {number} y @param {number} width @param {number} height */
  cut(marks, x, y, width, height) {
    const result = new Uint8Array(width * height);
    for (let row = 0; row < height; row++) {
      const start = (y + row) * this.width + x;
      result.set(marks.subarray(start, start + width), row * width);
    }
    return result;
  }
}
