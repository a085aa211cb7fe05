/**
 * The types that modules share, and the interface of a model: all that the page asks for, whether a server answers
 * (`server_model.js`) or the browser itself.
 *
 * @typedef {object} About
 * @property {string} name what the model is called
 * @property {string} text one line: what it was trained on and how good it is; may be empty
 * @property {boolean} synthetic whether it was trained on generated images alone
 * @property {number[]} stops thresholds of the slider, rising
 * @property {number} stop index of the model's own threshold
 * @property {boolean} largest_component whether masks keep only their largest part
 * @property {boolean} fill_holes whether holes in masks are filled
 * @property {string[]} endings endings of image files that jaxseg takes from a folder
 * @property {string[]} columns first columns of predictions.csv
 *
 * @typedef {object} Segmentation what a model says of one photograph
 * @property {number} width pixels, as the photograph is shown
 * @property {number} height
 * @property {Uint8Array} levels [height * width]: how many stops each pixel's probability is above
 * @property {Blob} picture the photograph in a format that every browser shows
 * @property {string} ending how a file of its format is named
 * @property {boolean} turned_unseen whether a mask's size does not tell if it is turned as the file's EXIF says
 * @property {string[]} notes sentences for the user
 * @property {string} [key] what a server calls it
 *
 * @typedef {object} MaskSettings how levels become a mask
 * @property {number} stop index of the threshold
 * @property {boolean} largest whether only the largest part is kept
 * @property {boolean} holes whether holes are filled
 *
 * @typedef {Record<string, string>} Row cells of predictions.csv by column
 *
 * @typedef {object} Model
 * @property {About} about
 * @property {(file: File, name: string) => Promise<Segmentation>} segment rejects with a line for the user
 * @property {((file: File, s: Segmentation) => Promise<Uint8Array>) | null} uncertainty 0 for certain to 255
 * @property {((file: File, s: Segmentation, mask: Uint8Array, settings: MaskSettings, scale: number | null)
 *   => Promise<Row>) | null} measure null where there is nothing that measures
 */

export {};
