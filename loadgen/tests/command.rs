//! The command as its users start it. What it starts itself is the bare loop, which is always there.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test outside the crate: a panic is its verdict"
)]

use std::net::TcpListener;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

fn loadgen(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    command.args(arguments).stdin(Stdio::null());
    command
}

fn output(arguments: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = loadgen(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

#[test]
fn an_address_with_nobody_there_says_how_to_start_it() {
    // Bound by us and closed again: nobody else is likely to listen there.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let targets =
        [("pregao", "pregao all"), ("redis", "redis-server"), ("nats-ws", "--publish-addr")];
    for (target, start) in targets {
        let mut flags = vec!["--addr", &address, "--rate", "10", "--target", target];
        if target == "nats-ws" {
            flags.extend(["--publish-addr", &address]);
        }
        let (code, stdout, stderr) = output(&flags);
        assert_eq!((code, stdout.as_str()), (Some(4), ""), "{stderr}");
        assert!(stderr.contains("nobody listens") && stderr.contains(start), "{stderr}");
    }
}

#[test]
fn wrong_flags_say_what_is_right() {
    for (flags, right) in [
        (&["--stall", "5"][..], "5%"),
        (&["--churn", "10"], "10/s"),
        (&["--watch", "3"], "--rate"),
        (&["--target", "redis"], "--rate"),
        (&["--target", "nats-ws"], "--rate"),
        (&["--rate", "9", "--publish-addr", "127.0.0.1:1"], "where it listens"),
        (&["compare", "--scenario", "nonsense"], "full-feed"),
        (&["--rate", "9", "--stall", "60%", "--slow", "40%"], "--slow"),
    ] {
        let (code, _, stderr) = output(flags);
        assert_eq!(code, Some(2), "{flags:?}: {stderr}");
        assert!(stderr.contains(right), "{flags:?}: {stderr}");
    }
}

#[test]
fn a_peer_that_is_not_there_is_skipped_with_a_sentence() {
    let missing = ["--pregao", "/nonexistent/pregao", "--target", "pregao"];
    let flags = [&["compare", "--scenario", "light-load"], &missing[..]].concat();
    let (code, stdout, stderr) = output(&flags);
    assert_eq!(code, Some(4), "{stdout}{stderr}");
    assert!(stderr.contains("pregao is skipped: /nonexistent/pregao is not installed"), "{stderr}");
}

#[test]
fn a_program_with_planted_bugs_is_not_measured() {
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/planted.sh");
    let (code, stdout, stderr) = output(&["compare", "--pregao", program, "--target", "pregao"]);
    assert_eq!((code, stdout.as_str()), (Some(4), ""), "{stderr}");
    assert!(stderr.contains("planted.sh or loadgen has planted bugs"), "{stderr}");
}

#[test]
fn the_bare_loop_is_measured_like_a_broker() {
    let flags = ["compare", "--scenario", "light-load", "--target", "bare", "--subscribers", "5"];
    let (code, stdout, stderr) = output(&[&flags[..], &["--format", "json"]].concat());
    assert!(matches!(code, Some(0 | 3)), "{stderr}");
    let rows: Vec<serde_json::Value> =
        stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let [row] = &rows[..] else { panic!("one row: {stdout}") };
    for (name, value) in [("scenario", "light-load"), ("target", "bare")] {
        assert_eq!(row[name], value);
    }
    // 20 messages a second for four seconds to five subscribers, and none lost, however slow it is.
    assert_eq!((row["deliveries"].as_u64(), row["lost"].as_u64()), (Some(400), Some(0)), "{row}");
    assert!(row["broker_cpu_ns_per_delivery"].as_f64().is_some_and(|ns| ns > 0.0), "{row}");
}

/// Children of a process, as the kernel lists them.
fn children(of: &Child) -> Vec<u32> {
    let pid = of.id();
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    text.unwrap_or_default().split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

#[test]
fn a_signal_ends_what_was_started() {
    let flags = ["compare", "--scenario", "light-load", "--target", "bare", "--subscribers", "5"];
    let mut command = loadgen(&[&flags[..], &["--duration", "60s"]].concat());
    let mut run = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut started = children(&run);
    while started.is_empty() && Instant::now() < deadline {
        std::thread::yield_now();
        started = children(&run);
    }
    assert!(!started.is_empty(), "it starts a server");
    let killed = Command::new("kill").args(["-TERM", &run.id().to_string()]).status().unwrap();
    assert!(killed.success());
    assert_eq!(run.wait().unwrap().code(), Some(143));
    for pid in started {
        let stands = std::fs::read_to_string(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|line| line.contains("bare"));
        assert!(!stands, "process {pid} was left behind");
    }
}

#[test]
fn a_signal_to_the_process_while_it_measures_shows_the_figures_until_then() {
    let broker = pregao::client::LocalBroker::start().unwrap();
    let address = broker.address().to_string();
    let flags = ["--addr", &address, "--rate", "200", "--subscribers", "3", "--warm-up", "1ms"];
    let mut command = loadgen(&[&flags[..], &["--duration", "3600s", "--format", "json"]].concat());
    let run = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // Messages come in the measured part only.
    let pattern = pregao::feed::Pattern::new("*", 0).unwrap();
    let request =
        pregao::client::Request { source: 2, ..pregao::client::Request::market(vec![pattern]) };
    let events = pregao::client::Subscription::open(broker.address(), broker.address(), request);
    let is_live = |event: &pregao::client::Event| matches!(event, pregao::client::Event::Data(frame) if !frame.has(pregao::wire::Flags::SNAPSHOT));
    assert!(events.unwrap().map(Result::unwrap).filter(is_live).nth(20).is_some());
    let killed = Command::new("kill").args(["-INT", &run.id().to_string()]).status().unwrap();
    assert!(killed.success());
    let Output { status, stdout, stderr } = run.wait_with_output().unwrap();
    let (stdout, stderr) = (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap());
    assert!(matches!(status.code(), Some(0 | 3)), "{status}: {stderr}");
    let row: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert!(row["deliveries"].as_u64().unwrap() > 0 && row["lost"] == 0, "{row}");
    assert!(row["ended_early_after_s"].as_f64().unwrap() < 600.0, "{row}");
}
