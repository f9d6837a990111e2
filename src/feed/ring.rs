//! The ring: the newest frames of one sequence, each stored once, addressed by `seq`.
//!
//! A reader is nothing but a `seq` (its cursor). The bytes between a cursor and the head are already
//! the bytes to send, so a full-feed reader costs no copy in user space.

use zerocopy::IntoBytes;

use crate::planted::{Bug, is_planted};
use crate::wire::Frame;

/// A power-of-two ring of frames.
///
/// Invariant: the frames `oldest_seq..next_seq` are held, contiguous, each at slot `seq & mask`.
#[derive(Debug)]
pub struct Ring {
    slots: Box<[Frame]>,
    mask: u64,
    oldest_seq: u64,
    next_seq: u64,
}

impl Ring {
    /// A ring for the last `frames` frames, rounded up to a power of two, that begins at `next_seq`.
    #[must_use]
    pub fn new(frames: usize, next_seq: u64) -> Ring {
        let frames = frames.max(1).next_power_of_two();
        Ring {
            slots: vec![Frame::ZERO; frames].into_boxed_slice(),
            mask: frames as u64 - 1,
            oldest_seq: next_seq,
            next_seq,
        }
    }

    /// The oldest `seq` held; equal to [`Ring::next_seq`] when nothing is.
    #[must_use]
    pub fn oldest_seq(&self) -> u64 {
        self.oldest_seq
    }

    /// The `seq` that the next frame must have.
    #[must_use]
    pub fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// How many frames fit.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.slots.len()
    }

    /// Appends the frame with `seq == next_seq`, overwriting the oldest one when full.
    pub fn push(&mut self, frame: &Frame) {
        let slot = self.slot(self.next_seq);
        self.slots[slot] = *frame;
        self.next_seq = self.next_seq.saturating_add(1);
        self.oldest_seq =
            self.oldest_seq.max(self.next_seq.saturating_sub(self.slots.len() as u64));
    }

    /// Forgets everything from `seq` on (a new epoch made it void), or everything at all when `seq`
    /// is ahead (the source jumped). The next frame is `seq`.
    pub fn restart_at(&mut self, seq: u64) {
        if seq > self.next_seq {
            self.oldest_seq = seq;
        }
        self.oldest_seq = self.oldest_seq.min(seq);
        self.next_seq = seq;
    }

    /// The frame with this `seq`, while it is held.
    #[must_use]
    pub fn get(&self, seq: u64) -> Option<&Frame> {
        let held = self.oldest_seq <= seq && seq < self.next_seq;
        held.then(|| &self.slots[self.slot(seq)])
    }

    /// The held frames of `from_seq..`, at most `frames_max` of them, as one slice or (at the wrap) two.
    #[must_use]
    pub fn slices(&self, from_seq: u64, frames_max: usize) -> (&[Frame], &[Frame]) {
        let from_seq = from_seq.max(self.oldest_seq);
        let held = self.next_seq.saturating_sub(from_seq);
        let count = usize::try_from(held).unwrap_or(usize::MAX).min(frames_max);
        let start = self.slot(from_seq);
        let head = count.min(self.slots.len() - start);
        let skipped = usize::from(is_planted(Bug::RingWrapOffByOne) && count > head);
        (&self.slots[start..start + head], &self.slots[skipped..count - head])
    }

    /// The same as bytes to send.
    #[must_use]
    pub fn bytes(&self, from_seq: u64, frames_max: usize) -> (&[u8], &[u8]) {
        let (head, tail) = self.slices(from_seq, frames_max);
        (head.as_bytes(), tail.as_bytes())
    }

    #[allow(clippy::cast_possible_truncation, reason = "the mask is below the slot count")]
    fn slot(&self, seq: u64) -> usize {
        (seq & self.mask) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Quote, U64};

    fn frame(seq: u64) -> Frame {
        Frame::seal(Quote { seq: U64::new(seq), ..Quote::default() })
    }

    fn seqs(slices: (&[Frame], &[Frame])) -> Vec<u64> {
        slices.0.iter().chain(slices.1).map(|f| f.seq.get()).collect()
    }

    #[test]
    fn every_window_across_the_wrap_is_whole_and_in_order() {
        let mut ring = Ring::new(8, 100);
        for seq in 100..150 {
            ring.push(&frame(seq));
            for from in 90..=seq + 1 {
                let expected: Vec<u64> = (from.max(ring.oldest_seq())..=seq).collect();
                assert_eq!(seqs(ring.slices(from, usize::MAX)), expected);
                let three: Vec<u64> = expected.iter().copied().take(3).collect();
                assert_eq!(seqs(ring.slices(from, 3)), three);
            }
        }
        assert_eq!(ring.oldest_seq(), 142);
        assert!(ring.get(141).is_none() && ring.get(150).is_none());
        assert_eq!(ring.get(142).map(|f| f.seq.get()), Some(142));
    }

    #[test]
    fn a_void_tail_is_forgotten_and_written_again() {
        let mut ring = Ring::new(8, 1);
        (1..=5).for_each(|seq| ring.push(&frame(seq)));
        ring.restart_at(3);
        assert_eq!((ring.oldest_seq(), ring.next_seq()), (1, 3));
        ring.push(&frame(3));
        assert_eq!(seqs(ring.slices(1, 9)), [1, 2, 3]);
    }

    #[test]
    fn a_jump_forward_leaves_nothing_old() {
        let mut ring = Ring::new(8, 1);
        (1..=5).for_each(|seq| ring.push(&frame(seq)));
        ring.restart_at(40);
        assert_eq!((ring.oldest_seq(), ring.next_seq()), (40, 40));
        assert!(seqs(ring.slices(1, 9)).is_empty());
    }
}
