/**
 * The road of a quote as a drawing: exchange, core, journal, broker, gateway, this browser; below it the shards and the
 * aggregator. What it is not: the figures, which come from road.js.
 */
import { isOpen } from "./road.js";
import { duration } from "./text.js";

const SVG = "http://www.w3.org/2000/svg";
const MARGIN = 6;

/** @param {string} name @param {Record<string, string|number>} attributes @param {string} [text] */
function make(name, attributes, text) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, String(value));
  if (text !== undefined) element.textContent = text;
  return element;
}

/** Makes `old` say what `fresh` says: what differs is written, and a part of another shape is replaced. */
function change(old, fresh) {
  if (old.nodeName !== fresh.nodeName || old.childNodes.length !== fresh.childNodes.length) {
    old.replaceWith(fresh);
    return;
  }
  if (old.nodeType === Node.TEXT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return;
  }
  for (const { name, value } of fresh.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  for (const name of old.getAttributeNames()) if (!fresh.hasAttribute(name)) old.removeAttribute(name);
  const fresher = [...fresh.childNodes];
  [...old.childNodes].forEach((child, index) => change(child, fresher[index]));
}

const cut = (text, width) => {
  const most = Math.max(4, Math.floor(width / 5.9));
  return text.length > most ? `${text.slice(0, most - 1)}…` : text;
};

export class System {
  /** @param {HTMLElement} host @param {HTMLElement} summary the same in words */
  constructor(host, summary) {
    this.host = host;
    this.summary = summary;
    this.road = null;
    this.browser = { state: "unknown", word: "", lines: [] };
    this.width = 0;
    new ResizeObserver(() => {
      if (host.clientWidth !== this.width) this.draw();
    }).observe(host);
  }

  /** @param {ReturnType<import("./road.js").readRoad>|null} road null: the status is not known */
  show(road, browser) {
    this.road = road;
    this.browser = browser;
    this.draw();
  }

  draw() {
    const width = Math.floor(this.host.clientWidth) - 12;
    this.width = this.host.clientWidth;
    if (width < 100) return;
    if (!this.road) {
      this.host.replaceChildren();
      return;
    }
    const svg = make("svg", { role: "img", "aria-labelledby": "system-summary" });
    const height = width < 620 ? this.#tall(svg, width) : this.#wide(svg, width);
    svg.setAttribute("width", String(width));
    svg.setAttribute("height", String(height));
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    // What stays as it is keeps its place in the browser, and costs nothing.
    if (this.host.firstChild) change(this.host.firstChild, svg);
    else this.host.append(svg);
    const text = this.#words();
    if (this.summary.textContent !== text) this.summary.textContent = text;
  }

  /** From left to right. */
  #wide(svg, width) {
    const { road, browser } = this;
    const gap = Math.max(54, Math.min(96, width * 0.066));
    const box = (width - 2 * MARGIN - 4 * gap) / 5;
    const x = (column) => MARGIN + column * (box + gap);
    const [top, tall, second] = [8, 84, 134];
    const exchanges = road.exchanges.slice(0, 3);
    const each = exchanges.length > 1 ? (tall - 4 * (exchanges.length - 1)) / exchanges.length : tall;
    exchanges.forEach((exchange, index) => {
      const y = top + index * (each + 4);
      this.#box(svg, x(0), y, box, each, exchange, exchange.session && exchange.session !== "live"
        ? `session: ${exchange.session}` : exchange.word);
      this.#edge(svg, [[x(0) + box, y + each / 2], [x(1), y + each / 2]], this.#exchangeEdge(exchange, each < 40));
    });
    const extra = road.exchanges.length - exchanges.length;
    if (extra > 0) svg.append(make("text", { x: x(0), y: top + tall + 12, class: "s-line" }, `and ${extra} more exchanges`));
    this.#box(svg, x(1), top, box, tall - 20, road.core, road.core.word);
    this.#strip(svg, x(1), top + tall - 20, box, 20, road.journal);
    this.#edge(svg, [[x(1) + box, top + 40], [x(2), top + 40]], this.#brokerEdge());
    this.#box(svg, x(2), top, box, tall, road.broker, road.broker.word);
    this.#edge(svg, [[x(2) + box, top + 40], [x(3), top + 40]], this.#plainEdge(road.fromBroker.breaker));
    this.#box(svg, x(3), top, box, tall, road.gateway, road.gateway.word);
    this.#edge(svg, [[x(3) + box, top + 40], [x(4), top + 40]], this.#browserEdge());
    this.#box(svg, x(4), top, box, tall, { ...browser, name: "this browser", copies: [] }, browser.word);
    // The shards stand below core and broker, the aggregator below the gateway.
    const area = x(3) - 24 - x(1);
    const count = Math.max(1, road.shards.length);
    const wide = Math.min(box, (area - (count - 1) * 8) / count);
    const low = second + 20;
    road.shards.forEach((shard, index) => {
      const left = x(1) + index * (wide + 8);
      const middle = left + wide / 2;
      this.#edge(svg, [[x(1) + box / 2, top + tall], [x(1) + box / 2, second], [middle, second], [middle, low]], {
        ...this.#plainEdge(shard.breaker), label: "" });
      this.#box(svg, left, low, wide, 66, shard, shard.feed && shard.feed !== "streaming" ? shard.feed : shard.word);
      const bus = low + 66 + 12;
      this.#edge(svg, [[middle, low + 66], [middle, bus], [x(3) + box * 0.3, bus], [x(3) + box * 0.3, low + 66]], {
        ...this.#plainEdge(shard.asked), label: "", arrow: index === 0 });
    });
    this.#box(svg, x(3), low, box, 66, road.aggregator, road.aggregator.word);
    this.#edge(svg, [[x(3) + box / 2, low], [x(3) + box / 2, top + tall]], this.#plainEdge(road.toAggregator.breaker));
    this.#legend(svg, x(4), low + 6);
    return low + 66 + 18;
  }

  /** From top to bottom, for a telephone. */
  #tall(svg, width) {
    const { road, browser } = this;
    const box = width - 2 * MARGIN;
    let y = 4;
    const next = (height, edge) => {
      const from = y + height;
      y = from + 30;
      this.#edge(svg, [[width / 2, from], [width / 2, y]], edge);
    };
    const exchanges = road.exchanges.slice(0, 3);
    const each = (box - 8 * (exchanges.length - 1)) / Math.max(1, exchanges.length);
    exchanges.forEach((exchange, index) => {
      this.#box(svg, MARGIN + index * (each + 8), y, each, 62, exchange, exchange.session || exchange.word);
    });
    next(62, exchanges.length > 0 ? this.#exchangeEdge(exchanges[0]) : this.#plainEdge(null));
    this.#box(svg, MARGIN, y, box, 58, road.core, road.core.word);
    this.#strip(svg, MARGIN, y + 58, box, 20, road.journal);
    next(78, this.#brokerEdge());
    this.#box(svg, MARGIN, y, box, 74, road.broker, road.broker.word);
    next(74, this.#plainEdge(road.fromBroker.breaker));
    this.#box(svg, MARGIN, y, box, 62, road.gateway, road.gateway.word);
    next(62, this.#browserEdge());
    this.#box(svg, MARGIN, y, box, 84, { ...browser, name: "this browser", copies: [] }, browser.word);
    y += 84 + 28;
    svg.append(make("text", { x: MARGIN, y: y - 8, class: "s-line" }, "History: core feeds the shards, the aggregator asks them"));
    const count = Math.max(1, Math.min(3, road.shards.length));
    const wide = (box - 6 * (count - 1)) / count;
    road.shards.forEach((shard, index) => {
      const [left, top] = [MARGIN + (index % count) * (wide + 6), y + Math.floor(index / count) * 76];
      this.#box(svg, left, top, wide, 70, shard, isOpen(shard.breaker) ? "breaker open" : shard.word);
    });
    y += Math.ceil(road.shards.length / count) * 76 + 18;
    this.#edge(svg, [[width / 2, y - 24], [width / 2, y]], this.#plainEdge(null));
    this.#box(svg, MARGIN, y, box, 62, road.aggregator, road.aggregator.word);
    this.#legend(svg, MARGIN, y + 78);
    return y + 140;
  }

  #box(svg, x, y, width, height, place, word) {
    const group = make("g", { class: "s-node", "data-state": place.state, ...(place.chaos ? { "data-chaos": "on" } : {}) });
    const wrong = place.chaos ? "misbehaves" : "";
    group.append(make("title", {}, [place.name, word, place.trouble, wrong && `${wrong} on purpose: ${place.chaos}`, ...place.lines]
      .filter(Boolean).join("; ")));
    group.append(make("rect", { x: x + 0.5, y: y + 0.5, width, height, rx: 4 }));
    group.append(make("circle", { cx: x + 11, cy: y + 13, r: 4 }));
    group.append(make("text", { x: x + 20, y: y + 17, class: "s-name" }, cut(place.name, (width - 24 - 24 * place.copies.length) * 0.84)));
    const inside = width - 14;
    const texts = [place.state === "ok" && place.lines.length > 0 ? "" : word, wrong, ...place.lines].filter(Boolean);
    if (place.trouble && place.state !== "ok") texts.splice(1, 0, place.trouble);
    const room = Math.floor((height - 22) / 14);
    texts.slice(0, room).forEach((text, index) => {
      const isWord = index === 0 && place.state !== "ok";
      const kind = isWord ? "s-word" : text === wrong ? "s-wrong" : "s-line";
      group.append(make("text", { x: x + 8, y: y + 33 + index * 14, class: kind }, cut(text, inside)));
    });
    place.copies.forEach((copy, index) => {
      const dot = make("g", { class: "s-copy", "data-state": copy.state });
      dot.append(make("title", {}, `copy ${copy.name}: ${copy.word}`));
      const left = x + width - 27 - index * 24;
      dot.append(make("rect", { x: left, y: y + 6.5, width: 22, height: 13, rx: 2 }));
      dot.append(make("text", { x: left + 11, y: y + 16.5, class: "s-small" }, `.${copy.name.split(".").at(-1)}`));
      group.append(dot);
    });
    svg.append(group);
  }

  #strip(svg, x, y, width, height, place) {
    const group = make("g", { class: "s-node s-strip", "data-state": place.state });
    group.append(make("title", {}, [place.name, place.word, ...place.lines].filter(Boolean).join("; ")));
    group.append(make("rect", { x: x + 0.5, y: y + 0.5, width, height, rx: 3 }));
    group.append(make("text", { x: x + 8, y: y + 14, class: "s-line" },
      cut(`journal: ${place.word || place.lines.join(" ") || "all durable"}`, width - 12)));
    svg.append(group);
  }

  /** A line with an arrow, what flows on it, and the switch of its breaker. */
  #edge(svg, points, { label = "", note = "", state = "ok", breaker = null, arrow = true }) {
    const group = make("g", { class: "s-edge", "data-state": state });
    const open = isOpen(breaker);
    if (breaker) group.append(make("title", {}, `breaker ${breaker.name}: ${breaker.state} for ${breaker.since}`));
    group.append(make("polyline", { points: points.map((point) => point.join(",")).join(" ") }));
    const [[fromX, fromY], [toX, toY]] = points.slice(-2);
    const angle = Math.atan2(toY - fromY, toX - fromX);
    const tip = (turn) => `${toX - 7 * Math.cos(angle + turn)},${toY - 7 * Math.sin(angle + turn)}`;
    if (arrow) group.append(make("polygon", { points: `${toX},${toY} ${tip(0.45)} ${tip(-0.45)}` }));
    const isFlat = Math.abs(toX - fromX) > Math.abs(toY - fromY);
    const [middleX, middleY] = [(fromX + toX) / 2, (fromY + toY) / 2];
    if (breaker) {
      const [cx, cy] = isFlat ? [middleX, middleY] : [toX, fromY + (toY - fromY) * 0.4];
      group.append(make("circle", { cx, cy, r: open ? 5 : 3.5, class: open ? "s-open" : "s-closed" }));
    }
    const anchor = isFlat ? "middle" : "start";
    const at = isFlat ? middleX : middleX + 12;
    if (label) group.append(make("text", { x: at, y: isFlat ? middleY - 9 : middleY + 4, "text-anchor": anchor, class: "s-small" }, label));
    if (note) {
      const side = isFlat ? { x: at, y: middleY + 18 } : { x: at + 6 * label.length + (label ? 12 : 0), y: middleY + 4 };
      group.append(make("text", { ...side, "text-anchor": anchor, class: "s-small" }, note));
    }
    svg.append(group);
  }

  #plainEdge(breaker) {
    // Between two boxes there is room for a short word; that it is open is drawn.
    const word = breaker?.state === "forced-open" ? "forced" : breaker?.state;
    return { breaker, state: isOpen(breaker) ? "trouble" : "ok", note: isOpen(breaker) ? word : "" };
  }

  #exchangeEdge(exchange, isNarrow = false) {
    const edge = this.#plainEdge(exchange.breaker);
    // Between two lines that are close there is room for one text.
    if (isNarrow && edge.note) return { ...edge, label: edge.note, note: "" };
    const age = exchange.last === null ? "" : `${duration(exchange.last)} ago`;
    const isLive = exchange.session === "" || exchange.session === "live" || exchange.session === "ended";
    return { ...edge, label: age, state: edge.state === "ok" && !isLive ? "stale" : edge.state };
  }

  #brokerEdge() {
    const { breaker, word } = this.road.toBroker;
    const edge = this.#plainEdge(breaker);
    const isBad = word !== "" && word !== "streaming";
    return { ...edge, label: isBad ? word : "", state: isBad ? "trouble" : edge.state };
  }

  #browserEdge() {
    const { state, edge = "" } = this.browser;
    return { state: state === "away" ? "trouble" : "ok", label: edge };
  }

  #legend(svg, x, y) {
    const group = make("g", { class: "s-edge", "data-state": "ok" });
    group.append(make("circle", { cx: x + 5, cy: y, r: 3.5, class: "s-closed" }));
    group.append(make("text", { x: x + 15, y: y + 4, class: "s-small" }, "breaker closed"));
    svg.append(group);
    const open = make("g", { class: "s-edge", "data-state": "trouble" });
    open.append(make("circle", { cx: x + 5, cy: y + 18, r: 5, class: "s-open" }));
    open.append(make("text", { x: x + 15, y: y + 22, class: "s-small" }, "breaker open"));
    svg.append(open);
    svg.append(make("text", { x, y: y + 42, class: "s-small" }, ".1 is a further copy"));
  }

  #words() {
    const { road, browser } = this;
    const places = [...road.exchanges, road.core, road.broker, road.gateway, ...road.shards, road.aggregator];
    const bad = places.filter((place) => !["ok", "unknown"].includes(place.state)).map((place) => `${place.name}: ${place.word}`);
    const open = road.breakers.filter(isOpen).map((breaker) => `breaker ${breaker.name} ${breaker.state}`);
    const wrong = road.exchanges.filter((one) => one.chaos).map((one) => `${one.name} misbehaves on purpose: ${one.chaos}`);
    const troubles = [...wrong, ...bad, ...open];
    return `The road of a quote: ${places.length} nodes. ${troubles.length > 0 ? troubles.join(", ") : "All nodes are well"}. `
      + `This browser: ${browser.word}.`;
  }
}
