/** ZIP archives of files as they are, without compression: photographs and masks are compressed already. */

import { crc32 } from "./bytes.js";

/** @typedef {{name: string, content: Blob}} Member */

const LIMIT = 2 ** 32 - 1;
const UTF8 = 0x0800;

/** @param {number[]} fields pairs of a number and its size in bytes, little endian @returns {Uint8Array} */
function record(fields) {
  const result = new Uint8Array(fields.reduce((sum, value, i) => sum + (i % 2 ? value : 0), 0));
  let at = 0;
  for (let i = 0; i < fields.length; i += 2) {
    for (let byte = 0; byte < fields[i + 1]; byte++) result[at++] = Math.floor(fields[i] / 256 ** byte) % 256;
  }
  return result;
}

/** @param {Date} date @returns {[number, number]} time and date as MS-DOS writes them */
function dosTime(date) {
  return [
    (date.getHours() << 11) | (date.getMinutes() << 5) | (date.getSeconds() >> 1),
    ((date.getFullYear() - 1980) << 9) | ((date.getMonth() + 1) << 5) | date.getDate(),
  ];
}

/** Returns an archive.
 * @param {Member[]} members @param {Date} [date] @returns {Promise<Blob>}
 * @throws {Error} more than 4 GB or 65,535 files */
export async function zip(members, date = new Date()) {
  const [time, day] = dosTime(date);
  /** @type {BlobPart[]} */
  const contents = [];
  /** @type {BlobPart[]} */
  const directory = [];
  let offset = 0;
  let directorySize = 0;
  for (const { name, content } of members) {
    const encoded = new TextEncoder().encode(name);
    const crc = crc32(new Uint8Array(await content.arrayBuffer()));
    const common = [20, 2, UTF8, 2, 0, 2, time, 2, day, 2, crc, 4, content.size, 4, content.size, 4, encoded.length, 2];
    const local = record([0x04034b50, 4, ...common, 0, 2]);
    contents.push(local, encoded, content);
    const central = record([0x02014b50, 4, 20, 2, ...common, 0, 2, 0, 2, 0, 2, 0, 2, 0, 4, offset, 4]);
    directory.push(central, encoded);
    offset += local.length + encoded.length + content.size;
    directorySize += central.length + encoded.length;
  }
  if (offset + directorySize > LIMIT || members.length > 65535) {
    throw new Error("These are more than 4 GB or too many files for one archive: save fewer photographs at once.");
  }
  const count = members.length;
  const end = record([0x06054b50, 4, 0, 2, 0, 2, count, 2, count, 2, directorySize, 4, offset, 4, 0, 2]);
  return new Blob([...contents, ...directory, end], { type: "application/zip" });
}
