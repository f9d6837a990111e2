//! What live bars cost: a day of bars of one second in proportion to its trades, and so one bar that all of the day is late
//! for. What the bars are is held by the library's own tests. Time is the processor's that this thread has had: another
//! load does not change it.

use std::time::Duration;

use pregao::client::{BarPattern, Event, LiveBars, Symbols};
use pregao::feed::Pattern;
use pregao::time::Now;
use pregao::wire::{Definition, Frame, I64, Seq, Trade, U32, U64};

const PETR4: u32 = 1;

/// All bars of these trades: in the order in which they come, the second of each.
fn told(bar_seconds: u32, seconds: impl Iterator<Item = u64>) -> u64 {
    let pattern = Pattern::new("PETR4", 0).expect("a pattern");
    let patterns = vec![BarPattern { pattern, seconds: bar_seconds }];
    let mut bars = LiveBars::new(patterns, Some(Seq::FIRST));
    let mut symbols = Symbols::default();
    let symbol = "PETR4".parse().expect("a symbol");
    symbols.note(&Frame::seal(Definition::new(U32::new(PETR4).into(), symbol, 2)));
    let mut count = 0;
    for (seq, second) in (1_u32..).zip(seconds) {
        let trade = Frame::seal(Trade {
            instrument: U32::new(PETR4),
            seq: U64::new(seq.into()),
            instrument_seq: U32::new(seq),
            ts_event: U64::new(second * 1_000_000_000),
            price: I64::new(5),
            qty: U64::new(1),
            ..Trade::default()
        });
        bars.handle_event(Now::default(), &Event::Data(trade), &symbols);
        count += std::iter::from_fn(|| bars.poll_bar()).count() as u64;
    }
    count
}

/// One bar for each second.
fn in_order(count: u64) {
    assert_eq!(told(1, 0..count), count - 1);
}

/// One bar of a day that each trade comes too late for.
fn late(count: u64) {
    assert_eq!(told(86_400, std::iter::once(100_000).chain(0..count)), count);
}

fn cpu_time(run: impl FnOnce()) -> Duration {
    let now = || {
        let at = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        Duration::try_from(at).expect("a time that passed")
    };
    let begun = now();
    run();
    now() - begun
}

#[test]
fn eighty_thousand_bars_cost_four_times_as_much_as_twenty_thousand() {
    for run in [in_order, late] {
        let few = cpu_time(|| run(20_000));
        // In proportion to the square it would be sixteen times as much.
        assert!(cpu_time(|| run(80_000)) < few * 9, "{few:?} for 20,000");
    }
}
