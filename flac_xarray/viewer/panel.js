// The panel at the side: facts, bands, stretch. It draws a state and says what is to change in it.

import { planeName } from "./choice.js";
import { COLORMAPS, colormap } from "./colormaps.js";
import { button, element, facts, numberInput, row, select } from "./controls.js";
import { planeCount } from "./grid.js";
import { sizeText } from "./numbers.js";

const MOST_LISTED = 256;
const byId = (id) => document.getElementById(id);

export function showFacts(raster, info) {
  const pixels = raster.header.arrays.reduce((sum, a) => sum + a.shape.reduce((n, m) => n * m, 1) * (a.role === "data" ? bytesOf(a.dtype) : 1), 0);
  const crs = raster.header.crs ?? "none";
  const levels = raster.levelsOf(info).length - 1;
  byId("facts").replaceChildren(
    ...facts({
      size: info.shape.slice(-2).toReversed().join(" \u00d7 "),
      planes: info.shape.slice(0, -2).map((n, k) => `${n} ${info.dims[k]}`).join(" \u00d7 ") || null,
      dtype: info.dtype,
      nodata: info.nodata.some((value) => value !== null) ? [...new Set(info.nodata)].join(", ") : null,
      CRS: crs.length > 40 ? crs.replace(/^[^"]*"([^"]*)".*$/s, "$1") : crs,
      tiles: `${info.nTiles} of ${info.tile.slice(-2).toReversed().join(" \u00d7 ")}`,
      overviews: levels || "none",
      file: raster.source.size === null ? null : sizeText(raster.source.size),
      compression: raster.source.size ? `${(pixels / raster.source.size).toFixed(2)} : 1` : null,
    }),
  );
}

const bytesOf = (dtype) => (dtype === "bool" ? 1 : dtype === "complex_int16" ? 4 : Number(dtype.match(/\d+$/)[0]) / 8);

/** Which variable and planes; `change` is called with what is new. */
export function showBands(raster, state, change) {
  const { info, planes } = state;
  const count = planeCount(info);
  const rows = [];
  if (raster.variables.length > 1) {
    const options = raster.variables.map((v) => [v.position, v.role === "mask" ? `${v.name} (mask)` : v.name]);
    rows.push(row("variable", select(options, info.position, (value) => change({ info: raster.header.arrays[value] }))));
  }
  if (count >= 3) {
    const modes = [[1, "one band"], [3, "three as RGB"]];
    rows.push(row("show", select(modes, planes.length, (value) => change({ planes: value === "3" ? [0, 1, 2] : [planes[0]] }))));
  }
  planes.forEach((plane, k) => {
    const set = (value) => change({ planes: planes.map((old, i) => (i === k ? Math.max(0, Math.min(count - 1, Math.round(value))) : old)) });
    const options = Array.from({ length: Math.min(count, MOST_LISTED) }, (_, p) => [p, planeName(info, p)]);
    const control = count > MOST_LISTED ? numberInput(plane + 1, (value) => set(value - 1)) : select(options, plane, (value) => set(Number(value)));
    control.disabled = count === 1;
    rows.push(row(planes.length === 3 ? ["red", "green", "blue"][k] : `band${count > MOST_LISTED ? ` of ${count}` : ""}`, control));
  });
  byId("bands").replaceChildren(byId("bands").firstElementChild, ...rows);
}

/** Colours and range; a table has no range. */
export function showStretch(state, histograms, change, auto) {
  const { planes, ranges, table } = state;
  const rows = [];
  const isTable = state.colormap === "table";
  if (!isTable) rows.push(histogramCanvas(histograms, ranges));
  if (planes.length === 1 && !isTable) rows.push(rampCanvas(state.colormap));
  if (planes.length === 1) {
    const names = [...(table ? [["table", "the file's own"]] : []), ...COLORMAPS.map((name) => [name, name])];
    rows.push(row("colours", select(names, state.colormap, (value) => change({ colormap: value }))));
  }
  if (!isTable) {
    ranges.forEach((range, k) => {
      const set = (end, value) => change({ ranges: ranges.map((old, i) => (i === k ? old.with(end, value) : old)) });
      const pair = element("div", { className: "pair" }, numberInput(neat(range[0]), (v) => set(0, v)), numberInput(neat(range[1]), (v) => set(1, v)));
      rows.push(row(ranges.length === 3 ? ["red", "green", "blue"][k] : "from, to", pair));
    });
    rows.push(element("div", { className: "buttons" }, button("2\u201398 % of what is seen", auto)));
  }
  const grid = element("input", { type: "checkbox", checked: state.grid, onchange: () => change({ grid: grid.checked }) });
  rows.push(element("label", { style: "display:block;margin-top:8px;color:var(--faint)" }, grid, " outlines of tiles"));
  byId("stretch").replaceChildren(byId("stretch").firstElementChild, ...rows);
}

const neat = (value) => Number(value.toPrecision(6));

function histogramCanvas(histograms, ranges) {
  const canvas = element("canvas", { id: "histogram", width: 512, height: 108 });
  const g = canvas.getContext("2d");
  const colors = histograms.length === 3 ? ["#e06c5c", "#69b56d", "#5c93e0"] : ["#8fb9b0"];
  g.globalCompositeOperation = "screen";
  histograms.forEach(({ counts, low, high }, k) => {
    const most = Math.max(1, ...counts);
    g.fillStyle = colors[k];
    counts.forEach((n, i) => g.fillRect((i * 512) / counts.length, 108 - (n / most) * 100, 512 / counts.length, 108));
    g.fillStyle = "#fff";
    for (const end of ranges[k]) g.fillRect(Math.max(0, Math.min(510, ((end - low) / (high - low || 1)) * 512 - 1)), 0, 2, 108);
  });
  return canvas;
}

function rampCanvas(name) {
  const canvas = element("canvas", { id: "ramp", width: 256, height: 1 });
  const image = new ImageData(256, 1);
  const colors = colormap(name);
  for (let i = 0; i < 256; i++) image.data.set([colors[3 * i], colors[3 * i + 1], colors[3 * i + 2], 255], 4 * i);
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

export function showCounts(source) {
  const { requests, bytes, size } = source;
  const share = size ? `, ${((100 * bytes) / size).toFixed(bytes < size / 100 ? 2 : 1)} % of the file` : "";
  const footer = byId("counts");
  footer.replaceChildren(
    element("b", { textContent: `${requests} ${requests === 1 ? "request" : "requests"}` }),
    `, ${sizeText(bytes)}${share}`,
    ...(source.whole ? [element("p", { textContent: "This server ignores range requests: the file was fetched whole." })] : []),
  );
  Object.assign(footer.dataset, { requests, bytes });
}
