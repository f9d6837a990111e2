/**
 * Asks history for what no stream says: the day's first price and volume, and the last five minutes, of each row that is
 * looked at, and later of the others. A few questions at a time, each row once.
 */
import { parseDecimal } from "./frames.js";
import { ask, milliseconds, units } from "./http.js";
import { SPARK_POINTS } from "./market.js";

const AT_ONCE = 3;
const REST_ROWS = 10;
const WAITING_MAX = 200;
/** What failed, or was partial, is asked again after this time, if it is looked at then. */
const AGAIN_MS = 15_000;

export class Fill {
  /** @param {import("./market.js").Market} market @param {(text: string) => void} failed */
  constructor(market, failed) {
    this.market = market;
    this.failed = failed;
    /** @type {Map<string, number>} until when each is not asked again */
    this.done = new Map();
    /** @type {number[]} rows, the newest last */
    this.waiting = [];
    this.busy = 0;
    this.rested = 0;
  }

  /** A row is on the screen. @param {number} row @param {number} [now] */
  seen(row, now = performance.now()) {
    const symbol = this.market.symbols[row];
    if (now < (this.done.get(symbol) ?? 0)) return;
    this.done.set(symbol, Infinity);
    this.waiting.push(row);
    // Rows that were scrolled past are asked for when they are seen again.
    if (this.waiting.length > WAITING_MAX) this.done.delete(this.market.symbols[this.waiting.shift()]);
    this.#next();
  }

  /**
   * Called once a second: rows that nobody has looked at yet are asked for too, a few at a time, so that a list can be sorted
   * by what history says.
   */
  rest() {
    if (this.busy > 0 || this.waiting.length > 0) return;
    const { market } = this;
    for (let asked = 0; asked < REST_ROWS && this.rested < market.size; this.rested += 1) {
      if (this.done.has(market.symbols[this.rested])) continue;
      this.seen(this.rested);
      asked += 1;
    }
  }

  #next() {
    while (this.busy < AT_ONCE && this.waiting.length > 0) {
      this.busy += 1;
      this.#row(this.waiting.pop()).finally(() => {
        this.busy -= 1;
        this.#next();
      });
    }
  }

  async #row(row) {
    const { market } = this;
    const symbol = market.symbols[row];
    const path = `/v1/bars/${encodeURIComponent(symbol)}`;
    try {
      // What was traded since this number is added to what history says up to the newest trade that is known now.
      const liveBefore = market.volume[row];
      const before = market.volumeIsWhole[row];
      const to = market.lastEventMs[row] > 0 ? { to: new Date(Math.floor(market.lastEventMs[row]) + 1).toISOString() } : {};
      const [day, minutes] = await Promise.all([
        ask(path, { interval: "1d", last: 1, ...to }), ask(path, { interval: "5s", last: SPARK_POINTS, ...to }),
      ]);
      if (market.symbols[row] !== symbol) return;
      const bar = day.body.bars?.at(-1);
      const open = parseDecimal(bar?.open);
      const isToday = bar && milliseconds(bar, "start") + 86_400_000 > market.lastEventMs[row];
      if (open !== null && isToday && !before) {
        market.fillDay(row, open, units(bar, "volume", market.qtyDecimals[row]) ?? 0n, liveBefore);
      }
      const bars = (minutes.body.bars ?? []).map((line) => (
        { start: milliseconds(line, "start") / 1000, close: parseDecimal(line.close) }));
      market.fillSpark(row, bars.filter((one) => one.close !== null));
      const missing = day.missing ?? minutes.missing;
      if (missing) {
        this.failed(`Partial history: ${missing}`);
        this.done.set(symbol, performance.now() + AGAIN_MS);
      }
    } catch (error) {
      this.done.set(symbol, performance.now() + AGAIN_MS);
      this.failed(`No history: ${error.message}`);
    }
  }
}
