/** Bytes: compressed and back, checksums. */

/** @param {Blob | Uint8Array} content @param {CompressionFormat} format @returns {Promise<Blob>} */
export function compress(content, format) {
  return new Response(new Blob([content]).stream().pipeThrough(new CompressionStream(format))).blob();
}

/** @param {Blob} content what `compress` has made @param {CompressionFormat} format @returns {Promise<Uint8Array>} */
export async function decompress(content, format) {
  const stream = content.stream().pipeThrough(new DecompressionStream(format));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  let value = n;
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? 0xedb88320 ^ (value >>> 1) : value >>> 1;
  return value;
});

/** @param {Uint8Array} content @returns {number} its CRC-32, as PNG and ZIP have it */
export function crc32(content) {
  let value = 0xffffffff;
  for (let i = 0; i < content.length; i++) value = CRC_TABLE[(value ^ content[i]) & 255] ^ (value >>> 8);
  return (value ^ 0xffffffff) >>> 0;
}
