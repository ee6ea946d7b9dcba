// Tables as they cross from Python: a description of each column, and the Arrow buffers of all columns in that order.

const KINDS = { double: Float64Array, int32: Int32Array };

/** The columns of an answer by name: typed arrays, and lists of strings. */
export function decode(described, buffers) {
  const columns = {};
  let next = 0;
  for (const { name, type, rows } of described) {
    if (type === "string") {
      columns[name] = decodeTexts(asArray(Int32Array, buffers[next], rows + 1), buffers[next + 1], rows);
      next += 2;
    } else {
      columns[name] = asArray(KINDS[type], buffers[next], rows);
      next += 1;
    }
  }
  return columns;
}

/** An answer that came in one piece: how many parts, the size of each, and the parts, each on a multiple of eight. */
export function unpack(bytes) {
  const sizes = new Uint32Array(bytes, 4, new Uint32Array(bytes, 0, 1)[0]);
  let at = Math.ceil((4 + 4 * sizes.length) / 8) * 8;
  const parts = Array.from(sizes, (size) => {
    const part = new DataView(bytes, at, size);
    at += Math.ceil(size / 8) * 8;
    return part;
  });
  const facts = JSON.parse(new TextDecoder().decode(parts[0]));
  return { ...facts, columns: decode(facts.columns, parts.slice(1)) };
}

function asArray(Kind, buffer, count) {
  const size = count * Kind.BYTES_PER_ELEMENT;
  if (!buffer || !size) return new Kind(0);
  const isAligned = buffer.byteOffset % Kind.BYTES_PER_ELEMENT === 0;
  if (isAligned) return new Kind(buffer.buffer, buffer.byteOffset, count);
  return new Kind(buffer.buffer.slice(buffer.byteOffset, buffer.byteOffset + size));
}

function decodeTexts(offsets, buffer, rows) {
  if (!rows || !offsets.length) return [];
  const bytes = new Uint8Array(buffer.buffer, buffer.byteOffset, buffer.byteLength);
  const decoder = new TextDecoder();
  return Array.from({ length: rows }, (_, i) => decoder.decode(bytes.subarray(offsets[i], offsets[i + 1])));
}
