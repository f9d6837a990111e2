//! The search of history for what a bar under way lacks: which questions to put, and what their answers make of it.
//!
//! # Decisions
//!
//! * It is a machine of its own, so that the client library, which waits for each answer, and the gateway, which does
//!   not, ask in one way.

use super::Backfill;
use crate::limits::{BACKFILL_SPAN_MIN, LIVE_BAR_TRADES_MAX};
use crate::time::nanos;
use crate::wire::{EndStatus, Ended, ErrorCode, Frame, Op, Query, Seq, U64, padded};

/// Why a search ended without the trades.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfound {
    /// History does not have them now. The same search may find them later.
    NotYet,
    /// They are more than a bar may have. Asking again changes nothing.
    TooMany,
}

/// One backfill that is being asked for, in as many questions as it takes.
#[derive(Debug)]
pub struct BackfillSearch {
    backfill: Backfill,
    rows: Vec<Frame>,
    /// Spans of event time that are still to be asked for, the next one last.
    spans: Vec<(u64, u64)>,
}

impl BackfillSearch {
    /// Nothing of it has been asked for.
    #[must_use]
    pub fn new(backfill: Backfill) -> BackfillSearch {
        BackfillSearch { backfill, rows: Vec::new(), spans: vec![(backfill.from, backfill.to)] }
    }

    /// What it is for.
    #[must_use]
    pub fn backfill(&self) -> &Backfill {
        &self.backfill
    }

    /// The next question. `None` when all is found.
    #[must_use]
    pub fn query(&self) -> Option<Query> {
        let &(from, to) = self.spans.last()?;
        Some(Query {
            op: Op::Range as u8,
            symbol: padded(self.backfill.symbol.as_str()),
            from: U64::new(from),
            to: U64::new(to),
            ..Query::default()
        })
    }

    /// What has been found so far, in no order.
    #[must_use]
    pub fn into_rows(self) -> Vec<Frame> {
        self.rows
    }

    /// The answer to [`BackfillSearch::query`]: its rows, its end if it has one, and why it was refused if it was.
    ///
    /// # Errors
    /// When the search is over without the trades. It is to be begun anew then, or given up.
    pub fn handle_answer(
        &mut self,
        rows: &[Frame],
        end: Option<&Ended>,
        refusal: Option<ErrorCode>,
    ) -> Result<(), Unfound> {
        let Some((from, to)) = self.spans.pop() else { return Ok(()) };
        let is_complete = end.is_some_and(|end| end.status == EndStatus::Complete as u8);
        let as_of = end.and_then(|end| Seq::from_field(end.as_of));
        if is_complete && as_of >= self.backfill.as_of {
            if self.rows.len() + rows.len() > LIVE_BAR_TRADES_MAX {
                return Err(Unfound::TooMany);
            }
            self.rows.extend_from_slice(rows);
            Ok(())
        } else if refusal == Some(ErrorCode::Limit)
            && to.saturating_sub(from) > nanos(BACKFILL_SPAN_MIN)
        {
            // More than one answer may have: half of the time at once.
            let middle = from + (to - from) / 2;
            self.spans.extend([(middle, to), (from, middle)]);
            Ok(())
        } else {
            Err(Unfound::NotYet)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{InstrumentId, InstrumentIndex, Trade};

    const AS_OF: u64 = 50;

    fn search(from: u64, to: u64) -> BackfillSearch {
        BackfillSearch::new(Backfill {
            instrument: InstrumentId::new(0, InstrumentIndex::FIRST),
            symbol: "PETR4".parse().unwrap(),
            from,
            to,
            as_of: Seq::new(AS_OF),
            before_seq: Seq::new(AS_OF),
        })
    }

    fn asked(search: &BackfillSearch) -> Option<(u64, u64)> {
        search.query().map(|query| (query.from.get(), query.to.get()))
    }

    fn end(status: EndStatus, as_of: u64) -> Ended {
        Ended { status: status as u8, as_of: U64::new(as_of), ..Ended::default() }
    }

    fn refused(search: &mut BackfillSearch) -> Result<(), Unfound> {
        search.handle_answer(&[], Some(&end(EndStatus::Failed, 0)), Some(ErrorCode::Limit))
    }

    #[test]
    fn one_complete_answer_ends_it() {
        let mut search = search(0, 1_000);
        assert_eq!(asked(&search), Some((0, 1_000)));
        let row = Frame::seal(Trade::default());
        search.handle_answer(&[row], Some(&end(EndStatus::Complete, AS_OF)), None).unwrap();
        assert_eq!((asked(&search), search.into_rows().len()), (None, 1));
    }

    #[test]
    fn what_is_too_much_for_one_answer_is_asked_for_by_halves_from_the_first_on() {
        let second = 1_000_000_000;
        let mut search = search(0, 4 * second);
        refused(&mut search).unwrap();
        refused(&mut search).unwrap();
        let mut all = Vec::new();
        while let Some(span) = asked(&search) {
            all.push(span);
            search.handle_answer(&[], Some(&end(EndStatus::Complete, AS_OF)), None).unwrap();
        }
        assert_eq!(all, [(0, second), (second, 2 * second), (2 * second, 4 * second)]);
    }

    #[test]
    fn what_history_does_not_have_yet_is_not_found() {
        let not_yet = [
            Some(end(EndStatus::Complete, AS_OF - 1)),
            Some(end(EndStatus::Partial, AS_OF)),
            Some(end(EndStatus::Failed, AS_OF)),
            None,
        ];
        for end in not_yet {
            let told = search(0, 1_000).handle_answer(&[], end.as_ref(), None);
            assert_eq!(told, Err(Unfound::NotYet), "{end:?}");
        }
    }

    #[test]
    fn a_span_that_is_short_is_not_cut() {
        let told = refused(&mut search(0, nanos(BACKFILL_SPAN_MIN)));
        assert_eq!(told, Err(Unfound::NotYet));
    }

    #[test]
    fn more_than_a_bar_may_have_is_given_up() {
        let rows = vec![Frame::seal(Trade::default()); LIVE_BAR_TRADES_MAX + 1];
        let told =
            search(0, 1_000).handle_answer(&rows, Some(&end(EndStatus::Complete, AS_OF)), None);
        assert_eq!(told, Err(Unfound::TooMany));
    }
}
