/** Short ways to the page's elements. */

/** @template {HTMLElement} T @param {string} id @returns {T} the element of that id, which is there */
export function byId(id) {
  return /** @type {T} */ (document.getElementById(id));
}

/** @template {keyof HTMLElementTagNameMap} K @param {K} tag @param {object} [properties]
 * @param {(Node | string)[]} children @returns {HTMLElementTagNameMap[K]} */
export function element(tag, properties = {}, ...children) {
  const result = Object.assign(document.createElement(tag), properties);
  result.append(...children);
  return result;
}

/** Says something to everyone, screen readers too, for a while. @param {string} text */
export function say(text) {
  const status = byId("status");
  status.textContent = text;
  clearTimeout(Number(status.dataset.timer));
  status.dataset.timer = String(setTimeout(() => (status.textContent = ""), 6000));
}
