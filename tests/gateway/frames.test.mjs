/**
 * Tests of frame.js, frames.js and road.js of src/gateway/page/: `node --test tests/gateway/frames.test.mjs`. The WebSocket and the
 * time are made up, so nothing is waited for. The examples are those of PROTOCOL.md.
 */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { afterEach, test } from "node:test";
import { FRAME_BYTES, Frame, FrameStream, KIND, NO_PRICE, crc32c, decimal, parseDecimal, sizeUnits } from "../../src/gateway/page/frames.js";
import { readRoad, spread } from "../../src/gateway/page/road.js";

const examples = new Map();
{
  const text = readFileSync(new URL("../../src/wire/PROTOCOL.md", import.meta.url), "utf8").split("```rust")[0];
  let name = "";
  for (const line of text.split("\n")) {
    const bytes = /^[0-3]0 {2}((?:[0-9a-f]{2} ?){16})$/.exec(line);
    const title = /^[<>] (\S+)$/.exec(line);
    if (bytes) examples.set(name, [...(examples.get(name) ?? []), ...bytes[1].trim().split(" ").map((hex) => parseInt(hex, 16))]);
    else if (title) name = title[1];
  }
}

function example(name) {
  const frame = new Frame();
  frame.view = new DataView(Uint8Array.from(examples.get(name)).buffer);
  return frame;
}

/** An example with other values, sealed again. */
function changed(name, change) {
  const view = new DataView(Uint8Array.from(examples.get(name)).buffer);
  change(view);
  view.setUint32(60, crc32c(view), true);
  return new Uint8Array(view.buffer);
}

const trade = (seq, instrumentSeq) => changed("trade-live", (view) => {
  view.setBigUint64(8, BigInt(seq), true);
  view.setUint32(56, instrumentSeq, true);
});

/** Streams of this test: one that is not closed tries again for ever. */
const streams = [];
afterEach(() => streams.splice(0).forEach((stream) => stream.close()));

/** A stream over sockets that the test plays. */
function play(wanted = { symbols: ["*"] }) {
  const sockets = [];
  const seen = { frames: [], gaps: [], feeds: [], states: [], errors: [] };
  class Socket {
    constructor() { this.sent = []; sockets.push(this); }
    send(text) { this.sent.push(text); }
    close() { this.isClosed = true; }
    frames(...frames) {
      const bytes = new Uint8Array(frames.length * FRAME_BYTES);
      frames.forEach((frame, at) => bytes.set(frame, at * FRAME_BYTES));
      this.onmessage({ data: bytes.buffer });
    }
    line(line) { this.onmessage({ data: JSON.stringify(line) }); }
    begin() {
      this.onopen();
      this.line({ kind: "subscribed", id: 1 });
      this.frames(...["subscribed", "definition-snapshot", "quote-snapshot", "snapshot-end"].map((name) => examples.get(name)));
    }
  }
  let now = 0;
  const stream = new FrameStream("ws://x/v1/stream", {
    frame: (frame) => seen.frames.push([frame.kind, frame.seq]), gap: (gap) => seen.gaps.push(gap),
    feed: (feed) => seen.feeds.push(feed), state: (state) => seen.states.push(state), error: (error) => seen.errors.push(error),
  }, { WebSocket: Socket, now: () => now, random: () => 0 });
  streams.push(stream);
  stream.subscribe(wanted);
  stream.connect();
  return { stream, seen, sockets, wait: (ms) => { now += ms; stream.connect(); } };
}

test("the frames of the protocol's examples are read", () => {
  assert.ok(examples.size > 40, `${examples.size} examples`);
  for (const name of examples.keys()) assert.equal(example(name).fault(), null, name);
  const quote = example("quote-snapshot");
  assert.deepEqual([quote.kind, quote.seq, quote.instrumentSeq], [KIND.QUOTE, 998n, 417]);
  assert.deepEqual([decimal(quote.bid, 9, 2), quote.bidQty, decimal(quote.ask, 9, 2), quote.askQty], ["38.41", 1200n, "38.43", 900n]);
  const live = example("trade-live");
  assert.deepEqual([live.price, live.qty, live.side, live.tradeId, live.tsEventMs], [38_430_000_000n, 300n, "buy", 70_011n, 1_784_034_439_127]);
  assert.deepEqual([example("definition-snapshot").symbol, example("definition-snapshot").decimals], ["PETR4", 2]);
  assert.deepEqual(example("breaker-change").breaker, { name: "core.exchange", from: "closed", to: "open" });
});

test("numbers are exact", () => {
  assert.equal(crc32c(new DataView(new TextEncoder().encode("123456789").buffer), 0, 9), 0xe3069283);
  for (const [units, scale, least, text] of [[38_420_000_000n, 9, 2, "38.42"], [38_000_000_000n, 9, 2, "38.00"], [-5n, 9, 0, "-0.000000005"],
    [NO_PRICE - 1n, 9, 2, "9223372036.854775806"], [12_345n, 8, 0, "0.00012345"], [1200n, 0, 0, "1200"]]) {
    assert.equal(decimal(units, scale, least), text);
    assert.equal(parseDecimal(text, scale), units);
  }
  for (const text of ["", "x", "1.2.3", "1e5", "0.0000000001", null, undefined]) assert.equal(parseDecimal(text), null);
  assert.equal(sizeUnits(0xffffffff), 268_435_455n * 10n ** 15n);
});

test("a lost connection goes on behind the last frame", () => {
  const { seen, sockets, wait } = play();
  sockets[0].begin();
  sockets[0].frames(trade(1003, 418));
  sockets[0].onclose({ code: 4001, reason: "too slow" });
  assert.deepEqual([seen.states.at(-1).state, seen.states.at(-1).waitMs, seen.states.at(-1).reason], ["waiting", 250, "too slow"]);
  assert.equal(seen.feeds.at(-1).state, "lost");
  wait(250);
  sockets[1].onopen();
  assert.equal(sockets[1].sent[0], '{"subscribe":1,"symbols":["*"],"from":"0000000000000000:1004"}');
  // What was seen is not given out again.
  sockets[1].frames(trade(1003, 418), trade(1004, 419));
  assert.deepEqual(seen.frames.filter(([kind]) => kind === KIND.TRADE).map(([, seq]) => seq), [1003n, 1004n]);
  assert.deepEqual(seen.gaps, []);
});

test("what is away for too long begins anew, and says what lies between", () => {
  const { seen, sockets, wait } = play();
  sockets[0].begin();
  sockets[0].onclose({ code: 1006, reason: "" });
  wait(61_000);
  sockets[1].onopen();
  assert.equal(sockets[1].sent[0], '{"subscribe":1,"symbols":["*"]}');
  sockets[1].frames(changed("snapshot-end", (view) => view.setBigUint64(12, 5000n, true)));
  assert.deepEqual(seen.gaps, [{ id: 1, reason: "away", from: 1003n, to: 4999n, missed: null, instrument: null }]);
});

test("holes are found, with the reason of the gap that was announced", () => {
  const { seen, sockets } = play();
  sockets[0].begin();
  sockets[0].frames(trade(1003, 418), trade(1010, 421));
  assert.deepEqual([seen.gaps[0].reason, seen.gaps[0].missed, seen.gaps[0].instrument], ["unannounced", 2n, 0x1000007]);
  const gap = changed("gap-lapped", (view) => view.setBigUint64(8, 1011n, true));
  sockets[0].frames(gap, trade(9001, 430), trade(9005, 432));
  assert.deepEqual(seen.gaps.slice(1).map(({ reason, missed }) => [reason, missed]), [["lapped", null], ["lapped", 8n], ["unannounced", 1n]]);
});

test("holes of a conflated subscription are wanted", () => {
  const { seen, sockets } = play({ symbols: ["*"], mode: "conflate=250ms" });
  sockets[0].begin();
  sockets[0].frames(trade(1003, 418), trade(1010, 499), trade(1008, 500));
  assert.deepEqual(seen.gaps, []);
  assert.equal(seen.frames.length, 5);
});

test("a void epoch is said, and its numbers are given out again", () => {
  const { seen, sockets } = play();
  sockets[0].begin();
  sockets[0].frames(trade(1003, 418), trade(1004, 419), examples.get("gap-void"), trade(1003, 418));
  assert.equal(seen.gaps[0].reason, "void");
  assert.deepEqual(seen.frames.slice(-1), [[KIND.TRADE, 1003n]]);
});

test("a place that the gateway does not know begins anew", () => {
  const { seen, sockets, wait } = play();
  sockets[0].begin();
  sockets[0].onclose({ code: 1006, reason: "" });
  wait(250);
  sockets[1].onopen();
  sockets[1].line({ kind: "error", id: 1, code: "unexpected", text: "this sequence is not known" });
  assert.equal(sockets[1].sent[1], '{"subscribe":1,"symbols":["*"]}');
  sockets[1].frames(changed("snapshot-end", (view) => view.setBigUint64(12, 2000n, true)));
  assert.deepEqual(seen.gaps.map(({ reason, from, to }) => [reason, from, to]), [["refused", 1003n, 1999n]]);
});

test("a bad frame ends the connection, and the feed's state is told", () => {
  const { seen, sockets } = play();
  sockets[0].begin();
  sockets[0].frames(examples.get("feed-stale"));
  assert.equal(seen.feeds.at(-1).state, "stale");
  const bad = Uint8Array.from(trade(1003, 418));
  bad[40] ^= 1;
  sockets[0].frames(bad);
  assert.ok(sockets[0].isClosed);
  assert.match(seen.states.at(-1).reason, /checksum/);
  assert.equal(seen.frames.filter(([kind]) => kind === KIND.TRADE).length, 0);
});

test("attempts wait longer each time, and not for ever", () => {
  const { seen, sockets, wait } = play();
  for (let at = 0; at < 8; at += 1) {
    sockets[at].onerror();
    wait(20_000);
  }
  const waits = seen.states.filter(({ state }) => state === "waiting").map(({ waitMs }) => waitMs);
  assert.deepEqual(waits, [250, 500, 1000, 2000, 4000, 7500, 7500, 7500]);
});

test("the drawing says how long each hop takes, by the polls of now and before", () => {
  const node = (counts, more = {}) => {
    const figures = { "delivery_us.count": counts[3], ...more };
    [100, 1000, 5000].forEach((limit, index) => { figures[`delivery_us.le_${limit}`] = counts[index]; });
    return { figures };
  };
  const before = node([50, 60, 60, 60]);
  assert.equal(spread(node([110, 155, 160, 160]), before, "delivery_us"), "≤ 0.1 / 5 ms");
  assert.equal(spread(node([50, 60, 160, 160]), before, "delivery_us"), "≤ 5 / 5 ms");
  assert.equal(spread(node([50, 60, 140, 160]), before, "delivery_us"), "≤ 5 / > 5 ms");
  assert.equal(spread(node([50, 60, 60, 160]), before, "delivery_us"), "> 5 ms");
  assert.equal(spread(before, before, "delivery_us"), "", "nothing since");
  assert.equal(spread(node([9, 10, 10, 10]), before, "delivery_us"), "≤ 0.1 / 1 ms", "it has begun anew");
  assert.equal(spread(undefined, undefined, "delivery_us"), "");
  assert.equal(spread({ figures: {} }, null, "delivery_us"), "");
  const status = { nodes: [{ node: "broker", status: "ok", condition: "ok", ...node([9, 10, 10, 10]) }] };
  assert.ok(readRoad(status, null, 0).broker.lines.includes("since core ≤ 0.1 / 1 ms"));
});
