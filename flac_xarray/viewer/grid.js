// Tiles of an array: which tile covers what (docs/format.md, 5). Tiles are numbered in C order.

/** Number of a tile index. */
export function tileNumber(info, index) {
  return index.reduce((number, i, k) => number * info.counts[k] + i, 0);
}

/** Index of a tile number. */
export function tileIndex(info, number) {
  const index = [];
  for (const n of info.counts.toReversed()) {
    index.unshift(number % n);
    number = Math.floor(number / n);
  }
  return index;
}

/** Shape of a tile, cut to the array. */
export function tileShape(info, index) {
  return index.map((i, k) => Math.min(info.tile[k], info.shape[k] - i * info.tile[k]));
}

/** Planes of an array: the product of its leading dims. */
export function planeCount(info) {
  return info.shape.slice(0, -2).reduce((a, b) => a * b, 1);
}

/** Where plane p lies: the leading tile index, and the plane inside that tile. */
export function locatePlane(info, plane) {
  const position = [];
  for (const n of info.shape.slice(0, -2).toReversed()) {
    position.unshift(plane % n);
    plane = Math.floor(plane / n);
  }
  const index = position.map((p, k) => Math.floor(p / info.tile[k]));
  const shape = tileShape(info, [...index, 0, 0]);
  const within = position.reduce((at, p, k) => at * shape[k] + (p - index[k] * info.tile[k]), 0);
  return { index, within, position };
}

/** Tiles (row, col of tiles) that a window of pixels touches. */
export function tilesIn(info, { row, col, height, width }) {
  const [th, tw] = info.tile.slice(-2);
  const [ny, nx] = info.counts.slice(-2);
  const tiles = [];
  const clamp = (i, n) => Math.max(0, Math.min(n - 1, i));
  if (height <= 0 || width <= 0 || !ny || !nx) return tiles;
  for (let i = clamp(Math.floor(row / th), ny); i <= clamp(Math.ceil((row + height) / th) - 1, ny); i++) {
    for (let j = clamp(Math.floor(col / tw), nx); j <= clamp(Math.ceil((col + width) / tw) - 1, nx); j++) tiles.push([i, j]);
  }
  return tiles;
}
