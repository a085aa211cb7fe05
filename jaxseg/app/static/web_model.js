/** The model in the visitor's browser, as `export --format web` writes it: a worker computes, nothing is sent. */

import { misreadBecause } from "./misread.js";
import { orientationOf, swapsSides } from "./orientation.js";

/** @typedef {import("./types.js").Model} Model */

/** @type {Record<string, string>} */
const ENDINGS = { "image/jpeg": ".jpg", "image/webp": ".webp", "image/gif": ".gif", "image/avif": ".avif", "image/bmp": ".bmp" };

/** Starts the worker and loads the model. @returns {Promise<Model>} */
export async function connect() {
  const about = await (await fetch("model.json")).json();
  const worker = new Worker(new URL("web_worker.js", import.meta.url), { type: "module" });
  await answerOf(worker, { size: about.size, stops: about.stops });
  // One photograph at a time: each takes the memory of its pixels.
  let last = Promise.resolve();

  return {
    about,

    segment(file, name) {
      const result = last.then(() => segment(worker, file, name));
      last = result.then(() => {}, () => {});
      return result;
    },

    uncertainty: null,
    measure: null,
  };
}

/** Sends a message to a worker, which answers each with one.
 * @param {Worker} worker @param {any} message @param {Transferable[]} [transfer] @returns {Promise<any>} */
function answerOf(worker, message, transfer = []) {
  return new Promise((resolve, reject) => {
    worker.onmessage = ({ data }) => (data.error ? reject(new Error(data.error)) : resolve(data));
    worker.onerror = () => reject(new Error("The model cannot be loaded: is the folder complete?"));
    worker.postMessage(message, transfer);
  });
}

/** @param {Worker} worker @param {File} file @param {string} name @returns {Promise<any>} */
async function segment(worker, file, name) {
  const { data, width, height } = await pixelsOf(file, name);
  const { levels } = await answerOf(worker, { pixels: data, width, height }, [data.buffer]);
  const orientation = await orientationOf(file);
  const turned_unseen = orientation !== 1 && (!swapsSides(orientation) || width === height);
  return { width, height, levels, picture: file, ending: ENDINGS[file.type] ?? ".png", turned_unseen, notes: [] };
}

/** Decodes a photograph to sRGB, turned by its EXIF orientation, on white where it is transparent.
 * @param {File} file @param {string} name @returns {Promise<ImageData>} */
async function pixelsOf(file, name) {
  if (!file.size) throw new Error(`${name}: the file is empty; fetch it again or leave it out`);
  const reason = await misreadBecause(file);
  if (reason) throw new Error(`${name}: ${reason}`);
  try {
    const bitmap = await createImageBitmap(file, { imageOrientation: "from-image" });
    const { width, height } = bitmap;
    const canvas = new OffscreenCanvas(width, height);
    const context = /** @type {OffscreenCanvasRenderingContext2D} */ (canvas.getContext("2d", { willReadFrequently: true }));
    context.fillStyle = "#fff";
    context.fillRect(0, 0, width, height);
    context.drawImage(bitmap, 0, 0);
    bitmap.close();
    return context.getImageData(0, 0, width, height);
  } catch {
    throw new Error(`${name}: not an image that this browser reads; save it as PNG or JPEG`);
  }
}
