// Rows of tile tables, and the check that a tile is whole and in its place (docs/format.md, 2.3 and 6).

import { crc32 } from "./crc32.js";
import { FormatError } from "./errors.js";

export const ROW = 16;

/** Read row k: {offset, nbytes, crc}. */
function readRow(view, k) {
  return {
    offset: Number(view.getBigUint64(k * ROW, true)),
    nbytes: view.getUint32(k * ROW + 8, true),
    crc: view.getUint32(k * ROW + 12, true),
  };
}

/** Rows from bytes, the first being that of tile `first`; each is checked against the file. */
export function readRows(bytes, first, dataStart, fileSize) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const rows = [];
  for (let k = 0; k < bytes.length / ROW; k++) {
    const row = readRow(view, k);
    const { offset, nbytes } = row;
    if (nbytes ? offset < dataStart : offset) {
      throw new FormatError(`tile ${first + k} at byte ${offset} (${nbytes} bytes) lies outside the tiles, which begin at ${dataStart}`);
    }
    if (nbytes && fileSize !== null && offset + nbytes > fileSize) {
      throw new FormatError(`tile ${first + k} ends at byte ${offset + nbytes}: the file has ${fileSize}`);
    }
    rows.push(row);
  }
  return rows;
}

/** Refuse tiles that share bytes. */
export function checkOverlap(tables) {
  const rows = tables.flat().filter((row) => row.nbytes);
  rows.sort((a, b) => a.offset - b.offset);
  for (let k = 1; k < rows.length; k++) {
    const stop = rows[k - 1].offset + rows[k - 1].nbytes;
    if (stop > rows[k].offset) throw new FormatError(`two tiles overlap: one ends at byte ${stop}, another begins at ${rows[k].offset}`);
  }
}

/** Compare a tile's bytes and place with its row. */
export function checkTile(bytes, row, array, number) {
  if (row.crc === null) return; // a bare tile has no table
  const place = new DataView(new ArrayBuffer(24));
  place.setUint32(0, array, true);
  place.setBigUint64(4, BigInt(number), true);
  place.setBigUint64(12, BigInt(row.offset), true);
  place.setUint32(20, row.nbytes, true);
  const found = crc32(new Uint8Array(place.buffer), crc32(bytes));
  if (found === row.crc) return;
  const state = row.offset || row.nbytes || row.crc ? "damaged" : "missing";
  throw new FormatError(`tile ${number} at byte ${row.offset} is ${state}: checksum ${hex(row.crc)} expected, ${hex(found)} found`);
}

export const hex = (n) => n.toString(16).padStart(8, "0");
