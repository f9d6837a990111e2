//! How results are shown: one JSON object per run, or a table.

mod ratios;

use comfy_table::Table;
use comfy_table::presets::NOTHING;
use serde::Serialize;

use crate::limits::BUSY_PERCENT_MAX;
use crate::run::Outcome;
use crate::timebase::micros;

pub(crate) use ratios::ratios;

/// One run as one object. The names are part of the command's contract.
#[derive(Clone, Debug, Default, Serialize)]
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
    /// Figures of one scenario alone.
    #[serde(flatten)]
    extra: serde_json::Map<String, serde_json::Value>,
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
            extra: serde_json::Map::new(),
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
        for (name, value) in &self.extra {
            row(&name.replace('_', " "), value.to_string());
        }
        let verdict = if self.valid { "valid".to_owned() } else { "INVALID".to_owned() };
        row("verdict", verdict);
        let mut text = table.trim_fmt();
        for objection in &self.objections {
            text.push_str(&wrapped(objection));
        }
        text
    }
}

/// What stands above the lines of several runs.
pub(crate) fn heading(title: &str) -> String {
    let columns = columns(
        ["target", "msg/s", "deliveries/s", "p50", "p99", "p99.9", "CPU/dlv", "calls", "B/sub"],
        "",
    );
    format!("{}\n{columns}", folded(title, "", "  "))
}

/// Nine columns in 79 characters, a mark among them; the first is aligned left.
fn columns(cells: [impl AsRef<str>; 9], mark: &str) -> String {
    const WIDTHS: [usize; 9] = [9, 9, 11, 7, 7, 7, 8, 5, 7];
    let mut text = String::new();
    for (place, (cell, width)) in cells.iter().zip(WIDTHS).enumerate() {
        let cell = cell.as_ref();
        match place {
            0 => text.push_str(&format!("{cell:<width$}")),
            _ => text.push_str(&format!(" {cell:>width$}")),
        }
    }
    text.push_str(mark);
    text
}

impl Row {
    /// The run as one line below [`heading`], and what there is to say about it below that.
    pub(crate) fn line(&self) -> String {
        let whole = |value: Option<f64>| value.map_or("-".to_owned(), grouped);
        let cells = [
            self.target.to_owned(),
            whole(self.offered_per_s),
            grouped(self.deliveries_per_s),
            time(self.p50_us),
            time(self.p99_us),
            time(self.p999_us),
            self.broker_cpu_ns_per_delivery.map_or("-".to_owned(), |ns| time(ns / 1e3)),
            self.syscalls_per_delivery.map_or("-".to_owned(), |calls| format!("{calls:.3}")),
            whole(self.bytes_per_subscriber),
        ];
        let mut text = columns(cells, if self.valid { "" } else { "!" });
        let mut say = |what: &str| text.push_str(&wrapped(what));
        if self.valid && self.generator_saturated {
            say(&format!(
                "at least: the generator was busy for more than {BUSY_PERCENT_MAX} % too"
            ));
        }
        for (name, value) in &self.extra {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            say(&format!("{}: {value}", name.replace('_', " ")));
        }
        for objection in &self.objections {
            say(&format!("INVALID: {objection}"));
        }
        text
    }

    /// Adds a figure that only this scenario has.
    pub(crate) fn note(&mut self, name: &str, value: impl Into<serde_json::Value>) {
        self.extra.insert(name.to_owned(), value.into());
    }
}

/// A remark below a table, on as many lines of at most 79 characters as it takes.
pub(crate) fn wrapped(text: &str) -> String {
    folded(text, "\n  - ", "    ")
}

/// The words on lines of at most 79 characters, as far as words allow.
fn folded(text: &str, first: &str, further: &str) -> String {
    let mut lines = first.to_owned();
    let mut width = first.trim_start_matches('\n').len();
    let mut is_begun = false;
    for word in text.split_whitespace() {
        let chars = word.chars().count();
        if is_begun && width + 1 + chars > 79 {
            lines.push('\n');
            lines.push_str(further);
            width = further.len();
        } else if is_begun {
            lines.push(' ');
            width += 1;
        }
        lines.push_str(word);
        width += chars;
        is_begun = true;
    }
    lines
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
        us if us < 1.0 => format!("{:.0} ns", us * 1e3),
        us if us < 10.0 => format!("{us:.1} µs"),
        us if us < 1e3 => format!("{us:.0} µs"),
        us if us < 1e4 => format!("{:.1} ms", us / 1e3),
        us if us < 1e6 => format!("{:.0} ms", us / 1e3),
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
        let times = [0.058, 5.91, 12.0, 1_234.0, 123_456.0, 2_500_000.0].map(time);
        assert_eq!(times, ["58 ns", "5.9 µs", "12 µs", "1.2 ms", "123 ms", "2.50 s"]);
    }

    #[test]
    fn nothing_is_wider_than_a_terminal() {
        let width = |text: &str| text.lines().map(|line| line.chars().count()).max().unwrap_or(0);
        let widest =
            ["pregao-ws", "6,400,000", "37,712,999", "100 ms", "100 ms", "1.25 s", "9.6 µs"];
        let [a, b, c, d, e, f, g] = widest;
        assert!(width(&columns([a, b, c, d, e, f, g, "0.004", "131,072"], "!")) <= 79);
        let long = "word ".repeat(100);
        assert!(width(&heading(&long)) <= 79);
        assert!(width(&wrapped(&long)) <= 79);
        assert_eq!(wrapped(&long).split_whitespace().count(), 101, "no word is lost");
    }
}
