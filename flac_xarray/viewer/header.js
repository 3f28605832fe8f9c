// The JSON header: arrays and georeference, checked before anything relies on them (docs/format.md, 3).

import { itemSize, partArray } from "./dtypes.js";
import { FormatError } from "./errors.js";

const MAX_TILE_BYTES = 2 ** 30;

/** Parse the header's JSON: {arrays, crs, transform, attrs, tags}. */
export function readHeader(text) {
  let json;
  try {
    json = JSON.parse(keepBigIntegers(text));
  } catch (error) {
    throw new FormatError(`the header does not parse: ${error.message}`);
  }
  if (!Array.isArray(json.arrays) || !json.arrays.length) throw new FormatError("the header holds no array");
  const { transform } = json;
  if (transform != null && !(Array.isArray(transform) && transform.length === 6 && transform.every(Number.isFinite))) {
    throw new FormatError(`the transform ${JSON.stringify(transform)} is not six numbers`);
  }
  const arrays = json.arrays.map(readArray);
  const names = new Set(arrays.map((a) => JSON.stringify([a.name, a.role, a.level])));
  if (names.size !== arrays.length) throw new FormatError("the header holds an array twice");
  return { arrays, crs: json.crs ?? null, transform: transform ?? null, attrs: json.attrs ?? {}, tags: json.tags ?? {} };
}

/** Integers that a double cannot hold (nodata of 64 bits) become strings. */
export function keepBigIntegers(text) {
  return text.replace(/"(?:[^"\\]|\\.)*"|(?<![\d.eE+-])-?\d{16,}(?![\d.eE])/g, (found) => (found[0] === '"' ? found : `"${found}"`));
}

function readArray(json, position) {
  const what = `array ${position} ("${json?.name}")`;
  const isInt = (n, least) => Number.isSafeInteger(n) && n >= least;
  const { name, dtype, dims, shape, tile, table, level = 0, role = "data", bands = [] } = json ?? {};
  if (typeof name !== "string" || typeof dtype !== "string") throw new FormatError(`${what} has no name or dtype`);
  partArray(dtype);
  const lists = [dims, shape, tile];
  if (!lists.every((list) => Array.isArray(list) && list.length === dims.length) || dims.length < 2) {
    throw new FormatError(`${what}: dims, shape and tile do not go together`);
  }
  if (dims.at(-2) !== "y" || dims.at(-1) !== "x") throw new FormatError(`${what}: dims [${dims}] must end in y, x`);
  if (!shape.every((n) => isInt(n, 0)) || !tile.every((n) => isInt(n, 1))) {
    throw new FormatError(`${what}: shape [${shape}] or tile [${tile}] is out of range`);
  }
  const bytes = shape.reduce((size, n, k) => size * Math.max(1, Math.min(n, tile[k])), itemSize(dtype));
  if (bytes > MAX_TILE_BYTES) throw new FormatError(`${what}: a tile of ${bytes} bytes is above the limit of ${MAX_TILE_BYTES}`);
  if (!isInt(level, 0) || !["data", "mask"].includes(role)) throw new FormatError(`${what}: unknown role "${role}" or level ${level}`);
  const nodata = Array.isArray(json.nodata) ? json.nodata : [json.nodata ?? null];
  const nBands = dims.includes("band") ? shape[dims.indexOf("band")] : 1;
  if (nodata.length !== 1 && nodata.length !== nBands) throw new FormatError(`${what}: ${nodata.length} nodata values for ${nBands} bands`);
  const counts = shape.map((n, k) => Math.ceil(n / tile[k]));
  return {
    position, name, dtype, dims, shape, tile, table, level, role, nodata, counts,
    bands: Array.isArray(bands) ? bands : [],
    nTiles: counts.reduce((a, b) => a * b, 1),
    attrs: json.attrs ?? {},
  };
}

/** Affine of a level: that of level 0 seen through larger pixels; null where there is none. */
export function levelTransform(transform, base, info) {
  if (!transform) return null;
  const fx = base.shape.at(-1) / info.shape.at(-1);
  const fy = base.shape.at(-2) / info.shape.at(-2);
  const [a, b, c, d, e, f] = transform;
  return [a * fx, b * fy, c, d * fx, e * fy, f];
}
