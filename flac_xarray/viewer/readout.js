// What is under the pointer: row and column, coordinates, and the values of the planes that are shown.

import { levelTransform } from "./header.js";
import { tilesOf } from "./layers.js";
import { pixelText } from "./numbers.js";

/** Tell a point of the screen: {text parts} or null outside the raster. */
export function tellPixel(map, point) {
  const { camera, raster } = map;
  const at = camera.toRaster(point);
  if (at.x < 0 || at.y < 0 || at.x >= camera.raster.width || at.y >= camera.raster.height) return null;
  const info = camera.level(map.levels);
  const col = Math.min(info.shape.at(-1) - 1, Math.floor((at.x * info.shape.at(-1)) / camera.raster.width));
  const row = Math.min(info.shape.at(-2) - 1, Math.floor((at.y * info.shape.at(-2)) / camera.raster.height));
  const place = [Math.floor(row / info.tile.at(-2)), Math.floor(col / info.tile.at(-1))];
  const values = tilesOf(info, map.planes, place).map(({ number, within }, k) => {
    const tile = raster.tile(info, number)?.tile;
    if (!tile) return "\u2026";
    const found = pixelText(tile, within, row - place[0] * info.tile.at(-2), col - place[1] * info.tile.at(-1));
    return withUnits(found, bandOf(info, map.planes[k]));
  });
  const transform = levelTransform(raster.transform, map.levels[0], info);
  return { info, row, col, place, values, coordinate: transform && coordinateText(raster.transform, at) };
}

/** Put a tile's words into an element: labels faint, values strong. */
export function showPixel(element, told) {
  element.replaceChildren();
  if (!told) return;
  const add = (name, text) => {
    const strong = Object.assign(document.createElement("b"), { textContent: text });
    strong.dataset.name = name;
    element.append(strong, Object.assign(document.createElement("span"), { textContent: ` ${name}` }));
  };
  add(told.values.length > 1 ? "values" : "value", told.values.join("  "));
  if (told.coordinate) add("x, y", told.coordinate);
  add(told.info.level ? `row, col of overview ${told.info.level}` : "row, col", `${told.row}, ${told.col}`);
}

/** The object that describes a plane's band, {} where there is none. */
export function bandOf(info, plane) {
  const axis = info.dims.indexOf("band");
  if (axis < 0) return info.bands[0] ?? {};
  const inner = info.shape.slice(axis + 1, -2).reduce((a, b) => a * b, 1);
  return info.bands[Math.floor(plane / inner) % info.shape[axis]] ?? {};
}

function withUnits({ text, number }, { scale = 1, offset = 0, units = "" }) {
  if (number === null || (scale === 1 && offset === 0)) return units ? `${text} ${units}` : text;
  return `${text} = ${Number((number * scale + offset).toPrecision(9))}${units ? ` ${units}` : ""}`;
}

/** Coordinates with as many digits as a pixel has a use for. */
function coordinateText([a, b, c, d, e, f], { x, y }) {
  const pixel = Math.max(Math.min(Math.hypot(a, d), Math.hypot(b, e)), 1e-12);
  const digits = Math.max(0, Math.min(12, Math.ceil(-Math.log10(pixel)) + 1));
  return `${(a * x + b * y + c).toFixed(digits)}, ${(d * x + e * y + f).toFixed(digits)}`;
}
