//! Puts the rows of several nodes into one list: in order, each once, and no more than were asked for.

use super::part::{BAR_FRAMES, Part, Role};
use crate::wire::{Frame, Kind, Op, Query};

/// Two nodes sent the same bar with different figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BarsDisagree;

/// Trades and cancels of all parts that answered, by (`ts_event`, `seq`), cut to the query's limit.
pub(super) fn trades(parts: &[Part], query: &Query) -> Vec<Frame> {
    let answered = parts.iter().filter(|part| part.role == Role::Trades && part.answered());
    let mut rows: Vec<Frame> = answered.flat_map(|part| part.rows.iter().copied()).collect();
    // `seq` is unique within a source, so it alone says what is the same row. The sort is stable: of
    // copies with different delivery flags the one of the node named first in the plan stays.
    rows.sort_by_key(identity);
    rows.dedup_by(|a, b| a.seq.get() != 0 && identity(a) == identity(b));
    rows.sort_by_key(|row| (row.ts_event.get(), row.seq.get()));
    cut(&mut rows, query);
    rows
}

/// The source and its number for the row.
fn identity(row: &Frame) -> (u32, u64) {
    (row.instrument.get() >> 24, row.seq.get())
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

/// Bars of all parts that answered, by start.
///
/// # Errors
/// When two nodes disagree about a bar: adding their figures up could be as wrong as choosing.
pub(super) fn bars(parts: &[Part]) -> Result<Vec<Frame>, BarsDisagree> {
    let answered = parts.iter().filter(|part| part.role == Role::Bars && part.answered());
    let mut bars: Vec<&[Frame]> =
        answered.flat_map(|part| part.rows.chunks_exact(BAR_FRAMES)).collect();
    let start = |bar: &[Frame]| bar.first().map(|frame| (frame.ts_event, frame.instrument));
    bars.sort_by_key(|bar| start(bar).map(|(ts, instrument)| (ts.get(), instrument.get())));
    let mut agree = true;
    bars.dedup_by(|a, b| {
        let same = start(a) == start(b);
        agree &= !same || a.iter().zip(b.iter()).all(|(a, b)| a.body == b.body);
        same
    });
    if agree { Ok(bars.concat()) } else { Err(BarsDisagree) }
}
