//! What a follower is sent that is no event of the sequence where it comes: last values, ahead of the sequence or in place
//! of void ones.

use super::{Event, Follower, lost};
use crate::wire::{Frame, GapReason, Seq};

impl Follower {
    pub(super) fn handle_snapshot_value(&mut self, frame: &Frame) {
        if !self.wants(frame) {
            return;
        }
        if self.is_live && !self.is_lossless() {
            // Those that it was sent before instead of these are void. What it has it has.
            if !self.losses.covers(frame) {
                self.hand_out(frame);
            }
            return;
        }
        if !self.is_lossless() || self.next_seq.is_none() {
            // Those who begin again with the present see by the numbers what they missed.
            self.skipped += self.losses.jump_to(frame, self.next_seq.is_some());
            self.losses.note(frame);
        }
        self.events.push_back(Event::Data(*frame));
    }

    pub(super) fn handle_snapshot_end(&mut self, end: Seq) {
        let skipped = std::mem::take(&mut self.skipped);
        let missed_from = self.next_seq.filter(|&next| next < end && !self.is_lossless());
        if let Some(missed_from) = missed_from {
            let (reason, from_seq, to_seq) = (GapReason::Skipped, missed_from.get(), end.get() - 1);
            self.losses.note_reported(reason, from_seq, to_seq, false);
            self.events.push_back(lost(reason, from_seq, to_seq, Some(skipped)));
        }
        let next_seq = self.next_seq.map_or(end, |next| next.max(end));
        (self.next_seq, self.is_live) = (Some(next_seq), true);
        self.seen_seq = self.seen_seq.max(self.next_seq);
        self.events.push_back(Event::Live { next_seq });
        self.freshness.note_live();
        self.events.extend(self.freshness.poll());
    }
}
