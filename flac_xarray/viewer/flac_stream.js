// Metadata of a FLAC stream (RFC 9639, section 8): STREAMINFO, comments, side data.

import { FormatError } from "./errors.js";

const STREAMINFO = 0;
const APPLICATION = 2;
const VORBIS_COMMENT = 4;
const SIDE_ID = "FXRS";
const text = new TextDecoder("utf-8", { fatal: true });

/** Take a stream apart: {info, infoBytes, comments, side, framesAt}. */
export function readStream(bytes) {
  if (ascii(bytes, 0, 4) !== "fLaC") throw new FormatError("not a FLAC stream: it does not begin with fLaC");
  const found = { info: null, infoBytes: null, comments: null, side: [], framesAt: 4 };
  for (let last = false; !last; ) {
    const at = found.framesAt;
    if (at + 4 > bytes.length) throw new FormatError("the FLAC metadata is cut off");
    last = (bytes[at] & 0x80) !== 0;
    const kind = bytes[at] & 0x7f;
    const payload = bytes.subarray(at + 4, at + 4 + uint(bytes, at + 1, 3));
    found.framesAt = at + 4 + uint(bytes, at + 1, 3);
    if (found.framesAt > bytes.length) throw new FormatError("the FLAC metadata is cut off");
    if ((kind === STREAMINFO) !== (found.info === null) || kind === 127) {
      throw new FormatError(`a FLAC metadata block of type ${kind} is not expected here`);
    }
    if (kind === STREAMINFO) {
      found.info = readStreamInfo(payload);
      found.infoBytes = payload;
    } else if (kind === VORBIS_COMMENT) found.comments ??= readComments(payload);
    else if (kind === APPLICATION && ascii(payload, 0, 4) === SIDE_ID) found.side.push(payload.subarray(4));
  }
  return { ...found, comments: found.comments ?? new Map(), side: join(found.side) };
}

function readStreamInfo(payload) {
  if (payload.length !== 34) throw new FormatError(`STREAMINFO has ${payload.length} bytes: expected 34`);
  return {
    maxBlockSize: uint(payload, 2, 2),
    sampleRate: uint(payload, 10, 3) >> 4,
    channels: ((payload[12] >> 1) & 7) + 1,
    bits: (((payload[12] & 1) << 4) | (payload[13] >> 4)) + 1,
    totalSamples: (payload[13] & 15) * 2 ** 32 + uint(payload, 14, 4),
  };
}

/** Comments by upper-case name; of equal names the first counts. */
function readComments(payload) {
  const comments = new Map();
  const view = new DataView(payload.buffer, payload.byteOffset, payload.byteLength);
  try {
    let at = 4 + view.getUint32(0, true);
    const count = view.getUint32(at, true);
    at += 4;
    for (let k = 0; k < count; k++) {
      const nbytes = view.getUint32(at, true);
      at += 4 + nbytes;
      if (at > payload.length) throw new RangeError(`comment ${k} leaves its block`);
      const entry = text.decode(payload.subarray(at - nbytes, at));
      const equals = entry.indexOf("=");
      const name = (equals < 0 ? entry : entry.slice(0, equals)).toUpperCase();
      if (!comments.has(name)) comments.set(name, equals < 0 ? "" : entry.slice(equals + 1));
    }
  } catch (error) {
    throw new FormatError(`the comments of a FLAC stream are damaged: ${error.message}`);
  }
  return comments;
}

function join(pieces) {
  if (pieces.length === 1) return pieces[0];
  const out = new Uint8Array(pieces.reduce((sum, piece) => sum + piece.length, 0));
  let at = 0;
  for (const piece of pieces) {
    out.set(piece, at);
    at += piece.length;
  }
  return out;
}

const ascii = (bytes, from, n) => String.fromCharCode(...bytes.subarray(from, from + n));

function uint(bytes, at, n) {
  let value = 0;
  for (let i = 0; i < n; i++) value = value * 256 + bytes[at + i];
  return value;
}
