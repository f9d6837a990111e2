//! What of a tape is replayed: a span of the recording clock, and symbols.

use std::collections::BTreeMap;

use super::{TapeBody, TapeEvent, TapeInstrument, TapeInstruments};
use crate::feed::Pattern;
use crate::wire::{Flags, InstrumentIndex};

/// What is wanted of a tape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TapeSelection {
    /// Events that were recorded from here on: nanoseconds since the Unix epoch.
    pub from_ns: u64,
    /// Events that were recorded before this.
    pub to_ns: u64,
    /// Instruments that one of these means. Empty: all.
    pub symbols: Vec<Pattern>,
}

impl Default for TapeSelection {
    fn default() -> TapeSelection {
        TapeSelection { from_ns: 0, to_ns: u64::MAX, symbols: Vec::new() }
    }
}

impl TapeSelection {
    fn wants(&self, row: &TapeInstrument) -> bool {
        self.symbols.is_empty() || self.symbols.iter().any(|pattern| row.is_meant_by(pattern))
    }
}

/// A selection at work on one tape.
#[derive(Debug, Default)]
pub(super) struct Selecting {
    selection: TapeSelection,
    /// By the tape's instrument index: whether it is wanted, once that was looked up.
    wanted: Vec<Option<bool>>,
    /// Of each wanted instrument the last quote ahead of the span, and behind it whether it was halted.
    before: BTreeMap<(InstrumentIndex, bool), TapeEvent>,
    has_begun: bool,
    /// Events that are not wanted.
    pub(super) left_out: u64,
}

impl Selecting {
    pub(super) fn new(selection: TapeSelection) -> Selecting {
        Selecting { selection, ..Selecting::default() }
    }

    /// Whether the event is wanted. A quote ahead of the span is kept: the market begins with the last one of each
    /// instrument.
    pub(super) fn takes(&mut self, event: &TapeEvent, instruments: &TapeInstruments) -> bool {
        let place = event.instrument.place();
        if self.wanted.len() <= place {
            self.wanted.resize(place + 1, None);
        }
        let selection = &self.selection;
        let is_wanted = *self.wanted[place].get_or_insert_with(|| {
            instruments.rows().get(place).is_some_and(|row| selection.wants(row))
        });
        let is_early = event.ts_recv < selection.from_ns && !self.has_begun;
        let is_halt = matches!(event.body, TapeBody::Halt { .. });
        if is_wanted && is_early && (is_halt || matches!(event.body, TapeBody::Quote { .. })) {
            self.before.insert((event.instrument, is_halt), *event);
        }
        let is_within = (selection.from_ns..selection.to_ns).contains(&event.ts_recv);
        self.left_out += u64::from(!(is_wanted && is_within));
        is_wanted && is_within
    }

    /// What stands ahead of the first event of the span: the last quotes before it, as if they were recorded at its
    /// beginning. Once.
    pub(super) fn opening(&mut self) -> Option<impl Iterator<Item = TapeEvent> + use<>> {
        if std::mem::replace(&mut self.has_begun, true) {
            return None;
        }
        let ts_recv = self.selection.from_ns;
        let quotes = std::mem::take(&mut self.before).into_values();
        // Nothing of the exchange's events before it is told.
        Some(quotes.map(move |it| TapeEvent { ts_recv, flags: it.flags | Flags::LAST, ..it }))
    }
}
