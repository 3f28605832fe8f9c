// Dtypes of the format and the typed arrays that hold their bits (docs/format.md, 4.1).

import { FormatError } from "./errors.js";

// The parts of a pixel: integers with its bits. Complex pixels have two.
const PARTS = {
  bool: Uint8Array,
  int8: Int8Array,
  uint8: Uint8Array,
  int16: Int16Array,
  uint16: Uint16Array,
  int32: Int32Array,
  uint32: Uint32Array,
  int64: BigInt64Array,
  uint64: BigUint64Array,
  float16: Int16Array,
  float32: Int32Array,
  float64: BigInt64Array,
  complex64: Int32Array,
  complex128: BigInt64Array,
  complex_int16: Int16Array,
};
const VALUES = {
  u1: Uint8Array, u2: Uint16Array, u4: Uint32Array,
  i1: Int8Array, i2: Int16Array, i4: Int32Array,
};
const SIGNED = { 1: Int8Array, 2: Int16Array, 4: Int32Array, 8: BigInt64Array };
const UNSIGNED = { 1: Uint8Array, 2: Uint16Array, 4: Uint32Array, 8: BigUint64Array };

function lookUp(table, name) {
  if (!Object.hasOwn(table, name)) {
    throw new FormatError(`unknown dtype "${name}": expected one of ${Object.keys(table).join(", ")}`);
  }
  return table[name];
}

export const partArray = (dtype) => lookUp(PARTS, dtype);
export const valueArray = (name) => lookUp(VALUES, name);
export const isComplex = (dtype) => dtype.startsWith("complex");
export const isFloat = (dtype) => dtype.startsWith("float") || dtype === "complex64" || dtype === "complex128";
export const partsOf = (dtype) => (isComplex(dtype) ? 2 : 1);
export const isBig = (array) => array instanceof BigInt64Array || array instanceof BigUint64Array;

/** Bytes of one pixel in NumPy's form; there complex_int16 is complex64. */
export function itemSize(dtype) {
  return dtype === "complex_int16" ? 8 : partArray(dtype).BYTES_PER_ELEMENT * partsOf(dtype);
}

/** The same bits as integers of the same width that are signed, or not. */
export function asSigned(array) {
  return viewAs(array, SIGNED[array.BYTES_PER_ELEMENT]);
}
export function asUnsigned(array) {
  return viewAs(array, UNSIGNED[array.BYTES_PER_ELEMENT]);
}
export function viewAs(array, Type) {
  return new Type(array.buffer, array.byteOffset, array.byteLength / Type.BYTES_PER_ELEMENT);
}
export const signedArray = (width) => SIGNED[width];
