/** How fast this browser is: frames of the stream, time on the way, animation frames. Bounded; asked once a second. */

const SAMPLES = 4_096;

export class Meter {
  constructor() {
    this.samples = new Float64Array(SAMPLES);
    this.sorted = new Float64Array(SAMPLES);
    this.count = 0;
    this.updates = 0;
    this.paints = 0;
    this.longest = 0;
    this.lastPaint = 0;
    this.since = performance.now();
  }

  /** A live frame came: `ms` after core received it. */
  frame(ms) {
    this.samples[this.count % SAMPLES] = ms;
    this.count += 1;
  }

  /** An animation frame. @param {number} now */
  paint(now) {
    if (this.lastPaint > 0) this.longest = Math.max(this.longest, now - this.lastPaint);
    this.lastPaint = now;
    this.paints += 1;
  }

  /** What was since the last call. */
  read() {
    const now = performance.now();
    const seconds = (now - this.since) / 1000;
    const count = Math.min(this.count, SAMPLES);
    const sorted = this.sorted.subarray(0, count);
    sorted.set(this.samples.subarray(0, count));
    sorted.sort();
    const result = {
      updates: this.updates / seconds, paints: this.paints / seconds, longest: this.longest,
      median: count > 0 ? sorted[Math.floor(count / 2)] : null,
      late: count > 0 ? sorted[Math.min(count - 1, Math.floor(count * 0.99))] : null,
    };
    Object.assign(this, { count: 0, updates: 0, paints: 0, longest: 0, since: now });
    return result;
  }
}
