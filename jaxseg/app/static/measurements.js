/** Measurements and trust of the photograph that is shown. */

import { byId, element } from "./dom.js";

/** @typedef {import("./types.js").Row} Row */

/** Least and greatest scale, pixels per mm, as in `jaxseg.inference.measurements`. */
export const SCALES = [1e-3, 1e5];

/** @param {string | undefined} cell @param {number} digits @param {string} [unit] */
const number = (cell, digits, unit = "") => (cell ? `${Number(cell).toFixed(digits)}${unit && ` ${unit}`}` : "–");

/** @param {Row} row @param {string} name without its unit @returns {string} in millimetres where they are known */
function length(row, name) {
  if (row[`${name}_mm`] !== undefined) return number(row[`${name}_mm`], 1, "mm");
  return number(row[`${name}_pixels`], 0, "px");
}

/** @type {[string, (row: Row) => string | Node][]} */
const LINES = [
  ["Area", (row) => (row.area_mm2 !== undefined ? number(row.area_mm2, 1, "mm²") : `${whole(row.area_pixels)} px`)],
  ["Share of the picture", (row) => `${(100 * Number(row.area_share)).toFixed(1)} %`],
  ["Largest diameter", (row) => length(row, "feret_diameter")],
  ["Perimeter", (row) => length(row, "perimeter")],
  ["Asymmetry", (row) => number(row.asymmetry, 2)],
  ["Compactness", (row) => number(row.compactness, 2)],
  ["Border sharpness", (row) => number(row.border_gradient, 1)],
  ["Colour inside, around", (row) => element("span", { className: "swatches" }, swatch(row, "inside"), swatch(row, "around"))],
  ["Parts", (row) => row.components],
];

/** @param {string} cell */
const whole = (cell) => Number(cell).toLocaleString("en").replaceAll(",", "\u202f");

/** @param {Row} row @param {"inside" | "around"} place @returns {Node} */
function swatch(row, place) {
  const values = ["red", "green", "blue"].map((channel) => row[`${place}_${channel}_mean`]);
  if (!values.every(Boolean)) return document.createTextNode("–");
  const colour = `rgb(${values.map((value) => Math.round(Number(value))).join(", ")})`;
  const result = element("i", { title: `${place}: ${colour}` });
  result.style.backgroundColor = colour;
  result.setAttribute("role", "img");
  result.setAttribute("aria-label", `${place}: ${colour}`);
  return result;
}

/** @param {HTMLElement} table @param {[string, string | Node][]} lines */
function fill(table, lines) {
  const rows = lines.map(([label, value]) => {
    const head = element("th", { scope: "row" }, label);
    return element("tr", {}, head, element("td", { className: "number" }, value));
  });
  table.replaceChildren(element("tbody", {}, ...rows));
}

/** Shows a photograph's row.
 * @param {Row | null} row null while it is measured @param {boolean} isCurrent whether it is that of the mask on show
 * @param {boolean} isCorrected whether the user has changed the outline */
export function showRow(row, isCurrent, isCorrected) {
  byId("measure-section").toggleAttribute("data-stale", !isCurrent);
  byId("trust-section").toggleAttribute("data-stale", !isCurrent);
  const trust = Number(row?.trust ?? 0);
  byId("trust").textContent = row ? trust.toFixed(2) : "…";
  /** @type {HTMLMeterElement} */ (byId("trust-meter")).value = trust;
  byId("trust-text").textContent = row ? trustText(trust, isCorrected) : "";
  if (!row) {
    fill(byId("measurements"), []);
    fill(byId("all-measurements"), []);
    return;
  }
  const lines = LINES.map(([label, read]) => /** @type {[string, string | Node]} */ ([label, read(row)]));
  if (row.cut_by_frame === "true") lines.push(["Cut by the frame", "yes"]);
  fill(byId("measurements"), row.area_pixels === "0" ? [["Lesion", "none: the mask is empty"]] : lines);
  const cells = Object.entries(row).filter(([column]) => !["name", "trust"].includes(column));
  fill(byId("all-measurements"), cells.map(([column, cell]) => [column.replaceAll("_", " "), cell || "–"]));
}

/** Says beside the measurements why the mask on show has none, for as long as that holds: the page's one status line is
 * for what the user has just done. @param {string} why empty where nothing has failed */
export function showUnmeasured(why) {
  const line = byId("unmeasured");
  if (line.textContent !== why) line.textContent = why; // screen readers say a change, once
}

/** @param {number} trust @param {boolean} isCorrected @returns {string} */
function trustText(trust, isCorrected) {
  if (isCorrected) return "Of the model's outline, before your corrections.";
  if (trust === 0) return "Nothing was found: look at it.";
  if (trust < 0.7) return "The outline depends much on the threshold: look closely.";
  return trust < 0.85 ? "The outline depends on the threshold in places." : "The outline hardly depends on the threshold.";
}
