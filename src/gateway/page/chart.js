/**
 * Candles, volume, marks and the crosshair on a canvas. What it is not: the bars, which are in bars.js, or the mouse and
 * the keyboard, which are in chart_input.js.
 *
 * Numbers become floats here only to find a pixel. What is written is the exact decimal.
 */
import { clock, date, grouped, price as priceText, quantity } from "./text.js";

const AXIS_WIDTH = 76;
const TIME_HEIGHT = 22;
const TOP = 10;
const VOLUME_SHARE = 0.18;
/** Trades change a candle faster than anybody sees. What the user moves is painted at once. */
const DATA_MS = 100;
/** Pixels from one bar to the next. */
export const STEP_MIN = 2;
export const STEP_MAX = 48;

export class Chart {
  /** @param {HTMLCanvasElement} canvas @param {HTMLElement} legend */
  constructor(canvas, legend) {
    this.canvas = canvas;
    this.legend = legend;
    this.context = canvas.getContext("2d", { alpha: false });
    this.step = 8;
    /** Bars between the newest one and the right edge; below 0 there is room. */
    this.back = -2;
    /** @type {{x: number, y: number}|null} */
    this.cross = null;
    this.isDirty = true;
    this.bars = null;
    this.version = -1;
    this.newest = null;
    this.paintedAt = 0;
    this.decimals = 2;
    this.qtyDecimals = 0;
    this.font = "11px system-ui, sans-serif";
    new ResizeObserver(() => this.resize()).observe(canvas);
    this.resize();
    this.restyle();
  }

  /** @param {import("./bars.js").Bars|null} bars */
  show(bars, decimals, qtyDecimals) {
    Object.assign(this, { bars, decimals, qtyDecimals, back: -2, cross: null, newest: null, version: -1, isDirty: true });
  }

  /** Another theme. */
  restyle() {
    const style = getComputedStyle(this.canvas);
    const color = (name) => style.getPropertyValue(name).trim();
    this.colors = {
      back: color("--panel"), text: color("--muted"), strong: color("--text"), grid: color("--grid"),
      up: color("--up"), down: color("--down"), gap: color("--warn"), mark: color("--accent"),
    };
    this.font = `11px ${style.fontFamily}`;
    this.isDirty = true;
  }

  resize() {
    const ratio = globalThis.devicePixelRatio || 1;
    const { clientWidth: width, clientHeight: height } = this.canvas;
    if (width === this.width && height === this.height && ratio === this.ratio) return;
    Object.assign(this, { width, height, ratio, isDirty: true });
    this.canvas.width = Math.max(1, Math.round(width * ratio));
    this.canvas.height = Math.max(1, Math.round(height * ratio));
  }

  get plotWidth() { return Math.max(1, this.width - AXIS_WIDTH); }
  get list() { return this.bars?.list ?? []; }

  /** The middle of the bar with this index. */
  x(index) { return this.plotWidth - (this.list.length - index - 1 - this.back + 0.5) * this.step; }

  /** The index of the bar at this pixel; may be outside of the list. */
  indexAt(x) { return Math.round(this.list.length - 1 - this.back + 0.5 - (this.plotWidth - x) / this.step); }

  /** Moves by so many bars; asks for older ones near the left end. */
  pan(bars) {
    const most = Math.max(0, this.list.length - 3);
    this.back = Math.min(most, Math.max(-this.plotWidth / this.step / 2, this.back + bars));
    this.isDirty = true;
    if (this.indexAt(0) < 20) this.bars?.loadOlder();
  }

  /** Wider or narrower bars; what is at `x` stays there. */
  zoom(factor, x = this.plotWidth) {
    const step = Math.min(STEP_MAX, Math.max(STEP_MIN, this.step * factor));
    const fromRight = (this.plotWidth - x) / this.step;
    this.back += fromRight - (this.plotWidth - x) / step;
    this.step = step;
    this.pan(0);
  }

  /** Back to the newest bars. */
  home() {
    Object.assign(this, { back: -2, step: 8, cross: null, isDirty: true });
  }

  /** The bar under the crosshair, else the newest one. */
  get chosen() {
    const list = this.list;
    return (this.cross ? list[this.indexAt(this.cross.x)] : list.at(-1)) ?? null;
  }

  /** Once in an animation frame. @param {number} now */
  paint(now) {
    const hasNews = this.bars !== null && this.bars.version !== this.version && now - this.paintedAt > DATA_MS;
    if ((!this.isDirty && !hasNews) || this.width < 40 || this.height < 60) return undefined;
    this.#stay();
    Object.assign(this, { isDirty: false, version: this.bars?.version ?? -1, paintedAt: now });
    const { context, colors } = this;
    context.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    context.fillStyle = colors.back;
    context.fillRect(0, 0, this.width, this.height);
    context.font = this.font;
    context.textBaseline = "middle";
    this.#legend();
    const list = this.list;
    if (list.length === 0) return this.#say();
    const first = Math.max(0, this.indexAt(-this.step));
    const last = Math.min(list.length - 1, this.indexAt(this.plotWidth));
    const range = this.#range(first, last);
    if (!range) return this.#say();
    this.#prices(range);
    this.#times(first, last);
    context.save();
    context.beginPath();
    context.rect(0, 0, this.plotWidth, this.height - TIME_HEIGHT);
    context.clip();
    for (let index = first; index <= last; index += 1) this.#bar(index, range);
    this.#gaps(range);
    context.restore();
    this.#newest(range);
    this.#cross(range);
    return undefined;
  }

  /** What is looked at stays where it is when a new bar comes. */
  #stay() {
    const newest = this.list.at(-1)?.start ?? null;
    if (this.newest !== null && newest > this.newest && this.back > 0) {
      this.back += this.list.length - 1 - this.list.findLastIndex((bar) => bar.start <= this.newest);
    }
    this.newest = newest;
  }

  #say() {
    const { context, colors } = this;
    context.fillStyle = colors.text;
    context.textAlign = "center";
    const text = this.bars === null ? "Choose an instrument." : this.bars.state === "loading" ? "Asking for history…"
      : this.bars.error ? `No history: ${this.bars.error}` : "No trade yet.";
    context.fillText(text, this.plotWidth / 2, this.height / 2);
  }

  #range(first, last) {
    let [low, high, volume] = [null, null, 0];
    for (let index = first; index <= last; index += 1) {
      const bar = this.list[index];
      if (low === null || bar.low < low) low = bar.low;
      if (high === null || bar.high > high) high = bar.high;
      volume = Math.max(volume, Number(bar.volume));
    }
    if (low === null) return null;
    const unit = 10 ** (9 - this.decimals);
    const space = Math.max(Number(high - low) * 0.08, unit);
    const bottom = this.height - TIME_HEIGHT;
    const volumeTop = bottom - bottom * VOLUME_SHARE;
    const [from, to] = [Number(low) - space, Number(high) + space];
    const y = (units) => TOP + ((to - Number(units)) / (to - from)) * (volumeTop - TOP - 6);
    const unitsAt = (pixel) => {
      const units = to - ((pixel - TOP) / (volumeTop - TOP - 6)) * (to - from);
      // The crosshair stands on a price that can be written.
      return BigInt(Math.round(units / unit)) * BigInt(unit);
    };
    return { y, unitsAt, from, to, unit, volume, volumeTop, bottom };
  }

  #prices({ y, from, to, unit, volumeTop }) {
    const { context, colors } = this;
    const rough = (to - from) / Math.max(2, (volumeTop - TOP) / 48);
    const power = 10 ** Math.floor(Math.log10(Math.max(rough, 1)));
    const step = Math.max(unit, [1, 2, 5, 10].find((digit) => digit * power >= rough) * power);
    context.textAlign = "left";
    context.lineWidth = 1;
    for (let units = Math.ceil(from / step) * step; units <= to; units += step) {
      const at = Math.round(y(units)) + 0.5;
      context.strokeStyle = colors.grid;
      context.beginPath();
      context.moveTo(0, at);
      context.lineTo(this.plotWidth, at);
      context.stroke();
      context.fillStyle = colors.text;
      context.fillText(priceText(BigInt(Math.round(units)), this.decimals), this.plotWidth + 8, at);
    }
  }

  #times(first, last) {
    const { context, colors } = this;
    const seconds = this.bars.seconds;
    const every = Math.max(1, Math.ceil(84 / this.step));
    context.textAlign = "center";
    context.fillStyle = colors.text;
    let day = "";
    for (let index = first; index <= last; index += 1) {
      // Counted from time, so that the labels stay with their bars when the view moves.
      if (Math.round(this.list[index].start / seconds) % every !== 0) continue;
      const x = Math.round(this.x(index)) + 0.5;
      if (x < 30 || x > this.plotWidth - 24) continue;
      const ms = this.list[index].start * 1000;
      const today = date(ms);
      const text = seconds >= 86_400 ? today.slice(5) : today !== day && day !== "" ? today.slice(5)
        : clock(ms, seconds < 60);
      day = today;
      context.fillText(text, x, this.height - TIME_HEIGHT / 2);
    }
  }

  #bar(index, { y, volume, volumeTop, bottom }) {
    const { context, colors } = this;
    const bar = this.list[index];
    const x = this.x(index);
    const color = bar.close >= bar.open ? colors.up : colors.down;
    const width = Math.max(1, Math.round(this.step * 0.66));
    const left = Math.round(x - width / 2);
    const [top, low] = [y(bar.close > bar.open ? bar.close : bar.open), y(bar.close > bar.open ? bar.open : bar.close)];
    context.fillStyle = color;
    context.strokeStyle = color;
    context.fillRect(Math.round(x) - 0.5, y(bar.high), 1, Math.max(1, y(bar.low) - y(bar.high)));
    const height = Math.max(1, low - top);
    if (bar.incomplete && width > 2) {
      // Trades of it are missing: only its outline, broken.
      context.fillStyle = colors.back;
      context.fillRect(left, top, width, height);
      context.setLineDash([2, 2]);
      context.strokeRect(left + 0.5, top + 0.5, width - 1, Math.max(1, height - 1));
      context.setLineDash([]);
    } else {
      context.fillRect(left, top, width, height);
    }
    if (volume > 0) {
      const size = (Number(bar.volume) / volume) * (bottom - volumeTop);
      context.globalAlpha = 0.4;
      context.fillStyle = color;
      context.fillRect(left, bottom - size, width, size);
      context.globalAlpha = 1;
    }
    if (bar.revised || bar.incomplete) {
      context.fillStyle = colors.mark;
      context.textAlign = "center";
      context.fillText(bar.revised ? "R" : "?", x, Math.max(TOP, y(bar.high) - 9));
    }
  }

  #gaps({ bottom }) {
    const { context, colors, list } = this;
    for (const { start, text } of this.bars.marks) {
      let index = list.findIndex((bar) => bar.start >= start);
      if (index < 0) index = list.length - 1;
      const x = Math.round(this.x(index) - this.step / 2) + 0.5;
      if (x < 0 || x > this.plotWidth) continue;
      context.strokeStyle = colors.gap;
      context.setLineDash([5, 3]);
      context.beginPath();
      context.moveTo(x, 0);
      context.lineTo(x, bottom);
      context.stroke();
      context.setLineDash([]);
      context.fillStyle = colors.gap;
      const short = text.length > 44 ? `${text.slice(0, 43)}…` : text;
      const isRight = x > this.plotWidth / 2;
      context.textAlign = isRight ? "right" : "left";
      context.fillText(short, x + (isRight ? -5 : 5), TOP + 4);
    }
  }

  #newest({ y, from, to }) {
    const bar = this.list.at(-1);
    if (Number(bar.close) < from || Number(bar.close) > to) return;
    this.#tag(y(bar.close), priceText(bar.close, this.decimals), bar.close >= bar.open ? this.colors.up : this.colors.down);
  }

  /** A price on the axis. */
  #tag(at, text, color) {
    const { context, colors } = this;
    context.strokeStyle = color;
    context.setLineDash([1, 3]);
    context.beginPath();
    context.moveTo(0, Math.round(at) + 0.5);
    context.lineTo(this.plotWidth, Math.round(at) + 0.5);
    context.stroke();
    context.setLineDash([]);
    context.fillStyle = color;
    context.fillRect(this.plotWidth + 1, at - 9, AXIS_WIDTH - 1, 18);
    context.fillStyle = colors.back;
    context.textAlign = "left";
    context.fillText(text, this.plotWidth + 8, at + 0.5);
  }

  #cross({ unitsAt, volumeTop, bottom }) {
    const { context, colors, cross, list } = this;
    if (!cross) return;
    const index = Math.min(list.length - 1, Math.max(0, this.indexAt(cross.x)));
    const x = Math.round(this.x(index)) + 0.5;
    context.strokeStyle = colors.text;
    context.setLineDash([3, 3]);
    context.beginPath();
    context.moveTo(x, 0);
    context.lineTo(x, bottom);
    context.stroke();
    context.setLineDash([]);
    if (cross.y > TOP && cross.y < volumeTop) {
      this.#tag(cross.y, priceText(unitsAt(cross.y), this.decimals), colors.strong);
    }
    const ms = list[index].start * 1000;
    const text = `${date(ms)} ${clock(ms, true)}`;
    const width = context.measureText(text).width + 12;
    const left = Math.min(this.plotWidth - width, Math.max(0, x - width / 2));
    context.fillStyle = colors.strong;
    context.fillRect(left, bottom + 2, width, TIME_HEIGHT - 4);
    context.fillStyle = colors.back;
    context.textAlign = "center";
    context.fillText(text, left + width / 2, bottom + TIME_HEIGHT / 2);
  }

  /** The chosen bar as a text, for the legend and for screen readers. */
  describe() {
    const bar = this.chosen;
    if (!bar) return "";
    const shown = (units) => priceText(units, this.decimals);
    // On a narrow screen the text is broken between figures, and not within one.
    const named = (name, text) => `${name}\u00a0${text}`;
    const notes = [bar.forming && "forming", bar.revised && "revised (R)", bar.incomplete && "incomplete: trades are missing (?)",
      bar.cut && "cut"].filter(Boolean);
    return `${date(bar.start * 1000)} ${clock(bar.start * 1000, true)}${notes.length > 0 ? `  ${notes.join(", ")}` : ""}  `
      + [named("O", shown(bar.open)), named("H", shown(bar.high)), named("L", shown(bar.low)), named("C", shown(bar.close)),
        named("V", quantity(bar.volume, this.qtyDecimals)), named(grouped(bar.trades), bar.trades === 1 ? "trade" : "trades")].join("  ");
  }

  #legend() {
    const text = this.describe();
    if (this.legend.textContent !== text) this.legend.textContent = text;
  }
}
