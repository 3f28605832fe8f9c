// Which part of the raster is seen: its centre in pixels of level 0, and device pixels a raster pixel.

const MAX_SCALE = 64;

export class Camera {
  constructor(width, height) {
    this.raster = { width, height };
    this.size = { width: 1, height: 1 };
    this.x = width / 2;
    this.y = height / 2;
    this.scale = 1;
  }

  get fitScale() {
    return Math.min(this.size.width / this.raster.width, this.size.height / this.raster.height) * 0.96 || 1;
  }

  fit() {
    this.x = this.raster.width / 2;
    this.y = this.raster.height / 2;
    this.scale = this.fitScale;
  }

  pan(dx, dy) {
    this.x -= dx / this.scale;
    this.y -= dy / this.scale;
    this.clamp();
  }

  /** Zoom so that the point under the pointer stays there. */
  zoom(factor, at = { x: this.size.width / 2, y: this.size.height / 2 }) {
    const before = this.toRaster(at);
    const least = Math.min(this.fitScale / 2, 1);
    this.scale = Math.max(least, Math.min(MAX_SCALE, this.scale * factor));
    const after = this.toRaster(at);
    this.x += before.x - after.x;
    this.y += before.y - after.y;
    this.clamp();
  }

  clamp() {
    this.x = Math.max(0, Math.min(this.raster.width, this.x));
    this.y = Math.max(0, Math.min(this.raster.height, this.y));
  }

  toRaster({ x, y }) {
    return { x: this.x + (x - this.size.width / 2) / this.scale, y: this.y + (y - this.size.height / 2) / this.scale };
  }

  toScreen({ x, y }) {
    return { x: (x - this.x) * this.scale + this.size.width / 2, y: (y - this.y) * this.scale + this.size.height / 2 };
  }

  /** The part of a level that is seen, in its own pixels. */
  window(info) {
    const fx = this.raster.width / info.shape.at(-1);
    const fy = this.raster.height / info.shape.at(-2);
    const a = this.toRaster({ x: 0, y: 0 });
    const b = this.toRaster({ x: this.size.width, y: this.size.height });
    const col = Math.max(0, Math.floor(a.x / fx));
    const row = Math.max(0, Math.floor(a.y / fy));
    const right = Math.min(info.shape.at(-1), Math.ceil(b.x / fx));
    const bottom = Math.min(info.shape.at(-2), Math.ceil(b.y / fy));
    return { row, col, height: bottom - row, width: right - col };
  }

  /** The coarsest level whose pixels are not larger than those of the screen. */
  level(levels) {
    const fine = levels.filter((info) => (this.raster.width / info.shape.at(-1)) * this.scale <= 1.25);
    return fine.at(-1) ?? levels[0];
  }
}
