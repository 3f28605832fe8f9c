// The tile that was clicked: where it lies, how it is stored, and how it sounds.

import { button, element, facts } from "./controls.js";
import { sizeText } from "./numbers.js";
import { play, stop } from "./sound.js";

const panel = () => document.getElementById("tile");

export function showNoTile() {
  panel().replaceChildren(panel().firstElementChild, element("p", { textContent: "Click on one to see how it is stored, and to hear it." }));
}

export function showTile(raster, pool, tile, { info, number }) {
  const shape = `${tile.planes} \u00d7 ${tile.height} \u00d7 ${tile.width}`;
  const list = element("dl", {}, ...facts({
    number,
    parts: shape,
    bytes: tile.nbytes ? `${sizeText(tile.nbytes)}, ${(tile.parts.byteLength / tile.nbytes).toFixed(2)} : 1` : "empty",
    transforms: tile.transforms || "none",
    decoded: tile.milliseconds === undefined ? null : `in ${tile.milliseconds.toFixed(0)} ms`,
  }));
  const said = element("p", { id: "sound" });
  const listen = button("\u25b6 Play as sound", () => playTile(raster, pool, { info, number }, listen, said), { id: "play", disabled: !tile.nbytes });
  const save = button("Save .flac", () => saveTile(raster, { info, number }, said), { disabled: !tile.nbytes });
  panel().replaceChildren(panel().firstElementChild, list, element("div", { className: "buttons" }, listen, save), said);
}

async function playTile(raster, pool, { info, number }, control, said) {
  if (control.dataset.playing) return stop();
  try {
    const sound = await pool.decode({ bytes: (await raster.readStream(info, number)).slice(), sound: true });
    const n = sound.channels[0].length;
    if (n === 1) {
      said.textContent = "Nothing to hear: this tile has all of its pixels in side data, its one sample means nothing.";
      return;
    }
    const seconds = play(sound, () => {
      delete control.dataset.playing;
      control.textContent = "\u25b6 Play as sound";
    });
    control.dataset.playing = "1";
    control.textContent = "\u25a0 Stop";
    said.textContent = `${seconds.toFixed(1)} s, ${sound.bits} bits, ${sound.channels.length === 1 ? "mono" : `${sound.channels.length} channels`}`;
  } catch (error) {
    said.textContent = error.message;
  }
}

/** The stream as it lies in the file: any player opens it. */
async function saveTile(raster, { info, number }, said) {
  try {
    const url = URL.createObjectURL(new Blob([await raster.readStream(info, number)], { type: "audio/flac" }));
    element("a", { href: url, download: `${info.name}-${info.level}-${number}.flac` }).click();
    setTimeout(() => URL.revokeObjectURL(url), 10_000);
  } catch (error) {
    said.textContent = error.message;
  }
}
