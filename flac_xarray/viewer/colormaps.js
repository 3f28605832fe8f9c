// Colours for values from low to high, 256 steps of red, green, blue; and colour tables of files.

import { inflate } from "./inflate.js";
import { FormatError } from "./errors.js";

const ANCHORS = {
  gray: "000000 ffffff",
  viridis: "440154 482878 3e4989 31688e 26828e 1f9e89 35b779 6ece58 b5de2b fde725",
  magma: "000004 180f3d 440f76 721f81 9e2f7f cd4071 f1605d fd9668 feca8d fcfdbf",
  terrain: "1d4d6b 2f7f7a 4f9d5d 9dbf6a e3d58e c79a5f 96664a 8c7b75 c9c4c1 ffffff",
  turbo: "30123b 4145ab 4675ed 39a2fc 1bcfd4 24eca6 61fc6c a4fc3b d1e834 f3c63a fe9b2d f36315 d93806 b11901 7a0402",
  "red-blue": "67001f b2182b d6604d f4a582 fddbc7 f7f7f7 d1e5f0 92c5de 4393c3 2166ac 053061",
};
const MAX_COLORS = 65536;

export const COLORMAPS = Object.keys(ANCHORS);

/** 256 colours, three bytes each. */
export function colormap(name) {
  const anchors = ANCHORS[name].split(" ").map((hex) => [0, 2, 4].map((at) => parseInt(hex.slice(at, at + 2), 16)));
  const out = new Uint8Array(768);
  for (let i = 0; i < 256; i++) {
    const at = (i / 255) * (anchors.length - 1);
    const k = Math.min(Math.floor(at), anchors.length - 2);
    for (let c = 0; c < 3; c++) out[3 * i + c] = Math.round(anchors[k][c] + (at - k) * (anchors[k + 1][c] - anchors[k][c]));
  }
  return out;
}

/** A band's colour table: four bytes for each pixel value from 0 on (docs/format.md, 3.2). */
export async function readColorTable(text) {
  let packed;
  try {
    packed = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  } catch (error) {
    throw new FormatError(`the colour table does not parse: ${error.message}`);
  }
  const colors = await inflate(packed, 4 * MAX_COLORS, "deflate");
  if (colors.length % 4) throw new FormatError(`a colour table of ${colors.length} bytes: expected 4 for each colour`);
  return colors;
}
