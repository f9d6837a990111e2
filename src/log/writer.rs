//! Which record comes next, and where it goes.
//!
//! It stores nothing: each record that it places, the log stores at that position before it goes on.

use super::counters::{Counters, Rules};
use super::durability::Point;
use super::mark::Reason;
use super::rollbacks::Rollbacks;
use crate::wire::{Frame, Gap};

/// What a mark says beside the counters.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stamp {
    /// All positions before it are durable.
    pub(super) watermark: u64,
    pub(super) written_at: u64,
}

/// A mark, and the position that it was given.
pub(super) type PlacedMark = (u64, Frame);

/// The end of the log.
///
/// Invariant: `counters` are what the records before `position` come to. Both move together, with each record
/// and with nothing else, so an open of these records would find the same counters.
///
/// Invariant: `rollbacks` has each place before `position` where the sequence fell back, as far as the log
/// still has it.
#[derive(Debug)]
pub(super) struct Writer {
    rules: Rules,
    position: u64,
    counters: Counters,
    rollbacks: Rollbacks,
    /// Records from this position on were written by this process.
    written_from: u64,
}

impl Writer {
    /// Goes on at `position`, behind records of earlier processes.
    pub(super) fn new(
        rules: Rules,
        position: u64,
        counters: Counters,
        rollbacks: Rollbacks,
    ) -> Writer {
        Writer { rules, position, counters, rollbacks, written_from: position }
    }

    /// Where the next record goes.
    #[inline]
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    pub(super) fn rules(&self) -> Rules {
        self.rules
    }

    pub(super) fn counters(&self) -> &Counters {
        &self.counters
    }

    pub(super) fn rollbacks(&self) -> &Rollbacks {
        &self.rollbacks
    }

    pub(super) fn written_from(&self) -> u64 {
        self.written_from
    }

    pub(super) fn point(&self) -> Point {
        Point {
            position: self.position,
            next_seq: self.counters.next_seq,
            upstream_seq: self.counters.upstream_seq,
        }
    }

    /// Whether a data frame of this seq may come next.
    #[inline]
    pub(super) fn accepts(&self, seq: u64) -> bool {
        self.counters.accepts(seq, self.rules)
    }

    /// Places a data frame of a seq that it accepts.
    #[inline]
    pub(super) fn place_data(&mut self, frame: &Frame) -> u64 {
        self.counters.apply_data(frame, self.rules);
        self.place()
    }

    /// Places a record that moves no number: a statement or an entry of the lineage.
    pub(super) fn place_beside_the_sequence(&mut self) -> u64 {
        self.place()
    }

    /// Whether a hole may come next.
    pub(super) fn accepts_hole(&self, hole: &Gap) -> bool {
        self.counters.accepts_hole(hole, false, self.rules)
    }

    /// Places a hole that it accepts.
    pub(super) fn place_hole(&mut self, hole: &Gap) -> u64 {
        self.counters.apply_hole(hole, self.rules);
        self.place()
    }

    /// Places a mark that changes nothing but what its reason says by itself.
    pub(super) fn place_mark(&mut self, reason: Reason, stamp: Stamp) -> PlacedMark {
        let mark = self.counters.mark(reason, stamp.watermark, stamp.written_at);
        self.counters.apply_mark(&mark);
        (self.place(), Frame::seal(mark))
    }

    /// Places the mark of another upstream position.
    pub(super) fn place_upstream_mark(
        &mut self,
        feed: u64,
        next_seq: u64,
        stamp: Stamp,
    ) -> PlacedMark {
        self.counters.upstream_feed = feed;
        self.counters.upstream_seq = next_seq;
        self.place_mark(Reason::Upstream, stamp)
    }

    /// Places the mark of a new epoch.
    pub(super) fn place_epoch_mark(
        &mut self,
        epoch: u32,
        start_seq: u64,
        stamp: Stamp,
    ) -> PlacedMark {
        let next_seq_before = self.counters.next_seq;
        self.counters.begin_epoch(epoch, start_seq, self.rules);
        if self.counters.next_seq < next_seq_before {
            self.rollbacks.push(self.position, self.counters.next_seq);
        }
        self.place_mark(Reason::Epoch, stamp)
    }

    /// The log has nothing before this position any more.
    pub(super) fn forget_before(&mut self, first_position: u64) {
        self.rollbacks.forget_before(first_position);
    }

    #[inline]
    fn place(&mut self) -> u64 {
        let position = self.position;
        self.position = position + 1;
        position
    }
}
