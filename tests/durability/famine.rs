//! What the system lacks is waited for: descriptors that a crowd of idle peers or a low limit has taken, and a
//! directory that was moved away or deleted.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use pregao::wire::{ErrorCode, Frame, Kind, Refusal, Role, Session};
use rustix::process::{Pid, Resource, Rlimit, Signal, prlimit};

use super::files::segment_paths;
use super::full_disk::{feed_until_refused, greeting, last_rows};
use super::node::Place;
use super::process::{PATIENCE, PROGRAM, Process};
use super::shard_kills::{fill, follow};
use super::wire::{Came, Wire};

/// Descriptors that core may have, and idle peers that come.
const DESCRIPTORS_MAX: u64 = 256;
const PEERS: usize = 400;

/// Looks again and again until it finds something.
fn wait_for<T>(what: &str, mut find: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = find() {
            return found;
        }
        assert!(Instant::now() < until, "{what}: time is over");
        std::thread::yield_now();
    }
}

fn lines_with(node: &Process, text: &str) -> usize {
    node.stderr.all().iter().filter(|line| line.contains(text)).count()
}

/// The program with so many descriptors at most.
fn with_descriptors(count: u64) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("ulimit -n {count} && exec \"$@\""), "sh", PROGRAM]);
    command
}

/// A peer that says who it is and then nothing more: 45 seconds pass before it is missed.
fn idle_peer(place: &Place) -> Wire {
    let mut wire = Wire::connect(place.address());
    wire.send(Session { role: Role::Querier as u8, ..Session::default() });
    wire.flush();
    wire
}

/// What a peer was told: `None` when it was closed without a word.
fn told(peer: &mut Wire) -> Option<Kind> {
    loop {
        match peer.read(PATIENCE) {
            Came::Frames(frames) => {
                let refusal = frames.iter().find_map(Frame::view::<Refusal>);
                if let Some(refusal) = refusal {
                    assert_eq!(refusal.code.get(), ErrorCode::Limit as u16);
                    assert!(refusal.text.starts_with(b"no free descriptor"));
                    return Some(Kind::Error);
                }
                if frames.iter().any(|frame| frame.view::<Session>().is_some()) {
                    return Some(Kind::Session);
                }
            }
            Came::Nothing => {}
            Came::End => return None,
        }
    }
}

/// 21,000 idle connections ended core, at its next segment.
#[test]
fn idle_peers_take_core_no_descriptor_that_it_needs_for_segments_and_dials() {
    let exchange = Place::new("external", "", "[external]\nrate = 4000\n");
    let address = exchange.address();
    let net = format!("external = \"{address}\"");
    let place = Place::new("core", &net, "[data]\nsegment_bytes = 65536\n");
    let mut market = exchange.start(&["external"]);
    market.wait_listening();
    let mut core = place.start_command(with_descriptors(DESCRIPTORS_MAX), &["core"]);
    core.wait_log("exchange session established");

    let mut crowd: Vec<Wire> = (0..PEERS).map(|_| idle_peer(&place)).collect();
    let answers: Vec<_> = crowd.iter_mut().map(told).collect();
    let count = |kind| answers.iter().filter(|answer| **answer == kind).count() as u64;
    let kept = count(Some(Kind::Session));
    assert!(kept > 150 && kept < DESCRIPTORS_MAX - DESCRIPTORS_MAX / 8, "{kept} were kept");
    assert!(count(Some(Kind::Error)) > 0, "some are told: {answers:?}");
    core.wait_log("cannot accept");

    let log = place.log("core");
    let before = segment_paths(&log).len();
    wait_for("segments beside the crowd", || {
        (segment_paths(&log).len() > before + 3).then_some(())
    });
    market.kill();
    core.wait_log("the exchange session ended");
    market = exchange.start(&["external"]);
    market.wait_listening();
    let text = "exchange session established";
    wait_for("a dial beside the crowd", || (lines_with(&core, text) >= 2).then_some(()));

    drop(crowd);
    wait_for("room again", || (told(&mut idle_peer(&place)) == Some(Kind::Session)).then_some(()));
    assert_eq!(lines_with(&core, "waits for its next segment"), 0, "{:?}", core.stderr.all());
    core.kill();
}

#[test]
fn emfile_at_the_next_segment_is_waited_for() {
    let place = Place::new("shards", "", "[data]\nsegment_bytes = 65536\n");
    let mut node = place.start(&["shard", "--partition", "A"]);
    node.wait_listening();
    fill(&place, 100);
    let mut core = follow(&place);
    assert!(core.wait_kind(Kind::Session).is_some());
    let pid = Pid::from_raw(node.pid);
    // All numbers below this are in use.
    let before = prlimit(pid, Resource::Nofile, Rlimit { current: Some(3), maximum: Some(1_024) });
    let before = before.unwrap();

    assert_eq!(feed_until_refused(&mut core), ErrorCode::Storage as u16);
    node.wait_log("raise its limit of open files");
    let raised = Rlimit { current: Some(1_024), maximum: Some(1_024) };
    assert!(before.current.is_none_or(|current| current > 64));
    prlimit(pid, Resource::Nofile, raised).unwrap();
    wait_for("the shard goes on", || greeting(&place).ok());
    node.wait_log("the log has its next segment and goes on");
    fill(&place, 2_000);
    assert!(last_rows(&place) >= 50);
    node.kill();
}

#[test]
fn a_directory_that_was_moved_or_deleted_is_noticed_named_and_waited_for() {
    let place = Place::new("shards", "", "[data]\nsegment_bytes = 65536\n");
    let mut node = place.start(&["shard", "--partition", "A"]);
    node.wait_listening();
    fill(&place, 2_000);
    let (path, aside) = (place.log("shard-A"), place.data.join("aside"));

    let moved_at = Instant::now();
    fs::rename(&path, &aside).unwrap();
    node.wait_log("was moved away");
    let noticed_after = moved_at.elapsed();
    let storage = ErrorCode::Storage as u16;
    assert_eq!(feed_until_refused(&mut follow(&place)), storage, "it takes nothing in");
    assert_eq!(greeting(&place), Err(storage));
    assert!(last_rows(&place) >= 50, "it answers");
    fs::rename(&aside, &path).unwrap();
    node.wait_log("is at its path again");
    wait_for("the shard goes on", || greeting(&place).ok());
    fill(&place, 2_000);
    // A machine that is busy may make it later than the second that it is made for.
    assert!(noticed_after < Duration::from_secs(10), "{noticed_after:?}");

    fs::remove_dir_all(&path).unwrap();
    node.wait_log("was deleted");
    node.signal(Signal::TERM);
    assert_eq!(node.wait().code(), Some(4), "what it held was not closed anywhere");
    node.wait_log("was not closed cleanly");
}

#[test]
fn a_broker_says_for_how_many_subscribers_it_has_descriptors() {
    let place = Place::new("broker", "", "");
    let mut broker = place.start_command(with_descriptors(128), &["broker"]);
    broker.wait_log("subscribers, not for 10000: at most 128 files can be open");
    broker.wait_listening();
    broker.kill();
}
