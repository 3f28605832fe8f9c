// FLAC frames to samples, by libFLAC compiled to WebAssembly (vendor/libflacjs).

import { FormatError } from "./errors.js";

const MAX_BITS = 24;
const ABORTED = 7; // states from here on are final, as are 4 (end of stream) and 5 to 6
const END = 4;

let loading = null;

/** Load libFLAC once; `folder` is where its two files lie. */
export function loadFlac(folder = new URL("./vendor/libflacjs/", import.meta.url).href) {
  loading ??= (async () => {
    globalThis.FLAC_SCRIPT_LOCATION = folder;
    await import("./vendor/libflacjs/libflac.min.wasm.js");
    await isReady(globalThis.Flac);
    return globalThis.Flac;
  })();
  return loading;
}

export function isReady(Flac) {
  return new Promise((resolve, reject) => {
    if (Flac.isReady()) resolve();
    else {
      Flac.on("ready", () => resolve());
      setTimeout(() => reject(new Error("libFLAC did not load within 30 s")), 30_000);
    }
  });
}

/**
 * Decode all frames of a stream.
 * What STREAMINFO says is compared with what is expected before anything is allocated.
 * Returns {channels: [Int32Array, ...], bits, sampleRate}.
 */
export function decodeFrames(Flac, stream, bytes, count, channels) {
  const { info } = stream;
  const expected = channels ?? info.channels;
  if (info.totalSamples !== count || info.channels !== expected) {
    throw new FormatError(
      `the FLAC stream has ${info.totalSamples} samples in ${info.channels} channels: ` +
        `expected ${count} in ${expected}`,
    );
  }
  if (info.bits > MAX_BITS) {
    throw new FormatError(`FLAC of ${info.bits} bits a sample: this page decodes up to ${MAX_BITS}`);
  }
  const frames = bytes.subarray(stream.framesAt);
  if (count > Math.floor(frames.length / 10) * 65535) {
    throw new FormatError(`${frames.length} bytes of FLAC frames: too few for ${count} samples`);
  }
  const out = Array.from({ length: expected }, () => new Int32Array(count));
  const found = run(Flac, [head(stream.infoBytes), frames], out, count, info.bits);
  if (found.error || found.samples !== count) {
    const why = found.error ? `, then there is ${found.error}` : "";
    throw new FormatError(`the FLAC stream is damaged: ${found.samples} of ${count} samples decode${why}`);
  }
  return { channels: out, bits: info.bits, sampleRate: info.sampleRate };
}

/** The decoder sees STREAMINFO and the frames, never comments and side data. */
function head(infoBytes) {
  const bytes = new Uint8Array(8 + infoBytes.length);
  bytes.set([0x66, 0x4c, 0x61, 0x43, 0x80, 0, 0, infoBytes.length]);
  bytes.set(infoBytes, 8);
  return bytes;
}

/** Feed the decoder and copy what it gives; callbacks must not throw through WebAssembly. */
function run(Flac, input, out, count, bits) {
  const found = { samples: 0, error: null };
  let part = 0;
  let at = 0;
  const read = (wanted) => {
    if (part < input.length && at >= input[part].length) [part, at] = [part + 1, 0];
    const buffer = part < input.length ? input[part].subarray(at, at + wanted) : new Uint8Array(0);
    at += buffer.length;
    return { buffer, readDataLength: buffer.length, error: false };
  };
  const write = (blocks, header) => {
    const n = header.blocksize;
    if (found.samples + n > count || blocks.length !== out.length || header.bitsPerSample !== bits) {
      found.error ??= "a frame that does not fit STREAMINFO";
      return;
    }
    blocks.forEach((block, k) => copySamples(block, out[k], found.samples, n));
    found.samples += n;
  };
  const fail = (_, message) => (found.error ??= String(message));
  const id = Flac.create_libflac_decoder(false);
  try {
    if (Flac.init_decoder_stream(id, read, write, fail, () => {}) !== 0) throw new FormatError("libFLAC does not start");
    let state = 0;
    while (state < END && !found.error && Flac.FLAC__stream_decoder_process_single(id)) {
      state = Flac.FLAC__stream_decoder_get_state(id);
    }
    if (state > END && state <= ABORTED + 2) found.error ??= `decoder state ${state}`;
  } finally {
    Flac.FLAC__stream_decoder_finish(id);
    Flac.FLAC__stream_decoder_delete(id);
  }
  return found;
}

/** libflac.js gives two bytes a sample up to 16 bits, else four. */
function copySamples(block, out, from, n) {
  const width = block.length / n;
  const view = new DataView(block.buffer, block.byteOffset, block.byteLength);
  if (width === 2) for (let i = 0; i < n; i++) out[from + i] = view.getInt16(2 * i, true);
  else for (let i = 0; i < n; i++) out[from + i] = view.getInt32(4 * i, true);
}
