//! `pregao dump`: records as lines.

use std::io::Write;

use serde::Serialize;

use super::args::DumpFormat;
use super::rows::Rows;
use super::{Records, Selected, id_text};
use crate::cli::exit::{Exit, Failure};
use crate::cli::output::Output;
use crate::client::Symbols;
use crate::log::inspect::Item;
use crate::log::{EpochEntry, Mark, Reason};
use crate::parse::TimeNs;
use crate::render::{ColumnValue, FrameTable, frame_json, json_line};
use crate::wire::{Column, Decimals, Definition, Frame, Gap, GapReason, Seq, Symbol};

/// What to show.
#[derive(Clone, Debug)]
pub struct DumpRequest {
    /// Which records.
    pub selected: Selected,
    /// Stop after so many.
    pub limit: Option<u64>,
    /// The log's own marks too.
    pub marks: bool,
    /// How.
    pub format: DumpFormat,
}

/// The columns of a gap, and of a mark, behind those of all kinds.
const GAP_COLUMNS: [&str; 2] = ["from_seq", "to_seq"];
const MARK_COLUMNS: [&str; 8] = [
    "position",
    "epoch",
    "durable_records",
    "epoch_start",
    "upstream_feed",
    "upstream_seq",
    "written_at",
    "epoch_id",
];

/// Shows the records.
///
/// # Errors
/// When they cannot be read, or the output takes no more.
pub fn run(request: &DumpRequest, output: &mut Output<impl Write>) -> Result<Exit, Failure> {
    let selected = &request.selected;
    let mut records = selected.records()?;
    if request.marks && records.union.readers().len() > 1 {
        let problem = "--marks shows those of one log; choose it with --log";
        return Err(Failure::usage(problem));
    }
    records.bar.hide_beside_output();
    let screen = output.screen();
    let mut lines = Lines {
        format: request.format,
        table: FrameTable::new(screen.color, screen.lines),
        marks: request.marks,
        columns: Rows::all_columns(),
    };
    if let Some(header) = lines.header() {
        output.line(&header)?;
    }
    let mut left = request.limit.unwrap_or(u64::MAX);
    while left > 0 {
        let Some(item) = records.next_item()? else { break };
        let line = match item {
            Item::Data(frame) if frame.seq.get() >= selected.to_seq => break,
            Item::Data(frame) => {
                let Some(rows) = records.rows(&frame, selected) else { continue };
                left -= 1;
                lines.data(&frame, rows, &records.symbols)
            }
            Item::Statement(_) => continue,
            Item::Mark(position, mark) => {
                let is_wanted = (selected.from_seq..selected.to_seq).contains(&mark.seq.get());
                (request.marks && is_wanted).then(|| lines.mark(position, &mark))
            }
            Item::Epoch(position, entry) => {
                let is_wanted = (selected.from_seq..selected.to_seq).contains(&entry.first_seq);
                (request.marks && is_wanted).then(|| lines.epoch(position, &entry))
            }
            Item::Hole(from_seq, to_seq) | Item::Lost { from_seq, to_seq, .. } => {
                if to_seq < selected.from_seq || from_seq >= selected.to_seq {
                    continue;
                }
                records.is_short = true;
                lines.gap(from_seq, to_seq, &records.symbols)
            }
        };
        if let Some(line) = line {
            output.line(&line)?;
        }
    }
    Ok(exit(&records))
}

/// Partial when something could not be read. Says what was left out.
pub(super) fn exit(records: &Records) -> Exit {
    for line in records.left_out() {
        log::warn!("{line}");
    }
    if records.is_short { Exit::Partial } else { Exit::Complete }
}

struct Lines {
    format: DumpFormat,
    table: FrameTable,
    marks: bool,
    /// Those of all kinds.
    columns: Vec<&'static Column>,
}

impl Lines {
    fn header(&self) -> Option<String> {
        let columns = self.columns.iter().map(|column| column.name);
        let names = ["kind", "symbol"].into_iter().chain(columns);
        let marks: &[&str] = if self.marks { &MARK_COLUMNS } else { &[] };
        let names = names.chain(GAP_COLUMNS).chain(marks.iter().copied());
        (self.format == DumpFormat::Csv).then(|| names.collect::<Vec<_>>().join(","))
    }

    fn data(&mut self, frame: &Frame, rows: Rows, symbols: &Symbols) -> Option<String> {
        match self.format {
            DumpFormat::Json => frame_json(frame, None, symbols),
            DumpFormat::Table if frame.view::<Definition>().is_some() => {
                // The whole name: this is the line that says which venue is meant.
                let symbol = symbols.symbol(frame.instrument()).map_or("", Symbol::as_str);
                let Decimals { price, quantity } = symbols.decimals(frame.instrument());
                let of_quantities = match quantity {
                    0 => String::new(),
                    decimals => format!(", {decimals} of quantities"),
                };
                let text = format!("{symbol}, {price} decimals{of_quantities}");
                Some(format!("{:12} {:6} {text}", "", "define"))
            }
            DumpFormat::Table => self.table.line(frame, None, symbols),
            DumpFormat::Csv => {
                let decimals = symbols.decimals(frame.instrument());
                let symbol = symbols.symbol(frame.instrument()).map_or("", Symbol::as_str);
                Some(self.csv(rows.name(), symbol, |name| {
                    let column = rows.columns().find(|column| column.name == name)?;
                    ColumnValue::of(column, frame).text(decimals)
                }))
            }
        }
    }

    fn gap(&mut self, from_seq: u64, to_seq: u64, symbols: &Symbols) -> Option<String> {
        let (from, to) = (Seq::or_first(from_seq), Seq::or_first(to_seq));
        let frame = Frame::seal(Gap::uncounted(GapReason::Corrupt, from, to));
        match self.format {
            DumpFormat::Json => frame_json(&frame, None, symbols),
            DumpFormat::Table => self.table.line(&frame, None, symbols),
            DumpFormat::Csv => Some(self.csv("gap", "", |name| match name {
                "from_seq" => Some(from_seq.to_string()),
                "to_seq" => Some(to_seq.to_string()),
                "reason" => Some("corrupt".to_owned()),
                _ => None,
            })),
        }
    }

    fn mark(&self, position: u64, mark: &Mark) -> String {
        let json = MarkJson::new(position, mark);
        match self.format {
            DumpFormat::Json => json_line(&json),
            DumpFormat::Table => format!(
                "{:12} mark   {} at position {position}: next seq {}, epoch {} from {}, durable below \
                 position {}, upstream {:x} at {}",
                TimeNs(json.written_at).time_of_day(),
                json.reason,
                json.seq,
                json.epoch,
                json.epoch_start,
                json.durable_records,
                json.upstream_feed,
                json.upstream_seq
            ),
            DumpFormat::Csv => {
                let value = serde_json::to_value(&json).unwrap_or_default();
                self.csv("mark", "", |name| match value.get(name)? {
                    serde_json::Value::String(text) => Some(text.clone()),
                    number => Some(number.to_string()),
                })
            }
        }
    }

    /// An entry of the lineage.
    fn epoch(&self, position: u64, entry: &EpochEntry) -> String {
        let json = EpochJson {
            kind: "epoch",
            position,
            epoch: entry.epoch,
            epoch_id: id_text(entry.epoch_id),
            epoch_start: entry.first_seq,
            chosen: entry.is_chosen,
            given_up: entry.is_given_up,
        };
        match self.format {
            DumpFormat::Json => json_line(&json),
            DumpFormat::Table => {
                let chosen = if json.chosen { ", chosen by an operator" } else { "" };
                let given_up = if json.given_up { ", given up from there on" } else { "" };
                format!(
                    "{:12} epoch  {} ({}) from {} at position {position}{chosen}{given_up}",
                    "", json.epoch, json.epoch_id, json.epoch_start
                )
            }
            DumpFormat::Csv => {
                let value = serde_json::to_value(&json).unwrap_or_default();
                self.csv("epoch", "", |name| match value.get(name)? {
                    serde_json::Value::String(text) => Some(text.clone()),
                    number => Some(number.to_string()),
                })
            }
        }
    }

    /// A line of CSV: what `value` gives for each column. No value of ours has a quote or a line's end;
    /// a symbol may have a comma.
    fn csv(&self, kind: &str, symbol: &str, value: impl Fn(&str) -> Option<String>) -> String {
        let mut line = format!("{kind},{}", quoted(symbol));
        let marks: &[&str] = if self.marks { &MARK_COLUMNS } else { &[] };
        let names = self.columns.iter().map(|column| column.name).chain(GAP_COLUMNS);
        for name in names.chain(marks.iter().copied()) {
            line.push(',');
            line.push_str(&quoted(&value(name).unwrap_or_default()));
        }
        line
    }
}

/// A field of CSV, in quotes where RFC 4180 wants them.
fn quoted(field: &str) -> String {
    match field.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", field.replace('"', "\"\"")),
        false => field.to_owned(),
    }
}

#[derive(Serialize)]
struct MarkJson {
    kind: &'static str,
    position: u64,
    reason: &'static str,
    seq: u64,
    epoch: u32,
    durable_records: u64,
    epoch_start: u64,
    upstream_feed: u64,
    upstream_seq: u64,
    written_at: u64,
}

impl MarkJson {
    fn new(position: u64, mark: &Mark) -> MarkJson {
        MarkJson {
            kind: "mark",
            position,
            reason: reason_name(mark.reason),
            seq: mark.seq.get(),
            epoch: mark.epoch.get(),
            durable_records: mark.durable_records.get(),
            epoch_start: mark.epoch_start.get(),
            upstream_feed: mark.upstream_feed.get(),
            upstream_seq: mark.upstream_seq.get(),
            written_at: mark.written_at.get(),
        }
    }
}

#[derive(Serialize)]
struct EpochJson {
    kind: &'static str,
    position: u64,
    epoch: u32,
    epoch_id: String,
    epoch_start: u64,
    chosen: bool,
    given_up: bool,
}

fn reason_name(reason: u8) -> &'static str {
    match Reason::from_number(reason) {
        Some(Reason::Open) => "open",
        Some(Reason::Segment) => "segment",
        Some(Reason::Sync) => "sync",
        Some(Reason::Epoch) => "epoch",
        Some(Reason::Upstream) => "upstream",
        Some(Reason::Local) => "local",
        Some(Reason::Seal) => "seal",
        Some(Reason::Close) => "close",
        Some(Reason::Stated) => "stated",
        None => "unknown",
    }
}
