/**
 * What `/v1/status` says, as the road of a quote: who is there, how well, how fast, how far behind. What it is not: the
 * drawing, which is system.js. It is pure: the same answers give the same road.
 */
import { duration, grouped, rate } from "./text.js";

const BEHIND_MS = 3_000;

/** States of a node, and their words. */
const CONDITIONS = { ok: "ok", note: "ok", ended: "ended", stale: "stale", trouble: "trouble", stopped: "trouble" };

/** @typedef {{name: string, state: string, word: string, trouble: string|null, lines: string[], copies: object[]}} Place */
/** @typedef {{name: string, state: string, since: string, node: string, report: object}} Breaker */

const nameOf = (node) => (node.copy ? `${String(node.node).replace(/\.\d+$/, "")}.${node.copy}` : node.node);
const isThere = (node) => node.reachable ?? node.status === "ok";

/** @returns {Place} */
function place(node, name, lines) {
  if (!node) return { name, state: "unknown", word: "not in the status", trouble: null, lines: [], copies: [] };
  const state = isThere(node) ? CONDITIONS[node.condition] ?? "ok" : "away";
  const word = state === "away" ? `away: ${node.status}` : state;
  return { name, state, word, trouble: node.trouble ?? null, lines: isThere(node) ? lines : [], copies: [] };
}

const figure = (node, name) => node?.figures?.[name] ?? null;
const difference = (one, other) => (one === null || other === null ? null : Math.max(0, one - other));

/** A rate from two polls. */
function perSecond(node, before, name, seconds) {
  const [now, then] = [figure(node, name), figure(before, name)];
  return now === null || then === null || seconds <= 0 || now < then ? null : (now - then) / seconds;
}

/**
 * In which time half of what a histogram has counted since the poll before was done, and 99 %: limits of its classes.
 * @param {object|undefined} node @param {object|undefined} before @param {string} name of the figures, ending in `_us`
 */
export function spread(node, before, name) {
  const count = figure(node, `${name}.count`);
  // A node that has begun anew counts from nothing.
  const earlier = count !== null && count >= (figure(before, `${name}.count`) ?? 0) ? before : null;
  const since = (key) => (figure(node, key) ?? 0) - (figure(earlier, key) ?? 0);
  const all = since(`${name}.count`);
  if (all <= 0) return "";
  const classes = Object.keys(node.figures).filter((key) => key.startsWith(`${name}.le_`));
  const limits = classes.map((key) => Number(key.slice(`${name}.le_`.length))).sort((one, other) => one - other);
  const within = (part) => limits.find((limit) => since(`${name}.le_${limit}`) >= part * all);
  const [half, most] = [within(0.5), within(0.99)];
  const ms = (us) => String(us / 1_000);
  if (half === undefined) return `> ${ms(limits.at(-1))} ms`;
  return most === undefined ? `≤ ${ms(half)} / > ${ms(limits.at(-1))} ms` : `≤ ${ms(half)} / ${ms(most)} ms`;
}

/** The same with what it is about, if there is something. */
function hop(what, node, before, name) {
  const text = spread(node, before, name);
  return text && `${what} ${text}`;
}

/**
 * @param {object} status the answer @param {object|null} before the one before @param {number} seconds between them
 */
export function readRoad(status, before, seconds) {
  const nodes = new Map((status.nodes ?? []).map((node) => [nameOf(node), node]));
  const olds = new Map((before?.nodes ?? []).map((node) => [nameOf(node), node]));
  const get = (name) => nodes.get(name);
  const breakers = [];
  for (const [node, report] of nodes) {
    for (const one of report.breakers ?? []) {
      breakers.push({ name: one.name, state: one.state, since: duration(one.since_ms), node, report: one });
    }
  }
  const breaker = (name) => breakers.find((one) => one.name === name) ?? null;
  const core = get("core");
  const words = core?.words ?? {};
  const coreRate = perSecond(core, olds.get("core"), "next_seq", seconds);
  const next = figure(core, "next_seq");

  const isInner = (name) => /^(core|broker|aggregator|gateway|shard-.+|core\..+)$/.test(name);
  const exchanges = [...nodes.keys()].filter((name) => !isInner(name)).map((name) => {
    const key = `exchange.${name}` in words ? `exchange.${name}` : "exchange";
    const report = get(name);
    const last = figure(core, `${key}.last_event_ms`);
    const lines = [report?.words?.feed ?? "", rate(perSecond(report, olds.get(name), "feed.released_seq", seconds))];
    const found = place(report, name, lines.filter(Boolean));
    // Core says how its session with the exchange is; that outweighs what the exchange says of itself.
    const session = words[key] ?? "";
    // What it does wrong on purpose, which everything else in the drawing may follow from.
    const chaos = report?.words?.chaos ?? "off";
    return {
      ...found, session, chaos: chaos === "off" ? "" : chaos, last: last === null || last < 0 ? null : last,
      breaker: breaker(key === "exchange" ? "core.exchange" : `core.${name}`),
    };
  });

  const coreLines = [next === null ? "" : `next seq ${grouped(next)}`, rate(coreRate),
    hop("to disk", core, olds.get("core"), "log_sync_us")];
  const durable = difference(next, figure(core, "durable_seq"));
  const journal = {
    ...place(core, "journal", [durable === null ? "" : `${grouped(durable)} unsynced`]),
    word: words.journal ?? "",
  };
  if (words.journal) journal.state = "trouble";

  const broker = get("broker");
  const brokerBehind = difference(next, figure(broker, "source.1.next_seq"));
  const subscribers = figure(broker, "subscribers");
  const brokerLines = [
    subscribers === null ? "" : `${grouped(subscribers)} subscriber${subscribers === 1 ? "" : "s"}`,
    rate(perSecond(broker, olds.get("broker"), "source.1.next_seq", seconds)),
    brokerBehind === null ? "" : `${grouped(brokerBehind)} behind core`,
    hop("since core", broker, olds.get("broker"), "delivery_us"),
  ];

  const shards = [...nodes.keys()].filter((name) => /^shard-[^.]+$/.test(name)).map((name) => {
    const report = get(name);
    const behind = figure(report, "behind_ms");
    const trades = perSecond(report, olds.get(name), "trades", seconds);
    const copies = [...nodes.keys()].filter((other) => other.startsWith(`${name}.`));
    const lines = [
      trades === null ? "" : `${grouped(Math.round(trades))} trades/s`,
      behind !== null && behind > BEHIND_MS ? `${duration(behind)} behind` : "not behind",
      hop("asked", get("aggregator"), olds.get("aggregator"), `${name}.gather_us`),
    ];
    const found = place(report, name, lines);
    found.copies = copies.map((other) => place(get(other), other, []));
    const part = name.slice("shard-".length);
    return { ...found, feed: words[name] ?? "", breaker: breaker(`core.${name}`),
      asked: breaker(`aggregator.${name}`) ?? breaker(`aggregator.${part}`) };
  });

  const aggregator = get("aggregator");
  const asked = perSecond(aggregator, olds.get("aggregator"), "gather.asked", seconds);
  const flight = figure(aggregator, "in_flight");
  const partial = figure(aggregator, "gather.partial");
  const gateway = get("gateway");
  const readers = figure(gateway, "subscribers") ?? figure(gateway, "connections");
  const corePlace = place(core, "core", coreLines);
  corePlace.copies = [...nodes.keys()].filter((name) => /^core\..+$/.test(name)).map((name) => place(get(name), name, []));
  return {
    exchanges, journal, shards, breakers, coreRate, next,
    core: corePlace,
    broker: place(broker, "broker", brokerLines),
    aggregator: place(aggregator, "aggregator", [
      asked === null ? "" : `${grouped(Math.round(asked))} questions/s`, flight === null ? "" : `${flight} in flight`,
      partial ? `${grouped(partial)} partial so far` : "",
    ]),
    gateway: gateway ? place(gateway, "gateway", [readers === null ? "" : `connections: ${grouped(readers)}`,
      hop("since core", gateway, olds.get("gateway"), "delivery_us")])
      : { ...place(null, "gateway", []), state: "ok", word: "ok" },
    toBroker: { word: words.broker ?? "", breaker: breaker("core.broker") },
    fromBroker: { breaker: breaker("gateway.broker") },
    toAggregator: { breaker: breaker("gateway.aggregator") },
    isPlayground: status.playground === true,
    nodes: [...nodes.entries()].map(([name, node]) => ({ ...place(node, name, []), node: node.node, copy: node.copy ?? null,
      address: node.address ?? "", elapsedUs: node.elapsed_us ?? null, chaos: node.words?.chaos ?? null })),
  };
}

/** Whether a breaker lets calls through. @param {Breaker|null} breaker */
export function isOpen(breaker) {
  return breaker !== null && ["open", "forced-open", "half-open"].includes(breaker.state);
}
