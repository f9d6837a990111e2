//! The scenarios of `compare` that are about our broker alone: slow and stalled subscribers, late
//! joiners, coming and going, and as many as a machine allows.

use crate::compare::{Comparison, Trouble, median, objections};
use crate::connect::raise_descriptor_limit;
use crate::limits::{HARDSHIP_RING_FRAMES, HARDSHIP_SPAN_MIN, MANY_SUBSCRIBERS};
use crate::report::Row;
use crate::run::{Outcome, RunSpec};
use crate::subscriber::Pace;
use crate::target::Target;
use crate::timebase::micros;

/// Some never read and some read slowly, beside the same run without them.
///
/// The ring is small, so that who never reads falls out of it within the run.
pub(crate) fn hardship(to: &mut Comparison<'_>) -> Result<(), String> {
    let subscribers = to.flags.subscribers as usize;
    let (stalled, slow) = (to.flags.stall.of(subscribers), to.flags.slow.of(subscribers));
    if stalled + slow >= subscribers {
        return Err("somebody has to read at full speed; lower --stall or --slow".to_owned());
    }
    let rate = to.flags.rate.unwrap_or(1_000);
    to.title(&format!(
        "hardship: {subscribers} subscribers, {rate} messages/s, without and with {stalled} that \
         never read and {slow} at half speed"
    ))?;
    to.ours.settings = format!("ring_frames = {HARDSHIP_RING_FRAMES}\n");
    let (mut calm, mut hard, mut bound) = (Vec::new(), Vec::new(), None);
    let mut trouble: Option<Trouble> = None;
    for _ in 0..to.repeats(3) {
        let base = RunSpec {
            duration: to.flags.duration.max(HARDSHIP_SPAN_MIN),
            ..to.spec(Target::Pregao, subscribers, rate)
        };
        let with = RunSpec { stalled, slow, ..base.clone() };
        for (spec, into) in [(base, &mut calm), (with, &mut hard)] {
            match to.attempt("hardship", spec) {
                Ok((outcome, memory)) => {
                    bound = bound.or(memory);
                    into.push(outcome);
                }
                Err(why) => trouble = Some(why),
            }
        }
    }
    to.ours.settings.clear();
    if let Some(trouble) = trouble {
        to.report("hardship", Target::Pregao, trouble);
    }
    let (Some(calm), Some(hard)) = (median(calm), median(hard)) else { return Ok(()) };
    let mut row = Row::new("hardship-without", &calm, objections(&calm));
    row.note("run", "without them");
    to.show(&row)?;
    let mut row = Row::new("hardship", &hard, objections(&hard));
    row.note("run", "with them; the figures above are of the others");
    row.note("p99_ratio", hundredths(ratio(hard.latency_ns(99.0), calm.latency_ns(99.0))));
    note_reasons(&mut row, &hard, Pace::Stalled, "stalled");
    note_reasons(&mut row, &hard, Pace::Half, "slow");
    note_reasons(&mut row, &hard, Pace::Full, "others");
    if let Some((before, after)) = hard.costs.rss_bytes_before.zip(hard.costs.rss_bytes_after) {
        row.note("broker_memory_bytes_before", before);
        row.note("broker_memory_bytes_after", after);
    }
    row.note("kernel_tcp_bytes_max", hard.costs.kernel_tcp_bytes_max);
    if let Some(bound) = bound {
        row.note("broker_memory_bound", bound);
    }
    to.show(&row)
}

/// How many of a pace there are, and what they were told, as `{"GAP lost": 50}`; `nothing` stands for
/// those that were told nothing.
pub(crate) fn note_reasons(row: &mut Row, outcome: &Outcome, pace: Pace, name: &str) {
    let mut told = serde_json::Map::new();
    for (_, what, count) in outcome.groups.told.iter().filter(|(p, _, _)| *p == pace) {
        told.insert(what.unwrap_or("nothing").to_owned(), (*count).into());
    }
    row.note(&format!("{name}_told"), told);
    if pace != Pace::Full {
        row.note(&format!("{name}_untold"), outcome.groups.told(pace, |told| told.is_none()));
    }
}

/// New subscribers join one by one while the feed runs.
pub(crate) fn late_join(to: &mut Comparison<'_>) -> Result<(), String> {
    let (subscribers, joiners) = (to.flags.subscribers as usize, to.flags.joiners);
    let rate = to.flags.rate.unwrap_or(100);
    to.title(&format!(
        "late-join: {joiners} join {subscribers} running subscribers, {rate} messages/s"
    ))?;
    let spec = RunSpec { joiners, ..to.spec(Target::Pregao, subscribers, rate) };
    match to.attempt("late-join", spec) {
        Ok((outcome, _)) => {
            let mut row = Row::new("late-join", &outcome, objections(&outcome));
            let mut waits = outcome.joins.clone();
            waits.sort_unstable();
            let at = |place: usize| waits.get(place).copied().unwrap_or_default();
            let us = |place| micros(pregao::time::nanos(at(place))).round();
            row.note("joiners", joiners);
            row.note("join_p50_us", us(waits.len() / 2));
            row.note("join_max_us", us(waits.len().saturating_sub(1)));
            to.show(&row)
        }
        Err(trouble) => {
            to.report("late-join", Target::Pregao, trouble);
            Ok(())
        }
    }
}

/// As many as this machine's descriptors allow, beside the usual number.
pub(crate) fn many(to: &mut Comparison<'_>) -> Result<(), String> {
    let few = to.flags.subscribers as usize;
    let rate = to.flags.rate.unwrap_or(5);
    to.title(&format!("many: {few} and {MANY_SUBSCRIBERS} subscribers, {rate} messages/s"))?;
    if let Err(why) = raise_descriptor_limit(MANY_SUBSCRIBERS) {
        eprintln!("loadgen: many: {why}");
        return Ok(());
    }
    let mut cost_of_few = None;
    for subscribers in [few, MANY_SUBSCRIBERS] {
        let mut outcomes = Vec::new();
        for _ in 0..to.repeats(1) {
            let base = to.spec(Target::Pregao, subscribers, rate);
            let spec = RunSpec { duration: to.flags.duration.max(HARDSHIP_SPAN_MIN), ..base };
            match to.attempt("many", spec) {
                Ok((outcome, _)) => outcomes.push(outcome),
                Err(trouble) => to.report("many", Target::Pregao, trouble),
            }
        }
        let Some(outcome) = median(outcomes) else { continue };
        let mut row = Row::new("many", &outcome, objections(&outcome));
        let cost = outcome.costs.cpu_ns_per_delivery;
        row.note("connections", subscribers);
        if let Some((few, many)) = cost_of_few.zip(cost) {
            row.note("cpu_ratio_to_fewer", hundredths(many / few));
        }
        cost_of_few = cost_of_few.or(cost);
        to.show(&row)?;
    }
    Ok(())
}

/// Some leave and come back all the time.
pub(crate) fn churn(to: &mut Comparison<'_>) -> Result<(), String> {
    let (subscribers, churn) = (to.flags.subscribers as usize, to.flags.churn);
    let rate = to.flags.rate.unwrap_or(400);
    to.title(&format!(
        "churn: {subscribers} subscribers, {churn}/s leave and come back, {rate} messages/s"
    ))?;
    let base = to.spec(Target::Pregao, subscribers, rate);
    match to.attempt("churn", RunSpec { churn_per_s: churn, ..base }) {
        Ok((outcome, _)) => to.show(&Row::new("churn", &outcome, objections(&outcome))),
        Err(trouble) => {
            to.report("churn", Target::Pregao, trouble);
            Ok(())
        }
    }
}

#[allow(clippy::cast_precision_loss, reason = "a figure for people")]
fn ratio(of: u64, to: u64) -> f64 {
    of as f64 / to.max(1) as f64
}

fn hundredths(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}
