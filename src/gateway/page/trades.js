/**
 * The tape of one instrument: trades, newest first, cancelled ones struck through, gaps as lines. What it is not: a list
 * of all trades: it keeps the newest only.
 */
import { FLAG, KIND, parseDecimal } from "./frames.js";
import { Refused, ask, milliseconds, units } from "./http.js";
import { price as priceText, quantity, timeOfDay } from "./text.js";

const LINES_MAX = 120;
/** Each new line moves all others. Faster is not read by anybody. */
const PAINT_MS = 100;

/** @typedef {{seq: bigint|null, ms: number, price: bigint, qty: bigint, side: string|null, id: bigint,
 *   cancelled: boolean, flags: string[], text: string|null, isGap: boolean}} Line */

export class Tape {
  /** @param {HTMLTableSectionElement} body @param {HTMLElement} note */
  constructor(body, note) {
    this.body = body;
    this.note = note;
    this.reset(null, 2, 0);
  }

  /** Another instrument. */
  reset(symbol, decimals, qtyDecimals) {
    this.ended?.abort();
    this.ended = new AbortController();
    Object.assign(this, { symbol, decimals, qtyDecimals });
    /** @type {Line[]} newest last */
    this.fresh = [];
    this.lines = [];
    this.cancels = [];
    this.paintedAt = 0;
    this.body.replaceChildren();
    this.note.textContent = "";
  }

  /** Asks for the trades before this page. */
  async load() {
    const signal = this.ended.signal;
    try {
      const path = `/v1/trades/${encodeURIComponent(this.symbol)}`;
      const { body, missing } = await ask(path, { last: LINES_MAX }, signal);
      if (signal.aborted) return;
      this.#older(body.trades ?? []);
      this.note.textContent = missing ? `Partial: ${missing}.` : "";
    } catch (error) {
      if (error.name === "AbortError") return;
      this.note.textContent = `No history: ${error instanceof Refused ? error.message : error}.`;
    }
  }

  #older(rows) {
    const oldest = this.lines.length > 0 ? this.lines[0].line.seq : this.fresh[0]?.seq ?? null;
    const older = [];
    for (const row of rows) {
      const seq = parseDecimal(row.seq_text ?? String(row.seq), 0);
      const entry = {
        seq, ms: milliseconds(row, "ts_event"), price: parseDecimal(row.price),
        qty: units(row, "qty", this.qtyDecimals) ?? 0n, side: row.side ?? null,
        id: parseDecimal(row.trade_id_text ?? String(row.trade_id), 0) ?? 0n,
        cancelled: false, flags: row.flags ?? [], text: null, isGap: false,
      };
      if (row.kind === "cancel") this.cancels.push(entry);
      else if (oldest === null || seq === null || seq < oldest) older.push(entry);
    }
    const shown = older.slice(-(LINES_MAX - this.lines.length));
    for (const line of shown.reverse()) {
      const element = this.#element(line);
      this.body.append(element);
      this.lines.unshift({ line, element });
    }
    const cancels = this.cancels;
    this.cancels = [];
    for (const cancel of cancels) this.#strike(cancel);
  }

  /** A live TRADE or CANCEL of this instrument. @param {import("./frames.js").Frame} frame */
  take(frame) {
    const entry = {
      seq: frame.seq, ms: frame.tsEventMs, price: frame.price, qty: frame.qty, side: frame.side, id: frame.tradeId,
      cancelled: false, text: null, isGap: false, flags: [],
    };
    if (frame.has(FLAG.AFTER_MARKET)) entry.flags.push("after_market");
    if (frame.has(FLAG.REPLAY)) entry.flags.push("replay");
    if (frame.kind === KIND.CANCEL) this.cancels.push(entry);
    else this.fresh.push(entry);
    if (this.fresh.length > LINES_MAX) this.fresh.shift();
    if (this.cancels.length > LINES_MAX) this.cancels.shift();
  }

  /** A gap: a drawn line. @param {string} text */
  gap(text) {
    this.fresh.push({ seq: null, isGap: true, text });
    if (this.fresh.length > LINES_MAX) this.fresh.shift();
  }

  /** Once in an animation frame. @param {number} now */
  paint(now) {
    if ((this.fresh.length === 0 && this.cancels.length === 0) || now - this.paintedAt < PAINT_MS) return;
    this.paintedAt = now;
    if (this.fresh.length > 0) {
      const added = document.createDocumentFragment();
      for (const line of this.fresh) {
        const element = this.#element(line);
        added.prepend(element);
        this.lines.push({ line, element });
      }
      this.fresh = [];
      this.body.prepend(added);
      while (this.lines.length > LINES_MAX) this.lines.shift().element.remove();
    }
    if (this.cancels.length > 0) {
      const cancels = this.cancels;
      this.cancels = [];
      for (const cancel of cancels) this.#strike(cancel);
    }
  }

  #strike(cancel) {
    for (let at = this.lines.length - 1; at >= 0; at -= 1) {
      const { line, element } = this.lines[at];
      const isIt = !line.isGap && !line.cancelled && line.id === cancel.id && line.price === cancel.price
        && line.qty === cancel.qty;
      if (isIt) {
        line.cancelled = true;
        element.classList.add("cancelled");
        element.lastChild.textContent = "cancelled";
        return;
      }
    }
    // The trade is older than what is shown, or was never sent: that is said and not left out.
    const text = `Cancelled: ${quantity(cancel.qty, this.qtyDecimals)} at ${priceText(cancel.price, this.decimals)}, `
      + "a trade that is not on this tape";
    const line = { seq: cancel.seq, isGap: true, text };
    const element = this.#element(line);
    element.className = "said";
    this.body.prepend(element);
    this.lines.push({ line, element });
  }

  #element(line) {
    const row = document.createElement("tr");
    if (line.isGap) {
      row.className = "gap";
      const cell = row.insertCell();
      cell.colSpan = 5;
      cell.textContent = line.text;
      return row;
    }
    const notes = line.flags.includes("after_market") ? "after market" : "";
    const side = line.side ?? "";
    for (const text of [timeOfDay(line.ms), side, priceText(line.price, this.decimals),
      quantity(line.qty, this.qtyDecimals), notes]) {
      row.insertCell().textContent = text;
    }
    if (side) row.className = side;
    return row;
  }
}
