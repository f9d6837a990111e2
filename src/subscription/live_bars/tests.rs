use super::*;
use crate::market::bar::BarFold;
use crate::wire::{Definition, I64, U32, U64};

const MINUTE: u64 = 60;
const DAY: u64 = 86_400;
const PETR4: u32 = 1;

/// Live bars in virtual time. Event times are in seconds, and so is the clock.
struct Bench {
    bars: LiveBars,
    symbols: Symbols,
    now: Now,
}

impl Bench {
    fn new(seconds: &[u32], from_seq: u64) -> Bench {
        let pattern = |&seconds| BarPattern { pattern: Pattern::new("PETR*", 0).unwrap(), seconds };
        let patterns = seconds.iter().map(pattern).collect();
        let mut symbols = Symbols::default();
        for (number, name) in [(PETR4, "PETR4"), (2, "VALE3"), (3, "PETR3")] {
            symbols.note(&Frame::seal(Definition::new(
                U32::new(number).into(),
                name.parse().unwrap(),
                2,
            )));
        }
        let now = Now { mono: Mono(nanos(Duration::from_hours(1))), wall_ns: 0 };
        Bench { bars: LiveBars::new(patterns, Seq::new(from_seq)), symbols, now }
    }

    fn handle(&mut self, event: Event) -> Vec<(u64, u64, &'static str)> {
        self.bars.handle_event(self.now, &event, &self.symbols);
        self.reported()
    }

    fn trade(&mut self, seq: u64, second: u64, price: i64) -> Vec<(u64, u64, &'static str)> {
        self.handle(Event::Data(trade(seq, second, price)))
    }

    /// Start in seconds, number of trades, and flags of the bars reported.
    fn reported(&mut self) -> Vec<(u64, u64, &'static str)> {
        let bars = std::iter::from_fn(|| self.bars.poll_bar());
        let reported = bars.map(|live| {
            let flags = match (live.is_revised, live.is_incomplete) {
                (false, false) => "",
                (true, false) => "revised",
                (false, true) => "incomplete",
                (true, true) => "both",
            };
            (live.bar.start / 1_000_000_000, live.bar.trades, flags)
        });
        reported.collect()
    }

    /// What history has of the bars that are asked for.
    fn answer(&mut self, found: &[Frame]) {
        let backfill = self.bars.poll_backfill().unwrap();
        self.bars.handle_backfill(self.now, &backfill, Some(found));
    }

    fn sleep_until_due(&mut self) -> Duration {
        let before = self.now.mono;
        self.now.mono = self.bars.deadline().unwrap();
        self.bars.handle_timers(self.now);
        self.now.mono.since(before)
    }
}

fn event_ns(second: u64) -> U64 {
    U64::new(second * 1_000_000_000)
}

fn trade(seq: u64, second: u64, price: i64) -> Frame {
    Frame::seal(Trade {
        instrument: U32::new(PETR4),
        seq: U64::new(seq),
        instrument_seq: U32::new(u32::try_from(seq).unwrap()),
        ts_event: event_ns(second),
        ts_recv: event_ns(second),
        price: I64::new(price),
        qty: U64::new(1),
        trade_id: U64::new(seq),
        ..Trade::default()
    })
}

fn cancel(seq: u64, second: u64, of: u64, price: i64) -> Event {
    Event::Data(Frame::seal(Cancel {
        instrument: U32::new(PETR4),
        seq: U64::new(seq),
        ts_event: event_ns(second),
        price: I64::new(price),
        qty: U64::new(1),
        trade_id: U64::new(of),
        ..Cancel::default()
    }))
}

fn lost(reason: GapReason, from_seq: u64) -> Event {
    Event::Lost { reason, from_seq, to_seq: from_seq + 1, instrument: None, missed: None }
}

#[test]
fn a_bar_is_reported_when_the_next_begins_and_revised_by_what_comes_late() {
    let mut bench = Bench::new(&[60], 1);
    assert_eq!(bench.trade(1, 0, 10), []);
    assert_eq!(bench.trade(2, 59, 30), []);
    assert_eq!(bench.trade(3, 60, 20), [(0, 2, "")]);
    assert_eq!(bench.trade(4, 200, 20), [(60, 1, "")], "no bar where nothing traded");
    assert_eq!(bench.trade(5, 61, 20), [(60, 2, "revised")], "a late trade");
    assert_eq!(bench.trade(6, 130, 20), [(120, 1, "")], "a late first trade");
    assert_eq!(bench.handle(cancel(7, 201, 2, 30)), [(0, 1, "revised")]);
    assert_eq!(bench.handle(cancel(8, 201, 1, 10)), [(0, 0, "revised")], "nothing of it stands");
    assert_eq!(bench.handle(cancel(9, 201, 99, 10)), [], "of a trade that nobody knows");
}

/// Whatever the order in which trades come: the last that is told of each bar is what history folds.
#[test]
fn from_the_first_trade_on_every_order_gives_the_bars_of_history() {
    let times = [105, 30, 90, 120, 190, 7_400, 61, 7_300, 0, 191, 59, 120];
    for seconds in [60, 300, 3_600] {
        let mut bench = Bench::new(&[seconds], 1);
        let mut told = BTreeMap::new();
        let price = |seq: u64| i64::try_from(seq % 5).unwrap();
        let mut all: Vec<Frame> =
            (1..).zip(times).map(|(seq, second)| trade(seq, second, price(seq))).collect();
        for frame in &all {
            bench.bars.handle_event(bench.now, &Event::Data(*frame), &bench.symbols);
        }
        bench.now.mono = bench.now.mono + Duration::from_hours(2);
        bench.bars.handle_timers(bench.now);
        while let Some(live) = bench.bars.poll_bar() {
            assert!(!live.is_incomplete);
            told.insert(live.bar.start, live.bar);
        }
        all.sort_by_key(|frame| (frame.ts_event.get(), frame.seq.get()));
        let mut fold = BarFold::new(nanos(Duration::from_secs(seconds.into())));
        let trades = all.iter().filter_map(Frame::view::<Trade>);
        let mut want: Vec<Bar> = trades.filter_map(|trade| fold.add(trade)).collect();
        want.extend(fold.finish());
        assert_eq!(told.into_values().collect::<Vec<_>>(), want, "bars of {seconds} s");
    }
}

#[test]
fn a_bar_of_a_quiet_instrument_is_reported_when_its_time_has_passed() {
    let mut bench = Bench::new(&[60], 1);
    bench.trade(1, 10, 5);
    let grace = LIVE_BAR_GRACE;
    assert_eq!(bench.sleep_until_due(), Duration::from_secs(50) + grace);
    assert_eq!(bench.reported(), [(0, 1, "")]);
    assert_eq!(bench.bars.deadline(), None);
    assert_eq!(bench.trade(2, 20, 5), [(0, 2, "revised")]);
}

#[test]
fn the_bar_under_way_is_completed_from_history() {
    let mut bench = Bench::new(&[60], 0);
    bench.now.wall_ns = 50 * 1_000_000_000;
    bench.handle(Event::Data(trade(7, 40, 5).delivered(Flags::SNAPSHOT)));
    bench.handle(Event::Live { next_seq: Seq::new(10).unwrap() });
    let backfill = bench.bars.poll_backfill().unwrap();
    assert_eq!((backfill.from, backfill.to), (0, event_ns(MINUTE + DAY).get()));
    assert_eq!((backfill.as_of, backfill.symbol.as_str()), (Seq::new(10), "PETR4"));
    // Meanwhile the feed goes on; history answers late, and has what the feed brought too.
    assert_eq!(bench.trade(11, 55, 9), []);
    assert_eq!(bench.trade(12, 61, 9), []);
    let found = [trade(5, 1, 1), trade(7, 40, 5), trade(11, 55, 9)];
    bench.bars.handle_backfill(bench.now, &backfill, Some(&found));
    assert_eq!(bench.reported(), [(0, 3, "")]);
    assert_eq!(bench.trade(13, 62, 9), []);
    assert_eq!(bench.trade(14, 120, 9), [(60, 2, "")]);
    assert_eq!(bench.bars.poll_backfill(), None);
}

#[test]
fn without_history_the_first_bar_says_that_it_is_incomplete() {
    let mut bench = Bench::new(&[60], 0);
    bench.now.wall_ns = 50 * 1_000_000_000;
    bench.handle(Event::Data(trade(7, 40, 5).delivered(Flags::SNAPSHOT)));
    bench.handle(Event::Live { next_seq: Seq::new(10).unwrap() });
    let backfill = bench.bars.poll_backfill().unwrap();
    bench.trade(11, 55, 9);
    bench.bars.handle_backfill(bench.now, &backfill, None);
    assert_eq!(bench.trade(12, 60, 9), [(0, 1, "incomplete")]);
    assert_eq!(bench.trade(13, 120, 9), [(60, 1, "")], "only the first");
    // Late trades do not say which bar was under way: those that came while history was asked may lack some.
    let mut bench = Bench::new(&[60], 0);
    bench.handle(Event::Data(trade(7, 30, 5).delivered(Flags::SNAPSHOT)));
    bench.trade(11, 50, 9);
    bench.trade(12, 70, 9);
    bench.trade(13, 125, 9);
    let backfill = bench.bars.poll_backfill().unwrap();
    bench.bars.handle_backfill(bench.now, &backfill, None);
    assert_eq!(bench.reported(), [(0, 1, "incomplete"), (60, 1, "incomplete")]);
    assert_eq!(bench.trade(14, 180, 9), [(120, 1, "incomplete")]);
    assert_eq!(bench.trade(15, 240, 9), [(180, 1, "")]);
    // It is of the first bar, whose trades are missing, and not of the one that looks the same.
    assert_eq!(bench.handle(cancel(16, 20, 15, 9)), []);
    assert_eq!(bench.trade(17, 300, 9), [(240, 1, "")]);
}

#[test]
fn a_bar_that_was_over_before_is_not_ours() {
    let mut bench = Bench::new(&[60], 0);
    // The last trade is two minutes old, by core's clock.
    bench.now.wall_ns = 160 * 1_000_000_000;
    bench.handle(Event::Data(trade(7, 40, 5).delivered(Flags::SNAPSHOT)));
    bench.handle(Event::Live { next_seq: Seq::new(10).unwrap() });
    assert_eq!(bench.bars.poll_backfill(), None);
    assert_eq!(bench.trade(11, 161, 9), []);
    bench.answer(&[]);
    assert_eq!(bench.trade(12, 50, 9), [(0, 1, "incomplete")], "late for a bar that was over");
    assert_eq!(bench.trade(13, 180, 9), [(120, 1, "")]);
    // But event time may have stood still: then the first trade shows that the bar goes on.
    let mut bench = Bench::new(&[60], 0);
    bench.now.wall_ns = 160 * 1_000_000_000;
    bench.handle(Event::Data(trade(7, 40, 5).delivered(Flags::SNAPSHOT)));
    bench.handle(Event::Live { next_seq: Seq::new(10).unwrap() });
    bench.trade(11, 41, 9);
    assert!(bench.bars.poll_backfill().is_some());
}

/// The last trade before the subscription, or the first one of it, was late: bars that neither is of have trades from before.
#[test]
fn a_late_trade_hides_no_bar_under_way() {
    for (prior, first) in [(30, 131), (125, 40)] {
        let mut bench = Bench::new(&[60], 0);
        bench.now.wall_ns = 600 * 1_000_000_000;
        bench.handle(Event::Data(trade(7, prior, 5).delivered(Flags::SNAPSHOT)));
        bench.handle(Event::Live { next_seq: Seq::new(10).unwrap() });
        assert_eq!(bench.trade(11, first, 9), []);
        bench.answer(&[trade(4, 121, 5), trade(5, 122, 5), trade(7, prior, 5)]);
        bench.reported();
        let counted = 2 + u64::from(prior > 120) + u64::from(first > 120);
        assert_eq!(bench.trade(12, 180, 9), [(120, counted, "")], "{prior} and {first}");
    }
    // Both were late.
    let mut bench = Bench::new(&[60], 0);
    bench.handle(Event::Data(trade(7, 30, 5).delivered(Flags::SNAPSHOT)));
    bench.trade(11, 50, 9);
    bench.answer(&[trade(5, 122, 5), trade(7, 30, 5)]);
    assert_eq!(bench.reported().last(), Some(&(0, 2, "revised")));
    bench.trade(12, 125, 9);
    assert_eq!(bench.trade(13, 180, 9), [(120, 2, "")]);
}

#[test]
fn a_replay_from_the_middle_asks_for_what_is_before_it() {
    let mut bench = Bench::new(&[60, 300], 20);
    bench.trade(20, 130, 9);
    let backfill = bench.bars.poll_backfill().unwrap();
    assert_eq!((backfill.from, backfill.to), (0, event_ns(300 + DAY).get()), "the longer bar's");
    let found = [trade(18, 10, 1), trade(19, 125, 1), trade(25, 140, 1)];
    bench.bars.handle_backfill(bench.now, &backfill, Some(&found));
    assert_eq!(
        bench.reported(),
        [],
        "nothing of before, and nothing that the replay brings itself"
    );
    assert_eq!(bench.trade(25, 140, 1), []);
    assert_eq!(bench.trade(26, 300, 1), [(120, 3, ""), (0, 4, "")]);
}

#[test]
fn bars_with_a_hole_say_so() {
    let mut bench = Bench::new(&[60], 1);
    bench.trade(1, 10, 5);
    bench.handle(lost(GapReason::SourceLost, 2));
    assert_eq!(bench.trade(4, 70, 5), [(0, 1, "incomplete")]);
    assert_eq!(bench.trade(5, 120, 5), [(60, 1, "incomplete")], "the hole may reach into it");
    assert_eq!(bench.trade(6, 180, 5), [(120, 1, "")]);
}

/// More trades of one bar than a subscription keeps: those that are dropped are missing from it.
#[test]
fn a_bar_that_drops_trades_and_says_nothing() {
    let mut bench = Bench::new(&[60], 1);
    let kept = LIVE_BAR_TRADES_MAX as u64;
    for seq in 1..=kept {
        assert_eq!(bench.trade(seq, 0, 10), []);
    }
    assert_eq!(bench.trade(kept + 1, 59, 20), []);
    let reported = bench.trade(kept + 2, 60, 10);
    assert_eq!(reported, [(0, kept, "incomplete")], "one trade was dropped");
    assert_eq!(bench.trade(kept + 3, 120, 10), [(60, 1, "")], "the next bar lacks nothing");
}

/// History takes so long that frames are dropped meanwhile. They may be of the bar of the last one that was
/// kept, of any bar behind it, and of the first bar that comes then.
#[test]
fn frames_dropped_while_history_is_away_flag_the_bars_that_lack_them() {
    let mut bench = Bench::new(&[60], 5);
    let held = LIVE_BAR_HELD_MAX as u64;
    assert_eq!(bench.trade(5, 0, 10), []);
    let backfill = bench.bars.poll_backfill().unwrap();
    for seq in 6..5 + held {
        assert_eq!(bench.trade(seq, 61, 10), []);
    }
    // These find no room: one of the bar under way, and one of the next.
    assert_eq!(bench.trade(5 + held, 62, 10), []);
    assert_eq!(bench.trade(6 + held, 121, 10), []);
    bench.bars.handle_backfill(bench.now, &backfill, Some(&[]));
    assert_eq!(bench.reported(), [(0, 1, "")], "nothing of the first bar was dropped");
    assert_eq!(bench.trade(7 + held, 122, 10), [(60, held - 1, "incomplete")]);
    assert_eq!(bench.trade(8 + held, 181, 10), [(120, 1, "incomplete")]);
    assert_eq!(bench.trade(9 + held, 240, 10), [(180, 1, "")], "the next bar lacks nothing");
}

#[test]
fn what_a_new_epoch_takes_back_is_taken_out_of_the_bars() {
    let mut bench = Bench::new(&[60], 1);
    for (seq, second) in [(1, 10), (2, 20), (3, 70)] {
        bench.trade(seq, second, 5);
    }
    assert_eq!(bench.handle(lost(GapReason::Void, 2)), [(0, 1, "revised")]);
    assert_eq!(bench.trade(2, 30, 5), [(0, 2, "revised")]);
    assert_eq!(bench.trade(3, 130, 5), [], "its bar was emptied before anybody saw it");
    assert_eq!(bench.trade(4, 190, 5), [(120, 1, "")]);
}

#[test]
fn other_instruments_have_no_bars() {
    let mut bench = Bench::new(&[60], 1);
    let mut other = trade(1, 10, 5);
    other.instrument = U32::new(2);
    bench.handle(Event::Data(other));
    assert_eq!(bench.bars.deadline(), None);
}

#[test]
fn a_cancellation_of_what_was_told_before_takes_back_nothing_that_looks_the_same() {
    let mut bench = Bench::new(&[60], 0);
    bench.now.wall_ns = 500 * 1_000_000_000;
    bench.handle(Event::Data(trade(7, 40, 5).delivered(Flags::SNAPSHOT)));
    bench.handle(Event::Live { next_seq: Seq::new(10).unwrap() });
    assert_eq!(bench.trade(11, 301, 9), []);
    bench.answer(&[]);
    // The same number, price and quantity, and the time of a bar before the first.
    assert_eq!(bench.handle(cancel(12, 100, 11, 9)), []);
    assert_eq!(bench.trade(13, 360, 9), [(300, 1, "")]);
    assert_eq!(bench.handle(cancel(14, 361, 11, 9)), [(300, 0, "revised")]);
}

#[test]
fn a_forgotten_bar_is_final() {
    let mut series = Series::new(60_000_000_000);
    let mut out = VecDeque::new();
    let room = Room { has_room: true, is_torn: false, is_history: false };
    let mut add = |series: &mut Series, seq, second| {
        let frame = trade(seq, second, 5);
        let trade = frame.view::<Trade>().unwrap();
        series.leave_behind(U32::new(PETR4).into(), trade.ts_event.get(), &mut out);
        let is_kept = series.add(U32::new(PETR4).into(), trade, room, &mut out);
        (is_kept, std::mem::take(&mut out).len())
    };
    assert_eq!(add(&mut series, 1, 10), (true, 0));
    assert_eq!(add(&mut series, 2, 70), (true, 1));
    assert_eq!(series.forget_oldest(), 1);
    assert_eq!(add(&mut series, 3, 20), (false, 0), "late for what is forgotten");
    assert_eq!(add(&mut series, 4, 80), (true, 0));
    assert_eq!(series.forget_oldest(), 0, "what is under way is not forgotten");
}
