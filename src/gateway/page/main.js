/**
 * The page: it opens the stream, gives each part what is its own, paints once in an animation frame, and asks for the
 * status once a second while somebody looks.
 */
import { Events, Panel } from "./panel.js";
import { FLAG, FrameStream, KIND } from "./frames.js";
import { ask } from "./http.js";
import { Fill } from "./fill.js";
import { Instrument } from "./instrument.js";
import { Losses } from "./losses.js";
import { Market } from "./market.js";
import { Meter } from "./meter.js";
import { readRoad } from "./road.js";
import { System } from "./system.js";
import { Watch } from "./watch.js";
import { duration, grouped, latency, rate } from "./text.js";
import { parts, slash, tabs, theme } from "./view.js";

const $ = (id) => document.getElementById(id);
const POLL_MS = 1_000;

const market = new Market();
const meter = new Meter();
const events = new Events($("events"));
const losses = new Losses(events);
const system = new System($("road"), $("system-summary"));
const panel = new Panel(
  { breakers: $("breakers"), nodes: $("nodes"), dialog: $("confirm"), note: $("no-playground") }, events);
/** Names of the system's topics by number, and of exchanges by theirs. */
const topics = new Map();
const exchanges = new Map();
let wanted = decodeURIComponent(location.hash.slice(1));
let status = null;

const stream = new FrameStream(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/v1/stream`, {
  frame: take,
  message: (_, frames) => { meter.updates += frames; },
  gap: takeGap,
  feed: takeFeed,
  state: takeState,
  line: (line, id) => instrument.line(line, id),
  subscribed: ({ id, resumed }) => {
    if (id !== marketId) return;
    if (resumed) events.add("good", "The connection is back, and goes on where it was");
    else if (wasOpen) instrument.reload();
    wasOpen = true;
  },
  error: ({ code, text }) => events.add("bad", `The gateway says: ${text} (${code})`),
});
let wasOpen = false;
const fill = new Fill(market, (text) => events.add("bad", text));
const instrument = new Instrument(market, stream);
const watch = new Watch(
  { head: $("head"), scroller: $("scroller"), rows: $("rows"), filter: $("filter"), count: $("count") }, market,
  { choose, seen: (row, now) => fill.seen(row, now) });
// All kinds: so a number that is missing is a loss. Changes of breakers come with them.
const marketId = stream.subscribe({ symbols: ["*", "$sys.*"] });

function take(frame) {
  const now = performance.now();
  const { kind } = frame;
  if (kind === KIND.DEFINITION) defined(frame);
  else if (kind >= KIND.BREAKER_CHANGE) happened(frame, frame.has(FLAG.SNAPSHOT));
  market.take(frame, now);
  if (frame.has(FLAG.SNAPSHOT)) return;
  meter.frame(performance.timeOrigin + now - frame.tsRecvMs);
  instrument.take(frame);
}

function defined(frame) {
  const symbol = frame.symbol;
  if (symbol.startsWith("$") && topics.size < 256) topics.set(frame.instrument, symbol);
}

function happened(frame, isOld) {
  if (frame.kind === KIND.EXCHANGE_PLACE) {
    const name = topics.get(frame.instrument)?.replace("$sys.exchange.", "");
    if (name && exchanges.size < 32) exchanges.set(frame.u16(48), name);
  } else if (frame.kind === KIND.BREAKER_CHANGE && !isOld) {
    const { name, from, to } = frame.breaker;
    events.add(to === "closed" ? "good" : to === "half-open" ? "note" : "bad", `Breaker ${name}: ${from} to ${to}`);
  } else if (frame.kind === KIND.SILENCE && !isOld) {
    const { who, heard, usualMs } = frame.silence;
    events.add(heard ? "good" : "bad", heard ? `${who} is heard again`
      : `${who} is silent; at most ${duration(usualMs)} are usual between two frames`);
  }
}

function takeGap(gap) {
  if (gap.instrument === null) {
    losses.add(gap, null);
    instrument.gap(gap);
    return;
  }
  const row = market.rows.get(gap.instrument);
  losses.add(gap, row === undefined ? topics.get(gap.instrument) ?? `instrument ${gap.instrument}` : market.symbols[row]);
  if (gap.instrument === instrument.instrument) instrument.gap(gap);
}

const FEEDS = { unknown: "not known yet", current: "live", stale: "stale", ended: "ended", lost: "not connected" };
let feedBefore = "unknown";

/** The name of an exchange: as the system's topic says, else the venue of its instruments. */
function exchangeName(number) {
  if (exchanges.has(number)) return exchanges.get(number);
  const row = market.symbols.findIndex((symbol, at) => market.exchange[at] === number && symbol.includes(":"));
  return row >= 0 ? market.symbols[row].split(":")[0] : number === 0 ? "the exchange" : `exchange ${number}`;
}

function takeFeed(feed) {
  market.setFeed(feed);
  const names = (bits) => [...Array(32).keys()].filter((bit) => (bits >>> bit) & 1)
    .map(exchangeName).join(", ");
  const some = [feed.stale && `${names(feed.stale)} stale`, feed.ended && `${names(feed.ended)} ended`].filter(Boolean);
  const word = [FEEDS[feed.state], ...some].join("; ");
  $("feed").textContent = `feed: ${word}`;
  $("feed").dataset.state = feed.stale ? "stale" : feed.state;
  const isStale = feed.state === "stale" || feed.stale !== 0;
  $("stale").hidden = !isStale;
  if (isStale) {
    const who = feed.state === "stale" ? "The feed is stale" : `${names(feed.stale)}: stale`;
    $("stale").textContent = `${who}. Quotes are the last known values, in grey, with their age.`;
  }
  if (word !== feedBefore && feed.state !== "lost" && feedBefore !== "unknown") {
    events.add(isStale ? "bad" : feed.state === "current" ? "good" : "note", `The feed is ${word}`);
    say(`The feed is ${word}`);
  }
  feedBefore = word;
}

const LINKS = { connecting: "connecting", open: "connected", waiting: "connection lost", closed: "closed" };
let linkBefore = "";
let lostBecause = "";

function takeState(link) {
  $("link").textContent = LINKS[link.state];
  $("link").dataset.state = link.state;
  $("lost").hidden = link.state === "open" || link.attempt === 0;
  if (link.state === "waiting" && link.attempt === 1) {
    // Why it was lost; why a further attempt fails is less.
    lostBecause = because(link);
    events.add("bad", `The connection is lost${because(link)}`);
    say("The connection to the gateway is lost");
  }
  if (link.state === "open" && linkBefore === "lost") say("The connection to the gateway is back");
  if (link.state === "waiting") linkBefore = "lost";
  if (link.state === "open") linkBefore = "open";
}

function because({ code, reason }) {
  if (reason) return `: ${reason} (${code})`;
  return code === null || code === 1006 ? "" : ` (${code})`;
}

function showWait() {
  const link = stream.connection;
  if ($("lost").hidden) return;
  const next = link.state === "waiting"
    ? `Next attempt in ${Math.max(0, Math.ceil((link.until - performance.now()) / 1000))} s.` : "Trying now.";
  const text = `The connection to the gateway is lost${lostBecause}. ${next} Attempt ${link.attempt}.`;
  if ($("lost-text").textContent !== text) $("lost-text").textContent = text;
}

function say(text) { $("spoken").textContent = text; }

function choose(row) {
  const [number] = [...market.rows].find(([, one]) => one === row) ?? [-1];
  instrument.choose(row, number);
  watch.setChosen(row);
  fill.seen(row);
  history.replaceState(null, "", `#${encodeURIComponent(market.symbols[row])}`);
  document.title = `${market.symbols[row]} – pregao`;
  say(`${market.symbols[row]} is chosen`);
  showPart("instrument");
}

/** The first choice: what the address says, else the first row. */
function chooseFirst() {
  if (instrument.row >= 0 || watch.order.length === 0 || stream.feed.state === "unknown") return;
  const row = market.rowOf(wanted);
  if (wanted && row < 0) events.add("note", `No instrument is named ${wanted}`);
  wanted = "";
  const tab = document.body.dataset.tab;
  choose(row >= 0 ? row : watch.order[0]);
  showPart(tab);
}

function paint(now) {
  requestAnimationFrame(paint);
  meter.paint(now);
  watch.paint(now);
  chooseFirst();
  instrument.paint(now);
  losses.flush(now);
  events.paint();
  showWait();
}

function showFigures() {
  const { updates, paints, longest, median, late } = meter.read();
  $("figure-rate").textContent = rate(updates);
  $("figure-latency").textContent = median === null ? "–" : `${latency(median)} / ${latency(late)}`;
  $("figure-frames").textContent = `${Math.round(paints)}/s, ${longest.toFixed(0)} ms at most`;
  return { updates, median };
}

async function poll() {
  if (document.hidden) return setTimeout(poll, POLL_MS);
  const { updates, median } = showFigures();
  if (stream.connection.state === "open") fill.rest();
  const began = performance.now();
  try {
    const { body } = await ask("/v1/status");
    const now = performance.now();
    const road = readRoad(body, status?.body ?? null, status ? (now - status.at) / 1000 : 0);
    status = { body, at: now };
    road.gateway.lines.push(`answers in ${latency(now - began)}`);
    const next = stream.subscriptions.get(marketId)?.next ?? null;
    const behind = road.next !== null && next !== null ? BigInt(road.next) - next : null;
    const isOpen = stream.connection.state === "open";
    system.show(road, {
      state: isOpen ? stream.feed.state === "stale" ? "stale" : "ok" : "away",
      word: isOpen ? `feed ${FEEDS[stream.feed.state]}` : LINKS[stream.connection.state],
      lines: [`${rate(updates)} frames`, behind === null ? "" : `${grouped(behind > 0n ? behind : 0n)} behind core`,
        median === null ? "" : `${latency(median)} since core`, `${grouped(losses.total)} missed`].filter(Boolean),
      edge: isOpen ? rate(updates) : "",
    });
    panel.show(road);
    $("system-note").textContent = "";
  } catch (error) {
    system.show(null, null);
    $("system-note").textContent = `The status is not known: ${error.message}.`;
  }
  return setTimeout(poll, POLL_MS);
}

const showPart = parts(document.querySelector("nav"), () => {
  watch.resize();
  instrument.chart.resize();
});
theme($("theme"), () => instrument.chart.restyle());
tabs($("views"));
slash($("filter"), () => showPart("list"));
$("retry").addEventListener("click", () => stream.connect());
addEventListener("online", () => stream.connect());
addEventListener("hashchange", () => {
  const row = market.rowOf(decodeURIComponent(location.hash.slice(1)));
  if (row >= 0) choose(row);
});
stream.connect();
requestAnimationFrame(paint);
poll();
