// Integers back to the bits of pixels (docs/format.md, 4.4): offset, palette, scale, order, void.

import { asSigned, isBig, viewAs } from "./dtypes.js";
import { FormatError } from "./errors.js";
import { numberToHalf } from "./half.js";

/** parts = values + number, modulo 2^w of the parts. */
export function addOffset(values, number, parts) {
  if (isBig(parts)) for (let i = 0; i < parts.length; i++) parts[i] = BigInt(values[i]) + number;
  else {
    const wrapped = Number(BigInt.asIntN(32, number));
    for (let i = 0; i < parts.length; i++) parts[i] = values[i] + wrapped;
  }
}

export function fromRanks(ranks, palette, parts) {
  for (let i = 0; i < parts.length; i++) {
    const rank = ranks[i];
    if (rank < 0 || rank >= palette.length) throw new FormatError("a tile has a rank outside its palette");
    parts[i] = palette[rank];
  }
}

/** One operation in float64, rounded once to the float whose bits the parts are. */
export function unscale(ints, { step, isDivisor }, parts) {
  const width = parts.BYTES_PER_ELEMENT;
  if (width === 1) throw new FormatError("a tile of one byte a pixel has no scale");
  const one = isDivisor ? (k) => k / step : (k) => k * step;
  if (width === 2) {
    for (let i = 0; i < parts.length; i++) parts[i] = numberToHalf(one(ints[i]));
    return;
  }
  const floats = viewAs(parts, width === 4 ? Float32Array : Float64Array);
  for (let i = 0; i < floats.length; i++) floats[i] = one(ints[i]);
}

/** Integers that sort like floats, back to the floats' bits; in place. */
export function unorder(parts) {
  const bits = asSigned(parts);
  if (isBig(bits)) {
    const mask = (1n << 63n) - 1n;
    for (let i = 0; i < bits.length; i++) if (bits[i] < 0n) bits[i] ^= mask;
    return;
  }
  const mask = 2 ** (8 * bits.BYTES_PER_ELEMENT - 1) - 1;
  for (let i = 0; i < bits.length; i++) if (bits[i] < 0) bits[i] ^= mask;
}

/** Give void parts their bits. */
export function fillVoid(parts, pattern, valid) {
  if (pattern.length !== parts.BYTES_PER_ELEMENT) throw new FormatError("the void pattern has another size than a pixel");
  const [bits] = new parts.constructor(pattern.slice().buffer);
  for (let i = 0; i < parts.length; i++) if (!valid[i]) parts[i] = bits;
}
