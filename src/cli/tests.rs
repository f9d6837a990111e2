use std::fs;
use std::time::Duration;

use clap::CommandFactory;

use super::args::Command;
use super::*;
use crate::config::{NodeId, Speed};
use crate::parse::DeliveryMode;
use crate::report::Question;

pub(super) fn parse(arguments: &[&str]) -> Result<Command, Failure> {
    let arguments = ["pregao"].iter().chain(arguments);
    match CommandLine::try_parse_from(arguments) {
        Ok(line) => Ok(line.command),
        Err(error) => Err(Failure::usage(in_one_line(&error.render().to_string(), None))),
    }
}

fn request(arguments: &[&str]) -> Request {
    parse(arguments).and_then(resolve).unwrap_or_else(|error| panic!("{arguments:?}: {error:?}"))
}

fn refusal(arguments: &[&str]) -> String {
    match parse(arguments).and_then(resolve) {
        Ok(request) => panic!("{arguments:?} was accepted: {request:?}"),
        Err(failure) => {
            assert_eq!(failure.exit(), Exit::Usage);
            failure.message().unwrap().to_owned()
        }
    }
}

#[test]
fn the_definitions_are_consistent() {
    CommandLine::command().debug_assert();
}

#[test]
fn a_node_listens_where_other_machines_reach_it_only_if_that_is_wanted() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("pregao.toml");
    let written = |text: &str| {
        fs::write(&file, text).unwrap();
        file.to_str().unwrap().to_owned()
    };
    let core = written("[net]\ncore = \"192.0.2.1:8082\"\n");
    let exposed: [(&[&str], &str); 7] = [
        (&["core", "--host", "0.0.0.0"], "core would listen on 0.0.0.0:8082"),
        (&["all", "--host", "::"], "external would listen on [::]:8080"),
        (&["all", "--config", &core], "core would listen on 192.0.2.1:8082"),
        (&["gateway", "--host", "10.0.0.7"], "gateway would listen on 10.0.0.7:8090"),
        (&["replica", "--replica", "1", "--host", "10.0.0.7"], "core.1 would listen on"),
        (&["broker", "--metrics", "10.0.0.7:9100"], "broker would listen on 10.0.0.7:9100"),
        (&["shard", "--partition", "A", "--host", "::ffff:10.0.0.7"], "shard-A would listen on"),
    ];
    for (arguments, text) in exposed {
        let refused = refusal(arguments);
        assert!(refused.contains(text) && refused.contains("--insecure"), "{refused}");
        request(&[arguments, &["--insecure"]].concat());
    }
    for loopback in ["127.0.0.9", "::1", "::ffff:127.0.0.1"] {
        request(&["core", "--host", loopback]);
    }
    let metrics = written("[metrics]\ncore = \"10.0.0.7:9100\"\n");
    assert!(refusal(&["all", "--config", &metrics]).contains("core would listen on 10.0.0.7:9100"));
    request(&["broker", "--config", &metrics]);
    let wanted = written("[net]\nhost = \"0.0.0.0\"\ninsecure = true\n");
    request(&["all", "--config", &wanted]);
    // Who asks nodes listens nowhere.
    request(&["status", "--host", "10.0.0.7"]);
}

#[test]
fn wrong_flags_are_one_line_that_names_the_flag() {
    for (arguments, parts) in [
        (&["fly"][..], &["fly", "pregao --help"][..]),
        (&["core", "--fly"], &["--fly", "pregao core --help"]),
        (
            &["core", "--confg", "x"],
            &["'--confg' found; a similar argument exists: '--config'; see"],
        ),
        (&["core", "--speed", "1"], &["--speed"]),
        (&["core", "--host", "no such host"], &["--host", "no such host", "not known here"]),
        (&["core", "--log", "loud"], &["--log", "loud"]),
        (&["shard"], &["--partition", "pregao shard --help"]),
        (&["shard", "--partition", "Z"], &["--partition", "A to P"]),
        (&["shard", "--partition", "D"], &["shard-D", "[net] shards"]),
        (&["external", "--speed", "fast"], &["--speed", "real time"]),
        (&["external", "--rate", "0"], &["--rate"]),
        (&["external", "--rate", "5", "--tape", "x"], &["--rate", "--tape"]),
        (&["external", "--seed=-1"], &["--seed"]),
        (&["report", "X", "--last", "-1"], &["-1", "--last", "whole number from 0 to 30000"]),
        (&["all", "--replicas", "9"], &["--replicas", "whole number from 1 to 4"]),
        (&["report", "ação"], &["ASCII", "without accents"]),
        (&["all", "--config", "/nonexistent.toml"], &["cannot read", "/nonexistent.toml"]),
        (&["all", "--data-dir", ""], &["--data-dir"]),
        (&["subscribe", "P*R"], &["P*R", "only at the end"]),
        (&["subscribe", "--mode", "conflate"], &["--mode", "conflate=250ms"]),
        (&["subscribe", "--count", "0"], &["--count", "whole number from 1 on"]),
        (&["subscribe", "--from", "0"], &["--from", "sequence number from 1 on"]),
        (&["subscribe", "--from", "noon"], &["--from", "2012-06-21T13:30:00Z"]),
        (&["subscribe", "--speed", "2"], &["--from"]),
        (&["subscribe", "--from", "1", "--speed", "0"], &["--speed 0 would show nothing"]),
        (&["all", "--from", "2012-06-21"], &["--tape"]),
        (&["all", "--tape", "x", "--from", "7", "--to", "7"], &["nothing lies between them"]),
        (&["all", "--tape", "x", "--symbol", "P*R"], &["--symbol P*R"]),
        (&["convert", "old"], &["NEW", "pregao convert --help"]),
        (&["subscribe", "--for", "0s"], &["--for", "10s"]),
        (&["subscribe", "--for", "10"], &["--for", "unit"]),
        (&["subscribe", "--format", "xml"], &["--format", "table"]),
        (&["report"], &["SYMBOL", "pregao report --help"]),
        (&["report", "P*R4"], &["P*R4", "symbol"]),
        (&["report", "X", "--last", "5", "--bars", "1m"], &["--last", "--bars"]),
        (&["report", "X", "--last", "5", "--from", "1"], &["--last", "--from"]),
        (&["report", "X", "--last", "100001"], &["--last"]),
        (&["report", "X", "--bars", "2d"], &["--bars", "one day"]),
        (&["report", "X", "--from", "yesterday"], &["--from", "UTC"]),
        (&["report", "X", "--from", "5", "--to", "5"], &["--from", "--to"]),
        (&["report", "X", "--deadline", "0s"], &["--deadline", "1ms"]),
        (&["report", "X", "--deadline", "2h"], &["--deadline", "1m"]),
        (&["report", "X", "--as-of", "0"], &["--as-of", "same"]),
        (&["report", "X", "--average", "--last", "5"], &["--average", "--last"]),
        (&["report", "X", "--partial", "maybe"], &["--partial", "allow"]),
        (&["status", "--data-dir", "x"], &["--data-dir"]),
        (&["breaker", "core.exchange"], &["ACTION", "pregao breaker --help"]),
        (&["breaker", "core.exchange", "open"], &["open", "ACTION"]),
        (&["breaker", "core.exchange is a long name", "close"], &["NAME", "pregao status"]),
        (&["verify"], &["DIR", "pregao verify --help"]),
        (&["dump", "x", "--from", "5", "--to", "5"], &["--from", "--to"]),
        (&["dump", "x", "--symbol", "P*R"], &["P*R", "only at the end"]),
        (&["dump", "x", "--symbol", "bar.1m.X"], &["--symbol", "bars"]),
        (&["dump", "x", "--kind", "tick"], &["tick", "trade"]),
        (&["dump", "x", "--limit", "0"], &["--limit"]),
        (&["export", "x", "--out", "y"], &["--format"]),
        (&["export", "x", "--format", "csv"], &["--out"]),
        (&["export", "x", "--format", "xml", "--out", "y"], &["xml", "parquet"]),
    ] {
        let message = refusal(arguments);
        assert!(!message.contains('\n'), "{message:?}");
        assert!(!message.starts_with("error"), "{message}");
        for part in parts {
            assert!(message.contains(part), "{arguments:?} gave: {message}");
        }
    }
}

#[test]
fn subscribe_without_a_pattern_is_everything() {
    let Request::Subscribe(request) = request(&["subscribe"]) else { panic!() };
    assert_eq!(request.patterns, ["*".parse().unwrap()]);
    assert_eq!((request.count, request.duration, request.from_seq), (None, None, None));
    assert_eq!(request.mode, DeliveryMode::Lossless);
    assert_eq!(request.format, Format::Table);
    assert_eq!(request.address.to_string(), "127.0.0.1:8081");
}

#[test]
fn subscribe_takes_all_its_flags() {
    let Request::Subscribe(request) = request(&[
        "subscribe",
        "trade.PETR4",
        "bar.1m.*",
        "--count",
        "3",
        "--for",
        "10s",
        "--mode",
        "conflate=250ms",
        "--from",
        "7",
        "--host",
        "127.0.0.9",
        "--format",
        "json",
    ]) else {
        panic!()
    };
    let patterns: Vec<String> = request.patterns.iter().map(ToString::to_string).collect();
    assert_eq!(patterns, ["trade.PETR4", "bar.1m.*"]);
    assert_eq!(request.count, Some(3));
    assert_eq!(request.duration, Some(Duration::from_secs(10)));
    assert_eq!(request.mode.conflate_ms(), 250);
    assert_eq!(request.from_seq, Some(7));
    assert_eq!(request.format, Format::Json);
    assert_eq!(request.address.to_string(), "127.0.0.9:8081");
}

#[test]
fn report_asks_one_question() {
    let question = |flags: &[&str]| {
        let arguments: Vec<&str> = ["report", "PETR4"].iter().chain(flags).copied().collect();
        let Request::Report(request) = request(&arguments) else { panic!() };
        request.asked.question
    };
    let interval = "1m".parse().unwrap();
    assert_eq!(question(&[]), Question::Last(10));
    assert_eq!(question(&["--last", "0"]), Question::Last(0));
    assert_eq!(question(&["--average"]), Question::Average);
    assert_eq!(question(&["--spread"]), Question::Spread);
    let movers = Question::Movers { count: 3, from: 5, to: u64::MAX };
    assert_eq!(question(&["--movers", "3", "--from", "5"]), movers);
    assert_eq!(question(&["--from", "5"]), Question::Range { from: 5, to: u64::MAX });
    assert_eq!(question(&["--to", "5"]), Question::Range { from: 0, to: 5 });
    assert_eq!(
        question(&["--bars", "1m", "--from", "1970-01-01T00:01:00Z"]),
        Question::Bars { interval, from: 60_000_000_000, to: u64::MAX }
    );
}

#[test]
fn flags_override_the_file_and_the_file_the_defaults() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("p.toml");
    let text = "[net]\nhost = \"127.0.0.2\"\ncore = 5000\n[data]\ndir = \"/file\"\n\
                [external]\nrate = 7\nspeed = \"10\"\nseed = 3\n";
    fs::write(&file, text).unwrap();
    let file = file.to_str().unwrap();
    let config = |arguments: &[&str]| {
        let Request::Node { request, .. } = request(arguments) else { panic!() };
        (request.address.to_string(), request.config)
    };
    let (address, by_file) = config(&["core", "--config", file]);
    assert_eq!(address, "127.0.0.2:5000");
    assert_eq!(by_file.data.dir.to_str(), Some("/file"));
    let (address, by_flag) =
        config(&["core", "--config", file, "--host", "::1", "--data-dir", "/flag"]);
    assert_eq!(address, "[::1]:5000");
    assert_eq!(by_flag.data.dir.to_str(), Some("/flag"));
    let (_, market) = config(&["external", "--config", file, "--speed", "max", "--tape", "a", "b"]);
    assert_eq!(market.external.speed, Speed::Max);
    assert_eq!(market.external.seed, 3);
    assert_eq!(market.external.tapes.len(), 2);
    assert_eq!(market.external.rate, None, "a tape replaces the file's synthetic market");
}

#[test]
fn a_hostile_configuration_file_is_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("p.toml");
    let path = file.to_str().unwrap().to_owned();
    let huge = vec![b'#'; 1024 * 1024 + 1];
    for (bytes, part) in [
        (&b"\xff\xfe"[..], "cannot read"),
        (&huge, "larger than"),
        (b"[net]\nbrokr = 1", "brokr"),
        (b"[broker]\nring_frames = 3", "[broker] ring_frames"),
    ] {
        fs::write(&file, bytes).unwrap();
        let message = refusal(&["status", "--config", &path]);
        assert!(message.contains(part), "{message}");
    }
    assert!(refusal(&["status", "--config", dir.path().to_str().unwrap()]).contains("cannot read"));
}

#[test]
fn status_asks_every_node_and_stop_needs_only_the_directory() {
    let Request::Status(status) = request(&["status"]) else { panic!() };
    assert_eq!(status.nodes.len(), 8);
    assert_eq!(status.nodes[3].0, NodeId::Shard("A".parse().unwrap()));
    let Request::Stop(stop) = request(&["stop", "--data-dir", "/x"]) else { panic!() };
    assert_eq!(stop.dir.to_str(), Some("/x"));
}

#[test]
fn named_exchanges_are_nodes_of_status_and_their_breakers_are_of_core() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("p.toml");
    let text = "[[exchange]]\nname = \"xnas\"\n[[exchange]]\nname = \"12345-78\"\n\
                [[exchange]]\nname = \"away\"\nrun = false\naddress = 5\n";
    fs::write(&file, text).unwrap();
    let file = ["--config", file.to_str().unwrap()];
    let Request::Status(status) = request(&[&["status"][..], &file].concat()) else { panic!() };
    let first = status.nodes.iter().take(3).map(|(node, at)| format!("{node} {at}"));
    let want = ["xnas 127.0.0.1:8080", "12345-78 127.0.0.1:8180", "broker 127.0.0.1:8081"];
    assert_eq!(first.collect::<Vec<_>>(), want);
    for name in ["core.xnas", "core.12345-78", "core.12345-78.req", "core.away.req"] {
        let arguments = [&["breaker", name, "close"][..], &file].concat();
        let Request::Breaker(request) = request(&arguments) else { panic!() };
        assert_eq!(request.owner().map(|(node, _)| node), Some(NodeId::Core), "{name}");
    }
    for name in ["xnas.core", "corexnas"] {
        let Request::Breaker(request) = request(&["breaker", name, "close"]) else { panic!() };
        assert_eq!(request.owner(), None, "{name}");
    }
}

#[test]
fn help_and_version_are_answers_and_not_errors() {
    for arguments in [&["pregao", "--help"][..], &["pregao", "--version"], &["pregao"]] {
        let error = CommandLine::try_parse_from(arguments).unwrap_err();
        assert!(is_answer(error.kind()), "{arguments:?}");
    }
    let version = CommandLine::try_parse_from(["pregao", "--version"]).unwrap_err().to_string();
    assert_eq!(version, format!("pregao {}\n", super::VERSION));
    assert_eq!(version.contains("planted"), cfg!(feature = "planted"), "{version}");
    assert_eq!(version.contains("parquet"), cfg!(feature = "parquet"), "{version}");
}
