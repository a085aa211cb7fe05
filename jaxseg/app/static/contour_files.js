/** Outlines as files for other tools; the same objects as `jaxseg.inference.contours` makes. */

/** @typedef {import("./outline.js").Part} Part */
/** @typedef {import("./outline.js").Ring} Ring */

const LESION = "lesion";
const HOLE = "_background_";
const COLOUR = [255, 0, 230];

/** @param {Part[]} parts @param {string} name what the image is called @param {number} width @param {number} height */
export function geojson(parts, name, width, height) {
  const closed = (/** @type {Ring} */ ring) => [...ring, ring[0]];
  const properties = { objectType: "annotation", classification: { name: LESION, color: COLOUR } };
  return {
    type: "FeatureCollection",
    image: name,
    height,
    width,
    features: parts.map(({ outer, holes }) => ({
      type: "Feature",
      geometry: { type: "Polygon", coordinates: [outer, ...holes].map(closed) },
      properties,
    })),
  };
}

/** @param {Ring} ring @returns {number} its area, twice */
const area = (ring) => Math.abs(ring.reduce((sum, [x, y], i) => {
  const [nextX, nextY] = ring[(i + 1) % ring.length];
  return sum + x * nextY - nextX * y;
}, 0));

/** Labelme's polygons are painted one over the other: a part that lies in another's hole comes after it.
 * @param {Part[]} parts @param {string} imagePath the image's place from the file @param {number} width
 * @param {number} height */
export function labelme(parts, imagePath, width, height) {
  const shape = (/** @type {string} */ label, /** @type {Ring} */ points) => ({
    label, points, group_id: null, shape_type: "polygon", flags: {},
  });
  return {
    version: "5.4.1",
    flags: {},
    shapes: [...parts].sort((a, b) => area(b.outer) - area(a.outer)).flatMap(({ outer, holes }) => [
      shape(LESION, outer), ...holes.map((hole) => shape(HOLE, hole)),
    ]),
    imagePath,
    imageData: null,
    imageHeight: height,
    imageWidth: width,
  };
}
