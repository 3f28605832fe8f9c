// CRC-32 as in zlib.

const TABLES = makeTables();

function makeTables() {
  const tables = Array.from({ length: 4 }, () => new Int32Array(256));
  for (let i = 0; i < 256; i++) {
    let c = i;
    for (let k = 0; k < 8; k++) c = c & 1 ? (c >>> 1) ^ 0xedb88320 : c >>> 1;
    tables[0][i] = c;
  }
  for (let i = 0; i < 256; i++) {
    for (let t = 1; t < 4; t++) {
      const c = tables[t - 1][i];
      tables[t][i] = (c >>> 8) ^ tables[0][c & 255];
    }
  }
  return tables;
}

/** Four bytes at a time; `before` is the checksum of what lies in front. */
export function crc32(bytes, before = 0) {
  const [t0, t1, t2, t3] = TABLES;
  let c = ~before;
  let i = 0;
  for (const stop = bytes.length - 3; i < stop; i += 4) {
    c ^= bytes[i] | (bytes[i + 1] << 8) | (bytes[i + 2] << 16) | (bytes[i + 3] << 24);
    c = t3[c & 255] ^ t2[(c >>> 8) & 255] ^ t1[(c >>> 16) & 255] ^ t0[c >>> 24];
  }
  for (; i < bytes.length; i++) c = t0[(c ^ bytes[i]) & 255] ^ (c >>> 8);
  return ~c >>> 0;
}
