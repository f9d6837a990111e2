//! Logs whose front the retention has removed: what defined their instruments stands at the heads of segments only.

use std::collections::BTreeSet;

use super::*;
use crate::log::inspect::Files;
use crate::wire::Flags;

/// Logs of a few segments, of which none has its front.
fn trimmed(last: u64) -> History {
    let bytes_max = Some(4 * (4096 + 32 * 64));
    let mut history = History::keeping(Retention { bytes_max, age_max: None });
    history.run(last);
    for (log, disk) in &history.shards {
        assert!(log.first_seq().unwrap().get() > 60 && disk.removed_through() > 0);
    }
    history
}

/// The items of a log. Each frame's instrument was defined or stated before it.
fn told(disk: &MemoryDisk, name: &str) -> Vec<Item> {
    let mut reader = Reader::new(disk.clone(), &outline(disk, name)).unwrap();
    let items: Vec<Item> = std::iter::from_fn(|| reader.next_item().unwrap()).collect();
    let mut defined = BTreeSet::new();
    for item in &items {
        match item {
            Item::Data(it) | Item::Statement(it) if it.view::<Definition>().is_some() => {
                defined.insert(it.instrument());
            }
            Item::Data(it) | Item::Statement(it) => {
                assert!(defined.contains(&it.instrument()), "{name}: seq {} has no name", it.seq);
            }
            _ => {}
        }
    }
    items
}

/// Each head states all that was defined or stated before it.
pub(super) fn heads_define(disk: &MemoryDisk) {
    let mut defined = BTreeSet::new();
    for (index, number) in disk.numbers().into_iter().enumerate() {
        let bytes = disk.bytes(number);
        let frames = crate::wire::as_frames(&bytes[4096..]).0;
        let head = frames.iter().take_while(|it| !crate::log::is_event(it));
        let stated: BTreeSet<InstrumentId> =
            head.filter(|it| crate::log::is_statement(it)).map(Frame::instrument).collect();
        if frames[0] != Frame::ZERO && index > 0 {
            assert!(stated.is_superset(&defined), "segment {number}: {stated:?} of {defined:?}");
        }
        let definitions = frames.iter().filter(|it| it.view::<Definition>().is_some());
        defined.extend(definitions.map(Frame::instrument));
    }
}

fn stated(items: &[Item]) -> usize {
    items.iter().filter(|item| matches!(item, Item::Statement(_))).count()
}

#[test]
fn a_journal_is_rebuilt_of_what_trimmed_shards_still_hold() {
    let history = trimmed(600);
    let disks: Vec<MemoryDisk> = history.shards.iter().map(|(_, disk)| disk.kill()).collect();
    let mut held: Vec<u64> = Vec::new();
    for (number, disk) in disks.iter().enumerate() {
        let frames = frames(disk, &format!("shard-{number}")).0;
        held.extend(frames.iter().map(|frame| frame.seq.get()));
    }
    held.sort_unstable();
    let (disk, made) = rebuilt(None, &disks);
    let (kept, holes) = frames(&disk, "core");
    assert_eq!(kept, held.iter().map(|seq| frame(*seq)).collect::<Vec<_>>());
    assert_eq!(holes[0], (1, held[0] - 1));
    let lost: u64 = holes.iter().map(|(from, to)| to - from + 1).sum();
    assert_eq!((made.lost, made.frames), (lost, held.len() as u64));
    assert_eq!((made.lost + made.frames, made.next_seq), (600, 601));
    // The system's own frames are none of the exchange's, and what is lost is taken to be.
    let own = held.iter().filter(|seq| names(**seq).symbol().is_reserved()).count() as u64;
    assert_eq!(made.upstream, (9, 601 - own));
    let items = told(&disk, "core");
    // Each is stated when it is come upon, and again at each head. The numbers that lost frames may have defined are
    // not given out again.
    assert!(stated(&items) > 4 * SYMBOLS.len(), "{}", stated(&items));
    let is_reserved = |it: &Frame| it.has(Flags::STALE) && it.view::<Definition>().is_some();
    assert!(items.iter().any(|item| matches!(item, Item::Statement(it) if is_reserved(it))));
}

#[test]
fn a_trimmed_journal_without_its_end_is_rebuilt_and_says_what_was_removed() {
    let history = trimmed(600);
    let disks: Vec<MemoryDisk> = history.shards.iter().map(|(_, disk)| disk.kill()).collect();
    let cut = history.disk.kill();
    let before = frames(&cut, "core").0;
    let numbers = cut.numbers();
    numbers[2..].iter().for_each(|number| cut.take(*number));
    let next = outline(&cut, "core").next_seq();
    let (disk, made) = rebuilt(Some(&cut), &disks);
    assert_eq!((made.kept_below_seq, made.next_seq, made.lost), (next, 601, 0));
    assert_eq!(frames(&disk, "core"), (before, Vec::new()));
    assert!(cut.removed_through() > 0);
    assert_eq!(disk.clone().list().unwrap().removed_through, cut.removed_through());
    told(&disk, "core");
    let (log, recovery) = Log::open_journal(disk.storage(), config("core"), 1, now()).unwrap();
    assert_eq!((recovery.clean, recovery.missing_front, log.verify()), (true, None, vec![]));
    assert_eq!(log.upstream(), (9, history.journal.upstream().1));
}

#[test]
fn another_partition_is_made_of_trimmed_logs() {
    let history = trimmed(600);
    let disks: Vec<MemoryDisk> = history.shards.iter().map(|(_, disk)| disk.kill()).collect();
    let new = Partition::hash(3).unwrap();
    let (made, done) = split_anew(&disks, &new);
    let first = |number: usize| history.shards[number].0.first_seq().unwrap().get();
    assert_eq!((done.next_seq, done.whole_from), (601, first(0).max(first(1))));
    assert_eq!((done.lost, done.beyond), (0, 0));
    let mut all = Vec::new();
    for (number, disk) in made.iter().enumerate() {
        let name = format!("shard-{number}");
        let (held, holes) = frames(disk, &name);
        assert_eq!(holes, []);
        assert_eq!(done.parts[number].frames, held.len() as u64);
        assert!(held.iter().all(|it| usize::from(new.owner_of(&names(it.seq.get()))) == number));
        told(disk, &name);
        let counted = done.parts[number].instruments.values().map(|(count, _)| count);
        assert_eq!(counted.sum::<u64>(), held.len() as u64);
        heads_define(disk);
        all.extend(held);
        let (log, recovery) = Log::open(disk.storage(), config(&name), now()).unwrap();
        assert!(recovery.clean);
        assert_eq!((log.epoch_id(), log.upstream()), (1001, (done.whole_from, 601)));
    }
    all.sort_by_key(|frame| frame.seq.get());
    let old = (0..2).flat_map(|number| frames(&disks[number], &format!("shard-{number}")).0);
    let mut old: Vec<Frame> = old.collect();
    old.sort_by_key(|frame| frame.seq.get());
    assert_eq!(all, old);
}
