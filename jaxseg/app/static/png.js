/** Masks as PNG files, without the detour of a canvas, which may change values. */

import { compress, crc32 } from "./bytes.js";

const SIGNATURE = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];

/** @param {string} kind four letters @param {Uint8Array} data @returns {Uint8Array} */
function chunk(kind, data) {
  const result = new Uint8Array(data.length + 12);
  const view = new DataView(result.buffer);
  view.setUint32(0, data.length);
  for (let i = 0; i < 4; i++) result[4 + i] = kind.charCodeAt(i);
  result.set(data, 8);
  view.setUint32(data.length + 8, crc32(result.subarray(4, data.length + 8)));
  return result;
}

/** Returns a mask as a grey PNG file, 0 for skin and 255 for lesion.
 * @param {Uint8Array} mask 0 and 1 @param {number} width @param {number} height @returns {Promise<Blob>} */
export async function maskPng(mask, width, height) {
  const header = new Uint8Array(13);
  const view = new DataView(header.buffer);
  view.setUint32(0, width);
  view.setUint32(4, height);
  header[8] = 8; // bits per pixel; all else 0: grey, no interlacing
  const rows = new Uint8Array((width + 1) * height); // each row after its filter, 0 for none
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) rows[y * (width + 1) + 1 + x] = mask[y * width + x] ? 255 : 0;
  }
  const data = new Uint8Array(await (await compress(rows, "deflate")).arrayBuffer());
  const chunks = [chunk("IHDR", header), chunk("IDAT", data), chunk("IEND", new Uint8Array())];
  return new Blob([new Uint8Array(SIGNATURE), ...chunks], { type: "image/png" });
}
