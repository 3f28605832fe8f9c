// Bytes of a file by range requests. Every answer is checked, every request counted.

import { SourceError } from "./errors.js";

const WHOLE_FILE = 64 * 2 ** 20; // bytes that a server without ranges may send instead

export class Source {
  constructor(url) {
    this.url = url;
    this.size = null; // of the file, once an answer tells
    this.tag = null;
    this.whole = null; // the file itself, where the server does not do ranges
    this.head = new Uint8Array(0); // its first bytes, which are not asked for twice
    this.requests = 0;
    this.bytes = 0;
    this.onchange = () => {};
  }

  /** Read bytes [start, stop); fewer only where `isPrefix` and the file ends. */
  async read(start, stop, { isPrefix = false, signal } = {}) {
    const bytes = await this.get(start, stop, signal);
    if (isPrefix && start === 0) this.head = bytes;
    const end = isPrefix && this.size !== null ? Math.min(stop, this.size) : stop;
    if (bytes.length !== end - start && !(isPrefix && this.size === null)) {
      throw new SourceError(`${this.url}: bytes ${start} to ${stop} were asked for, ${bytes.length} bytes came`);
    }
    return bytes;
  }

  async get(start, stop, signal) {
    if (this.whole) return this.whole.subarray(start, stop);
    const held = this.head.subarray(start, stop);
    if (held.length === stop - start) return held;
    const rest = await this.ask(start + held.length, stop, signal);
    if (!held.length || this.whole) return this.whole ? this.whole.subarray(start, stop) : rest;
    const both = new Uint8Array(held.length + rest.length);
    both.set(held);
    both.set(rest, held.length);
    return both;
  }

  async ask(start, stop, signal) {
    this.requests += 1;
    this.onchange();
    let answer;
    try {
      // A cache would make requests of one URL wait for each other, and mix versions of a file.
      answer = await fetch(this.url, { headers: { Range: `bytes=${start}-${stop - 1}` }, cache: "no-store", signal });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new SourceError(`${this.url} cannot be read: ${error.message}. ${CORS}`);
    }
    if (answer.status === 200) return this.takeWhole(answer, start, stop);
    if (answer.status === 416) throw new SourceError(`${this.url} ends before byte ${start}`);
    if (answer.status !== 206) throw new SourceError(`${this.url}: the server answers ${answer.status} ${answer.statusText}`);
    this.checkVersion(answer, start);
    return this.count(new Uint8Array(await answer.arrayBuffer()));
  }

  /** Size and ETag must stay what they were; other origins may hide them. */
  checkVersion(answer, start) {
    const range = /^bytes (\d+)-(\d+)\/(\d+|\*)$/.exec(answer.headers.get("Content-Range") ?? "");
    if (range && Number(range[1]) !== start) {
      throw new SourceError(`${this.url}: byte ${start} was asked for, the answer begins at ${range[1]}`);
    }
    const size = range && range[3] !== "*" ? Number(range[3]) : null;
    const tag = answer.headers.get("ETag");
    const changed = (size !== null && this.size !== null && size !== this.size) || (tag && this.tag && tag !== this.tag);
    if (changed) throw new SourceError(`${this.url} was replaced while it was read: reload the page`);
    this.size ??= size;
    this.tag ??= tag;
  }

  async takeWhole(answer, start, stop) {
    const size = Number(answer.headers.get("Content-Length") ?? NaN);
    if (!(size <= WHOLE_FILE)) {
      await answer.body?.cancel();
      throw new SourceError(
        `${this.url}: the server ignores range requests, and the file has ${Number.isNaN(size) ? "an unknown size" : `${size} bytes`}: ` +
          "put it on a server that answers 206 Partial Content",
      );
    }
    this.whole = this.count(new Uint8Array(await answer.arrayBuffer()));
    this.size = this.whole.length;
    return this.whole.subarray(start, stop);
  }

  count(bytes) {
    this.bytes += bytes.length;
    this.onchange();
    return bytes;
  }
}

const CORS =
  "If the file is on another server than this page, that server must allow it (CORS: Access-Control-Allow-Origin, and " +
  "Access-Control-Expose-Headers: Content-Range, ETag); flac-raster view reads it for you.";

const GAP = 48 * 1024; // what comes over a usual line in the share of a round trip that one of six requests has
const MOST_BYTES = 4 * 2 ** 20;
const FEW = 12;

/**
 * Plan the requests for ranges [start, stop): [{start, stop, parts: [position, ...]}].
 * A browser has about six under way at once, so bytes between tiles are fetched along only where there would be many.
 */
export function planRequests(ranges) {
  const exact = merge(ranges, 0);
  return exact.length <= FEW ? exact : merge(ranges, GAP);
}

function merge(ranges, gap) {
  const order = ranges.map((_, k) => k).sort((a, b) => ranges[a][0] - ranges[b][0]);
  const requests = [];
  for (const k of order) {
    const [start, stop] = ranges[k];
    const last = requests.at(-1);
    if (last && start - last.stop <= gap && stop - last.start <= MOST_BYTES) {
      last.stop = Math.max(last.stop, stop);
      last.parts.push(k);
    } else requests.push({ start, stop, parts: [k] });
  }
  return requests;
}
