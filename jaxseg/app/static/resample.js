/**
 * Resizing as Pillow does it, value for value: bilinear, with a wider filter where a picture shrinks. Training and
 * `predict` resize with Pillow, and browsers' own ways differ from browser to browser. Where one side grows and the other
 * shrinks, it depends on Pillow's version which goes first, and a value may be off by its last bit.
 */

const BITS = 22; // of the fixed-point weights for bytes

/** Weights of the old pixels in each new one, along one side.
 * @param {number} from old length @param {number} to new length
 * @returns {{first: number, weights: Float64Array}[]} */
function weightsOf(from, to) {
  const scale = from / to;
  const support = Math.max(scale, 1);
  return Array.from({ length: to }, (_, i) => {
    const centre = (i + 0.5) * scale;
    const first = Math.max(Math.trunc(centre - support + 0.5), 0);
    const end = Math.min(Math.trunc(centre + support + 0.5), from);
    const weights = new Float64Array(end - first);
    let sum = 0;
    for (let x = 0; x < weights.length; x++) {
      weights[x] = Math.max(1 - Math.abs((x + first - centre + 0.5) * (1 / support)), 0);
      sum += weights[x];
    }
    return { first, weights: weights.map((weight) => weight / sum) };
  });
}

/** Resizes an RGBA picture to RGB.
 * @param {Uint8ClampedArray} pixels [height * width * 4] @param {number} width @param {number} height
 * @param {number} size new width and height @returns {Uint8Array} [size * size * 3] */
export function resizePicture(pixels, width, height, size) {
  const fixed = (/** @type {number} */ from) =>
    weightsOf(from, size).map(({ first, weights }) => ({
      first,
      weights: Int32Array.from(weights, (weight) => Math.trunc(0.5 + weight * 2 ** BITS)),
    }));
  const half = 1 << (BITS - 1);
  const rows = new Uint8Array(height * size * 3);
  fixed(width).forEach(({ first, weights }, x) => {
    for (let y = 0; y < height; y++) {
      for (let channel = 0; channel < 3; channel++) {
        let sum = half;
        let at = (y * width + first) * 4 + channel;
        for (let i = 0; i < weights.length; i++, at += 4) sum += pixels[at] * weights[i];
        rows[(y * size + x) * 3 + channel] = Math.min(sum >> BITS, 255);
      }
    }
  });
  const result = new Uint8Array(size * size * 3);
  fixed(height).forEach(({ first, weights }, y) => {
    for (let x = 0; x < size * 3; x++) {
      let sum = half;
      for (let i = 0; i < weights.length; i++) sum += rows[(first + i) * size * 3 + x] * weights[i];
      result[y * size * 3 + x] = Math.min(sum >> BITS, 255);
    }
  });
  return result;
}

/** Resizes a map of probabilities.
 * @param {Float32Array} map [size * size] @param {number} size @param {number} width new @param {number} height new
 * @returns {Float32Array} [height * width] */
export function resizeMap(map, size, width, height) {
  const rows = new Float32Array(size * width);
  weightsOf(size, width).forEach(({ first, weights }, x) => {
    for (let y = 0; y < size; y++) {
      let sum = 0;
      for (let i = 0; i < weights.length; i++) sum += map[y * size + first + i] * weights[i];
      rows[y * width + x] = sum;
    }
  });
  const result = new Float32Array(width * height);
  weightsOf(size, height).forEach(({ first, weights }, y) => {
    for (let x = 0; x < width; x++) {
      let sum = 0;
      for (let i = 0; i < weights.length; i++) sum += rows[(first + i) * width + x] * weights[i];
      result[y * width + x] = sum;
    }
  });
  return result;
}

/** Returns how many thresholds each probability is above, compared as float32, as NumPy does.
 * @param {Float32Array} map @param {number[]} stops rising @returns {Uint8Array} */
export function levelsOf(map, stops) {
  const edges = Float32Array.from(stops);
  return Uint8Array.from(map, (value) => {
    let low = 0;
    let high = edges.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (edges[middle] < value) low = middle + 1;
      else high = middle;
    }
    return low;
  });
}
