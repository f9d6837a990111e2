//! The rows that one copy has sent for one question, each checked against what the question is answered
//! with. Not here: how many rows may be held, which the gathering counts.
//!
//! Invariant: definitions stand before the data, each instrument once, and the parts of its name behind its own; a quote comes once for each
//! instrument; the frames of a bar follow each other.

use std::collections::BTreeSet;

use crate::wire::{Flags, Frame, InstrumentId, InstrumentName, Kind, Op, Query};

/// What kind of rows a question is answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::gather) enum RowKind {
    /// At most one quote for each instrument.
    Quote,
    /// Trades and cancels.
    Trades,
    /// Bars of three frames each.
    Bars,
    /// One COUNTED for each instrument.
    Counts,
    /// Definitions only.
    Instruments,
}

impl RowKind {
    /// `None` for a question that is not gathered.
    pub(in crate::gather) fn of(question: &Query) -> Option<RowKind> {
        match Op::from_number(question.op)? {
            Op::Quote => Some(RowKind::Quote),
            Op::Last | Op::Range => Some(RowKind::Trades),
            Op::Bars => Some(RowKind::Bars),
            Op::Count => Some(RowKind::Counts),
            Op::Instruments => Some(RowKind::Instruments),
            Op::Replay | Op::Status | Op::Stop | Op::Breaker | Op::Chaos => None,
        }
    }

    /// Whether an answer with holes would be a wrong figure, not a shorter list.
    pub(in crate::gather) fn is_sum(self) -> bool {
        matches!(self, RowKind::Bars | RowKind::Counts)
    }
}

/// The frames of a bar, in order.
const BAR_KINDS: [Kind; 3] = [Kind::BarPrices, Kind::BarTotals, Kind::BarNotional];

/// Frames of one bar.
pub(in crate::gather) const BAR_FRAMES: usize = BAR_KINDS.len();

/// Rows of one kind, and the definitions that came before them.
#[derive(Debug)]
pub(super) struct Rows {
    kind: RowKind,
    /// Frames received, held or not.
    received: u32,
    /// Bars as whole groups.
    data: Vec<Frame>,
    definitions: Vec<Frame>,
    defined: BTreeSet<InstrumentId>,
    /// Parts of full names, in the order of their definitions.
    names: Vec<Frame>,
    named: BTreeSet<(InstrumentId, usize)>,
    quoted: BTreeSet<InstrumentId>,
}

impl Rows {
    /// With room for that many data frames.
    pub(super) fn new(kind: RowKind, expected: usize) -> Rows {
        let mut data = Vec::new();
        data.reserve_exact(expected);
        Rows {
            kind,
            received: 0,
            data,
            definitions: Vec::new(),
            defined: BTreeSet::new(),
            names: Vec::new(),
            named: BTreeSet::new(),
            quoted: BTreeSet::new(),
        }
    }

    /// Takes a frame in; false when it has no place in an answer to the question.
    pub(super) fn take(&mut self, frame: &Frame) -> bool {
        self.received = self.received.saturating_add(1);
        let Some(kind) = frame.kind() else { return false };
        if kind == Kind::Definition {
            let fits = self.data.is_empty() && self.defined.insert(frame.instrument());
            if fits {
                self.definitions.push(*frame);
            }
            return fits;
        }
        if let Some(name) = frame.view::<InstrumentName>() {
            let instrument = name.instrument();
            let fits = self.data.is_empty()
                && self.defined.contains(&instrument)
                && self.named.insert((instrument, name.part()));
            if fits {
                self.names.push(*frame);
            }
            return fits;
        }
        let fits = match self.kind {
            RowKind::Quote => kind == Kind::Quote && self.quoted.insert(frame.instrument()),
            RowKind::Trades => matches!(kind, Kind::Trade | Kind::Cancel),
            RowKind::Bars => self.continues_bar(kind, frame),
            RowKind::Counts => kind == Kind::Counted,
            RowKind::Instruments => false,
        };
        if fits {
            self.data.push(*frame);
        }
        fits
    }

    /// Whether the frame is the next one of a bar.
    fn continues_bar(&self, kind: Kind, frame: &Frame) -> bool {
        let position = self.data.len() % BAR_FRAMES;
        let same_bar = position == 0
            || self.data.last().is_some_and(|last| {
                last.ts_event == frame.ts_event && last.instrument == frame.instrument
            });
        BAR_KINDS.get(position) == Some(&kind) && same_bar
    }

    /// Whether the last bar lacks a frame.
    pub(super) fn is_inside_bar(&self) -> bool {
        self.kind == RowKind::Bars && !self.data.len().is_multiple_of(BAR_FRAMES)
    }

    /// Drops all frames and returns how many they were.
    pub(super) fn drop_all(&mut self) -> usize {
        let dropped = self.held();
        self.data = Vec::new();
        self.definitions = Vec::new();
        self.defined = BTreeSet::new();
        self.names = Vec::new();
        self.named = BTreeSet::new();
        self.quoted = BTreeSet::new();
        dropped
    }

    /// Whether a quote came that is not known to be current.
    pub(super) fn has_stale_quote(&self) -> bool {
        self.data.iter().any(|frame| frame.has(Flags::STALE) && frame.kind == Kind::Quote as u8)
    }

    /// Frames that are held.
    pub(super) fn held(&self) -> usize {
        self.data.len() + self.definitions.len() + self.names.len()
    }

    /// Frames that came, held or not.
    pub(super) fn received(&self) -> u32 {
        self.received
    }

    /// Rows as a client counts them: a bar is one, and definitions count where only they were asked for.
    pub(super) fn count(&self) -> usize {
        match self.kind {
            RowKind::Bars => self.data.len() / BAR_FRAMES,
            RowKind::Instruments => self.definitions.len(),
            RowKind::Quote | RowKind::Trades | RowKind::Counts => self.data.len(),
        }
    }

    pub(super) fn data(&self) -> &[Frame] {
        &self.data
    }

    pub(super) fn definitions(&self) -> &[Frame] {
        &self.definitions
    }

    pub(super) fn names(&self) -> &[Frame] {
        &self.names
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Definition, Trade, U32};

    #[test]
    fn names_stand_behind_their_definitions_each_part_once_and_are_no_rows() {
        let id = |index: u32| InstrumentId::from(U32::new(index));
        let name = "A NAME OF TWO PARTS WHICH ENDS HERE".parse().unwrap();
        let parts: Vec<Frame> = InstrumentName::parts(id(1), &name).collect();
        let definition = Frame::seal(Definition::new(id(1), name.symbol(), 2));
        let trade = Frame::seal(Trade { instrument: U32::new(1), ..Trade::default() });
        let mut rows = Rows::new(RowKind::Trades, 4);
        assert!(!rows.take(&parts[0]), "of what is not defined");
        assert!(rows.take(&definition) && rows.take(&parts[0]) && rows.take(&parts[1]));
        assert!(!rows.take(&parts[1]), "twice");
        assert!(rows.take(&trade) && !rows.take(&parts[0]), "behind rows");
        assert_eq!((rows.count(), rows.held(), rows.names()), (1, 4, &parts[..]));
        let mut list = Rows::new(RowKind::Instruments, 0);
        assert!(list.take(&definition) && list.take(&parts[0]));
        assert_eq!(list.count(), 1);
        assert_eq!((list.drop_all(), list.held()), (2, 0));
    }
}
