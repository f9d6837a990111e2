//! What a log has counted after each record: the one place that knows how a frame or a mark moves the
//! counters. Appending and recovery both go through it, so they cannot disagree.

use super::mark::{Mark, Reason};
use crate::wire::{ExchangeNumber, Frame, Gap, U64};

/// Which seq may follow which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sequence {
    /// Each frame has the seq after the one before: the journal of a sequencer.
    Contiguous,
    /// Each frame has a greater seq than the one before: a shard, which keeps only its part.
    Increasing,
}

/// How appended frames move the upstream position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamRule {
    /// Upstream has numbers of its own, and each appended frame consumes one unless it is local, or of an exchange with another
    /// number than 0.
    CountAppended,
    /// The frame's own seq is upstream's: what is wanted next is the one after it.
    FollowSeq,
}

/// What is fixed for the life of a log.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    pub(super) sequence: Sequence,
    pub(super) upstream: UpstreamRule,
}

/// Epoch, seq and upstream position behind a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Counters {
    pub(super) epoch: u32,
    pub(super) epoch_start: u64,
    pub(super) next_seq: u64,
    pub(super) upstream_feed: u64,
    pub(super) upstream_seq: u64,
    /// The next frame consumes no upstream number.
    local_next: bool,
}

impl Counters {
    /// Those of a log without records.
    pub(super) const FRESH: Counters = Counters {
        epoch: 0,
        epoch_start: 1,
        next_seq: 1,
        upstream_feed: 0,
        upstream_seq: 1,
        local_next: false,
    };

    /// Whether a data frame of this seq may come next.
    #[inline]
    pub(super) fn accepts(&self, seq: u64, rules: Rules) -> bool {
        let in_order = match rules.sequence {
            Sequence::Contiguous => seq == self.next_seq,
            Sequence::Increasing => seq >= self.next_seq,
        };
        // The greatest number has no successor, so it can never be used.
        in_order && seq != 0 && seq != u64::MAX
    }

    /// Moves past a data frame that [`Counters::accepts`].
    #[inline]
    pub(super) fn apply_data(&mut self, frame: &Frame, rules: Rules) {
        self.next_seq = frame.seq.get().saturating_add(1);
        match rules.upstream {
            UpstreamRule::CountAppended if self.local_next => {}
            // It is a number of another exchange than the one that marks count for.
            UpstreamRule::CountAppended if frame.exchange() != ExchangeNumber::FIRST => {}
            UpstreamRule::CountAppended => {
                self.upstream_seq = self.upstream_seq.saturating_add(1);
            }
            UpstreamRule::FollowSeq => self.upstream_seq = self.upstream_seq.max(self.next_seq),
        }
        self.local_next = false;
    }

    /// Moves past a data frame behind a damaged range, whose frames are taken to be upstream's.
    pub(super) fn apply_data_after_damage(&mut self, frame: &Frame, rules: Rules) {
        if rules.upstream == UpstreamRule::CountAppended {
            let lost = frame.seq.get().saturating_sub(self.next_seq);
            self.upstream_seq = self.upstream_seq.saturating_add(lost);
        }
        self.local_next = false;
        self.apply_data(frame, rules);
    }

    /// Whether a hole may stand here. In a journal it takes the place of the frames that nobody has any more; in
    /// a shard's log it moves nothing, so it may stand anywhere.
    pub(super) fn accepts_hole(&self, hole: &Gap, is_behind_damage: bool, rules: Rules) -> bool {
        let from = hole.from_seq.get();
        match rules.sequence {
            Sequence::Increasing => true,
            Sequence::Contiguous if is_behind_damage => from >= self.next_seq,
            Sequence::Contiguous => from == self.next_seq,
        }
    }

    /// Moves past a hole that [`Counters::accepts_hole`]. What a journal lost is taken to be upstream's.
    pub(super) fn apply_hole(&mut self, hole: &Gap, rules: Rules) {
        if rules.sequence == Sequence::Contiguous {
            let behind = hole.to_seq.get().saturating_add(1);
            if rules.upstream == UpstreamRule::CountAppended {
                let lost = behind.saturating_sub(self.next_seq);
                self.upstream_seq = self.upstream_seq.saturating_add(lost);
            }
            self.next_seq = self.next_seq.max(behind);
            self.local_next = false;
        }
    }

    /// Whether this mark can be at `position`.
    pub(super) fn accepts_mark(&self, mark: &Mark, position: u64, rules: Rules) -> bool {
        let seq = mark.seq.get();
        let in_order = if mark.is(Reason::Epoch) {
            let seq_fits = match rules.sequence {
                Sequence::Contiguous => seq == self.next_seq,
                Sequence::Increasing => seq <= self.next_seq,
            };
            seq_fits && mark.epoch.get() > self.epoch
        } else {
            seq == self.next_seq && mark.epoch.get() == self.epoch
        };
        in_order && mark.durable_records.get() <= position
    }

    /// Adopts what a mark says.
    pub(super) fn apply_mark(&mut self, mark: &Mark) {
        *self = Counters {
            epoch: mark.epoch.get(),
            epoch_start: mark.epoch_start.get(),
            next_seq: mark.seq.get(),
            upstream_feed: mark.upstream_feed.get(),
            upstream_seq: mark.upstream_seq.get(),
            local_next: mark.is(Reason::Local),
        };
    }

    /// Begins an epoch. Frames before this point with a seq from the new `next_seq` on are void.
    pub(super) fn begin_epoch(&mut self, epoch: u32, start_seq: u64, rules: Rules) {
        self.epoch = epoch;
        self.epoch_start = start_seq;
        self.next_seq = self.next_seq.min(start_seq);
        if rules.upstream == UpstreamRule::FollowSeq {
            self.upstream_seq = self.upstream_seq.min(start_seq);
        }
    }

    /// The mark that says all this.
    pub(super) fn mark(&self, reason: Reason, durable_records: u64, written_at: u64) -> Mark {
        Mark {
            epoch: self.epoch.into(),
            seq: U64::new(self.next_seq),
            durable_records: U64::new(durable_records),
            epoch_start: U64::new(self.epoch_start),
            upstream_feed: U64::new(self.upstream_feed),
            upstream_seq: U64::new(self.upstream_seq),
            written_at: U64::new(written_at),
            reason: reason as u8,
            ..Mark::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Quote, U16};

    fn behind(upstream: UpstreamRule, local_next: bool, seq: u64) -> Counters {
        let mut counters =
            Counters { next_seq: 5, upstream_seq: 50, local_next, ..Counters::FRESH };
        let frame = Frame::seal(Quote { seq: U64::new(seq), ..Quote::default() });
        let rules = Rules { sequence: Sequence::Increasing, upstream };
        counters.apply_data_after_damage(&frame, rules);
        counters
    }

    /// Frames that rot has taken are taken to have consumed upstream numbers.
    #[test]
    fn lost_frames_are_counted_as_upstreams() {
        let counted = behind(UpstreamRule::CountAppended, false, 8);
        assert_eq!((counted.next_seq, counted.upstream_seq), (9, 54), "3 lost, and this one");
        let followed = behind(UpstreamRule::FollowSeq, false, 8);
        assert_eq!((followed.next_seq, followed.upstream_seq), (9, 50), "its own seq says it");
        // The Local mark was about one of those that are lost.
        assert_eq!(behind(UpstreamRule::CountAppended, true, 8).upstream_seq, 54);
        assert!(!behind(UpstreamRule::CountAppended, true, 8).local_next);
    }

    #[test]
    fn a_frame_of_another_exchange_consumes_no_number_of_this_one() {
        let rules = Rules { sequence: Sequence::Contiguous, upstream: UpstreamRule::CountAppended };
        let counted = |number: u16| {
            let flags = U16::new(ExchangeNumber::new(number).unwrap().flags());
            let mut counters = Counters { next_seq: 5, upstream_seq: 50, ..Counters::FRESH };
            let frame = Frame::seal(Quote { flags, seq: U64::new(5), ..Quote::default() });
            counters.apply_data(&frame, rules);
            (counters.next_seq, counters.upstream_seq)
        };
        assert_eq!((counted(0), counted(1), counted(31)), ((6, 51), (6, 50), (6, 50)));
    }

    /// The Local mark was about one of the frames that the hole stands for.
    #[test]
    fn a_hole_of_a_journal_takes_the_place_of_the_local_frame_too() {
        let rules = |sequence| Rules { sequence, upstream: UpstreamRule::CountAppended };
        let before =
            Counters { next_seq: 5, upstream_seq: 50, local_next: true, ..Counters::FRESH };
        let hole = Gap { from_seq: U64::new(5), to_seq: U64::new(7), ..Gap::default() };
        let mut counters = before;
        counters.apply_hole(&hole, rules(Sequence::Increasing));
        assert_eq!(counters, before);
        counters.apply_hole(&hole, rules(Sequence::Contiguous));
        let behind = Counters { next_seq: 8, upstream_seq: 53, local_next: false, ..before };
        assert_eq!(counters, behind);
        assert!(counters.accepts_hole(&hole, false, rules(Sequence::Increasing)));
        for (from, in_place, behind_damage) in
            [(7, false, false), (8, true, true), (9, false, true)]
        {
            let hole = Gap { from_seq: U64::new(from), to_seq: U64::new(20), ..Gap::default() };
            let rules = rules(Sequence::Contiguous);
            assert_eq!(counters.accepts_hole(&hole, false, rules), in_place, "{from}");
            assert_eq!(counters.accepts_hole(&hole, true, rules), behind_damage, "{from}");
        }
    }
}
