//! `pregao status`: what each node says about itself.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use anstyle::{AnsiColor, Style};
use serde::Serialize;

use super::breaker::{BreakerReport, breaker_counts, breaker_header, breaker_line, take_breakers};
use super::lines::{COLUMNS, styled, warning};
use super::screen::Screen;
use super::{elapsed, json_line, wrap};
use crate::node::session::Status;
use crate::render::health::{Condition, Finding, overall};

/// Whether a node could be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Reachability {
    /// It answered.
    Ok,
    /// Nobody listens, or the connection was lost.
    Refused,
    /// The network has no way to its address.
    Unreachable,
    /// No answer before the deadline.
    Timeout,
    /// It answered with an error.
    Failed,
    /// Something else listens there: what it sent is no frame.
    Foreign,
}

/// One node's answer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NodeReport {
    /// Its name.
    pub node: String,
    /// Where it was asked.
    pub address: SocketAddr,
    /// Whether it answered.
    pub status: Reachability,
    /// From asking to its last frame.
    pub elapsed_us: u64,
    /// How well it is: what it says of itself, and core of it. Known once the reports are judged.
    pub condition: Condition,
    /// The worst of that.
    pub trouble: Option<String>,
    /// Its circuit breakers.
    pub breakers: Vec<BreakerReport>,
    /// Its other METRIC frames: dotted name with the unit last, and value.
    pub figures: BTreeMap<String, i64>,
    /// Its other TEXT frames.
    pub words: BTreeMap<String, String>,
}

impl NodeReport {
    /// What a node says about itself without being asked over a connection. It is not judged.
    pub(crate) fn of_own(node: &str, status: &Status) -> NodeReport {
        let (mut figures, mut words) = status.parts();
        NodeReport {
            node: node.to_owned(),
            address: SocketAddr::from(([0, 0, 0, 0], 0)),
            status: Reachability::Ok,
            elapsed_us: 0,
            breakers: take_breakers(&mut words, &mut figures),
            figures,
            words,
            condition: Condition::Ok,
            trouble: None,
        }
    }
}

/// A node's report as one line of JSON, without its end.
#[must_use]
pub fn status_json(report: &NodeReport) -> String {
    json_line(report)
}

/// How much of a status is shown as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// A line for each node and for each breaker.
    Brief,
    /// Every figure too.
    Verbose,
}

/// All judged nodes as text, without the last line's end: what is worst, one line each, then the breakers under
/// their nodes' order, then, if wanted, every node's figures.
#[must_use]
pub fn status_table(reports: &[NodeReport], detail: Detail, screen: Screen) -> String {
    let width = screen.width();
    let mut lines = vec![first_line(&overall(reports), screen), String::new()];
    lines.extend(reports.iter().map(|report| node_line(report, screen)));
    let breakers: Vec<&BreakerReport> =
        reports.iter().flat_map(|report| &report.breakers).collect();
    if !breakers.is_empty() {
        lines.push(String::new());
        lines.push(breaker_header(width));
    }
    for breaker in breakers {
        lines.push(breaker_line(breaker, width));
        if detail == Detail::Verbose {
            lines.extend(breaker_counts(breaker));
        }
    }
    if detail == Detail::Verbose {
        for report in reports.iter().filter(|report| report.status == Reachability::Ok) {
            lines.push(String::new());
            lines.push(report.node.clone());
            for (name, word) in &report.words {
                lines.push(format!("  {name:<40} {word:>20}"));
            }
            // A histogram's classes are for programs: for people there are its count and its sum.
            for (name, value) in report.figures.iter().filter(|(name, _)| !name.contains(".le_")) {
                lines.push(format!("  {name:<40} {value:>20}"));
            }
        }
    }
    lines.join("\n")
}

/// One breaker as text, with its heading and counters.
#[must_use]
pub fn breaker_text(breaker: &BreakerReport) -> String {
    let mut lines = vec![breaker_header(COLUMNS), breaker_line(breaker, COLUMNS)];
    lines.extend(breaker_counts(breaker));
    lines.join("\n")
}

/// What is worst, and its word first.
fn first_line(finding: &Finding, screen: Screen) -> String {
    let (word, style) = word_of(finding.condition);
    let text = wrap(&format!("{word}: {}", finding.text), screen.width(), word.len() + 2);
    styled(screen.color, style, &text)
}

fn word_of(condition: Condition) -> (&'static str, Style) {
    match condition {
        Condition::Ok | Condition::Note => ("OK", AnsiColor::Green.on_default()),
        Condition::Ended => ("ENDED", warning()),
        Condition::Stale => ("STALE", warning()),
        Condition::Trouble => ("TROUBLE", AnsiColor::Red.on_default()),
        Condition::Stopped => ("STOPPED", AnsiColor::Red.on_default().bold()),
    }
}

/// A node: where it is, how long it took to answer, and its own worst trouble.
fn node_line(report: &NodeReport, screen: Screen) -> String {
    let head = format!("{:<10} {:<21} ", report.node, report.address.to_string());
    let took = || {
        // A sequence's place says most about its node in the least room.
        let seq = report.figures.get("next_seq");
        let seq = seq.map_or_else(String::new, |seq| format!(", next seq {seq}"));
        format!("ok, {}{seq}", elapsed(report.elapsed_us))
    };
    let style = match report.condition {
        Condition::Ok | Condition::Note => Style::new(),
        condition => word_of(condition).1,
    };
    let text = match &report.trouble {
        Some(trouble) if report.condition.is_fault() => trouble.clone(),
        Some(trouble) => format!("{}; {trouble}", took()),
        None => took(),
    };
    // Where there is little room, the text stands below.
    let (indent, gap) = if screen.width() < COLUMNS { (2, "\n  ") } else { (head.len(), "") };
    let room = screen.width().saturating_sub(indent);
    let text = wrap(&text, room, 0).replace('\n', &format!("\n{}", " ".repeat(indent)));
    format!(
        "{}{gap}{}",
        if gap.is_empty() { &head } else { head.trim_end() },
        styled(screen.color, style, &text)
    )
}

#[cfg(test)]
mod tests {
    use super::super::breaker::tests::breaker;
    use super::*;

    fn reports() -> [NodeReport; 2] {
        let core = NodeReport {
            node: "core".into(),
            address: "127.0.0.1:8082".parse().unwrap(),
            status: Reachability::Ok,
            elapsed_us: 250,
            figures: BTreeMap::from([("journal.accepted_seq".into(), i64::MIN)]),
            words: BTreeMap::from([("exchange".into(), "live".into())]),
            condition: Condition::Ok,
            trouble: None,
            breakers: vec![breaker()],
        };
        let shard = NodeReport {
            node: "shard-A".into(),
            address: "[::1]:9001".parse().unwrap(),
            status: Reachability::Refused,
            figures: BTreeMap::new(),
            words: BTreeMap::new(),
            condition: Condition::Trouble,
            trouble: Some("refused: nobody listens there".into()),
            breakers: Vec::new(),
            ..core.clone()
        };
        [core, shard]
    }

    #[test]
    fn json_is_one_object_per_node() {
        assert_eq!(
            status_json(&reports()[0]),
            r#"{"node":"core","address":"127.0.0.1:8082","status":"ok","elapsed_us":250,"condition":"ok","trouble":null,"breakers":[{"name":"aggregator.shard-A","state":"forced-open","since_ms":599999,"failure_rate":100.0,"slow_call_rate":null,"last_error":"no descriptor left in this process (EMFILE)","next_probe_ms":9999,"counts":{"answered":0,"come_back_later":0,"connect_deadline":0,"local_fault":0,"protocol_error":0,"refused":3,"request_deadline":0,"reset":0,"slow":0,"unreachable":0},"granted":5,"denied":0,"late":0,"opened":0,"changes":0,"reasons":{"closed":0,"come_back_later":0,"disabled":0,"failure_rate":0,"forced_open":0,"metrics_only":0,"probe_deadline":0,"probe_failed":0,"probe_slow":0,"probes_answered":0,"refusals":0,"reset":0,"slow_rate":0,"wait_over":0}}],"figures":{"journal.accepted_seq":-9223372036854775808},"words":{"exchange":"live"}}"#
        );
    }

    #[test]
    fn the_table_fits_80_columns() {
        let brief = "\
TROUBLE: shard-A: refused: nobody listens there

core       127.0.0.1:8082        ok, 250 us
shard-A    [::1]:9001            refused: nobody listens there

  BREAKER            STATE           FOR  FAIL  SLOW  PROBE  LAST ERROR
  aggregator.shard-A forced-open    599s  100%     -   9.9s  EMFILE";
        assert_eq!(status_table(&reports(), Detail::Brief, Screen::NONE), brief);
        let verbose = "
    refused 3, granted 5, denied 0, late 0, opened 0, changes 0

core
  exchange                                                 live
  journal.accepted_seq                     -9223372036854775808";
        assert_eq!(
            status_table(&reports(), Detail::Verbose, Screen::NONE),
            format!("{brief}{verbose}")
        );
    }

    #[test]
    fn forty_columns_fold_nothing_but_between_words() {
        let mut reports = reports();
        reports[0].condition = Condition::Stopped;
        let path = "/home/somebody/with/a/long/name/data/core/00000000000000000002.log";
        reports[0].trouble = Some(format!("takes nothing in: no space left for {path}; free some"));
        for columns in [40, 79, 80, 100] {
            let screen = Screen { columns: Some(columns), ..Screen::NONE };
            let text = status_table(&reports, Detail::Brief, screen);
            assert!(text.contains(path), "{text}");
            let is_wide = |line: &&str| {
                line.chars().count() > columns as usize && !line.trim_start().starts_with(path)
            };
            let wide: Vec<&str> = text.lines().filter(is_wide).collect();
            assert!(wide.is_empty(), "{columns}: {wide:?}");
        }
    }
}
