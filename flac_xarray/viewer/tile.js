// One tile's FLAC stream to the bits of its pixels (docs/format.md, section 4).

import { isComplex, itemSize, partArray, partsOf } from "./dtypes.js";
import { FormatError } from "./errors.js";
import { decodeFrames } from "./flac.js";
import { readStream } from "./flac_stream.js";
import { undoPlan } from "./pipeline.js";
import { readPlan } from "./plan.js";

const MAX_PIXELS = 2 ** 31;
const SIZES = ["GEOSPATIAL_COUNT", "GEOSPATIAL_HEIGHT", "GEOSPATIAL_WIDTH"];

/** What a tile says about itself: {stream, shape, dtype, plan, transforms}. */
export function readTileHeader(bytes) {
  const stream = readStream(bytes);
  const { comments } = stream;
  const dtype = comments.get("GEOSPATIAL_DTYPE");
  if (dtype === undefined) throw new FormatError("a FLAC stream without the comment GEOSPATIAL_DTYPE is no tile");
  partArray(dtype);
  const text = comments.get("GEOSPATIAL_SHAPE") ?? SIZES.map((name) => comments.get(name) ?? "").join(",");
  if (!/^[0-9]{1,10}(,[0-9]{1,10}){1,31}$/.test(text)) throw new FormatError(`a tile of shape "${text}": expected integers`);
  const shape = text.split(",").map(Number);
  const pixels = product(shape);
  if (!(pixels > 0 && pixels <= MAX_PIXELS)) throw new FormatError(`a tile of shape ${text}: expected 1 to ${MAX_PIXELS} pixels`);
  const transforms = comments.get("GEOSPATIAL_TRANSFORMS") ?? "";
  return { stream, shape, dtype, transforms, plan: readPlan(transforms) };
}

/**
 * Decode a tile that must have this shape and dtype.
 * Returns {parts, planes, height, width, dtype, transforms}; complex planes are two planes of parts.
 */
export async function decodeTile(Flac, bytes, shape, dtype) {
  const tile = readTileHeader(bytes);
  if (tile.dtype !== dtype || String(tile.shape) !== String(shape)) {
    throw new FormatError(`the tile is ${tile.dtype} [${tile.shape}]: expected ${dtype} [${shape}]`);
  }
  const [height, width] = shape.slice(-2);
  const planes = product(shape.slice(0, -2)) * partsOf(dtype);
  const parts = new (partArray(dtype))(planes * height * width);
  const getSamples = (count, channels) => decodeFrames(Flac, tile.stream, bytes, count, channels);
  if (tile.plan.fill) {
    getSamples(1, 1);
    fillPixels(parts, tile.plan.fill, dtype, height * width);
  } else await undoPlan(tile.plan, tile.stream.side, parts, [planes, height, width], getSamples);
  if (dtype === "bool" && parts.some((v) => v > 1)) throw new FormatError("a bool tile holds values beyond 0 and 1");
  return { parts, planes, height, width, dtype, transforms: tile.transforms };
}

/** All pixels are these bytes, one pixel in NumPy's form. */
export function fillPixels(parts, pixel, dtype, planeSize) {
  if (pixel.length !== itemSize(dtype)) throw new FormatError("the fill pattern has another size than a pixel");
  const buffer = pixel.slice().buffer;
  let bits = new parts.constructor(buffer);
  if (dtype === "complex_int16") bits = Int16Array.from(new Float32Array(buffer));
  if (!isComplex(dtype)) return parts.fill(bits[0]);
  for (let start = 0, p = 0; start < parts.length; start += planeSize, p++) parts.fill(bits[p % 2], start, start + planeSize);
}

/** The samples of a tile as sound has them: {channels, bits, sampleRate}. */
export function decodeSamples(Flac, bytes) {
  const stream = readStream(bytes);
  return decodeFrames(Flac, stream, bytes, stream.info.totalSamples, null);
}

export const product = (numbers) => numbers.reduce((a, b) => a * b, 1);
