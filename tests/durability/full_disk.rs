//! A disk that is full, made of a small tmpfs in a mount namespace that dies with its process. Where
//! that may not be made, the test says so and the bounded backend in memory stands for it (in the
//! library's tests).

use std::fs;
use std::path::Path;

use pregao::log::{
    AppendError, Log, LogConfig, Read, Retention, Sequence, SyncPolicy, UpstreamRule, is_event,
};
use pregao::storage::FileStorage;
use pregao::time::Clock;
use pregao::wire::{ErrorCode, Frame, Op, Quote, Refusal, U64, padded};
use rustix::process::Signal;

use super::files;
use super::node::Place;
use super::process::{Finished, PATIENCE, PROGRAM, Process};
use super::shard_kills::{fill, follow};
use super::tmpfs::{can_mount, on_tmpfs, seen_by};
use super::wire::{self, Came, Wire};

/// Feeds until the shard refuses, and returns the refusal's code.
pub(crate) fn feed_until_refused(core: &mut Wire) -> u16 {
    // What the shard has already it takes for duplicates.
    let mut next = 1;
    loop {
        if core.unsent() < 4_096 {
            for seq in next..next + 64 {
                if let Some(frame) = super::shard_kills::event(seq) {
                    core.send_frame(&frame);
                }
            }
            next += 64;
        }
        core.flush();
        match core.read(std::time::Duration::from_micros(200)) {
            Came::Frames(frames) => {
                if let Some(refusal) = frames.iter().find_map(Frame::view::<Refusal>) {
                    return refusal.code.get();
                }
            }
            Came::Nothing => {}
            Came::End => panic!("closed without a word"),
        }
    }
}

/// Whether a feeder is taken now; and if not, why.
pub(crate) fn greeting(place: &Place) -> Result<(), u16> {
    let mut core = follow(place);
    loop {
        match core.read(PATIENCE) {
            Came::Frames(frames) => {
                let refusal = frames.iter().find_map(Frame::view::<Refusal>);
                return refusal.map_or(Ok(()), |refusal| Err(refusal.code.get()));
            }
            Came::Nothing => {}
            Came::End => return Err(0),
        }
    }
}

/// The rows of an answer about the last trades.
pub(crate) fn last_rows(place: &Place) -> u32 {
    wire::ask(place.address(), Op::Last, 50).rows.get()
}

#[test]
fn a_full_disk_is_refused_by_its_name_read_from_and_left_behind() {
    let place = Place::new("shards", "", "[data]\nsegment_bytes = 65536\n");
    fs::create_dir_all(&place.data).unwrap();
    if !can_mount(&place.data) {
        return;
    }
    let command = on_tmpfs("1m", &place.data, Path::new(PROGRAM));
    let mut node = place.start_command(command, &["shard", "--partition", "A"]);
    node.wait_listening();
    let ballast = seen_by(&node, &place.data).join("ballast");
    fs::write(&ballast, vec![1; 400 << 10]).unwrap();

    let storage = ErrorCode::Storage as u16;
    assert_eq!(feed_until_refused(&mut follow(&place)), storage);
    for _ in 0..3 {
        assert_eq!(greeting(&place), Err(storage), "refused for what it is, and not closed");
    }
    let held = last_rows(&place);
    assert!(held >= 50, "{held} rows: reads go on");
    node.wait_log("no space left for");
    let files = files::segment_paths(&seen_by(&node, &place.log("shard-A"))).len();

    fs::remove_file(&ballast).unwrap();
    let until = std::time::Instant::now() + PATIENCE;
    while greeting(&place).is_err() {
        assert!(std::time::Instant::now() < until, "there is room, and nobody noticed");
    }
    fill(&place, 2_000);
    assert!(files::segment_paths(&seen_by(&node, &place.log("shard-A"))).len() > files);
    assert!(last_rows(&place) >= 50);
    node.kill();
}

/// What the child below is told: the directory, and whether files are reserved.
const CHILD: &str = "PREGAO_TEST_FULL_DISK";

/// Runs [`child`] on a full disk.
fn fill_in_a_child(mode: &str) -> Option<Finished> {
    let directory = tempfile::tempdir().unwrap();
    if !can_mount(directory.path()) {
        return None;
    }
    let mut command = on_tmpfs("300k", directory.path(), &std::env::current_exe().unwrap());
    command.args(["--exact", "full_disk::child", "--ignored", "--nocapture", "--test-threads=1"]);
    command.env(CHILD, format!("{mode}:{}", directory.path().display()));
    Some(Process::of(&mut command).finish())
}

#[test]
fn a_reserved_file_meets_the_full_disk_as_an_error() {
    if let Some(ended) = fill_in_a_child("reserved") {
        ended.expect(0);
    }
}

/// The same without the reservation: this is what it is for, and that the test can fail.
#[test]
fn a_sparse_file_meets_the_full_disk_as_a_signal() {
    if let Some(ended) = fill_in_a_child("sparse") {
        assert_eq!(ended.signal(), Some(Signal::BUS.as_raw()), "{ended:?}");
    }
}

/// Appends until the disk is full, in the process of a test above.
#[test]
#[ignore = "run by the tests above, on a disk of their own"]
fn child() {
    let Ok(told) = std::env::var(CHILD) else { return };
    let (mode, directory) = told.split_once(':').unwrap();
    let open = if mode == "sparse" { FileStorage::open_sparse } else { FileStorage::open };
    let storage = open(Path::new(directory), Box::new(|| {})).unwrap();
    let config = LogConfig {
        name: padded("shard-A"),
        segment_records: 1_024,
        policy: SyncPolicy::None,
        upstream: UpstreamRule::FollowSeq,
        sequence: Sequence::Increasing,
        retention: Retention::default(),
    };
    let clock = Clock::start();
    let (mut log, _) = Log::open(storage, config, clock.now()).unwrap();
    let mut appended = 0;
    loop {
        let seq = U64::new(log.next_seq());
        match log.append(&Frame::seal(Quote { seq, ..Quote::default() })) {
            Ok(_) => appended += 1,
            Err(AppendError::NotReady) => std::thread::yield_now(),
            Err(AppendError::Full) => break,
            Err(error) => panic!("{error}"),
        }
        log.commit(clock.now());
        assert!(!log.handle_completions(clock.now()).failed);
    }
    assert!(appended > 1_024, "{appended}");
    let (mut position, mut read) = (0, 0);
    while let Read::Frames(frames) = log.read(position, usize::MAX) {
        read += frames.iter().filter(|frame| is_event(frame)).count();
        position += frames.len() as u64;
    }
    assert_eq!(read, appended, "reads go on");
    log.close(clock.now()).unwrap();
}
