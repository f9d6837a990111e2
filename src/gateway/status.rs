//! How all nodes are: each is asked, and what they say is judged as `pregao status` does. One round of questions serves
//! everybody who asks within a second.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use super::front::{Front, Ticket, Unanswered};
use crate::client::Answer;
use crate::limits;
use crate::metrics::Text;
use crate::node::session::Status;
use crate::question::Question;
use crate::render::health::{Condition, judge, overall};
use crate::render::{NodeReport, Reachability, json_line, status_json, take_breakers};
use crate::time::{Mono, Now};
use crate::wire::{Op, Query};

/// The reports of all nodes, and who waits for them.
#[derive(Debug)]
pub(super) struct Nodes {
    addresses: Vec<(String, SocketAddr)>,
    reports: Vec<NodeReport>,
    /// When they were complete.
    at: Option<Mono>,
    asked_at: Mono,
    asked: BTreeSet<Ticket>,
    answers: BTreeMap<usize, (Result<Answer, Unanswered>, u64)>,
}

#[derive(serde::Serialize)]
struct Summary<'a> {
    condition: Condition,
    text: &'a str,
}

impl Nodes {
    pub(super) fn new(addresses: Vec<(String, SocketAddr)>) -> Nodes {
        Nodes {
            addresses,
            reports: Vec::new(),
            at: None,
            asked_at: Mono::default(),
            asked: BTreeSet::new(),
            answers: BTreeMap::new(),
        }
    }

    /// What is known, if it is young enough.
    pub(super) fn fresh(&self, now: Now) -> Option<&[NodeReport]> {
        let at = self.at?;
        (now.mono.since(at) <= limits::GATEWAY_STATUS_AGE_MAX).then_some(&self.reports)
    }

    /// Asks all nodes, unless they are being asked.
    pub(super) fn ask(&mut self, now: Now, front: &mut Front) {
        if !self.asked.is_empty() {
            return;
        }
        self.answers.clear();
        self.asked_at = now.mono;
        let query = Query { op: Op::Status as u8, ..Query::default() };
        for (name, _) in &self.addresses {
            let Some(place) = front.place(name) else { continue };
            let asked = match Question::new(&query) {
                Ok(question) => front.ask(now, place, question, limits::GATEWAY_STATUS_WAIT),
                Err(_) => Err(Unanswered::Away),
            };
            match asked {
                Ok(ticket) => drop(self.asked.insert(ticket)),
                Err(why) => drop(self.answers.insert(place, (Err(why), 0))),
            }
        }
        if self.asked.is_empty() {
            self.conclude(now);
        }
    }

    /// Whether this answer was for here; it is taken then.
    pub(super) fn take(
        &mut self,
        now: Now,
        ticket: Ticket,
        answer: Result<Answer, Unanswered>,
    ) -> Option<Result<Answer, Unanswered>> {
        if !self.asked.remove(&ticket) {
            return Some(answer);
        }
        let elapsed_us =
            u64::try_from(now.mono.since(self.asked_at).as_micros()).unwrap_or(u64::MAX);
        self.answers.insert(ticket.node, (answer, elapsed_us));
        if self.asked.is_empty() {
            self.conclude(now);
        }
        None
    }

    fn conclude(&mut self, now: Now) {
        let answers = std::mem::take(&mut self.answers);
        let mut reports = Vec::new();
        for (place, (answer, elapsed_us)) in answers {
            let Some((name, address)) = self.addresses.get(place) else { continue };
            let status = match &answer {
                Ok(_) => Reachability::Ok,
                Err(Unanswered::Late) => Reachability::Timeout,
                Err(Unanswered::Broken | Unanswered::Away | Unanswered::BreakerOpen) => {
                    Reachability::Refused
                }
                Err(Unanswered::Busy | Unanswered::Full) => Reachability::Failed,
            };
            let answer = answer.unwrap_or_default();
            let mut figures = answer.metrics.into_iter().collect();
            let mut words = answer.texts.into_iter().collect();
            reports.push(NodeReport {
                node: name.clone(),
                address: *address,
                status,
                elapsed_us,
                breakers: take_breakers(&mut words, &mut figures),
                figures,
                words,
                condition: Condition::Ok,
                trouble: None,
            });
        }
        judge(&mut reports);
        (self.reports, self.at) = (reports, Some(now.mono));
    }

    /// All of it as one object: what is worst, the gateway itself, and each node as `pregao status --format json` has it.
    pub(super) fn json(&self, playground: bool, gateway: &str) -> String {
        let finding = overall(&self.reports);
        let summary = Summary { condition: finding.condition, text: &finding.text };
        let nodes: Vec<String> = self.reports.iter().map(status_json).collect();
        let (complete, left_out) = (self.is_complete(), self.left_out());
        format!(
            "{{\"complete\":{complete},\"left_out\":{left_out},\"playground\":{playground},\"overall\":{},\"gateway\":{gateway},\"nodes\":[{}]}}\n",
            json_line(&summary),
            nodes.join(",")
        )
    }

    /// Whether all nodes have answered.
    pub(super) fn is_complete(&self) -> bool {
        self.reports.iter().all(|it| it.status == Reachability::Ok)
    }

    /// The nodes that have not, and why, as JSON.
    fn left_out(&self) -> String {
        let away = self.reports.iter().filter(|it| it.status != Reachability::Ok);
        let away = away.map(|it| serde_json::json!({ "node": it.node, "reason": it.status }));
        serde_json::Value::from_iter(away).to_string()
    }

    /// The same as lines, one a node, and an end.
    pub(super) fn lines(&self) -> String {
        let lines = self.reports.iter().map(|report| format!("{}\n", status_json(report)));
        let (complete, left_out) = (self.is_complete(), self.left_out());
        let end = format!("{{\"kind\":\"end\",\"complete\":{complete},\"left_out\":{left_out}}}\n");
        lines.chain([end]).collect()
    }

    /// All of it as figures for a monitoring system, this gateway's among them.
    pub(super) fn metrics(&self, own: &Status, is_ready: bool) -> String {
        let mut reports = self.reports.clone();
        reports.push(NodeReport::of_own("gateway", own));
        // The gateway has breakers of its own, and core's word counts about the others.
        judge(&mut reports);
        Text::of(&reports).with_ready(is_ready).write()
    }

    /// Why the system cannot serve all that it should, if it cannot.
    pub(super) fn fault(&self) -> Option<String> {
        let finding = overall(&self.reports);
        finding.condition.is_fault().then_some(finding.text)
    }
}
