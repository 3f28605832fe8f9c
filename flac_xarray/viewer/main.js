// The page: open the file that the address names, show it, and follow what the user does.

import { Camera } from "./camera.js";
import { firstChoice, tableOf, wholeRange } from "./choice.js";
import { colormap } from "./colormaps.js";
import { listen } from "./gestures.js";
import { layersOf, tilesOf } from "./layers.js";
import { MapView } from "./map.js";
import { showBands, showCounts, showFacts, showStretch } from "./panel.js";
import { DecoderPool } from "./pool.js";
import { Raster } from "./raster.js";
import { showPixel, tellPixel } from "./readout.js";
import { histogram, percentiles, sampleOf } from "./stretch.js";
import { showNoTile, showTile } from "./tile_panel.js";

const byId = (id) => document.getElementById(id);
const pool = new DecoderPool();
const viewer = { pool, Raster };
globalThis.flacViewer = viewer;

const setState = (state) => (document.documentElement.dataset.state = state);

/** Say what went wrong, and offer to open something else. */
function showMessage(title, text, isOpen = false) {
  const box = byId("message");
  box.querySelector("h2").textContent = title;
  box.querySelector("p").textContent = text;
  box.hidden = false;
  setState(isOpen ? "idle" : "error");
}

async function openFile(url, name) {
  byId("message").hidden = true;
  byId("file").textContent = name;
  document.title = name;
  try {
    const raster = await Raster.open(url, pool);
    await start(raster);
  } catch (error) {
    console.error(error);
    showMessage("This file cannot be shown", error.message);
  }
}

async function start(raster) {
  const canvas = byId("map");
  const state = { info: raster.variables.find(({ role }) => role === "data") ?? raster.variables[0], grid: false };
  if (state.info.shape.some((n) => n === 0)) throw new Error("the raster has no pixels");
  const camera = new Camera(state.info.shape.at(-1), state.info.shape.at(-2));
  const map = new MapView(canvas, raster, camera, (news) => follow(news));
  Object.assign(viewer, { raster, camera, map, state, pick: (point) => pickTile(point) });
  raster.source.onchange = () => showCounts(raster.source);
  let pointer = null;
  let isAuto = "first"; // ranges are those of the first tile that arrives, then those of the whole first view

  const layers = () => {
    const { info, places } = map.visible();
    const found = (places ?? []).map((place) => layersOf(raster, map.sourcesOf(info, place))).filter(Boolean);
    return state.planes.map((_, k) => sampleOf(found.map((each) => each[k])));
  };
  const measure = () => {
    const samples = layers();
    state.histograms = samples.map((sorted) => histogram(sorted));
    return samples.map((sorted) => percentiles(sorted));
  };
  const show = () => {
    map.showGrid = state.grid;
    const isTable = state.colormap === "table";
    map.show(raster.levelsOf(state.info), state.planes, {
      ranges: state.ranges,
      colors: isTable ? null : colormap(state.colormap),
      table: isTable && state.planes.length === 1 ? state.table : null,
    });
    showBands(raster, state, change);
    showStretch(state, state.histograms, change, () => change({ ranges: measure() }));
  };
  const reset = () => {
    const whole = wholeRange(state.info, state.planes);
    state.ranges = state.planes.map(() => whole ?? [0, 1]);
    state.histograms = state.planes.map(() => ({ counts: new Uint32Array(1), low: 0, high: 1 }));
    isAuto = "first";
  };
  const change = async (news) => {
    Object.assign(state, news);
    if (news.info) Object.assign(state, await firstChoice(news.info));
    if (news.info) showFacts(raster, state.info);
    if (news.planes) state.table = await tableOf(state.info, state.planes[0]);
    if (state.colormap === "table" && !(state.table && state.planes.length === 1)) state.colormap = "gray";
    if (news.info || news.planes) reset();
    show();
  };
  const follow = ({ error, tooMany, tooMuch, allow, enough, arrived, idle }) => {
    const box = byId("notice");
    const say = (text, button = false) => {
      box.hidden = false;
      box.firstElementChild.textContent = text;
      box.lastElementChild.hidden = !button;
    };
    if (error) say(error.message);
    if (tooMany) say(`Zoom in to see pixels: ${tooMany} tiles are too many for one view. Overviews in the file would help.`);
    if (tooMuch) say(`This view needs ${tooMuch}. Zoom in, or`, true);
    if (allow) box.lastElementChild.onclick = () => ((map.allowed = allow), map.redraw());
    if (enough && !map.failed.size) box.hidden = true;
    if (arrived !== undefined || idle) settle();
  };
  const settle = () => {
    if (isAuto && (isAuto === "first" || !map.pending)) {
      const ranges = measure();
      const isFixed = wholeRange(state.info, state.planes) !== null;
      if (!isFixed) state.ranges = ranges;
      isAuto = map.pending > 0;
      show();
    }
    if (pointer) showPixel(byId("readout"), tellPixel(map, pointer));
    if (!map.pending) setState("ready");
  };
  const pickTile = async (point) => {
    const told = tellPixel(map, point);
    if (!told) return;
    const number = tilesOf(told.info, state.planes, told.place)[0].number;
    const tile = await raster.tile(told.info, number)?.catch(() => null);
    if (!tile) return;
    map.selected = { info: told.info, place: told.place };
    map.redraw();
    showTile(raster, pool, tile, { info: told.info, number });
  };

  fitCanvas(canvas, map);
  camera.fit();
  listen(canvas, {
    move: (move) => (move(camera), map.redraw()),
    tap: pickTile,
    hover: (point) => ((pointer = point), showPixel(byId("readout"), point && tellPixel(map, point))),
  });
  for (const [id, move] of [["zoom-in", (c) => c.zoom(1.6)], ["zoom-out", (c) => c.zoom(1 / 1.6)], ["fit", (c) => c.fit()]]) {
    byId(id).onclick = () => (move(camera), map.redraw());
  }
  showNoTile();
  showCounts(raster.source);
  await change({ info: state.info });
}

/** The canvas has as many pixels as the screen has for it. */
function fitCanvas(canvas, map) {
  const resize = () => {
    const box = canvas.getBoundingClientRect();
    const wasFit = Math.abs(map.camera.scale - map.camera.fitScale) < 1e-9;
    canvas.width = Math.max(1, Math.round(box.width * devicePixelRatio));
    canvas.height = Math.max(1, Math.round(box.height * devicePixelRatio));
    map.camera.size = { width: canvas.width, height: canvas.height };
    if (wasFit) map.camera.fit();
    if (map.levels) map.redraw();
  };
  resize();
  new ResizeObserver(resize).observe(canvas);
}

byId("message").querySelector("input[type=file]").onchange = ({ target }) => {
  const [file] = target.files;
  if (file) openFile(URL.createObjectURL(file), file.name);
};
byId("message").querySelector("form").onsubmit = (event) => {
  event.preventDefault();
  location.search = `?file=${encodeURIComponent(new FormData(event.target).get("file"))}`;
};

const asked = new URLSearchParams(location.search);
const file = asked.get("file");
if (file) {
  const url = new URL(file, location.href).href;
  openFile(url, asked.get("name") ?? decodeURIComponent(new URL(url).pathname.split("/").pop()));
} else showMessage("Which file?", "Add ?file=ADDRESS to the address of this page, or choose one here.", true);
