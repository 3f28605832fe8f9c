// Pixels as numbers that can be drawn and told.

import { isBig, isComplex, partsOf } from "./dtypes.js";
import { halfToNumber } from "./half.js";
import { partValue } from "./nodata.js";

/** Numbers of one plane of a tile; of complex pixels their magnitude. */
export function planeNumbers(tile, plane) {
  const { parts, dtype } = tile;
  const size = tile.height * tile.width;
  const from = plane * size * partsOf(dtype);
  if (isComplex(dtype)) {
    return Float64Array.from({ length: size }, (_, i) => Math.hypot(partValue(parts, from + i, dtype), partValue(parts, from + size + i, dtype)));
  }
  if (dtype === "float16") return Float64Array.from(parts.subarray(from, from + size), halfToNumber);
  if (dtype === "float32") return new Float32Array(parts.buffer, 4 * from, size);
  if (dtype === "float64") return new Float64Array(parts.buffer, 8 * from, size);
  if (isBig(parts)) return Float64Array.from(parts.subarray(from, from + size), Number);
  return parts.subarray(from, from + size);
}

/** One pixel's value in full: {text, number}; number is null for complex pixels. */
export function pixelText(tile, plane, row, col) {
  const { parts, dtype } = tile;
  const size = tile.height * tile.width;
  const at = plane * size * partsOf(dtype) + row * tile.width + col;
  const value = partValue(parts, at, dtype);
  if (isComplex(dtype)) {
    const imaginary = partValue(parts, at + size, dtype);
    const minus = imaginary < 0 || Object.is(imaginary, -0);
    const real = shortest(value, dtype);
    return { text: `${real} ${minus ? "\u2212" : "+"} ${shortest(Math.abs(imaginary), dtype)}i`, number: null };
  }
  if (dtype === "bool") return { text: value ? "true" : "false", number: value };
  return { text: shortest(value, dtype), number: Number(value) };
}

/** The shortest text that gives the same bits back. */
function shortest(value, dtype) {
  if (typeof value === "bigint") return String(value);
  if (Object.is(value, -0)) return "-0";
  if (!(dtype === "float32" || dtype === "complex64") || !Number.isFinite(value)) return String(value);
  for (let digits = 1; digits < 9; digits++) {
    const text = Number(value.toPrecision(digits));
    if (Math.fround(text) === value) return String(text);
  }
  return String(Number(value.toPrecision(9)));
}

/** A number of bytes in decimal units. */
export function sizeText(nbytes) {
  if (nbytes === null) return "unknown";
  if (nbytes < 1000) return `${nbytes} bytes`;
  let value = nbytes / 1000;
  for (const unit of "kMGT") {
    if (value < 999.95) return `${value.toFixed(1)} ${unit}B`;
    value /= 1000;
  }
  return `${value.toFixed(1)} PB`;
}
