//! Puts the rows of several nodes into one list: by instrument, in order, each once, and no more than
//! were asked for.

use std::collections::BTreeMap;

use super::gathering::{BAR_FRAMES, Part, RowKind};
use crate::wire::{Counted, Definition, Frame, InstrumentId, Kind, NameParts, Op, Query, Symbol};

/// Two nodes sent the same bar or count with different figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Disagree;

/// The rows of one instrument.
#[derive(Debug, Default)]
pub(super) struct Group {
    pub(super) definition: Option<Frame>,
    pub(super) full_name: NameParts,
    pub(super) quote: Option<Frame>,
    /// Trades and cancels, whole bars, or the COUNTED.
    pub(super) rows: Vec<Frame>,
}

/// All rows of the parts that answered, by instrument. Its order is that of the answer.
///
/// # Errors
/// When two nodes disagree about a figure: adding them up could be as wrong as choosing.
pub(super) fn groups(parts: &[Part], query: &Query) -> Result<Vec<Group>, Disagree> {
    let mut names: BTreeMap<InstrumentId, Symbol> = BTreeMap::new();
    let chosen = || parts.iter().filter_map(|part| Some((part.rows(), part.chosen()?)));
    for definition in chosen().flat_map(|(_, attempt)| attempt.definitions().iter()) {
        if let Some(named) = definition.view::<Definition>() {
            names.entry(named.instrument()).or_insert(named.symbol);
        }
    }
    // Names first: `None` would sort before them.
    let order = |instrument: InstrumentId| {
        let name = names.get(&instrument).copied();
        ((name.is_none(), name.unwrap_or_default()), instrument)
    };
    let mut groups: BTreeMap<_, Group> = BTreeMap::new();
    for (kind, attempt) in chosen() {
        for definition in attempt.definitions() {
            let group = groups.entry(order(definition.instrument())).or_default();
            group.definition.get_or_insert(*definition);
        }
        for part in attempt.names() {
            let group = groups.entry(order(part.instrument())).or_default();
            group.full_name.note(part);
        }
        // A node sends the rows of one instrument together.
        for rows in attempt.rows().chunk_by(|a, b| instrument_of(a) == instrument_of(b)) {
            let Some(first) = rows.first() else { continue };
            let group = groups.entry(order(instrument_of(first))).or_default();
            match kind {
                RowKind::Quote => {
                    group.quote.get_or_insert(*first);
                }
                _ => group.rows.extend_from_slice(rows),
            }
        }
    }
    let mut groups: Vec<Group> = groups.into_values().collect();
    for group in &mut groups {
        group.order(query)?;
    }
    Ok(groups)
}

fn instrument_of(row: &Frame) -> InstrumentId {
    row.view::<Counted>().map_or(row.instrument(), Counted::instrument)
}

impl Group {
    fn order(&mut self, query: &Query) -> Result<(), Disagree> {
        match RowKind::of(query) {
            Some(RowKind::Trades) => self.order_trades(query),
            Some(RowKind::Bars) => return self.order_bars(),
            Some(RowKind::Counts) => {
                // A control frame's figures stand where a data frame has its header too.
                let figures = |row: &Frame| {
                    let counted = row.view::<Counted>();
                    counted.map(|it| (it.trades, it.cancelled, it.first, it.last))
                };
                self.rows.dedup_by(|a, b| figures(a) == figures(b));
                return if self.rows.len() > 1 { Err(Disagree) } else { Ok(()) };
            }
            _ => {}
        }
        Ok(())
    }

    /// Trades and cancels by (`ts_event`, `seq`), cut to the query's limit.
    fn order_trades(&mut self, query: &Query) {
        let rows = &mut self.rows;
        // `seq` is unique within a source, so it alone says what is the same row. The sort is stable: of
        // copies with different delivery flags the one of the node named first in the plan stays.
        rows.sort_by_key(identity);
        rows.dedup_by(|a, b| a.seq.get() != 0 && identity(a) == identity(b));
        let by_receipt = query.op == Op::Range as u8 && query.options & Query::RECEIVE_TIME != 0;
        if !by_receipt {
            rows.sort_by_key(|row| (row.ts_event.get(), row.seq.get()));
        }
        cut(rows, query);
    }

    /// Whole bars, by start.
    fn order_bars(&mut self) -> Result<(), Disagree> {
        let mut bars: Vec<&[Frame]> = self.rows.chunks_exact(BAR_FRAMES).collect();
        let start = |bar: &[Frame]| bar.first().map(|frame| frame.ts_event.get());
        bars.sort_by_key(|bar| start(bar));
        let mut agree = true;
        bars.dedup_by(|a, b| {
            let same = start(a) == start(b);
            agree &= !same || a.iter().zip(b.iter()).all(|(a, b)| a.body == b.body);
            same
        });
        let bars = bars.concat();
        self.rows = bars;
        if agree { Ok(()) } else { Err(Disagree) }
    }
}

/// The source and its number for the row.
fn identity(row: &Frame) -> (u8, u64) {
    (row.instrument().source(), row.seq.get())
}

/// Every node sends as many trades as were asked for; together they may be more. Cancels go with the
/// trades between which they stand and do not count.
fn cut(rows: &mut Vec<Frame>, query: &Query) {
    // A limit of 0 sets no bound here: what a node means by it is its own matter.
    let Some(beyond) = usize::try_from(query.limit.get()).ok().filter(|limit| *limit > 0) else {
        return;
    };
    let mut trades = rows.iter().enumerate().filter(|(_, row)| row.kind == Kind::Trade as u8);
    if query.op == Op::Last as u8 {
        if let Some((first, _)) = trades.nth_back(beyond - 1) {
            rows.drain(..first);
        }
    } else if let Some((end, _)) = trades.nth(beyond) {
        rows.truncate(end);
    }
}
