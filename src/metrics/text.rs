//! Statuses as text: families in the order of the table, and in each the nodes in the order of the reports.

use std::collections::BTreeMap;
use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, prometheus_text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::table::{FAMILIES, Family, Figure, Kind, LEFT_OUT, Label, Unit};
use crate::breaker::State;
use crate::limits::{HISTOGRAM_LIMITS_US, METRICS_SAMPLES_MAX};
use crate::render::health::Condition;
use crate::render::{BreakerReport, NodeReport, Reachability};

/// The name and value of one label each.
type Labels = Vec<(&'static str, String)>;

/// The value of a sample.
#[derive(Clone, Debug, PartialEq)]
enum Value {
    Whole(i64),
    Float(f64),
    Histogram(Distribution),
}

/// What a histogram has counted, as the encoder wants it.
#[derive(Clone, Debug, PartialEq)]
struct Distribution {
    /// Limits in seconds, and how many are between this limit and the one before.
    classes: Vec<(f64, u64)>,
    count: u64,
    sum_seconds: f64,
}

#[derive(Clone, Debug)]
struct Sample {
    labels: Labels,
    value: Value,
}

/// One family with its samples.
#[derive(Clone, Debug)]
struct Written {
    name: &'static str,
    kind: Kind,
    help: &'static str,
    samples: Vec<Sample>,
}

/// The answer to a scrape.
#[derive(Clone, Debug, Default)]
pub(crate) struct Text {
    families: Vec<Written>,
    samples: usize,
    left_out: usize,
}

impl Text {
    /// The media type of the text.
    pub(crate) const CONTENT_TYPE: &'static str = prometheus_text::CONTENT_TYPE;

    /// What these nodes say. The reports are judged.
    pub(crate) fn of(reports: &[NodeReport]) -> Text {
        let mut text = Text::default();
        let version = vec![("version", env!("CARGO_PKG_VERSION").to_owned())];
        let help = "1, with the version of the program that wrote this.";
        text.add("pregao_build_info", Kind::Gauge, help, [(version, Value::Whole(1))]);
        text.add_nodes(reports);
        text.add_breakers(reports);
        text.add_words(reports);
        text.add_figures(reports);
        let help =
            "Figures of nodes that this program has no series for, and samples over the bound.";
        let count = Value::Whole(i64::try_from(text.left_out).unwrap_or(i64::MAX));
        // Whatever the bound says, that it was reached is told.
        text.samples = 0;
        text.add("pregao_metrics_left_out", Kind::Gauge, help, [(Vec::new(), count)]);
        text
    }

    /// The same, and whether the whole system can serve.
    pub(crate) fn with_ready(mut self, is_ready: bool) -> Text {
        let help = "1 when the system can serve all that it should, as `/readyz` says.";
        let ready = (Vec::new(), Value::Whole(i64::from(is_ready)));
        self.add("pregao_system_ready", Kind::Gauge, help, [ready]);
        self
    }

    /// The text.
    pub(crate) fn write(self) -> String {
        let mut written = String::new();
        let mut registry = Registry::default();
        registry.register_collector(Box::new(self));
        let is_written = prometheus_text::encode(&mut written, &registry);
        debug_assert!(is_written.is_ok(), "a string takes everything");
        written
    }

    fn add(
        &mut self,
        name: &'static str,
        kind: Kind,
        help: &'static str,
        samples: impl IntoIterator<Item = (Labels, Value)>,
    ) {
        let mut kept = Vec::new();
        for (labels, value) in samples {
            if self.samples >= METRICS_SAMPLES_MAX {
                self.left_out += 1;
                continue;
            }
            self.samples += 1;
            kept.push(Sample { labels, value });
        }
        if !kept.is_empty() {
            self.families.push(Written { name, kind, help, samples: kept });
        }
    }

    fn add_nodes(&mut self, reports: &[NodeReport]) {
        let up = |it: &NodeReport| Value::Whole(i64::from(it.status == Reachability::Ok));
        self.add(
            "pregao_node_up",
            Kind::Gauge,
            "1 when the node answered the question for its status.",
            reports.iter().map(|it| (node_labels(it), up(it))),
        );
        let conditions = reports.iter().flat_map(|report| {
            Condition::ALL.into_iter().map(|condition| {
                let is_so = i64::from(report.condition == condition);
                (with(report, "condition", condition.name()), Value::Whole(is_so))
            })
        });
        self.add(
            "pregao_node_condition",
            Kind::Gauge,
            "1 for how well the node is, as `pregao status` judges it; 0 for each other condition.",
            conditions,
        );
        // Microseconds far below 2^53.
        #[allow(clippy::cast_precision_loss, reason = "a bounded wait")]
        let took = |it: &NodeReport| Value::Float(it.elapsed_us as f64 / 1e6);
        self.add(
            "pregao_node_status_seconds",
            Kind::Gauge,
            "How long the node took for its status.",
            reports.iter().map(|it| (node_labels(it), took(it))),
        );
    }

    fn add_breakers(&mut self, reports: &[NodeReport]) {
        let all = || reports.iter().flat_map(|it| it.breakers.iter().map(move |of| (it, of)));
        let labels = |(report, breaker): (&NodeReport, &BreakerReport)| {
            with(report, "breaker", &breaker.name)
        };
        let states = all().flat_map(|of| {
            State::ALL.into_iter().map(move |state| {
                let mut labels = labels(of);
                labels.push(("state", state.as_str().to_owned()));
                (labels, Value::Whole(i64::from(of.1.state == state.as_str())))
            })
        });
        self.add(
            "pregao_breaker_state",
            Kind::Gauge,
            "1 for the state of the breaker, 0 for each other state.",
            states,
        );
        let seconds = |ms: i64| {
            #[allow(clippy::cast_precision_loss, reason = "shown, not computed with")]
            Value::Float(ms as f64 / 1e3)
        };
        self.add(
            "pregao_breaker_state_seconds",
            Kind::Gauge,
            "For how long the breaker has been in its state.",
            all().map(|of| (labels(of), seconds(of.1.since_ms))),
        );
        let probes = all().filter_map(|of| Some((labels(of), seconds(of.1.next_probe_ms?))));
        self.add(
            "pregao_breaker_next_probe_seconds",
            Kind::Gauge,
            "In how long the breaker lets a probe through. Absent when nobody waits for one.",
            probes,
        );
        let rate = |percent: f64| Value::Float(percent / 100.0);
        let failed = all().filter_map(|of| Some((labels(of), rate(of.1.failure_rate?))));
        self.add(
            "pregao_breaker_failure_ratio",
            Kind::Gauge,
            "Part of the calls in the window that failed. Absent below the least number of calls.",
            failed,
        );
        let slow = all().filter_map(|of| Some((labels(of), rate(of.1.slow_call_rate?))));
        self.add(
            "pregao_breaker_slow_ratio",
            Kind::Gauge,
            "Part of the calls in the window that were slow. Absent below the least number of calls.",
            slow,
        );
        let outcomes = all().flat_map(|of| {
            of.1.counts.iter().map(move |(outcome, count)| {
                let mut labels = labels(of);
                labels.push(("outcome", outcome.clone()));
                (labels, Value::Whole(*count))
            })
        });
        self.add(
            "pregao_breaker_calls_total",
            Kind::Counter,
            "Calls that the breaker judged, by what became of them.",
            outcomes,
        );
        let permits = all().flat_map(|of| {
            [("granted", of.1.granted), ("denied", of.1.denied), ("late", of.1.late)].map(
                |(permit, count)| {
                    let mut labels = labels(of);
                    labels.push(("permit", permit.to_owned()));
                    (labels, Value::Whole(count))
                },
            )
        });
        self.add(
            "pregao_breaker_permits_total",
            Kind::Counter,
            "Permits that were asked of the breaker: granted, denied, or used too late to be judged.",
            permits,
        );
        self.add(
            "pregao_breaker_opened_total",
            Kind::Counter,
            "How often the breaker opened.",
            all().map(|of| (labels(of), Value::Whole(of.1.opened))),
        );
        let reasons = all().flat_map(|of| {
            of.1.reasons.iter().map(move |(reason, count)| {
                let mut labels = labels(of);
                labels.push(("reason", reason.clone()));
                (labels, Value::Whole(*count))
            })
        });
        self.add(
            "pregao_breaker_changes_total",
            Kind::Counter,
            "How often the breaker changed its state, by why.",
            reasons,
        );
    }

    /// States that core says in words.
    fn add_words(&mut self, reports: &[NodeReport]) {
        let core =
            || reports.iter().filter(|it| it.words.get("role").is_some_and(|it| it == "core"));
        let phases = core().flat_map(|report| {
            report.words.iter().filter_map(move |(name, phase)| {
                let exchange = match name.strip_prefix("exchange")? {
                    "" => "external",
                    rest => rest.strip_prefix('.')?,
                };
                let mut labels = with(report, "exchange", exchange);
                labels.push(("phase", phase.clone()));
                Some((labels, Value::Whole(1)))
            })
        });
        self.add(
            "pregao_exchange_phase",
            Kind::Gauge,
            "1 for what core says of the exchange; other phases are absent.",
            phases,
        );
        let followers = core().flat_map(|report| {
            report.words.iter().filter_map(move |(name, state)| {
                report.figures.get(&format!("{name}.accepted_seq"))?;
                let mut labels = with(report, "follower", name);
                labels.push(("state", state.clone()));
                Some((labels, Value::Whole(1)))
            })
        });
        self.add(
            "pregao_follower_state",
            Kind::Gauge,
            "1 for what core says of the follower; other states are absent.",
            followers,
        );
    }

    /// One look at each figure: a system has thousands, and the gateway sends what is live meanwhile.
    fn add_figures(&mut self, reports: &[NodeReport]) {
        let rows = Rows::new();
        let mut samples: Vec<Vec<(Labels, Value)>> = FAMILIES.iter().map(|_| Vec::new()).collect();
        for report in reports {
            for (name, number) in &report.figures {
                let Some(row) = rows.of(name) else {
                    self.left_out += usize::from(!is_left_out(name));
                    continue;
                };
                let family = &FAMILIES[row.family];
                let value = match family.kind {
                    Kind::Gauge | Kind::Counter => value(family.unit, *number),
                    Kind::Histogram => name.strip_suffix(".count").map(|histogram| {
                        Value::Histogram(distribution(report, histogram, *number))
                    }),
                };
                let labels = || match row.label {
                    Label::None => node_labels(report),
                    Label::Fixed(label, value) => with(report, label, value),
                    Label::Part(label) => with(report, label, row.part),
                };
                samples[row.family].extend(value.map(|value| (labels(), value)));
            }
        }
        for (family, samples) in FAMILIES.iter().zip(samples) {
            self.add(family.name, family.kind, family.help, samples);
        }
    }
}

impl Collector for Text {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for family in &self.families {
            let (name, metric_type) = match family.kind {
                Kind::Gauge => (family.name, MetricType::Gauge),
                // The encoder writes it.
                Kind::Histogram => (family.name, MetricType::Histogram),
                Kind::Counter => (family.name.trim_end_matches("_total"), MetricType::Counter),
            };
            let mut written = encoder.encode_descriptor(name, family.help, None, metric_type)?;
            for sample in &family.samples {
                let encoder = written.encode_family(&sample.labels)?;
                write_sample(encoder, family.kind, &sample.value)?;
            }
        }
        Ok(())
    }
}

fn write_sample(mut encoder: MetricEncoder<'_>, kind: Kind, value: &Value) -> fmt::Result {
    match (kind, value) {
        (Kind::Counter, Value::Whole(number)) => {
            let number = u64::try_from(*number).unwrap_or(0);
            encoder.encode_counter::<NoLabelSet, u64, f64>(&number, None)
        }
        (_, Value::Whole(number)) => encoder.encode_gauge(number),
        (_, Value::Float(number)) => encoder.encode_gauge(number),
        (_, Value::Histogram(it)) => {
            encoder.encode_histogram::<NoLabelSet>(it.sum_seconds, it.count, &it.classes, None)
        }
    }
}

fn distribution(report: &NodeReport, name: &str, count: i64) -> Distribution {
    let figure = |end: &str| report.figures.get(&format!("{name}.{end}")).copied().unwrap_or(0);
    let whole = |number: i64| u64::try_from(number).unwrap_or(0);
    let mut below = 0;
    let classes = HISTOGRAM_LIMITS_US.map(|limit_us| {
        let so_far = whole(figure(&format!("le_{limit_us}"))).max(below);
        let of_class = so_far - below;
        below = so_far;
        (seconds_of(limit_us), of_class)
    });
    // A node of another version may have other limits: no count may fall from one to the next.
    let count = whole(count).max(below);
    Distribution { classes: classes.to_vec(), count, sum_seconds: seconds_of(whole(figure("sum"))) }
}

#[allow(clippy::cast_precision_loss, reason = "shown, not computed with")]
fn seconds_of(us: u64) -> f64 {
    us as f64 / 1e6
}

/// A figure in the base unit; `None` when the node says that it does not know.
fn value(unit: Unit, number: i64) -> Option<Value> {
    match unit {
        Unit::Whole | Unit::Microseconds => Some(Value::Whole(number)),
        #[allow(clippy::cast_precision_loss, reason = "shown, not computed with")]
        Unit::Milliseconds => (number >= 0).then_some(Value::Float(number as f64 / 1e3)),
    }
}

/// Which node: `shard-A` and `1` for the second copy of the shard A. The first copy has the number 0.
fn node_labels(report: &NodeReport) -> Labels {
    let is_number = |it: &str| !it.is_empty() && it.bytes().all(|byte| byte.is_ascii_digit());
    let (node, copy) = match report.node.rsplit_once('.') {
        Some((node, copy)) if is_number(copy) => (node, copy),
        _ => (report.node.as_str(), "0"),
    };
    vec![("node", node.to_owned()), ("copy", copy.to_owned())]
}

fn with(report: &NodeReport, label: &'static str, value: &str) -> Labels {
    let mut labels = node_labels(report);
    labels.push((label, value.to_owned()));
    labels
}

/// The row of the table that a figure has.
#[derive(Clone, Copy, Debug)]
struct Row<'a> {
    /// Its place in the table.
    family: usize,
    label: Label,
    /// What `*` stands for.
    part: &'a str,
}

/// The table, to look names up in it.
#[derive(Debug)]
struct Rows {
    whole: BTreeMap<&'static str, (usize, Label)>,
    /// Those with a `*`.
    parts: Vec<(usize, Figure)>,
}

impl Rows {
    fn new() -> Rows {
        let all = || {
            let of = |(place, family): (usize, &Family)| {
                let figures: &'static [Figure] = family.figures;
                figures.iter().map(move |figure| (place, *figure))
            };
            FAMILIES.iter().enumerate().flat_map(of)
        };
        let has_part = |(_, figure): &(usize, Figure)| figure.pattern.contains('*');
        Rows {
            whole: all()
                .filter(|it| !has_part(it))
                .map(|(place, figure)| (figure.pattern, (place, figure.label)))
                .collect(),
            parts: all().filter(has_part).collect(),
        }
    }

    /// The row of a figure. That of a histogram is meant by its parts only.
    fn of<'a>(&self, name: &'a str) -> Option<Row<'a>> {
        let is_histogram = |row: &Row<'_>| FAMILIES[row.family].kind == Kind::Histogram;
        let of_histogram = histogram_of(name).and_then(|it| self.find(it)).filter(is_histogram);
        of_histogram.or_else(|| self.find(name).filter(|row| !is_histogram(row)))
    }

    fn find<'a>(&self, name: &'a str) -> Option<Row<'a>> {
        if let Some(&(family, label)) = self.whole.get(name) {
            return Some(Row { family, label, part: "" });
        }
        self.parts.iter().find_map(|&(family, figure)| {
            let part = figure.part(name)?;
            Some(Row { family, label: figure.label, part })
        })
    }
}

/// Whether a figure becomes no series on purpose.
fn is_left_out(name: &str) -> bool {
    let is = |pattern| Figure { pattern, label: Label::None }.part(name).is_some();
    LEFT_OUT.iter().any(|(pattern, _)| is(pattern))
}

/// The histogram that a figure is a part of, if it can be one.
fn histogram_of(name: &str) -> Option<&str> {
    let (histogram, end) = name.rsplit_once('.')?;
    let is_limit = || end.strip_prefix("le_").is_some_and(|it| it.parse::<u64>().is_ok());
    (end == "count" || end == "sum" || is_limit()).then_some(histogram)
}

#[cfg(test)]
mod tests;
