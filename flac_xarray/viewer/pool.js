// A few workers that decode tiles; whoever is idle takes the next one.

import { FormatError } from "./errors.js";

export class DecoderPool {
  constructor(size = Math.max(1, Math.min(4, (navigator.hardwareConcurrency ?? 2) - 1))) {
    this.size = size;
    this.idle = [];
    this.started = 0;
    this.waiting = [];
    this.next = 0;
  }

  /** Decode one job: {bytes, shape, dtype}, or {bytes, sound: true}. */
  decode(job) {
    return new Promise((resolve, reject) => {
      this.waiting.push({ job, resolve, reject });
      this.run();
    });
  }

  run() {
    while (this.waiting.length && (this.idle.length || this.started < this.size)) {
      const worker = this.idle.pop() ?? this.start();
      const { job, resolve, reject } = this.waiting.shift();
      const done = (settle) => {
        worker.onmessage = worker.onerror = null;
        this.idle.push(worker);
        settle();
        this.run();
      };
      worker.onmessage = ({ data }) => done(() => (data.error ? reject(new FormatError(data.error.message)) : resolve(data.result)));
      worker.onerror = (event) => done(() => reject(new Error(`the decoder failed: ${event.message ?? "no reason given"}`)));
      worker.postMessage({ id: this.next++, ...job });
    }
  }

  start() {
    this.started += 1;
    return new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
  }
}
