/** The page: connects the model, the list of photographs, the editor and saving. */

import { addArrivals } from "./arrivals.js";
import { byId, element, say } from "./dom.js";
import { Editor } from "./editor.js";
import { Photographs } from "./photographs.js";
import { FILES, download, everything, table } from "./save.js";
import { Thumbnails } from "./thumbnails.js";

/** @typedef {import("./types.js").Model} Model */
/** @typedef {import("./photographs.js").Photograph} Photograph */

const ARCHIVE = "jaxseg.zip";
const TABLE = "predictions.csv";

/** Starts the page. @param {() => Promise<Model>} connect returns the model */
export async function start(connect) {
  try {
    new Page(await connect());
  } catch (error) {
    byId("model-name").textContent = error.message;
    say(error.message);
  }
}

/** @param {number} count of masks that could not be measured */
const unmeasuredText = (count) => (count ? ` ${count} could not be measured: their cells are empty.` : "");

class Page {
  /** @param {Model} model */
  constructor(model) {
    this.photographs = new Photographs(model);
    this.thumbnails = new Thumbnails(this.photographs, (photograph) => this.select(photograph));
    this.editor = new Editor(this.photographs, (photograph, mask) => this.thumbnails.draw(photograph, mask));
    /** @type {Photograph | null} */
    this.current = null;
    const { about } = model;
    byId("model-name").textContent = about.name;
    byId("model-text").textContent = about.synthetic
      ? `Trained on generated images: what it finds in photographs means nothing. ${about.text}`
      : about.text;
    byId("about").toggleAttribute("data-alarm", about.synthetic);
    byId("remove").addEventListener("click", () => this.current && this.photographs.remove(this.current));
    addArrivals((files) => this.add(files));
    this.photographs.addEventListener("changed", (event) => this.onChange(/** @type {CustomEvent} */ (event).detail));
    this.photographs.addEventListener("removed", (event) => this.onRemoved(/** @type {CustomEvent} */ (event).detail));
    for (const button of document.querySelectorAll("[data-save]")) {
      const kind = /** @type {keyof typeof FILES} */ (/** @type {HTMLElement} */ (button).dataset.save);
      button.addEventListener("click", () => this.saveOne(kind));
    }
    byId("save-table").addEventListener("click", () => this.saving(async () => {
      const { content, unmeasured } = await table(this.photographs);
      download(content, TABLE);
      return `${TABLE} is saved.${unmeasuredText(unmeasured)}`;
    }));
    byId("save-all").addEventListener("click", () => this.saveAll());
    window.addEventListener("beforeunload", (event) => {
      if (this.photographs.all.some((photograph) => photograph.isUnsaved)) event.preventDefault();
    });
    document.body.dataset.ready = "";
  }

  /** @param {File[]} files */
  add(files) {
    if (!files.length) return;
    const first = this.photographs.all.length;
    this.photographs.add(files);
    byId("body").toggleAttribute("data-empty", false);
    say(files.length === 1 ? `${files[0].name} is added.` : `${files.length} photographs are added.`);
    if (!this.current) this.select(this.photographs.all[first]);
    this.count();
  }

  /** @param {Photograph | null} photograph */
  async select(photograph) {
    this.current = photograph;
    this.thumbnails.mark(photograph);
    const isReady = photograph?.status === "ready";
    byId("empty").hidden = photograph !== null;
    byId("canvas-frame").hidden = photograph === null;
    byId("tools").hidden = byId("panel").hidden = !isReady;
    const waiting = byId("waiting");
    waiting.hidden = photograph === null || isReady;
    waiting.toggleAttribute("data-failed", photograph?.status === "failed");
    if (!photograph || !isReady) {
      waiting.textContent = photograph ? photograph.error || `${photograph.name}: segmenting…` : "";
      await this.editor.show(null);
      return;
    }
    byId("name").textContent = photograph.name;
    byId("notes").replaceChildren(...photograph.found.notes.map((/** @type {string} */ note) => element("li", {}, note)));
    await this.editor.show(photograph);
  }

  /** @param {Photograph} photograph */
  async onChange(photograph) {
    this.count();
    if (photograph === this.current) {
      const isShown = this.editor.photograph === photograph;
      if (isShown) {
        this.editor.showMeasurements();
        this.editor.showSettings();
      } else if (photograph.status !== "working") {
        await this.select(photograph);
      }
    }
    if (photograph.status === "failed" && !photograph.row) say(photograph.error);
    if (photograph.status === "ready" && !photograph.row && photograph !== this.current) {
      this.thumbnails.draw(photograph, await photograph.mask());
    }
  }

  /** @param {Photograph} photograph */
  onRemoved(photograph) {
    this.count();
    const { all } = this.photographs;
    if (!all.length) byId("body").toggleAttribute("data-empty", true);
    if (photograph === this.current) this.select(all[0] ?? null);
    say(`${photograph.name} is removed.`);
  }

  count() {
    const { all, unfinished, failed } = this.photographs;
    const left = unfinished.length ? `, ${unfinished.length} to do` : "";
    const bad = failed.length ? `, ${failed.length} failed` : "";
    byId("count").textContent = all.length ? `${all.length}${left}${bad}` : "";
    /** @type {HTMLButtonElement} */ (byId("save-all")).disabled = !this.photographs.ready.length;
  }

  /** Runs a way of saving, and says how it went; the buttons wait meanwhile. @param {() => Promise<string>} save */
  async saving(save) {
    const buttons = /** @type {NodeListOf<HTMLButtonElement>} */ (document.querySelectorAll(".save button"));
    for (const button of buttons) button.disabled = true;
    try {
      say(await save());
    } catch (error) {
      say(`Not saved: ${error.message}`);
    }
    for (const button of buttons) button.disabled = false;
  }

  /** @param {keyof typeof FILES} kind */
  saveOne(kind) {
    const photograph = this.current;
    if (!photograph) return;
    this.saving(async () => {
      const { name, content } = await FILES[kind](photograph, await photograph.mask());
      download(content, name);
      return `${name} is saved.`;
    });
  }

  saveAll() {
    this.saving(async () => {
      const { ready, failed, unfinished } = this.photographs;
      const { archive, unmeasured } = await everything(this.photographs, (done) => {
        say(`Saving ${done + 1} of ${ready.length}.`);
      });
      download(archive, ARCHIVE);
      const left = failed.length + unfinished.length;
      const rest = left ? ` ${left} could not be read, or are not segmented yet, and are not in it.` : "";
      const saved = `${ARCHIVE} is saved: ${ready.length} photographs with masks, outlines and table.`;
      return `${saved}${rest}${unmeasuredText(unmeasured)}`;
    });
  }
}
