/** How a JPEG file says that its picture is turned. */

const HEAD_BYTES = 2 ** 17; // the EXIF block lies before the picture
const APP1 = 0xffe1;
const EXIF = 0x45786966;
const TAG = 0x0112;

/** @param {Blob} file @returns {Promise<number>} EXIF orientation, 1 to 8; 1 where a file has none */
export async function orientationOf(file) {
  const view = new DataView(await file.slice(0, HEAD_BYTES).arrayBuffer());
  try {
    if (view.getUint16(0) !== 0xffd8) return 1;
    for (let at = 2; view.getUint8(at) === 0xff; at += 2 + view.getUint16(at + 2)) {
      if (view.getUint16(at) === APP1 && view.getUint32(at + 4) === EXIF) return inTiff(view, at + 10);
    }
  } catch (error) {
    if (!(error instanceof RangeError)) throw error; // a block that is cut says nothing
  }
  return 1;
}

/** @param {DataView} view @param {number} start of the TIFF header in the EXIF block @returns {number} */
function inTiff(view, start) {
  const little = view.getUint16(start) === 0x4949;
  const directory = start + view.getUint32(start + 4, little);
  const count = view.getUint16(directory, little);
  for (let i = 0; i < count; i++) {
    const entry = directory + 2 + 12 * i;
    if (view.getUint16(entry, little) !== TAG) continue;
    const value = view.getUint16(entry + 8, little);
    return value >= 1 && value <= 8 ? value : 1;
  }
  return 1;
}

/** @param {number} orientation @returns {boolean} whether it swaps width and height */
export const swapsSides = (orientation) => orientation >= 5;
