//! A history of a journal and two shards, and what is made of parts of it.

use super::*;
use crate::log::append::NewEpoch;
use crate::log::inspect::{Item, Outline, Reader};
use crate::log::memory::{MemoryDisk, MemoryStorage};
use crate::log::{LogConfig, Retention, Sequence, SyncPolicy, UpstreamRule};
use crate::market::partition::Partition;
use crate::wire::{Definition, I64, InstrumentId, InstrumentIndex, Names, Trade, U64, padded};

/// `ABC` is a venue. The shard of the whole name would be another one than that of the short form.
const SYMBOLS: [&str; 5] = ["ABEV3", "ITUB4", "PETR4", "ABC:VALE3", "$sys.breaker"];

fn config(name: &str) -> LogConfig {
    let is_shard = name.starts_with("shard");
    LogConfig {
        name: padded(name),
        segment_records: 32,
        policy: SyncPolicy::Batch,
        upstream: if is_shard { UpstreamRule::FollowSeq } else { UpstreamRule::CountAppended },
        sequence: if is_shard { Sequence::Increasing } else { Sequence::Contiguous },
        retention: Retention::default(),
    }
}

fn now() -> Now {
    Now { wall_ns: 5, ..Now::default() }
}

fn instrument(number: usize) -> InstrumentId {
    InstrumentId::new(1, InstrumentIndex::at(number).unwrap())
}

/// The frame of this seq: definitions first, then trades of one instrument after the other.
fn frame(seq: u64) -> Frame {
    let number = usize::try_from(seq - 1).unwrap();
    if number < SYMBOLS.len() {
        let mut definition =
            Definition::new(instrument(number), SYMBOLS[number].parse().unwrap(), 2);
        definition.seq = U64::new(seq);
        let is_at_venue = definition.symbol.behind_venue().is_some();
        return Frame::seal(if is_at_venue { definition.at_venue() } else { definition });
    }
    Frame::seal(Trade {
        seq: U64::new(seq),
        instrument: instrument(number % SYMBOLS.len()).into(),
        ts_event: U64::new(seq),
        price: I64::new(i64::try_from(seq).unwrap()),
        qty: U64::new(1),
        trade_id: U64::new(seq),
        ..Trade::default()
    })
}

fn names(seq: u64) -> Names {
    Names::at_venue(SYMBOLS[usize::try_from(seq - 1).unwrap() % SYMBOLS.len()].parse().unwrap())
}

/// A journal and the shards of a partition, as core and its followers keep them.
struct History {
    partition: Partition,
    journal: Log<MemoryStorage>,
    disk: MemoryDisk,
    shards: Vec<(Log<MemoryStorage>, MemoryDisk)>,
}

impl History {
    fn new() -> History {
        History::keeping(Retention::default())
    }

    /// One whose logs keep so much.
    fn keeping(retention: Retention) -> History {
        let config = |name: &str| LogConfig { retention, ..config(name) };
        let partition = Partition::range(&["A-M", "N-Z"]).unwrap();
        let disk = MemoryDisk::new(512);
        let (mut journal, _) =
            Log::open_journal(disk.storage(), config("core"), 77, now()).unwrap();
        journal.require_checkpoints();
        journal.set_upstream(9, 1, now()).unwrap();
        let shards = (0..2).map(|number| {
            let disk = MemoryDisk::new(512);
            let (mut log, _) =
                Log::open(disk.storage(), config(&format!("shard-{number}")), now()).unwrap();
            log.require_checkpoints();
            (log, disk)
        });
        let mut history = History { partition, journal, disk, shards: shards.collect() };
        history.begin_epoch(1001);
        history
    }

    /// Core begins an epoch, and the shards follow.
    fn begin_epoch(&mut self, id: u64) {
        let start = self.journal.next_seq();
        let epoch = self.journal.begin_epoch(NewEpoch::of(id), now()).unwrap();
        for (log, _) in &mut self.shards {
            log.follow_epoch((epoch, id), start, now()).unwrap();
        }
    }

    /// The next frames, up to this one.
    fn run(&mut self, last: u64) {
        for seq in self.journal.next_seq()..=last {
            let frame = frame(seq);
            let is_system = names(seq).symbol().is_reserved();
            let entry =
                if is_system { LogEntry::LocalEvent(&frame) } else { LogEntry::Event(&frame) };
            let statements = || {
                let known = u64::min(seq - 1, SYMBOLS.len() as u64);
                (1..=known).map(super::tests::frame).collect::<Vec<_>>()
            };
            append(&mut self.journal, entry, now(), statements).unwrap();
            self.journal.commit(now());
            self.journal.handle_completions(now());
            let owner = usize::from(self.partition.owner_of(&names(seq)));
            let (partition, (log, _)) = (&self.partition, &mut self.shards[owner]);
            let owned = |seq: &u64| usize::from(partition.owner_of(&names(*seq))) == owner;
            let stated = || statements().into_iter().filter(|it| owned(&it.seq.get())).collect();
            append(log, LogEntry::Event(&frame), now(), stated).unwrap();
            for (log, _) in &mut self.shards {
                log.advance_upstream(seq + 1, now()).ok();
                log.commit(now());
                log.handle_completions(now());
            }
        }
    }
}

fn outline(disk: &MemoryDisk, name: &str) -> Outline {
    Outline::of(&mut disk.clone(), Some(padded(name))).unwrap()
}

fn standing(disk: &MemoryDisk, name: &str) -> Standing {
    Standing::of(name, &outline(disk, name))
}

fn shards(disks: &[MemoryDisk]) -> Vec<(Standing, Reader<MemoryDisk>)> {
    let one = |(number, disk): (usize, &MemoryDisk)| {
        let name = format!("shard-{number}");
        let outline = outline(disk, &name);
        (Standing::of(&name, &outline), Reader::new(disk.clone(), &outline).unwrap())
    };
    disks.iter().enumerate().map(one).collect()
}

fn frames(disk: &MemoryDisk, name: &str) -> (Vec<Frame>, Vec<(u64, u64)>) {
    let mut reader = Reader::new(disk.clone(), &outline(disk, name)).unwrap();
    let (mut frames, mut holes) = (Vec::new(), Vec::new());
    while let Some(item) = reader.next_item().unwrap() {
        match item {
            Item::Data(frame) => frames.push(frame),
            Item::Hole(from, to) => holes.push((from, to)),
            Item::Lost { .. } => panic!("{item:?}"),
            Item::Statement(_) | Item::Epoch(..) | Item::Mark(..) => {}
        }
    }
    (frames, holes)
}

fn nameless(feed: u64, next_seq: Option<u64>) -> FeedPlaces {
    FeedPlaces { nameless: Some(FeedPlace { feed, next_seq }), ..FeedPlaces::default() }
}

/// Rebuilds the journal on this disk from these shards.
fn rebuilt(core: Option<&MemoryDisk>, disks: &[MemoryDisk]) -> (MemoryDisk, Rebuilt) {
    let journal = core.map(|disk| standing(disk, "core"));
    let shards = shards(disks);
    let standings: Vec<Standing> = shards.iter().map(|(standing, _)| standing.clone()).collect();
    let plan = plan(journal.as_ref(), &standings).unwrap();
    let disk = MemoryDisk::new(512);
    let places = nameless(9, None);
    let outline = core.map(|disk| outline(disk, "core"));
    let journal = core.cloned().zip(outline.as_ref());
    let made = rebuild_journal(
        disk.storage(),
        config("core"),
        &plan,
        journal,
        shards,
        (&places, 555),
        now(),
    );
    (disk, made.unwrap())
}

/// Makes the logs of another partition out of these.
fn split_anew(disks: &[MemoryDisk], new: &Partition) -> (Vec<MemoryDisk>, Splitting) {
    let sources = disks.iter().enumerate().map(|(number, disk)| {
        let name = format!("shard-{number}");
        SplitSource::new(&name, disk.clone(), &outline(disk, &name)).unwrap()
    });
    let made: Vec<MemoryDisk> = (0..new.shards()).map(|_| MemoryDisk::new(512)).collect();
    let places = made.iter().enumerate().map(|(number, disk)| {
        (disk.storage(), config(&format!("shard-{number}")), format!("line {number}"))
    });
    let done = split(sources.collect(), new, places.collect(), now()).unwrap();
    (made, done)
}

#[test]
fn the_end_of_a_journal_is_rebuilt_from_the_shards() {
    let mut history = History::new();
    history.run(60);
    history.begin_epoch(1002);
    history.run(130);
    let early = history.disk.kill();
    history.begin_epoch(1003);
    history.run(200);
    let disks: Vec<MemoryDisk> = history.shards.iter().map(|(_, disk)| disk.kill()).collect();
    let whole = history.disk.kill();
    let wanted: Vec<Frame> = (1..=200).map(frame).collect();
    assert_eq!(frames(&whole, "core").0, wanted);
    // Restored from a copy; without its last segments; gone.
    let mut cases = vec![(Some(early), 131), (None, 1)];
    for left in 1..whole.numbers().len() - 2 {
        let cut = whole.kill();
        whole.numbers()[left..].iter().for_each(|number| cut.take(*number));
        assert!(Log::open_journal(cut.storage(), config("core"), 1, now()).is_err(), "{left}");
        let next = outline(&cut, "core").next_seq();
        cases.push((Some(cut), next));
    }
    for (core, kept) in cases {
        let (disk, rebuilt) = rebuilt(core.as_ref(), &disks);
        assert_eq!((rebuilt.kept_below_seq, rebuilt.next_seq, rebuilt.lost), (kept, 201, 0));
        assert_eq!(frames(&disk, "core"), (wanted.clone(), Vec::new()));
        let (log, recovery) = Log::open_journal(disk.storage(), config("core"), 1, now()).unwrap();
        assert!(recovery.clean && log.verify().is_empty());
        // The system's own frames are none of the exchange's.
        assert_eq!(log.upstream(), (9, 1 + 200 - 40));
        let ids: Vec<(u64, u64)> =
            log.lineage().entries().iter().map(|it| (it.epoch_id, it.first_seq)).collect();
        assert_eq!(ids, [(1001, 1), (1002, 61), (1003, 131), (555, 201)]);
        for (number, shard) in disks.iter().enumerate() {
            let (journal, name) = (standing(&disk, "core"), format!("shard-{number}"));
            assert_eq!(relation(&journal, &standing(shard, &name)), Relation::Continues);
        }
    }
}

#[test]
fn a_journal_that_went_on_alone_gives_up_its_own_end() {
    let mut history = History::new();
    history.run(100);
    let early = history.disk.kill();
    history.begin_epoch(1002);
    history.run(160);
    let disks: Vec<MemoryDisk> = history.shards.iter().map(|(_, disk)| disk.kill()).collect();
    // The copy is started, and goes on with other frames under the same numbers.
    let (mut log, _) = Log::open_journal(early.storage(), config("core"), 1, now()).unwrap();
    log.begin_epoch(NewEpoch::of(2002), now()).unwrap();
    for seq in 101..=130 {
        let mut other = frame(seq);
        other.ts_event = U64::new(1);
        other.renew_crc();
        append(&mut log, LogEntry::Event(&other), now(), Vec::new).unwrap();
    }
    log.close(now()).unwrap();
    drop(log);
    let shard = standing(&disks[0], "shard-0");
    assert_eq!(relation(&standing(&early, "core"), &shard), Relation::IsOther);
    let (disk, made) = rebuilt(Some(&early), &disks);
    assert_eq!((made.kept_below_seq, made.next_seq), (101, 161));
    assert_eq!(frames(&disk, "core").0, (1..=160).map(frame).collect::<Vec<_>>());
    let journal = standing(&disk, "core");
    assert_eq!(relation(&journal, &shard), Relation::Continues);
    let end = journal.lineage.end_of(2002).unwrap();
    assert_eq!((end.seq, end.is_chosen), (Some(101), true));

    // Or the shards give up theirs.
    let standings: Vec<Standing> = shards(&disks).into_iter().map(|(it, _)| it).collect();
    let plan = plan_to_follow(&standing(&early, "core"), &standings).unwrap();
    let none: Option<(MemoryDisk, &Outline)> = None;
    let made = follow_journal(early.storage(), config("core"), &plan, none, 556, now()).unwrap();
    assert_eq!(made.next_seq, 131);
    let journal = standing(&early, "core");
    assert_eq!(relation(&journal, &shard), Relation::GivesUp(101));
    assert!(made.epoch > 2);
}

#[test]
fn numbers_that_no_shard_has_become_a_hole_of_the_journal() {
    let mut history = History::new();
    history.run(100);
    let core = history.disk.kill();
    let one = history.shards[1].1.kill();
    history.run(150);
    let zero = history.shards[0].1.kill();
    let (disk, made) = rebuilt(Some(&core), &[zero, one]);
    let (held, holes) = frames(&disk, "core");
    let partition = &history.partition;
    let wanted: Vec<Frame> = (1..=150)
        .filter(|seq| *seq <= 100 || partition.owner_of(&names(*seq)) == 0)
        .map(frame)
        .collect();
    assert_eq!(held, wanted);
    let lost: u64 = holes.iter().map(|(from, to)| to - from + 1).sum();
    assert_eq!((made.lost, lost), (150 - wanted.len() as u64, made.lost));
    assert!(lost > 0 && made.next_seq == 151);
    let (log, _) = Log::open_journal(disk.storage(), config("core"), 1, now()).unwrap();
    assert_eq!(log.verify(), []);
}

#[test]
fn two_histories_are_not_mixed() {
    let mut history = History::new();
    history.run(80);
    let disks: Vec<MemoryDisk> = history.shards.iter().map(|(_, disk)| disk.kill()).collect();
    let mut other = History::new();
    other.run(40);
    other.begin_epoch(4004);
    other.run(70);
    history.begin_epoch(1002);
    history.run(90);
    let mixed = [history.shards[0].1.kill(), other.shards[1].1.kill()];
    let standings: Vec<Standing> = shards(&mixed).into_iter().map(|(it, _)| it).collect();
    let refused = plan(None, &standings).unwrap_err();
    assert!(matches!(&refused, PlanError::TwoHistories { others, .. } if others == &["shard-1"]));
    assert!(refused.to_string().contains("--reset"), "{refused}");
    let journal = standing(&history.disk, "core");
    let standings: Vec<Standing> = shards(&disks).into_iter().map(|(it, _)| it).collect();
    assert_eq!(plan(Some(&journal), &standings), Err(PlanError::NothingToDo));
    assert_eq!(plan(Some(&journal), &[]), Err(PlanError::NothingHeld));
    // Copies that disagree are found even where their epochs are one.
    let first = outline(&disks[0], "shard-0");
    let copy = |disk: &MemoryDisk| Reader::new(disk.clone(), &first).unwrap();
    let bytes = disks[0].bytes(1);
    let changed = disks[0].kill();
    let mut bytes_changed = bytes.clone();
    let at = |bytes: &[u8]| {
        (4096..bytes.len()).step_by(64).find(|at| bytes[*at] == crate::wire::Kind::Trade as u8)
    };
    let at = at(&bytes).unwrap();
    let mut frame = crate::wire::as_frames(&bytes[at..at + 64]).0[0];
    frame.ts_event = U64::new(12345);
    frame.renew_crc();
    bytes_changed[at..at + 64].copy_from_slice(zerocopy::IntoBytes::as_bytes(&frame));
    changed.put(1, bytes_changed);
    let readers = [("shard-0", &disks[0]), ("shard-0.1", &changed)];
    let readers = readers.map(|(name, disk)| (name.to_owned(), copy(disk), u64::MAX));
    let mut merge = Merge::new(readers.into()).unwrap();
    let found = loop {
        match merge.next_frame() {
            Ok(Some(_)) => {}
            Ok(None) => panic!("they are taken for equal"),
            Err(error) => break error.to_string(),
        }
    };
    assert!(found.contains("shard-0 and shard-0.1 have different frames"), "{found}");
}

#[test]
fn the_logs_of_another_partition_hold_what_the_old_ones_held() {
    let mut history = History::new();
    history.run(60);
    history.begin_epoch(1002);
    history.run(150);
    let disks: Vec<MemoryDisk> = history.shards.iter().map(|(_, disk)| disk.kill()).collect();
    let new = Partition::hash(3).unwrap();
    let made: Vec<MemoryDisk> = (0..3).map(|_| MemoryDisk::new(512)).collect();
    let places = made.iter().enumerate().map(|(number, disk)| {
        (disk.storage(), config(&format!("shard-{number}")), format!("line {number}"))
    });
    let sources = disks.iter().enumerate().map(|(number, disk)| {
        let name = format!("shard-{number}");
        SplitSource::new(&name, disk.clone(), &outline(disk, &name)).unwrap()
    });
    let done = split(sources.collect(), &new, places.collect(), now()).unwrap();
    assert_eq!((done.next_seq, done.lost, done.beyond), (151, 0, 0));
    let journal = standing(&history.disk, "core");
    for (number, disk) in made.iter().enumerate() {
        let name = format!("shard-{number}");
        let owned = |seq: &u64| usize::from(new.owner_of(&names(*seq))) == number;
        let wanted: Vec<Frame> = (1..=150).filter(owned).map(frame).collect();
        assert_eq!(frames(disk, &name), (wanted, Vec::new()), "{name}");
        let reader = Reader::new(disk.clone(), &outline(disk, &name)).unwrap();
        check_split(&done.parts[number], reader).unwrap();
        trimmed::heads_define(disk);
        assert_eq!(disk.partition().unwrap(), format!("line {number}").as_bytes());
        assert_eq!(relation(&journal, &standing(disk, &name)), Relation::Continues, "{name}");
        let (log, _) = Log::open(disk.storage(), config(&name), now()).unwrap();
        assert_eq!((log.verify(), log.upstream().1), (Vec::new(), 151));
    }
    let wrong = Reader::new(made[0].clone(), &outline(&made[0], "shard-0")).unwrap();
    assert!(check_split(&done.parts[1], wrong).is_err());
}

#[test]
fn new_logs_end_where_the_last_of_the_old_ones_stands() {
    let mut history = History::new();
    history.run(100);
    let late = history.shards[1].1.kill();
    history.run(150);
    let early = history.shards[0].1.kill();
    let new = Partition::hash(1).unwrap();
    let made = MemoryDisk::new(512);
    let sources = [(0, &early), (1, &late)].map(|(number, disk)| {
        let name = format!("shard-{number}");
        SplitSource::new(&name, disk.clone(), &outline(disk, &name)).unwrap()
    });
    let place = (made.storage(), config("shard-0"), "line".to_owned());
    let done = split(sources.into(), &new, vec![place], now()).unwrap();
    let beyond = (101..=150).filter(|seq| history.partition.owner_of(&names(*seq)) == 0).count();
    assert_eq!((done.next_seq, done.beyond), (101, beyond as u64));
    assert_eq!(frames(&made, "shard-0").0, (1..=100).map(frame).collect::<Vec<_>>());
}

mod exchanges;
mod losses;
mod names;
mod trimmed;
