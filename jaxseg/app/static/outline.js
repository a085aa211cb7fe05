/**
 * Outlines of a mask, as `jaxseg.inference.contours.trace` makes them: midway between the middles of lesion and skin
 * pixels, so that a polygon holds the middles of exactly its mask's pixels. (0, 0) is the picture's top left corner.
 */

/** @typedef {[number, number][]} Ring corners (x, y), the first not repeated; an outer ring runs clockwise on screen */
/** @typedef {{outer: Ring, holes: Ring[]}} Part */

const STEP_X = [1, 0, -1, 0]; // right, down, left, up
const STEP_Y = [0, 1, 0, -1];
// Where an outline that runs along a lesion pixel in each direction passes it: skin is on its left.
const POINT_X = [0.5, 1, 0.5, 0];
const POINT_Y = [0, 0.5, 1, 0.5];

/** Returns all outlines: those of parts clockwise, those of holes counter-clockwise.
 * @param {Uint8Array} mask 0 and 1 @param {number} width @param {number} height @returns {Ring[]} */
export function trace(mask, width, height) {
  const seen = new Uint8Array(mask.length);
  /** @type {Ring[]} */
  const rings = [];
  for (let i = 0; i < mask.length; i++) {
    // Every outline has a lesion pixel with skin above, be it below a hole.
    if (mask[i] && !seen[i] && (i < width || !mask[i - width])) rings.push(follow(mask, width, height, i, seen));
  }
  return rings;
}

/** Follows one outline, with the lesion on its right, from above a pixel.
 * @param {Uint8Array} mask @param {number} width @param {number} height @param {number} start index of the pixel
 * @param {Uint8Array} seen marks pixels whose upper edge belongs to an outline that was followed @returns {Ring} */
function follow(mask, width, height, start, seen) {
  const isLesion = (/** @type {number} */ x, /** @type {number} */ y) =>
    x >= 0 && y >= 0 && x < width && y < height && mask[y * width + x] === 1;
  /** @type {Ring} */
  const ring = [];
  const startX = start % width;
  const startY = (start - startX) / width;
  let [x, y, direction] = [startX, startY, 0];
  do {
    if (direction === 0) seen[y * width + x] = 1;
    ring.push([x + POINT_X[direction], y + POINT_Y[direction]]);
    const left = (direction + 3) % 4;
    const [aheadX, aheadY] = [x + STEP_X[direction], y + STEP_Y[direction]];
    if (!isLesion(aheadX, aheadY)) {
      direction = (direction + 1) % 4; // round the pixel's corner; parts that touch at a corner stay apart
    } else if (isLesion(aheadX + STEP_X[left], aheadY + STEP_Y[left])) {
      [x, y, direction] = [aheadX + STEP_X[left], aheadY + STEP_Y[left], left];
    } else {
      [x, y] = [aheadX, aheadY];
    }
  } while (x !== startX || y !== startY || direction !== 0);
  return withoutStraight(ring);
}

/** Leaves out corners on a straight line. @param {Ring} ring @returns {Ring} */
function withoutStraight(ring) {
  return ring.filter(([x, y], i) => {
    const [beforeX, beforeY] = ring[(i || ring.length) - 1];
    const [afterX, afterY] = ring[(i + 1) % ring.length];
    return (x - beforeX) * (afterY - y) !== (y - beforeY) * (afterX - x);
  });
}

/** @param {Ring} ring @returns {number} its area, pixels; negative for a hole */
function signedArea(ring) {
  let sum = 0;
  for (let i = 0; i < ring.length; i++) {
    const [x, y] = ring[i];
    const [nextX, nextY] = ring[(i + 1) % ring.length];
    sum += x * nextY - nextX * y;
  }
  return sum / 2;
}

/** @param {number} x @param {number} y @param {Ring} ring @returns {boolean} */
function isInside(x, y, ring) {
  let inside = false;
  for (let i = 0; i < ring.length; i++) {
    const [ax, ay] = ring[i];
    const [bx, by] = ring[(i + 1) % ring.length];
    if (ay > y !== by > y && x < ax + ((y - ay) * (bx - ax)) / (by - ay)) inside = !inside;
  }
  return inside;
}

/** Returns the parts of a mask, each with its holes.
 * @param {Uint8Array} mask @param {number} width @param {number} height @returns {Part[]} */
export function parts(mask, width, height) {
  const rings = trace(mask, width, height).map((ring) => ({ ring, area: signedArea(ring) }));
  const found = rings
    .filter(({ area }) => area > 0)
    .map(({ ring, area }) => ({ outer: ring, holes: /** @type {Ring[]} */ ([]), area }));
  for (const { ring } of rings.filter(({ area }) => area < 0)) {
    const [x, y] = ring[0];
    // The smallest part around a hole owns it: parts lie in holes of others.
    const around = found.filter(({ outer }) => isInside(x, y, outer)).sort((a, b) => a.area - b.area);
    around[0].holes.push(ring);
  }
  return found;
}
