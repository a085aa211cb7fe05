/** The photograph that is shown: its mask follows threshold, cleaning and brush; view and measurements follow the mask. */

import { MASK, UNCERTAINTY, heat } from "./colours.js";
import { byId, say } from "./dom.js";
import { addGestures } from "./gestures.js";
import { ADD, ERASE } from "./mask.js";
import { SCALES, showRow, showUnmeasured } from "./measurements.js";
import { trace } from "./outline.js";
import { View } from "./view.js";

/** @typedef {import("./photographs.js").Photograph} Photograph */
/** @typedef {import("./photographs.js").Photographs} Photographs */

const MEASURE_AFTER_MS = 350;
const LEAST_BRUSH = 1;

const input = (/** @type {string} */ id) => /** @type {HTMLInputElement} */ (byId(id));
const chosen = (/** @type {string} */ name) =>
  /** @type {HTMLInputElement} */ (document.querySelector(`input[name="${name}"]:checked`)).value;

export class Editor {
  /** @param {Photographs} photographs @param {(photograph: Photograph, mask: Uint8Array) => void} ondrawn */
  constructor(photographs, ondrawn) {
    this.photographs = photographs;
    this.model = photographs.model;
    this.ondrawn = ondrawn;
    this.view = new View(/** @type {HTMLCanvasElement} */ (byId("canvas")));
    /** @type {Photograph | null} */
    this.photograph = null;
    /** @type {Uint8Array | null} */
    this.levels = null;
    /** @type {Uint8Array | null} */
    this.mask = null;
    /** @type {Uint8Array | null} */
    this.uncertainty = null;
    this.heat = heat(this.model.about.stops);
    this.frame = 0;
    this.timer = 0;
    this.lastTraceMs = 0;
    this.tracedAt = 0;
    /** @type {[number, number]} */
    this.last = [0, 0];
    this.connect();
  }

  connect() {
    const { view } = this;
    addGestures(view, {
      isOn: () => chosen("tool") !== "move",
      radius: () => this.radius,
      down: (point) => this.strokeBegins(point),
      move: (point) => this.strokeGoesOn(point),
      up: () => this.strokeEnds(),
      resize: (steps) => {
        input("brush").value = String(Number(input("brush").value) + 5 * steps);
        if (view.brush) view.setBrush({ ...view.brush, radius: this.radius });
      },
    });
    view.onzoom = () => {
      byId("zoom").textContent = `${Math.round(view.scale * 100)} %`;
      // A finger that cannot move the whole photograph scrolls the page.
      view.canvas.style.touchAction = view.isFit && chosen("tool") === "move" ? "pan-y" : "none";
    };
    byId("zoom-in").addEventListener("click", () => view.zoom(1.25));
    byId("zoom-out").addEventListener("click", () => view.zoom(1 / 1.25));
    byId("fit").addEventListener("click", () => view.fit());
    byId("undo").addEventListener("click", () => this.step("undo"));
    byId("redo").addEventListener("click", () => this.step("redo"));
    byId("uncorrect").addEventListener("click", () => this.step("clear"));
    input("show-outline").addEventListener("change", () => this.drawOutline());
    for (const radio of document.querySelectorAll('input[name="layer"]')) {
      radio.addEventListener("change", () => this.drawOverlay());
    }
    for (const radio of document.querySelectorAll('input[name="tool"]')) {
      radio.addEventListener("change", () => this.toolChanged());
    }
    input("threshold").max = String(this.model.about.stops.length - 1);
    input("threshold").addEventListener("input", () => this.settingsChanged());
    for (const id of ["largest", "holes"]) input(id).addEventListener("change", () => this.settingsChanged());
    byId("reset").addEventListener("click", () => this.reset());
    byId("for-all").addEventListener("click", () => this.useForAll());
    input("scale").addEventListener("change", () => this.scaleChanged());
    document.addEventListener("keydown", (event) => this.onShortcut(event));
    byId("uncertainty-choice").hidden = !this.model.uncertainty;
    for (const id of ["trust-section", "measure-section", "sort"]) byId(id).hidden = !this.model.measure;
  }

  get radius() {
    // From one pixel to a quarter of the photograph, evenly by factor.
    const most = Math.max(Math.min(this.view.width, this.view.height) / 4, 2);
    return LEAST_BRUSH * (most / LEAST_BRUSH) ** (Number(input("brush").value) / 100);
  }

  /** Shows a photograph that is ready; null for none. @param {Photograph | null} photograph */
  async show(photograph) {
    this.flush();
    this.photograph = photograph;
    this.levels = this.mask = this.uncertainty = null;
    if (!photograph) {
      this.view.show(null);
      return;
    }
    const { found, width, height } = photograph;
    const [levels, picture] = await Promise.all([photograph.levels(), createImageBitmap(found.picture)]);
    if (this.photograph !== photograph) {
      picture.close();
      return;
    }
    this.levels = levels;
    this.view.show(picture, width, height);
    this.view.canvas.setAttribute("aria-label", `${photograph.name} with its outline`);
    this.showSettings();
    this.drawNow();
    this.showMeasurements();
    this.measureSoon();
  }

  showSettings() {
    if (!this.photograph) return;
    const { settings, edits } = this.photograph;
    const { stops } = this.model.about;
    const short = stops[settings.stop].toFixed(2);
    const text = Number(short) === stops[settings.stop] ? short : String(stops[settings.stop]);
    input("threshold").value = String(settings.stop);
    input("threshold").setAttribute("aria-valuetext", text);
    byId("threshold-value").textContent = text;
    input("largest").checked = settings.largest;
    input("holes").checked = settings.holes;
    const { about } = this.model;
    /** @type {HTMLButtonElement} */ (byId("reset")).disabled =
      settings.stop === about.stop && settings.largest === about.largest_component &&
      settings.holes === about.fill_holes;
    /** @type {HTMLButtonElement} */ (byId("undo")).disabled = !edits?.done.length;
    /** @type {HTMLButtonElement} */ (byId("redo")).disabled = !edits?.undone.length;
    byId("uncorrect").hidden = !edits || edits.isEmpty;
  }

  settingsChanged() {
    if (!this.photograph) return;
    this.photograph.settings = {
      stop: Number(input("threshold").value),
      largest: input("largest").checked,
      holes: input("holes").checked,
    };
    this.changed();
  }

  reset() {
    if (!this.photograph) return;
    const { about } = this.model;
    this.photograph.settings = { stop: about.stop, largest: about.largest_component, holes: about.fill_holes };
    this.changed();
    say("Threshold and cleaning are the model's own again.");
  }

  useForAll() {
    const { photograph, photographs } = this;
    if (!photograph) return;
    photographs.settings = { ...photograph.settings };
    const others = photographs.all.filter((other) => other !== photograph);
    for (const other of others) {
      other.settings = { ...photograph.settings };
      other.changed();
    }
    say("All photographs use this threshold and cleaning, also those that you add.");
    this.refresh(others.filter(({ status }) => status === "ready"));
  }

  /** Draws and measures photographs that are not on show, one after the other. @param {Photograph[]} others */
  async refresh(others) {
    for (const other of others) {
      const mask = await other.mask();
      this.ondrawn(other, mask);
      await this.photographs.measure(other, mask);
    }
  }

  scaleChanged() {
    const text = input("scale").value.trim().replace(",", ".");
    const scale = text === "" ? null : Number(text);
    const isValid = scale === null || (scale >= SCALES[0] && scale <= SCALES[1]);
    input("scale").setAttribute("aria-invalid", String(!isValid));
    if (!isValid) {
      say(`Pixels per mm must be a number from ${SCALES[0]} to ${SCALES[1]}, as 21.5.`);
      return;
    }
    this.photographs.scale = scale;
    for (const photograph of this.photographs.ready) photograph.changed();
    this.showMeasurements();
    this.measureSoon();
  }

  /** The mask is another: draws it in the next frame, and measures it when it rests. */
  changed() {
    this.photograph?.changed();
    this.showSettings();
    this.frame ||= requestAnimationFrame(() => this.drawNow());
    this.showMeasurements();
    this.measureSoon();
  }

  drawNow() {
    cancelAnimationFrame(this.frame);
    this.frame = 0;
    if (!this.photograph || !this.levels) return;
    this.mask = this.photograph.maskFrom(this.levels);
    this.drawOverlay();
    this.drawOutline();
  }

  drawOutline() {
    if (!this.mask) return;
    const start = performance.now();
    this.view.setOutline(input("show-outline").checked ? trace(this.mask, this.view.width, this.view.height) : null);
    this.tracedAt = performance.now();
    this.lastTraceMs = this.tracedAt - start;
  }

  async drawOverlay() {
    const { view, photograph } = this;
    const layer = chosen("layer");
    this.showLegend(layer);
    if (!photograph || !this.mask || !this.levels) return;
    if (layer === "mask") view.setOverlay(this.mask, MASK);
    else if (layer === "heat") view.setOverlay(this.levels, this.heat);
    else if (layer === "uncertainty" && this.model.uncertainty) {
      try {
        const map = this.uncertainty ?? (await this.model.uncertainty(photograph.file, photograph.found));
        if (this.photograph !== photograph) return;
        this.uncertainty = map;
        if (chosen("layer") === layer) view.setOverlay(map, UNCERTAINTY);
      } catch (error) {
        say(error.message);
      }
    } else view.setOverlay(null);
  }

  /** @param {string} layer */
  showLegend(layer) {
    const ends = { heat: ["skin 0", "1 lesion"], uncertainty: ["certain", "even odds"] }[layer];
    byId("legend").hidden = !ends;
    byId("legend").dataset.layer = layer;
    if (ends) [byId("legend-low").textContent, byId("legend-high").textContent] = ends;
  }

  toolChanged() {
    const isBrush = chosen("tool") !== "move";
    byId("brush-size").hidden = !isBrush;
    this.view.canvas.dataset.tool = chosen("tool");
    this.view.setBrush(null);
    this.view.onzoom();
  }

  get value() {
    return chosen("tool") === "erase" ? ERASE : ADD;
  }

  /** @param {[number, number]} point */
  strokeBegins(point) {
    if (!this.photograph || !this.mask) return;
    const edits = this.photograph.edited();
    edits.begin();
    edits.dab(...point, this.radius, this.value);
    this.last = point;
    this.painted();
  }

  /** @param {[number, number]} point */
  strokeGoesOn(point) {
    if (!this.photograph?.edits?.before) return;
    this.photograph.edits.line(this.last, point, this.radius, this.value);
    this.last = point;
    this.painted();
  }

  /** Draws a stroke while it grows, as often as this machine manages. */
  painted() {
    if (performance.now() - this.tracedAt < 3 * this.lastTraceMs) return;
    this.frame ||= requestAnimationFrame(() => this.drawNow());
  }

  strokeEnds() {
    if (!this.photograph?.edits?.before) return;
    this.photograph.edits.end();
    this.changed();
  }

  /** @param {"undo" | "redo" | "clear"} which */
  step(which) {
    const edits = this.photograph?.edits;
    if (!edits || edits.before) return;
    if (edits[which]() === false) return;
    this.changed();
    say({ undo: "Undone.", redo: "Done again.", clear: "Corrections are taken back; undo restores them." }[which]);
  }

  /** @param {KeyboardEvent} event */
  onShortcut(event) {
    const isText = event.target instanceof HTMLInputElement && event.target.type === "text";
    if (!(event.ctrlKey || event.metaKey) || isText) return;
    const key = event.key.toLowerCase();
    if (key === "z") this.step(event.shiftKey ? "redo" : "undo");
    else if (key === "y") this.step("redo");
    else return;
    event.preventDefault();
  }

  measureSoon() {
    clearTimeout(this.timer);
    this.timer = window.setTimeout(() => this.measure(), MEASURE_AFTER_MS);
  }

  /** Measures and draws the small picture at once, where that is still to come. */
  flush() {
    if (!this.timer) return;
    clearTimeout(this.timer);
    this.measure();
  }

  async measure() {
    this.timer = 0;
    const { photograph, levels } = this;
    if (!photograph || !levels) return;
    const mask = photograph.maskFrom(levels);
    this.ondrawn(photograph, mask);
    await this.photographs.measure(photograph, mask);
  }

  showMeasurements() {
    const { photograph } = this;
    if (!photograph || !this.model.measure) return;
    const { row, isMeasured, unmeasured, edits } = photograph;
    showRow(row, isMeasured, Boolean(edits && !edits.isEmpty));
    showUnmeasured(unmeasured);
  }
}
