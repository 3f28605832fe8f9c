// Rows of residuals to rows of values (docs/format.md, 4.5). Typed arrays wrap modulo 2^w when stored to.

import { isBig } from "./dtypes.js";

const STRIDE = 64;

/** Rows in the order in which their residuals are stored. */
export function rowOrder(height, predictor) {
  if (predictor === "none" || predictor === "up") return Array.from({ length: height }, (_, r) => r);
  const rows = [];
  for (let r = 0; r < height; r += STRIDE) rows.push(r);
  for (let s = STRIDE / 2; s >= 1; s /= 2) for (let r = s; r < height; r += 2 * s) rows.push(r);
  return rows;
}

/** Undo the prediction of one plane: residuals in stored order to `out`, which says whether numbers are signed. */
export function undoRows(residual, out, height, width, predictor) {
  if (predictor === "none") return out.set(retyped(residual, out));
  if (predictor === "up") return rowOrder(height, "up").forEach((r) => addAbove(residual, r, out, r, r - 1, width));
  const predictRow = choose(predictor, out);
  const prediction = new out.constructor(width);
  rowOrder(height, predictor).forEach((r, at) => {
    if (r % STRIDE === 0) return addAbove(residual, at, out, r, r - STRIDE, width);
    const step = r & -r;
    const below = r + step < height ? r + step : r - step;
    predictRow(out, (r - step) * width, below * width, prediction, width);
    for (let c = 0, i = at * width, o = r * width; c < width; c++) out[o + c] = residual[i + c] + prediction[c];
  });
}

function retyped(residual, out) {
  return new out.constructor(residual.buffer, residual.byteOffset, residual.length);
}

function addAbove(residual, at, out, row, above, width) {
  const i = at * width;
  const o = row * width;
  const a = above * width;
  if (above < 0) for (let c = 0; c < width; c++) out[o + c] = residual[i + c];
  else for (let c = 0; c < width; c++) out[o + c] = residual[i + c] + out[a + c];
}

function choose(predictor, out) {
  if (predictor === "lift") return isBig(out) ? liftBig : lift;
  if (isBig(out)) return out instanceof BigInt64Array ? smoothSigned64 : smoothUnsigned64;
  if (out instanceof Uint32Array) return smoother((x) => (x >>> 0) >>> 3);
  if (out instanceof Int32Array) return smoother((x) => (x | 0) >> 3);
  if (out instanceof Uint16Array) return smoother((x) => (x & 0xffff) >>> 3);
  return smoother((x) => ((x << 16) >> 16) >> 3);
}

/** The mean, rounded down; sums of two numbers of 32 bits are exact. */
function lift(rows, a, b, out, width) {
  for (let c = 0; c < width; c++) out[c] = Math.floor((rows[a + c] + rows[b + c]) / 2);
}

function liftBig(rows, a, b, out, width) {
  for (let c = 0; c < width; c++) out[c] = (rows[a + c] + rows[b + c]) >> 1n;
}

/** Weights 1-2-1 along the sum of two rows; `eighth` takes it modulo 2^w and shifts. */
function smoother(eighth) {
  return (rows, a, b, out, width) => {
    let here = rows[a] + rows[b];
    let left = here;
    for (let c = 0; c < width; c++) {
      const right = c + 1 < width ? rows[a + c + 1] + rows[b + c + 1] : here;
      out[c] = eighth(left + 2 * here + right + 4);
      left = here;
      here = right;
    }
  };
}

function smootherBig(eighth) {
  return (rows, a, b, out, width) => {
    let here = rows[a] + rows[b];
    let left = here;
    for (let c = 0; c < width; c++) {
      const right = c + 1 < width ? rows[a + c + 1] + rows[b + c + 1] : here;
      out[c] = eighth(left + 2n * here + right + 4n);
      left = here;
      here = right;
    }
  };
}

const smoothSigned64 = smootherBig((x) => BigInt.asIntN(64, x) >> 3n);
const smoothUnsigned64 = smootherBig((x) => BigInt.asUintN(64, x) >> 3n);
