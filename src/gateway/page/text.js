/**
 * How numbers, times and reasons are written for people. What it is not: a place that rounds a price.
 */
import { NO_PRICE, decimal } from "./frames.js";

/** What stands where nothing is known. */
export const NONE = "–";

const MINUS = "−";

/** A price of BigInt units, exact. @param {bigint|null} units @param {number} decimals */
export function price(units, decimals) {
  return units === null || units === NO_PRICE ? NONE : decimal(units, 9, decimals).replace("-", MINUS);
}

/** A quantity with all its digits, in groups of three. @param {bigint|null} units @param {number} decimals */
export function quantity(units, decimals) {
  if (units === null) return NONE;
  const [whole, fraction] = decimal(units, decimals, 0).split(".");
  return grouped(whole) + (fraction ? `.${fraction}` : "");
}

/** A quantity for a narrow column: a long one with three digits and a letter, or cut off where a … says so. */
export function shortQuantity(units, decimals) {
  if (units === null) return NONE;
  const whole = units / 10n ** BigInt(decimals);
  if (whole < 100_000n) {
    const exact = quantity(units, decimals);
    return exact.length > 7 ? `${exact.slice(0, 6)}…` : exact;
  }
  const letters = ["", "k", "M", "G", "T", "P"];
  let [value, power] = [Number(whole), 0];
  while (value >= 1000 && power < letters.length - 1) [value, power] = [value / 1000, power + 1];
  return `${value >= 100 ? value.toFixed(1) : value.toFixed(2)}${letters[power]}`;
}

/** A whole number in groups of three. @param {number|bigint|string} value */
export function grouped(value) {
  return String(value).replace(/\B(?=(\d{3})+(?!\d))/g, ",");
}

/** The change from `before` to `now` in percent with two decimals, by whole numbers; or null. */
export function changeBp(now, before) {
  if (now === null || before === null || before <= 0n) return null;
  const twice = ((now - before) * 20_000n) / before;
  return Number((twice + (twice < 0n ? -1n : 1n)) / 2n);
}

/** @param {number|null} bp hundredths of a percent */
export function percent(bp) {
  if (bp === null) return NONE;
  const size = Math.abs(bp);
  const sign = bp > 0 ? "+" : bp < 0 ? MINUS : "";
  return `${sign}${Math.floor(size / 100)}.${String(size % 100).padStart(2, "0")}%`;
}

/** An age or a wait. @param {number} ms */
export function duration(ms) {
  if (!Number.isFinite(ms)) return NONE;
  // What came after the frame was begun is younger than nothing.
  if (ms < 9_950) return `${(Math.max(0, ms) / 1000).toFixed(1)} s`;
  if (ms < 120_000) return `${Math.round(ms / 1000)} s`;
  if (ms < 7_200_000) return `${Math.round(ms / 60_000)} min`;
  if (ms < 172_800_000) return `${Math.round(ms / 3_600_000)} h`;
  return `${Math.round(ms / 86_400_000)} d`;
}

/** A latency. @param {number|null} ms */
export function latency(ms) {
  if (ms === null || !Number.isFinite(ms)) return NONE;
  return Math.abs(ms) < 10 ? `${ms.toFixed(2)} ms` : `${grouped(Math.round(ms))} ms`;
}

/** A rate. @param {number|null} perSecond */
export function rate(perSecond) {
  return perSecond === null ? NONE : `${grouped(Math.round(perSecond))}/s`;
}

const two = (value) => String(value).padStart(2, "0");

/** The time of day in UTC with milliseconds. @param {number} ms since 1970 */
export function timeOfDay(ms) {
  const at = new Date(ms);
  return `${clock(ms, true)}.${String(at.getUTCMilliseconds()).padStart(3, "0")}`;
}

/** The time of day in UTC. @param {number} ms @param {boolean} [seconds] */
export function clock(ms, seconds = false) {
  const at = new Date(ms);
  return `${two(at.getUTCHours())}:${two(at.getUTCMinutes())}${seconds ? `:${two(at.getUTCSeconds())}` : ""}`;
}

/** The date in UTC. @param {number} ms */
export function date(ms) {
  return new Date(ms).toISOString().slice(0, 10);
}

const GAP_TEXTS = {
  lapped: "this reader was slower than the broker's memory",
  before_ring: "older than what the gateway holds",
  skipped: "left out on purpose, because this reader was slow",
  source_lost: "the source lost them; nobody has them",
  corrupt: "the log is damaged there",
  void: "sent under an epoch that has ended",
  away: "the connection was lost for too long",
  refused: "the gateway does not know the place any more",
  unannounced: "a hole in the numbers that nobody announced",
};

const GAP_NAMES = {
  lapped: "reader too slow", before_ring: "too old", skipped: "left out", source_lost: "lost at the source",
  corrupt: "log damaged", void: "void epoch", away: "connection was away", refused: "place not known", unannounced: "unannounced",
};

/** The same as {@link gapText} in a few words, where there is little room. @param {import("./frames.js").Gap} gap */
export function shortGap(gap) {
  const many = gap.missed !== null ? `${grouped(gap.missed)} missing` : "unknown how many are missing";
  return `${many}: ${GAP_NAMES[gap.reason] ?? gap.reason}`;
}

/** Why a gap is. @param {string} reason */
export function gapReason(reason) {
  return GAP_TEXTS[reason] ?? reason;
}

/** How many a gap cost, and why. @param {import("./frames.js").Gap} gap */
export function gapText(gap) {
  const numbers = gap.from !== null && gap.to !== null ? gap.to - gap.from + 1n : null;
  const many = gap.missed !== null ? `${grouped(gap.missed)} missing`
    : numbers !== null ? `${grouped(numbers)} numbers, how many of them are missing here is unknown` : "how many is unknown";
  return `${many}: ${gapReason(gap.reason)}`;
}
