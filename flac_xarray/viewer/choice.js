// What is shown of a variable: which planes, in which colours. What a user has not chosen is guessed from the file.

import { readColorTable } from "./colormaps.js";
import { planeCount } from "./grid.js";
import { bandOf } from "./readout.js";

/** The first choice for a variable: {planes, colormap, table}. */
export async function firstChoice(info) {
  const count = planeCount(info);
  const table = await tableOf(info, 0);
  const colors = ["red", "green", "blue"].map((color) => info.bands.findIndex((band) => isColor(band ?? {}, color)));
  let planes = [0];
  if (!table && info.dims.length === 3 && colors.every((band) => band >= 0)) planes = colors;
  else if (!table && info.dims.length === 3 && info.dtype === "uint8" && (count === 3 || count === 4)) planes = [0, 1, 2];
  return { planes, table, colormap: table ? "table" : "gray" };
}

/** Whether a band says that it is of a colour, by its role or in its description. */
function isColor({ colorinterp = "", description = "" }, color) {
  return String(colorinterp).toLowerCase() === color || new RegExp(`\\b${color}\\b`, "i").test(description);
}

/** The colour table of a plane's band, null where it has none. */
export async function tableOf(info, plane) {
  const { colormap } = bandOf(info, plane);
  return typeof colormap === "string" ? readColorTable(colormap) : null;
}

/** How a plane is called: its band's description, or its position along each leading dim. */
export function planeName(info, plane) {
  const leading = info.dims.slice(0, -2);
  const { description } = bandOf(info, plane);
  const position = [];
  let rest = plane;
  for (const n of info.shape.slice(0, -2).toReversed()) {
    position.unshift(rest % n);
    rest = Math.floor(rest / n);
  }
  if (leading.length === 1 && leading[0] === "band") return description ? `${plane + 1}  ${description}` : `band ${plane + 1}`;
  return leading.map((dim, k) => `${dim} ${position[k] + 1}`).join(", ") || info.name;
}

/** Bytes are shown as they are when they are colours; everything else is stretched. */
export const wholeRange = (info, planes) => (info.dtype === "uint8" && planes.length === 3 ? [0, 255] : info.dtype === "bool" ? [0, 1] : null);
