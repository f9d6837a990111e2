//! `pregao status`: what each node says about itself.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::Serialize;

use super::json_line;

/// Whether a node could be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Reachability {
    /// It answered.
    Ok,
    /// Nobody listens, or the connection was lost.
    Refused,
    /// No answer before the deadline.
    Timeout,
    /// It answered with an error.
    Failed,
}

/// One node's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NodeReport {
    /// Its name.
    pub node: String,
    /// Where it was asked.
    pub address: SocketAddr,
    /// Whether it answered.
    pub status: Reachability,
    /// From asking to its last frame.
    pub elapsed_us: u64,
    /// Its METRIC frames: dotted name with the unit last, and value.
    pub figures: BTreeMap<String, i64>,
    /// Its TEXT frames.
    pub words: BTreeMap<String, String>,
}

/// A node's report as one line of JSON, without its end.
#[must_use]
pub fn status_json(report: &NodeReport) -> String {
    json_line(report)
}

/// All nodes as text, without the last line's end: one line each, and its figures indented below.
#[must_use]
pub fn status_table(reports: &[NodeReport]) -> String {
    let mut lines = Vec::new();
    for report in reports {
        let status = match report.status {
            Reachability::Ok => format!("ok, {} us", report.elapsed_us),
            Reachability::Refused => "refused: nobody listens there".to_owned(),
            Reachability::Timeout => format!("no answer in {} us", report.elapsed_us),
            Reachability::Failed => "answered with an error".to_owned(),
        };
        lines.push(format!("{:<10} {:<21} {status}", report.node, report.address.to_string()));
        for (name, word) in &report.words {
            lines.push(format!("  {name:<40} {word:>20}"));
        }
        for (name, value) in &report.figures {
            lines.push(format!("  {name:<40} {value:>20}"));
        }
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reports() -> [NodeReport; 2] {
        let core = NodeReport {
            node: "core".into(),
            address: "127.0.0.1:8082".parse().unwrap(),
            status: Reachability::Ok,
            elapsed_us: 250,
            figures: BTreeMap::from([("journal.accepted_seq".into(), i64::MIN)]),
            words: BTreeMap::from([("breaker.state".into(), "closed".into())]),
        };
        let shard = NodeReport {
            node: "shard-A".into(),
            address: "[::1]:9001".parse().unwrap(),
            status: Reachability::Refused,
            figures: BTreeMap::new(),
            words: BTreeMap::new(),
            ..core.clone()
        };
        [core, shard]
    }

    #[test]
    fn json_is_one_object_per_node() {
        assert_eq!(
            status_json(&reports()[0]),
            r#"{"node":"core","address":"127.0.0.1:8082","status":"ok","elapsed_us":250,"figures":{"journal.accepted_seq":-9223372036854775808},"words":{"breaker.state":"closed"}}"#
        );
    }

    #[test]
    fn the_table_fits_80_columns() {
        let text = status_table(&reports());
        let want = "\
core       127.0.0.1:8082        ok, 250 us
  breaker.state                                          closed
  journal.accepted_seq                     -9223372036854775808
shard-A    [::1]:9001            refused: nobody listens there";
        assert_eq!(text, want);
    }
}
