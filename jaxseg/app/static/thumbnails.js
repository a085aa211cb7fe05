/** The list of photographs: a button each, with a small picture, a name and what became of it. */

import { byId, element } from "./dom.js";
import { trace } from "./outline.js";
import { pathOf } from "./view.js";

/** @typedef {import("./photographs.js").Photograph} Photograph */
/** @typedef {import("./photographs.js").Photographs} Photographs */

const SIDE = 56; // CSS pixels
const RATIO = 2;

export class Thumbnails {
  /** @param {Photographs} photographs @param {(photograph: Photograph) => void} select */
  constructor(photographs, select) {
    this.photographs = photographs;
    this.select = select;
    this.list = byId("list");
    /** @type {Map<Photograph, HTMLButtonElement>} */
    this.buttons = new Map();
    /** @type {Photograph | null} */
    this.current = null;
    this.list.addEventListener("keydown", (event) => this.onKey(event));
    byId("by-trust").addEventListener("change", () => this.sort());
    photographs.addEventListener("added", (event) => this.add(/** @type {CustomEvent} */ (event).detail));
    photographs.addEventListener("changed", (event) => this.update(/** @type {CustomEvent} */ (event).detail));
    photographs.addEventListener("removed", (event) => this.remove(/** @type {CustomEvent} */ (event).detail));
  }

  /** @param {Photograph} photograph */
  add(photograph) {
    const picture = element("canvas", { width: SIDE * RATIO, height: SIDE * RATIO });
    picture.setAttribute("aria-hidden", "true");
    const text = element("span", { className: "text" }, element("span", { className: "name" }),
      element("span", { className: "state" }));
    const button = element("button", { type: "button", tabIndex: this.buttons.size ? -1 : 0 }, picture, text);
    button.addEventListener("click", () => this.select(photograph));
    this.buttons.set(photograph, button);
    this.list.append(element("li", {}, button));
    this.update(photograph);
  }

  /** @param {Photograph} photograph */
  update(photograph) {
    const button = this.buttons.get(photograph);
    if (!button) return;
    button.dataset.status = photograph.status;
    const [name, state] = button.querySelectorAll(".name, .state");
    name.textContent = photograph.name;
    state.textContent = stateOf(photograph);
    button.title = photograph.name;
    if (photograph.row) this.sort();
  }

  /** @param {Photograph} photograph */
  remove(photograph) {
    const button = this.buttons.get(photograph);
    const hadFocus = button === document.activeElement;
    button?.parentElement?.remove();
    this.buttons.delete(photograph);
    if (hadFocus) this.list.querySelector("button")?.focus();
  }

  /** Puts the list in order: as added, or by trust; what is not measured comes first. */
  sort() {
    const isByTrust = /** @type {HTMLInputElement} */ (byId("by-trust")).checked;
    const trust = (/** @type {Photograph} */ photograph) => Number(photograph.row?.trust ?? -1);
    const sorted = isByTrust
      ? [...this.photographs.all].sort((a, b) => trust(a) - trust(b))
      : this.photographs.all;
    const items = sorted.map((photograph) => this.buttons.get(photograph)?.parentElement);
    if (items.every((item, i) => item === this.list.children[i])) return;
    const focused = document.activeElement;
    this.list.append(...items.filter((item) => item instanceof Node));
    if (focused instanceof HTMLElement && this.list.contains(focused)) focused.focus();
  }

  /** Marks the photograph that is shown. @param {Photograph | null} photograph */
  mark(photograph) {
    this.current = photograph;
    for (const [other, button] of this.buttons) {
      button.setAttribute("aria-current", String(other === photograph));
      button.tabIndex = other === photograph ? 0 : -1;
    }
    const button = photograph && this.buttons.get(photograph);
    button?.scrollIntoView({ block: "nearest", inline: "nearest" });
  }

  /** @param {KeyboardEvent} event */
  onKey(event) {
    const buttons = /** @type {HTMLButtonElement[]} */ ([...this.list.querySelectorAll("button")]);
    const at = buttons.indexOf(/** @type {HTMLButtonElement} */ (document.activeElement));
    /** @type {Record<string, number>} */
    const targets = {
      ArrowDown: at + 1, ArrowRight: at + 1, ArrowUp: at - 1, ArrowLeft: at - 1, Home: 0, End: buttons.length - 1,
    };
    if (event.key === "Delete") {
      const photograph = [...this.buttons].find(([, button]) => button === buttons[at])?.[0];
      if (photograph) this.photographs.remove(photograph);
    } else if (event.key in targets) {
      const target = buttons[targets[event.key]];
      target?.focus();
      target?.click();
    } else {
      return;
    }
    event.preventDefault();
  }

  /** Draws a photograph's small picture with its outline.
   * @param {Photograph} photograph @param {Uint8Array} mask */
  async draw(photograph, mask) {
    const canvas = this.buttons.get(photograph)?.querySelector("canvas");
    if (!canvas) return;
    const { width, height } = photograph;
    const side = canvas.width;
    const scale = side / Math.min(width, height);
    const options = /** @type {ImageBitmapOptions} */ ({
      resizeWidth: Math.max(Math.round(width * scale), 1),
      resizeHeight: Math.max(Math.round(height * scale), 1),
      resizeQuality: "medium",
    });
    // Long strips would be large bitmaps: they are drawn from the whole picture.
    const isStrip = Math.max(width, height) * scale > 8 * side;
    const picture = await createImageBitmap(photograph.found.picture, isStrip ? {} : options);
    const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
    context.setTransform(scale, 0, 0, scale, (side - width * scale) / 2, (side - height * scale) / 2);
    context.drawImage(picture, 0, 0, width, height);
    picture.close();
    context.strokeStyle = "#ff00e6";
    context.lineWidth = (1.5 * RATIO) / scale;
    context.stroke(pathOf(trace(mask, width, height)));
  }
}

/** @param {Photograph} photograph @returns {string} */
function stateOf(photograph) {
  const { status, error, row, edits } = photograph;
  if (status === "failed") return error;
  if (status !== "ready") return status === "working" ? "Segmenting…" : "Waiting";
  const trust = row ? `Trust ${Number(row.trust).toFixed(2)}` : "Ready";
  return edits?.done.length ? `${trust} · corrected` : trust;
}
