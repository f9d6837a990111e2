use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::breaker::OutcomeClass;
use crate::limits::METRICS_SAMPLES_MAX;

fn report(node: &str, figures: &[(&str, i64)], words: &[(&str, &str)]) -> NodeReport {
    NodeReport {
        node: node.to_owned(),
        address: "127.0.0.1:8082".parse().unwrap(),
        status: Reachability::Ok,
        elapsed_us: 2_500,
        condition: Condition::Ok,
        trouble: None,
        breakers: Vec::new(),
        figures: figures.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect(),
        words: words.iter().map(|(name, word)| ((*name).to_owned(), (*word).to_owned())).collect(),
    }
}

fn breaker(name: &str) -> BreakerReport {
    BreakerReport {
        name: name.to_owned(),
        state: "open".to_owned(),
        since_ms: 1_500,
        failure_rate: Some(62.5),
        slow_call_rate: None,
        last_error: None,
        next_probe_ms: None,
        counts: BTreeMap::from([("refused".to_owned(), 3)]),
        granted: 7,
        denied: 2,
        late: 0,
        opened: 1,
        changes: 1,
        reasons: BTreeMap::from([("refusals".to_owned(), 1), ("reset".to_owned(), 0)]),
    }
}

/// Figures that stand in no row of the table.
fn strangers(report: &NodeReport) -> impl Iterator<Item = &str> {
    let rows = Rows::new();
    let names = report.figures.keys().map(String::as_str);
    names.filter(move |name| rows.of(name).is_none() && !is_left_out(name))
}

/// The lines of a family, its two comments first.
fn lines_of<'a>(text: &'a str, family: &str) -> Vec<&'a str> {
    let is_of = |line: &&str| {
        let rest = line.trim_start_matches("# HELP ").trim_start_matches("# TYPE ");
        rest.strip_prefix(family).is_some_and(|rest| rest.starts_with([' ', '{']))
    };
    text.lines().filter(is_of).collect()
}

#[test]
fn a_figure_becomes_a_sample_of_its_node_in_the_base_unit() {
    let core = report(
        "core",
        &[
            ("exchange.silent_ms", 250),
            ("exchange.xnas.last_event_ms", -1),
            ("exchange.xnas.silent_ms", 1_000),
            ("shard-A.1.accepted_seq", 9),
            ("next_seq", 10),
        ],
        &[("role", "core"), ("exchange.xnas", "live"), ("shard-A.1", "streaming")],
    );
    let replica = report("shard-A.1", &[("next_seq", 9), ("duplicates", 4)], &[]);
    let text = Text::of(&[core, replica]).with_ready(true).write();
    let lines = |family: &str| lines_of(&text, family);
    assert_eq!(
        lines("pregao_exchange_silent_seconds"),
        [
            "# HELP pregao_exchange_silent_seconds Time since core heard anything of the exchange.",
            "# TYPE pregao_exchange_silent_seconds gauge",
            r#"pregao_exchange_silent_seconds{node="core",copy="0",exchange="external"} 0.25"#,
            r#"pregao_exchange_silent_seconds{node="core",copy="0",exchange="xnas"} 1.0"#,
        ]
    );
    // What nobody knows has no sample, and a family without one is not there.
    assert!(lines("pregao_exchange_last_event_seconds").is_empty());
    assert_eq!(
        lines("pregao_next_seq")[2..],
        [
            r#"pregao_next_seq{node="core",copy="0"} 10"#,
            r#"pregao_next_seq{node="shard-A",copy="1"} 9"#
        ]
    );
    assert_eq!(
        lines("pregao_frames_duplicate_total")[1..],
        [
            "# TYPE pregao_frames_duplicate_total counter",
            r#"pregao_frames_duplicate_total{node="shard-A",copy="1"} 4"#,
        ]
    );
    assert_eq!(
        lines("pregao_exchange_phase")[2..],
        [r#"pregao_exchange_phase{node="core",copy="0",exchange="xnas",phase="live"} 1"#]
    );
    assert_eq!(
        lines("pregao_follower_state")[2..],
        [r#"pregao_follower_state{node="core",copy="0",follower="shard-A.1",state="streaming"} 1"#]
    );
    assert_eq!(lines("pregao_metrics_left_out")[2..], ["pregao_metrics_left_out 0"]);
    assert_eq!(lines("pregao_system_ready")[2..], ["pregao_system_ready 1"]);
}

#[test]
fn a_node_that_says_nothing_is_there_as_down() {
    let mut away = report("broker", &[], &[]);
    (away.status, away.condition) = (Reachability::Refused, Condition::Trouble);
    let text = Text::of(&[away]).write();
    assert_eq!(
        lines_of(&text, "pregao_node_up")[2..],
        [r#"pregao_node_up{node="broker",copy="0"} 0"#]
    );
    let conditions = lines_of(&text, "pregao_node_condition");
    let set: Vec<&&str> = conditions.iter().filter(|line| line.ends_with(" 1")).collect();
    assert_eq!(set, [&r#"pregao_node_condition{node="broker",copy="0",condition="trouble"} 1"#]);
    assert_eq!(conditions.len(), 2 + Condition::ALL.len());
}

#[test]
fn a_breaker_has_one_state_and_all_its_counters() {
    let mut aggregator = report("aggregator", &[], &[]);
    aggregator.breakers = vec![breaker("aggregator.core")];
    let text = Text::of(&[aggregator]).write();
    let states = lines_of(&text, "pregao_breaker_state");
    assert_eq!(states.len(), 2 + State::ALL.len());
    let is_set = |line: &&&str| line.ends_with(" 1");
    assert_eq!(
        states.iter().filter(is_set).collect::<Vec<_>>(),
        [
            &r#"pregao_breaker_state{node="aggregator",copy="0",breaker="aggregator.core",state="open"} 1"#
        ]
    );
    let failed = lines_of(&text, "pregao_breaker_failure_ratio");
    assert!(failed[2].ends_with(r#"breaker="aggregator.core"} 0.625"#), "{failed:?}");
    assert!(lines_of(&text, "pregao_breaker_slow_ratio").is_empty());
    let why = r#"breaker="aggregator.core",reason="refusals"} 1"#;
    assert!(lines_of(&text, "pregao_breaker_changes_total").iter().any(|it| it.ends_with(why)));
    let denied = r#"breaker="aggregator.core",permit="denied"} 2"#;
    assert!(lines_of(&text, "pregao_breaker_permits_total").iter().any(|it| it.ends_with(denied)));
    assert!(OutcomeClass::ALL.iter().any(|class| class.key() == "refused"));
}

#[test]
fn what_a_node_names_cannot_end_a_line() {
    let hostile = report("core", &[("a\"} 1\nb.accepted_seq", 5)], &[("role", "core")]);
    let text = Text::of(&[hostile]).write();
    let lines = lines_of(&text, "pregao_follower_accepted_seq");
    let follower = r#"follower="a\"} 1\nb"} 5"#;
    assert!(lines.len() == 3 && lines[2].ends_with(follower), "{lines:?}");
}

#[test]
fn more_samples_than_the_bound_are_left_out_and_counted() {
    let figures: Vec<(String, i64)> =
        (0..METRICS_SAMPLES_MAX + 10).map(|number| (format!("{number}.questions"), 1)).collect();
    let figures: Vec<(&str, i64)> = figures.iter().map(|(name, it)| (name.as_str(), *it)).collect();
    let text = Text::of(&[report("aggregator", &figures, &[])]).write();
    assert!(text.lines().count() < METRICS_SAMPLES_MAX + 50);
    // Its own sample is over the bound too, if it stood behind the others.
    let left_out = lines_of(&text, "pregao_metrics_left_out");
    let count: i64 = left_out[2].rsplit_once(' ').unwrap().1.parse().unwrap();
    assert!(count >= 10, "{left_out:?}");
}

#[test]
fn a_histogram_is_told_in_seconds_and_only_by_its_own_figures() {
    let mut status = crate::node::session::Status::default();
    let mut histogram = crate::histogram::Histogram::default();
    for us in [5, 20, 20, 2_000_000] {
        histogram.note(std::time::Duration::from_micros(us));
    }
    status.histogram("shard-A.1.gather_us", &histogram);
    let report = NodeReport::of_own("aggregator", &status);
    assert_eq!(strangers(&report).count(), 0);
    let text = Text::of(&[report]).write();
    let lines = |end: &str| lines_of(&text, &format!("pregao_gather_seconds{end}")).join("\n");
    let labels = r#"node="aggregator",copy="0",leaf="shard-A.1""#;
    let name = "pregao_gather_seconds";
    assert!(lines("_bucket").contains(&format!("{name}_bucket{{{labels},le=\"1e-05\"}} 1\n")));
    assert!(lines("_bucket").contains(&format!("{name}_bucket{{{labels},le=\"1\"}} 3\n")));
    assert!(lines("_bucket").ends_with(&format!("{name}_bucket{{{labels},le=\"+Inf\"}} 4")));
    assert_eq!(lines("_count"), format!("{name}_count{{{labels}}} 4"));
    assert_eq!(lines("_sum"), format!("{name}_sum{{{labels}}} 2.000045"));
    // What looks like a part of one and is none is a stranger as any.
    let other = super::tests::report("core", &[("next_seq.count", 5), ("turn_us.le_x", 1)], &[]);
    assert_eq!(strangers(&other).count(), 2);
}

#[test]
fn a_figure_without_a_row_is_counted() {
    let report = report("core", &[("something_new", 5), ("next_seq", 1)], &[]);
    assert_eq!(strangers(&report).collect::<Vec<_>>(), ["something_new"]);
    let text = Text::of(&[report]).write();
    assert_eq!(lines_of(&text, "pregao_metrics_left_out")[2..], ["pregao_metrics_left_out 1"]);
    assert!(!text.contains("something_new"));
}

/// What `promtool check metrics` asks of names, and that each pattern stands once.
#[test]
fn the_table_is_in_order() {
    let (mut names, mut patterns) = (BTreeSet::new(), BTreeSet::new());
    for family in FAMILIES {
        let name = family.name;
        assert!(names.insert(name), "{name} stands twice");
        let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
        assert!(name.starts_with("pregao_") && name.bytes().all(is_plain), "{name}");
        assert_eq!(family.kind == Kind::Counter, name.ends_with("_total"), "{name}");
        assert_eq!(family.kind == Kind::Histogram, family.unit == Unit::Microseconds, "{name}");
        assert_eq!(family.unit != Unit::Whole, name.ends_with("_seconds"), "{name}");
        assert!(family.help.ends_with('.') && !family.help.contains('\n'), "{name}");
        let keys: BTreeSet<Option<&str>> = family.figures.iter().map(|it| key(it.label)).collect();
        assert_eq!(keys.len(), 1, "{name} has different labels");
        for figure in family.figures {
            assert!(patterns.insert(figure.pattern), "{} stands twice", figure.pattern);
            assert_eq!(figure.pattern.contains('*'), matches!(figure.label, Label::Part(_)));
        }
    }
    // No name is meant by two patterns: a part put for each `*` shows it.
    let rows = || FAMILIES.iter().flat_map(|family| family.figures);
    for row in rows() {
        let name = row.pattern.replace('*', "some-1.2");
        assert_eq!(rows().filter(|it| it.part(&name).is_some()).count(), 1, "{name}");
    }
}

/// The manual's table of series, one row each, in the words of the program.
#[test]
fn the_manual_has_every_series() {
    let mut core = report(
        "core",
        &[("broker.accepted_seq", 1)],
        &[("role", "core"), ("exchange", "live"), ("broker", "streaming")],
    );
    let all = BreakerReport {
        slow_call_rate: Some(1.0),
        next_probe_ms: Some(1),
        ..breaker("core.exchange")
    };
    core.breakers = vec![all];
    let text = Text::of(&[core]).with_ready(true);
    let mut rows = Vec::new();
    for family in text.families.iter().filter(|it| FAMILIES.iter().all(|of| of.name != it.name)) {
        let labels = family.samples[0].labels.iter().map(|(name, _)| *name);
        let labels = labels.filter(|name| !["node", "copy"].contains(name)).collect();
        rows.push(row(family.name, family.kind, labels, family.help));
    }
    for family in FAMILIES {
        let label = family.figures[0].label;
        rows.push(row(family.name, family.kind, key(label).into_iter().collect(), family.help));
    }
    let page = include_str!("../../manual/metrics.md");
    for row in &rows {
        assert!(page.contains(row), "this row is missing in src/manual/metrics.md:\n{row}");
    }
    let of_page = page.lines().filter(|line| line.starts_with("| `pregao_")).count();
    assert_eq!(of_page, rows.len(), "the page has rows of series that are not there");
}

fn row(name: &str, kind: Kind, labels: Vec<&str>, help: &str) -> String {
    let kind = format!("{kind:?}").to_lowercase();
    let labels: Vec<String> = labels.into_iter().map(|label| format!("`{label}`")).collect();
    format!("\n| `{name}` | {kind} | {} | {help} |\n", labels.join(", "))
}

fn key(label: Label) -> Option<&'static str> {
    match label {
        Label::None => None,
        Label::Fixed(key, _) | Label::Part(key) => Some(key),
    }
}
