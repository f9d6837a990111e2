/**
 * The words beside the drawing: what has happened, the breakers, the nodes, and the buttons that break things where the
 * gateway was started as a playground.
 */
import { Refused, order } from "./http.js";
import { isOpen } from "./road.js";
import { NONE, grouped, timeOfDay } from "./text.js";

const EVENTS_MAX = 100;
/** Among so many of the newest events the same one is counted instead of said again. */
const RECENT_MAX = 12;
const RECENT_MS = 60_000;

/** What has happened, newest first. */
export class Events {
  /** @param {HTMLOListElement} list */
  constructor(list) {
    this.list = list;
    this.waiting = [];
    this.recent = [];
  }

  /** @param {"gap"|"bad"|"good"|"note"} tone @param {string} text */
  add(tone, text) {
    const same = this.recent.find((one) => one.text === text && Date.now() - one.ms < RECENT_MS);
    if (same) {
      // The same again is counted, so that one cause cannot push all others out.
      same.count += 1;
      same.isChanged = true;
      return;
    }
    const event = { tone, text, ms: Date.now(), count: 1, element: null, isChanged: true };
    this.recent.push(event);
    if (this.recent.length > RECENT_MAX) this.recent.shift();
    this.waiting.push(event);
    if (this.waiting.length > EVENTS_MAX) this.waiting.shift();
  }

  /** Once in an animation frame. */
  paint() {
    for (const event of this.waiting) {
      const item = document.createElement("li");
      item.dataset.tone = event.tone;
      const time = document.createElement("time");
      time.textContent = timeOfDay(event.ms).slice(0, 8);
      item.append(time, document.createElement("span"));
      this.list.prepend(item);
      event.element = item;
    }
    this.waiting = [];
    for (const event of this.recent) {
      if (!event.isChanged) continue;
      event.isChanged = false;
      event.element.lastChild.textContent = event.count === 1 ? event.text : `${event.text} (${grouped(event.count)} times)`;
    }
    while (this.list.children.length > EVENTS_MAX) this.list.lastChild.remove();
  }
}

/** Tables of breakers and nodes, with buttons in a playground. */
export class Panel {
  /**
   * @param {{breakers: HTMLTableSectionElement, nodes: HTMLTableSectionElement, dialog: HTMLDialogElement,
   *   note: HTMLElement}} parts
   * @param {Events} events
   */
  constructor(parts, events) {
    Object.assign(this, parts);
    this.events = events;
    /** Nodes that say how they misbehave on purpose: the exchanges. */
    this.misbehaving = new Set();
    this.dialog.querySelector("[data-part=no]").addEventListener("click", () => this.dialog.close());
    this.dialog.querySelector("[data-part=yes]").addEventListener("click", () => this.#do());
  }

  /** @param {ReturnType<import("./road.js").readRoad>} road */
  show(road) {
    this.note.hidden = road.isPlayground;
    // An exchange that is away for a moment keeps its buttons.
    for (const node of road.nodes) if (node.chaos !== null) this.misbehaving.add(node.name);
    const key = JSON.stringify([road.isPlayground, road.breakers.map((one) => one.name),
      road.nodes.map((one) => [one.name, this.misbehaving.has(one.name)])]);
    if (this.key !== key) this.#build(road, key);
    road.breakers.forEach((breaker, index) => {
      const row = this.breakers.rows[index];
      const { report } = breaker;
      row.dataset.state = isOpen(breaker) ? "trouble" : "ok";
      const probe = report.next_probe_ms === null ? "" : `, probe in ${(report.next_probe_ms / 1000).toFixed(1)} s`;
      const rate = report.failure_rate === null ? NONE : `${report.failure_rate}%`;
      write(row, [breaker.name, `${breaker.state}${probe}`, breaker.since, rate, report.last_error ?? NONE]);
      const error = report.last_error ?? "";
      if (row.cells[4].title !== error) row.cells[4].title = error;
    });
    road.nodes.forEach((node, index) => {
      const row = this.nodes.rows[index];
      row.dataset.state = node.state;
      const took = node.elapsedUs === null ? NONE : `${(node.elapsedUs / 1000).toFixed(2)} ms`;
      const wrong = node.chaos === null || node.chaos === "off" ? "" : `misbehaves on purpose: ${node.chaos}`;
      const trouble = [node.trouble, wrong].filter(Boolean).join("; ");
      write(row, [node.name, node.word, took, trouble]);
      if (row.cells[3].title !== trouble) row.cells[3].title = trouble;
    });
  }

  #build(road, key) {
    // A table is only built anew when something was added or taken away, so that the focus stays on its button.
    this.key = key;
    this.breakers.replaceChildren();
    for (const { name, node } of road.breakers) {
      const row = this.breakers.insertRow();
      for (let at = 0; at < 5; at += 1) row.insertCell();
      if (!road.isPlayground) continue;
      const cell = row.insertCell();
      const path = "/v1/playground/breaker";
      cell.append(
        this.#button("Open", `Force ${name} open`, path, { node, breaker: name, action: "force-open" },
          `The breaker ${name} is forced open. ${node} then calls nothing behind it and closes the connection that it `
          + "guards, until it is closed again here. What needs that connection is stale or partial meanwhile."),
        this.#button("Close", `Force ${name} closed`, path, { node, breaker: name, action: "force-closed" },
          `The breaker ${name} is forced closed. ${node} then calls what is behind it, whether it fails or not.`),
        this.#button("Reset", `Reset ${name}`, path, { node, breaker: name, action: "reset" },
          `The breaker ${name} starts anew: closed, with its first wait and no last error.`),
      );
    }
    this.nodes.replaceChildren();
    for (const { name } of road.nodes) {
      const row = this.nodes.insertRow();
      for (let at = 0; at < 4; at += 1) row.insertCell();
      if (!road.isPlayground) continue;
      const cell = row.insertCell();
      if (this.misbehaving.has(name)) cell.append(...this.#chaosButtons(name));
      if (!name.startsWith("shard-")) continue;
      cell.append(this.#button("Kill", `Kill ${name}`, "/v1/playground/kill", { node: name },
        `The process of ${name} is ended at once, without a goodbye. Its supervisor starts it again. Until then questions that `
        + "need it are answered in part, or by its copy if there is one. Its log is on disk and nothing of it is lost."));
    }
  }

  #chaosButtons(node) {
    const path = "/v1/playground/chaos";
    return [
      this.#button("Misbehave", `Have ${node} misbehave`, path, { node, action: "misbehave" },
        `The exchange ${node} then refuses and stalls sessions and requests, delays answers, loses frames, sends garbage and breaks `
        + "off in the middle of a frame, until it is told otherwise here. Core asks for what is missing, so nothing is lost, but quotes "
        + "are stale meanwhile."),
      this.#button("Behave", `Have ${node} behave`, path, { node, action: "behave" },
        `The exchange ${node} does nothing wrong any more. What it stalls already is answered when its time has come.`),
      this.#button("Reset", `Have ${node} misbehave as it was started`, path, { node, action: "reset" },
        `The exchange ${node} misbehaves as its flags and its configuration say.`),
    ];
  }

  #button(text, label, path, body, warning) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "small";
    button.textContent = text;
    button.setAttribute("aria-label", label);
    button.addEventListener("click", () => {
      this.pending = { label, path, body };
      this.dialog.querySelector("[data-part=title]").textContent = `${label}?`;
      this.dialog.querySelector("[data-part=text]").textContent = warning;
      this.dialog.querySelector("[data-part=yes]").textContent = label;
      this.dialog.showModal();
    });
    return button;
  }

  async #do() {
    const { label, path, body } = this.pending;
    this.dialog.close();
    try {
      await order(path, body);
      this.events.add("note", `${label}: done`);
    } catch (error) {
      this.events.add("bad", `${label}: ${error instanceof Refused ? error.message : error}`);
    }
  }
}

function write(row, texts) {
  texts.forEach((text, at) => {
    if (row.cells[at].textContent !== text) row.cells[at].textContent = text;
  });
}
