/** Files that browsers read otherwise than jaxseg does: better none than another mask. */

import { isTurnedElsewhere } from "./orientation.js";

const ELSEWHERE = "python -m jaxseg.predict reads it";

/** Returns what is wrong with a file, for the user; empty where browsers read it as jaxseg does.
 * @param {Blob} file @returns {Promise<string>} */
export async function misreadBecause(file) {
  const content = new Uint8Array(await file.slice(0, 2 ** 20).arrayBuffer());
  const isPng = content[0] === 0x89 && content[1] === 0x50;
  if (isPng && content[24] === 16) return `has 16 bits a colour, of which a browser keeps 8; ${ELSEWHERE}`;
  if (jpegColours(content) === 4) return `its colours are CMYK, made for print; ${ELSEWHERE}`;
  if (await isTurnedElsewhere(file)) return `is turned by metadata that browsers ignore; ${ELSEWHERE}`;
  return "";
}

/** Returns the number of colours that a JPEG file's frame header gives; 0 where there is none.
 * @param {Uint8Array} content */
function jpegColours(content) {
  if (content[0] !== 0xff || content[1] !== 0xd8) return 0;
  for (let at = 2; at + 9 < content.length && content[at] === 0xff; ) {
    const marker = content[at + 1];
    const isFrame = marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker);
    if (isFrame) return content[at + 9];
    at += marker === 0xff ? 1 : 2 + content[at + 2] * 256 + content[at + 3]; // 0xff may fill a gap between two parts
  }
  return 0;
}
