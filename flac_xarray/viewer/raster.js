// An open file: variables and levels, and tiles fetched, checked, decoded and kept.

import { openContainer } from "./container.js";
import { partArray, partsOf } from "./dtypes.js";
import { FormatError } from "./errors.js";
import { locatePlane, tileIndex, tileNumber, tileShape, tilesIn } from "./grid.js";
import { emptyParts } from "./nodata.js";
import { planRequests, Source } from "./source.js";
import { checkTile } from "./table.js";
import { product } from "./tile.js";

const CACHE_BYTES = 384 * 2 ** 20;

export class Raster {
  static async open(url, pool) {
    const source = new Source(url);
    const { header, index } = await openContainer(source);
    return new Raster(source, header, index, pool);
  }

  constructor(source, header, index, pool) {
    Object.assign(this, { source, header, index, pool });
    this.tiles = new Map(); // "array/number" -> promise of a decoded tile, the one used last at the end
    this.cached = 0;
    this.transform = header.transform;
  }

  /** Arrays at full resolution. */
  get variables() {
    return this.header.arrays.filter(({ level }) => level === 0);
  }

  /** A variable and its overviews, the finest first. */
  levelsOf({ name, role }) {
    const same = this.header.arrays.filter((info) => info.name === name && info.role === role);
    return same.toSorted((a, b) => a.level - b.level);
  }

  /** Rows of the tile table for some tiles of one array. */
  rows(info, numbers) {
    return Promise.all(numbers.map((number) => this.index.row(info.position, number)));
  }

  /** Promises of decoded tiles by number; those that are not here are fetched in as few requests as pay. */
  async load(info, numbers, { signal } = {}) {
    const wanted = numbers.filter((number) => !this.tiles.has(`${info.position}/${number}`));
    if (wanted.length) {
      const rows = await this.rows(info, wanted);
      const missing = wanted.map((number, k) => ({ number, row: rows[k] })).filter(({ number }) => !this.tiles.has(`${info.position}/${number}`));
      const full = missing.filter(({ row }) => row.nbytes);
      const requests = planRequests(full.map(({ row }) => [row.offset, row.offset + row.nbytes]));
      for (const { start, stop, parts } of requests) {
        const body = this.source.read(start, stop, { signal });
        for (const k of parts) {
          const { number, row } = full[k];
          const bytes = body.then((all) => all.subarray(row.offset - start, row.offset - start + row.nbytes));
          this.keep(info, number, this.decode(info, number, row, bytes));
        }
      }
      for (const { number, row } of missing) if (!row.nbytes) this.keep(info, number, this.decode(info, number, row, Promise.resolve(new Uint8Array(0))));
    }
    return numbers.map((number) => this.tile(info, number));
  }

  /** The promise of a tile that was asked for, else undefined. */
  tile(info, number) {
    const key = `${info.position}/${number}`;
    const tile = this.tiles.get(key);
    if (tile) {
      this.tiles.delete(key);
      this.tiles.set(key, tile);
    }
    return tile;
  }

  async decode(info, number, row, promise) {
    const bytes = await promise;
    checkTile(bytes, row, info.position, number);
    const index = tileIndex(info, number);
    const shape = tileShape(info, index);
    const [height, width] = shape.slice(-2);
    const planes = product(shape.slice(0, -2)) * partsOf(info.dtype);
    const about = { info, number, index, nbytes: row.nbytes, offset: row.offset };
    if (!row.nbytes) return { ...about, parts: emptyParts(info, index, shape, planes), planes, height, width, dtype: info.dtype, transforms: "empty" };
    const tile = await this.pool.decode({ bytes: bytes.slice(), shape, dtype: info.dtype });
    return { ...about, ...tile };
  }

  /** Keep a tile until the cache is full; a failed one may be asked for again. */
  keep(info, number, promise) {
    const key = `${info.position}/${number}`;
    this.tiles.set(key, promise);
    promise.then(
      (tile) => {
        promise.tile = tile;
        this.cached += tile.parts.byteLength;
        this.evict();
      },
      () => this.tiles.get(key) === promise && this.tiles.delete(key),
    );
  }

  evict() {
    for (const [key, promise] of this.tiles) {
      if (this.cached <= CACHE_BYTES) return;
      if (!promise.tile) continue;
      this.cached -= promise.tile.parts.byteLength;
      this.tiles.delete(key);
    }
  }

  /** The FLAC stream of one tile, as it lies in the file. */
  async readStream(info, number) {
    const [row] = await this.rows(info, [number]);
    if (!row.nbytes) throw new FormatError(`tile ${number} is empty: there is nothing to hear`);
    const bytes = await this.source.read(row.offset, row.offset + row.nbytes);
    checkTile(bytes, row, info.position, number);
    return bytes;
  }

  /** Parts of a window of one plane, as typed array of its height x width (twice, where pixels are complex). */
  async readWindow(info, plane, window) {
    const { index, within } = locatePlane(info, plane);
    const step = partsOf(info.dtype);
    const out = new (partArray(info.dtype))(step * window.height * window.width);
    const places = tilesIn(info, window);
    const promises = await this.load(info, places.map((place) => tileNumber(info, [...index, ...place])));
    for (const tile of await Promise.all(promises)) {
      const row0 = tile.index.at(-2) * info.tile.at(-2);
      const col0 = tile.index.at(-1) * info.tile.at(-1);
      const left = Math.max(col0, window.col);
      const right = Math.min(col0 + tile.width, window.col + window.width);
      for (let part = 0; part < step; part++) {
        const from = (within * step + part) * tile.height * tile.width;
        for (let r = Math.max(row0, window.row); r < Math.min(row0 + tile.height, window.row + window.height); r++) {
          const start = from + (r - row0) * tile.width + left - col0;
          out.set(tile.parts.subarray(start, start + right - left), (part * window.height + r - window.row) * window.width + left - window.col);
        }
      }
    }
    return out;
  }
}
