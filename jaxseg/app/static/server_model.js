/** The model behind `python -m jaxseg.app`: everything that talks to the server. */

/** @typedef {import("./types.js").Model} Model */
/** @typedef {import("./types.js").Segmentation} Segmentation */

const API = "api/";

class ServerError extends Error {
  /** @param {string} message @param {number} status */
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

/** Sends a request; rejects with the server's own line where it refuses.
 * @param {string} path @param {RequestInit} [options] @returns {Promise<Response>} */
async function ask(path, options) {
  let response;
  try {
    response = await fetch(API + path, options);
  } catch {
    throw new ServerError("The server does not answer: is python -m jaxseg.app still running?", 0);
  }
  if (response.ok) return response;
  const said = await response.json().catch(() => ({}));
  throw new ServerError(said.error ?? `The server answers ${response.status}.`, response.status);
}

/** @param {string} path @returns {Promise<Uint8Array>} */
async function bytes(path) {
  return new Uint8Array(await (await ask(path)).arrayBuffer());
}

/** Returns a mask as bits, eight pixels to a byte, the first in the highest bit.
 * @param {Uint8Array} mask 0 and 1 @returns {Uint8Array} */
function packBits(mask) {
  const packed = new Uint8Array(Math.ceil(mask.length / 8));
  for (let i = 0; i < mask.length; i++) if (mask[i]) packed[i >> 3] |= 128 >> (i & 7);
  return packed;
}

/** @param {File} file @param {string} name @returns {Promise<any>} */
async function upload(file, name) {
  const response = await ask(`photographs?name=${encodeURIComponent(name)}`, { method: "POST", body: file });
  return response.json();
}

/** Asks for something of a photograph; sends the file again where the server has forgotten it.
 * @template T @param {File} file @param {Segmentation} s @param {(path: string) => Promise<T>} request
 * @returns {Promise<T>} */
async function again(file, s, request) {
  try {
    return await request(`photographs/${s.key}/`);
  } catch (error) {
    if (error.status !== 404) throw error;
    s.key = (await upload(file, file.name)).key;
    return request(`photographs/${s.key}/`);
  }
}

/** Connects to the server that has sent this page. @returns {Promise<Model>} */
export async function connect() {
  return {
    about: await (await ask("model")).json(),

    async segment(file, name) {
      const found = await upload(file, name);
      const place = `photographs/${found.key}/`;
      const [levels, picture] = await Promise.all([
        bytes(`${place}levels`),
        ask(`${place}picture`).then((response) => response.blob()),
      ]);
      return { ...found, levels, picture };
    },

    uncertainty: (file, s) => again(file, s, (place) => bytes(`${place}uncertainty`)),

    measure: (file, s, mask, settings, scale) =>
      again(file, s, async (place) => {
        const query = new URLSearchParams({
          stop: String(settings.stop),
          largest: settings.largest ? "1" : "0",
          holes: settings.holes ? "1" : "0",
          scale: scale === null ? "" : String(scale),
        });
        return (await ask(`${place}measure?${query}`, { method: "POST", body: packBits(mask) })).json();
      }),
  };
}
