// Decodes tiles off the main thread.

import { loadFlac } from "./flac.js";
import { decodeSamples, decodeTile } from "./tile.js";

addEventListener("message", async ({ data: { id, bytes, shape, dtype, sound } }) => {
  try {
    const Flac = await loadFlac();
    const started = performance.now();
    const result = sound ? decodeSamples(Flac, bytes) : await decodeTile(Flac, bytes, shape, dtype);
    const buffers = sound ? result.channels.map((samples) => samples.buffer) : [result.parts.buffer];
    result.milliseconds = performance.now() - started;
    postMessage({ id, result }, buffers);
  } catch (error) {
    postMessage({ id, error: { name: error.name, message: error.message } });
  }
});
