//! What is said in the end: what was stored, and what was left out of the lines.

use std::io::Write;

use serde_json::json;

use super::args::PublishFlags;
use super::source::Source;
use super::survey::{Counts, Survey};
use crate::cli::args::Format;
use crate::cli::exit::{Exit, Failure};
use crate::cli::output::Output;

/// What was published.
#[derive(Debug)]
pub(super) struct Publication {
    pub(super) source: Leavings,
    pub(super) counts: Counts,
    /// Events of this feed that core had before.
    pub(super) before: u64,
    /// Quotes with a size of more digits than are kept.
    pub(super) rounded: u64,
    pub(super) sessions: u64,
}

/// What was left out of the lines.
#[derive(Debug)]
pub(super) struct Leavings {
    skipped: Vec<(String, u64)>,
    unread: Vec<String>,
    is_torn: bool,
}

impl Leavings {
    /// What this one has left out.
    pub(super) fn of(source: &Source) -> Leavings {
        let skipped = source.lines().skipped().iter();
        let mut skipped: Vec<(String, u64)> =
            skipped.map(|(kind, count)| (format!("of kind {kind}"), *count)).collect();
        if source.snapshot_trades() > 0 {
            let what = "trades from before the first event (flag snapshot)".to_owned();
            skipped.push((what, source.snapshot_trades()));
        }
        let unread = source.lines().unread().keys().cloned().collect();
        Leavings { skipped, unread, is_torn: source.is_torn() }
    }

    fn remarks(&self) -> Vec<String> {
        let of_kinds = self.skipped.iter().map(|(what, count)| format!("left out: {count} {what}"));
        let names = (!self.unread.is_empty()).then(|| {
            let names = self.unread.join(", ");
            format!("names that mean nothing here, and are not read: {names}")
        });
        let torn = self.is_torn.then(|| "left out: a last line without its end".to_owned());
        of_kinds.chain(names).chain(torn).collect()
    }
}

impl Publication {
    /// Says it.
    ///
    /// # Errors
    /// When the output takes no more.
    pub(super) fn show<W: Write>(
        &self,
        flags: &PublishFlags,
        output: &mut Output<W>,
    ) -> Result<Exit, Failure> {
        for remark in self.source.remarks() {
            log::warn!("{remark}");
        }
        if self.rounded > 0 {
            log::warn!(
                "quotes with a size of more than eight digits: {}; the first eight are kept, and trades keep all",
                self.rounded
            );
        }
        let Counts { quotes, trades, cancels } = self.counts;
        let name = flags.exchange;
        match flags.result {
            Format::Json => output.line(
                &json!({
                    "exchange": name.to_string(),
                    "stored": self.counts.events(),
                    "quotes": quotes,
                    "trades": trades,
                    "cancels": cancels,
                    "stored_before": self.before,
                    "rounded": self.rounded,
                    "sessions": self.sessions,
                    "left_out": left_out(&self.source),
                })
                .to_string(),
            )?,
            Format::Table => {
                let before = match self.before {
                    0 => String::new(),
                    before => format!("; of this feed there were before: {before}"),
                };
                output.line(&format!("stored as {name}: {}{before}", self.counts))?;
            }
        }
        Ok(Exit::Complete)
    }
}

fn left_out(leavings: &Leavings) -> serde_json::Value {
    let kinds =
        leavings.skipped.iter().map(|(what, count)| json!({ "what": what, "lines": count }));
    let torn =
        leavings.is_torn.then(|| json!({ "what": "a last line without its end", "lines": 1 }));
    kinds.chain(torn).collect()
}

/// Says what a file has.
///
/// # Errors
/// When the output takes no more.
pub(super) fn show_survey<W: Write>(
    flags: &PublishFlags,
    source: &Source,
    survey: &Survey,
    output: &mut Output<W>,
) -> Result<Exit, Failure> {
    let leavings = Leavings::of(source);
    for remark in leavings.remarks() {
        log::warn!("{remark}");
    }
    let Counts { quotes, trades, cancels } = survey.counts;
    let lines = source.lines().line();
    match flags.result {
        Format::Json => output.line(
            &json!({
                "lines": lines,
                "format": format!("{:?}", source.format()).to_lowercase(),
                "quotes": quotes,
                "trades": trades,
                "cancels": cancels,
                "instruments": survey.instruments().count(),
                "left_out": left_out(&leavings),
            })
            .to_string(),
        )?,
        Format::Table => output.line(&format!(
            "{}: lines: {lines}, instruments: {}, {}; nothing was sent",
            source.name(),
            survey.instruments().count(),
            survey.counts,
        ))?,
    }
    Ok(Exit::Complete)
}
