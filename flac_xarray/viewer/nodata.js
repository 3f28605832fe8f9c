// The nodata value as bits of a part, and the pixel that empty tiles are made of (docs/format.md, 3.2 and 6).

import { isBig, isComplex, isFloat, partArray, viewAs } from "./dtypes.js";
import { halfToNumber, numberToHalf } from "./half.js";

/** Bits of one (real) part that means nodata, or null where the dtype cannot hold the value. */
export function nodataBits(value, dtype) {
  if (value === null || value === undefined) return null;
  const parts = new (partArray(dtype))(1);
  if (isFloat(dtype)) {
    const number = Number(value);
    if (parts.BYTES_PER_ELEMENT === 2) parts[0] = numberToHalf(number);
    else viewAs(parts, parts.BYTES_PER_ELEMENT === 4 ? Float32Array : Float64Array)[0] = number;
    const held = partValue(parts, 0, dtype);
    return Number.isFinite(number) && !Number.isFinite(held) ? null : parts[0];
  }
  if (!Number.isFinite(Number(value)) || !Number.isInteger(Number(value))) return null;
  const wanted = BigInt(value);
  if (dtype === "bool" && wanted !== 0n && wanted !== 1n) return null;
  parts[0] = isBig(parts) ? wanted : Number(wanted);
  return BigInt(parts[0]) === wanted ? parts[0] : null;
}

/** Nodata of a plane. */
export function planeNodata(info, position) {
  if (info.nodata.length === 1) return info.nodata[0];
  return info.nodata[position[info.dims.indexOf("band")]] ?? null;
}

/** Parts of an empty tile: nodata where its bands agree, else zero bits. */
export function emptyParts(info, index, shape, planes) {
  const parts = new (partArray(info.dtype))(planes * shape.at(-2) * shape.at(-1));
  let values = info.nodata;
  if (values.length > 1) {
    const axis = info.dims.indexOf("band");
    const start = index[axis] * info.tile[axis];
    values = values.slice(start, start + shape[axis]);
  }
  const patterns = new Set(values.map((value) => nodataBits(value, info.dtype)));
  const [bits] = patterns;
  if (patterns.size !== 1 || bits === null) return parts;
  const planeSize = shape.at(-2) * shape.at(-1);
  const step = isComplex(info.dtype) ? 2 : 1; // imaginary parts are zero
  for (let p = 0; p < planes; p += step) parts.fill(bits, p * planeSize, (p + 1) * planeSize);
  return parts;
}

/** One part as a number (BigInt for 64-bit integers). */
export function partValue(parts, at, dtype) {
  if (dtype === "float16") return halfToNumber(parts[at]);
  if (!isFloat(dtype)) return parts[at];
  return viewAs(parts, parts.BYTES_PER_ELEMENT === 4 ? Float32Array : Float64Array)[at];
}
