/** What the page saves: one file of a photograph, or everything as a folder that `--data` takes. */

import { geojson, labelme } from "./contour_files.js";
import { area } from "./mask.js";
import { splitName } from "./names.js";
import { parts } from "./outline.js";
import { maskPng } from "./png.js";
import { zip } from "./zip.js";

/** @typedef {import("./photographs.js").Photograph} Photograph */
/** @typedef {import("./photographs.js").Photographs} Photographs */
/** @typedef {import("./types.js").Row} Row */

/** @param {Photograph} photograph */
const stemOf = ({ name }) => splitName(name)[0];

/** @param {object} value @param {number} [indent] */
const json = (value, indent) => new Blob([JSON.stringify(value, null, indent)], { type: "application/json" });

/** Hands a file to the browser's downloads. @param {Blob} content @param {string} name */
export function download(content, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(content);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

/** Files of one photograph by kind: name and content, from its mask. */
export const FILES = {
  mask: async (/** @type {Photograph} */ photograph, /** @type {Uint8Array} */ mask) => ({
    name: `${stemOf(photograph)}_mask.png`,
    content: await maskPng(mask, photograph.width, photograph.height),
  }),
  geojson: async (/** @type {Photograph} */ photograph, /** @type {Uint8Array} */ mask) => {
    const { width, height } = photograph;
    return {
      name: `${stemOf(photograph)}_contour.geojson`,
      content: json(geojson(parts(mask, width, height), stemOf(photograph), width, height)),
    };
  },
  labelme: async (/** @type {Photograph} */ photograph, /** @type {Uint8Array} */ mask) => {
    const { name, width, height } = photograph;
    return {
      name: `${stemOf(photograph)}_contour.json`,
      content: json(labelme(parts(mask, width, height), name, width, height), 2),
    };
  },
};

/** Returns predictions.csv of all photographs, the least trusted first, as `predict` sorts it, and how many masks could
 * not be measured. What the user has done to masks has columns of its own, where something was done.
 * @param {Photographs} photographs @returns {Promise<{content: Blob, unmeasured: number}>} */
export async function table(photographs) {
  const { model } = photographs;
  /** @type {Row[]} */
  const rows = [];
  let unmeasured = 0;
  for (const photograph of photographs.ready) {
    const mask = await photograph.mask();
    /** @type {Row | null} */
    let measured = { area_pixels: String(area(mask)) };
    if (model.measure) {
      await photographs.measure(photograph, mask); // a server that has ended does not cost the masks
      if (photograph.isMeasured) measured = photograph.row;
      else unmeasured += 1;
    }
    rows.push({ ...measured, ...byUser(photograph, model.about), name: stemOf(photograph) });
  }
  const first = model.measure ? model.about.columns : ["name"];
  const columns = [...new Set([...first, ...rows.flatMap(Object.keys)])];
  rows.sort((a, b) => Number(a.trust ?? 0) - Number(b.trust ?? 0) || (a.name < b.name ? -1 : 1));
  const lines = [columns, ...rows.map((row) => columns.map((column) => row[column] ?? ""))];
  const text = lines.map((cells) => `${cells.map(quoted).join(",")}\n`).join("");
  return { content: new Blob([text], { type: "text/csv" }), unmeasured };
}

/** Returns cells that say how a mask differs from the model's own: corrected by hand, or with other settings.
 * @param {Photograph} photograph @param {import("./types.js").About} about @returns {Row} */
function byUser({ settings, isCorrected }, about) {
  /** @type {Row} */
  const cells = {};
  if (isCorrected) cells.corrected = "true"; // its trust is that of the outline before
  if (settings.stop !== about.stop) cells.threshold = String(about.stops[settings.stop]);
  if (settings.largest !== about.largest_component) cells.largest_component = String(settings.largest);
  if (settings.holes !== about.fill_holes) cells.fill_holes = String(settings.holes);
  return cells;
}

/** @param {string} cell */
const quoted = (cell) => (/[",\r\n]/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell);

/** Returns all photographs with their masks, outlines and measurements, as an archive of a data set's folder, and how
 * many masks could not be measured.
 * @param {Photographs} photographs @param {(done: number) => void} progress
 * @returns {Promise<{archive: Blob, unmeasured: number}>} */
export async function everything(photographs, progress) {
  const members = [];
  /** @type {Map<Photograph, number>} */
  const versions = new Map();
  for (const [done, photograph] of photographs.ready.entries()) {
    progress(done);
    const { file, name, width, height, found } = photograph;
    const stem = stemOf(photograph);
    const levels = await photograph.levels();
    versions.set(photograph, photograph.version); // what is drawn from here on is not in the archive
    const mask = photograph.maskFrom(levels);
    const outlines = parts(mask, width, height);
    const drawn = labelme(outlines, `../images/${name}`, width, height);
    members.push({ name: `images/${name}`, content: file });
    // A mask's size cannot tell whether it is turned as the file's EXIF says; outlines are always of the picture as
    // it is shown.
    if (found.turned_unseen) members.push({ name: `masks/${stem}.json`, content: json(drawn, 2) });
    else members.push({ name: `masks/${stem}.png`, content: await maskPng(mask, width, height) });
    const { content } = await FILES.geojson(photograph, mask);
    members.push({ name: `contours/${stem}_contour.geojson`, content });
    members.push({ name: `contours/${stem}_contour.json`, content: json(drawn, 2) });
  }
  const { content, unmeasured } = await table(photographs);
  members.push({ name: "predictions.csv", content });
  const archive = await zip(members);
  for (const [photograph, version] of versions) photograph.savedVersion = version;
  return { archive, unmeasured };
}
