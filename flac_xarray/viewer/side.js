// Compressed pieces that travel beside the samples, and the counts in them (docs/format.md, 4.7).

import { FormatError } from "./errors.js";
import { inflate, unpackLzma } from "./inflate.js";

const HEAD = 12;
const ESCAPE = 255;

/** Takes pieces one after another. */
export class SideReader {
  constructor(bytes) {
    this.bytes = bytes;
    this.at = 0;
  }

  /** Unpack the next piece, of `least` to `most` bytes; its promise is checked before it is unpacked. */
  async take(most, least = most) {
    const start = this.at + HEAD;
    if (start > this.bytes.length) throw new FormatError("the tile's side data ends before its next piece");
    const view = new DataView(this.bytes.buffer, this.bytes.byteOffset + this.at, HEAD);
    const nbytes = view.getUint32(4, true);
    const packedBytes = view.getUint32(8, true);
    if (nbytes < least || nbytes > most) {
      throw new FormatError(`a piece of side data has ${nbytes} bytes: expected ${least} to ${most}`);
    }
    const packed = this.bytes.subarray(start, start + packedBytes);
    this.at = start + packedBytes;
    if (packed.length !== packedBytes) throw new FormatError("a piece of side data is cut off");
    const data = await unpack(view.getUint8(0), view.getUint8(1), packed, nbytes);
    if (data.length !== nbytes) throw new FormatError(`a piece of side data has ${data.length} bytes: expected ${nbytes}`);
    return data;
  }
}

async function unpack(method, properties, packed, nbytes) {
  if (method === 0) return packed;
  if (method === 1) return inflate(packed, nbytes);
  if (method === 2) return unpackLzma(packed, properties, nbytes);
  throw new FormatError(`side data packed by method ${method}: this page reads 0 to 2`);
}

/** Numbers, a byte each, and what does not fit in a byte. */
export async function takeCounts(reader, most, least = 0) {
  return widenCounts(await reader.take(most, least), reader);
}

/** Add the next piece's rests to bytes of 255. */
export async function widenCounts(low, reader) {
  let n = 0;
  for (const byte of low) n += byte === ESCAPE;
  const planes = await reader.take(4 * n);
  const counts = new Float64Array(low.length);
  for (let i = 0, k = 0; i < low.length; i++) {
    counts[i] = low[i];
    if (low[i] === ESCAPE) {
      counts[i] += planes[k] + planes[n + k] * 2 ** 8 + planes[2 * n + k] * 2 ** 16 + planes[3 * n + k] * 2 ** 24;
      k++;
    }
  }
  return counts;
}

/** A mask as bytes of 0 and 1, from the lengths of its runs, a run of false first. */
export async function takeMask(reader, size) {
  const lengths = await takeCounts(reader, size + 1);
  checkSum(lengths, size, "a mask");
  const mask = new Uint8Array(size);
  let at = 0;
  lengths.forEach((n, k) => {
    mask.fill(k & 1, at, at + n);
    at += n;
  });
  return mask;
}

/** Positions, from the number of zeros before each. */
export async function takeGaps(reader, size) {
  const gaps = await takeCounts(reader, size);
  let at = -1;
  for (let k = 0; k < gaps.length; k++) {
    at += gaps[k] + 1;
    gaps[k] = at;
  }
  if (at >= size) throw new FormatError(`a pixel at ${at} of ${size}`);
  return gaps;
}

export function checkSum(lengths, size, what) {
  let sum = 0;
  for (const n of lengths) sum += n;
  if (sum !== size) throw new FormatError(`${what} has ${sum} pixels: expected ${size}`);
}
