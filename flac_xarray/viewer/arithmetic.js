// A binary arithmetic decoder whose probabilities learn (docs/format.md, 4.10, "Coder").

const LIMIT = 64;
const LEAST = 32;

export class Decisions {
  constructor(bytes, states) {
    this.bytes = bytes;
    this.at = 0;
    this.low = 0;
    this.high = 0xffffffff;
    this.code = 0;
    this.one = new Uint16Array(states).fill(32768);
    this.seen = new Uint8Array(states);
    this.steps = Uint16Array.from({ length: LIMIT + 1 }, (_, n) => Math.floor(131072 / (2 * n + 3)));
    for (let i = 0; i < 4; i++) this.code = ((this.code << 8) | this.next()) >>> 0;
  }

  /** Behind the end there are zeros. */
  next() {
    return this.at < this.bytes.length ? this.bytes[this.at++] : 0;
  }

  /** Decide with one of the states: 0 or 1. */
  decide(state) {
    const p = this.one[state];
    const middle = this.low + Math.floor(((this.high - this.low) * p) / 65536);
    const step = this.steps[this.seen[state]];
    const bit = this.code <= middle ? 1 : 0;
    let learned;
    if (bit) {
      this.high = middle;
      learned = p + Math.floor(((65536 - p) * step) / 65536);
    } else {
      this.low = middle + 1;
      learned = p - Math.floor((p * step) / 65536);
    }
    this.one[state] = learned < LEAST ? LEAST : learned > 65536 - LEAST ? 65536 - LEAST : learned;
    if (this.seen[state] < LIMIT) this.seen[state] += 1;
    while ((this.low ^ this.high) >>> 24 === 0) {
      this.low = (this.low << 8) >>> 0;
      this.high = ((this.high << 8) | 255) >>> 0;
      this.code = ((this.code << 8) | this.next()) >>> 0;
    }
    return bit;
  }
}
