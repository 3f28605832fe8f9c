// Decode the tiles of a manifest with the viewer's own modules, without a browser.
// node decode_tiles.mjs VIEWER_FOLDER MANIFEST: prints, for each tile, the SHA-256 of its pixels or an error.

import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { pathToFileURL } from "node:url";

const [viewer, manifest] = process.argv.slice(2);
globalThis.fetch = undefined; // so that libFLAC reads its WebAssembly from the disk
const Flac = createRequire(import.meta.url)(join(viewer, "vendor/libflacjs/libflac.min.wasm.js"));
const { isReady } = await import(pathToFileURL(join(viewer, "flac.js")));
const { decodeTile } = await import(pathToFileURL(join(viewer, "tile.js")));
await isReady(Flac);

const found = [];
for (const { file, shape, dtype } of JSON.parse(readFileSync(manifest))) {
  const bytes = new Uint8Array(readFileSync(join(dirname(manifest), file)));
  try {
    const { parts } = await decodeTile(Flac, bytes, shape, dtype);
    found.push(createHash("sha256").update(new Uint8Array(parts.buffer)).digest("hex"));
  } catch (error) {
    found.push(`${error.name}: ${error.message}`);
  }
}
console.log(JSON.stringify(found));
process.exit(0);
