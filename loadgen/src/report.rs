//! How results are shown: one JSON object per run, or a table.

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use serde::Serialize;

use crate::limits::BUSY_PERCENT_MAX;
use crate::run::Outcome;
use crate::timebase::micros;

/// One run as one object. The names are part of the command's contract.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    scenario: &'static str,
    target: &'static str,
    subscribers: usize,
    offered_per_s: Option<f64>,
    deliveries_per_s: f64,
    lost: u64,
    p50_us: f64,
    p99_us: f64,
    p999_us: f64,
    max_us: f64,
    broker_cpu_ns_per_delivery: Option<f64>,
    syscalls_per_delivery: Option<f64>,
    bytes_per_subscriber: Option<f64>,
    valid: bool,
    deliveries: u64,
    out_of_order: u64,
    corrupt: u64,
    gaps_told: u64,
    cut_off: u64,
    service_p50_us: Option<f64>,
    service_p99_us: Option<f64>,
    skew_p50_us: Option<f64>,
    skew_max_us: Option<f64>,
    subscriber_mean_min_us: f64,
    subscriber_mean_max_us: f64,
    subscriber_deliveries_min: u64,
    subscriber_deliveries_max: u64,
    slow_deliveries: u64,
    slow_missed: u64,
    slow_gaps_told: u64,
    slow_cut_off: u64,
    reconnects: u64,
    generator_busy_percent: Option<f64>,
    generator_saturated: bool,
    generator_lag_p99_us: f64,
    syscalls_counted: Option<&'static str>,
    objections: Vec<String>,
}

impl Row {
    /// A run with the verdict that its reader needs.
    pub(crate) fn new(scenario: &'static str, outcome: &Outcome, objections: Vec<String>) -> Row {
        let (measured, groups) = (&outcome.measured, &outcome.groups);
        let us = |percentile| round(micros(outcome.latency_ns(percentile)));
        let some = |h: &hdrhistogram::Histogram<u64>, percentile| {
            (!h.is_empty()).then(|| round(micros(h.value_at_percentile(percentile))))
        };
        Row {
            scenario,
            target: outcome.spec.target.name(),
            subscribers: outcome.spec.subscribers,
            offered_per_s: outcome.offered_per_s.map(round),
            deliveries_per_s: round(outcome.deliveries_per_s),
            lost: outcome.faults.lost,
            p50_us: us(50.0),
            p99_us: us(99.0),
            p999_us: us(99.9),
            max_us: round(micros(measured.latency.max())),
            broker_cpu_ns_per_delivery: outcome.costs.cpu_ns_per_delivery.map(round),
            syscalls_per_delivery: outcome.costs.syscalls_per_delivery.map(round),
            bytes_per_subscriber: outcome.costs.bytes_per_subscriber.map(round),
            valid: objections.is_empty(),
            deliveries: measured.latency.len(),
            out_of_order: outcome.faults.out_of_order,
            corrupt: outcome.faults.corrupt,
            gaps_told: outcome.faults.gaps_told,
            cut_off: groups.cut_off,
            service_p50_us: some(&measured.service, 50.0),
            service_p99_us: some(&measured.service, 99.0),
            skew_p50_us: some(&measured.skew, 50.0),
            skew_max_us: some(&measured.skew, 100.0),
            subscriber_mean_min_us: round(micros(groups.mean_ns_min)),
            subscriber_mean_max_us: round(micros(groups.mean_ns_max)),
            subscriber_deliveries_min: groups.deliveries_min,
            subscriber_deliveries_max: groups.deliveries_max,
            slow_deliveries: groups.slow_deliveries,
            slow_missed: groups.slow_faults.lost,
            slow_gaps_told: groups.slow_faults.gaps_told,
            slow_cut_off: groups.slow_cut_off,
            reconnects: groups.reconnects,
            generator_busy_percent: outcome.condition.busy_percent_max.map(round),
            generator_saturated: outcome.condition.is_saturated(),
            generator_lag_p99_us: round(micros(outcome.condition.lag_p99_ns)),
            syscalls_counted: outcome.costs.syscalls_counted.map(|counted| counted.as_str()),
            objections,
        }
    }

    /// Whether the figures may be used.
    pub(crate) fn is_valid(&self) -> bool {
        self.valid
    }

    /// The object on one line.
    pub(crate) fn json(&self) -> String {
        // Numbers, words and lists of words: nothing that serialization can fail on.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The run as a table of its own.
    pub(crate) fn table(&self) -> String {
        let mut table = plain();
        let mut row = |name: &str, value: String| {
            table.add_row([name.to_owned(), value]);
        };
        row("target", format!("{}, {} subscribers", self.target, self.subscribers));
        match self.offered_per_s {
            Some(rate) => row("offered", format!("{} messages/s", grouped(rate))),
            None => row("offered", "the live market".to_owned()),
        }
        row(
            "delivered",
            format!("{}/s, {} timed", grouped(self.deliveries_per_s), self.deliveries),
        );
        row(
            "latency",
            format!(
                "p50 {}  p99 {}  p99.9 {}  max {}",
                time(self.p50_us),
                time(self.p99_us),
                time(self.p999_us),
                time(self.max_us)
            ),
        );
        if let Some((p50, p99)) = self.service_p50_us.zip(self.service_p99_us) {
            row("service time", format!("p50 {}  p99 {}", time(p50), time(p99)));
        }
        if let Some((p50, max)) = self.skew_p50_us.zip(self.skew_max_us) {
            row("first to last", format!("p50 {}  max {}", time(p50), time(max)));
        }
        row(
            "per subscriber",
            format!(
                "mean {} to {}, deliveries {} to {}",
                time(self.subscriber_mean_min_us),
                time(self.subscriber_mean_max_us),
                self.subscriber_deliveries_min,
                self.subscriber_deliveries_max
            ),
        );
        row(
            "lost",
            format!(
                "{}, out of order {}, corrupt {}, gaps told {}, cut off {}",
                self.lost, self.out_of_order, self.corrupt, self.gaps_told, self.cut_off
            ),
        );
        if self.slow_deliveries > 0 || self.slow_cut_off > 0 {
            row(
                "slow and stalled",
                format!(
                    "{} deliveries, {} missed in {} told gaps, {} cut off",
                    self.slow_deliveries, self.slow_missed, self.slow_gaps_told, self.slow_cut_off
                ),
            );
        }
        if self.reconnects > 0 {
            row("came and went", self.reconnects.to_string());
        }
        if let Some(ns) = self.broker_cpu_ns_per_delivery {
            row("broker CPU", format!("{ns:.0} ns per delivery"));
        }
        if let Some((calls, counted)) = self.syscalls_per_delivery.zip(self.syscalls_counted) {
            row("broker system calls", format!("{calls:.3} per delivery ({counted})"));
        }
        if let Some(bytes) = self.bytes_per_subscriber {
            row("broker memory", format!("{} bytes per idle subscriber", grouped(bytes)));
        }
        let busy = self.generator_busy_percent.map_or("-".to_owned(), |p| format!("{p:.0} %"));
        let late = match self.offered_per_s {
            Some(_) => format!(", messages late by p99 {}", time(self.generator_lag_p99_us)),
            None => String::new(),
        };
        row("generator", format!("busiest thread {busy}{late}"));
        let verdict = if self.valid { "valid".to_owned() } else { "INVALID".to_owned() };
        row("verdict", verdict);
        let mut text = table.trim_fmt();
        for objection in &self.objections {
            text.push_str(&format!("\n  - {objection}"));
        }
        text
    }
}

/// Several runs side by side.
pub(crate) fn side_by_side(rows: &[Row]) -> String {
    let mut table = plain();
    table.set_header([
        "scenario",
        "target",
        "subs",
        "msg/s",
        "deliveries/s",
        "lost",
        "p50",
        "p99",
        "p99.9",
        "max",
        "CPU ns/dlv",
        "calls/dlv",
        "bytes/sub",
        "",
    ]);
    for row in rows {
        let whole = |value: Option<f64>| value.map_or("-".to_owned(), grouped);
        let mark = match (row.valid, row.generator_saturated) {
            (true, false) => "",
            (true, true) => "at least",
            (false, _) => "INVALID",
        };
        table.add_row([
            row.scenario.to_owned(),
            row.target.to_owned(),
            row.subscribers.to_string(),
            whole(row.offered_per_s),
            grouped(row.deliveries_per_s),
            row.lost.to_string(),
            time(row.p50_us),
            time(row.p99_us),
            time(row.p999_us),
            time(row.max_us),
            whole(row.broker_cpu_ns_per_delivery),
            row.syscalls_per_delivery.map_or("-".to_owned(), |calls| format!("{calls:.3}")),
            whole(row.bytes_per_subscriber),
            mark.to_owned(),
        ]);
    }
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let mut text = table.trim_fmt();
    if rows.iter().any(|row| row.valid && row.generator_saturated) {
        text.push_str(&format!(
            "\nat least: the generator itself was busy for more than {BUSY_PERCENT_MAX} % of the time"
        ));
    }
    if let Some(counted) = rows.iter().find_map(|row| row.syscalls_counted) {
        text.push_str(&format!("\nsystem calls counted: {counted}"));
    }
    text
}

fn plain() -> Table {
    let mut table = Table::new();
    table.load_preset(NOTHING);
    table
}

fn round(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// Microseconds in the unit that reads best.
fn time(us: f64) -> String {
    match us {
        us if us < 1e3 => format!("{us:.0} µs"),
        us if us < 1e6 => format!("{:.2} ms", us / 1e3),
        us => format!("{:.2} s", us / 1e6),
    }
}

/// A whole number with its thousands apart.
fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let (sign, digits) = digits.strip_prefix('-').map_or(("", &digits[..]), |rest| ("-", rest));
    let mut text = sign.to_owned();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_read_well() {
        assert_eq!([grouped(0.0), grouped(999.0), grouped(1_234_567.4)], ["0", "999", "1,234,567"]);
        assert_eq!([time(12.0), time(1_234.0), time(2_500_000.0)], ["12 µs", "1.23 ms", "2.50 s"]);
    }
}
