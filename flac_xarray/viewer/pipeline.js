// All transforms of a plan, undone in their order (docs/format.md, section 4).

import { takeClasses } from "./classes.js";
import { asSigned, isBig, signedArray, valueArray } from "./dtypes.js";
import { FormatError } from "./errors.js";
import { bandOrder } from "./plan.js";
import { rowOrder, undoRows } from "./predict.js";
import { SideReader, takeGaps, takeMask } from "./side.js";
import { repeat, takePalette, takeResidual, takeRuns } from "./streams.js";
import { addOffset, fillVoid, fromRanks, unorder, unscale } from "./values.js";

/**
 * Fill `parts` of shape [planes, height, width].
 * getSamples(count, channels or null) gives {channels, bits} and refuses any other number of samples.
 */
export async function undoPlan(plan, side, parts, shape, getSamples) {
  const reader = new SideReader(side);
  const valid = plan.void ? await takeMask(reader, parts.length) : null;
  const named = plan.scale?.dtype ?? plan.palette ?? plan.offset?.dtype;
  const Value = named ? valueArray(named) : parts.constructor;
  const palette = plan.palette ? await takePalette(reader, parts.length, parts.constructor) : null;
  const residual = await takeAll(plan, signedArray(Value.BYTES_PER_ELEMENT), shape, valid, reader, getSamples);
  const values = named ? new Value(parts.length) : parts;
  undoPrediction(residual, plan, values, shape);
  if (palette) fromRanks(values, palette, parts);
  else if (plan.offset) addOffset(values, plan.offset.number, parts);
  else if (plan.scale) unscale(values, plan.scale, parts);
  if (plan.order) unorder(parts);
  if (valid) fillVoid(parts, plan.void, valid);
}

/** Residuals in stored order, from samples and side data. */
async function takeAll(plan, Signed, shape, valid, reader, getSamples) {
  const [planes, height, width] = shape;
  const size = planes * height * width;
  let residual;
  if (plan.runs) {
    const { lengths, values } = await takeRuns(reader, size, plan.runs);
    if (values) getSamples(1, 1);
    residual = repeat(values ?? (await takeFlat(plan, Signed, lengths.length, planes, reader, getSamples)), lengths, size, Signed);
    if (values) return residual;
  } else if (plan.classes) {
    getSamples(1, 1);
    return takeClasses(reader, shape, plan.classes, Signed);
  } else if (plan.sparse) {
    const at = await takeGaps(reader, size);
    const flat = await takeFlat(plan, Signed, at.length, planes, reader, getSamples);
    residual = new Signed(size);
    for (let k = 0; k < at.length; k++) residual[at[k]] = flat[k];
  } else if (valid && !plan.across) {
    residual = await takeValid(plan, Signed, shape, valid, reader, getSamples);
  } else residual = await takeFlat(plan, Signed, size, planes, reader, getSamples);
  if (plan.across) sumRows(residual, width);
  return residual;
}

/** Only valid pixels have residuals: put them where they belong, in stored order. */
async function takeValid(plan, Signed, [planes, height, width], valid, reader, getSamples) {
  const rows = rowOrder(height, plan.predictor);
  let count = 0;
  for (const bit of valid) count += bit;
  const flat = await takeFlat(plan, Signed, count, planes, reader, getSamples);
  const residual = new Signed(valid.length);
  let k = 0;
  let o = 0;
  for (let p = 0; p < planes; p++) {
    for (const row of rows) {
      for (let c = 0, v = (p * height + row) * width; c < width; c++, v++, o++) if (valid[v]) residual[o] = flat[k++];
    }
  }
  return residual;
}

async function takeFlat(plan, Signed, count, planes, reader, getSamples) {
  if (plan.packed) {
    getSamples(1, 1);
    return takeResidual(reader, count, Signed);
  }
  const out = new Signed(count);
  if (plan.pixel) {
    if (count % planes) throw new FormatError("planes of a tile cannot be its channels");
    const { channels } = getSamples(count / planes, planes);
    channels.forEach((samples, p) => out.set(isBig(out) ? Array.from(samples, BigInt) : samples, (p * count) / planes));
    return out;
  }
  const { channels, bits } = getSamples(Math.max(count, 1), null);
  joinWords(channels, bits, out);
  return out;
}

/** A residual is the sum of its digits, one a channel, modulo 2^w. */
function joinWords(channels, bits, out) {
  channels.forEach((samples, k) => {
    const shift = bits * k;
    if (isBig(out)) {
      for (let i = 0; i < out.length; i++) out[i] += BigInt(samples[i]) << BigInt(shift);
    } else if (shift < 32) {
      for (let i = 0; i < out.length; i++) out[i] += samples[i] << shift;
    }
  });
}

function sumRows(residual, width) {
  for (let start = 0; start < residual.length; start += width) {
    for (let i = start + 1; i < start + width; i++) residual[i] += residual[i - 1];
  }
}

function undoPrediction(residual, plan, values, [planes, height, width]) {
  const bands = plan.bands ?? new Array(planes).fill(-1);
  if (bands.length !== planes) throw new FormatError(`${bands.length} bands for ${planes} planes`);
  const size = height * width;
  for (let p = 0; p < planes; p++) {
    const rows = values.subarray(p * size, (p + 1) * size);
    // Differences of planes are signed, so that -1 and 1 are neighbours.
    const out = bands[p] >= 0 ? asSigned(rows) : rows;
    undoRows(residual.subarray(p * size, (p + 1) * size), out, height, width, plan.predictor);
  }
  for (const { band, other } of bandOrder(bands)) {
    for (let i = band * size, j = other * size, stop = i + size; i < stop; i++, j++) values[i] += values[j];
  }
}
