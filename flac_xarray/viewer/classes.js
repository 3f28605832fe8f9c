// Maps of classes: values of 8 bits coded by what is around them (docs/format.md, 4.10).

import { Decisions } from "./arithmetic.js";
import { FormatError } from "./errors.js";

const PIECE = 32;
// Where the states of each question begin; a question has as many as it has patterns.
const LEFT = 0;
const ABOVE = LEFT + 4 * 512;
const BEFORE = ABOVE + 4 * 256;
const NE = BEFORE + 16;
const NW = NE + 32;
const WW = NW + 8;
const NN = WW + 4;
const REPEATS = NN + 4;
const SAME = REPEATS + 64;
const TREES = SAME + 4;

/** Take the one piece of side data and decode it to values of shape [planes, height, width]. */
export async function takeClasses(reader, [planes, height, width], bits, Signed) {
  if (Signed.BYTES_PER_ELEMENT !== 1) throw new FormatError(`classes in a tile of ${8 * Signed.BYTES_PER_ELEMENT} bits: expected 8`);
  const size = height * width;
  const bytes = await reader.take(2 * planes * size + 64, 0);
  const coder = new Decisions(bytes, TREES + 4 ** bits);
  const values = new Uint8Array(planes * size);
  for (let p = 0; p < planes; p++) decodePlane(coder, values, p * size, p > 0 ? size : 0, height, width, bits);
  return new Signed(values.buffer);
}

/** `back` is how far behind the plane before lies, 0 where there is none. */
function decodePlane(coder, x, from, back, height, width, bits) {
  const count = Math.ceil(width / PIECE);
  const repeats = new Uint8Array(count); // of the row above until they are those of this one
  const same = new Uint8Array(count);
  for (let row = 0; row < height; row++) {
    const r = from + row * width;
    for (let k = 0; k < count; k++) {
      const [start, stop] = [k * PIECE, Math.min(width, (k + 1) * PIECE)];
      const above = { repeats: repeats[k], same: same[k] };
      repeats[k] = same[k] = 0;
      if (back && coder.decide(SAME + 2 * (k ? same[k - 1] : 0) + above.same)) {
        same[k] = 1;
        x.copyWithin(r + start, r - back + start, r - back + stop);
        continue;
      }
      const pattern = repeatPattern(x, r, row, start, stop, width);
      if (coder.decide(REPEATS + pattern + 8 * above.repeats + 16 * (k ? repeats[k - 1] : 0) + (back ? 32 : 0))) {
        repeats[k] = 1;
        if (row) x.copyWithin(r + start, r - width + start, r - width + stop);
        else x.fill(start ? x[r + start - 1] : 0, r + start, r + stop);
        continue;
      }
      for (let c = start; c < stop; c++) x[r + c] = decodePixel(coder, x, r, row, c, width, back, bits);
    }
  }
}

function repeatPattern(x, r, row, start, stop, width) {
  if (!row) return 7;
  const up = r - width;
  const first = x[up + start];
  let even = 1;
  for (let c = Math.max(0, start - 1); c < Math.min(width, stop + 1); c++) if (x[up + c] !== first) even = 0;
  if (!start) return 4 * even + 3;
  const left = x[r + start - 1];
  return 4 * even + 2 * (left === x[up + start - 1]) + (left === first);
}

function decodePixel(coder, x, r, row, c, width, back, bits) {
  const up = r - width;
  const w = c ? x[r + c - 1] : row ? x[up] : 0;
  const n = row ? x[up + c] : w;
  const nw = row && c ? x[up + c - 1] : n;
  const ne = row && c + 1 < width ? x[up + c + 1] : n;
  const nee = row && c + 2 < width ? x[up + c + 2] : ne;
  const ww = c > 1 ? x[r + c - 2] : w;
  const nn = row > 1 ? x[up - width + c] : n;
  const nne = row > 1 && c + 1 < width ? x[up - width + c + 1] : nn;
  const nww = row && c > 1 ? x[up + c - 2] : nw;
  let p = back ? x[r - back + c] : -1;
  const like = p < 0 ? 0 : p === w ? 1 : p === n ? 2 : 3;
  let pattern =
    (n === w) | ((nw === w) << 1) | ((ne === w) << 2) | ((ww === w) << 3) | ((ne === n) << 4) |
    ((nw === n) << 5) | ((nn === n) << 6) | ((nee === ne) << 7) | ((nww === nw) << 8);
  if (coder.decide(LEFT + 512 * like + pattern)) return w;
  if (n !== w) {
    pattern =
      (nw === w) | ((nw === n) << 1) | ((ne === n) << 2) | ((nn === n) << 3) | ((nne === ne) << 4) |
      ((ww === w) << 5) | ((nee === ne) << 6) | ((ww === n) << 7);
    if (coder.decide(ABOVE + 256 * like + pattern)) return n;
  }
  if (like === 3) {
    if (coder.decide(BEFORE + ((nw === p) | ((ne === p) << 1) | ((ww === p) << 2) | ((nn === p) << 3)))) return p;
  } else p = -1; // asked for already, if it is there
  if (ne !== w && ne !== n && ne !== p) {
    pattern = (n === w) | ((nw === n) << 1) | ((nee === ne) << 2) | ((nw === w) << 3) | ((nne === ne) << 4);
    if (coder.decide(NE + pattern)) return ne;
  }
  if (nw !== w && nw !== n && nw !== p && nw !== ne) {
    if (coder.decide(NW + ((n === w) | ((ne === n) << 1) | ((ww === nw) << 2)))) return nw;
  }
  if (ww !== w && ww !== n && ww !== p && ww !== ne && ww !== nw) {
    if (coder.decide(WW + ((n === w) | ((ne === n) << 1)))) return ww;
  }
  if (nn !== w && nn !== n && nn !== p && nn !== ne && nn !== nw && nn !== ww) {
    if (coder.decide(NN + ((n === w) | ((ne === n) << 1)))) return nn;
  }
  let node = 1;
  for (let i = 0; i < bits; i++) node = 2 * node + coder.decide(TREES + (w << bits) + node);
  return node - (1 << bits);
}
