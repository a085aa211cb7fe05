/** From levels to a mask: threshold, largest part, holes, corrections; as `jaxseg.inference.masks` makes masks. */

/** @typedef {import("./types.js").MaskSettings} MaskSettings */

export const ADD = 1;
export const ERASE = 2;

/** Returns the mask that the page shows.
 * @param {Uint8Array} levels [height * width]
 * @param {number} width @param {number} height
 * @param {MaskSettings} settings
 * @param {Uint8Array | null} marks corrections: ADD, ERASE or 0 for each pixel
 * @returns {Uint8Array} 0 and 1 */
export function maskOf(levels, width, height, settings, marks) {
  let mask = new Uint8Array(levels.length);
  const { stop } = settings;
  for (let i = 0; i < levels.length; i++) mask[i] = levels[i] > stop ? 1 : 0;
  if (settings.largest) mask = largestPart(mask, width, height);
  if (settings.holes) fillHoles(mask, width, height);
  if (marks) {
    for (let i = 0; i < mask.length; i++) {
      if (marks[i] === ADD) mask[i] = 1;
      else if (marks[i] === ERASE) mask[i] = 0;
    }
  }
  return mask;
}

/** Returns the largest part alone; pixels that touch at a corner connect. Of equals, the first from the top left.
 * @param {Uint8Array} mask @param {number} width @param {number} height @returns {Uint8Array} */
function largestPart(mask, width, height) {
  const labels = new Int32Array(mask.length);
  const stack = new Int32Array(mask.length);
  let label = 0;
  let best = 0;
  let most = 0;
  for (let start = 0; start < mask.length; start++) {
    if (!mask[start] || labels[start]) continue;
    label += 1;
    let count = 0;
    let top = 0;
    stack[top++] = start;
    labels[start] = label;
    while (top) {
      const i = stack[--top];
      count += 1;
      const x = i % width;
      const y = (i - x) / width;
      for (let v = Math.max(y - 1, 0); v <= Math.min(y + 1, height - 1); v++) {
        for (let u = Math.max(x - 1, 0); u <= Math.min(x + 1, width - 1); u++) {
          const j = v * width + u;
          if (mask[j] && !labels[j]) {
            labels[j] = label;
            stack[top++] = j;
          }
        }
      }
    }
    if (count > most) [most, best] = [count, label];
  }
  return label > 1 ? mask.map((_, i) => (labels[i] === best ? 1 : 0)) : mask;
}

/** Fills skin that no way leads out of; skin connects at edges alone.
 * @param {Uint8Array} mask changed in place @param {number} width @param {number} height */
function fillHoles(mask, width, height) {
  const outside = new Uint8Array(mask.length);
  const stack = new Int32Array(mask.length);
  let top = 0;
  const visit = (/** @type {number} */ i) => {
    if (!mask[i] && !outside[i]) {
      outside[i] = 1;
      stack[top++] = i;
    }
  };
  for (let x = 0; x < width; x++) {
    visit(x);
    visit((height - 1) * width + x);
  }
  for (let y = 0; y < height; y++) {
    visit(y * width);
    visit(y * width + width - 1);
  }
  while (top) {
    const i = stack[--top];
    const x = i % width;
    if (x > 0) visit(i - 1);
    if (x < width - 1) visit(i + 1);
    if (i >= width) visit(i - width);
    if (i < mask.length - width) visit(i + width);
  }
  for (let i = 0; i < mask.length; i++) if (!outside[i]) mask[i] = 1;
}

/** @param {Uint8Array} mask @returns {number} number of lesion pixels */
export function area(mask) {
  let count = 0;
  for (let i = 0; i < mask.length; i++) count += mask[i];
  return count;
}
