//! What the page writes when everything changes all the time. The page's own modules, with a market and with times that
//! are made up here, so that no test depends on how fast the machine is.

use serde_json::{Value, json};

use crate::market_page::MarketPage;
use crate::support::system::System;

/// A watch list of 12 instruments in a window of a few rows. Each gets a new quote before each of 60 frames of a second.
/// The answer: how often the bid of each row was written, the rows that are not on the screen too.
const SECOND_OF_QUOTES: &str = "(async () => {
  const { Market } = await import('/page/market.js');
  const { Watch } = await import('/page/watch.js');
  const { KIND } = await import('/page/frames.js');
  const make = (name, host) => host.appendChild(document.createElement(name));
  const host = make('div', document.body);
  const scroller = make('div', host);
  scroller.style.cssText = 'height: 120px; overflow: auto; position: relative';
  const parts = { head: make('div', scroller), scroller, rows: make('div', scroller), filter: make('input', host), count: make('p', host) };
  parts.head.style.height = '24px';
  const market = new Market();
  const watch = new Watch(parts, market, { choose() {}, seen() {} });
  const rest = { flags: 0, tsRecvMs: 0, exchange: 0, has: () => false, u32: () => 1 };
  const names = [...Array(12).keys()];
  for (const at of names) {
    market.take({ ...rest, kind: KIND.DEFINITION, instrument: at + 1, symbol: `X${String(at).padStart(2, '0')}`, decimals: 2, qtyDecimals: 0 }, 0);
  }
  const bids = new Map();
  const counts = names.map(() => 0);
  for (let frame = 0; frame <= 60; frame += 1) {
    const now = 10_000 + (frame * 1000) / 60;
    for (const at of names) {
      const price = BigInt(1000 + frame) * 10_000_000n;
      market.take({ ...rest, kind: KIND.QUOTE, instrument: at + 1, bid: price, ask: price + 10_000_000n }, now);
    }
    watch.paint(now);
    for (const row of parts.rows.querySelectorAll('.row:not([hidden])')) {
      const [symbol, bid] = ['.c-symbol', '.c-bid'].map((cell) => row.querySelector(cell).textContent);
      if (bids.get(symbol) !== bid) counts[Number(symbol.slice(1))] += 1;
      bids.set(symbol, bid);
    }
  }
  host.remove();
  return counts;
})()";

#[test]
fn rows_that_change_all_the_time_are_written_a_few_times_a_second() {
    let system = System::start(&["--rate", "100", "--chaos", "off"]);
    system.wait_well();
    let gateway = system.place.address("gateway");
    let Some(mut page) = MarketPage::open(gateway, "PETR4") else { return };
    let counts = page.browser.eval(SECOND_OF_QUOTES);
    let counts: Vec<u64> = counts.as_array().unwrap().iter().filter_map(Value::as_u64).collect();
    // 120 pixels less the head are 4 rows of 24, and a fifth begins. 4 more are kept for who scrolls.
    let (seen, unseen) = counts.split_at(5);
    assert!(seen.iter().all(|count| (9..=11).contains(count)), "{counts:?}");
    assert!(unseen[..4].iter().all(|count| (2..=3).contains(count)), "{counts:?}");
    assert!(unseen[4..].iter().all(|count| *count <= 3), "{counts:?}");
    page.check(&[]);
}

/// The drawing of the system, asked for again: what is on the page is the same elements.
const SAME_ELEMENTS: &str = "(async () => {
  const { System } = await import('/page/system.js');
  const host = document.body.appendChild(document.createElement('div'));
  host.style.width = '1200px';
  const place = (name, lines) => ({ name, state: 'ok', word: 'ok', trouble: null, lines, copies: [] });
  const road = (rate) => ({
    exchanges: [{ ...place('external', [rate]), session: '', last: null, breaker: null, chaos: '' }], journal: place('journal', []), shards: [],
    core: place('core', []), broker: place('broker', []), gateway: place('gateway', []), aggregator: place('aggregator', []),
    breakers: [], toBroker: { word: '', breaker: null }, fromBroker: { breaker: null }, toAggregator: { breaker: null },
  });
  const system = new System(host, document.createElement('p'));
  const browser = { state: 'ok', word: 'ok', lines: [] };
  system.show(road('1/s'), browser);
  const before = [...host.querySelectorAll('*')];
  const observer = new MutationObserver(() => {});
  observer.observe(host, { childList: true, characterData: true, attributes: true, subtree: true });
  system.show(road('2/s'), browser);
  const writes = observer.takeRecords().map((one) => `${one.type} ${one.target.textContent}`);
  const after = [...host.querySelectorAll('*')];
  system.show({ ...road('2/s'), exchanges: [] }, browser);
  const isGone = !host.textContent.includes('external');
  host.remove();
  return [before.length === after.length && before.every((one, at) => one === after[at]), writes, isGone];
})()";

#[test]
fn of_the_systems_drawing_only_what_differs_is_written() {
    let system = System::start(&["--rate", "100", "--chaos", "off"]);
    system.wait_well();
    let gateway = system.place.address("gateway");
    let Some(mut page) = MarketPage::open(gateway, "PETR4") else { return };
    // The title of the box, and its line.
    let writes = json!(["characterData external; ok; 2/s", "characterData 2/s"]);
    assert_eq!(page.browser.eval(SAME_ELEMENTS), json!([true, writes, true]));
    page.check(&[]);
}
