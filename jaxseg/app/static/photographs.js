/** The photographs on the page: what the user has dropped, and what was found in each. */

import { compress, decompress } from "./bytes.js";
import { Edits } from "./edits.js";
import { maskOf } from "./mask.js";
import { savedName, uniqueName } from "./names.js";

/** @typedef {import("./types.js").Model} Model */
/** @typedef {import("./types.js").MaskSettings} MaskSettings */
/** @typedef {import("./types.js").Row} Row */

const AT_ONCE = 2; // one is on its way while the other is segmented

export class Photograph {
  /** @param {File} file @param {string} name @param {MaskSettings} settings */
  constructor(file, name, settings) {
    this.file = file;
    this.name = name;
    this.settings = settings;
    this.firstSettings = { ...settings };
    /** @type {"waiting" | "working" | "ready" | "failed"} */
    this.status = "waiting";
    this.error = "";
    /** What the model says, without the levels. @type {any} */
    this.found = null;
    /** The levels, compressed: those of a hundred photographs would fill the memory. @type {Blob | null} */
    this.packed = null;
    /** @type {Edits | null} */
    this.edits = null;
    /** @type {Row | null} */
    this.row = null;
    this.isMeasured = false;
    /** Why the mask as it is now could not be measured; empty otherwise. */
    this.unmeasured = "";
    this.version = 0;
    /** The version of the mask that was saved last. */
    this.savedVersion = 0;
    /** What is being measured. @type {{version: number, done: Promise<void>} | null} */
    this.measuring = null;
  }

  get width() {
    return this.found.width;
  }

  get height() {
    return this.found.height;
  }

  /** @returns {Promise<Uint8Array>} */
  levels() {
    return decompress(/** @type {Blob} */ (this.packed), "gzip");
  }

  /** @param {Uint8Array} levels @returns {Uint8Array} */
  maskFrom(levels) {
    return maskOf(levels, this.width, this.height, this.settings, this.edits && this.edits.marks);
  }

  /** @returns {Promise<Uint8Array>} the mask as the page shows it, 0 and 1 */
  async mask() {
    return this.maskFrom(await this.levels());
  }

  /** @returns {Edits} */
  edited() {
    this.edits ??= new Edits(this.width, this.height);
    return this.edits;
  }

  get isCorrected() {
    return Boolean(this.edits?.done.length);
  }

  /** Whether the user has done something to the mask that no archive holds. */
  get isUnsaved() {
    const { settings, firstSettings } = this;
    const isSet = settings.stop !== firstSettings.stop || settings.largest !== firstSettings.largest ||
      settings.holes !== firstSettings.holes;
    return this.version !== this.savedVersion && (isSet || this.isCorrected);
  }

  /** Says that the mask has changed: what was measured is no longer true. */
  changed() {
    this.isMeasured = false;
    this.unmeasured = "";
    this.version += 1;
  }
}

/** Tells of changes by "added", "changed" and "removed" events, whose detail is the photograph. */
export class Photographs extends EventTarget {
  /** @param {Model} model */
  constructor(model) {
    super();
    this.model = model;
    /** @type {Photograph[]} */
    this.all = [];
    /** @type {number | null} */
    this.scale = null;
    this.running = 0;
    const { about } = model;
    /** @type {MaskSettings} */
    this.settings = { stop: about.stop, largest: about.largest_component, holes: about.fill_holes };
  }

  get ready() {
    return this.all.filter(({ status }) => status === "ready");
  }

  get failed() {
    return this.all.filter(({ status }) => status === "failed");
  }

  get unfinished() {
    return this.all.filter(({ status }) => status === "waiting" || status === "working");
  }

  /** @param {string} kind @param {Photograph} photograph */
  tell(kind, photograph) {
    this.dispatchEvent(new CustomEvent(kind, { detail: photograph }));
  }

  /** Adds files, each under a name of its own; segments them in this order. @param {Iterable<File>} files */
  add(files) {
    for (const file of files) {
      const name = uniqueName(file.name || "photograph", this.all.map((other) => other.name));
      const photograph = new Photograph(file, name, { ...this.settings });
      this.all.push(photograph);
      this.tell("added", photograph);
    }
    for (let i = this.running; i < AT_ONCE; i++) this.work();
  }

  /** Segments what waits, one after the other. */
  async work() {
    this.running += 1;
    for (;;) {
      const next = this.all.find(({ status }) => status === "waiting");
      if (!next) break;
      await this.segment(next);
    }
    this.running -= 1;
  }

  /** @param {Photograph} photograph */
  async segment(photograph) {
    photograph.status = "working";
    this.tell("changed", photograph);
    try {
      const { levels, ...found } = await this.model.segment(photograph.file, photograph.file.name);
      photograph.packed = await compress(levels, "gzip");
      photograph.found = found;
      const others = this.all.filter((other) => other !== photograph).map((other) => other.name);
      photograph.name = uniqueName(savedName(photograph.name, this.model.about.endings, found.ending), others);
      photograph.status = "ready";
    } catch (error) {
      photograph.status = "failed";
      photograph.error = error.message;
    }
    if (!this.all.includes(photograph)) return; // removed meanwhile
    this.tell("changed", photograph);
    if (photograph.status === "ready") await this.measure(photograph);
  }

  /** Measures a photograph's mask, unless that was done since it changed; where it fails, the photograph says why.
   * @param {Photograph} photograph @param {Uint8Array} [mask] its mask, where it is at hand @returns {Promise<void>} */
  async measure(photograph, mask) {
    const { version, measuring } = photograph;
    if (!this.model.measure || photograph.isMeasured) return;
    if (measuring?.version !== version) {
      photograph.measuring = { version, done: this.measureNow(photograph, version, mask) };
    }
    await photograph.measuring?.done;
  }

  /** @param {Photograph} photograph @param {number} version @param {Uint8Array} [mask] */
  async measureNow(photograph, version, mask) {
    const { file, found, settings } = photograph;
    try {
      const row = await this.model.measure?.(file, found, mask ?? (await photograph.mask()), settings, this.scale);
      if (photograph.version !== version || !row) return;
      photograph.row = row;
      photograph.isMeasured = true;
      photograph.unmeasured = "";
    } catch (error) {
      if (photograph.version !== version) return;
      photograph.unmeasured = `Not measured: ${error.message}`;
    } finally {
      if (photograph.measuring?.version === version) photograph.measuring = null;
    }
    this.tell("changed", photograph);
  }

  /** @param {Photograph} photograph */
  remove(photograph) {
    this.all = this.all.filter((other) => other !== photograph);
    this.tell("removed", photograph);
  }
}
