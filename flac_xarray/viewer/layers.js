// Which tiles a picture of some planes is made of, and their numbers.

import { isComplex } from "./dtypes.js";
import { locatePlane, tileNumber } from "./grid.js";
import { nodataBits, planeNodata } from "./nodata.js";
import { planeNumbers } from "./numbers.js";

/** For each plane, the tile at a place of the grid that holds it: {number, within, nodata}. */
export function tilesOf(info, planes, place) {
  return planes.map((plane) => {
    const { index, within, position } = locatePlane(info, plane);
    const nodata = isComplex(info.dtype) ? null : nodataBits(planeNodata(info, position), info.dtype);
    return { number: tileNumber(info, [...index, ...place]), within, nodata };
  });
}

/** Layers of decoded tiles, or null where one is not here yet. */
export function layersOf(raster, info, sources) {
  const layers = [];
  for (const { number, within, nodata } of sources) {
    const tile = raster.tile(info, number)?.tile;
    if (!tile) return null;
    const size = tile.height * tile.width;
    layers.push({ tile, numbers: planeNumbers(tile, within), parts: tile.parts.subarray(within * size, (within + 1) * size), nodata });
  }
  return layers;
}
