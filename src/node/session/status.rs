//! How every node answers a status query: METRIC and TEXT frames, then the end.

use std::collections::BTreeMap;

use super::Connections;
use crate::histogram::Histogram;
use crate::node::ConnId;
use crate::wire::{EndStatus, Ended, I64, Metric, Run, Text, U32, padded};

/// Bytes of a text that one TEXT frame has room for.
const TEXT_BYTES: usize = 28;

/// What a node says about itself.
#[derive(Clone, Debug, Default)]
pub struct Status {
    metrics: Vec<(String, i64)>,
    texts: Vec<(String, String)>,
}

impl Status {
    /// Adds a figure; the name ends with its unit, when it has one.
    pub fn metric(&mut self, name: impl Into<String>, value: impl TryInto<i64>) {
        self.metrics.push((name.into(), value.try_into().unwrap_or(i64::MAX)));
    }

    /// Adds a histogram: how many took no longer than each limit, how many there are, and all of them together in
    /// microseconds. The name ends with `_us`.
    pub fn histogram(&mut self, name: &str, histogram: &Histogram) {
        for (limit_us, count) in histogram.cumulative() {
            self.metric(format!("{name}.le_{limit_us}"), count);
        }
        self.metric(format!("{name}.count"), histogram.count());
        self.metric(format!("{name}.sum"), histogram.sum_us());
    }

    /// Adds a text.
    pub fn text(&mut self, name: impl Into<String>, text: impl Into<String>) {
        self.texts.push((name.into(), text.into()));
    }

    /// All of it: figures, and words.
    pub(crate) fn parts(&self) -> (BTreeMap<String, i64>, BTreeMap<String, String>) {
        (self.metrics.iter().cloned().collect(), self.texts.iter().cloned().collect())
    }

    /// All of it as one object of JSON, in the order of its names.
    pub(crate) fn json(&self) -> String {
        let text = |(name, text): &(String, String)| (name.clone(), text.clone().into());
        let metric = |(name, value): &(String, i64)| (name.clone(), (*value).into());
        let all: serde_json::Map<String, serde_json::Value> =
            self.texts.iter().map(text).chain(self.metrics.iter().map(metric)).collect();
        serde_json::Value::Object(all).to_string()
    }

    /// Everything in it, for tests.
    #[cfg(test)]
    pub(crate) fn told(&self) -> Vec<String> {
        let texts = self.texts.iter().map(|(name, text)| format!("{name} {text}"));
        texts.chain(self.metrics.iter().map(|(name, value)| format!("{name} {value}"))).collect()
    }

    /// Sends it all as the answer to query `id`.
    pub fn send<P>(&self, connections: &mut Connections<P>, conn: ConnId, id: u32) {
        let id = U32::new(id);
        connections.send(conn, Run { id, ..Run::default() });
        for (name, text) in &self.texts {
            let name = padded(name);
            for piece in text.as_bytes().chunks(TEXT_BYTES) {
                let text = padded(&String::from_utf8_lossy(piece));
                connections.send(conn, Text { id, name, text, ..Text::default() });
            }
        }
        for (name, value) in &self.metrics {
            let (name, value) = (padded(name), I64::new(*value));
            connections.send(conn, Metric { id, value, name, ..Metric::default() });
        }
        let status = EndStatus::Complete as u8;
        connections.send(conn, Ended { id, status, ..Ended::default() });
    }
}
