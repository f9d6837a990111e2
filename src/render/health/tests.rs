use std::collections::BTreeMap;

use super::*;
use crate::render::{BreakerReport, NodeReport, take_breakers};

fn node(name: &str, words: &[(&str, &str)], figures: &[(&str, i64)]) -> NodeReport {
    let own = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    NodeReport {
        node: name.to_owned(),
        address: "127.0.0.1:1".parse().unwrap(),
        status: Reachability::Ok,
        elapsed_us: 90,
        condition: Condition::Ok,
        trouble: None,
        breakers: Vec::new(),
        figures: figures.iter().map(|(key, value)| ((*key).to_owned(), *value)).collect(),
        words: words.iter().map(own).collect(),
    }
}

/// A system in which all is well.
fn well() -> Vec<NodeReport> {
    let core = [("exchange", "live"), ("broker", "streaming"), ("shard-A", "streaming")];
    let core = node("core", &core, &[("exchange.last_event_ms", 12), ("held_back", 0)]);
    let feeder = [("feeder", "connected"), ("role", "shard-A")];
    let shard = node("shard-A", &feeder, &[("behind_ms", 400), ("held_back", 0)]);
    let broker = node("broker", &[("role", "broker")], &[("source.1.publisher_up", 1)]);
    let external = node("external", &[("feed", "tape")], &[]);
    vec![external, broker, core, shard, node("aggregator", &[], &[])]
}

fn breaker(name: &str, state: &str) -> BreakerReport {
    let mut words = BTreeMap::from([(format!("{name}.state"), state.to_owned())]);
    take_breakers(&mut words, &mut BTreeMap::new()).pop().unwrap()
}

/// What is said of one node, and of all, after this change of a system that was well.
fn changed(name: &str, change: impl Fn(&mut NodeReport)) -> (Condition, String, Finding) {
    let mut reports = well();
    change(reports.iter_mut().find(|report| report.node == name).unwrap());
    judge(&mut reports);
    let found = reports.iter().find(|report| report.node == name).unwrap();
    (found.condition, found.trouble.clone().unwrap_or_default(), overall(&reports))
}

fn say(word: &str, text: &str) -> impl Fn(&mut NodeReport) {
    move |report| {
        report.words.insert(word.to_owned(), text.to_owned());
    }
}

fn count(figure: &str, value: i64) -> impl Fn(&mut NodeReport) {
    move |report| {
        report.figures.insert(figure.to_owned(), value);
    }
}

#[test]
fn a_system_in_which_all_is_well_says_so() {
    let mut reports = well();
    judge(&mut reports);
    assert!(reports.iter().all(|it| it.condition == Condition::Ok), "{reports:?}");
    let first = overall(&reports);
    assert_eq!(first.condition, Condition::Ok);
    assert_eq!(first.text, "the market flows; the last event came 12 ms ago");
}

#[test]
fn a_full_disk_of_core_is_what_is_said_first() {
    let (condition, text, first) = changed("core", |core| {
        say("journal", "waits: no space left for /d; free some")(core);
        count("held_back", 1)(core);
        say("exchange", "behind")(core);
    });
    assert_eq!(condition, Condition::Stopped);
    assert_eq!(text, "takes nothing in: no space left for /d; free some");
    assert_eq!(first.text, format!("core: {text}"));
    let (condition, text, _) = changed("core", say("journal", "waits: no space left for /d"));
    let waits = "its journal waits: no space left for /d";
    assert_eq!((condition, text.as_str()), (Condition::Trouble, waits), "it has room yet");
}

#[test]
fn an_exchange_with_another_feed_stops_the_market_and_the_remedy_is_named() {
    let (condition, text, _) = changed("core", say("exchange", "another feed"));
    assert_eq!(condition, Condition::Stopped);
    assert!(text.starts_with("takes nothing in") && text.contains("--append"), "{text}");
}

#[test]
fn each_trouble_of_a_node_stands_in_its_line() {
    enum Change {
        Say(&'static str, &'static str),
        Count(&'static str, i64),
        Do(fn(&mut NodeReport)),
    }
    let faults: [(&str, Change, &str); 11] = [
        ("core", Change::Count("clock_refused", 1), "the wall clock is not believed"),
        ("shard-A", Change::Say("log", "displaced: /d was moved"), "waits: /d was moved"),
        ("shard-A", Change::Say("feeder", "none"), "core does not feed it"),
        ("shard-A", Change::Count("behind_ms", 12_300), "is behind core by 12.3 s"),
        ("shard-A", Change::Count("behind_ms", -1), "has not caught up"),
        ("shard-A", Change::Count("front_missing", 1), "the front of its history"),
        ("broker", Change::Count("source.1.publisher_up", 0), "core does not publish to it"),
        ("broker", Change::Do(|it| it.figures.clear()), "core does not publish to it"),
        ("external", Change::Do(|it| it.status = Reachability::Refused), "nobody listens"),
        ("shard-A", Change::Do(|it| it.status = Reachability::Timeout), "no answer in 90 us"),
        (
            "aggregator",
            Change::Do(|it| it.breakers.push(breaker("aggregator.shard-A", "forced-open"))),
            "the breaker aggregator.shard-A is forced-open",
        ),
    ];
    for (name, change, says) in faults {
        let (condition, text, first) = changed(name, |report| match change {
            Change::Say(of, word) => say(of, word)(report),
            Change::Count(of, number) => count(of, number)(report),
            Change::Do(change) => change(report),
        });
        assert_eq!(condition, Condition::Trouble, "{name}: {text}");
        assert!(text.contains(says), "{name}: {text}");
        assert_eq!(first, Finding { condition, text: format!("{name}: {text}") });
        assert!(first.condition.is_fault());
    }
    let (_, _, first) = changed("core", |core| core.status = Reachability::Timeout);
    assert_eq!(first.condition, Condition::Stopped, "without core nothing flows");
}

#[test]
fn a_node_that_others_reach_says_so_and_it_is_no_fault() {
    let mut reports = well();
    reports[1].figures.insert("insecure".to_owned(), 1);
    judge(&mut reports);
    assert_eq!(reports[1].condition, Condition::Note);
    assert!(reports[1].trouble.as_deref().unwrap().starts_with("insecure: other machines"));
    assert_eq!(overall(&reports).condition, Condition::Ok);
}

#[test]
fn what_core_says_of_a_node_stands_in_the_line_of_that_node() {
    let mut reports = well();
    reports[2].words.insert("shard-A.feed".to_owned(), "refused: holds another history".to_owned());
    reports[2].words.insert("broker".to_owned(), "catching up".to_owned());
    judge(&mut reports);
    let found = |index: usize| (reports[index].condition, reports[index].trouble.as_deref());
    let refused = "core does not feed it: refused: holds another history";
    assert_eq!(found(3), (Condition::Trouble, Some(refused)));
    assert_eq!(found(1), (Condition::Note, Some("is catching up with core")));
    assert_eq!(found(2), (Condition::Ok, None));
}

#[test]
fn an_exchange_that_is_sick_or_has_ended_is_no_fault_of_the_system() {
    let (condition, _, first) = changed("core", |core| {
        say("exchange", "silent")(core);
        count("exchange.silent_ms", 5_200)(core);
        core.breakers.push(breaker("core.requests", "open"));
    });
    assert_eq!(condition, Condition::Stale);
    let text = "the exchange has said nothing for 5.2 s; quotes are the last known";
    assert_eq!((first.text.as_str(), first.condition.is_fault()), (text, false));
    let (_, _, first) = changed("core", say("exchange", "waiting"));
    assert_eq!(first.condition, Condition::Stale);
    assert!(first.text.contains("no session with the exchange"), "{first:?}");
    let (condition, _, first) = changed("core", say("exchange", "ended"));
    assert_eq!((condition, first.condition.is_fault()), (Condition::Ended, false));
    assert_eq!(first.text, "the exchange's feed has ended; the last event came 12 ms ago");
}

#[test]
fn of_many_troubles_the_worst_is_said_and_the_others_are_counted() {
    let mut reports = well();
    for index in [0, 3, 4] {
        reports[index].status = Reachability::Refused;
    }
    judge(&mut reports);
    let first = overall(&reports);
    assert_eq!(first.text, "external: refused: nobody listens there (and 2 more below)");
    reports[2].figures.insert("held_back".to_owned(), 1);
    reports[2].words.insert("journal".to_owned(), "waits: no space left for /d".to_owned());
    judge(&mut reports);
    let first = overall(&reports);
    assert_eq!(first.text, "core: takes nothing in: no space left for /d (and 3 more below)");
}

#[test]
fn one_of_several_exchanges_is_named_and_the_others_go_on() {
    let mut several = well();
    let core = several.iter_mut().find(|it| it.node == "core").unwrap();
    core.words.remove("exchange");
    for name in ["exchange.b3", "exchange.xnas"] {
        core.words.insert(name.to_owned(), "live".to_owned());
        core.figures.insert(format!("{name}.last_event_ms"), 700);
    }
    let judged = |phase: &str| {
        let mut reports = several.clone();
        let core = reports.iter_mut().find(|it| it.node == "core").unwrap();
        core.words.insert("exchange.xnas".to_owned(), phase.to_owned());
        core.figures.insert("exchange.xnas.silent_ms".to_owned(), 5_200);
        core.breakers.push(breaker("core.xnas", "open"));
        core.breakers.push(breaker("core.xnas.req", "open"));
        judge(&mut reports);
        let core = reports.iter().find(|it| it.node == "core").unwrap();
        (core.condition, core.trouble.clone().unwrap_or_default(), overall(&reports))
    };
    for (phase, condition, says) in [
        (
            "silent",
            Condition::Stale,
            "the exchange xnas has said nothing for 5.2 s; its quotes are",
        ),
        ("waiting", Condition::Stale, "there is no session with the exchange xnas"),
        ("mute", Condition::Note, "the exchange xnas is connected and has sent nothing for 700 ms"),
        ("ended", Condition::Note, "the exchange xnas's feed has ended"),
        ("another feed", Condition::Trouble, "takes nothing of the exchange xnas in"),
    ] {
        let (found, text, first) = judged(phase);
        assert_eq!(found, condition, "{phase}: {text}");
        assert!(text.starts_with(says), "{phase}: {text}");
        assert!(condition != Condition::Note || first.condition == Condition::Ok, "{first:?}");
    }
}
