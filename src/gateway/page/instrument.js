/**
 * The chosen instrument: its line, its chart and its tape, fed from history and from the stream.
 */
import { Bars, INTERVALS } from "./bars.js";
import { Chart } from "./chart.js";
import { listen } from "./chart_input.js";
import { KIND } from "./frames.js";
import { QuoteHead } from "./quote.js";
import { Tape } from "./trades.js";
import { gapText, shortGap } from "./text.js";
import { choices, read, write } from "./view.js";

const $ = (id) => document.getElementById(id);

export class Instrument {
  /** @param {import("./market.js").Market} market @param {import("./frames.js").FrameStream} stream */
  constructor(market, stream) {
    Object.assign(this, { market, stream, row: -1, instrument: -1, bars: null, barsId: null });
    this.head = new QuoteHead($("quote"));
    this.chart = new Chart($("chart"), $("legend"));
    this.tape = new Tape($("trades"), $("tape-note"));
    this.note = $("chart-note");
    this.interval = read("interval");
    if (!(this.interval in INTERVALS)) this.interval = "5s";
    listen(this.chart, $("spoken"));
    choices($("intervals"), Object.keys(INTERVALS), this.interval, (interval) => {
      this.interval = interval;
      write("interval", interval);
      if (this.row >= 0) this.#load();
    });
  }

  /** @param {number} row @param {number} instrument its number in frames */
  choose(row, instrument) {
    if (row === this.row) return;
    Object.assign(this, { row, instrument });
    this.head.show(row);
    this.reload();
  }

  /** Asks for all history anew. */
  reload() {
    if (this.row < 0) return;
    const { market, row } = this;
    this.tape.reset(market.symbols[row], market.decimals[row], market.qtyDecimals[row]);
    $("tape-title").textContent = `Trades of ${market.symbols[row]}`;
    this.tape.load();
    this.#load();
  }

  #load() {
    const { market, row, stream } = this;
    const symbol = market.symbols[row];
    this.bars?.end();
    if (this.barsId !== null) stream.unsubscribe(this.barsId);
    this.barsId = stream.subscribe({ bars: this.interval, symbols: [symbol] });
    const bars = new Bars(symbol, this.interval, market.qtyDecimals[row], market.lastEventMs[row], () => this.#changed(bars));
    this.bars = bars;
    this.chart.show(bars, market.decimals[row], market.qtyDecimals[row]);
    this.chart.canvas.setAttribute("aria-label", `Candles of ${symbol}, ${this.interval} each`);
    bars.load();
  }

  #changed(bars) {
    if (bars !== this.bars) return;
    const text = bars.missing ? `Partial: ${bars.missing}.` : bars.error ? `No history: ${bars.error}.` : "";
    if (this.note.textContent !== text) this.note.textContent = text;
  }

  /** A live frame. @param {import("./frames.js").Frame} frame */
  take(frame) {
    if (frame.instrument !== this.instrument) return;
    if (frame.kind === KIND.TRADE) {
      this.tape.take(frame);
      this.bars.trade(frame.tsEventMs, frame.price, frame.qty);
    } else if (frame.kind === KIND.CANCEL) {
      this.tape.take(frame);
      this.bars.cancelled(frame.tsEventMs);
    }
  }

  /** A line of the stream about a bar. @param {object} line @param {number} id */
  line(line, id) {
    if (line.kind === "bar" && id === this.barsId) this.bars?.closed(line);
  }

  /** A gap of all, or of this instrument. @param {import("./frames.js").Gap} gap */
  gap(gap) {
    if (this.row < 0) return;
    const whose = gap.instrument === null ? "Gap of all instruments" : "Gap";
    this.tape.gap(`${whose}: ${gapText(gap)}`);
    this.bars.gap(this.market.lastEventMs[this.row] || Date.now(), shortGap(gap));
  }

  /** Once in an animation frame. @param {number} now */
  paint(now) {
    this.head.paint(this.market, now);
    this.chart.paint(now);
    this.tape.paint(now);
  }
}
