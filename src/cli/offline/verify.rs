//! `pregao verify`: findings as lines, and a summary for each log.

use std::io::Write;
use std::path::PathBuf;

use serde::Serialize;

use super::{Found, id_text, logs_in};
use crate::cli::args::Format;
use crate::cli::exit::{Exit, Failure};
use crate::cli::output::Output;
use crate::cli::progress::Bar;
use crate::log::StorageError;
use crate::log::inspect::{Finding, Outline, Severity, Summary, Verdict, Watch, verify};

/// What to check.
#[derive(Clone, Debug)]
pub struct VerifyRequest {
    /// Data directory or log.
    pub dir: PathBuf,
    /// How findings are shown.
    pub format: Format,
}

/// Checks every log in the directory.
///
/// # Errors
/// When nothing can be checked, or the output takes no more.
pub fn run(request: &VerifyRequest, output: &mut Output<impl Write>) -> Result<Exit, Failure> {
    let mut worst = Exit::Complete;
    for found in logs_in(&request.dir)? {
        worst = worst.max(one(found, request.format, output)?);
        output.flush()?;
    }
    Ok(worst)
}

fn one(mut found: Found, format: Format, output: &mut Output<impl Write>) -> Result<Exit, Failure> {
    let in_use = found.files.is_in_use();
    let dir = found.files.directory().display().to_string();
    let outline = found.outline();
    let name = match (&found.name, &outline) {
        (Some(name), _) => name.clone(),
        (None, Ok(outline)) => outline.name(),
        (None, Err(_)) => String::new(),
    };
    let refusal = outline.as_ref().ok().and_then(Outline::refusal);
    if let Some(refusal) = refusal.filter(|it| it.is_of_earlier_format()) {
        // It is whole, as far as this program can say: one line, and not one for each segment.
        return Err(Failure::failed(format!("{dir}: {refusal}")));
    }
    let bytes = outline.as_ref().map_or(0, Outline::record_bytes);
    let mut shown = Shown {
        output,
        format,
        log: &name,
        dir: &dir,
        bar: Bar::new(Some(bytes)),
        passed: 0,
        failure: None,
    };
    let verified =
        outline.and_then(|outline| verify(&mut found.files, &outline, in_use, &mut shown));
    let summary = verified.unwrap_or_else(|error| {
        // The other logs of the directory are still looked at.
        shown.found(&unreadable(&error));
        Summary { verdict: Verdict::Corrupt, corruptions: 1, ..Summary::default() }
    });
    if let Some(failure) = shown.failure.take() {
        return Err(failure);
    }
    drop(shown);
    output.line(&match format {
        Format::Json => line(&SummaryJson::new(&name, &dir, in_use, &summary)),
        Format::Table => sentence(&name, in_use, &summary),
    })?;
    Ok(match summary.verdict {
        Verdict::Clean => Exit::Complete,
        Verdict::Loss => Exit::Partial,
        Verdict::Corrupt => Exit::Failed,
    })
}

fn unreadable(error: &StorageError) -> Finding {
    Finding {
        severity: Severity::Corrupt,
        file: String::new(),
        offset: None,
        position: None,
        records: 0,
        seq: None,
        what: error.to_string(),
        meaning: "what cannot be read cannot be judged".to_owned(),
    }
}

struct Shown<'a, W: Write> {
    output: &'a mut Output<W>,
    format: Format,
    log: &'a str,
    dir: &'a str,
    bar: Bar,
    passed: u64,
    /// What the output said; nothing is written after it.
    failure: Option<Failure>,
}

impl<W: Write> Watch for Shown<'_, W> {
    fn found(&mut self, finding: &Finding) {
        let text = match self.format {
            Format::Json => line(&FindingJson::new(self.log, finding)),
            Format::Table => finding_text(self.dir, finding),
        };
        if self.failure.is_none() {
            let output = &mut self.output;
            self.failure = self.bar.suspend(|| output.line(&text)).err();
        }
    }

    fn passed(&mut self, bytes: u64) {
        self.passed += bytes;
        self.bar.show(self.passed);
    }
}

fn finding_text(dir: &str, finding: &Finding) -> String {
    let mut text = format!("{}: {dir}", severity_name(finding.severity));
    if !finding.file.is_empty() {
        text.push_str(&format!("/{}", finding.file));
    }
    if let Some(offset) = finding.offset {
        text.push_str(&format!(" at byte {offset}"));
    }
    if finding.records > 0 {
        let records = finding.records;
        let plural = if records == 1 { "" } else { "s" };
        text.push_str(&format!(" ({records} record{plural}"));
        if let Some(seq) = finding.seq {
            text.push_str(&format!(", seq {seq}"));
        }
        text.push(')');
    }
    text.push_str(&format!(": {}; {}", finding.what, finding.meaning));
    text
}

fn sentence(name: &str, in_use: bool, summary: &Summary) -> String {
    let mut text = format!("{name}: {}", verdict_name(summary.verdict));
    text.push_str(&format!(
        "; {} frames and {} marks in {} segments",
        summary.frames, summary.marks, summary.segments
    ));
    if let Some(first) = summary.first_seq {
        let last = summary.next_seq.saturating_sub(1);
        text.push_str(&format!(", seq {first} to {last}, epoch {}", summary.epoch));
        if summary.epoch_id != 0 {
            text.push_str(&format!(" ({})", id_text(summary.epoch_id)));
        }
    }
    if summary.journal_id != 0 {
        text.push_str(&format!(", journal {}", id_text(summary.journal_id)));
    }
    if summary.damaged_records > 0 {
        text.push_str(&format!(", {} damaged", summary.damaged_records));
    }
    if summary.holes > 0 {
        let plural = if summary.holes == 1 { "" } else { "s" };
        text.push_str(&format!(", {} hole{plural}", summary.holes));
    }
    if summary.cut_records > 0 {
        text.push_str(&format!(", {} torn", summary.cut_records));
    }
    let state = match (in_use, summary.is_closed) {
        (true, _) => "in use",
        (false, true) => "closed",
        (false, false) => "not closed",
    };
    text.push_str(&format!("; {state}"));
    text
}

fn severity_name(severity: Severity) -> &'static str {
    match severity {
        Severity::Note => "note",
        Severity::Loss => "loss",
        Severity::Corrupt => "corrupt",
    }
}

fn verdict_name(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Clean => "clean",
        Verdict::Loss => "loss",
        Verdict::Corrupt => "corrupt",
    }
}

#[derive(Serialize)]
struct FindingJson<'a> {
    kind: &'static str,
    log: &'a str,
    severity: &'static str,
    file: Option<&'a str>,
    offset: Option<u64>,
    position: Option<u64>,
    records: u64,
    seq: Option<u64>,
    what: &'a str,
    meaning: &'a str,
}

impl<'a> FindingJson<'a> {
    fn new(log: &'a str, finding: &'a Finding) -> FindingJson<'a> {
        FindingJson {
            kind: "finding",
            log,
            severity: severity_name(finding.severity),
            file: Some(finding.file.as_str()).filter(|file| !file.is_empty()),
            offset: finding.offset,
            position: finding.position,
            records: finding.records,
            seq: finding.seq,
            what: &finding.what,
            meaning: &finding.meaning,
        }
    }
}

#[derive(Serialize)]
struct SummaryJson<'a> {
    kind: &'static str,
    log: &'a str,
    dir: &'a str,
    verdict: &'static str,
    in_use: bool,
    closed: bool,
    segments: u64,
    frames: u64,
    marks: u64,
    statements: u64,
    holes: u64,
    damaged_records: u64,
    cut_records: u64,
    first_seq: Option<u64>,
    next_seq: u64,
    epoch: u32,
    epoch_id: Option<String>,
    journal_id: Option<String>,
    watermark_position: u64,
    end_position: u64,
    notes: u64,
    losses: u64,
    corruptions: u64,
}

impl<'a> SummaryJson<'a> {
    fn new(log: &'a str, dir: &'a str, in_use: bool, summary: &Summary) -> SummaryJson<'a> {
        SummaryJson {
            kind: "summary",
            log,
            dir,
            verdict: verdict_name(summary.verdict),
            in_use,
            closed: summary.is_closed,
            segments: summary.segments,
            frames: summary.frames,
            marks: summary.marks,
            statements: summary.statements,
            holes: summary.holes,
            damaged_records: summary.damaged_records,
            cut_records: summary.cut_records,
            first_seq: summary.first_seq,
            next_seq: summary.next_seq,
            epoch: summary.epoch,
            epoch_id: Some(summary.epoch_id).filter(|id| *id != 0).map(id_text),
            journal_id: Some(summary.journal_id).filter(|id| *id != 0).map(id_text),
            watermark_position: summary.watermark,
            end_position: summary.end_position,
            notes: summary.notes,
            losses: summary.losses,
            corruptions: summary.corruptions,
        }
    }
}

fn line(value: &impl Serialize) -> String {
    crate::render::json_line(value)
}
