//! A market whose nodes are killed, stopped and started at random, with subscribers and questions
//! all the while, and a quiet end in which everything has to be there.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::time::Duration;

use pregao::random::Random;
use pregao::time::Clock;
use rustix::process::Signal;

use super::checks::{check_trades, frame, history_has};
use super::process::{Deadline, Process, json};
use super::proxy::Proxy;
use super::system::{NODES, System, signal};

/// How long the bad time lasts unless the environment says otherwise.
const BAD_SECONDS_DEFAULT: u64 = 12;
/// How far the answer to a question with a deadline may be behind it: the start of a process on a
/// machine that does something else.
const ANSWER_SLACK: Duration = Duration::from_secs(20);

fn number(name: &str, default: u64) -> u64 {
    env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text}")))
}

/// What has been done, for the message of a failure.
#[derive(Debug, Default)]
struct Done {
    killed: BTreeMap<&'static str, u32>,
    stopped: BTreeMap<&'static str, u32>,
    ended: BTreeMap<&'static str, u32>,
    answers: BTreeMap<i32, u32>,
}

/// Does one thing to the system.
fn trouble(system: &System, random: &mut Random, done: &mut Done) {
    let node = NODES[usize::try_from(random.below(NODES.len() as u64)).unwrap()];
    match random.below(10) {
        0..=2 => {
            // One that is just being started again may be gone already: all the same.
            signal(system.pid(node), Signal::KILL);
            *done.killed.entry(node).or_default() += 1;
        }
        3 => {
            signal(system.pid(node), Signal::TERM);
            *done.ended.entry(node).or_default() += 1;
        }
        4..=6 => {
            let pid = system.pid(node);
            signal(pid, Signal::STOP);
            // Up to a second and a half: longer than a breaker waits, shorter than silence is.
            for _ in 0..random.between(1, 30) {
                system.all.stderr.pause();
            }
            signal(pid, Signal::CONT);
            *done.stopped.entry(node).or_default() += 1;
        }
        _ => {
            let clock = Clock::start();
            let deadline = Duration::from_millis(random.between(50, 500));
            let flag = format!("{}ms", deadline.as_millis());
            let symbol = ["PETR4", "VALE3", "ITUB4"][usize::try_from(random.below(3)).unwrap()];
            let shape = [&["--last", "20"][..], &["--bars", "1m"]];
            let shape = shape[usize::try_from(random.below(2)).unwrap()];
            let flags = [shape, &["--deadline", &flag]].concat();
            let asked = clock.now().mono;
            let (code, report, finished) = system.report(symbol, &flags);
            let took = clock.now().mono.since(asked);
            assert!([0, 3, 4].contains(&code), "{finished:?}");
            assert_eq!(report.is_some(), code != 4, "{finished:?}");
            assert!(took < deadline + ANSWER_SLACK, "an answer after {took:?}: {finished:?}");
            *done.answers.entry(code).or_default() += 1;
        }
    }
}

#[test]
fn nodes_that_die_stop_and_start_at_random_lose_nothing_and_answer_in_time() {
    let seed = number("PREGAO_CHAOS_SEED", 1);
    let bad_time = Duration::from_secs(number("PREGAO_CHAOS_SECONDS", BAD_SECONDS_DEFAULT));
    println!("the plan is PREGAO_CHAOS_SEED={seed} PREGAO_CHAOS_SECONDS={}", bad_time.as_secs());
    let mut random = Random::new(seed);
    let system = System::start(&["--rate", "2000"]);
    let flags = ["trade.*", "--from", "1", "--format", "json"];
    let direct = system.place.start("subscribe", &flags);

    // A second subscriber, on a bad road.
    let proxy = Proxy::start(system.place.address("broker"), seed);
    let file = system.place.config_file().with_file_name("bad-road.toml");
    let known = fs::read_to_string(system.place.config_file()).unwrap();
    let port = |line: &str| line.trim_start().starts_with("broker =");
    let lines = known.lines().map(|line| match port(line) {
        true => format!("broker = \"{}\"\n", proxy.address),
        false => format!("{line}\n"),
    });
    fs::write(&file, lines.collect::<String>()).unwrap();
    let own = [
        "subscribe".to_owned(),
        format!("--config={}", file.display()),
        format!("--host={}", system.place.host),
    ];
    let arguments = own.into_iter().chain(flags.iter().map(|&flag| flag.to_owned()));
    let on_bad_road = Process::start(&arguments.collect::<Vec<String>>());

    let mut done = Done::default();
    let deadline = Deadline::after(bad_time);
    while !deadline.is_over() {
        trouble(&system, &mut random, &mut done);
    }

    // The quiet end.
    proxy.calm();
    let (cuts, garbled) = proxy.counts();
    // How much of it met anything is luck, and so is no part of what must hold.
    println!("{done:?}; on the bad road {cuts} cuts and {garbled} changed bits");
    system.wait_well();
    let mark = direct.stdout.len() + 500;
    direct.stdout.wait_len(mark);
    on_bad_road.stdout.wait_len(mark);
    system.wait_report("PETR4", &["--last", "20"], |report| report["complete"] == true);
    let (seen, also_seen) = (direct.end(), on_bad_road.end());
    let counts = check_trades(&seen);
    check_trades(&also_seen);
    let both = seen.len().min(also_seen.len());
    for (one, other) in seen.iter().zip(&also_seen) {
        assert_eq!(frame(json(one)), frame(json(other)), "two subscribers saw different markets");
    }
    println!("{both} trades of {} symbols seen by both", counts.len());
    history_has(&system, &seen);
}
