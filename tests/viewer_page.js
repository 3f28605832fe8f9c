// What the tests ask of the viewer's page; it is run in the page after it has opened.

globalThis.asked = {
  open(file) {
    return flacViewer.Raster.open(new URL(file, location.href).href, flacViewer.pool);
  },

  /** SHA-256 of the only tile of a file, or what went wrong. */
  async digest(file) {
    try {
      const raster = await asked.open(file);
      const [tile] = await Promise.all(await raster.load(raster.variables[0], [0]));
      const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", tile.parts));
      return Array.from(hash, (byte) => byte.toString(16).padStart(2, "0")).join("");
    } catch (error) {
      return String(error);
    }
  },

  async digests(files) {
    const found = [];
    for (const file of files) found.push(await asked.digest(file));
    return found;
  },

  /** Bytes of a window of one plane, in base64. */
  async window(file, position, plane, window) {
    const raster = await asked.open(file);
    const parts = await raster.readWindow(raster.header.arrays[position], plane, window);
    const bytes = new Uint8Array(parts.buffer, parts.byteOffset, parts.byteLength);
    let text = "";
    for (let i = 0; i < bytes.length; i += 8192) text += String.fromCharCode(...bytes.subarray(i, i + 8192));
    return btoa(text);
  },

  /** What is said of a tile that cannot be decoded. */
  async tileError(file, position, number) {
    const raster = await asked.open(file);
    const [tile] = await raster.load(raster.header.arrays[position], [number]);
    return tile.then(() => "decoded", (error) => error.message);
  },

  async until(test) {
    for (let k = 0; k < 400; k++) {
      const found = test();
      if (found) return found;
      await new Promise((done) => setTimeout(done, 25));
    }
    throw new Error(`not within 10 s: ${test}`);
  },

  /** Wait until all that is seen has been drawn. */
  settle() {
    return asked.until(() => {
      const { map } = flacViewer;
      const { info, places } = map.visible();
      return !map.frame && !map.pending && places.every((place) => map.painted.has(`${info.position}/${place}`));
    });
  },

  text: (selector) => document.querySelector(selector)?.textContent,

  /** Middle of an element, in CSS pixels. */
  middle(selector) {
    const element = document.querySelector(selector);
    element.scrollIntoView();
    const { x, y, width, height } = element.getBoundingClientRect();
    return [x + width / 2, y + height / 2];
  },

  /** Middle of a pixel of level 0, in CSS pixels. */
  pixel(row, col) {
    const canvas = document.getElementById("map");
    const box = canvas.getBoundingClientRect();
    const { x, y } = flacViewer.camera.toScreen({ x: col + 0.5, y: row + 0.5 });
    return [box.left + (x * box.width) / canvas.width, box.top + (y * box.height) / canvas.height];
  },

  /** Colours of the canvas at the middles of pixels of level 0. */
  colors(places) {
    const image = document.getElementById("map").getContext("2d");
    return places.map(([row, col]) => {
      const { x, y } = flacViewer.camera.toScreen({ x: col + 0.5, y: row + 0.5 });
      return [...image.getImageData(Math.floor(x), Math.floor(y), 1, 1).data];
    });
  },

  /** Set the ends of the first stretch as a user does. */
  stretch(low, high) {
    [low, high].forEach((value, end) => {
      const input = document.querySelectorAll("#stretch .pair input")[end];
      input.value = String(value);
      input.onchange();
    });
  },
};
