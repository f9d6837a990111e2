//! Full names in logs that are made anew: they are frames of the sequence, and heads of segments state them.

use super::*;
use crate::wire::{InstrumentName, NameParts, Symbol};

/// The short name of `ITUB4` stands in for a cut one: only a reader compares the two.
const NAME: &str = "BRN-FMH0024-BRN-FMJ0024-SPREAD-OF-40-CHA";

/// Appends the name of instrument 1, which shard 0 owns, behind what there is.
fn say_name(history: &mut History) -> Vec<Frame> {
    let mut said = Vec::new();
    for mut part in InstrumentName::parts(instrument(1), &NAME.parse().unwrap()) {
        let seq = history.journal.next_seq();
        part.seq = U64::new(seq);
        part.renew_crc();
        let stated = || (1..=SYMBOLS.len() as u64).map(super::super::tests::frame).collect();
        append(&mut history.journal, LogEntry::LocalEvent(&part), now(), stated).unwrap();
        history.journal.commit(now());
        let (log, _) = &mut history.shards[0];
        append(log, LogEntry::Event(&part), now(), stated).unwrap();
        for (log, _) in &mut history.shards {
            log.advance_upstream(seq + 1, now()).ok();
            log.commit(now());
            log.handle_completions(now());
        }
        said.push(part);
    }
    said
}

/// The parts of the name that frames and statements of a log have, as who reads the log in order knows them.
fn read(disk: &MemoryDisk, name: &str) -> (NameParts, usize) {
    let mut reader = Reader::new(disk.clone(), &outline(disk, name)).unwrap();
    let (mut known, mut statements) = (NameParts::default(), 0);
    while let Some(item) = reader.next_item().unwrap() {
        if let Item::Data(frame) | Item::Statement(frame) = &item {
            known.note(frame);
            let is_name = frame.view::<InstrumentName>().is_some();
            statements += usize::from(is_name && matches!(item, Item::Statement(_)));
        }
    }
    (known, statements)
}

#[test]
fn a_rebuilt_journal_and_new_shards_keep_names_and_state_them() {
    let mut history = History::new();
    history.run(40);
    let said = say_name(&mut history);
    history.run(150);
    let disks: Vec<MemoryDisk> = history.shards.iter().map(|(_, disk)| disk.kill()).collect();
    let symbol = Symbol::standing_for(NAME);
    let is_whole = |known: &NameParts| known.full_name(&symbol).map(|it| it.to_string());

    let (disk, rebuilt) = rebuilt(None, &disks);
    assert_eq!((rebuilt.next_seq, rebuilt.lost), (151, 0));
    assert!(said.iter().all(|part| frames(&disk, "core").0.contains(part)));
    let (known, statements) = read(&disk, "core");
    assert_eq!(is_whole(&known).as_deref(), Some(NAME));
    assert!(statements >= said.len(), "later segments state it: {statements}");
    let (log, _) = Log::open_journal(disk.storage(), config("core"), 1, now()).unwrap();
    // A name is no number of the exchange.
    let systems = (1..=150).filter(|seq| names(*seq).symbol().is_reserved());
    let own = systems.filter(|seq| !(41..=42).contains(seq)).count() as u64;
    assert_eq!(log.upstream(), (9, 1 + 150 - own - 2));

    let (made, done) = split_anew(&disks, &Partition::hash(3).unwrap());
    assert_eq!(done.lost, 0);
    let keeper = usize::from(Partition::hash(3).unwrap().owner_of(&names(2)));
    for (number, disk) in made.iter().enumerate() {
        let (known, statements) = read(disk, &format!("shard-{number}"));
        let wanted = (number == keeper).then_some(NAME);
        assert_eq!(is_whole(&known).as_deref(), wanted, "{number}");
        assert_eq!(statements >= said.len(), number == keeper, "{number}: {statements}");
    }
}
