/**
 * The newest values of all instruments, in columns. Frames go in at any rate; whoever paints reads what is dirty.
 * What it is not: a history, or anything on the screen.
 */
import { FLAG, KIND, NO_PRICE } from "./frames.js";

const ROWS_MAX = 65_536;
/** Points of a sparkline, and the milliseconds that each stands for. */
export const SPARK_POINTS = 60;
export const SPARK_MS = 5_000;

/** Bits of `dirty`: what has changed since it was painted. */
export const DIRTY = Object.freeze({ LAST: 1, BID: 2, ASK: 4, OTHER: 8 });

/** Columns of typed arrays that grow together. */
const COLUMNS = {
  last: BigInt64Array, lastQty: BigUint64Array, lastEventMs: Float64Array, lastAt: Float64Array, lastFlags: Uint16Array,
  bid: BigInt64Array, ask: BigInt64Array, bidSize: Uint32Array, askSize: Uint32Array,
  quoteAt: Float64Array, quoteFlags: Uint16Array, volume: BigUint64Array, exchange: Uint8Array,
  decimals: Uint8Array, qtyDecimals: Uint8Array, dirty: Uint8Array, direction: Int8Array, dayOpen: BigInt64Array,
};

/** Which day of UTC. */
const dayOf = (ms) => Math.floor(ms / 86_400_000);

export class Market {
  constructor() {
    this.rows = new Map();
    /** @type {string[]} */
    this.symbols = [];
    /** @type {(Float64Array|null)[]} prices by time, only to be drawn */
    this.sparks = [];
    /** Which 5 seconds the last point of a sparkline is of. */
    this.sparkSlots = [];
    /** @type {boolean[]} whether the volume has what was traded before this page was opened */
    this.volumeIsWhole = [];
    this.feed = { state: "unknown", stale: 0, ended: 0 };
    this.ignored = 0;
    this.generation = 0;
    this.capacity = 0;
    this.#grow(1024);
  }

  get size() { return this.symbols.length; }

  #grow(capacity) {
    for (const [name, Column] of Object.entries(COLUMNS)) {
      const column = new Column(capacity);
      if (this[name]) column.set(this[name]);
      this[name] = column;
    }
    this.capacity = capacity;
  }

  /** The row of a symbol, or -1. */
  rowOf(symbol) { return this.symbols.indexOf(symbol); }

  /** @param {import("./frames.js").Frame} frame @param {number} now by `performance.now()` */
  take(frame, now) {
    if (frame.kind === KIND.DEFINITION) return this.#define(frame);
    const row = this.rows.get(frame.instrument);
    if (row === undefined) return -1;
    const isSnapshot = frame.has(FLAG.SNAPSHOT);
    // A last value is as old as it is; what is live has come now.
    const at = isSnapshot ? now - Math.max(0, Date.now() - frame.tsRecvMs) : now;
    switch (frame.kind) {
      case KIND.QUOTE: this.#quote(row, frame, at); break;
      case KIND.TRADE: this.#trade(row, frame, at, isSnapshot); break;
      case KIND.CANCEL: this.#cancel(row, frame); break;
      default:
    }
    return row;
  }

  #define(frame) {
    const symbol = frame.symbol;
    if (symbol.startsWith("$")) return -1;
    let row = this.rows.get(frame.instrument);
    if (row === undefined) {
      row = this.size;
      if (row === ROWS_MAX) {
        this.ignored += 1;
        return -1;
      }
      if (row === this.capacity) this.#grow(Math.min(ROWS_MAX, row * 4));
      this.rows.set(frame.instrument, row);
      this.sparks.push(null);
      this.sparkSlots.push(0);
      this.volumeIsWhole.push(false);
      this.#clear(row);
    }
    if (this.symbols[row] !== symbol) {
      this.symbols[row] = symbol;
      this.#clear(row);
      this.generation += 1;
    }
    this.decimals[row] = frame.decimals;
    this.qtyDecimals[row] = frame.qtyDecimals;
    this.dirty[row] |= DIRTY.OTHER;
    return row;
  }

  #clear(row) {
    for (const name of ["last", "bid", "ask", "dayOpen"]) this[name][row] = NO_PRICE;
    for (const name of ["quoteAt", "lastAt"]) this[name][row] = NaN;
    for (const name of ["bidSize", "askSize", "quoteFlags", "lastFlags", "direction"]) this[name][row] = 0;
    this.volume[row] = 0n;
    this.lastQty[row] = 0n;
    this.lastEventMs[row] = 0;
    this.sparks[row] = null;
    this.volumeIsWhole[row] = false;
  }

  #quote(row, frame, at) {
    const [bid, ask] = [frame.bid, frame.ask];
    let dirty = DIRTY.OTHER;
    if (bid !== this.bid[row]) dirty |= DIRTY.BID;
    if (ask !== this.ask[row]) dirty |= DIRTY.ASK;
    this.bid[row] = bid;
    this.ask[row] = ask;
    this.bidSize[row] = frame.u32(48);
    this.askSize[row] = frame.u32(52);
    this.quoteAt[row] = at;
    this.quoteFlags[row] = frame.flags & 0x7ff;
    this.exchange[row] = frame.exchange;
    this.dirty[row] |= dirty;
  }

  #trade(row, frame, at, isSnapshot) {
    const [price, before] = [frame.price, this.last[row]];
    const [day, dayBefore] = [dayOf(frame.tsEventMs), dayOf(this.lastEventMs[row])];
    if (!isSnapshot && dayBefore > 0 && day > dayBefore) {
      this.volume[row] = 0n;
      this.dayOpen[row] = price;
      this.volumeIsWhole[row] = true;
    }
    if (price !== before) {
      this.direction[row] = before === NO_PRICE ? 0 : price > before ? 1 : -1;
      this.dirty[row] |= DIRTY.LAST;
    }
    this.last[row] = price;
    this.lastQty[row] = frame.qty;
    this.lastEventMs[row] = frame.tsEventMs;
    this.lastAt[row] = at;
    this.lastFlags[row] = frame.flags & 0x7ff;
    this.exchange[row] = frame.exchange;
    if (!isSnapshot) this.volume[row] += frame.qty;
    this.dirty[row] |= DIRTY.OTHER;
    if (price !== NO_PRICE) this.#spark(row, frame.tsEventMs, Number(price));
  }

  #cancel(row, frame) {
    const qty = frame.qty;
    if (this.volume[row] >= qty) this.volume[row] -= qty;
    this.dirty[row] |= DIRTY.OTHER;
  }

  /** The last point is the price of now; each 5 seconds the points move on. */
  #spark(row, eventMs, value) {
    const slot = Math.floor(eventMs / SPARK_MS);
    const points = (this.sparks[row] ??= new Float64Array(SPARK_POINTS).fill(NaN));
    const steps = slot - this.sparkSlots[row];
    if (steps > 0) {
      const before = points[SPARK_POINTS - 1];
      const moved = Math.min(steps, SPARK_POINTS);
      points.copyWithin(0, moved);
      points.fill(before, SPARK_POINTS - moved);
      this.sparkSlots[row] = slot;
    }
    points[SPARK_POINTS - 1] = value;
  }

  /** Puts bars of 5 s of the past before the points of now. @param {{start: number, close: bigint}[]} bars */
  fillSpark(row, bars) {
    if (bars.length === 0) return;
    const newest = Math.floor((bars.at(-1).start * 1000) / SPARK_MS);
    const points = (this.sparks[row] ??= new Float64Array(SPARK_POINTS).fill(NaN));
    this.sparkSlots[row] ||= newest;
    for (const bar of bars) {
      const place = SPARK_POINTS - 1 - (this.sparkSlots[row] - Math.floor((bar.start * 1000) / SPARK_MS));
      // What has come live is newer than what was asked for.
      if (place >= 0 && place < SPARK_POINTS && Number.isNaN(points[place])) points[place] = Number(bar.close);
    }
    for (let at = 1; at < SPARK_POINTS; at += 1) if (Number.isNaN(points[at])) points[at] = points[at - 1];
    this.dirty[row] |= DIRTY.OTHER;
  }

  /** The day of the newest trade so far: its first price, and what was traded before `liveBefore` of the live volume. */
  fillDay(row, open, volume, liveBefore) {
    this.dayOpen[row] = open;
    const live = this.volume[row] >= liveBefore ? this.volume[row] - liveBefore : 0n;
    this.volume[row] = BigInt.asUintN(64, volume + live);
    this.volumeIsWhole[row] = true;
    this.dirty[row] |= DIRTY.OTHER;
  }

  /** The feed of all, or of some exchanges, is in another state. @param {import("./frames.js").Feed} feed */
  setFeed(feed) {
    this.feed = feed;
    for (let row = 0; row < this.size; row += 1) this.dirty[row] |= DIRTY.OTHER;
  }

  /** @returns {"current"|"stale"|"ended"|"halted"} what is known of the quote of a row */
  stateOf(row) {
    const { state, stale, ended } = this.feed;
    const bit = 1 << this.exchange[row];
    const flags = this.quoteFlags[row] | (this.lastFlags[row] & FLAG.STALE);
    if (state === "stale" || state === "lost" || (stale & bit) !== 0) return "stale";
    if ((flags & FLAG.STALE) !== 0) return "stale";
    if (state === "ended" || (ended & bit) !== 0 || (flags & FLAG.ENDED) !== 0) return "ended";
    return (this.quoteFlags[row] & FLAG.HALTED) !== 0 ? "halted" : "current";
  }

  /** When something of the row came last, by `performance.now()`. */
  newestAt(row) {
    const [quote, trade] = [this.quoteAt[row], this.lastAt[row]];
    return Number.isNaN(quote) ? trade : Number.isNaN(trade) ? quote : Math.max(quote, trade);
  }
}
