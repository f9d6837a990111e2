/**
 * A client of pregao's subprotocol `pregao.frames.v1`: frames of 64 bytes over a WebSocket.
 *
 * It works in browsers and in Node 20 and later, needs frame.js beside it and nothing else, and copies no frame: a
 * {@link Frame} is a window that moves over the bytes of a message. It says what is lost: announced gaps, holes in the
 * numbers of an instrument, a feed that is stale, a connection that is away. README.md has an example.
 */
import { FLAG, FRAME_BYTES, Frame, GAP_REASONS, KIND, UNKNOWN } from "./frame.js";

export * from "./frame.js";

/** @typedef {{id: number, reason: string, from: bigint|null, to: bigint|null, missed: bigint|null,
 *   instrument: number|null}} Gap `instrument` is null for all of the subscription; `missed` null when unknown.
 *   Reasons beside {@link GAP_REASONS}: `unannounced` (a hole in the numbers of an instrument), `away` (the connection
 *   was lost for longer than is resumed), `refused` (the place is not known there any more). */
/** @typedef {{state: "unknown"|"current"|"stale"|"ended"|"lost", stale: number, ended: number}} Feed `stale` and
 *   `ended` have bit n where exchange n is so and others are not. */
/** @typedef {{state: "connecting"|"open"|"waiting"|"closed", attempt: number, waitMs: number, until: number,
 *   code: number|null, reason: string}} Connection `until` is by `now()`. */
/** @typedef {{symbols?: string[], kinds?: string[], mode?: string, bars?: string}} Wanted as a command says it */
/** @typedef {{frame?: (frame: Frame, id: number) => void, gap?: (gap: Gap) => void,
 *   feed?: (feed: Feed) => void, state?: (connection: Connection) => void, line?: (line: object, id: number) => void,
 *   error?: (error: {id: number|null, code: string, text: string}) => void,
 *   subscribed?: (line: {id: number, resumed: boolean}) => void,
 *   message?: (bytes: number, frames: number) => void}} Handlers */

const FIRST_WAIT_MS = 500;
const WAIT_MS_MAX = 15_000;
const OPEN_MS_MAX = 10_000;
const RESUME_MS_MAX = 60_000;
const COUNTED_INSTRUMENTS_MAX = 65_536;

/**
 * One connection that is kept: it comes back by itself, and each subscription goes on where it was.
 */
export class FrameStream {
  /**
   * @param {string} url such as `ws://127.0.0.1:8090/v1/stream`
   * @param {Handlers} handlers
   * @param {{WebSocket?: Function, check?: boolean, resumeMs?: number, random?: () => number,
   *   now?: () => number}} [options] `check: false` leaves the checksums unchecked; `resumeMs` is how long a lost
   *   connection is resumed by number, instead of by a new snapshot and a gap
   */
  constructor(url, handlers, options = {}) {
    this.url = url;
    this.handlers = handlers;
    this.WebSocket = options.WebSocket ?? globalThis.WebSocket;
    if (!this.WebSocket) throw new Error("no WebSocket here: pass one as options.WebSocket");
    this.check = options.check ?? true;
    this.resumeMs = options.resumeMs ?? RESUME_MS_MAX;
    this.random = options.random ?? Math.random;
    this.now = options.now ?? (() => performance.now());
    this.subscriptions = new Map();
    this.frame = new Frame();
    this.nextId = 1;
    this.current = 0;
    this.attempt = 0;
    this.lostAt = null;
    this.socket = null;
    this.timer = null;
    this.connection = { state: "closed", attempt: 0, waitMs: 0, until: 0, code: null, reason: "" };
    this.feed = { state: "unknown", stale: 0, ended: 0 };
  }

  /** Begins, or tries at once where it waits. */
  connect() {
    clearTimeout(this.timer);
    if (this.socket) return;
    this.#say({ state: "connecting" });
    const socket = new this.WebSocket(this.url, ["pregao.frames.v1"]);
    socket.binaryType = "arraybuffer";
    this.socket = socket;
    // A browser waits for minutes, and Node 20 tells of a refused connection by an error only.
    this.timer = setTimeout(() => this.#lost(1006, "no answer"), OPEN_MS_MAX);
    let wasOpen = false;
    socket.onopen = () => {
      if (socket !== this.socket) return;
      clearTimeout(this.timer);
      wasOpen = true;
      this.current = 0;
      this.#say({ state: "open", code: null, reason: "" });
      for (const subscription of this.subscriptions.values()) this.#send(subscription);
    };
    socket.onmessage = ({ data }) => {
      if (socket !== this.socket) return;
      if (typeof data === "string") for (const line of data.split("\n")) this.#line(line);
      else this.#frames(data);
    };
    socket.onclose = (event) => {
      if (socket === this.socket) this.#lost(event.code, event.reason);
    };
    socket.onerror = () => {
      if (socket === this.socket && !wasOpen) this.#lost(1006, "");
    };
  }

  /** Ends for good. */
  close() {
    clearTimeout(this.timer);
    const socket = this.socket;
    this.socket = null;
    socket?.close(1000, "asked for");
    this.#say({ state: "closed" });
    this.#feed({ state: "lost", stale: 0, ended: 0 });
  }

  /** @param {Wanted} wanted @returns {number} the id of the subscription */
  subscribe(wanted) {
    const id = this.nextId;
    this.nextId += 1;
    // Only a lossless one has every number, so only there a number that is missing is a loss.
    const whole = !wanted.bars && (wanted.mode ?? "lossless") === "lossless";
    const subscription = { id, wanted, whole, next: null, epoch: null, gap: null, announced: null, gaps: 0, counts: new Map() };
    this.subscriptions.set(id, subscription);
    if (this.connection.state === "open") this.#send(subscription);
    return id;
  }

  /** @param {number} id */
  unsubscribe(id) {
    if (this.subscriptions.delete(id) && this.connection.state === "open") {
      this.socket.send(JSON.stringify({ unsubscribe: id }));
    }
  }

  #send(subscription) {
    const { id, wanted, whole } = subscription;
    const away = this.lostAt === null ? 0 : this.now() - this.lostAt;
    if (!whole || away > this.resumeMs) this.#forget(subscription, "away");
    subscription.resumed = subscription.next !== null;
    const text = JSON.stringify({ subscribe: id, ...wanted });
    // A seq has 64 bits, more than a number of JavaScript. With the epoch the gateway says what of the frames before is void.
    const epoch = (subscription.epoch ?? 0n).toString(16).padStart(16, "0");
    this.socket.send(subscription.resumed ? `${text.slice(0, -1)},"from":"${epoch}:${subscription.next}"}` : text);
    this.current ||= id;
  }

  /** Begins anew from a snapshot. What lies between is a gap as soon as the snapshot says where it ends. */
  #forget(subscription, reason) {
    if (subscription.next !== null && subscription.whole) subscription.gap = { reason, from: subscription.next };
    subscription.next = null;
    subscription.counts.clear();
  }

  #line(text) {
    if (text === "") return;
    let line;
    try { line = JSON.parse(text); } catch { return this.#broken(`a line that is no JSON: ${text.slice(0, 60)}`); }
    const subscription = this.subscriptions.get(line.id);
    switch (line.kind) {
      case "subscription": this.current = line.id; break;
      case "unsubscribed": break;
      case "subscribed":
        this.attempt = 0;
        this.lostAt = null;
        if (subscription) this.handlers.subscribed?.({ ...line, resumed: subscription.resumed });
        break;
      case "error":
        this.handlers.error?.(line);
        if (subscription?.resumed) {
          this.#forget(subscription, "refused");
          this.#send(subscription);
        }
        break;
      default: this.handlers.line?.(line, this.current);
    }
  }

  /** @param {ArrayBuffer} data */
  #frames(data) {
    if (data.byteLength % FRAME_BYTES !== 0) return this.#broken(`${data.byteLength} bytes are no run of frames`);
    const frame = this.frame;
    frame.view = new DataView(data);
    for (let at = 0; at < data.byteLength; at += FRAME_BYTES) {
      frame.offset = at;
      const fault = this.check ? frame.fault() : null;
      if (fault) return this.#broken(`a bad frame: ${fault}`);
      const subscription = this.subscriptions.get(this.current);
      // What was on its way when it was ended.
      if (!subscription) continue;
      if (frame.kind < 16) this.#data(subscription, frame);
      else this.#control(subscription, frame);
    }
    this.handlers.message?.(data.byteLength, data.byteLength / FRAME_BYTES);
    return undefined;
  }

  #data(subscription, frame) {
    const id = subscription.id;
    const isEvent = (frame.flags & FLAG.SNAPSHOT) === 0;
    if (isEvent && subscription.whole) {
      const seq = frame.seq;
      if (subscription.next !== null && seq < subscription.next) return;
      subscription.next = seq + 1n;
    }
    if (frame.kind !== KIND.DEFINITION && subscription.whole) {
      const isBehindGap = this.#isFirstBehindGap(subscription, frame);
      const missed = this.#count(subscription, frame);
      if (isEvent && missed > 0) {
        const reason = isBehindGap ? subscription.announced : "unannounced";
        this.#gap({ id, reason, from: null, to: frame.seq - 1n, missed: BigInt(missed), instrument: frame.instrument });
      }
      if (isEvent && frame.kind <= KIND.CANCEL && frame.has(FLAG.GAP_BEFORE)) {
        const instrument = frame.instrument;
        this.#gap({ id, reason: "source_lost", from: null, to: frame.seq - 1n, missed: null, instrument });
      }
    }
    this.handlers.frame?.(frame, id);
  }

  /** Whether a gap was announced since the frame of this instrument and kind before this one. */
  #isFirstBehindGap(subscription, frame) {
    const counts = subscription.counts.get(frame.instrument);
    return counts !== undefined && counts[16 + frame.kind] < subscription.gaps;
  }

  /** How many frames of this instrument and kind are missing before this one. */
  #count(subscription, frame) {
    let counts = subscription.counts.get(frame.instrument);
    if (!counts) {
      if (subscription.counts.size >= COUNTED_INSTRUMENTS_MAX) return 0;
      counts = new Uint32Array(32);
      subscription.counts.set(frame.instrument, counts);
    }
    const before = counts[frame.kind];
    counts[16 + frame.kind] = subscription.gaps;
    const now = frame.instrumentSeq;
    counts[frame.kind] = now;
    // Behind 2^32 - 1 comes 1; a number that was seen before is none to judge by.
    if (before === 0 || now === 0 || now <= before) return 0;
    return now - before - 1;
  }

  #control(subscription, frame) {
    const id = subscription.id;
    switch (frame.kind) {
      case KIND.SUBSCRIBED: {
        const [epoch, start] = [frame.u64(44), frame.u64(20)];
        const isOther = subscription.epoch !== null && epoch !== 0n && epoch !== subscription.epoch;
        if (epoch !== 0n) subscription.epoch = epoch;
        // Numbers beyond the begin of another epoch are given out again: what came under them may be void.
        if (isOther && subscription.resumed && subscription.next > start) {
          this.#gap({ id, reason: "void", from: start, to: subscription.next - 1n, missed: null, instrument: null });
          subscription.next = start;
          subscription.counts.clear();
        }
        break;
      }
      case KIND.SNAPSHOT_END: {
        const next = frame.u64(12);
        if (subscription.gap && next > subscription.gap.from) {
          const { reason, from } = subscription.gap;
          this.#gap({ id, reason, from, to: next - 1n, missed: null, instrument: null });
        }
        subscription.gap = null;
        if (subscription.whole && (subscription.next === null || next > subscription.next)) subscription.next = next;
        if (this.feed.state === "unknown" || this.feed.state === "lost") {
          this.#feed({ state: "current", stale: 0, ended: 0 });
        }
        break;
      }
      case KIND.GAP: {
        const [reason, from, to, missed] = [GAP_REASONS[frame.u8(4)] ?? "unknown", frame.u64(8), frame.u64(16), frame.u64(24)];
        this.#gap({ id, reason, from, to, missed: missed === UNKNOWN ? null : missed, instrument: null });
        subscription.announced = reason;
        subscription.gaps += 1;
        if (!subscription.whole) break;
        if (reason === "void") {
          subscription.next = from;
          subscription.counts.clear();
        } else if (subscription.next === null || to >= subscription.next) {
          subscription.next = to + 1n;
        }
        break;
      }
      case KIND.HEARTBEAT: {
        const next = frame.u64(8);
        if (subscription.whole && subscription.next !== null && next > subscription.next) subscription.next = next;
        if (frame.u32(4) !== 0 || frame.has(FLAG.MORE)) break;
        const state = frame.has(FLAG.STALE) ? "stale" : frame.has(FLAG.ENDED) ? "ended" : "current";
        this.#feed({ state, stale: frame.u32(24), ended: frame.u32(28) });
        break;
      }
      case KIND.ERROR:
        this.handlers.error?.({ id: frame.u32(8) || null, code: String(frame.u16(4)), text: frame.text(12, 48) });
        break;
      default:
    }
  }

  #gap(gap) { this.handlers.gap?.(gap); }

  #feed(feed) {
    this.feed = feed;
    this.handlers.feed?.(feed);
  }

  #broken(reason) { this.#lost(1002, reason); }

  #lost(code, reason) {
    clearTimeout(this.timer);
    const socket = this.socket;
    this.socket = null;
    // One that is closed already, or never opened, takes this too.
    socket.close(4000, reason.slice(0, 100));
    this.lostAt ??= this.now();
    // Twice as long each time; half of it by chance, so that not all come back at once.
    const most = Math.min(WAIT_MS_MAX, FIRST_WAIT_MS * 2 ** Math.min(this.attempt, 10));
    const waitMs = most * (0.5 + this.random() / 2);
    this.attempt += 1;
    this.#say({ state: "waiting", waitMs, until: this.now() + waitMs, code, reason });
    this.#feed({ state: "lost", stale: 0, ended: 0 });
    this.timer = setTimeout(() => this.connect(), waitMs);
  }

  #say(change) {
    this.connection = { ...this.connection, waitMs: 0, until: 0, ...change, attempt: this.attempt };
    this.handlers.state?.(this.connection);
  }
}
