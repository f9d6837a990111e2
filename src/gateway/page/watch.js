/**
 * The watch list: all instruments as rows, of which only those on the screen exist. What it is not: the values, which are
 * in market.js; they change at any rate. What changes after a rest is painted in the next animation frame, what goes on
 * changing is painted a few times a second.
 */
import { DIRTY } from "./market.js";
import { NO_PRICE, sizeUnits } from "./frames.js";
import { drawSpark, makeSpark } from "./spark.js";
import { NONE, changeBp, duration, percent, price, quantity, shortQuantity } from "./text.js";

const FLASH_MS = 250;
/** A cell that changes all the time flashes once in so long: a screen that flickers says nothing. */
const FLASH_REST_MS = 1_500;
const SYMBOL_MAX = 9;
const SORT_MS = 1_000;
const AGE_MS = 500;
/** A row that changes all the time is painted so often: faster is not read by anybody, and costs in every frame. */
const ROW_MS = 100;
/** Rows just outside of the view, which scrolling shows before a script can paint them. */
const UNSEEN_MS = 500;
const EXTRA_ROWS = 4;

const known = (units) => (units === NO_PRICE ? null : units);
const change = (market, row) => changeBp(known(market.last[row]), known(market.dayOpen[row]));
const orLeast = (units) => (units === NO_PRICE ? -Infinity : Number(units));

/** The columns: what is written, by what it is sorted, and the bit of DIRTY at which it flashes. */
const COLUMNS = [
  { id: "symbol", title: "Symbol", text: (m, row) => m.symbols[row], key: (m, row) => m.symbols[row] },
  { id: "last", title: "Last", flash: DIRTY.LAST, about: "Price of the last trade",
    text: (m, row) => price(known(m.last[row]), m.decimals[row]), key: (m, row) => orLeast(m.last[row]) },
  { id: "change", title: "Change", about: "Last against the first trade of the day (UTC)",
    text: (m, row) => percent(change(m, row)), key: (m, row) => change(m, row) ?? -Infinity },
  { id: "bid-size", title: "Size", about: "Size at the bid",
    text: (m, row) => (m.bid[row] === NO_PRICE ? NONE : shortQuantity(sizeUnits(m.bidSize[row]), m.qtyDecimals[row])),
    key: (m, row) => Number(sizeUnits(m.bidSize[row])) },
  { id: "bid", title: "Bid", flash: DIRTY.BID,
    text: (m, row) => price(known(m.bid[row]), m.decimals[row]), key: (m, row) => orLeast(m.bid[row]) },
  { id: "ask", title: "Ask", flash: DIRTY.ASK,
    text: (m, row) => price(known(m.ask[row]), m.decimals[row]), key: (m, row) => orLeast(m.ask[row]) },
  { id: "ask-size", title: "Size", about: "Size at the ask",
    text: (m, row) => (m.ask[row] === NO_PRICE ? NONE : shortQuantity(sizeUnits(m.askSize[row]), m.qtyDecimals[row])),
    key: (m, row) => Number(sizeUnits(m.askSize[row])) },
  { id: "volume", title: "Volume", about: "Traded today (UTC); with + since this page was opened only",
    text: (m, row) => shortQuantity(m.volume[row], m.qtyDecimals[row]) + (m.volumeIsWhole[row] ? "" : "+"),
    key: (m, row) => Number(m.volume[row]) },
  { id: "spark", title: "5 min", about: "Price of the last five minutes" },
  { id: "age", title: "Age", about: "Since a quote or a trade came",
    key: (m, row) => -m.newestAt(row) || -Infinity },
];

export class Watch {
  /**
   * @param {{head: HTMLElement, scroller: HTMLElement, rows: HTMLElement, filter: HTMLInputElement, count: HTMLElement}} parts
   * @param {import("./market.js").Market} market
   * @param {{choose: (row: number) => void, seen: (row: number, now: number) => void}} handlers
   */
  constructor(parts, market, handlers) {
    Object.assign(this, parts);
    this.market = market;
    this.handlers = handlers;
    this.order = [];
    this.slots = [];
    this.sortBy = COLUMNS[0];
    this.isDescending = false;
    this.active = -1;
    this.chosen = -1;
    this.generation = -1;
    this.sortedAt = 0;
    this.isMoved = true;
    this.mustSort = true;
    this.reduced = matchMedia("(prefers-reduced-motion: reduce)");
    this.#makeHead();
    this.scroller.addEventListener("scroll", () => { this.isMoved = true; }, { passive: true });
    this.scroller.addEventListener("keydown", (event) => this.#key(event));
    this.rows.addEventListener("click", (event) => this.#click(event));
    this.filter.addEventListener("input", () => { this.mustSort = true; this.scroller.scrollTop = 0; });
    this.filter.addEventListener("keydown", (event) => this.#filterKey(event));
    new ResizeObserver(() => this.resize()).observe(this.scroller);
    this.resize();
  }

  #makeHead() {
    for (const column of COLUMNS) {
      const cell = document.createElement("div");
      cell.setAttribute("role", "columnheader");
      cell.className = `c-${column.id}`;
      if (column.about) cell.title = column.about;
      if (column.key) {
        const button = document.createElement("button");
        button.type = "button";
        button.textContent = column.title;
        if (column.about) button.setAttribute("aria-label", `${column.title}: ${column.about}`);
        button.addEventListener("click", () => this.#sort(column));
        cell.append(button);
      } else {
        cell.textContent = column.title;
      }
      column.head = cell;
      this.head.append(cell);
    }
    this.#showSort();
  }

  #sort(column) {
    // A name begins with A, a number with the largest.
    this.isDescending = this.sortBy === column ? !this.isDescending : column.id !== "symbol";
    this.sortBy = column;
    this.mustSort = true;
    this.#showSort();
  }

  #showSort() {
    for (const column of COLUMNS) {
      if (!column.key) continue;
      const sort = column !== this.sortBy ? "none" : this.isDescending ? "descending" : "ascending";
      column.head.setAttribute("aria-sort", sort);
    }
  }

  resize() {
    this.rowHeight = parseFloat(getComputedStyle(this.rows).getPropertyValue("--row-height")) || 26;
    // The head stands in the scroller and stays at its top.
    this.headHeight = this.head.offsetHeight;
    this.viewHeight = this.scroller.clientHeight;
    const wanted = Math.ceil(this.viewHeight / this.rowHeight) + 2 * EXTRA_ROWS;
    while (this.slots.length < wanted) this.slots.push(this.#makeSlot(this.slots.length));
    while (this.slots.length > wanted) this.slots.pop().element.remove();
    // Their place in pixels too: a row may have another height now.
    for (const slot of this.slots) Object.assign(slot, { row: -1, at: -1 });
    this.isMoved = true;
    this.mustSort = true;
  }

  #makeSlot(index) {
    const element = document.createElement("div");
    element.className = "row";
    element.id = `row-${index}`;
    element.setAttribute("role", "row");
    element.hidden = true;
    const cells = [];
    const texts = [];
    for (const column of COLUMNS) {
      const cell = document.createElement("div");
      cell.setAttribute("role", "gridcell");
      cell.className = `c-${column.id}`;
      let text = null;
      if (column.id === "spark") {
        text = makeSpark();
      } else {
        text = document.createTextNode("");
      }
      cell.append(text);
      cells.push(cell);
      texts.push(text);
      element.append(cell);
    }
    this.rows.append(element);
    return {
      element, cells, texts, shown: [], row: -1, at: -1, state: "", flashes: new Float64Array(COLUMNS.length), paintedAt: 0, agedAt: 0,
      // Ages are written at different times, so that no frame has all of them.
      phase: (index % 16) * (AGE_MS / 16),
    };
  }

  #makeOrder(now) {
    const { market } = this;
    const wanted = this.filter.value.trim().toUpperCase();
    const isMeant = matcher(wanted);
    const order = [];
    for (let row = 0; row < market.size; row += 1) if (isMeant(market.symbols[row].toUpperCase())) order.push(row);
    const keys = new Map(order.map((row) => [row, this.sortBy.key(market, row)]));
    const direction = this.isDescending ? -1 : 1;
    order.sort((one, other) => {
      const [a, b] = [keys.get(one), keys.get(other)];
      if (a !== b) return (a < b ? -1 : 1) * direction;
      return market.symbols[one] < market.symbols[other] ? -1 : 1;
    });
    this.order = order;
    this.sortedAt = now;
    this.mustSort = false;
    this.isMoved = true;
    this.generation = market.generation;
    this.rows.style.height = `${order.length * this.rowHeight}px`;
    this.scroller.setAttribute("aria-rowcount", String(order.length + 1));
    const count = wanted === "" ? `${market.size}` : `${order.length} of ${market.size}`;
    const text = market.size > 0 && order.length === 0 ? `nothing matches; ${market.size} instruments`
      : `${count} ${market.size === 1 ? "instrument" : "instruments"}`;
    if (this.count.textContent !== text) this.count.textContent = text;
  }

  /** Once in an animation frame. @param {number} now by `performance.now()` */
  paint(now) {
    const isStatic = this.sortBy.id === "symbol";
    if (this.mustSort || this.generation !== this.market.generation || (!isStatic && now - this.sortedAt > SORT_MS)) {
      this.#makeOrder(now);
    }
    const { scrollTop } = this.scroller;
    const firstSeen = Math.floor(scrollTop / this.rowHeight);
    const lastSeen = Math.floor((scrollTop + this.viewHeight - this.headHeight) / this.rowHeight);
    const first = Math.max(0, firstSeen - EXTRA_ROWS);
    for (let place = first; place < first + this.slots.length; place += 1) {
      // A place keeps its slot, so that scrolling by one row changes one row.
      const slot = this.slots[place % this.slots.length];
      const row = this.order[place] ?? -1;
      if (this.isMoved) this.#move(slot, place, row);
      if (row >= 0) this.#row(slot, row, now, place >= firstSeen && place <= lastSeen ? ROW_MS : UNSEEN_MS);
    }
    this.isMoved = false;
  }

  #move(slot, place, row) {
    const { element } = slot;
    if (slot.at !== place) {
      slot.at = place;
      element.style.top = `${place * this.rowHeight}px`;
      element.setAttribute("aria-rowindex", String(place + 2));
    }
    const isHidden = row < 0;
    if (element.hidden !== isHidden) element.hidden = isHidden;
    element.classList.toggle("active", place === this.active);
    const isChosen = row >= 0 && row === this.chosen;
    element.classList.toggle("chosen", isChosen);
    element.setAttribute("aria-selected", String(isChosen));
  }

  /** `rest`: how long what is dirty waits for the row to have been painted. */
  #row(slot, row, now, rest) {
    const { market } = this;
    const isOther = slot.row !== row;
    const dirty = market.dirty[row];
    if (isOther) {
      slot.row = row;
      slot.agedAt = now - slot.phase;
      slot.flashes.fill(0);
      for (const cell of slot.cells) cell.classList.remove("up", "down");
      // Only what is too long is clipped.
      slot.element.classList.toggle("long", market.symbols[row].length > SYMBOL_MAX);
      slot.element.title = market.symbols[row].length > SYMBOL_MAX ? market.symbols[row] : "";
    }
    if (isOther || (dirty !== 0 && now - slot.paintedAt >= rest)) {
      slot.paintedAt = now;
      for (let at = 0; at < COLUMNS.length; at += 1) this.#cell(slot, at, row, isOther ? 0 : dirty, now);
      market.dirty[row] = 0;
      const state = market.stateOf(row);
      if (slot.state !== state) {
        slot.state = state;
        slot.element.dataset.state = state;
      }
    }
    const mustAge = now - slot.agedAt > AGE_MS;
    if (mustAge) slot.agedAt = now;
    if (isOther || mustAge) {
      const age = duration(now - market.newestAt(row));
      const text = slot.state === "current" || slot.state === "" ? age : `${slot.state} ${age}`;
      this.#write(slot, COLUMNS.length - 1, text);
      drawSpark(slot.texts[8], market.sparks[row]);
      this.handlers.seen(row, now);
    }
    for (let at = 0; at < COLUMNS.length; at += 1) {
      // Above 0 it flashes until then; below 0 it rests until then.
      const until = slot.flashes[at];
      if (until === 0 || now < Math.abs(until)) continue;
      if (until > 0) slot.cells[at].classList.remove("up", "down");
      slot.flashes[at] = until > 0 ? -(now + FLASH_REST_MS) : 0;
    }
  }

  #cell(slot, at, row, dirty, now) {
    const column = COLUMNS[at];
    if (!column.text) return;
    const before = slot.shown[at];
    const text = column.text(this.market, row);
    this.#write(slot, at, text);
    if (column.id === "change") slot.cells[at].dataset.sign = text[0];
    if (column.id === "volume") slot.cells[at].title = quantity(this.market.volume[row], this.market.qtyDecimals[row]);
    if ((dirty & (column.flash ?? 0)) === 0 || before === text) return;
    if (slot.flashes[at] !== 0 || this.reduced.matches) return;
    const isUp = column.id === "last" ? this.market.direction[row] > 0 : isLarger(text, before);
    slot.cells[at].classList.add(isUp ? "up" : "down");
    slot.flashes[at] = now + FLASH_MS;
  }

  #write(slot, at, text) {
    if (slot.shown[at] === text) return;
    slot.shown[at] = text;
    slot.texts[at].data = text;
  }

  /** Shows that a row is the chosen one. */
  setChosen(row) {
    this.chosen = row;
    this.active = this.order.indexOf(row);
    this.#showActive(false);
  }

  #showActive(mustScroll) {
    this.isMoved = true;
    if (this.active < 0) return this.scroller.removeAttribute("aria-activedescendant");
    this.scroller.setAttribute("aria-activedescendant", this.slots[this.active % this.slots.length].element.id);
    if (!mustScroll) return undefined;
    const [top, height] = [this.active * this.rowHeight, this.scroller.clientHeight - this.headHeight];
    if (top < this.scroller.scrollTop) this.scroller.scrollTop = top;
    else if (top + this.rowHeight > this.scroller.scrollTop + height) this.scroller.scrollTop = top + this.rowHeight - height;
    return undefined;
  }

  #key(event) {
    // The head stands in the scroller: its buttons sort, and choose no row.
    if (event.target.closest("button")) return;
    const page = Math.max(1, Math.floor(this.scroller.clientHeight / this.rowHeight) - 1);
    const last = this.order.length - 1;
    const goals = {
      ArrowDown: this.active + 1, ArrowUp: this.active - 1, PageDown: this.active + page, PageUp: this.active - page,
      Home: 0, End: last,
    };
    if (event.key in goals && !event.altKey && !event.ctrlKey && !event.metaKey) {
      this.active = Math.min(last, Math.max(0, goals[event.key]));
      this.#showActive(true);
    } else if (event.key === "Enter" || event.key === " ") {
      if (this.active >= 0) this.#choose(this.order[this.active]);
    } else {
      return;
    }
    event.preventDefault();
  }

  #filterKey(event) {
    if (event.key === "Escape") {
      this.filter.value = "";
      this.mustSort = true;
    } else if (event.key === "Enter" || event.key === "ArrowDown") {
      this.#makeOrder(performance.now());
      if (event.key === "Enter" && this.order.length > 0) this.#choose(this.order[0]);
      this.active = 0;
      this.scroller.focus();
      this.#showActive(true);
    } else {
      return;
    }
    event.preventDefault();
  }

  #click(event) {
    const element = event.target.closest(".row");
    const slot = this.slots.find((one) => one.element === element);
    if (!slot || slot.row < 0) return;
    this.active = slot.at;
    this.#showActive(false);
    this.#choose(slot.row);
  }

  #choose(row) {
    this.chosen = row;
    this.isMoved = true;
    this.handlers.choose(row);
  }
}

/** What a filter means: parts of symbols, several with blanks or commas between. */
function matcher(wanted) {
  const parts = wanted.split(/[\s,]+/).filter(Boolean).map((part) => part.replace(/\*+$/, ""));
  return parts.length === 0 ? () => true : (symbol) => parts.some((part) => symbol.includes(part));
}

/** Whether one text of a price is above another one. */
function isLarger(text, before) {
  return Number(text.replace("−", "-")) > Number((before ?? "").replace("−", "-"));
}
