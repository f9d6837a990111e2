/**
 * The chosen instrument's own line: last, change, best bid and ask with sizes, age and state.
 */
import { NO_PRICE, sizeUnits } from "./frames.js";
import { NONE, changeBp, duration, percent, price, quantity, timeOfDay } from "./text.js";

const known = (units) => (units === NO_PRICE ? null : units);

/** Faster is not read by anybody. */
const PAINT_MS = 80;

const STATES = {
  current: "", stale: "not known to be current", ended: "the feed has ended: this is the last value",
  halted: "the venue has halted trading",
};

export class QuoteHead {
  /** @param {HTMLElement} host with elements that have `data-part` */
  constructor(host) {
    this.host = host;
    this.parts = {};
    this.shown = {};
    for (const element of host.querySelectorAll("[data-part]")) this.parts[element.dataset.part] = element;
    this.row = -1;
    this.paintedAt = 0;
  }

  /** @param {number} row */
  show(row) { Object.assign(this, { row, paintedAt: 0 }); }

  /** Once in an animation frame. @param {import("./market.js").Market} market @param {number} now */
  paint(market, now) {
    const { row } = this;
    if (row < 0 || now - this.paintedAt < PAINT_MS) return;
    this.paintedAt = now;
    const [decimals, qtyDecimals] = [market.decimals[row], market.qtyDecimals[row]];
    const [last, bid, ask, open] = [market.last, market.bid, market.ask, market.dayOpen].map((column) => known(column[row]));
    const state = market.stateOf(row);
    const size = (bits, units) => (units === null ? NONE : quantity(sizeUnits(bits), qtyDecimals));
    const bp = changeBp(last, open);
    const moved = last !== null && open !== null ? last - open : null;
    this.#write("symbol", market.symbols[row]);
    this.#write("last", price(last, decimals));
    this.#write("change", moved === null ? NONE : `${moved > 0n ? "+" : ""}${price(moved, decimals)} (${percent(bp)})`);
    this.parts.change.dataset.sign = percent(bp)[0];
    this.#write("bid", price(bid, decimals));
    this.#write("ask", price(ask, decimals));
    this.#write("bid-size", size(market.bidSize[row], bid));
    this.#write("ask-size", size(market.askSize[row], ask));
    this.#write("spread", bid === null || ask === null ? NONE : price(ask - bid, decimals));
    this.#write("volume", quantity(market.volume[row], qtyDecimals) + (market.volumeIsWhole[row] ? "" : " since opened"));
    this.#write("traded", market.lastEventMs[row] > 0 ? `${timeOfDay(market.lastEventMs[row])} UTC` : NONE);
    this.#write("age", duration(now - market.quoteAt[row]));
    this.#write("state", STATES[state]);
    if (this.host.dataset.state !== state) this.host.dataset.state = state;
  }

  #write(part, text) {
    const element = this.parts[part];
    if (this.shown[part] === text || !element) return;
    this.shown[part] = text;
    element.textContent = text;
  }
}
