//! Answers as Parquet files, made row group by row group. The columns are those of CSV.

use std::fmt;
use std::io;

use serde::Serialize;

use super::answers::{End, Source};
use crate::http::Problem;
use crate::limits;
use crate::render::parquet::{
    Cell, Field, ParquetFile, Scale, bar_cells, bar_fields, instrument_cells, instrument_fields,
    quote_cells, quote_fields, trade_cells, trade_fields,
};
use crate::render::{NodeShare, Rows, json_line, node_status_name};

/// One answer that is being written.
pub(super) struct Table {
    /// `None` when it is whole.
    file: Option<ParquetFile<Vec<u8>>>,
    scale: Scale,
    next: usize,
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table").field("next", &self.next).finish_non_exhaustive()
    }
}

/// What a node contributed. How long it took, and how far it was behind, stays out: the same rows are the same bytes.
#[derive(Serialize)]
struct Share<'a> {
    node: &'a str,
    status: &'static str,
    rows: u32,
}

fn share(of: &NodeShare) -> Share<'_> {
    Share { node: &of.node, status: node_status_name(of.status), rows: of.rows }
}

impl Table {
    /// Begins an answer.
    ///
    /// # Errors
    /// When its rows are none of a table, or no decimal holds its quantities.
    pub(super) fn new(source: &Source, end: &End) -> Result<Table, Problem> {
        let (name, columns) = match source {
            Source::Quotes(reports) => ("quotes", quote_fields(reports)),
            Source::Trades { report, .. } => ("trades", trade_fields(report.decimals)),
            Source::Bars { report, first } => match &report.rows {
                Rows::Bars(bars) => {
                    let bars = bars.get(*first..).unwrap_or_default();
                    ("bars", bar_fields(bars, report.decimals))
                }
                Rows::History(_) => ("bars", None),
            },
            Source::Instruments(_) => ("instruments", Some((instrument_fields(), Scale::Whole))),
            Source::None => ("none", None),
        };
        let text = "A quantity is too large for the decimals of Parquet: ask for csv or json.";
        let columns: Option<(Vec<Field>, Scale)> = columns;
        let (fields, scale) = columns.ok_or_else(|| Problem::new(406, text))?;
        let said = [
            ("complete", end.complete.to_string()),
            ("nodes", json_line(&end.nodes.iter().map(share).collect::<Vec<_>>())),
            ("left_out", end.left_out()),
        ];
        let file = ParquetFile::new(Vec::new(), name, &fields, said.into_iter());
        let file = file.map_err(|error| Problem::new(500, format!("Parquet: {error}.")))?;
        Ok(Table { file: Some(file), scale, next: 0 })
    }

    /// Writes the next row group, or more of them where that is so short that nothing comes out. Returns whether all of it
    /// was written.
    ///
    /// # Errors
    /// When a row does not fit the columns.
    pub(super) fn write(
        &mut self,
        source: &Source,
        rows: usize,
        out: &mut Vec<u8>,
    ) -> io::Result<bool> {
        let before = out.len();
        while let Some(file) = &mut self.file {
            while self.next < rows && file.rows() < limits::GATEWAY_ROW_GROUP_ROWS {
                if let Some(cells) = cells(source, self.next, self.scale) {
                    file.push(cells);
                }
                self.next += 1;
            }
            if self.next < rows {
                file.end_group()?;
                out.append(file.out_mut());
                if out.len() > before {
                    return Ok(false);
                }
            } else if let Some(file) = self.file.take() {
                out.append(&mut file.finish()?);
            }
        }
        Ok(true)
    }
}

/// A row; `None` for what is no row.
fn cells(source: &Source, place: usize, scale: Scale) -> Option<Vec<Cell>> {
    match source {
        Source::Quotes(reports) => Some(quote_cells(reports.get(place)?, scale)),
        Source::Trades { report, .. } => {
            let Rows::History(frames) = &report.rows else { return None };
            trade_cells(frames.get(place)?, report, scale)
        }
        Source::Bars { report, first } => {
            let Rows::Bars(bars) = &report.rows else { return None };
            let bar = bars.get(first.checked_add(place)?)?;
            let cut = report.cuts(bar);
            Some(bar_cells(report.symbol.as_str(), bar, report.decimals, cut, scale))
        }
        Source::Instruments(all) => Some(instrument_cells(all.get(place)?)),
        Source::None => None,
    }
}
