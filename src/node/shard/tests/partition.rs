//! A shard keeps one part of the symbols, and refuses another.

use super::*;

/// A shard's disk with ABEV3 and ITUB4.
fn kept() -> MemoryDisk {
    let (mut bench, core) = Bench::fed();
    bench.feed(core, &[trade(3, 0, 1), trade(4, 1, 2)]);
    bench.disk.kill()
}

fn of(ranges: &[&str], shard: u16) -> ShardConfig {
    let partition = Partition::range(ranges).unwrap();
    ShardConfig { name: "shard-A".to_owned(), shard, partition }
}

#[test]
fn another_partition_is_refused_before_the_log_is_touched() {
    let disk = kept();
    let line = partition_line(&config().partition, 0);
    disk.storage().set_partition(line.as_bytes()).unwrap();
    let before: Vec<Vec<u8>> = disk.numbers().iter().map(|number| disk.bytes(*number)).collect();
    assert_eq!(check_partition(&config(), &mut disk.storage()), Ok(()));
    let hash = ShardConfig { partition: Partition::hash(2).unwrap(), ..config() };
    for other in [of(&["A-M", "N-P", "Q-Z"], 0), of(&["A-M", "N-Z"], 1), hash] {
        let refused = check_partition(&other, &mut disk.storage()).unwrap_err();
        for part in ["shard 0 of ranges A-M N-Z", &partition_line(&other.partition, other.shard)] {
            assert!(refused.contains(part.trim_end()), "{refused}");
        }
        assert!(refused.contains("pregao repartition"), "{refused}");
    }
    let after: Vec<Vec<u8>> = disk.numbers().iter().map(|number| disk.bytes(*number)).collect();
    assert!(before == after);
}

#[test]
fn a_log_without_a_record_is_taken_over_when_its_symbols_fit() {
    let disk = kept();
    let open =
        |disk: &MemoryDisk| Log::open(disk.storage(), log_config(), Now::default()).unwrap().0;
    let moved = of(&["A-H", "I-Z"], 0);
    check_partition(&moved, &mut disk.storage()).unwrap();
    let refused = keep_partition(&moved, &mut open(&disk)).unwrap_err();
    assert!(refused.contains("ITUB4, which belongs to shard 1"), "{refused}");
    assert_eq!(disk.partition(), None);
    keep_partition(&config(), &mut open(&disk)).unwrap();
    assert_eq!(disk.partition().unwrap(), b"shard 0 of ranges A-M N-Z\n");
    assert!(check_partition(&moved, &mut disk.storage()).is_err());
}

#[test]
fn a_core_that_divides_the_symbols_in_another_way_is_refused() {
    let (mut bench, core) = Bench::fed();
    bench.read(core);
    bench.deliver(core, &[definition(3, 2, "PETR4"), trade(4, 0, 1)]);
    let answer = bench.read(core);
    let refusal = answer.iter().find_map(Frame::view::<Refusal>).unwrap();
    assert_eq!(refusal.code, ErrorCode::NotOwner as u16);
    let next_seq = bench.shard.wanted().get();
    assert_eq!(next_seq, 3, "nothing of it was stored");
}

#[test]
fn a_front_that_was_taken_away_makes_answers_incomplete() {
    let (mut bench, core) = Bench::fed();
    let frames: Vec<Frame> = (3..=100).map(|seq| trade(seq, 0, seq)).collect();
    bench.feed(core, &frames);
    let disk = bench.disk.kill();
    let status = |bench: &mut Bench| {
        let frames = bench.ask(Op::Last, "ABEV3", 5, 0, u64::MAX);
        frames.iter().find_map(Frame::view::<Ended>).unwrap().status
    };
    let mut whole = Bench::on(disk.kill(), bench.now);
    assert_eq!(status(&mut whole), crate::wire::EndStatus::Complete as u8);
    disk.take(1);
    let mut short = Bench::on(disk.kill(), bench.now);
    assert_eq!(status(&mut short), crate::wire::EndStatus::Partial as u8);
    let is_told = |action: &Action| matches!(action, Action::Log(Level::Error, line) if line.contains("segments 1 to 1 of the log"));
    assert!(short.actions.iter().any(is_told), "{:?}", short.actions);
}
