//! A journal that rots in its middle: what the shards are sent, and what core still knows.

use super::*;
use crate::wire::{Gap, GapReason};

const BROKER: u32 = 1;
const SHARD: u32 = 2;

/// Spoils the records of these events on a disk: one bit, or everything.
pub(super) fn rot(disk: &MemoryDisk, seqs: &[u64], whole: bool) {
    let mut spoilt = 0;
    for number in disk.numbers() {
        let mut bytes = disk.bytes(number);
        let records = crate::log::HEADER_BYTES..bytes.len();
        for at in records.step_by(64) {
            let frame = as_frames(&bytes[at..at + 64]).0[0];
            if crate::log::is_event(&frame) && seqs.contains(&frame.seq.get()) {
                if whole {
                    bytes[at..at + 64].fill(0xA5);
                } else {
                    bytes[at + 40] ^= 4;
                }
                spoilt += 1;
            }
        }
        disk.put(number, bytes);
    }
    assert_eq!(spoilt, seqs.len());
}

/// A core whose journal was closed, then spoilt, then opened again.
fn spoilt(quotes: std::ops::Range<u64>, seqs: &[u64], whole: bool) -> Bench {
    let mut bench = Bench::new();
    let exchange = bench.market();
    for seq in quotes {
        bench.deliver(exchange, &[quote(seq, u32::try_from(seq % 2).unwrap())]);
        bench.turn();
    }
    bench.core.handle_stop(bench.now);
    let disk = bench.disk.kill();
    rot(&disk, seqs, whole);
    Bench::on(disk, bench.now)
}

/// All events that can be read, newest last.
pub(super) fn journaled(bench: &Bench) -> Vec<Frame> {
    let journal = &bench.core.journal;
    let (mut frames, mut position) = (Vec::new(), journal.first_position());
    loop {
        match journal.read(position, usize::MAX) {
            Read::End => return frames,
            Read::Damaged(range) => position = range.end,
            Read::Frames(read) => {
                frames.extend(read.iter().filter(|frame| crate::log::is_event(frame)));
                position += read.len() as u64;
            }
        }
    }
}

/// What a follower gets: frames as (seq, seq), gaps as what they say.
fn told(frames: &[Frame]) -> Vec<(u64, u64)> {
    let range = |frame: &Frame| match frame.view::<Gap>() {
        Some(gap) => {
            assert_eq!(gap.reason, GapReason::Corrupt as u8);
            (gap.from_seq.get(), gap.to_seq.get())
        }
        None => (frame.seq.get(), frame.seq.get()),
    };
    let is_reported = |frame: &&Frame| frame.kind != Kind::Heartbeat as u8;
    frames.iter().filter(is_reported).map(range).collect()
}

/// All seqs that gaps say are lost. Whether neighbours come in one gap or in two depends on where the
/// journal's marks stand.
fn gaps(frames: &[Frame]) -> Vec<u64> {
    let gaps: Vec<Frame> = frames.iter().filter(|f| f.view::<Gap>().is_some()).copied().collect();
    told(&gaps).into_iter().flat_map(|(from, to)| from..=to).collect()
}

#[test]
fn a_shard_gets_gaps_of_exactly_what_rotted_before_it_came() {
    // The last frame of a segment, a run over the border of two, and the last frame of all.
    let mut bench = spoilt(3..103, &[], true);
    let ends: Vec<u64> = ends_of_segments(&bench);
    let (end, border) = (ends[0], ends[1]);
    bench.core.handle_stop(bench.now);
    let disk = bench.disk.kill();
    let lost = [5, 7, 8, end, border, border + 1, 102];
    rot(&disk, &lost, true);
    let mut bench = Bench::on(disk, bench.now);
    assert_eq!(bench.core.journal.next_seq(), 103);
    let (_, frames) = bench.follower(SHARD, 1);
    assert_eq!(gaps(&frames), lost);
    // In its place, and each number once.
    let all = told(&frames);
    assert!(all.windows(2).all(|pair| pair[1].0 == pair[0].1 + 1), "{all:?}");
    assert_eq!((all[0].0, all[all.len() - 1].1), (1, 102));
    // The broker sees it in the numbers, and gets what it stands on.
    let (_, frames) = bench.follower(BROKER, 1);
    assert!(
        gaps(&frames).is_empty() && frames.iter().all(|frame| !lost.contains(&frame.seq.get()))
    );
}

/// The last event of each segment but the current one.
pub(super) fn ends_of_segments(bench: &Bench) -> Vec<u64> {
    let ends = bench.disk.numbers().into_iter().filter_map(|number| {
        let bytes = bench.disk.bytes(number);
        let (frames, _) = as_frames(&bytes[crate::log::HEADER_BYTES..]);
        frames.iter().rfind(|frame| crate::log::is_event(frame)).map(|frame| frame.seq.get())
    });
    let mut ends: Vec<u64> = ends.collect();
    ends.pop();
    ends
}

#[test]
fn a_shard_within_the_hole_gets_a_gap_of_the_rest_and_one_beyond_it_none() {
    let mut bench = spoilt(3..103, &[30, 31, 32], true);
    let (_, frames) = bench.follower(SHARD, 31);
    assert_eq!((gaps(&frames), seqs(&frames)[0]), (vec![31, 32], 33));
    for wanted in [33, 34, 103] {
        let mut bench = spoilt(3..103, &[30, 31, 32], true);
        let (_, frames) = bench.follower(SHARD, wanted);
        assert!(gaps(&frames).is_empty(), "{wanted}");
        assert_eq!(seqs(&frames), (wanted..103).collect::<Vec<_>>());
    }
}

#[test]
fn a_definition_that_a_later_segment_states_is_sent_ahead_of_the_gap() {
    let mut bench = spoilt(3..103, &[1, 2, 5], true);
    assert_eq!(bench.core.market.len(), 2);
    let (_, frames) = bench.follower(SHARD, 1);
    // Each before the word that its place is lost, and so before its instrument's first frame.
    let place = |seq: u64, kind: Kind| {
        let is_it =
            |(index, _): &(usize, &Frame)| told(&frames[..=*index]).last() == Some(&(seq, seq));
        let places = frames.iter().enumerate().filter(is_it);
        places.filter(|(_, frame)| frame.kind() == Some(kind)).map(|(index, _)| index).next()
    };
    for seq in [1, 2] {
        let definition = place(seq, Kind::Definition).unwrap();
        assert!(frames[definition].has(Flags::SNAPSHOT));
        assert!(
            definition
                < frames
                    .iter()
                    .position(|f| f.view::<Gap>().is_some_and(|gap| gap.to_seq.get() >= seq))
                    .unwrap()
        );
    }
    assert_eq!(gaps(&frames), [1, 2, 5]);
    // With the second hole no definition went.
    assert_eq!(frames.iter().filter(|f| f.kind == Kind::Definition as u8).count(), 2);
}

#[test]
fn a_lost_definition_refuses_the_start_and_changes_nothing() {
    let mut bench = Bench::new();
    let exchange = bench.market();
    bench.deliver(exchange, &[quote(3, 0), quote(4, 1)]);
    bench.core.handle_stop(bench.now);
    let disk = bench.disk.kill();
    rot(&disk, &[2], true);
    let epoch = bench.core.journal.epoch();
    for _ in 0..2 {
        let (log, recovery) = Log::open(disk.storage(), log_config(), bench.now).unwrap();
        assert_eq!(log.epoch(), epoch, "a start that was refused has begun no epoch");
        let refused = Sequencer::new(config(), log, &recovery, bench.now).err().unwrap();
        assert!(refused.contains("1 of its instruments") && refused.contains("pregao verify"));
    }
}

#[test]
fn one_flipped_bit_takes_no_name_and_no_count_along() {
    // Nothing states these again: they stand in the only segment.
    let mut bench = spoilt(3..9, &[2, 7, 8], false);
    assert_eq!(bench.core.market.len(), 2);
    let exchange = bench.exchange(FEED, 9, &[ahead(0, "PETR4"), ahead(1, "VALE3")]);
    bench.deliver(exchange, &[definition(9, 2, "ITUB4"), quote(10, 0), quote(11, 1)]);
    let last: Vec<Frame> = journaled(&bench).into_iter().rev().take(3).collect();
    assert_eq!(
        last[2].instrument().index().get(),
        2,
        "no number is left out, and none is used twice"
    );
    assert_eq!((last[1].instrument_seq.get(), last[0].instrument_seq.get()), (4, 4));
    let (_, frames) = bench.follower(SHARD, 1);
    assert_eq!(gaps(&frames), [2, 7, 8], "what cannot be read is not handed out");
}

#[test]
fn a_number_that_a_lost_definition_may_have_had_is_never_used_again() {
    // All that is known of seq 3 and 4 is that they were: they may have defined a third and a fourth.
    let mut bench = spoilt(3..9, &[3, 4], true);
    let told = |action: &Action| matches!(action, Action::Log(Level::Error, text) if text.contains("seq 3 to 4"));
    assert!(bench.actions.iter().any(told));
    // The last quotes are behind them, so nothing is in doubt.
    let (_, frames) = bench.follower(1, 0);
    assert!(!frames.iter().any(|f| f.has(Flags::STALE) && f.kind == Kind::Quote as u8));
    // Nor once a later segment has stated everything again, however often.
    for rolls in 0..3 {
        bench = spoilt(3..9, &[3, 4], true);
        for _ in 0..rolls {
            bench = rolled(bench);
        }
        let next = bench.core.exchanges[0].upstream_seq.get();
        let exchange = bench.exchange(FEED, next, &[ahead(0, "PETR4"), ahead(1, "VALE3")]);
        bench.deliver(exchange, &[definition(next, 2, "ITUB4")]);
        let last = *journaled(&bench).last().unwrap();
        assert_eq!(last.instrument().index().get(), 4, "after {rolls} rolls");
        assert_eq!(bench.core.market.len(), 3, "a number that is left out is no instrument");
    }
}

/// A core whose journal went on, with trades of PETR4, until it had rolled, and that was started again.
fn rolled(mut bench: Bench) -> Bench {
    let segments = bench.disk.numbers().len();
    let next = bench.core.exchanges[0].upstream_seq.get();
    let exchange = bench.exchange(FEED, next, &[ahead(0, "PETR4"), ahead(1, "VALE3")]);
    for seq in next..next + SEGMENT_RECORDS {
        bench.deliver(exchange, &[trade(seq, 0)]);
        bench.turn();
    }
    assert!(bench.disk.numbers().len() > segments);
    bench.core.handle_stop(bench.now);
    bench.restart()
}

#[test]
fn a_last_value_that_may_not_be_the_last_is_stale() {
    let quote_of = |seq: u64, is_stale: bool| (Kind::Quote as u8, seq, is_stale);
    let mut bench = spoilt(3..9, &[8], true);
    assert_eq!(last_values(&mut bench), [quote_of(6, true), quote_of(7, true)]);
    // What a later segment states again is no better known for it; what came behind the loss is.
    for _ in 0..3 {
        bench = rolled(bench);
        let last = bench.core.journal.next_seq() - 1;
        let trade = (Kind::Trade as u8, last, false);
        assert_eq!(last_values(&mut bench), [quote_of(6, true), trade, quote_of(7, true)]);
    }
    // News of an instrument ends the doubt about it, and about no other.
    let next = bench.core.exchanges[0].upstream_seq.get();
    let exchange = bench.exchange(FEED, next, &[ahead(0, "PETR4"), ahead(1, "VALE3")]);
    let news = bench.core.journal.next_seq();
    bench.deliver(exchange, &[quote(next, 1)]);
    bench.core.handle_stop(bench.now);
    bench = rolled(bench.restart());
    let values = last_values(&mut bench);
    assert_eq!((values[0], values[2]), (quote_of(6, true), quote_of(news, false)));
}

/// The last values that a new broker gets, by instrument: kind, seq, and whether it is STALE.
fn last_values(bench: &mut Bench) -> Vec<(u8, u64, bool)> {
    let (_, frames) = bench.follower(1, 0);
    let is_value = |f: &&Frame| f.has(Flags::SNAPSHOT) && f.kind != Kind::Definition as u8;
    let values = frames.iter().filter(is_value);
    values.map(|f| (f.kind, f.seq.get(), f.has(Flags::STALE))).collect()
}

/// A third instrument is defined by frame 50, in the middle of many quotes of the others; it has one quote,
/// behind that. Closed, spoilt, and opened again: a later segment states what rotted.
fn spoilt_with_a_third(seqs: &[u64]) -> Bench {
    let mut bench = Bench::new();
    let exchange = bench.market();
    let third = |seq| matches!(seq, 50 | 60);
    for seq in (3..103).filter(|seq| *seq != 50) {
        let own = if third(seq) { 2 } else { u32::try_from(seq % 2).unwrap() };
        if seq == 51 {
            bench.deliver(exchange, &[definition(50, 2, "ITUB4")]);
        }
        bench.deliver(exchange, &[quote(seq, own)]);
        bench.turn();
    }
    bench.core.handle_stop(bench.now);
    let disk = bench.disk.kill();
    rot(&disk, seqs, true);
    let bench = Bench::on(disk, bench.now);
    assert_eq!(bench.core.market.len(), 3);
    bench
}

#[test]
fn a_broker_behind_a_hole_gets_the_names_and_last_values_that_stood_in_it() {
    let lost: Vec<u64> = (48..62).collect();
    let mut bench = spoilt_with_a_third(&lost);
    let (_, frames) = bench.follower(BROKER, 48);
    let known: Vec<(Kind, u64)> = frames
        .iter()
        .filter(|frame| frame.has(Flags::SNAPSHOT))
        .map(|frame| (frame.kind().unwrap(), frame.seq.get()))
        .collect();
    let (definition, quote) = (Kind::Definition, Kind::Quote);
    let all = [(definition, 1), (quote, 102), (definition, 2), (quote, 101), (definition, 50)];
    assert_eq!(known, [&all[..], &[(quote, 60)]].concat());
    let mut words = frames.iter().filter_map(Frame::view::<Heartbeat>);
    assert!(words.any(|word| word.next_seq.get() == 62), "where it goes on");
    let is_stated = |frame: &Frame| frame.has(Flags::SNAPSHOT);
    let begins = frames.iter().rposition(is_stated).unwrap() + 1;
    assert_eq!(seqs(&frames[begins..]), (62..103).collect::<Vec<_>>());
}

#[test]
fn what_a_broker_was_given_once_it_is_not_given_again_for_every_hole() {
    let mut bench = spoilt_with_a_third(&[10, 20, 30, 50, 60, 102]);
    for wanted in [0, 5] {
        let (conn, frames) = bench.follower(BROKER, wanted);
        let names = frames.iter().filter(|frame| frame.kind == Kind::Definition as u8);
        let said = names.filter(|frame| frame.has(Flags::SNAPSHOT)).count();
        assert_eq!(said, 3, "from {wanted}");
        assert!(frames.iter().all(|frame| frame.view::<Gap>().is_none()));
        let streamed = frames.iter().filter(|frame| !frame.has(Flags::SNAPSHOT));
        let streamed: Vec<Frame> = streamed.copied().collect();
        assert_eq!(seqs(&streamed).last(), Some(&101), "it has come to the end");
        bench.close(conn, CloseReason::PeerClosed);
        bench.sleep_ms(500);
    }
}

#[test]
fn rot_at_the_beginning_of_the_journal_is_no_later_beginning() {
    // A later segment states both instruments.
    let lost: Vec<u64> = (1..11).collect();
    let mut bench = spoilt(3..103, &lost, true);
    let conn = bench.querier();
    for (to, rows) in [(u64::MAX, 92), (6, 0)] {
        bench.deliver(conn, &[ask(1, Op::Replay, "*", u16::MAX, 1, to)]);
        let frames = bench.read(conn);
        assert_eq!(gaps(&frames), (1..to.min(11)).collect::<Vec<_>>());
        let end = frames.last().unwrap().view::<Ended>().unwrap();
        assert_eq!((end.rows.get(), end.covered_from.get()), (rows, 1));
        assert_eq!(end.status, crate::wire::EndStatus::Partial as u8);
    }
}
