// Which tiles a picture of some planes is made of, and their numbers.

import { isComplex } from "./dtypes.js";
import { locatePlane, planeCount, tileNumber } from "./grid.js";
import { nodataBits, planeNodata } from "./nodata.js";
import { planeNumbers } from "./numbers.js";

/** For each plane, the tile at a place of the grid that holds it: {info, number, within, nodata}. */
export function tilesOf(info, planes, place) {
  return planes.map((plane) => {
    const { index, within, position } = locatePlane(info, plane);
    const nodata = isComplex(info.dtype) ? null : nodataBits(planeNodata(info, position), info.dtype);
    return { info, number: tileNumber(info, [...index, ...place]), within, nodata };
  });
}

/** The band or the mask that says where a variable's pixels are valid: its tile at a place, or nothing. */
export function opacityOf(raster, info, place) {
  const axis = info.dims.indexOf("band");
  const alpha = info.bands.findIndex((band) => String(band?.colorinterp).toLowerCase() === "alpha");
  if (alpha >= 0 && info.dims.length === 3 && axis === 0) return tilesOf(info, [alpha], place);
  const mask = raster.header.arrays.find((each) => each.role === "mask" && each.level === info.level);
  const isAlike = (k) => mask.shape.at(k) === info.shape.at(k) && mask.tile.at(k) === info.tile.at(k);
  if (info.role === "mask" || !mask || !isAlike(-1) || !isAlike(-2) || planeCount(mask) !== 1) return [];
  return tilesOf(mask, [0], place);
}

/** Layers of decoded tiles, or null where one is not here yet. */
export function layersOf(raster, sources) {
  const layers = [];
  for (const { info, number, within, nodata } of sources) {
    const tile = raster.tile(info, number)?.tile;
    if (!tile) return null;
    const size = tile.height * tile.width;
    layers.push({ tile, numbers: planeNumbers(tile, within), parts: tile.parts.subarray(within * size, (within + 1) * size), nodata });
  }
  return layers;
}
