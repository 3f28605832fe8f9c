// Integers as side data: palettes, residuals and runs (docs/format.md, 4.7).

import { asUnsigned, isBig, signedArray } from "./dtypes.js";
import { FormatError } from "./errors.js";
import { checkSum, takeCounts, widenCounts } from "./side.js";

/** Bytes of equal weight together, lowest first, to integers. */
function fromPlanes(bytes, Type) {
  const width = Type.BYTES_PER_ELEMENT;
  const n = bytes.length / width;
  const out = new Type(n);
  const raw = new Uint8Array(out.buffer);
  for (let b = 0; b < width; b++) {
    for (let i = 0, at = b; i < n; i++, at += width) raw[at] = bytes[b * n + i];
  }
  return out;
}

/** 0, 1, 2, 3, ... back to 0, -1, 1, -2, ..., in place. */
function unfold(ints) {
  const folded = asUnsigned(ints);
  if (isBig(ints)) for (let i = 0; i < ints.length; i++) ints[i] = (folded[i] >> 1n) ^ -(folded[i] & 1n);
  else for (let i = 0; i < ints.length; i++) ints[i] = (folded[i] >>> 1) ^ -(folded[i] & 1);
  return ints;
}

/** A sorted palette from the differences of neighbours. */
export async function takePalette(reader, most, Type) {
  const width = Type.BYTES_PER_ELEMENT;
  const bytes = await reader.take(most * width, width);
  if (bytes.length % width) throw new FormatError("the palette of a tile is cut off");
  const palette = fromPlanes(bytes, Type);
  for (let i = 1; i < palette.length; i++) palette[i] += palette[i - 1];
  return palette;
}

/** Residuals, each plane of bytes a piece of its own. */
export async function takeResidual(reader, count, Signed) {
  const width = Signed.BYTES_PER_ELEMENT;
  const bytes = new Uint8Array(count * width);
  for (let b = 0; b < width && count; b++) bytes.set(await reader.take(count), b * count);
  return unfold(fromPlanes(bytes, Signed));
}

/** Runs that fill `size` residuals: {lengths, values}, values only where they are with the lengths. */
export async function takeRuns(reader, size, form) {
  let values = null;
  let lengths;
  if (form === "apart") lengths = await takeCounts(reader, size, 1);
  else {
    const pairs = await reader.take(2 * size, 2);
    if (pairs.length % 2) throw new FormatError("the runs of a tile are cut off");
    values = unfold(signedArray(1).from({ length: pairs.length / 2 }, (_, k) => pairs[2 * k]));
    lengths = await widenCounts(Uint8Array.from({ length: pairs.length / 2 }, (_, k) => pairs[2 * k + 1]), reader);
  }
  for (let k = 0; k < lengths.length; k++) lengths[k] += 1;
  checkSum(lengths, size, "runs");
  return { lengths, values };
}

/** Repeat each value as often as its run is long. */
export function repeat(values, lengths, size, Signed) {
  const out = new Signed(size);
  let at = 0;
  for (let k = 0; k < lengths.length; k++) {
    const value = isBig(out) ? BigInt(values[k]) : values[k];
    out.fill(value, at, at + lengths[k]);
    at += lengths[k];
  }
  return out;
}
