/** How a file's metadata say that its picture is turned. */

const HEAD_BYTES = 2 ** 17; // the EXIF block of a JPEG file lies before the picture
const APP1 = 0xffe1;
const EXIF = 0x45786966;
const TAG = 0x0112;
const XMP = /tiff:Orientation(?:="|>)([2-8])/;

/** @param {Blob} file @returns {Promise<number>} EXIF orientation of a JPEG file, 1 to 8; 1 where a file has none */
export async function orientationOf(file) {
  const view = new DataView(await file.slice(0, HEAD_BYTES).arrayBuffer());
  return guarded(() => {
    if (view.getUint16(0) !== 0xffd8) return 1;
    for (let at = 2; view.getUint8(at) === 0xff; at += 2 + view.getUint16(at + 2)) {
      if (view.getUint16(at) === APP1 && view.getUint32(at + 4) === EXIF) return inTiff(view, at + 10);
    }
    return 1;
  });
}

/** Tells whether metadata turn a picture that browsers show as it is stored, or not all of them turn: XMP, and EXIF in
 * PNG and WebP files. jaxseg turns them all.
 * @param {Blob} file @returns {Promise<boolean>} */
export async function isTurnedElsewhere(file) {
  if ((await orientationOf(file)) !== 1) return false; // goes before XMP, and browsers follow it
  const kind = text(await file.slice(0, 12).arrayBuffer());
  if (kind.startsWith("ÿØ")) return XMP.test(text(await file.slice(0, HEAD_BYTES).arrayBuffer()));
  const isPng = kind.startsWith("PNG", 1);
  if (!isPng && !(kind.startsWith("RIFF") && kind.endsWith("WEBP"))) return false;
  const content = await file.arrayBuffer();
  return guarded(() => isPng ? inChunks(content, 8, 0, false, 12) : inChunks(content, 12, 4, true, 8)) !== 1;
}

/** Returns what the metadata of a file of chunks say, each with its length and its kind before its content.
 * @param {ArrayBuffer} content @param {number} start of the first chunk @param {number} lengthAt place of the length
 * within a chunk @param {boolean} little byte order @param {number} around bytes of a chunk beside its content
 * @returns {number} orientation, 1 where there is none */
function inChunks(content, start, lengthAt, little, around) {
  const view = new DataView(content);
  for (let at = start; at + around <= content.byteLength; ) {
    const length = view.getUint32(at + lengthAt, little);
    const kind = text(content.slice(at + 4 - lengthAt, at + 8 - lengthAt));
    const inside = at + 8;
    let found = 1;
    if (["eXIf", "EXIF"].includes(kind)) {
      found = guarded(() => inTiff(view, view.getUint32(inside) === EXIF ? inside + 6 : inside));
    } else if (["iTXt", "tEXt", "XMP "].includes(kind)) {
      found = Number(XMP.exec(text(content.slice(inside, inside + length)))?.[1] ?? 1);
    }
    if (found !== 1) return found;
    at += around + length + (little ? length % 2 : 0); // RIFF fills up to an even length
  }
  return 1;
}

/** @param {() => number} read @returns {number} what it returns; 1 where a block that is cut says nothing */
function guarded(read) {
  try {
    return read();
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    return 1;
  }
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

/** @param {ArrayBuffer} content @returns {string} a character for each byte, that of Windows-1252 */
const text = (content) => new TextDecoder("latin1").decode(content);

/** @param {number} orientation @returns {boolean} whether it swaps width and height */
export const swapsSides = (orientation) => orientation >= 5;
