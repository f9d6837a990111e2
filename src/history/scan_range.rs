//! What a scan looks at: entries of one instrument, by ordinal and by event time.

use std::ops::Range;

use super::instrument::{BlockRange, InstrumentHistory, UnpackedBlock};

/// Entries of one instrument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ScanRange {
    /// These ordinals: what the client's cut leaves, and what a range of receive time does.
    pub(crate) ordinals: Range<u64>,
    /// Cancellations from here on take nothing back.
    pub(crate) cut: u64,
    /// Event times from here on; 0 for a range of receive time.
    pub(crate) from: u64,
    /// Event times before this; `u64::MAX` for a range of receive time. Behind it is nothing, so that
    /// `u64::MAX` as an event time is what damaged entries have.
    pub(crate) to: u64,
}

impl ScanRange {
    /// Block numbers to look through.
    pub(crate) fn blocks(&self) -> Range<u64> {
        InstrumentHistory::blocks_of(&self.ordinals)
    }

    /// What block `number` may have of it.
    pub(crate) fn piece(&self, history: &InstrumentHistory, number: u64) -> Option<BlockRange> {
        let piece = history.piece(number, &self.ordinals)?;
        (piece.ts_max >= self.from && piece.ts_min < self.to).then_some(piece)
    }

    /// How many entries it may have.
    pub(crate) fn entries_max(&self, history: &InstrumentHistory) -> u64 {
        let pieces = self.blocks().filter_map(|number| self.piece(history, number));
        pieces.map(|piece| piece.ordinals.end - piece.ordinals.start).sum()
    }

    /// Whether its entries are by event time as they stand.
    pub(crate) fn is_ordered(&self, history: &InstrumentHistory) -> bool {
        let mut ts_max = 0;
        self.blocks().filter_map(|number| self.piece(history, number)).all(|piece| {
            let follows = piece.is_ordered && piece.ts_min >= ts_max;
            ts_max = piece.ts_max;
            follows
        })
    }

    /// Whether all entries of a loaded piece are trades that stand, within the times.
    pub(crate) fn takes_all(
        &self,
        history: &InstrumentHistory,
        piece: &BlockRange,
        unpacked: &UnpackedBlock,
    ) -> bool {
        piece.ts_min >= self.from
            && piece.ts_max < self.to
            && unpacked.damaged == 0
            && !piece.has_cancels
            && !history.cancels.touches(&piece.ordinals)
    }

    /// Whether an entry is within the times.
    #[inline]
    pub(crate) fn has(&self, ts: u64) -> bool {
        self.from <= ts && ts < self.to
    }

    /// Whether an entry is a trade that stands.
    pub(crate) fn stands(&self, history: &InstrumentHistory, ordinal: u64) -> bool {
        !history.is_cancel(ordinal) && history.cancels.stands(ordinal, self.cut)
    }
}
