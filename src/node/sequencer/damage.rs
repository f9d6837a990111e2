//! What rot in the journal means for a core that starts: which frames it does not know, and whether a
//! definition can be among them. A symbol that got a second number would have its history under two, and a
//! number that named two symbols would mix theirs; neither may happen without a word.
//!
//! Whoever starts later reads statements that stand behind the loss, and no longer what it was. So a
//! statement says what the core that wrote it did not know: with the flag STALE, a value may not have been
//! the last, and a definition defines nothing, but no number up to its own is free.
//!
//! What is *not* here: notifying the followers (they come to the hole by themselves), and mending the file.
//!
//! # Decisions
//!
//! * A rotted definition is read from the checkpoint of a later segment, or repaired from its own record if
//!   only one bit is wrong. If neither works and frames of that instrument exist, core refuses to start and
//!   prints what to do.
//! * If nothing tells what the lost frames were, as many instrument numbers stay unused, and last values
//!   that may not be the last are STALE. Checkpoints of later segments repeat both, so no roll and no
//!   restart forgets it. A rotted head does not make core forget a loss either.
//! * What was repaired is used for names and counters only. It is never sent.

use crate::limits;
use crate::wire::{Definition, Flags, Frame, InstrumentId, Seq};

/// The symbol in a definition that defines nothing. The flag makes it one, whatever stands here.
const NO_SYMBOL: &str = "$lost";

/// What is stated so that neither this number nor one below it is given out again.
pub(super) fn last_number(instrument: InstrumentId) -> Option<Frame> {
    let definition = Definition::new(instrument, NO_SYMBOL.parse().ok()?, 0);
    Some(Frame::seal(definition).delivered(Flags::STALE))
}

/// Frames that a reader of the journal has missed since it last knew everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Loss {
    /// The seq that comes next; `None`: not known yet.
    next_seq: Option<Seq>,
    pub(super) frames: u64,
    /// The first and the last of them.
    from_seq: u64,
    to_seq: u64,
    /// Something since the segment's beginning, and before its first frame, cannot be read.
    is_head_damaged: bool,
}

impl Loss {
    /// Nothing is missed of a journal that begins at its beginning.
    pub(super) fn begin(has_beginning: bool) -> Loss {
        Loss { next_seq: has_beginning.then_some(Seq::FIRST), ..Loss::default() }
    }

    /// A frame with this seq is read.
    pub(super) fn pass_frame(&mut self, seq: u64) {
        self.pass_mark(seq);
        self.is_head_damaged = false;
        self.next_seq = self.next_seq.max(Some(Seq::behind(seq)));
    }

    /// A mark is read: the next frame has this seq.
    pub(super) fn pass_mark(&mut self, seq: u64) {
        if let Some(next) = self.next_seq.map(Seq::get)
            && seq > next
        {
            if self.frames == 0 {
                self.from_seq = next;
            }
            self.frames = self.frames.saturating_add(seq - next);
            self.to_seq = seq - 1;
        }
        self.next_seq = self.next_seq.max(Seq::new(seq));
    }

    /// Something cannot be read.
    pub(super) fn pass_damage(&mut self) {
        self.is_head_damaged = true;
    }

    /// The first mark of a segment is read.
    pub(super) fn begin_segment(&mut self) {
        self.is_head_damaged = false;
    }

    /// All that its writer knew, and what it did not know, has been said again: what was missed before
    /// matters no more. Unless one of the statements is lost, which may have said just that.
    pub(super) fn pass_stated(&mut self) {
        if !self.is_head_damaged {
            *self = Loss { next_seq: self.next_seq, ..Loss::default() };
        }
    }

    /// Whether a frame with this seq can stand where the reader is.
    pub(super) fn can_be(&self, seq: u64) -> bool {
        self.next_seq.is_some_and(|next| seq >= next.get())
    }

    /// What is said when so much is missing that numbers could be given out twice, or when
    /// `nameless` instruments have lost their definitions.
    pub(super) fn refusal(&self, nameless: usize, instruments: usize) -> Option<String> {
        let missing = usize::try_from(self.frames).unwrap_or(usize::MAX);
        let has_room = missing <= limits::LOST_NUMBERS_MAX
            && instruments.saturating_add(missing) <= limits::INSTRUMENTS_MAX;
        if nameless == 0 && has_room {
            return None;
        }
        let why = if nameless > 0 {
            format!("the definitions of {nameless} of its instruments are lost")
        } else {
            format!(
                "{} frames, seq {} to {}, are lost, and too many definitions may be among them",
                self.frames, self.from_seq, self.to_seq
            )
        };
        Some(format!(
            "the journal is damaged: {why}, and to number instruments anew would mix up what the shards \
             hold. `pregao verify` on the data directory names the segment: put that file back from a \
             copy, or move the whole data directory away, shards and all, and begin with an empty one; \
             `pregao export` takes the shards' history out of the old one"
        ))
    }

    /// A last value before this seq may not be the last; `None`: all of them are known.
    pub(super) fn uncertain_below(&self) -> Option<Seq> {
        (self.frames > 0).then(|| Seq::behind(self.to_seq))
    }

    /// What is said when core goes on all the same.
    pub(super) fn warning(&self) -> Option<String> {
        (self.frames > 0).then(|| {
            format!(
                "the journal has lost {} frames, seq {} to {}, that nothing states again; as many \
                 instrument numbers are left unused, in case definitions were among them",
                self.frames, self.from_seq, self.to_seq
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_nothing_states_again_is_missed() {
        let mut loss = Loss::begin(true);
        (1..5).for_each(|seq| loss.pass_frame(seq));
        loss.pass_mark(5);
        assert_eq!(loss.warning(), None);
        loss.pass_mark(7);
        loss.pass_frame(9);
        assert_eq!((loss.frames, loss.from_seq, loss.to_seq), (4, 5, 8));
        assert!(loss.warning().is_some() && loss.refusal(0, 3).is_none());
        assert!(loss.refusal(1, 3).unwrap().contains("pregao verify"));
        assert!(loss.refusal(0, limits::INSTRUMENTS_MAX - 3).is_some());
        // Statements of which one is lost are no reason to forget.
        loss.begin_segment();
        loss.pass_damage();
        loss.pass_stated();
        assert_eq!((loss.frames, loss.uncertain_below()), (4, Seq::new(9)));
        // The damage before them is what they make good.
        loss.pass_damage();
        loss.begin_segment();
        loss.pass_stated();
        assert_eq!((loss.frames, loss.next_seq), (0, Seq::new(10)));
        // One that begins inside the log knows nothing until something says where it is.
        let mut inside = Loss::begin(false);
        inside.pass_mark(100);
        inside.pass_frame(100);
        assert_eq!(inside.frames, 0);
    }
}
