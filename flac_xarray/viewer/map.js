// The raster on a canvas: the tiles of the right level, over what is here of coarser ones.

import { tilesIn } from "./grid.js";
import { layersOf, opacityOf, tilesOf } from "./layers.js";
import { paint } from "./paint.js";
import { sizeText } from "./numbers.js";

const PAINTED_BYTES = 256 * 2 ** 20;
const MOST_BYTES = 48 * 2 ** 20; // of one view, before the user is asked
const MOST_TILES = 4096;
const PAINT_MS = 12;
const WAIT_MS = 60;

export class MapView {
  constructor(canvas, raster, camera, notify) {
    Object.assign(this, { canvas, raster, camera, notify });
    this.context = canvas.getContext("2d");
    this.painted = new Map();
    this.paintedBytes = 0;
    this.failed = new Map();
    this.allowed = MOST_BYTES;
    this.showGrid = false;
    this.selected = null;
    this.pending = 0;
  }

  /** Show planes of a variable in a style; `levels` are its arrays, the finest first. */
  show(levels, planes, style) {
    Object.assign(this, { levels, planes, style });
    this.painted.clear();
    this.paintedBytes = 0;
    this.redraw();
  }

  redraw() {
    this.frame ??= requestAnimationFrame(() => {
      this.frame = null;
      this.draw();
    });
  }

  /** The level and the places of its grid that are seen, those in the middle first. */
  visible(info = this.camera.level(this.levels)) {
    const [th, tw] = info.tile.slice(-2);
    const window = this.camera.window(info);
    const [my, mx] = [(window.row + window.height / 2) / th, (window.col + window.width / 2) / tw];
    const far = ([i, j]) => Math.hypot(i + 0.5 - my, j + 0.5 - mx);
    const [rows, cols] = [Math.ceil(window.height / th) + 1, Math.ceil(window.width / tw) + 1];
    const places = rows * cols > MOST_TILES ? null : tilesIn(info, window).sort((a, b) => far(a) - far(b));
    return { info, places, tiles: rows * cols };
  }

  draw() {
    const { context: g, canvas, camera } = this;
    g.fillStyle = "#14181d";
    g.fillRect(0, 0, canvas.width, canvas.height);
    const a = camera.toScreen({ x: 0, y: 0 });
    const b = camera.toScreen({ x: camera.raster.width, y: camera.raster.height });
    g.fillStyle = "#20262d";
    g.fillRect(a.x, a.y, b.x - a.x, b.y - a.y);
    const { info, places, tiles } = this.visible();
    this.started = performance.now();
    for (const level of this.levels.toReversed()) {
      if (level.level <= info.level) break;
      for (const place of this.visible(level).places ?? []) this.drawTile(level, place);
    }
    const missing = (places ?? []).filter((place) => !this.drawTile(info, place));
    if (this.showGrid || this.selected) this.drawOutlines(info, places ?? []);
    clearTimeout(this.timer);
    if (!places) this.notify({ tooMany: tiles });
    else this.timer = setTimeout(() => this.load(info, missing), WAIT_MS);
  }

  /** All tiles that a place of the grid is painted from: those of the planes, then what says where they are valid. */
  sourcesOf(info, place) {
    return [...tilesOf(info, this.planes, place), ...opacityOf(this.raster, info, place)];
  }

  /** Draw one tile; false where it is not here. Painting stops when a frame has taken long. */
  drawTile(info, place) {
    const key = `${info.position}/${place}`;
    let image = this.painted.get(key);
    const sources = image ? [] : this.sourcesOf(info, place);
    if (!image) {
      if (sources.some((each) => this.failed.has(`${each.info.position}/${each.number}`))) return this.drawFailure(info, place);
      const isLate = performance.now() - this.started > PAINT_MS;
      const layers = isLate ? null : layersOf(this.raster, sources);
      if (!layers) {
        if (isLate) this.redraw();
        return isLate && sources.every((each) => this.raster.tile(each.info, each.number)?.tile);
      }
      image = this.paintTile(key, layers);
    }
    const { x, y, width, height } = this.box(info, place);
    this.context.imageSmoothingEnabled = width < image.width;
    this.context.imageSmoothingQuality = "medium";
    this.context.drawImage(image, x, y, width, height);
    return true;
  }

  paintTile(key, layers) {
    const { width, height } = layers[0].tile;
    const image = new OffscreenCanvas(width, height);
    image.getContext("2d").putImageData(paint(layers, this.planes.length, this.style, width, height), 0, 0);
    this.painted.set(key, image);
    this.paintedBytes += 4 * width * height;
    for (const [old, { width: w, height: h }] of this.painted) {
      if (this.paintedBytes <= PAINTED_BYTES || old === key) break;
      this.painted.delete(old);
      this.paintedBytes -= 4 * w * h;
    }
    return image;
  }

  /** Where a tile lies on the screen; shared edges are rounded alike, so there are no seams. */
  box(info, [i, j]) {
    const { camera } = this;
    const [th, tw] = info.tile.slice(-2);
    const [h, w] = info.shape.slice(-2);
    const [fx, fy] = [camera.raster.width / w, camera.raster.height / h];
    const a = camera.toScreen({ x: j * tw * fx, y: i * th * fy });
    const b = camera.toScreen({ x: Math.min(w, (j + 1) * tw) * fx, y: Math.min(h, (i + 1) * th) * fy });
    const [x, y] = [Math.round(a.x), Math.round(a.y)];
    return { x, y, width: Math.max(1, Math.round(b.x) - x), height: Math.max(1, Math.round(b.y) - y) };
  }

  drawFailure(info, place) {
    const { x, y, width, height } = this.box(info, place);
    this.context.fillStyle = "#5d2a2acc";
    this.context.fillRect(x, y, width, height);
    return true;
  }

  drawOutlines(info, places) {
    const g = this.context;
    g.lineWidth = 1;
    g.strokeStyle = "#ffffff55";
    if (this.showGrid) {
      for (const place of places) {
        const { x, y, width, height } = this.box(info, place);
        g.strokeRect(x + 0.5, y + 0.5, width - 1, height - 1);
      }
    }
    if (this.selected?.info === info) {
      const { x, y, width, height } = this.box(info, this.selected.place);
      g.strokeStyle = "#7fe0c9";
      g.lineWidth = 2;
      g.strokeRect(x + 1, y + 1, width - 2, height - 2);
    }
  }

  /** Fetch what a view lacks, unless that is more than a user would expect. */
  async load(info, missing) {
    const absent = new Map(); // array -> numbers of its tiles
    for (const { info: each, number } of missing.flatMap((place) => this.sourcesOf(info, place))) {
      if (this.raster.tile(each, number)) continue;
      if (!absent.has(each)) absent.set(each, new Set());
      absent.get(each).add(number);
    }
    const wanted = [...absent].map(([each, numbers]) => ({ info: each, numbers: [...numbers] }));
    const count = wanted.reduce((sum, { numbers }) => sum + numbers.length, 0);
    if (count > MOST_TILES) return this.notify({ tooMany: count });
    try {
      const rows = (await Promise.all(wanted.map(({ info: each, numbers }) => this.raster.rows(each, numbers)))).flat();
      const nbytes = rows.reduce((sum, row) => sum + row.nbytes, 0);
      if (nbytes > this.allowed) return this.notify({ tooMuch: `${count} tiles, ${sizeText(nbytes)}`, allow: nbytes });
      this.notify({ enough: true });
      for (const { info: each, numbers } of wanted) {
        const promises = await this.raster.load(each, numbers);
        this.pending += promises.length;
        promises.forEach((promise, k) => this.follow(promise, each, numbers[k]));
      }
      if (!count && !missing.length && !this.pending) this.notify({ idle: true });
    } catch (error) {
      this.notify({ error });
    }
  }

  async follow(promise, info, number) {
    try {
      await promise;
    } catch (error) {
      this.failed.set(`${info.position}/${number}`, error);
      this.notify({ error });
    }
    this.pending -= 1;
    this.redraw();
    this.notify({ arrived: number });
  }
}
