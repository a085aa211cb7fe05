/** Files that come in: dropped anywhere on the page, chosen, or pasted. */

import { byId } from "./dom.js";

/** @param {(files: File[]) => void} add */
export function addArrivals(add) {
  const files = /** @type {HTMLInputElement} */ (byId("files"));
  for (const id of ["choose", "add-more"]) byId(id).addEventListener("click", () => files.click());
  files.addEventListener("change", () => {
    add([...(files.files ?? [])]);
    files.value = ""; // so that the same file can be chosen again
  });

  let depth = 0;
  const show = (/** @type {number} */ value) => {
    depth = value;
    byId("drop").hidden = depth <= 0;
  };
  const hasFiles = (/** @type {DragEvent} */ event) => event.dataTransfer?.types.includes("Files");
  window.addEventListener("dragenter", (event) => hasFiles(event) && show(depth + 1));
  window.addEventListener("dragleave", (event) => hasFiles(event) && show(depth - 1));
  window.addEventListener("dragover", (event) => event.preventDefault());
  window.addEventListener("drop", async (event) => {
    event.preventDefault();
    show(0);
    if (event.dataTransfer) add(await filesOf(event.dataTransfer));
  });

  document.addEventListener("paste", (event) => {
    const pasted = [...(event.clipboardData?.files ?? [])];
    if (pasted.length) add(pasted);
  });
}

/** Returns the files of a drop, those in folders too. @param {DataTransfer} transfer @returns {Promise<File[]>} */
async function filesOf(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.());
  if (!entries.some((entry) => entry?.isDirectory)) return [...transfer.files];
  const found = await Promise.all(entries.map((entry) => (entry ? filesIn(entry) : [])));
  return found.flat().filter(({ name }) => !name.startsWith("."));
}

/** @param {any} entry a file or a folder @returns {Promise<File[]>} */
async function filesIn(entry) {
  if (entry.isFile) return [await new Promise((resolve, reject) => entry.file(resolve, reject))];
  const reader = entry.createReader();
  const inside = [];
  for (;;) {
    // A reader gives a hundred entries at a time, and none at the end.
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) break;
    inside.push(...some);
  }
  return (await Promise.all(inside.map(filesIn))).flat();
}
