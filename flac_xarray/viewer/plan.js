// Which transforms a tile uses, from the text in its comments (docs/format.md, 4.3).

import { valueArray } from "./dtypes.js";
import { FormatError } from "./errors.js";

const PREDICTORS = ["up", "lift", "smooth"];
const FLAGS = ["order", "across", "sparse", "pixel", "packed"];
const ORDER = [
  "fill", "void", "order", "scale", "palette", "offset", "bands", "predictor",
  "across", "runs", "sparse", "classes", "pixel", "packed",
];

/** Parse a plan. A token that is not known here is refused, never skipped. */
export function readPlan(text) {
  const plan = { predictor: "none" };
  let last = -1;
  for (const token of text.split(/\s+/).filter(Boolean)) {
    const [name, ...rest] = token.split(":");
    const value = rest.length ? rest.join(":") : null;
    const field = PREDICTORS.includes(name) ? "predictor" : name;
    const at = ORDER.indexOf(field);
    if (at < 0) {
      throw new FormatError(`transform "${token}" is unknown to this page: it is older than the file, or the file is damaged`);
    }
    if (at <= last) throw new FormatError(`transform "${token}" of "${text}" is out of order`);
    last = at;
    plan[field] = readValue(field, name, value);
  }
  if ([plan.scale, plan.palette, plan.offset].filter(Boolean).length > 1) {
    throw new FormatError(`the plan "${text}" has more than one of scale, palette and offset`);
  }
  return plan;
}

function readValue(field, name, value) {
  if (FLAGS.includes(field) || field === "predictor") {
    if (value !== null) throw new FormatError(`transform "${name}" takes no parameter`);
    return field === "predictor" ? name : true;
  }
  if (value === null) throw new FormatError(`transform "${name}" needs a parameter`);
  const read = { fill: readHex, void: readHex, scale: readScale, palette: readDtype, offset: readOffset, bands: readBands, runs: readRuns, classes: readBits };
  return read[field](value);
}

function readHex(value) {
  if (!/^([0-9a-fA-F]{2})+$/.test(value)) throw new FormatError(`"${value}" is not hexadecimal`);
  return Uint8Array.from(value.match(/../g), (pair) => parseInt(pair, 16));
}

function readDtype(value) {
  valueArray(value);
  return value;
}

function readScale(value) {
  const match = /^([^,]+),([*/])([0-9.eE+-]+)$/.exec(value);
  const step = match ? Number(match[3]) : NaN;
  if (!(step > 0 && step < Infinity)) throw new FormatError(`scale "${value}": expected a dtype, * or /, and a positive number`);
  return { dtype: readDtype(match[1]), isDivisor: match[2] === "/", step };
}

function readOffset(value) {
  const match = /^([^,]+),(-?\d{1,20})$/.exec(value);
  if (!match) throw new FormatError(`offset "${value}": expected a dtype and an integer`);
  return { dtype: readDtype(match[1]), number: BigInt(match[2]) };
}

function readRuns(value) {
  if (value !== "apart" && value !== "pairs") throw new FormatError(`runs "${value}": expected apart or pairs`);
  return value;
}

function readBits(value) {
  if (!/^[1-8]$/.test(value)) throw new FormatError(`classes "${value}": expected 1 to 8 bits`);
  return Number(value);
}

/** For each plane the plane that was subtracted from it, or -1. */
function readBands(value) {
  const previous = /^previous,(\d{1,7})$/.exec(value);
  if (previous) return Array.from({ length: Number(previous[1]) }, (_, k) => k - 1);
  const bands = value.split(",").map((band) => (band === "-" ? -1 : /^\d{1,9}$/.test(band) ? Number(band) : NaN));
  if (bands.length > 64 || bands.some((band) => !(band < bands.length))) {
    throw new FormatError(`bands "${value}": expected at most 64 planes and - or a plane for each`);
  }
  for (let start = 0; start < bands.length; start++) {
    let steps = 0;
    for (let band = start; band >= 0; band = bands[band]) {
      if (steps++ > bands.length) throw new FormatError(`bands "${value}" refer to each other in a circle`);
    }
  }
  return bands;
}

/** Planes with a reference, each behind the plane it refers to. */
export function bandOrder(bands) {
  const depth = (band) => {
    let steps = 0;
    for (; bands[band] >= 0; band = bands[band]) steps++;
    return steps;
  };
  return bands
    .map((other, band) => ({ band, other, depth: other === band - 1 && band > 64 ? band : depth(band) }))
    .filter(({ other }) => other >= 0)
    .sort((a, b) => a.depth - b.depth || a.band - b.band);
}
