/**
 * The bars of one instrument in one length: history, trades folded into the newest bar, and the system's own bars, which
 * replace what was folded. What it is not: the drawing, which is chart.js.
 */
import { parseDecimal } from "./frames.js";
import { Refused, ask, milliseconds, units } from "./http.js";

/** Lengths, in seconds. */
export const INTERVALS = Object.freeze({ "1s": 1, "5s": 5, "1m": 60, "5m": 300, "1h": 3600, "1d": 86_400 });

const BARS_MAX = 4_000;
const ASKED = 400;
const MARKS_MAX = 100;
const WAITING_MAX = 5_000;
const SETTLE_MS = 1_500;

/**
 * @typedef {{start: number, open: bigint, high: bigint, low: bigint, close: bigint, volume: bigint, trades: number,
 *   forming: boolean, cut: boolean, revised: boolean, incomplete: boolean}} Bar `start` in seconds since 1970
 * @typedef {{start: number, text: string}} Mark a gap
 */

export class Bars {
  /**
   * @param {string} symbol @param {string} interval @param {number} qtyDecimals
   * @param {number} cutMs the event time up to which history has the trades; later ones come by {@link trade}
   * @param {() => void} changed
   */
  constructor(symbol, interval, qtyDecimals, cutMs, changed) {
    Object.assign(this, { symbol, interval, qtyDecimals, cutMs, changed });
    this.seconds = INTERVALS[interval];
    /** @type {Bar[]} */
    this.list = [];
    /** @type {Mark[]} */
    this.marks = [];
    this.waiting = [];
    this.missing = null;
    this.error = null;
    this.state = "loading";
    this.hasOlder = true;
    this.isAsking = false;
    this.version = 0;
    this.ended = new AbortController();
    this.settleTimer = null;
  }

  /** Nothing comes any more. */
  end() {
    this.ended.abort();
    clearTimeout(this.settleTimer);
  }

  /** Asks for what is before this page. */
  async load() {
    const parameters = { interval: this.interval, last: ASKED };
    // A millisecond is added because a time of event has more digits than this number.
    if (this.cutMs > 0) parameters.to = new Date(Math.floor(this.cutMs) + 1).toISOString();
    const bars = await this.#ask(parameters);
    if (bars === null) return;
    this.state = "ready";
    this.hasOlder = bars.length >= ASKED;
    this.list = bars;
    // The newest bar of history goes on with what has come meanwhile.
    const newest = this.list.at(-1);
    if (newest && this.cutMs < (newest.start + this.seconds) * 1000) newest.forming = true;
    const waiting = this.waiting;
    this.waiting = [];
    for (const { ms, price, qty } of waiting) this.trade(ms, price, qty);
    this.#touch();
  }

  /** Asks for bars before the oldest one. */
  async loadOlder() {
    if (!this.hasOlder || this.isAsking || this.state !== "ready" || this.list.length === 0) return;
    if (this.list.length >= BARS_MAX) return;
    const to = new Date(this.list[0].start * 1000).toISOString();
    const bars = await this.#ask({ interval: this.interval, last: ASKED, to });
    if (bars === null) return;
    const first = this.list[0].start;
    const older = bars.filter((bar) => bar.start < first);
    this.hasOlder = older.length >= ASKED;
    this.list = [...older, ...this.list].slice(-BARS_MAX);
    this.#touch();
  }

  async #ask(parameters) {
    this.isAsking = true;
    try {
      const path = `/v1/bars/${encodeURIComponent(this.symbol)}`;
      const { body, missing } = await ask(path, parameters, this.ended.signal);
      this.missing = missing;
      this.error = null;
      return (body.bars ?? []).map((line) => this.#bar(line)).filter((bar) => bar !== null);
    } catch (error) {
      if (error.name === "AbortError") return null;
      this.error = error instanceof Refused ? error.message : String(error);
      this.state = this.state === "loading" ? "ready" : this.state;
      this.#touch();
      return null;
    } finally {
      this.isAsking = false;
    }
  }

  /** @returns {Bar|null} */
  #bar(line) {
    const [open, high, low, close] = ["open", "high", "low", "close"].map((name) => parseDecimal(line[name]));
    const start = Math.round(milliseconds(line, "start") / 1000);
    if ([open, high, low, close].includes(null) || !Number.isFinite(start)) return null;
    const flags = line.flags ?? [];
    return {
      start, open, high, low, close, volume: units(line, "volume", this.qtyDecimals) ?? 0n, trades: line.trades ?? 0,
      forming: false, cut: line.cut === true, revised: flags.includes("revised"), incomplete: flags.includes("incomplete"),
    };
  }

  /** A live trade. @param {number} ms time of event @param {bigint} price @param {bigint} qty */
  trade(ms, price, qty) {
    if (this.state === "loading") {
      if (this.waiting.length < WAITING_MAX) this.waiting.push({ ms, price, qty });
      return;
    }
    const start = Math.floor(ms / 1000 / this.seconds) * this.seconds;
    const newest = this.list.at(-1);
    if (newest && start < newest.start) return this.settle();
    if (!newest || start > newest.start) {
      if (newest) newest.forming = false;
      this.list.push({
        start, open: price, high: price, low: price, close: price, volume: qty, trades: 1,
        forming: true, cut: false, revised: false, incomplete: false,
      });
      if (this.list.length > BARS_MAX) this.list.splice(0, this.list.length - BARS_MAX);
    } else {
      if (price > newest.high) newest.high = price;
      if (price < newest.low) newest.low = price;
      newest.close = price;
      newest.volume += qty;
      newest.trades += 1;
    }
    return this.#touch();
  }

  /** A cancellation: what was folded has a trade too many, until history says better. @param {number} ms */
  cancelled(ms) {
    this.#doubt(ms);
    this.settle();
  }

  #doubt(ms) {
    const newest = this.list.at(-1);
    if (newest?.forming && ms >= newest.start * 1000) newest.incomplete = true;
  }

  /** What was folded may be wrong, so history is asked, once things have settled. */
  settle() {
    if (this.settleTimer !== null || this.ended.signal.aborted) return;
    this.settleTimer = setTimeout(async () => {
      this.settleTimer = null;
      const forming = this.list.at(-1);
      const bars = await this.#ask({ interval: this.interval, last: 3 });
      for (const bar of bars ?? []) {
        // The newest goes on meanwhile, so of that one only a closed bar is believed.
        if (bar.start !== forming?.start) this.#put(bar, true);
      }
      this.#touch();
    }, SETTLE_MS);
  }

  /** A bar of the system: it is closed, and replaces what was folded. @param {object} line */
  closed(line) {
    if (line.symbol !== this.symbol || Number(line.interval_ns) !== this.seconds * 1e9) return;
    const bar = this.#bar(line);
    if (bar && this.state === "ready") this.#put(bar, false);
    this.#touch();
  }

  #put(bar, isAsked) {
    let at = this.list.length - 1;
    while (at >= 0 && this.list[at].start > bar.start) at -= 1;
    const before = this.list[at];
    if (before?.start === bar.start) {
      const differs = before.close !== bar.close || before.high !== bar.high || before.low !== bar.low
        || before.open !== bar.open || before.volume !== bar.volume;
      bar.revised ||= before.revised || (isAsked && differs && !before.forming);
      if (isAsked) bar.incomplete ||= before.incomplete;
      this.list[at] = bar;
    } else {
      this.list.splice(at + 1, 0, bar);
    }
  }

  /** A gap at this time. @param {number} ms @param {string} text */
  gap(ms, text) {
    const start = Math.floor(ms / 1000 / this.seconds) * this.seconds;
    const before = this.marks.at(-1);
    if (before?.start === start) before.text = before.text.length < 60 ? `${before.text}; ${text}` : before.text;
    else this.marks.push({ start, text });
    if (this.marks.length > MARKS_MAX) this.marks.shift();
    this.#doubt(ms);
    this.settle();
    this.#touch();
  }

  #touch() {
    this.version += 1;
    this.changed();
  }
}
