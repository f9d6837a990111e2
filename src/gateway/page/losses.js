/**
 * What is lost, summed up: one loss can cost each of 500 instruments something, and 500 lines say less than one.
 */
import { gapReason, gapText, grouped } from "./text.js";

const FLUSH_MS = 1_000;
const NAMES_MAX = 3;

export class Losses {
  /** @param {import("./panel.js").Events} events */
  constructor(events) {
    this.events = events;
    /** @type {Map<string, {names: Set<string>, missed: bigint, isExact: boolean}>} by reason */
    this.sums = new Map();
    this.total = 0n;
    this.flushedAt = 0;
  }

  /** @param {import("./frames.js").Gap} gap @param {string|null} symbol null for all of the subscription */
  add(gap, symbol) {
    if (symbol === null) {
      // What it costs each instrument follows, and is counted there. What is left out on purpose is told here only.
      if (gap.reason === "skipped" && gap.missed !== null) this.total += gap.missed;
      this.events.add("gap", `Gap: ${gapText(gap)}`);
      return;
    }
    let sum = this.sums.get(gap.reason);
    if (!sum) this.sums.set(gap.reason, sum = { names: new Set(), missed: 0n, isExact: true });
    sum.names.add(symbol);
    if (gap.missed === null) sum.isExact = false;
    else [sum.missed, this.total] = [sum.missed + gap.missed, this.total + gap.missed];
  }

  /** Once in an animation frame. @param {number} now */
  flush(now) {
    if (this.sums.size === 0 || now - this.flushedAt < FLUSH_MS) return;
    this.flushedAt = now;
    for (const [reason, { names, missed, isExact }] of this.sums) {
      const all = [...names];
      const more = all.length - NAMES_MAX;
      const who = all.slice(0, NAMES_MAX).join(", ") + (more > 0 ? ` and ${grouped(more)} more` : "");
      const many = missed > 0n ? `${isExact ? "" : "at least "}${grouped(missed)} missing` : "unknown how many are missing";
      this.events.add("gap", `Gap in ${who}: ${many}: ${gapReason(reason)}`);
    }
    this.sums.clear();
  }
}
