// Bytes that were deflated or packed with LZMA, never more of them than promised.

import { FormatError } from "./errors.js";
import { Decoder } from "./vendor/lzma1/decoder.js";

/** Undo DEFLATE with the browser's own: format is "deflate-raw", or "deflate" for zlib. */
export async function inflate(packed, nbytes, format = "deflate-raw") {
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream(format));
  const reader = stream.getReader();
  const out = new Uint8Array(nbytes);
  let at = 0;
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return out.subarray(0, at);
      if (at + value.length > nbytes) {
        await reader.cancel();
        throw new FormatError(`deflated bytes go on beyond the ${nbytes} that were promised`);
      }
      out.set(value, at);
      at += value.length;
    }
  } catch (error) {
    if (error instanceof FormatError) throw error;
    throw new FormatError(`deflated bytes are damaged: ${error.message}`);
  }
}

const MIN_DICTIONARY = 1 << 12;
const MAX_DICTIONARY = 2 ** 30;

/** Undo raw LZMA, by putting the head of an .lzma file in front (docs/format.md, 4.7). */
export function unpackLzma(packed, properties, nbytes) {
  if (properties >= 225) throw new FormatError(`LZMA properties ${properties}: expected less than 225`);
  let dictionary = MIN_DICTIONARY;
  while (dictionary < nbytes && dictionary < MAX_DICTIONARY) dictionary *= 2;
  const head = new DataView(new ArrayBuffer(13));
  head.setUint8(0, properties);
  head.setUint32(1, dictionary, true);
  head.setBigUint64(5, BigInt(nbytes), true);
  const out = new Uint8Array(nbytes);
  let from = 0;
  let at = 0;
  const input = {
    readByte: () => {
      const i = from++;
      if (i < 13) return head.getUint8(i);
      return i - 13 < packed.length ? packed[i - 13] : 0;
    },
  };
  const output = {
    writeBytes: (bytes, start, count) => {
      if (at + count > nbytes) throw new Error(`they go on beyond the ${nbytes} that were promised`);
      out.set(bytes.subarray(start, start + count), at);
      at += count;
    },
  };
  try {
    if (nbytes) new Decoder().decompress(input, output);
  } catch (error) {
    throw new FormatError(`LZMA bytes are damaged: ${error.message}`);
  }
  if (from - 13 > packed.length + 5) throw new FormatError("LZMA bytes end too early");
  return out.subarray(0, at);
}
