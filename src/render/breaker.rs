//! Circuit breakers as a node describes them: gathered from its status answer, shown as JSON and as
//! lines. What the figures mean is said where they are made (`describe_breaker` of the nodes).

use std::collections::BTreeMap;

use serde::Serialize;

use super::lines::COLUMNS;
use crate::breaker::{OutcomeClass, Reason};
use crate::node::{breaker_described_by, reason_key};

/// One breaker.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BreakerReport {
    /// Its name, which operators use too.
    pub name: String,
    /// Its state as a name.
    pub state: String,
    /// For how long it has been in that state.
    pub since_ms: i64,
    /// Percentage of failed calls in the window; `None` below the minimum number of calls.
    pub failure_rate: Option<f64>,
    /// Percentage of slow calls in the window; `None` below the minimum number of calls.
    pub slow_call_rate: Option<f64>,
    /// The latest outcome that was not a timely answer, in words.
    pub last_error: Option<String>,
    /// In how long the next probe may start; `None` when nobody waits for one.
    pub next_probe_ms: Option<i64>,
    /// Outcomes by class since the node started; every class is there.
    pub counts: BTreeMap<String, i64>,
    /// Permits granted since the node started.
    pub granted: i64,
    /// Calls denied since then.
    pub denied: i64,
    /// Outcomes that came too late to be judged.
    pub late: i64,
    /// How often it opened.
    pub opened: i64,
    /// How often it changed its state.
    pub changes: i64,
    /// How often for which reason; every reason is there.
    pub reasons: BTreeMap<String, i64>,
}

/// Takes the breakers out of a node's words and figures, in the order of their names.
#[must_use]
pub fn take_breakers(
    words: &mut BTreeMap<String, String>,
    figures: &mut BTreeMap<String, i64>,
) -> Vec<BreakerReport> {
    let names: Vec<String> =
        words.keys().filter_map(|word| breaker_described_by(word)).map(str::to_owned).collect();
    names.into_iter().map(|name| take_breaker(name, words, figures)).collect()
}

fn take_breaker(
    name: String,
    words: &mut BTreeMap<String, String>,
    figures: &mut BTreeMap<String, i64>,
) -> BreakerReport {
    let mut figure = |key: &str| figures.remove(&format!("{name}.{key}"));
    // Basis points are far below 2^53, so the division is the only rounding.
    #[allow(clippy::cast_precision_loss, reason = "between 0 and 10,000")]
    let percent = |basis_points: i64| basis_points as f64 / 100.0;
    BreakerReport {
        state: words.remove(&format!("{name}.state")).unwrap_or_default(),
        last_error: words.remove(&format!("{name}.error")),
        since_ms: figure("since_ms").unwrap_or(0),
        failure_rate: figure("failure_rate_bp").map(percent),
        slow_call_rate: figure("slow_rate_bp").map(percent),
        next_probe_ms: figure("next_probe_ms"),
        counts: OutcomeClass::ALL
            .iter()
            .map(|class| (class.key().to_owned(), figure(class.key()).unwrap_or(0)))
            .collect(),
        granted: figure("granted").unwrap_or(0),
        denied: figure("denied").unwrap_or(0),
        late: figure("late").unwrap_or(0),
        opened: figure("opened").unwrap_or(0),
        changes: figure("changes").unwrap_or(0),
        reasons: Reason::ALL
            .iter()
            .map(|it| (it.key().to_owned(), figure(&reason_key(*it)).unwrap_or(0)))
            .collect(),
        name,
    }
}

/// A breaker as one line of JSON, without its end.
#[must_use]
pub fn breaker_json(breaker: &BreakerReport) -> String {
    super::json_line(breaker)
}

/// What stands above [`breaker_line`]s.
pub(crate) fn breaker_header(width: usize) -> String {
    columns(width, ["BREAKER", "STATE", "FOR", "FAIL", "SLOW", "PROBE", "LAST ERROR"])
}

/// A breaker as one line of at most 80 columns; of 40, with its name and state, where there are no more.
pub(crate) fn breaker_line(breaker: &BreakerReport, width: usize) -> String {
    let percent = |rate: Option<f64>| rate.map_or("-".to_owned(), |rate| format!("{rate:.0}%"));
    columns(
        width,
        [
            &breaker.name,
            &breaker.state,
            &short_time(breaker.since_ms),
            &percent(breaker.failure_rate),
            &percent(breaker.slow_call_rate),
            &breaker.next_probe_ms.map_or("-".to_owned(), short_time),
            breaker.last_error.as_deref().map_or("-", short_error),
        ],
    )
}

/// A breaker's counters as lines of at most 80 columns; outcomes that never happened are left out.
pub(super) fn breaker_counts(breaker: &BreakerReport) -> Vec<String> {
    const INDENT: &str = "    ";
    let mut counts: Vec<String> = OutcomeClass::ALL
        .iter()
        .map(|class| (class.key(), breaker.counts.get(class.key()).copied().unwrap_or(0)))
        .filter(|(_, count)| *count > 0)
        .map(|(key, count)| format!("{key} {count}"))
        .collect();
    for (key, count) in [
        ("granted", breaker.granted),
        ("denied", breaker.denied),
        ("late", breaker.late),
        ("opened", breaker.opened),
        ("changes", breaker.changes),
    ] {
        counts.push(format!("{key} {count}"));
    }
    let mut lines = vec![String::new()];
    for count in counts {
        let line = lines.last().map_or(0, String::len);
        if line > 0 && line + count.len() + 2 > 76 {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            let gap = if line.is_empty() { INDENT } else { ", " };
            line.push_str(gap);
            line.push_str(&count);
        }
    }
    lines
}

/// 2 + 18 + 1 + 12 + 1 + 6 + 1 + 5 + 1 + 5 + 1 + 6 + 2 + 19 = 80, and 40 without what stands behind the time.
fn columns(width: usize, [name, state, since, fail, slow, probe, error]: [&str; 7]) -> String {
    if width < COLUMNS {
        return format!("  {name:<18.18} {state:<12.12} {since:>6}");
    }
    let line = format!(
        "  {name:<18.18} {state:<12.12} {since:>6} {fail:>5} {slow:>5} {probe:>6}  {error:.19}"
    );
    line.trim_end().to_owned()
}

/// Milliseconds in at most six characters.
fn short_time(ms: i64) -> String {
    let ms = ms.max(0);
    match ms {
        0..1_000 => format!("{ms}ms"),
        1_000..10_000 => format!("{}.{}s", ms / 1_000, ms % 1_000 / 100),
        10_000..600_000 => format!("{}s", ms / 1_000),
        600_000..36_000_000 => format!("{}min", ms / 60_000),
        36_000_000..864_000_000 => format!("{}h", ms / 3_600_000),
        _ => format!("{}d", ms / 86_400_000),
    }
}

/// An error's words without what the column's heading says already; a local fault by its number's name.
fn short_error(error: &str) -> &str {
    let errno = error.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
    let error = errno.unwrap_or(error);
    let error = error.strip_suffix(" passed").unwrap_or(error);
    error.strip_prefix("told to ").unwrap_or(error)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    fn described() -> (BTreeMap<String, String>, BTreeMap<String, i64>) {
        let words = [
            ("role", "core"),
            ("aggregator.shard-A.state", "forced-open"),
            ("aggregator.shard-A.error", "no descriptor left in this process (EMFILE)"),
        ];
        let figures = [
            ("next_seq", 7),
            ("aggregator.shard-A.since_ms", 599_999),
            ("aggregator.shard-A.next_probe_ms", 9_999),
            ("aggregator.shard-A.failure_rate_bp", 10_000),
            ("aggregator.shard-A.refused", 3),
            ("aggregator.shard-A.granted", 5),
        ];
        (
            words.map(|(name, word)| (name.to_owned(), word.to_owned())).into(),
            figures.map(|(name, value)| (name.to_owned(), value)).into(),
        )
    }

    pub(in super::super) fn breaker() -> BreakerReport {
        let (mut words, mut figures) = described();
        take_breakers(&mut words, &mut figures).pop().unwrap()
    }

    #[test]
    fn a_breaker_is_taken_whole_and_nothing_else_is() {
        let (mut words, mut figures) = described();
        let breakers = take_breakers(&mut words, &mut figures);
        assert_eq!(breakers.len(), 1);
        assert_eq!(words.into_keys().collect::<Vec<_>>(), ["role"]);
        assert_eq!(figures.into_keys().collect::<Vec<_>>(), ["next_seq"]);
        let breaker = &breakers[0];
        assert_eq!((breaker.name.as_str(), breaker.since_ms), ("aggregator.shard-A", 599_999));
        assert_eq!((breaker.failure_rate, breaker.slow_call_rate), (Some(100.0), None));
        assert_eq!((breaker.counts["refused"], breaker.counts["answered"]), (3, 0));
        assert_eq!(breaker.counts.len(), OutcomeClass::COUNT);
    }

    #[test]
    fn the_widest_line_fits_80_columns() {
        let line = breaker_line(&breaker(), 80);
        assert_eq!(line, "  aggregator.shard-A forced-open    599s  100%     -   9.9s  EMFILE");
        for class in OutcomeClass::ALL {
            let widest = BreakerReport {
                last_error: Some(class.as_str().to_owned()),
                state: "metrics-only".into(),
                since_ms: i64::from(u32::MAX),
                slow_call_rate: Some(100.0),
                ..breaker()
            };
            assert_eq!(breaker_line(&widest, 79).len(), 40);
            let line = breaker_line(&widest, 80);
            assert!(line.len() <= 80, "{line:?}");
            assert!(line.ends_with(short_error(class.as_str())), "{line:?} is cut");
        }
        let counts = OutcomeClass::ALL.map(|class| (class.key().to_owned(), i64::MAX)).into();
        for line in breaker_counts(&BreakerReport { counts, ..breaker() }) {
            assert!(line.len() <= 80, "{line:?}");
        }
    }
}
