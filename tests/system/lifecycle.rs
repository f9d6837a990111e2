//! How a system ends, what it costs while nothing happens, and that nothing of it stays behind.

use std::fs;
use std::io::{ErrorKind, Read};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, prlimit};

use super::process::PATIENCE;
use super::system::{NODES, System, is_node_of};

/// Nothing of the system runs, and its ports are free.
fn nothing_is_left(system: &System) {
    let place = &system.place;
    system.retry("no node runs", || {
        let lives = |node: &&str| {
            system.pids(node).into_iter().any(|pid| is_node_of(pid, &place.data_dir()))
        };
        let alive: Vec<&str> = NODES.into_iter().filter(lives).collect();
        if alive.is_empty() { Ok(()) } else { Err(format!("{alive:?} run")) }
    });
    for node in NODES {
        TcpListener::bind(place.address(node)).unwrap_or_else(|error| panic!("{node}: {error}"));
    }
}

/// The log shows an orderly end of every node.
fn everything_stopped_in_order(system: &System) {
    let log = system.log();
    assert!(log.iter().any(|line| line == "pregao     | stopping"), "{log:#?}");
    for node in NODES {
        let stopped = format!("pregao     | {node} stopped (exit status: 0)");
        assert!(log.contains(&stopped), "{stopped}: {log:#?}");
        system.wait_log(node, &format!("{node} stopped"));
    }
}

#[test]
fn an_interrupt_ends_everything() {
    let mut system = System::start(&[]);
    system.all.signal(Signal::INT);
    assert_eq!(system.all.wait().code(), Some(0));
    everything_stopped_in_order(&system);
    nothing_is_left(&system);
}

#[test]
fn the_stop_command_ends_everything_and_says_so() {
    let mut system = System::start(&["--rate", "5000"]);
    system.wait_well();
    let stopped = system.place.stop().expect(0);
    let (pid, dir) = (system.all.pid, system.place.data_dir());
    assert_eq!(stopped.stdout, [format!("stopped pregao (pid {pid}) on {}", dir.display())]);
    assert!(stopped.stderr.is_empty(), "{stopped:?}");
    assert_eq!(system.all.wait().code(), Some(0));
    everything_stopped_in_order(&system);
    nothing_is_left(&system);
    let again = system.place.stop().expect(4);
    assert_eq!(again.stderr.len(), 1, "{again:?}");
}

#[test]
fn no_node_survives_a_killed_supervisor() {
    let mut system = System::start(&[]);
    system.wait_well();
    let connections = NODES.map(|node| TcpStream::connect(system.place.address(node)).unwrap());
    system.all.signal(Signal::KILL);
    assert_eq!(system.all.wait().code(), None);
    for (node, mut link) in NODES.into_iter().zip(connections) {
        // What a node says at the end is not asked here: that it says no more is.
        link.set_read_timeout(Some(PATIENCE)).unwrap();
        match link.read_to_end(&mut Vec::new()) {
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                panic!("{node} lives on: {error}")
            }
            _ => {}
        }
    }
    nothing_is_left(&system);

    // The nodes were told by the kernel and closed their logs: the same directory goes on.
    let system = System::start_at(Arc::clone(&system.place), &[]);
    system.wait_well();
    assert_eq!(system.status()["core"]["figures"]["epoch"], 2, "each start is an epoch");
    let log = system.log();
    assert!(!log.iter().any(|line| line.contains("was not closed")), "{log:?}");
}

/// Processor time of a process so far, user and system, in hundredths of a second.
fn cpu_ticks(pid: i32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // Behind the name, which is in brackets and may contain anything.
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[test]
fn a_quiet_system_sleeps() {
    let system = System::start(&["--speed", "0", "--chaos", "off"]);
    system.wait_well();
    // The logs' first segments are being made ready in the beginning.
    system.place.run("subscribe", &["--for", "1s", "--format", "json"]).expect(0);
    let pids: Vec<i32> = NODES.iter().map(|node| system.pid(node)).collect();
    let ticks = || pids.iter().map(|&pid| cpu_ticks(pid)).sum::<u64>();
    let before = ticks();
    let frames = system.place.run("subscribe", &["--for", "3s", "--format", "json"]).expect(0);
    let used = ticks() - before;
    assert!(frames.stdout.is_empty(), "a market that stands still moved: {frames:?}");
    println!("a quiet system used {used} hundredths of a second in 3 s");
    assert!(used <= 9, "{used} hundredths of a second in 3 s are more than 3 %");
}

#[test]
fn nodes_raise_the_soft_descriptor_limit_that_they_were_started_with() {
    let system = System::start(&["--speed", "0"]);
    let supervisor = Pid::from_raw(system.all.pid);
    let low = Rlimit { current: Some(256), maximum: getrlimit(Resource::Nofile).maximum };
    prlimit(supervisor, Resource::Nofile, low).unwrap();
    // It is started again with the limit of who starts it.
    system.kill("broker");
    let limits = fs::read_to_string(format!("/proc/{}/limits", system.pid("broker"))).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let words: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(words[3], words[4], "{line}");
    assert_ne!(words[3], "256", "{line}");
}

#[test]
fn a_broker_with_few_descriptors_promises_no_more_subscribers_than_it_has_room_for() {
    let system = System::start(&["--speed", "0"]);
    let low = Rlimit { current: Some(256), maximum: Some(256) };
    prlimit(Pid::from_raw(system.all.pid), Resource::Nofile, low).unwrap();
    system.kill("broker");
    let said = |text: &str| {
        let mut lines = system.log().into_iter().filter(|line| line.starts_with("broker "));
        lines.rfind(|line| line.contains(text)).unwrap()
    };
    let room = said("room for ");
    let count = room.split("room for ").nth(1).unwrap().split(' ').next().unwrap().to_owned();
    assert!((100..256).contains(&count.parse::<u32>().unwrap()), "{room}");
    let memory = said("memory at most");
    assert!(memory.contains(&format!(" {count} subscribers x ")), "{memory}; but {room}");
}
