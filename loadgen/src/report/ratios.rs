//! What `compare` says below its rows: our figures divided by a peer's of the same run.

use serde::Serialize;

use super::{Row, round, wrapped};

/// One pair. A figure is there where both rows have it and where it means something: latency and memory at a fixed
/// rate, deliveries at the highest one.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Ratio {
    scenario: &'static str,
    /// `OURS/PEER`.
    ratio: String,
    deliveries_per_s: Option<f64>,
    p99: Option<f64>,
    cpu_per_delivery: Option<f64>,
    bytes_per_subscriber: Option<f64>,
    /// Why there is none.
    missing: Option<String>,
}

/// Which peers each of ours is compared with.
fn is_pair(ours: &str, peer: &str) -> bool {
    match ours {
        "pregao" => matches!(peer, "redis" | "nats" | "mqtt"),
        "pregao-ws" => matches!(peer, "nats-ws" | "pregao"),
        _ => false,
    }
}

/// All pairs of these rows.
pub(crate) fn ratios(rows: &[Row], is_search: bool) -> Vec<Ratio> {
    let pairs = rows.iter().flat_map(|ours| rows.iter().map(move |peer| (ours, peer)));
    let pairs = pairs.filter(|(ours, peer)| is_pair(ours.target, peer.target));
    pairs.map(|(ours, peer)| Ratio::of(ours, peer, is_search)).collect()
}

impl Ratio {
    fn of(ours: &Row, peer: &Row, is_search: bool) -> Ratio {
        let bad = [ours, peer].into_iter().find(|row| !row.valid);
        let divide = |ours: Option<f64>, peer: Option<f64>| {
            let pair = ours.zip(peer).filter(|(_, peer)| *peer > 0.0 && bad.is_none());
            pair.map(|(ours, peer)| round(ours / peer))
        };
        let if_fixed = |value: Option<f64>| value.filter(|_| !is_search);
        Ratio {
            scenario: ours.scenario,
            ratio: format!("{}/{}", ours.target, peer.target),
            deliveries_per_s: divide(Some(ours.deliveries_per_s), Some(peer.deliveries_per_s))
                .filter(|_| is_search),
            p99: if_fixed(divide(Some(ours.p99_us), Some(peer.p99_us))),
            cpu_per_delivery: divide(
                ours.broker_cpu_ns_per_delivery,
                peer.broker_cpu_ns_per_delivery,
            ),
            bytes_per_subscriber: if_fixed(divide(
                ours.bytes_per_subscriber,
                peer.bytes_per_subscriber,
            )),
            missing: bad.map(|row| format!("{} is not valid", row.target)),
        }
    }

    /// The object on one line.
    pub(crate) fn json(&self) -> String {
        // Numbers and words: nothing that serialization can fail on.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The same in words.
    pub(crate) fn line(&self) -> String {
        let mut text = format!("{}:", self.ratio);
        let figures = [
            ("deliveries/s", self.deliveries_per_s),
            ("p99", self.p99),
            ("CPU per delivery", self.cpu_per_delivery),
            ("memory per subscriber", self.bytes_per_subscriber),
        ];
        let mut comma = "";
        for (name, value) in figures {
            if let Some(value) = value {
                text.push_str(&format!("{comma} {name} {value:.2} x"));
                comma = ",";
            }
        }
        match &self.missing {
            Some(why) => text.push_str(&format!(" no ratio, since {why}")),
            None if comma.is_empty() => text.push_str(" no figure that both have"),
            None => {}
        }
        wrapped(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(target: &'static str, deliveries_per_s: f64, p99_us: f64, valid: bool) -> Row {
        Row {
            target,
            deliveries_per_s,
            p99_us,
            valid,
            broker_cpu_ns_per_delivery: Some(p99_us / 10.0),
            ..Row::default()
        }
    }

    #[test]
    fn ours_is_divided_by_each_peer_and_nothing_by_an_invalid_row() {
        let rows = [
            row("pregao", 1000.0, 50.0, true),
            row("pregao-ws", 900.0, 80.0, true),
            row("nats-ws", 60.0, 400.0, true),
            row("bare", 1.0, 1.0, true),
        ];
        let searched = ratios(&rows, true);
        let lines: Vec<String> = searched.iter().map(Ratio::line).collect();
        assert_eq!(
            lines,
            [
                "\n  - pregao-ws/pregao: deliveries/s 0.90 x, CPU per delivery 1.60 x",
                "\n  - pregao-ws/nats-ws: deliveries/s 15.00 x, CPU per delivery 0.20 x"
            ]
        );
        let fixed = ratios(&rows[1..3], false);
        assert_eq!((fixed[0].p99, fixed[0].deliveries_per_s), (Some(0.2), None));
        let bad = [row("pregao-ws", 900.0, 80.0, true), row("nats-ws", 60.0, 400.0, false)];
        let [ratio] = &ratios(&bad, false)[..] else { panic!("one pair") };
        assert_eq!((ratio.p99, ratio.cpu_per_delivery), (None, None));
        assert!(ratio.line().contains("no ratio, since nats-ws is not valid"));
    }
}
