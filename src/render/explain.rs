//! `pregao report --explain`: when and why each node was asked, as one line of JSON or as a table.

use serde::Serialize;

use super::report::{known_behind_s, table};
use super::{json_line, node_status_name};
use crate::client::Answer;
use crate::wire::{NodeExplain, NodeStatus, unpadded};

/// What became of each copy of each part of a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explained {
    nodes: Vec<ExplainedNode>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct ExplainedNode {
    /// Nodes with the same number hold the same part.
    part: u16,
    node: String,
    copy: u8,
    status: &'static str,
    /// Since the query; `None` when it was not asked.
    asked_us: Option<u32>,
    answered_us: Option<u32>,
    hedged: bool,
    retried: bool,
    failed_over: bool,
    chosen: bool,
    rows: u32,
    bytes: u64,
    as_of: u64,
    /// For how many seconds it has not had all that core has; `None`: it did not answer, or does not know.
    behind_s: Option<u16>,
}

#[derive(Serialize)]
struct ExplainJson<'a> {
    explain: &'a [ExplainedNode],
}

impl Explained {
    /// From an answer that was asked to explain itself: each explanation stands behind its node.
    #[must_use]
    pub fn of(answer: &Answer) -> Explained {
        let pairs = answer.nodes.iter().zip(&answer.explained);
        let node = |(node, explain): (&crate::wire::NodeAnswer, &NodeExplain)| {
            let is = |flag: u8| explain.what & flag != 0;
            let if_asked = |us: u32| is(NodeExplain::ASKED).then_some(us);
            let status = NodeStatus::from_number(node.status).unwrap_or(NodeStatus::Failed);
            ExplainedNode {
                part: explain.part.get(),
                node: unpadded(&node.name),
                copy: explain.copy,
                status: node_status_name(status),
                asked_us: if_asked(explain.asked_us.get()),
                answered_us: if_asked(explain.answered_us.get()),
                hedged: is(NodeExplain::HEDGED),
                retried: is(NodeExplain::RETRIED),
                failed_over: is(NodeExplain::FAILED_OVER),
                chosen: is(NodeExplain::CHOSEN),
                rows: node.rows.get(),
                bytes: explain.bytes.get(),
                as_of: node.as_of.get(),
                behind_s: known_behind_s(status, node.behind_s.get()),
            }
        };
        Explained { nodes: pairs.map(node).collect() }
    }

    /// As one line of JSON, without its end.
    #[must_use]
    pub fn json(&self) -> String {
        json_line(&ExplainJson { explain: &self.nodes })
    }

    /// As a table of at most 80 columns.
    #[must_use]
    pub fn table(&self) -> String {
        let header = ["NODE", "STATUS", "WHY", "ASKED", "DONE us", "ROWS", "BYTES", "AS OF"];
        let row = |node: &ExplainedNode| {
            let us = |us: Option<u32>| us.map_or_else(|| "-".to_owned(), |us| us.to_string());
            let why = match (node.asked_us, node.hedged, node.retried, node.chosen) {
                (None, ..) => "-",
                (_, true, _, true) => "hedge, won",
                (_, true, ..) => "hedge",
                (_, _, true, _) => "retry",
                _ if node.failed_over => "fail-over",
                _ => "first",
            };
            vec![
                node.node.clone(),
                node.status.to_owned(),
                why.to_owned(),
                us(node.asked_us),
                us(node.answered_us),
                node.rows.to_string(),
                node.bytes.to_string(),
                node.as_of.to_string(),
            ]
        };
        table(&header, 3, self.nodes.iter().map(row).collect()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{NodeAnswer, U16, U32, U64, padded};

    fn answer() -> Answer {
        let node = |name: &str, status: NodeStatus| NodeAnswer {
            status: status as u8,
            rows: U32::new(30_000),
            as_of: U64::new(9_999_999_999),
            name: padded(name),
            ..NodeAnswer::default()
        };
        let explain = |what: u8| NodeExplain {
            what,
            copy: 1,
            part: U16::new(2),
            asked_us: U32::new(1_234),
            answered_us: U32::new(500_000),
            bytes: U64::new(1_920_064),
            ..NodeExplain::default()
        };
        Answer {
            nodes: vec![
                node("shard-A", NodeStatus::BreakerOpen),
                node("shard-A.1", NodeStatus::Ok),
            ],
            explained: vec![explain(0), explain(1 | 2 | 8)],
            ..Answer::default()
        }
    }

    #[test]
    fn the_table_fits_eighty_columns_and_says_why() {
        let table = Explained::of(&answer()).table();
        assert!(table.lines().all(|line| line.chars().count() <= 80), "\n{table}");
        assert!(table.contains("hedge, won") && table.contains("breaker-open"), "\n{table}");
    }

    #[test]
    fn json_has_exactly_the_documented_fields() {
        assert_eq!(
            Explained::of(&answer()).json(),
            r#"{"explain":[{"part":2,"node":"shard-A","copy":1,"status":"breaker-open","asked_us":null,"answered_us":null,"hedged":false,"retried":false,"failed_over":false,"chosen":false,"rows":30000,"bytes":1920064,"as_of":9999999999,"as_of_text":"9999999999","behind_s":null},{"part":2,"node":"shard-A.1","copy":1,"status":"ok","asked_us":1234,"answered_us":500000,"hedged":true,"retried":false,"failed_over":false,"chosen":true,"rows":30000,"bytes":1920064,"as_of":9999999999,"as_of_text":"9999999999","behind_s":0}]}"#
        );
    }
}
