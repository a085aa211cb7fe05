/** Pointers, wheel and keys over the photograph: they move it, zoom it, and guide the brush. */

/** @typedef {import("./view.js").View} View */

/**
 * @typedef {object} Brush what gestures ask of the page
 * @property {() => boolean} isOn whether a brush is chosen instead of the hand
 * @property {() => number} radius pixels of the photograph
 * @property {(point: [number, number]) => void} down starts a stroke
 * @property {(point: [number, number]) => void} move
 * @property {() => void} up ends the stroke
 * @property {(steps: number) => void} resize
 */

const KEY_STEP = 40; // CSS pixels
const KEY_ZOOM = 1.25;
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/** @param {View} view @param {Brush} brush */
export function addGestures(view, brush) {
  const { canvas } = view;
  /** @type {Map<number, [number, number]>} */
  const pointers = new Map();
  let isPainting = false;
  let keyPaints = false;

  const place = (/** @type {MouseEvent} */ event) => {
    const box = canvas.getBoundingClientRect();
    return /** @type {[number, number]} */ ([event.clientX - box.left, event.clientY - box.top]);
  };
  const showBrush = (/** @type {[number, number]} */ [x, y]) => view.setBrush({ x, y, radius: brush.radius() });
  const stop = () => {
    if (isPainting) brush.up();
    isPainting = false;
  };

  canvas.addEventListener("pointerdown", (event) => {
    if (!view.picture || (event.pointerType === "mouse" && event.button > 1)) return;
    canvas.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, place(event));
    if (pointers.size === 1 && brush.isOn() && event.button === 0) {
      isPainting = true;
      brush.down(view.toPicture(...place(event)));
    } else if (pointers.size > 1) {
      stop();
    }
  });

  canvas.addEventListener("pointermove", (event) => {
    const to = place(event);
    if (brush.isOn() && view.picture) showBrush(view.toPicture(...to));
    const from = pointers.get(event.pointerId);
    if (!from) return;
    pointers.set(event.pointerId, to);
    if (isPainting) {
      brush.move(view.toPicture(...to));
    } else if (pointers.size === 1) {
      view.pan(to[0] - from[0], to[1] - from[1]);
    } else {
      pinch(event.pointerId, from, to);
    }
  });

  /** @param {number} id of the pointer that has moved @param {[number, number]} from @param {[number, number]} to */
  function pinch(id, from, to) {
    const other = [...pointers].find(([key]) => key !== id)?.[1];
    if (!other) return;
    const distance = (/** @type {[number, number]} */ [x, y]) => Math.hypot(x - other[0], y - other[1]);
    view.zoom(distance(to) / Math.max(distance(from), 1), (to[0] + other[0]) / 2, (to[1] + other[1]) / 2);
    view.pan((to[0] - from[0]) / 2, (to[1] - from[1]) / 2);
  }

  for (const kind of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(kind, (event) => {
      pointers.delete(/** @type {PointerEvent} */ (event).pointerId);
      stop();
    });
  }
  canvas.addEventListener("pointerleave", () => view.setBrush(null));

  canvas.addEventListener(
    "wheel",
    (event) => {
      if (!view.picture) return;
      event.preventDefault();
      // A wheel that turns by lines turns by three; a touchpad sends many small steps.
      view.zoom(Math.exp(-(event.deltaY * (event.deltaMode ? 16 : 1)) / 400), ...place(event));
    },
    { passive: false },
  );

  canvas.addEventListener("dblclick", () => {
    if (!brush.isOn()) view.fit();
  });

  canvas.addEventListener("blur", () => {
    keyPaints = false;
    view.setBrush(null);
  });

  canvas.addEventListener("keydown", (event) => {
    if (!view.picture || event.ctrlKey || event.metaKey || event.altKey) return;
    if (!handleKey(event.key, event.shiftKey)) return;
    event.preventDefault();
  });

  canvas.addEventListener("keyup", (event) => {
    if (event.key !== " " || !keyPaints) return;
    keyPaints = false;
    brush.up();
  });

  /** @param {string} key @param {boolean} fast @returns {boolean} whether the key means something */
  function handleKey(key, fast) {
    const arrow = ARROWS[/** @type {keyof typeof ARROWS} */ (key)];
    if (arrow) moveBy(arrow[0] * (fast ? 4 : 1), arrow[1] * (fast ? 4 : 1));
    else if (key === "+" || key === "=") view.zoom(KEY_ZOOM);
    else if (key === "-") view.zoom(1 / KEY_ZOOM);
    else if (key === "0") view.fit();
    else if (key === "[") brush.resize(-1);
    else if (key === "]") brush.resize(1);
    else if (key === " ") press();
    else return false;
    return true;
  }

  /** @param {number} x @param {number} y steps of an arrow key */
  function moveBy(x, y) {
    if (!brush.isOn()) {
      view.pan(-x * KEY_STEP, -y * KEY_STEP);
      return;
    }
    const at = view.brush ?? middle();
    const step = Math.max(brush.radius() / 2, 1);
    const point = /** @type {[number, number]} */ ([
      Math.min(Math.max(at.x + x * step, 0), view.width),
      Math.min(Math.max(at.y + y * step, 0), view.height),
    ]);
    showBrush(point);
    view.reveal(...point);
    if (keyPaints) brush.move(point);
  }

  function middle() {
    const [x, y] = view.toPicture(view.box.width / 2, view.box.height / 2);
    return { x, y };
  }

  /** Paints where the brush is, until the key is let go. */
  function press() {
    if (!brush.isOn() || keyPaints) return;
    const { x, y } = view.brush ?? middle();
    showBrush([x, y]);
    keyPaints = true;
    brush.down([x, y]);
  }
}
