// The first bytes of a file: length, JSON header, seal, tile tables (docs/format.md, 2 and 7).

import { crc32 } from "./crc32.js";
import { FormatError } from "./errors.js";
import { readHeader } from "./header.js";
import { checkOverlap, hex, readRows, ROW } from "./table.js";
import { readTileHeader } from "./tile.js";

const PREFETCH = 64 * 1024;
const MAX_HEADER = 64 * 2 ** 20;
const WHOLE_TABLES = 4 * 2 ** 20;
const PAGE_ROWS = 4096;
const START = '{"format":"flacraster","version":"';
const MAJOR = "1";
const MAX_BARE_TILE = 256 * 2 ** 20;

/** Open a file: {header, index}. One request for most files. */
export async function openContainer(source) {
  let prefix = await source.read(0, PREFETCH, { isPrefix: true });
  const extend = async (stop, what) => {
    if (prefix.length >= stop) return prefix;
    if (source.size !== null && stop > source.size) {
      throw new FormatError(`the file ends in ${what}: ${stop} bytes needed, ${source.size} found`);
    }
    const more = await source.read(prefix.length, stop);
    const both = new Uint8Array(stop);
    both.set(prefix);
    both.set(more, prefix.length);
    prefix = both;
    return prefix;
  };
  if (ascii(prefix, 0, 4) === "fLaC") return openBareTile(source, extend);
  const found = ascii(prefix, 4, START.length);
  if (found !== START) throw new FormatError(`not a FLAC raster: the file begins with ${JSON.stringify(ascii(prefix, 0, 16))}`);
  const version = ascii(prefix, 4 + START.length, 16).split('"')[0];
  if (version.split(".")[0] !== MAJOR) throw new FormatError(`written in format ${version}: this page reads ${MAJOR}.x, a newer one is needed`);
  const length = new DataView(prefix.buffer, prefix.byteOffset).getUint32(0);
  if (length > MAX_HEADER) throw new FormatError(`the header claims ${length} bytes, above the limit of ${MAX_HEADER}`);
  const end = 4 + length;
  await extend(end + ROW, "the header");
  const promised = checkSeal(prefix, end, source.size);
  const header = readHeader(new TextDecoder().decode(prefix.subarray(4, end)));
  const dataStart = placeTables(header, end + ROW);
  const index = new TileIndex(source, header, dataStart, source.size ?? (promised || null));
  if (dataStart - (end + ROW) > Math.max(WHOLE_TABLES, prefix.length - end - ROW)) return { header, index };
  await extend(dataStart, "the tile table");
  index.takeTables(prefix);
  return { header, index };
}

/** Compare the seal with the bytes before it; give the size that it promises. */
function checkSeal(prefix, end, size) {
  const seal = new DataView(prefix.buffer, prefix.byteOffset + end, ROW);
  const magic = ascii(prefix, end, 4);
  const crc = seal.getUint32(4, true);
  const found = crc32(prefix.subarray(0, end));
  if (magic !== "FXRS" || crc !== found) {
    throw new FormatError(`the header is damaged: its checksum is ${hex(found)}, the seal says ${hex(crc)} (${JSON.stringify(magic)})`);
  }
  const promised = Number(seal.getBigUint64(8, true));
  if (promised && size !== null && promised !== size) {
    throw new FormatError(`the file is truncated or was changed: it has ${size} bytes, its header promises ${promised}`);
  }
  return promised;
}

/** Tables follow one another behind the seal, in the order of the arrays. */
function placeTables(header, start) {
  let at = start;
  for (const array of header.arrays) {
    if (array.table !== at) throw new FormatError(`the table of array "${array.name}" is at ${array.table}: expected ${at}`);
    at += array.nTiles * ROW;
  }
  return at;
}

/** Tile tables of one file, whole or by pages of rows as tiles are asked for. */
class TileIndex {
  constructor(source, header, dataStart, fileSize) {
    Object.assign(this, { source, header, dataStart, fileSize });
    this.tables = null;
    this.pages = new Map();
  }

  takeTables(prefix) {
    this.tables = this.header.arrays.map(({ table, nTiles }) =>
      readRows(prefix.subarray(table, table + nTiles * ROW), 0, this.dataStart, this.fileSize),
    );
    checkOverlap(this.tables);
  }

  /** Row of one tile. */
  async row(array, number) {
    if (this.tables) return this.tables[array][number];
    const page = Math.floor(number / PAGE_ROWS);
    const key = `${array}/${page}`;
    if (!this.pages.has(key)) this.pages.set(key, this.readPage(array, page).catch((error) => (this.pages.delete(key), Promise.reject(error))));
    return (await this.pages.get(key))[number - page * PAGE_ROWS];
  }

  async readPage(array, page) {
    const { table, nTiles } = this.header.arrays[array];
    const first = page * PAGE_ROWS;
    const stop = Math.min(first + PAGE_ROWS, nTiles);
    const bytes = await this.source.read(table + first * ROW, table + stop * ROW);
    return readRows(bytes, first, this.dataStart, this.fileSize);
  }
}

/** A tile alone is a dataset of one tile; its comments are the header (docs/format.md, 4.9). */
async function openBareTile(source, extend) {
  if (source.size === null || source.size > MAX_BARE_TILE) {
    throw new FormatError(`a tile alone of ${source.size ?? "unknown"} bytes: expected at most ${MAX_BARE_TILE}`);
  }
  const { shape, dtype, stream } = readTileHeader(await extend(source.size, "the tile"));
  const comment = (name) => stream.comments.get(`GEOSPATIAL_${name}`) ?? null;
  const leading = shape.slice(0, -2).map((_, k, all) => (all.length === 1 ? "band" : `dim_${k}`));
  const array = { name: "band_data", dtype, dims: [...leading, "y", "x"], shape, tile: shape, table: 0, nodata: readNodata(comment("NODATA")) };
  const header = readHeader(JSON.stringify({ arrays: [array], crs: comment("CRS"), transform: JSON.parse(comment("TRANSFORM") ?? "null") }));
  const index = new TileIndex(source, header, 0, source.size);
  index.tables = [[{ offset: 0, nbytes: source.size, crc: null }]];
  return { header, index };
}

/** A comment's number is text as Python writes it. */
function readNodata(text) {
  if (text === null) return null;
  const names = { nan: "NaN", inf: "Infinity", "-inf": "-Infinity" };
  return names[text] ?? (/^-?\d{16,}$/.test(text) ? text : Number(text));
}

function ascii(bytes, from, n) {
  return String.fromCharCode(...bytes.subarray(from, from + n));
}
