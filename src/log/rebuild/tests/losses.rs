//! What is lost in one log, and what is made of it in the logs that are made of that one.

use super::*;
use crate::limits::HOLES_MAX;
use crate::wire::{Gap, GapReason, Kind, Seq};

fn hole(from: u64, to: u64) -> Frame {
    let seq = |seq| Seq::new(seq).unwrap();
    Frame::seal(Gap::uncounted(GapReason::Corrupt, seq(from), seq(to)))
}

/// Two shards up to seq 150, as disks.
fn two_shards() -> (History, Vec<MemoryDisk>) {
    let mut history = History::new();
    history.run(150);
    let disks = history.shards.iter().map(|(_, disk)| disk.kill()).collect();
    (history, disks)
}

/// Lets the record of this frame rot.
fn rot(disk: &MemoryDisk, seq: u64) {
    for number in disk.numbers() {
        let mut bytes = disk.bytes(number);
        let frames = crate::wire::as_frames(&bytes[4096..]).0;
        let is_it = |it: &Frame| it.seq.get() == seq && crate::log::is_event(it);
        let Some(place) = frames.iter().position(is_it) else { continue };
        bytes[4096 + place * 64 + 20] ^= 1;
        disk.put(number, bytes);
        return;
    }
    panic!("no frame with seq {seq}")
}

#[test]
fn what_one_old_log_has_lost_is_a_hole_in_each_new_one() {
    let (history, disks) = two_shards();
    let seqs = |number: usize| {
        let frames = frames(&disks[number], &format!("shard-{number}")).0;
        frames.iter().map(|frame| frame.seq.get()).collect::<Vec<_>>()
    };
    let old = seqs(0);
    let (before, rotten) = (old[39], old[40]);
    rot(&disks[0], rotten);
    // The other log says itself that upstream has lost something.
    let (mut log, _) = Log::open(disks[1].storage(), config("shard-1"), now()).unwrap();
    append(&mut log, LogEntry::Hole(&hole(160, 170)), now(), Vec::new).unwrap();
    append(&mut log, LogEntry::Hole(&hole(140, 400)), now(), Vec::new).unwrap();
    log.close(now()).unwrap();
    drop(log);
    let (made, done) = split_anew(&disks, &Partition::hash(3).unwrap());
    assert_eq!((done.next_seq, done.lost), (151, rotten - before));
    for (number, disk) in made.iter().enumerate() {
        let (held, holes) = frames(disk, &format!("shard-{number}"));
        assert_eq!(holes, [(before + 1, rotten), (140, 150)], "shard-{number}");
        assert!(held.iter().all(|frame| frame.seq.get() != rotten));
        // The head of each later segment says it again.
        let used = disk.numbers().into_iter().rfind(|it| disk.bytes(*it)[4096] != 0).unwrap();
        let bytes = disk.bytes(used);
        let frames = crate::wire::as_frames(&bytes[4096..]).0;
        let mut head = frames.iter().take_while(|it| !crate::log::is_event(it));
        assert!(used > 1 && head.any(|it| crate::log::hole_in(it).is_some()), "shard-{number}");
    }
    let held: u64 = done.parts.iter().map(|part| part.frames).sum();
    assert_eq!(held, 149);
    drop(history);
}

#[test]
fn a_frame_whose_symbol_is_lost_is_lost() {
    let (_, disks) = two_shards();
    // Of ABEV3, whose frames have the seqs 1, 6, 11 and so on. No head states it before its segment.
    rot(&disks[0], 1);
    let stripped = Outline::of(&mut disks[0].clone(), Some(padded("shard-0"))).unwrap();
    let numbers = disks[0].numbers();
    assert!(stripped.refusal().is_none() && numbers.len() > 2);
    for number in numbers {
        let mut bytes = disks[0].bytes(number);
        for at in (4096..bytes.len()).step_by(64) {
            let frame = crate::wire::as_frames(&bytes[at..at + 64]).0[0];
            if crate::log::is_statement(&frame) && frame.instrument() == instrument(0) {
                let mut other = frame.view::<Definition>().copied().unwrap();
                other.instrument = instrument(1).into();
                other.symbol = SYMBOLS[1].parse().unwrap();
                let other = Frame::seal(other).delivered(crate::wire::Flags::SNAPSHOT);
                bytes[at..at + 64].copy_from_slice(zerocopy::IntoBytes::as_bytes(&other));
            }
        }
        disks[0].put(number, bytes);
    }
    let (made, done) = split_anew(&disks, &Partition::hash(1).unwrap());
    assert_eq!((done.lost, done.parts[0].frames), (30, 120));
    let (held, holes) = frames(&made[0], "shard-0");
    assert!(held.iter().all(|frame| frame.instrument() != instrument(0)));
    let wanted: Vec<(u64, u64)> = (0..30).map(|it| (it * 5 + 1, it * 5 + 1)).collect();
    assert_eq!(holes, wanted);
}

/// Too much is said rather than too little.
#[test]
fn more_holes_than_a_log_keeps_are_stated_as_one() {
    let (_, disks) = two_shards();
    let (mut log, _) = Log::open(disks[1].storage(), config("shard-1"), now()).unwrap();
    let count = HOLES_MAX as u64 + 1;
    for it in 0..count {
        append(&mut log, LogEntry::Hole(&hole(2 * it + 3, 2 * it + 3)), now(), Vec::new).unwrap();
    }
    log.close(now()).unwrap();
    drop(log);
    let (made, _) = split_anew(&disks, &Partition::hash(1).unwrap());
    let (_, holes) = frames(&made[0], "shard-0");
    let wanted: Vec<(u64, u64)> = (0..count).map(|it| (2 * it + 3, 2 * it + 3)).collect();
    assert_eq!(holes, wanted);
}

#[test]
fn a_new_log_that_cannot_be_read_again_is_not_taken() {
    let (_, disks) = two_shards();
    let (made, done) = split_anew(&disks, &Partition::hash(1).unwrap());
    let checked = || {
        let reader = Reader::new(made[0].clone(), &outline(&made[0], "shard-0")).unwrap();
        check_split(&done.parts[0], reader)
    };
    assert!(checked().is_ok());
    let whole = made[0].bytes(2);
    let mut bytes = whole.clone();
    let is_trade = |at: &usize| bytes[*at] == Kind::Trade as u8;
    let place = (4096..bytes.len()).step_by(64).find(is_trade).unwrap();
    let mut other = crate::wire::as_frames(&bytes[place..place + 64]).0[0];
    other.ts_event = U64::new(12345);
    other.renew_crc();
    bytes[place..place + 64].copy_from_slice(zerocopy::IntoBytes::as_bytes(&other));
    made[0].put(2, bytes);
    let error = checked().unwrap_err().to_string();
    assert!(error.contains("or other ones"), "{error}");
    made[0].put(2, whole);
    rot(&made[0], 60);
    let error = checked().unwrap_err().to_string();
    assert!(error.contains("cannot be read"), "{error}");
}

#[test]
fn a_merge_ends_each_log_where_it_is_told_to_and_counts_what_it_read() {
    let (_, disks) = two_shards();
    let outlines = [outline(&disks[0], "shard-0"), outline(&disks[1], "shard-1")];
    let readers = (0..2).map(|number| {
        let reader = Reader::new(disks[number].clone(), &outlines[number]).unwrap();
        (format!("shard-{number}"), reader, 100 + number as u64)
    });
    let mut merge = Merge::new(readers.collect()).unwrap();
    let mut seqs = Vec::new();
    while let Some(frame) = merge.next_frame().unwrap() {
        seqs.push(frame.seq.get());
    }
    let partition = Partition::range(&["A-M", "N-Z"]).unwrap();
    let is_read = |seq: &u64| *seq < 100 + u64::from(partition.owner_of(&names(*seq)));
    assert_eq!(seqs, (1..=150).filter(is_read).collect::<Vec<_>>());
    let bytes: u64 = outlines.iter().map(Outline::record_bytes).sum();
    assert_eq!(merge.bytes_read(), bytes);
}

/// A copy of a journal that lost its last segments is gone on with.
#[test]
fn a_journal_without_its_last_segments_is_followed_as_far_as_it_goes() {
    let mut history = History::new();
    history.run(60);
    history.begin_epoch(1002);
    history.run(150);
    let disks: Vec<MemoryDisk> = history.shards.iter().map(|(_, disk)| disk.kill()).collect();
    let whole = history.disk.kill();
    for left in 1..whole.numbers().len() - 2 {
        let cut = whole.kill();
        whole.numbers()[left..].iter().for_each(|number| cut.take(*number));
        let (outline, journal) = (outline(&cut, "core"), standing(&cut, "core"));
        let standings: Vec<Standing> = shards(&disks).into_iter().map(|(it, _)| it).collect();
        let plan = plan_to_follow(&journal, &standings).unwrap();
        let made = MemoryDisk::new(512);
        let source = Some((cut.clone(), &outline));
        let done =
            follow_journal(made.storage(), config("core"), &plan, source, 556, now()).unwrap();
        let next = outline.next_seq();
        assert_eq!((done.kept_below_seq, done.next_seq), (next, next), "{left}");
        assert_eq!(frames(&made, "core"), ((1..next).map(frame).collect(), Vec::new()));
        let (log, recovery) = Log::open_journal(made.storage(), config("core"), 1, now()).unwrap();
        assert!(recovery.clean && recovery.damaged.is_empty(), "{recovery:?}");
        assert_eq!((log.epoch(), log.epoch_id()), (done.epoch, 556));
        assert!(log.epoch() > plan.epoch_max);
    }
}

/// The journal's own epoch is known by its mark where the record of its identity has rotted.
#[test]
fn an_epoch_that_is_given_up_is_left_out_though_its_record_is_rot() {
    let mut history = History::new();
    history.run(100);
    let early = history.disk.kill();
    history.begin_epoch(1002);
    history.run(120);
    let disks: Vec<MemoryDisk> = history.shards.iter().map(|(_, disk)| disk.kill()).collect();
    let (mut log, _) = Log::open_journal(early.storage(), config("core"), 1, now()).unwrap();
    log.begin_epoch(NewEpoch::of(2002), now()).unwrap();
    log.close(now()).unwrap();
    drop(log);
    let shards_of = || shards(&disks);
    let standings: Vec<Standing> = shards_of().into_iter().map(|(it, _)| it).collect();
    let plan = plan(Some(&standing(&early, "core")), &standings).unwrap();
    let last = *early.numbers().last().unwrap();
    let used = early.numbers().into_iter().rfind(|it| early.bytes(*it)[4096] != 0).unwrap_or(last);
    let mut bytes = early.bytes(used);
    let at = (4096..bytes.len()).step_by(64).rfind(|at| bytes[*at] == Kind::LogEpoch as u8);
    bytes[at.unwrap() + 20] ^= 1;
    early.put(used, bytes);
    let (disk, outline) = (MemoryDisk::new(512), outline(&early, "core"));
    let places = nameless(9, Some(97));
    let journal = Some((early.clone(), &outline));
    let made = rebuild_journal(
        disk.storage(),
        config("core"),
        &plan,
        journal,
        shards_of(),
        (&places, 555),
        now(),
    );
    let made = made.unwrap();
    assert_eq!((made.kept_below_seq, made.next_seq, made.upstream), (101, 121, (9, 97)));
    assert_eq!(frames(&disk, "core").0, (1..=120).map(frame).collect::<Vec<_>>());
}

/// Epochs keep their numbers, and each begins at its own seq, also where a frame before it is lost.
#[test]
fn epochs_begin_where_they_began_though_frames_around_them_are_lost() {
    let mut history = History::new();
    history.run(100);
    let (core, one) = (history.disk.kill(), history.shards[1].1.kill());
    // Of VALE3, which the shard that is lost had: seq 119 is the last before the epoch.
    history.run(119);
    assert_eq!(history.partition.owner_of(&names(119)), 1);
    let start = history.journal.next_seq();
    let new = NewEpoch { id: 1005, above: 6, is_chosen: false };
    let epoch = history.journal.begin_epoch(new, now()).unwrap();
    for (log, _) in &mut history.shards {
        log.follow_epoch((epoch, 1005), start, now()).unwrap();
    }
    // And so is the last one before the end.
    history.run(139);
    let zero = history.shards[0].1.kill();
    let (disk, made) = rebuilt(Some(&core), &[zero, one]);
    let journal = standing(&disk, "core");
    let epochs = journal.lineage.entries().iter();
    let epochs: Vec<_> = epochs.map(|it| (it.epoch, it.epoch_id, it.first_seq)).collect();
    assert_eq!(epochs, [(1, 1001, 1), (7, 1005, 120), (8, 555, 140)]);
    let held = frames(&disk, "core").0.len() as u64;
    assert_eq!((made.epoch, made.lost, made.frames), (8, 139 - held, held - 100));
    let values = |flag| {
        let mut reader = Reader::new(disk.clone(), &outline(&disk, "core")).unwrap();
        let items = std::iter::from_fn(|| reader.next_item().unwrap());
        items.filter(|it| matches!(it, Item::Statement(it) if it.has(flag))).count()
    };
    assert!(values(crate::wire::Flags::STALE) > 0, "no value is known to be the last");
}

#[test]
fn a_place_in_another_feed_has_to_be_said() {
    let mut history = History::new();
    history.run(60);
    let core = history.disk.kill();
    history.run(100);
    let disks: Vec<MemoryDisk> = history.shards.iter().map(|(_, disk)| disk.kill()).collect();
    let standings: Vec<Standing> = shards(&disks).into_iter().map(|(it, _)| it).collect();
    let plan = plan(Some(&standing(&core, "core")), &standings).unwrap();
    let outline = outline(&core, "core");
    let made = |feed, next_seq| {
        let (storage, shards) = (MemoryDisk::new(512).storage(), shards(&disks));
        let (journal, places) = (Some((core.clone(), &outline)), nameless(feed, next_seq));
        rebuild_journal(storage, config("core"), &plan, journal, shards, (&places, 5), now())
            .map(|it| it.upstream)
    };
    let counted = 1 + 100 - 20;
    assert_eq!(made(9, None).unwrap(), (9, counted));
    assert_eq!(made(0, None).unwrap(), (9, counted), "the journal says it");
    assert_eq!(made(0, Some(700)).unwrap(), (9, 700));
    assert_eq!(made(4, Some(700)).unwrap(), (4, 700));
    let refused = made(4, None).unwrap_err();
    assert!(matches!(refused, RebuildError::FeedChanged { before: 9, now: 4 }), "{refused}");
}

/// How a frame was delivered is no part of it.
#[test]
fn copies_that_were_delivered_differently_are_one() {
    let (_, disks) = two_shards();
    let copy = disks[0].kill();
    for number in copy.numbers() {
        let mut bytes = copy.bytes(number);
        for at in (4096..bytes.len()).step_by(64) {
            let frame = crate::wire::as_frames(&bytes[at..at + 64]).0[0];
            if frame.kind == Kind::Trade as u8 {
                let replayed = frame.delivered(crate::wire::Flags::REPLAY);
                bytes[at..at + 64].copy_from_slice(zerocopy::IntoBytes::as_bytes(&replayed));
            }
        }
        copy.put(number, bytes);
    }
    let whole = outline(&disks[0], "shard-0");
    let readers = [&copy, &disks[0], &copy]
        .map(|disk| ("shard-0".to_owned(), Reader::new(disk.clone(), &whole).unwrap(), u64::MAX));
    let mut merge = Merge::new(readers.into()).unwrap();
    let merged: Vec<Frame> = std::iter::from_fn(|| merge.next_frame().unwrap()).collect();
    assert_eq!(merged, frames(&disks[0], "shard-0").0);
}

/// A copy of a journal has frames behind the seq at which the others went on in another epoch.
#[test]
fn frames_of_a_journal_behind_the_end_of_its_epoch_are_not_kept() {
    let mut alone = History::new();
    alone.run(80);
    let core = alone.disk.kill();
    let mut history = History::new();
    history.run(69);
    history.begin_epoch(1002);
    history.run(120);
    let disks: Vec<MemoryDisk> = history.shards.iter().map(|(_, disk)| disk.kill()).collect();
    let (disk, made) = rebuilt(Some(&core), &disks);
    assert_eq!((made.kept_below_seq, made.frames, made.next_seq), (70, 51, 121));
    assert_eq!(frames(&disk, "core"), ((1..=120).map(frame).collect(), Vec::new()));
}
