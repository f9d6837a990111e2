//! `pregao watch` on a terminal, driven by keys as a user does, with a real system behind it.

use std::process::Command;

use rustix::process::Signal;

use super::process::{PROGRAM, Process};
use super::system::{Place, System};
use super::terminal::Drawn;

const SIZE: (u16, u16) = (80, 24);

fn start(place: &Place, size: (u16, u16)) -> Drawn {
    let mut command = Command::new(PROGRAM);
    command.args(place.arguments("watch", &["--bars", "1s"]));
    command.env("TERM", "xterm").env_remove("NO_COLOR");
    Drawn::start(&mut command, size)
}

/// The line of the list on which PETR4 is, once it has traded.
fn wait_petr4(watch: &Drawn) {
    let is_it = |line: &String| line.contains("PETR4 ") && line.matches('.').count() > 3;
    watch.wait_for("a quote of PETR4", |lines| lines.iter().any(is_it));
}

#[test]
fn an_instrument_is_seen_and_chosen_and_the_terminal_is_given_back() {
    let system = System::start(&["--rate=300", "--chaos=off"]);
    let mut watch = start(&system.place, SIZE);
    watch.wait("LIVE");
    wait_petr4(&watch);
    assert!(watch.is_taken());
    // Its volume comes from history.
    watch.wait_for("a volume", |lines| {
        let first = lines.iter().find(|line| line.contains("ABEV3 "));
        let cells = first.map(|line| line.split_whitespace().collect::<Vec<_>>());
        cells.is_some_and(|cells| {
            cells.iter().rev().nth(1).is_some_and(|it| it.parse::<u64>().is_ok())
        })
    });
    watch.press("/PETR4\r");
    watch.wait("1 of ");
    watch.press("\r");
    watch.wait("▸2 PETR4");
    // Bars of history and of live trades, and trades of the tape.
    watch.wait_for("three bars", |lines| {
        let count = lines.iter().find_map(|line| line.split("1s bars: ").nth(1));
        let count = count.and_then(|rest| rest.split(|it: char| !it.is_ascii_digit()).next());
        count.is_some_and(|count| count.parse::<u32>().is_ok_and(|count| count >= 3))
    });
    watch.wait_for("a buy and a sell", |lines| {
        ["0 B", "0 S"].iter().all(|side| lines.iter().any(|line| line.ends_with(side)))
    });
    watch.press("\t");
    watch.wait("aggregator.core");
    watch.wait("OK: the market flows");
    watch.resize(100, 40);
    watch.wait_for("a line at the bottom of a larger screen", |lines| {
        lines.len() == 40 && lines[39].contains("q quit")
    });
    watch.resize(50, 10);
    watch.wait("watch needs 60x15.");
    assert!(watch.has_color());
    watch.press("q");
    assert_eq!(watch.finish(), (Some(0), String::new()));
}

#[test]
fn every_end_gives_the_terminal_back() {
    let system = System::start(&["--rate=300", "--chaos=off"]);
    type End = fn(&mut Drawn);
    let ends: [(&str, End); 5] = [
        ("escape", |watch| watch.press("\x1b")),
        ("ctrl-c", |watch| watch.press("\x03")),
        ("terminate", |watch| watch.signal(Signal::TERM)),
        ("interrupt", |watch| watch.signal(Signal::INT)),
        ("hang up", |watch| watch.signal(Signal::HUP)),
    ];
    for (name, end) in ends {
        let mut watch = start(&system.place, SIZE);
        wait_petr4(&watch);
        assert!(watch.is_taken(), "{name}");
        end(&mut watch);
        assert_eq!(watch.finish(), (Some(0), String::new()), "{name}");
    }
}

#[test]
fn what_is_away_is_told_and_comes_back() {
    let system = System::start(&["--rate=300", "--chaos=off"]);
    let mut watch = start(&system.place, SIZE);
    wait_petr4(&watch);
    system.kill_only("broker");
    watch.wait("STALE for");
    watch.wait("~PETR4");
    system.wait_started_again("broker");
    watch.wait("LIVE");
    system.place.run("breaker", &["core.exchange", "force-open"]).expect(0);
    watch.wait("STALE for");
    watch.wait("STALE: there is no session with the exchange");
    watch.press("3");
    watch.wait("core.exchange      forced-open");
    watch.press("1");
    system.place.run("breaker", &["core.exchange", "close"]).expect(0);
    watch.wait("LIVE");
    // A shard that does not answer makes what it owns partial, and nothing else.
    super::system::signal(system.pid("shard-C"), Signal::STOP);
    watch.wait("partial without shard-C (timeout)");
    super::system::signal(system.pid("shard-C"), Signal::CONT);
    watch.wait_for("no partial answer", |lines| {
        lines.len() == 24 && !lines.iter().any(|line| line.contains("partial without"))
    });
    let place = system.stop();
    watch.wait("STALE for");
    watch.press("q");
    assert_eq!(watch.finish(), (Some(0), String::new()));
    // Where nothing runs at the start it is one line, as with every command, and the terminal is left alone.
    let (code, said) = start(&place, SIZE).finish();
    assert_eq!(code, Some(4), "{said}");
    assert!(said.contains("error: ") && said.contains("pregao all"), "{said}");
    assert!(!said.contains("1049"), "{said:?}");
}

#[test]
fn without_a_terminal_the_commands_that_print_are_named() {
    let place = Place::new();
    let told = |finished: &str| {
        for part in ["pregao subscribe", "pregao status"] {
            assert!(finished.contains(part), "{finished}");
        }
    };
    let finished = Process::start(&place.arguments("watch", &[])).finish();
    assert_eq!(finished.code(), 2);
    told(&finished.stderr.join("\n"));
    let mut dumb = Command::new(PROGRAM);
    dumb.args(place.arguments("watch", &[])).env("TERM", "dumb");
    let (code, said) = Drawn::start(&mut dumb, SIZE).finish();
    assert_eq!(code, Some(2), "{said}");
    // The terminal folds the line.
    told(&said.replace("\r\n", " "));
}

#[test]
fn no_color_is_honoured() {
    let system = System::start(&["--rate=300", "--chaos=off"]);
    let mut command = Command::new(PROGRAM);
    command.args(system.place.arguments("watch", &["PETR*"]));
    command.env("TERM", "xterm").env("NO_COLOR", "1");
    let mut watch = Drawn::start(&mut command, SIZE);
    wait_petr4(&watch);
    watch.press("2");
    watch.wait("bars: ");
    watch.press("3");
    watch.wait("aggregator.core");
    assert!(!watch.has_color());
    watch.press("q");
    assert_eq!(watch.finish(), (Some(0), String::new()));
}
