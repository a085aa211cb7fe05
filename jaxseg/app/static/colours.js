/** Colours of the maps over a photograph, as tables from a pixel's value to a packed RGBA value. */

const INFERNO = ["#000004", "#420a68", "#932667", "#dd513a", "#fca50a", "#fcffa4"];

/** @param {number} red @param {number} green @param {number} blue @param {number} alpha 0 to 255 */
const pack = (red, green, blue, alpha) => ((alpha << 24) | (blue << 16) | (green << 8) | red) >>> 0;

/** @param {string} hex @returns {number[]} */
const channels = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));

/** @param {number} share in [0, 1] @returns {number[]} */
function inferno(share) {
  const at = Math.min(share * (INFERNO.length - 1), INFERNO.length - 1.001);
  const [low, high] = [channels(INFERNO[Math.floor(at)]), channels(INFERNO[Math.floor(at) + 1])];
  return low.map((value, i) => Math.round(value + (high[i] - value) * (at % 1)));
}

/** Skin and lesion of a mask. */
export const MASK = Uint32Array.of(0, pack(255, 0, 230, 92));

/** Uncertainty, 0 to 255: the more uncertain, the less transparent. */
export const UNCERTAINTY = Uint32Array.from({ length: 256 }, (_, i) => pack(0, 200, 255, Math.round(i * 0.8)));

/** @param {number[]} stops thresholds, rising @returns {Uint32Array} colours of the levels 0 to stops.length */
export function heat(stops) {
  return Uint32Array.from({ length: stops.length + 1 }, (_, level) => {
    const [red, green, blue] = inferno(level ? stops[level - 1] : 0);
    return pack(red, green, blue, 178);
  });
}
