//! The machine in virtual time, and what it looks like, as text.

mod chosen;
mod drawn;
mod list;

use std::collections::BTreeMap;

use proptest::prelude::*;
use ratatui_core::buffer::Buffer;
use ratatui_core::layout::Rect;
use ratatui_core::style::Color;

use super::draw::{Theme, draw};
use super::keys::Key;
use super::state::chosen::TapeLine;
use super::state::{Command, Days, History, Input, View, Watch};
use crate::client::{Event, LiveBar};
use crate::limits::{
    WATCH_AGES_EVERY, WATCH_CANDLES_MAX, WATCH_FLASH, WATCH_NOTICES_MAX, WATCH_TAPE_MAX,
};
use crate::market::bar::Bar;
use crate::render::health::{Condition, judge};
use crate::render::{NodeReport, Reachability, take_breakers};
use crate::time::{Mono, Now};
use crate::wire::{
    Cancel, Definition, Flags, Frame, GapReason, I64, InstrumentId, Quote, Seq, Size, Trade, U16,
    U32, U64,
};

const SECOND: u64 = 1_000_000_000;
/// 2012-06-21T13:30:00Z
const OPENING: u64 = 1_340_285_400 * SECOND;
const CENT: i64 = 10_000_000;

const PLAIN: Theme = Theme { has_color: false };
const COLORED: Theme = Theme { has_color: true };

/// So many milliseconds after the opening.
fn at(ms: u64) -> Now {
    let ns = ms * 1_000_000;
    Now { mono: Mono(SECOND + ns), wall_ns: OPENING + ns }
}

fn number(index: u32) -> InstrumentId {
    U32::new(index).into()
}

fn defined(index: u32, symbol: &str) -> Event {
    Event::Data(Frame::seal(Definition::new(number(index), symbol.parse().unwrap(), 2)))
}

fn quoted(index: u32, ms: u64, (bid, ask): (i64, i64)) -> Event {
    Event::Data(Frame::seal(Quote {
        instrument: U32::new(index),
        ts_event: U64::new(OPENING + ms * 1_000_000),
        ts_recv: U64::new(OPENING + ms * 1_000_000),
        bid: I64::new(bid * CENT),
        ask: I64::new(ask * CENT),
        bid_qty: Size::new(300),
        ask_qty: Size::new(1_200),
        ..Quote::default()
    }))
}

/// A trade of 100 at so many cents.
fn trade(index: u32, seq: u64, ms: u64, cents: i64) -> Trade {
    Trade {
        flags: U16::new(Flags::BUY),
        instrument: U32::new(index),
        seq: U64::new(seq),
        instrument_seq: U32::new(u32::try_from(seq).unwrap()),
        ts_event: U64::new(OPENING + ms * 1_000_000),
        ts_recv: U64::new(OPENING + ms * 1_000_000),
        price: I64::new(cents * CENT),
        qty: U64::new(100),
        trade_id: U64::new(seq),
        ..Trade::default()
    }
}

fn traded(index: u32, seq: u64, ms: u64, cents: i64) -> Event {
    Event::Data(Frame::seal(trade(index, seq, ms, cents)))
}

fn lost(reason: GapReason, instrument: Option<InstrumentId>, missed: Option<u64>) -> Event {
    Event::Lost { reason, from_seq: 4, to_seq: 9, instrument, missed }
}

fn live(seq: u64) -> Event {
    Event::Live { next_seq: Seq::new(seq).unwrap() }
}

/// The bar of these trades.
fn bar(seconds: u64, trades: &[Trade]) -> Bar {
    let ts = trades[0].ts_event.get();
    let interval_ns = seconds * SECOND;
    let mut bar = Bar::begin(ts - ts % interval_ns, interval_ns, trades[0].price.get());
    for trade in trades {
        bar.add_amount(trade.price.get(), trade.qty.get());
        bar.last_seq = trade.seq.get();
    }
    bar
}

/// PETR4, VALE3 and WDOQ26, live.
fn three(size: (u16, u16)) -> Watch {
    let mut watch = Watch::new(at(0), size, 60);
    let events = [
        defined(1, "PETR4"),
        quoted(1, 0, (4_120, 4_121)),
        traded(1, 1, 0, 4_120),
        defined(2, "VALE3"),
        quoted(2, 0, (5_858, 5_861)),
        defined(3, "WDOQ26"),
        quoted(3, 0, (546_300, 546_450)),
        traded(3, 2, 0, 546_450),
        live(10),
    ];
    for event in events {
        watch.handle(at(0), Input::List(event));
    }
    watch.handle_time(at(0));
    watch
}

fn press(watch: &mut Watch, keys: &[Key]) {
    for key in keys {
        let now = watch.now;
        watch.handle(now, Input::Key(*key));
        watch.handle_time(now);
    }
}

fn commands(watch: &mut Watch) -> Vec<Command> {
    std::iter::from_fn(|| watch.poll_command()).collect()
}

fn buffer(watch: &Watch, theme: Theme) -> Buffer {
    let (columns, lines) = watch.size();
    let mut buffer = Buffer::empty(Rect::new(0, 0, columns, lines));
    draw(watch, theme, &mut buffer);
    buffer
}

/// The screen as lines of text, blanks at the end left away.
fn screen(watch: &Watch) -> Vec<String> {
    let buffer = buffer(watch, PLAIN);
    let line = |y| {
        let cells = (0..buffer.area.width).map(|x| buffer[(x, y)].symbol().to_owned());
        cells.collect::<String>().trim_end().to_owned()
    };
    (0..buffer.area.height).map(line).collect()
}

fn has_line(watch: &Watch, text: &str) -> bool {
    screen(watch).iter().any(|line| line.contains(text))
}

fn assert_line(watch: &Watch, text: &str) {
    assert!(has_line(watch, text), "no {text:?} in\n{}", screen(watch).join("\n"));
}

/// Core and a shard, with a breaker.
fn reports(breaker: &str, shard: Reachability) -> Vec<NodeReport> {
    let words = [("exchange", "live"), ("role", "core"), ("core.exchange.state", breaker)];
    let mut words: BTreeMap<String, String> =
        words.iter().map(|(name, word)| ((*name).to_owned(), (*word).to_owned())).collect();
    let mut figures = BTreeMap::from([("next_seq".to_owned(), 1_106)]);
    let core = NodeReport {
        node: "core".into(),
        address: "127.0.0.1:8082".parse().unwrap(),
        status: Reachability::Ok,
        elapsed_us: 250,
        condition: Condition::Ok,
        trouble: None,
        breakers: take_breakers(&mut words, &mut figures),
        figures,
        words,
    };
    let shard = NodeReport {
        node: "shard-A".into(),
        status: shard,
        breakers: Vec::new(),
        figures: BTreeMap::from([("behind_ms".to_owned(), 12), ("next_seq".to_owned(), 1_100)]),
        words: BTreeMap::new(),
        ..core.clone()
    };
    let mut reports = vec![core, shard];
    judge(&mut reports);
    reports
}

#[test]
fn keys_that_leave_lead_back_first_and_then_out() {
    let mut watch = three((80, 24));
    press(&mut watch, &[Key::Enter, Key::Escape]);
    assert!(watch.view == View::List && !watch.is_over());
    press(&mut watch, &[Key::Char('/'), Key::Char('q'), Key::Enter, Key::Escape]);
    assert!(watch.list.filter.is_empty() && !watch.is_over(), "q was a letter of the filter");
    press(&mut watch, &[Key::Escape]);
    assert!(watch.is_over());
    for key in [Key::Char('q'), Key::Interrupt] {
        for before in [Key::Char('2'), Key::Char('3'), Key::Char('?'), Key::Up] {
            let mut watch = three((80, 24));
            press(&mut watch, &[before, key]);
            assert!(watch.is_over(), "{key:?} after {before:?}");
        }
    }
    let mut watch = three((80, 24));
    press(&mut watch, &[Key::Char('/'), Key::Interrupt]);
    assert!(watch.is_over(), "Ctrl-C ends it also while a filter is typed");
}

#[test]
fn a_screen_on_which_nothing_happens_is_drawn_once_a_second() {
    let mut watch = three((80, 24));
    watch.note_drawn(at(0));
    watch.handle_time(at(999));
    assert!(!watch.is_dirty());
    assert_eq!(watch.deadline(), at(0).mono + WATCH_AGES_EVERY);
    watch.handle_time(at(1_000));
    assert!(watch.is_dirty(), "the ages");
    // A change is emphasised for a while, and its end is drawn.
    watch.handle(at(1_000), Input::List(traded(1, 11, 1_000, 4_121)));
    watch.note_drawn(at(1_000));
    assert_eq!(watch.deadline(), at(1_000).mono + WATCH_FLASH);
    watch.handle_time(at(1_399));
    assert!(!watch.is_dirty());
    watch.handle_time(at(1_400));
    assert!(watch.is_dirty());
    watch.note_drawn(at(1_400));
    // What does not change is not emphasised.
    watch.handle(at(1_500), Input::List(traded(1, 12, 1_500, 4_121)));
    watch.note_drawn(at(1_500));
    assert_eq!(watch.deadline(), at(1_500).mono + WATCH_AGES_EVERY);
}

fn any_key() -> impl Strategy<Value = Key> {
    prop_oneof![
        (b' '..=b'~').prop_map(|byte| Key::Char(char::from(byte))),
        prop::sample::select(vec![
            Key::Up,
            Key::Down,
            Key::Left,
            Key::Right,
            Key::PageUp,
            Key::PageDown,
            Key::Home,
            Key::End,
            Key::Enter,
            Key::Tab,
            Key::BackTab,
            Key::Backspace,
            Key::Escape,
            Key::Redraw,
        ]),
    ]
}

fn any_price() -> impl Strategy<Value = i64> {
    prop_oneof![Just(i64::MAX), Just(i64::MIN), Just(0), any::<i64>(), 0..100_000_i64]
}

fn any_event() -> impl Strategy<Value = Event> {
    let index = 0..40_u32;
    prop_oneof![
        (index.clone(), "[A-Z]{1,24}").prop_map(|(index, name)| defined(index, &name)),
        (index.clone(), any_price(), any_price(), any::<u64>(), any::<u16>()).prop_map(
            |(index, bid, ask, ts, flags)| {
                let flags = U16::new(flags & (Flags::STALE | Flags::HALTED | Flags::SNAPSHOT));
                let (ts, qty) = (U64::new(ts), Size::new(ts));
                let (bid, ask, instrument) = (I64::new(bid), I64::new(ask), U32::new(index));
                Event::Data(Frame::seal(Quote {
                    flags,
                    instrument,
                    ts_event: ts,
                    ts_recv: ts,
                    bid,
                    ask,
                    bid_qty: qty,
                    ask_qty: qty,
                    ..Quote::default()
                }))
            }
        ),
        (
            index.clone(),
            any_price(),
            prop_oneof![any::<u64>(), OPENING..OPENING + 900 * SECOND],
            any::<u16>()
        )
            .prop_map(|(index, price, ts, flags)| {
                let flags = U16::new(flags & (Flags::GAP_BEFORE | Flags::SNAPSHOT | Flags::SELL));
                let (price, ts) = (I64::new(price), U64::new(ts));
                let trade = Trade {
                    flags,
                    price,
                    qty: ts,
                    seq: ts,
                    ts_event: ts,
                    ts_recv: ts,
                    ..trade(index, 1, 0, 0)
                };
                Event::Data(Frame::seal(trade))
            }),
        (index.clone(), any::<u64>()).prop_map(|(index, ts)| {
            let ts = U64::new(ts);
            let cancel = Cancel { instrument: U32::new(index), ts_event: ts, ..Cancel::default() };
            Event::Data(Frame::seal(cancel))
        }),
        (1..7_u8, prop::option::of(index), prop::option::of(any::<u64>())).prop_map(
            |(reason, index, missed)| {
                let reason = GapReason::from_number(reason).unwrap_or(GapReason::Lapped);
                lost(reason, index.map(number), missed)
            }
        ),
        Just(live(7)),
        Just(Event::Stale),
        Just(Event::Ended),
        Just(Event::Current),
    ]
}

fn any_input() -> impl Strategy<Value = Input> {
    let choice = 0..4_u64;
    prop_oneof![
        4 => any_key().prop_map(Input::Key),
        4 => any_event().prop_map(Input::List),
        4 => (choice.clone(), any_event()).prop_map(|(choice, event)| Input::Chosen(choice, event)),
        1 => (0..200_u16, 0..70_u16).prop_map(|(columns, lines)| Input::Size(columns, lines)),
        1 => (choice.clone(), any::<bool>(), any::<u64>(), any_price()).prop_map(
            |(choice, is_there, ts, price)| {
                let prior = Trade { price: I64::new(price), ts_event: U64::new(ts), ..trade(1, 1, 0, 0) };
                let history = History {
                    bars: vec![bar(60, &[prior])],
                    trades: vec![prior],
                    as_of: Seq::new(ts),
                    missing: if ts % 2 == 0 { vec!["shard-A (timeout)".to_owned()] } else { Vec::new() },
                };
                let answer = if is_there { Ok(history) } else { Err("away".to_owned()) };
                Input::History(choice, answer)
            }
        ),
        1 => (choice, any::<bool>(), any::<u64>()).prop_map(|(choice, is_revised, ts)| {
            let trades = [Trade { ts_event: U64::new(ts), ..trade(1, 1, 0, 0) }];
            let bar = bar(60, &trades);
            let instrument = number(1);
            Input::Bar(choice, LiveBar { instrument, bar, is_revised, is_incomplete: !is_revised })
        }),
        1 => any::<bool>().prop_map(|is_up| {
            let shard = if is_up { Reachability::Ok } else { Reachability::Timeout };
            Input::Reports(reports(if is_up { "closed" } else { "open" }, shard))
        }),
        1 => Just(()).prop_map(|()| Input::ListAway("refused".to_owned())),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Whatever comes, from the keys or from a peer: it is drawn at every size, and what is kept has a bound.
    #[test]
    fn any_inputs_are_drawn_without_a_panic(inputs in prop::collection::vec(any_input(), 0..120)) {
        let mut watch = three((80, 24));
        for (index, input) in inputs.into_iter().enumerate() {
            let now = at(u64::try_from(index).unwrap() * 150);
            watch.handle(now, input);
            watch.handle_time(now);
            while watch.poll_command().is_some() {}
            for theme in [PLAIN, COLORED] {
                buffer(&watch, theme);
            }
            prop_assert!(watch.notices.len() <= WATCH_NOTICES_MAX);
            if let Some(chosen) = &watch.chosen {
                prop_assert!(chosen.candles.len() <= WATCH_CANDLES_MAX);
                prop_assert!(chosen.tape.len() <= WATCH_TAPE_MAX);
            }
        }
    }
}

#[test]
fn what_is_kept_of_an_instrument_has_a_bound() {
    let mut watch = three((80, 24));
    press(&mut watch, &[Key::Enter]);
    for seq in 1..3 * u64::try_from(WATCH_CANDLES_MAX).unwrap() {
        let event = traded(1, seq, seq * 60_000, 4_100);
        watch.handle(at(seq * 60_000), Input::Chosen(1, event));
        watch.handle(at(seq), Input::List(Event::Stale));
    }
    let chosen = watch.chosen.as_ref().unwrap();
    assert_eq!(chosen.candles.len(), WATCH_CANDLES_MAX);
    assert_eq!(chosen.tape.len(), WATCH_TAPE_MAX);
    assert_eq!(watch.notices.len(), WATCH_NOTICES_MAX);
    assert!(matches!(&chosen.tape[0], TapeLine::Trade { trade, .. } if trade.seq.get() == 1_535));
}

#[test]
fn without_colours_there_is_none() {
    let mut watch = three((80, 24));
    watch.handle(at(10), Input::List(Event::Stale));
    for key in [Key::Char('1'), Key::Char('2'), Key::Char('3'), Key::Char('?')] {
        press(&mut watch, &[key]);
        let has_color = |theme| {
            let buffer = buffer(&watch, theme);
            buffer.content().iter().any(|cell| (cell.fg, cell.bg) != (Color::Reset, Color::Reset))
        };
        assert!(!has_color(PLAIN), "{key:?}");
        assert!(has_color(COLORED), "{key:?}");
    }
}
