//! Directories that a node must not touch: refused by name, with an exit code of their own, and every
//! byte as it was.

use std::fs;
use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};

use super::files;
use super::node::Place;
use super::process::Process;

/// The code of a node that cannot start.
const CANNOT_START: i32 = 5;

fn place() -> Place {
    Place::new("shards", "", "[data]\nsegment_bytes = 65536")
}

fn start(place: &Place) -> Process {
    place.start(&["shard", "--partition", "A"])
}

/// A directory that a shard has used, with four segments, and nobody in it.
fn used() -> Place {
    let place = place();
    let mut node = start(&place);
    node.wait_listening();
    super::shard_kills::fill(&place, 4_600);
    node.kill();
    assert!(files::segment_paths(&place.log("shard-A")).len() >= 4);
    place
}

/// Starts a node that must not start. Returns its one line of error.
fn refused(place: &Place) -> String {
    let before = files::image(&place.data);
    let ended = start(place).finish().expect(CANNOT_START);
    assert!(files::image(&place.data) == before, "refused, and yet something was changed");
    let errors = ended.stderr.iter().filter(|line| line.starts_with("error: "));
    let errors: Vec<&String> = errors.collect();
    assert_eq!(errors.len(), 1, "{ended:#?}");
    errors[0].clone()
}

fn segment(place: &Place, number: u64) -> std::path::PathBuf {
    files::segment_paths(&place.log("shard-A"))[&number].clone()
}

fn flip(path: &Path, offset: usize, value: u8) {
    let mut bytes = fs::read(path).unwrap();
    bytes[offset] = value;
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_second_process_is_refused_also_while_the_first_stands_still() {
    let place = place();
    let mut first = start(&place);
    first.wait_listening();
    // On a port of its own, so that only the directory is contended.
    let other = Place::new("shards", "", "[data]\nsegment_bytes = 65536").sharing(&place);
    let error = refused(&other);
    assert!(error.contains("LOCK is in use by another process"), "{error}");
    let pid = Pid::from_raw(first.pid).unwrap();
    kill_process(pid, Signal::STOP).unwrap();
    let error = refused(&other);
    assert!(error.contains("LOCK is in use by another process"), "{error}");
    kill_process(pid, Signal::CONT).unwrap();
    first.kill();
    let mut second = start(&other);
    second.wait_listening();
    second.kill();
}

#[test]
fn a_header_from_the_future_is_refused_by_its_version() {
    let place = used();
    for number in [1, 2, 4] {
        let path = segment(&place, number);
        flip(&path, 8, 6);
        let error = refused(&place);
        assert!(error.contains(&format!("segment {number} is refused")), "{error}");
        assert!(error.contains("format version 6"), "{error}");
        flip(&path, 8, 5);
    }
    start(&place).wait_listening();
}

#[test]
fn a_directory_of_an_earlier_format_is_refused_in_one_line_that_says_what_to_do() {
    let place = used();
    let path = segment(&place, 1);
    let mut bytes = fs::read(&path).unwrap();
    bytes[8] = 4;
    let crc = crc32c::crc32c(&bytes[..124]).to_le_bytes();
    bytes[124..128].copy_from_slice(&crc);
    fs::write(&path, bytes).unwrap();
    let error = refused(&place);
    assert!(error.contains("format version 4") && error.contains("`pregao convert OLD NEW`"));
    assert_eq!(error.lines().filter(|line| line.contains("format version")).count(), 1, "{error}");
}

#[test]
fn swapped_segments_are_refused_by_their_numbers() {
    let place = used();
    let (one, other) = (segment(&place, 2), segment(&place, 3));
    let between = one.with_extension("elsewhere");
    for (from, to) in [(&one, &between), (&other, &one), (&between, &other)] {
        fs::rename(from, to).unwrap();
    }
    // Also this stays: only who may use a directory cleans it.
    fs::write(place.log("shard-A").join("00000000000000000099.tmp"), b"half").unwrap();
    let error = refused(&place);
    assert!(error.contains("segment 2 is refused"), "{error}");
    assert!(error.contains("segment number 3"), "{error}");
}

#[test]
fn a_missing_last_segment_is_refused_and_a_missing_one_between_is_said() {
    let place = used();
    let numbers: Vec<u64> = files::segment_paths(&place.log("shard-A")).into_keys().collect();
    let is_empty = |number: u64| {
        fs::read(segment(&place, number)).unwrap()[4096..].iter().all(|byte| *byte == 0)
    };
    let last_used = *numbers.iter().rfind(|number| !is_empty(**number)).unwrap();
    // One that was made ahead follows the end, so that it shows when the end is gone.
    if last_used < *numbers.last().unwrap() {
        let path = segment(&place, last_used);
        let aside = path.with_extension("aside");
        fs::rename(&path, &aside).unwrap();
        let error = refused(&place);
        assert!(error.contains("does not continue the segment before it"), "{error}");
        fs::rename(&aside, &path).unwrap();
    }
    fs::remove_file(segment(&place, 2)).unwrap();
    let node = start(&place);
    node.wait_log("records of the log are damaged");
}

#[test]
fn a_foreign_log_is_refused_by_its_name() {
    let place = used();
    fs::rename(place.log("shard-A"), place.log("elsewhere")).unwrap();
    let two = Place::new("shards", "", "[data]\nsegment_bytes = 65536").sharing(&place);
    let mut core = two.start(&["core"]);
    core.wait_listening();
    core.kill();
    fs::rename(place.log("core"), place.log("shard-A")).unwrap();
    let error = refused(&place);
    assert!(error.contains("belongs to the log \"core\""), "{error}");
}

#[test]
fn leftovers_of_a_segment_in_the_making_are_cleaned_and_others_are_left() {
    let place = used();
    let log = place.log("shard-A");
    let ours = log.join("00000000000000000099.tmp");
    let foreign = [log.join("notes.tmp"), log.join("notes.log"), log.join("99.tmp")];
    fs::write(&ours, b"half").unwrap();
    foreign.iter().for_each(|path| fs::write(path, b"mine").unwrap());
    let node = start(&place);
    node.wait_listening();
    assert!(!ours.exists());
    assert!(foreign.iter().all(|path| fs::read(path).unwrap() == b"mine"));
}

#[test]
fn rot_that_hides_where_the_log_ends_is_refused() {
    let place = used();
    let numbers = files::segment_paths(&place.log("shard-A"));
    let last = numbers.values().next_back().unwrap();
    flip(last, 30, 0xff);
    let error = refused(&place);
    assert!(error.contains("its header is damaged"), "{error}");
    assert!(error.contains("nothing was changed"), "{error}");
}
