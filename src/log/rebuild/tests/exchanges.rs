//! A journal of two exchanges with names: where core goes on in the feed of each.

use std::collections::BTreeMap;

use super::*;
use crate::log::ExchangePlaces;
use crate::wire::{ExchangeNumber, ExchangePlace, Flags, U16, U32};

/// `xnas` is number 1 and in feed 70, `xcme` is number 2 and in feed 80. The place of each stands in the other shard than
/// its trades.
const TOPICS: [&str; 4] = ["$sys.exchange.xnas", "$sys.exchange.xcme", "xnas:ABEV3", "xcme:PETR4"];

fn number(exchange: u16) -> ExchangeNumber {
    ExchangeNumber::new(exchange).unwrap()
}

fn defined(seq: u64, at: usize) -> Frame {
    let definition = Definition::new(instrument(at), TOPICS[at].parse().unwrap(), 0);
    Frame::seal(Definition { seq: U64::new(seq), ts_recv: U64::new(seq), ..definition })
}

fn place(seq: u64, exchange: u16, feed: u64, next_seq: u64) -> Frame {
    Frame::seal(ExchangePlace {
        instrument: instrument(usize::from(exchange) - 1).into(),
        instrument_seq: U32::new(1),
        seq: U64::new(seq),
        feed: U64::new(feed),
        next_seq: U64::new(next_seq),
        exchange: U16::new(exchange),
        ..ExchangePlace::default()
    })
}

/// A frame of each exchange in turn.
fn event(seq: u64) -> Frame {
    match seq {
        1 => defined(1, 0),
        2 => place(2, 1, 70, 10),
        3 => defined(3, 1),
        4 => place(4, 2, 80, 1),
        5 => defined(5, 2),
        6 => defined(6, 3),
        _ => {
            let exchange = u16::try_from(1 + seq % 2).unwrap();
            Frame::seal(Trade {
                flags: U16::new(number(exchange).flags()),
                seq: U64::new(seq),
                instrument: instrument(usize::from(exchange) + 1).into(),
                ts_recv: U64::new(seq),
                ..Trade::default()
            })
        }
    }
}

fn owner(frame: &Frame) -> usize {
    [0, 1, 1, 0][frame.instrument().index().place()]
}

fn keep<S: Storage>(mut log: Log<S>, frames: impl Iterator<Item = Frame>, next_seq: u64) {
    let is_shard = log.epoch() == 0;
    if is_shard {
        log.follow_epoch((1, 1001), 1, now()).unwrap();
    }
    for frame in frames {
        let is_market = frame.has_exchange();
        let entry = if is_market { LogEntry::Event(&frame) } else { LogEntry::LocalEvent(&frame) };
        let entry = if is_shard { LogEntry::Event(&frame) } else { entry };
        append(&mut log, entry, now(), Vec::new).unwrap();
    }
    if is_shard {
        log.advance_upstream(next_seq, now()).unwrap();
    }
    log.close(now()).unwrap();
}

/// Core's journal of these frames.
fn journal(frames: impl Iterator<Item = Frame>) -> MemoryDisk {
    let disk = MemoryDisk::new(512);
    let (mut log, _) = Log::open_journal(disk.storage(), config("core"), 77, now()).unwrap();
    log.begin_epoch(NewEpoch::of(1001), now()).unwrap();
    keep(log, frames, 0);
    disk
}

/// The shards of these frames.
fn shards_of(frames: &[Frame]) -> Vec<MemoryDisk> {
    let next_seq = frames.last().unwrap().seq.get() + 1;
    let shard = |number: usize| {
        let disk = MemoryDisk::new(512);
        let name = format!("shard-{number}");
        let (log, _) = Log::open(disk.storage(), config(&name), now()).unwrap();
        keep(log, frames.iter().filter(|it| owner(it) == number).copied(), next_seq);
        disk
    };
    (0..2).map(shard).collect()
}

fn frames_to(last: u64) -> Vec<Frame> {
    (1..=last).map(event).collect()
}

type Made = Result<(MemoryDisk, Rebuilt), RebuildError>;

fn made(core: Option<&MemoryDisk>, disks: &[MemoryDisk], told: &FeedPlaces) -> Made {
    let journal = core.map(|disk| standing(disk, "core"));
    let shards = shards(disks);
    let standings: Vec<Standing> = shards.iter().map(|(standing, _)| standing.clone()).collect();
    let plan = plan(journal.as_ref(), &standings).unwrap();
    let plan = Plan { journal_id: 77, ..plan };
    let disk = MemoryDisk::new(512);
    let outline = core.map(|disk| outline(disk, "core"));
    let journal = core.cloned().zip(outline.as_ref());
    let config = config("core");
    let ids = (told, 555);
    let rebuilt = rebuild_journal(disk.storage(), config, &plan, journal, shards, ids, now())?;
    Ok((disk, rebuilt))
}

fn told(name: &str, feed: u64, next_seq: Option<u64>) -> FeedPlaces {
    let named = BTreeMap::from([(name.to_owned(), FeedPlace { feed, next_seq })]);
    FeedPlaces { named, ..FeedPlaces::default() }
}

/// The places as core reads them when it opens the journal.
fn read(disk: &MemoryDisk) -> ExchangePlaces {
    let mut reader = Reader::new(disk.clone(), &outline(disk, "core")).unwrap();
    let mut places = ExchangePlaces::default();
    while let Some(item) = reader.next_item().unwrap() {
        match item {
            Item::Data(frame) | Item::Statement(frame) => places.read(&frame),
            Item::Hole(from, to) => places.lose(to - from + 1),
            _ => {}
        }
    }
    places
}

fn placed(disk: &MemoryDisk) -> [(u64, u64, bool); 2] {
    let places = read(disk);
    assert_eq!(places.unplaced().count(), 0);
    [1, 2].map(|exchange| {
        let place = places.place(number(exchange)).unwrap();
        (place.feed, place.next_seq, place.is_uncertain)
    })
}

/// Of 94 trades half are of each exchange.
const AT: [(u64, u64, bool); 2] = [(70, 57, false), (80, 48, false)];

#[test]
fn each_exchange_goes_on_where_the_logs_say_when_nothing_is_told() {
    let wanted = frames_to(100);
    let (disks, early) = (shards_of(&wanted), journal(wanted[..40].iter().copied()));
    for (core, kept) in [(Some(&early), 41), (None, 1)] {
        let (disk, rebuilt) = made(core, &disks, &FeedPlaces::default()).unwrap();
        assert_eq!((rebuilt.kept_below_seq, rebuilt.next_seq, rebuilt.lost), (kept, 101, 0));
        assert_eq!(rebuilt.upstream, (0, 1), "there is no exchange without a name");
        assert_eq!(frames(&disk, "core").0, wanted);
        assert_eq!(placed(&disk), AT);
        let goes_on = |name: &str, at: (u64, u64, bool)| GoesOn {
            name: name.to_owned(),
            feed: at.0,
            next_seq: at.1,
            is_uncertain: at.2,
            is_told: false,
        };
        assert_eq!(rebuilt.exchanges, [goes_on("xnas", AT[0]), goes_on("xcme", AT[1])]);
        let same = made(core, &disks, &told("xnas", 70, None)).unwrap().1;
        assert_eq!(same.next_seq, 101, "what the journal says is not said again");
        assert!(same.exchanges[0].is_told);
    }
}

#[test]
fn a_told_place_is_a_frame_behind_the_new_epoch() {
    let disks = shards_of(&frames_to(100));
    for (feed, next_seq, wanted) in [
        (70, Some(57), (70, 57)),
        (70, Some(60), (70, 60)),
        (71, Some(3), (71, 3)),
        (0, None, (0, 1)),
    ] {
        let (disk, rebuilt) = made(None, &disks, &told("xnas", feed, next_seq)).unwrap();
        let is_news = wanted != (AT[0].0, AT[0].1);
        assert_eq!(rebuilt.next_seq, 101 + u64::from(is_news));
        assert_eq!(placed(&disk), [(wanted.0, wanted.1, false), AT[1]]);
        let (log, recovery) = Log::open_journal(disk.storage(), config("core"), 1, now()).unwrap();
        assert!(recovery.clean && log.verify().is_empty());
        assert_eq!(log.lineage().entries().last().map(|it| it.first_seq), Some(101));
        let last = *frames(&disk, "core").0.last().unwrap();
        let of_topic = last.view::<ExchangePlace>().map(|it| it.instrument_seq.get());
        assert_eq!(of_topic, is_news.then_some(2));
        assert!(last.ts_recv.get() >= 100, "receive times do not fall");
        for (number, shard) in disks.iter().enumerate() {
            let of = standing(shard, &format!("shard-{number}"));
            assert_eq!(relation(&standing(&disk, "core"), &of), Relation::Continues);
        }
    }
}

#[test]
fn a_place_that_cannot_be_is_refused_with_what_the_logs_have() {
    let mut all = frames_to(100);
    let disks = shards_of(&all);
    let refused = |disks: &[MemoryDisk], name: &str, feed, next_seq| {
        made(None, disks, &told(name, feed, next_seq)).unwrap_err().to_string()
    };
    let unknown = refused(&disks, "away", 70, Some(90));
    assert!(unknown.contains("called away; they know: xcme, xnas"), "{unknown}");
    let behind = refused(&disks, "xnas", 70, Some(56));
    assert!(behind.contains("up to 56") && behind.contains("Say 57 or more"), "{behind}");
    let other = refused(&disks, "xnas", 0x71, None);
    assert!(other.contains("--feed xnas=0000000000000071:N"), "{other}");
    // The feed that it had before is not taken in twice either, and its end is known.
    let again = place(101, 1, 75, 1);
    all.push(Frame::seal(ExchangePlace {
        instrument_seq: U32::new(2),
        ..*again.view::<ExchangePlace>().unwrap()
    }));
    let disks = shards_of(&all);
    assert!(refused(&disks, "xnas", 70, Some(56)).contains("Say 57 or more"));
    let (disk, _) = made(None, &disks, &told("xnas", 70, None)).unwrap();
    assert_eq!(placed(&disk), AT);
}

/// With its shard the place is lost, and the topic too. The instruments say the name, and the operator the place.
#[test]
fn a_place_that_is_lost_with_its_shard_has_to_be_told() {
    let all = frames_to(100);
    let disks = shards_of(&all);
    let rest = [MemoryDisk::new(512), disks[1].kill()];
    let lost = made(None, &rest, &FeedPlaces::default()).unwrap_err().to_string();
    assert!(lost.contains("exchange xnas") && lost.contains("--feed xnas=HEX:N"), "{lost}");
    let (disk, rebuilt) = made(None, &rest, &told("xnas", 70, Some(57))).unwrap();
    let places = read(&disk);
    let xnas = places.place(number(1)).unwrap();
    assert_eq!((xnas.feed, xnas.next_seq, xnas.is_uncertain), (70, 57, false));
    assert_eq!(places.unplaced().count(), 0, "core does not start with one");
    let said = frames(&disk, "core").0.into_iter().rev().take(2).collect::<Vec<_>>();
    let topic = said[1].view::<Definition>().unwrap();
    assert_eq!(topic.symbol, TOPICS[0].parse().unwrap());
    assert_eq!(said[0].instrument(), said[1].instrument());
    let used = usize::try_from(rebuilt.lost).unwrap() + TOPICS.len();
    assert!(said[0].instrument().index().place() >= used - 2, "a lost frame may have defined it");
    // Of the other one trades are lost: what the logs count may be too much, and a lower place can be said.
    assert_eq!(rebuilt.exchanges[1].name, "xcme");
    assert!(rebuilt.exchanges[1].is_uncertain && places.place(number(2)).unwrap().is_uncertain);
    let mut both = told("xnas", 70, Some(57));
    both.named.extend(told("xcme", 80, Some(2)).named);
    let (disk, rebuilt) = made(None, &rest, &both).unwrap();
    assert!(!rebuilt.exchanges[1].is_uncertain);
    let xcme = read(&disk).place(number(2)).unwrap();
    assert_eq!((xcme.next_seq, xcme.is_uncertain), (2, false));
}

#[test]
fn a_loss_leaves_the_place_that_is_there_for_sure() {
    let all = frames_to(100);
    let mut disks = shards_of(&all[..60]);
    disks[1] = shards_of(&all).remove(1);
    // Trades of `xcme` from seq 61 on are in no log. Those of `xnas` are, but nobody knows whose the lost ones were.
    let (disk, rebuilt) = made(None, &disks, &FeedPlaces::default()).unwrap();
    assert_eq!(rebuilt.lost, 20);
    let places = read(&disk);
    let xcme = places.place(number(2)).unwrap();
    assert!(xcme.is_uncertain && xcme.next_seq > 28, "{xcme:?}");
    let refused = made(None, &disks, &told("xcme", 80, Some(27))).unwrap_err();
    assert!(matches!(refused, RebuildError::PlaceBehind { least_seq: 28, .. }), "{refused}");
    let (disk, _) = made(None, &disks, &told("xcme", 80, Some(28))).unwrap();
    assert_eq!(read(&disk).place(number(2)).unwrap().next_seq, 28);
}

#[test]
fn frames_of_an_exchange_without_a_name_need_its_feed() {
    let mut all = frames_to(60);
    all.push(Frame::seal(Trade {
        seq: U64::new(61),
        instrument: instrument(2).into(),
        ..Trade::default()
    }));
    let disks = shards_of(&all);
    let refused = made(None, &disks, &FeedPlaces::default()).unwrap_err();
    assert!(matches!(refused, RebuildError::FeedUnknown), "{refused}");
    let (_, rebuilt) = made(None, &disks, &nameless(9, None)).unwrap();
    assert_eq!((rebuilt.upstream, rebuilt.exchanges.len()), ((9, 2), 2));
}

#[test]
fn the_exchange_without_a_name_goes_back_over_nothing_that_the_journal_keeps() {
    let mut history = History::new();
    history.run(60);
    let core = history.disk.kill();
    history.run(100);
    let disks: Vec<MemoryDisk> = history.shards.iter().map(|(_, disk)| disk.kill()).collect();
    let kept = 1 + 60 - 12;
    let made = |next_seq| made(Some(&core), &disks, &nameless(9, Some(next_seq)));
    let refused = made(kept - 1).unwrap_err();
    let is_it = matches!(refused, RebuildError::PlaceBehind { least_seq, .. } if least_seq == kept);
    assert!(is_it, "{refused}");
    assert_eq!(made(kept).unwrap().1.upstream, (9, kept));
}

/// A definition whose flags say that it is uncertain names nobody.
#[test]
fn an_exchange_whose_name_is_lost_cannot_be_told() {
    let mut known = known::Known::default();
    let uncertain = Flags::SNAPSHOT | Flags::STALE;
    known.note(&defined(5, 2).delivered(uncertain));
    known.note(&event(8));
    let refused = crate::log::rebuild::exchanges::decide(&known, &BTreeMap::new()).unwrap_err();
    assert!(matches!(refused, RebuildError::NameLost(it) if it == number(1)), "{refused}");
}
