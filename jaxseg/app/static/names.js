/** Names of files that are saved: those of the photographs, and never two alike. */

/** @param {string} name @returns {[string, string]} what comes before a name's ending, and the ending with its dot */
export function splitName(name) {
  const dot = name.lastIndexOf(".");
  return dot > 0 ? [name.slice(0, dot), name.slice(dot)] : [name, ""];
}

/** Returns a name that every file system and jaxseg's own reader take.
 * @param {string} name @param {string[]} endings known endings @param {string} ending the one of the file's format
 * @returns {string} */
export function savedName(name, endings, ending) {
  const safe = name.normalize("NFC").replace(/[/\\:*?"<>|\p{C}]/gu, "_").replace(/^[\s.]+/, "").trim() || "photograph";
  return endings.includes(splitName(safe)[1].toLowerCase()) ? safe : safe + ending;
}

/** Returns a name whose part before the ending no other name has, lower and upper case alike.
 * @param {string} name @param {Iterable<string>} taken @returns {string} */
export function uniqueName(name, taken) {
  const stems = new Set([...taken].map((other) => splitName(other)[0].toLowerCase()));
  const [stem, ending] = splitName(name);
  let result = stem;
  for (let count = 2; stems.has(result.toLowerCase()); count++) result = `${stem} (${count})`;
  return result + ending;
}
