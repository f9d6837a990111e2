//! What the rounds of one load have shown: figures, and how they are told.

use hdrhistogram::Histogram;
use pregao::time::nanos;
use serde_json::{Value, json};

use super::crowd::Work;
use super::watch::{Latencies, Seen};
use super::{Load, Phase, Round};
use crate::check::Faults;
use crate::limits;
use crate::measure::histogram;
use crate::report::wrapped;
use crate::target::Target;
use crate::timebase::micros;

/// The three phases of a round.
const NAMES: [&str; 3] = ["idle", "with_them", "beside_them"];

/// A median and what it is the middle of.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Spread {
    median: f64,
    low: f64,
    high: f64,
}

impl Spread {
    /// Of at least one value.
    fn of(mut values: Vec<f64>) -> Option<Spread> {
        values.sort_by(f64::total_cmp);
        let (low, high) = (*values.first()?, *values.last()?);
        let (before, behind) = (values.get((values.len() - 1) / 2)?, values.get(values.len() / 2)?);
        Some(Spread { median: f64::midpoint(*before, *behind), low, high })
    }

    fn json(self) -> Value {
        let [median, low, high] = [self.median, self.low, self.high].map(hundredths);
        json!({ "median": median, "low": low, "high": high })
    }

    fn text(self) -> String {
        format!("{:.2} ({:.2} to {:.2})", self.median, self.low, self.high)
    }
}

/// One of the three phases, of all rounds.
struct Figures {
    /// All ticks, from the moment at which each was to be sent, and from that at which it was.
    all: Latencies,
    /// Of each round, the 99th percentile from the moment at which it was to be sent.
    p99_ns: Vec<u64>,
    seconds: Option<Spread>,
    busy: Vec<(&'static str, f64)>,
    crowd_frames_per_s: f64,
}

/// All that was found.
pub(super) struct Found {
    scenario: &'static str,
    load: Load,
    phases: [Figures; 3],
    faults: Faults,
}

impl Found {
    pub(super) fn of(scenario: &'static str, load: Load, rounds: &[Round], seen: &Seen) -> Found {
        let phases = std::array::from_fn(|place| {
            let phases: Vec<&Phase> = rounds.iter().map(|round| &round[place]).collect();
            Figures::of(&phases, seen)
        });
        Found { scenario, load, phases, faults: seen.faults }
    }

    /// Whether the figures may be used: nothing was lost, and the generator itself sent in time.
    pub(super) fn is_valid(&self) -> bool {
        let is_behind = |figures: &Figures| {
            let lag = figures.p99_ns(&figures.all.intended) - figures.p99_ns(&figures.all.sent);
            lag > nanos(limits::BEHIND_MAX)
        };
        self.faults == Faults::default()
            && self.phases.iter().all(|figures| !figures.all.intended.is_empty())
            && !self.phases.iter().any(is_behind)
    }

    /// The 99th percentile of one phase as a multiple of another's, round by round.
    fn ratio(&self, of: usize, to: usize) -> Option<Spread> {
        let pairs = self.phases[of].p99_ns.iter().zip(&self.phases[to].p99_ns);
        Spread::of(pairs.map(|(of, to)| ratio(*of, *to)).collect())
    }

    pub(super) fn json(&self) -> Value {
        let spread = |spread: Option<Spread>| spread.map(Spread::json);
        let mut object = json!({
            "scenario": self.scenario,
            "target": Target::Pregao.name(),
            "crowd": self.load.count,
            "rounds": self.phases[0].p99_ns.len(),
            "p99_x_idle": spread(self.ratio(1, 0)),
            "p99_beside_x_idle": spread(self.ratio(2, 0)),
            "p99_x_beside": spread(self.ratio(1, 2)),
            "lost": self.faults.lost,
            "gaps_told": self.faults.gaps_told,
            "valid": self.is_valid(),
        });
        for (name, figures) in NAMES.into_iter().zip(&self.phases) {
            object[name] = figures.json();
        }
        object
    }

    pub(super) fn text(&self) -> String {
        let count = self.load.count;
        let what = match self.load.work {
            Work::Join { patterns, instruments } => format!(
                "{count} subscribers join with {patterns} patterns each, of {instruments} \
                 instruments"
            ),
            Work::Replay { frames } => {
                format!("{count} clients read replays of {frames} frames, again and again")
            }
        };
        let mut text = format!("{}: {what}", self.scenario);
        for (name, figures) in NAMES.into_iter().zip(&self.phases) {
            text.push_str(&wrapped(&format!("{}: {}", name.replace('_', " "), figures.text())));
        }
        for (name, ratio) in [
            ("with them / idle", self.ratio(1, 0)),
            ("beside them / idle", self.ratio(2, 0)),
            ("with them / beside them", self.ratio(1, 2)),
        ] {
            let ratio = ratio.map_or_else(|| "-".to_owned(), Spread::text);
            text.push_str(&wrapped(&format!("p99, {name}: {ratio} in {} rounds", self.rounds())));
        }
        let Faults { lost, gaps_told, .. } = self.faults;
        text.push_str(&wrapped(&format!("{lost} ticks lost, {gaps_told} gaps told")));
        if !self.is_valid() {
            text.push_str(&wrapped("INVALID: ticks were lost, or not sent in time"));
        }
        text
    }

    fn rounds(&self) -> usize {
        self.phases[0].p99_ns.len()
    }
}

impl Figures {
    fn of(phases: &[&Phase], seen: &Seen) -> Figures {
        let mut all = Latencies { intended: histogram(), sent: histogram() };
        let mut p99_ns = Vec::new();
        for phase in phases {
            let of = seen.between(phase.from, phase.to);
            p99_ns.push(of.intended.value_at_quantile(0.99));
            // Both were made with the same bounds.
            let _ = all.intended.add(&of.intended);
            let _ = all.sent.add(&of.sent);
        }
        let seconds = |phase: &&Phase| micros(phase.to - phase.from) / 1e6;
        let span: f64 = phases.iter().map(seconds).sum();
        let frames: u64 = phases.iter().map(|phase| phase.crowd_frames).sum();
        let mut busy: Vec<(&'static str, f64)> = Vec::new();
        for (name, percent) in phases.iter().flat_map(|phase| &phase.busy) {
            let percent = percent / count(phases.len());
            match busy.iter_mut().find(|(known, _)| known == name) {
                Some((_, sum)) => *sum += percent,
                None => busy.push((*name, percent)),
            }
        }
        Figures {
            all,
            p99_ns,
            seconds: Spread::of(phases.iter().map(seconds).collect()),
            busy,
            crowd_frames_per_s: micros(frames) * 1e3 / span.max(1e-9),
        }
    }

    fn p99_ns(&self, of: &Histogram<u64>) -> u64 {
        of.value_at_quantile(0.99)
    }

    fn json(&self) -> Value {
        let us = |of: &Histogram<u64>, quantile| tenths(micros(of.value_at_quantile(quantile)));
        let (intended, sent) = (&self.all.intended, &self.all.sent);
        let busy: serde_json::Map<String, Value> = self
            .busy
            .iter()
            .map(|(name, share)| ((*name).to_owned(), tenths(*share).into()))
            .collect();
        json!({
            "ticks": intended.len(),
            "p50_us": us(intended, 0.5),
            "p99_us": us(intended, 0.99),
            "p999_us": us(intended, 0.999),
            "max_us": us(intended, 1.0),
            "p99_us_by_round": self.p99_ns.iter().map(|ns| micros(*ns).round()).collect::<Vec<_>>(),
            "p50_since_sent_us": us(sent, 0.5),
            "p99_since_sent_us": us(sent, 0.99),
            "seconds": self.seconds.map(Spread::json),
            "busy_percent": busy,
            "crowd_frames_per_s": self.crowd_frames_per_s.round(),
        })
    }

    fn text(&self) -> String {
        let us = |of: &Histogram<u64>, quantile| micros(of.value_at_quantile(quantile));
        let (intended, sent) = (&self.all.intended, &self.all.sent);
        let busy: Vec<String> =
            self.busy.iter().map(|(name, share)| format!("{name} {share:.0} %")).collect();
        let seconds = self.seconds.map_or(0.0, |spread| spread.median);
        format!(
            "p50 {:.0} µs, p99 {:.0} µs, p99.9 {:.0} µs, max {:.0} µs of {} ticks; since they were \
             sent p99 {:.0} µs; {seconds:.1} s each; busy: {}; the crowd reads {:.0} frames/s",
            us(intended, 0.5),
            us(intended, 0.99),
            us(intended, 0.999),
            us(intended, 1.0),
            intended.len(),
            us(sent, 0.99),
            busy.join(", "),
            self.crowd_frames_per_s,
        )
    }
}

#[allow(clippy::cast_precision_loss, reason = "a figure for people")]
fn ratio(of: u64, to: u64) -> f64 {
    of as f64 / to.max(1) as f64
}

#[allow(clippy::cast_precision_loss, reason = "a count of rounds")]
fn count(of: usize) -> f64 {
    of as f64
}

fn hundredths(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

fn tenths(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::super::watch::Tick;
    use super::*;

    #[test]
    fn a_median_stands_between_its_lowest_and_highest() {
        let spread = |values: &[f64]| Spread::of(values.to_vec());
        assert_eq!(spread(&[]), None);
        assert_eq!(spread(&[3.0]), Some(Spread { median: 3.0, low: 3.0, high: 3.0 }));
        assert_eq!(spread(&[4.0, 1.0, 2.0]), Some(Spread { median: 2.0, low: 1.0, high: 4.0 }));
        assert_eq!(spread(&[4.0, 1.0]), Some(Spread { median: 2.5, low: 1.0, high: 4.0 }));
    }

    /// Two rounds; ticks take 10 when idle, and 30 or 50 with the crowd.
    fn found(faults: Faults) -> Found {
        let mut seen = Seen { faults, ..Seen::default() };
        let mut rounds = Vec::new();
        for (round, slow) in [(0, 30_000), (1, 50_000)] {
            let phases = [10_000, slow, 20_000].into_iter().enumerate().map(|(place, latency)| {
                let from = (round * 3 + place as u64) * 1_000_000_000;
                for number in 0..100 {
                    let intended = from + number * 1_000_000;
                    let (sent, received) = (intended, intended + latency);
                    seen.ticks.push(Tick { intended, sent, received });
                }
                Phase { from, to: from + 500_000_000, busy: vec![("core", 50.0)], crowd_frames: 7 }
            });
            rounds.push(phases.collect::<Vec<_>>().try_into().unwrap());
        }
        let load = Load { work: Work::Replay { frames: 5 }, count: 3 };
        Found::of("replays", load, &rounds, &seen)
    }

    #[test]
    fn ratios_are_of_one_round_and_the_rest_of_all() {
        let found = found(Faults::default());
        assert!(found.is_valid());
        let json = found.json();
        let near = |value: &Value, wanted: f64| {
            let value = value.as_f64().unwrap();
            assert!((value - wanted).abs() < wanted / 50.0, "{value}, not {wanted}");
        };
        near(&json["p99_x_idle"]["low"], 3.0);
        near(&json["p99_x_idle"]["median"], 4.0);
        near(&json["p99_x_idle"]["high"], 5.0);
        near(&json["p99_x_beside"]["median"], 2.0);
        near(&json["idle"]["p99_us"], 10.0);
        near(&json["with_them"]["p99_us"], 50.0);
        near(&json["with_them"]["crowd_frames_per_s"], 14.0);
        near(&json["with_them"]["busy_percent"]["core"], 50.0);
        assert_eq!((json["rounds"].as_u64(), json["idle"]["ticks"].as_u64()), (Some(2), Some(200)));
    }

    #[test]
    fn whoever_lost_a_tick_has_measured_nothing() {
        assert!(!found(Faults { lost: 1, ..Faults::default() }).is_valid());
        assert!(found(Faults { gaps_told: 1, ..Faults::default() }).text().contains("INVALID"));
    }

    #[test]
    fn the_text_is_no_wider_than_a_terminal() {
        let text = found(Faults::default()).text();
        assert!(text.lines().skip(1).all(|line| line.chars().count() <= 79), "{text}");
    }
}
