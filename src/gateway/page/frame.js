/**
 * One frame of 64 bytes, read in place, and the exact numbers in it. What it is not: the connection, which is frames.js.
 *
 * Prices are BigInt in units of 1e-9. {@link decimal} makes their exact text.
 */

/** Bytes of a frame. */
export const FRAME_BYTES = 64;

/** The kinds of frames that a subscriber meets, by PROTOCOL.md, section 3. The page passes over INSTRUMENT_NAME. */
export const KIND = Object.freeze({
  DEFINITION: 1, QUOTE: 2, TRADE: 3, CANCEL: 4, BREAKER_CHANGE: 8, EXCHANGE_PLACE: 9, SILENCE: 10, INSTRUMENT_NAME: 11,
  ERROR: 33, HEARTBEAT: 34, SUBSCRIBED: 37, SNAPSHOT_END: 38, GAP: 39,
});

/** The flags, by PROTOCOL.md, section 4. */
export const FLAG = Object.freeze({
  LAST: 0x1, GAP_BEFORE: 0x2, BUY: 0x4, SELL: 0x8, AFTER_MARKET: 0x10, HALTED: 0x20, HEARD: 0x1, VENUE: 0x40,
  ENDED: 0x80, STALE: 0x100, SNAPSHOT: 0x200, REPLAY: 0x400, MORE: 0x800,
});

/** The price that says "there is none". */
export const NO_PRICE = 0x7fffffffffffffffn;
/** The count that says "unknown". */
export const UNKNOWN = 0xffffffffffffffffn;

/** Names of the reasons of a gap, by number. */
export const GAP_REASONS = Object.freeze(
  ["unknown", "lapped", "before_ring", "skipped", "source_lost", "corrupt", "void"]);
/** Names of the states of a breaker, by number. */
export const BREAKER_STATES = Object.freeze(
  ["closed", "open", "half-open", "forced-open", "disabled", "metrics-only"]);

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit += 1) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  return crc;
});

/**
 * CRC-32C of `length` bytes from `offset` on.
 * @param {DataView} view @param {number} [offset] @param {number} [length] @returns {number}
 */
export function crc32c(view, offset = 0, length = FRAME_BYTES - 4) {
  let crc = 0xffffffff;
  for (let at = offset; at < offset + length; at += 1) {
    crc = (crc >>> 8) ^ CRC_TABLE[(crc ^ view.getUint8(at)) & 0xff];
  }
  return (crc ^ 0xffffffff) >>> 0;
}

/**
 * The exact text of `units / 10^scale`, with at least `least` decimals and no zeros behind those.
 * @param {bigint} units @param {number} [scale] @param {number} [least] @returns {string}
 */
export function decimal(units, scale = 9, least = 0) {
  const digits = (units < 0n ? -units : units).toString().padStart(scale + 1, "0");
  const whole = digits.length - scale;
  let end = digits.length;
  while (end > whole + least && digits[end - 1] === "0") end -= 1;
  const fraction = digits.slice(whole, end).padEnd(Math.min(least, scale), "0");
  return `${units < 0n ? "-" : ""}${digits.slice(0, whole)}${fraction && "."}${fraction}`;
}

/**
 * The units of a decimal text: `parseDecimal("38.42")` is 38420000000n. `null` if it is none, or has more digits.
 * @param {string|null|undefined} text @param {number} [scale] @returns {bigint|null}
 */
export function parseDecimal(text, scale = 9) {
  const found = /^(-?)(\d+)(?:\.(\d*))?$/.exec(text ?? "");
  if (!found || (found[3] ?? "").length > scale) return null;
  const units = BigInt(found[2] + (found[3] ?? "").padEnd(scale, "0"));
  return found[1] ? -units : units;
}

/** The units that a size of four bytes stands for: 28 bits of digits, 4 bits of a power of ten. */
export function sizeUnits(bits) {
  const power = bits >>> 28;
  const digits = BigInt(bits & 0xfffffff);
  return power === 0 ? digits : digits * 10n ** BigInt(power);
}

/**
 * One frame: a window on 64 bytes. The getters read the bytes each time; those of other kinds mean nothing. A handler
 * must take what it needs before it returns, because the window moves on.
 */
export class Frame {
  constructor() {
    /** @type {DataView} */
    this.view = new DataView(new ArrayBuffer(FRAME_BYTES));
    this.offset = 0;
  }

  u8(at) { return this.view.getUint8(this.offset + at); }
  u16(at) { return this.view.getUint16(this.offset + at, true); }
  u32(at) { return this.view.getUint32(this.offset + at, true); }
  u64(at) { return this.view.getBigUint64(this.offset + at, true); }
  i64(at) { return this.view.getBigInt64(this.offset + at, true); }

  /** The text of `length` bytes at `at`; what is not printable ASCII is shown as `?`. */
  text(at, length) {
    let text = "";
    for (let index = at; index < at + length; index += 1) {
      const byte = this.u8(index);
      if (byte === 0) break;
      text += byte >= 0x20 && byte <= 0x7e ? String.fromCharCode(byte) : "?";
    }
    return text;
  }

  /** Nanoseconds at `at` as milliseconds, exact to a microsecond. */
  ms(at) { return (this.u32(at + 4) * 4294967296 + this.u32(at)) / 1e6; }

  /** What is wrong with the frame, or `null`. */
  fault() {
    if (this.u8(1) !== 2) return `version ${this.u8(1)}, not 2`;
    return crc32c(this.view, this.offset) === this.u32(60) ? null : "its checksum is wrong";
  }

  get kind() { return this.u8(0); }
  get flags() { return this.u16(2); }
  has(flag) { return (this.u16(2) & flag) !== 0; }

  // Data frames.
  get instrument() { return this.u32(4); }
  get seq() { return this.u64(8); }
  get tsEvent() { return this.u64(16); }
  get tsRecv() { return this.u64(24); }
  get tsEventMs() { return this.ms(16); }
  get tsRecvMs() { return this.ms(24); }
  get instrumentSeq() { return this.u32(56); }
  /** The number of the exchange that sent a QUOTE, TRADE or CANCEL. */
  get exchange() { return this.u16(2) >>> 11; }
  /** DEFINITION: name, decimals of prices and of quantities. */
  get symbol() { return this.text(32, 24); }
  get decimals() { return this.u16(2) >>> 12; }
  get qtyDecimals() { return (this.u16(2) >>> 2) & 0xf; }
  /** QUOTE. A price may be {@link NO_PRICE}. */
  get bid() { return this.i64(32); }
  get ask() { return this.i64(40); }
  get bidQty() { return sizeUnits(this.u32(48)); }
  get askQty() { return sizeUnits(this.u32(52)); }
  /** TRADE and CANCEL. */
  get price() { return this.i64(32); }
  get qty() { return this.u64(40); }
  get tradeId() { return this.u64(48); }
  /** @returns {"buy"|"sell"|null} the side of the aggressor */
  get side() { return this.has(FLAG.BUY) ? "buy" : this.has(FLAG.SELL) ? "sell" : null; }
  /** BREAKER_CHANGE. */
  get breaker() {
    return { name: this.text(38, 18), from: BREAKER_STATES[this.u8(32)], to: BREAKER_STATES[this.u8(33)] };
  }
  /** SILENCE: who, and what is usual between two of its frames. */
  get silence() {
    return { who: this.text(32, 24), heard: this.has(FLAG.HEARD), usualMs: 2 ** (this.u16(2) >>> 11) };
  }
}
