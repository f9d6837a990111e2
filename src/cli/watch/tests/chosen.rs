//! The chosen instrument: bars of history that go on live, revised and incomplete ones, and the tape.

use super::*;
use crate::cli::watch::state::chosen::Candle;

/// PETR4 is chosen; its subscription began at `seq` 10, and history is asked.
fn chosen() -> Watch {
    let mut watch = three((80, 24));
    press(&mut watch, &[Key::Enter]);
    let follow = |it: &Command| matches!(it, Command::Follow { choice: 1, seconds: 60, .. });
    assert!(commands(&mut watch).iter().any(follow));
    watch.handle(at(0), Input::Chosen(1, live(10)));
    watch.handle_time(at(0));
    let asks = |it: &Command| matches!(it, Command::AskHistory { choice: 1, seconds: 60, .. });
    assert!(commands(&mut watch).iter().any(asks));
    watch
}

fn history(trades: &[Trade], as_of: u64) -> History {
    let mut bars: BTreeMap<u64, Vec<Trade>> = BTreeMap::new();
    for trade in trades {
        bars.entry(trade.ts_event.get() / (60 * SECOND)).or_default().push(*trade);
    }
    let bars = bars.values().map(|trades| bar(60, trades)).collect();
    History { bars, trades: trades.to_vec(), as_of: Seq::new(as_of), missing: Vec::new() }
}

fn candles(watch: &Watch) -> Vec<Candle> {
    watch.chosen.as_ref().unwrap().candles.values().copied().collect()
}

/// Count of trades, and volume, of each bar.
fn counts(watch: &Watch) -> Vec<u64> {
    candles(watch).iter().map(|it| it.bar.trades).collect()
}

fn marks(watch: &Watch) -> Vec<(bool, bool, bool)> {
    candles(watch).iter().map(|it| (it.is_incomplete, it.is_revised, it.has_gap)).collect()
}

const COMPLETE: (bool, bool, bool) = (false, false, false);

#[test]
fn a_trade_counts_once_whoever_brought_it_and_in_whatever_order() {
    // Two bars: 2, 3 before the subscription; 10, 11 live; 12 in the next minute.
    let all = [(2, 0), (3, 1_000), (10, 2_000), (11, 3_000), (12, 61_000)];
    let all = all.map(|(seq, ms)| trade(1, seq, ms, 4_100 + i64::try_from(seq).unwrap()));
    // History has everything below `as_of`, and answers after so many of the live ones.
    for as_of in 10..=13_u64 {
        for before in 0..=3 {
            let mut watch = chosen();
            for (index, it) in all[2..].iter().enumerate() {
                if index == before {
                    let known: Vec<Trade> =
                        all.iter().filter(|it| it.seq.get() < as_of).copied().collect();
                    watch.handle(at(0), Input::History(1, Ok(history(&known, as_of))));
                }
                watch.handle(at(0), Input::Chosen(1, Event::Data(Frame::seal(*it))));
            }
            if before == 3 {
                let known: Vec<Trade> =
                    all.iter().filter(|it| it.seq.get() < as_of).copied().collect();
                watch.handle(at(0), Input::History(1, Ok(history(&known, as_of))));
            }
            assert_eq!(counts(&watch), [4, 1], "as of {as_of}, behind {before}");
            assert_eq!(marks(&watch), [COMPLETE; 2], "as of {as_of}, behind {before}");
            let first = candles(&watch)[0].bar;
            assert_eq!(first, bar(60, &all[..4]), "as of {as_of}, behind {before}");
        }
    }
}

#[test]
fn bars_that_history_is_not_far_enough_for_are_incomplete_until_it_is() {
    let mut watch = chosen();
    watch.handle(at(0), Input::Chosen(1, traded(1, 12, 2_000, 4_110)));
    assert_eq!(marks(&watch), [(true, false, false)], "its beginning is not known");
    let old = trade(1, 2, 0, 4_100);
    watch.handle(at(0), Input::History(1, Ok(history(&[old], 9))));
    assert_eq!((counts(&watch), marks(&watch)), (vec![2], vec![(true, false, false)]));
    assert_line(&watch, "1m bars: 1, 1 incomplete (I)");
    watch.handle_time(at(999));
    assert_eq!(commands(&mut watch), []);
    watch.handle_time(at(1_000));
    assert!(matches!(commands(&mut watch)[..], [Command::AskHistory { choice: 1, .. }]));
    let between = trade(1, 9, 1_000, 4_105);
    watch.handle(at(1_000), Input::History(1, Ok(history(&[old, between], 10))));
    assert_eq!((counts(&watch), marks(&watch)), (vec![3], vec![COMPLETE]));
}

#[test]
fn a_gap_is_a_line_of_the_tape_and_makes_the_bar_incomplete_for_good() {
    let mut watch = chosen();
    watch.handle(at(0), Input::History(1, Ok(history(&[trade(1, 2, 0, 4_100)], 10))));
    watch.handle(at(0), Input::Chosen(1, traded(1, 12, 2_000, 4_110)));
    let gap = lost(GapReason::SourceLost, Some(number(1)), Some(12));
    watch.handle(at(0), Input::Chosen(1, gap));
    watch.handle(at(0), Input::Chosen(1, traded(1, 30, 3_000, 4_111)));
    assert_line(&watch, "── 12 missing: lost by the");
    assert_eq!(marks(&watch), [(true, false, true)]);
    // Of another instrument, or on purpose: none of ours.
    for other in [
        lost(GapReason::SourceLost, Some(number(2)), Some(5)),
        lost(GapReason::Skipped, None, Some(5)),
    ] {
        watch.handle(at(0), Input::Chosen(1, other));
    }
    assert!(!has_line(&watch, "5 missing"));
    // History does not have them either.
    let all = [trade(1, 2, 0, 4_100), trade(1, 12, 2_000, 4_110), trade(1, 30, 3_000, 4_111)];
    watch.handle(at(0), Input::History(1, Ok(history(&all, 31))));
    assert_eq!((counts(&watch), marks(&watch)), (vec![3], vec![(true, false, true)]));
    assert_line(&watch, "1 with gaps (┊)");
}

#[test]
fn what_only_this_subscription_has_lost_comes_from_history() {
    let mut watch = chosen();
    watch.handle(at(0), Input::History(1, Ok(history(&[trade(1, 2, 0, 4_100)], 10))));
    watch.handle(at(0), Input::Chosen(1, lost(GapReason::Lapped, None, None)));
    assert_eq!(marks(&watch), [(true, false, true)]);
    watch.handle_time(at(1_000));
    assert!(matches!(commands(&mut watch)[..], [Command::AskHistory { .. }]));
    let all = [trade(1, 2, 0, 4_100), trade(1, 10, 2_000, 4_110)];
    watch.handle(at(1_000), Input::History(1, Ok(history(&all, 11))));
    assert_eq!((counts(&watch), marks(&watch)), (vec![2], vec![(false, false, true)]));
}

#[test]
fn a_late_trade_and_a_cancellation_revise_a_bar() {
    let mut watch = chosen();
    let old = [trade(1, 2, 0, 4_100), trade(1, 3, 61_000, 4_120)];
    watch.handle(at(0), Input::History(1, Ok(history(&old, 10))));
    assert_eq!(marks(&watch), [COMPLETE; 2]);
    let late = trade(1, 10, 30_000, 4_090);
    watch.handle(at(0), Input::Chosen(1, Event::Data(Frame::seal(late))));
    assert_eq!((counts(&watch), marks(&watch)), (vec![2, 1], vec![(false, true, false), COMPLETE]));
    assert_line(&watch, "1 revised (R)");
    let cancel = Cancel {
        instrument: U32::new(1),
        seq: U64::new(11),
        ts_event: late.ts_event,
        price: late.price,
        qty: late.qty,
        trade_id: late.trade_id,
        ..Cancel::default()
    };
    watch.handle(at(0), Input::Chosen(1, Event::Data(Frame::seal(cancel))));
    assert_line(&watch, "100 x");
    // History without the trade: it must not come back out of what was live.
    watch.handle(at(0), Input::History(1, Ok(history(&old, 12))));
    assert_eq!((counts(&watch), marks(&watch)), (vec![1, 1], vec![(false, true, false), COMPLETE]));
}

#[test]
fn a_bar_that_is_over_is_as_the_library_says() {
    let mut watch = chosen();
    watch.handle(at(0), Input::History(1, Ok(history(&[trade(1, 2, 0, 4_100)], 10))));
    let trades = [trade(1, 2, 0, 4_100), trade(1, 10, 2_000, 4_110)];
    let over = |is_revised, is_incomplete| {
        let bar = bar(60, &trades);
        Input::Bar(1, LiveBar { instrument: number(1), bar, is_revised, is_incomplete })
    };
    watch.handle(at(0), over(false, true));
    assert_eq!((counts(&watch), marks(&watch)), (vec![2], vec![(true, false, false)]));
    // Its trade comes a little later on the other connection.
    watch.handle(at(0), Input::Chosen(1, Event::Data(Frame::seal(trades[1]))));
    watch.handle(at(0), over(true, false));
    assert_eq!((counts(&watch), marks(&watch)), (vec![2], vec![(false, true, false)]));
}

#[test]
fn a_partial_answer_names_the_shard_and_keeps_what_was_known() {
    let mut watch = chosen();
    watch.handle(at(0), Input::History(1, Ok(history(&[trade(1, 2, 0, 4_100)], 10))));
    let missing = vec!["shard-C (timeout)".to_owned()];
    let partial = History { missing, ..History::default() };
    watch.handle(at(0), Input::History(1, Ok(partial)));
    assert_line(&watch, "bars are partial without shard-C (timeout)");
    assert_line(&watch, "PARTIAL");
    assert_eq!((counts(&watch), marks(&watch)), (vec![1], vec![(true, false, false)]));
    watch.handle(at(0), Input::History(1, Err("aggregator cannot be reached".to_owned())));
    assert_line(&watch, "no bars of history: aggregator cannot be reached; asking again");
    watch.handle(at(0), Input::ChosenAway(1, "broker: refused".to_owned()));
    assert_line(&watch, "no live trades: broker: refused; trying again");
}

#[test]
fn what_belongs_to_an_earlier_choice_is_passed_over() {
    let mut watch = chosen();
    press(&mut watch, &[Key::Down]);
    assert_eq!(watch.chosen.as_ref().unwrap().choice, 2);
    watch.handle(at(0), Input::Chosen(1, traded(1, 12, 2_000, 4_110)));
    watch.handle(at(0), Input::History(1, Ok(history(&[trade(1, 2, 0, 4_100)], 10))));
    assert!(candles(&watch).is_empty() && watch.chosen.as_ref().unwrap().tape.is_empty());
    // Another length is another choice of the same instrument.
    press(&mut watch, &[Key::Char('b')]);
    let [Command::Follow { choice: 3, symbol, seconds: 300 }] = &commands(&mut watch)[1..] else {
        panic!("not followed")
    };
    assert_eq!(symbol.as_str(), "VALE3");
}

#[test]
fn what_was_void_is_taken_out_of_the_tape() {
    let mut watch = chosen();
    watch.handle(at(0), Input::Chosen(1, traded(1, 3, 2_000, 4_110)));
    watch.handle(at(0), Input::Chosen(1, traded(1, 12, 3_000, 4_999)));
    watch.handle(at(0), Input::Chosen(1, lost(GapReason::Void, None, None)));
    assert_line(&watch, "41.10");
    assert_line(&watch, "some missing: taken back");
    let tape = &watch.chosen.as_ref().unwrap().tape;
    assert!(
        !tape.iter().any(|it| matches!(it, TapeLine::Trade { trade, .. } if trade.seq.get() == 12))
    );
}
