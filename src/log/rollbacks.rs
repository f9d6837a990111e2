//! Where the sequence of a log fell back, and so which frames are void.
//!
//! A shard follows a core that may have lost the end of its journal. Core then begins an epoch at a
//! seq that the shard already holds: what the shard holds from there on never happened. The records
//! stay where they are; this table says which they are.
//!
//! # Decisions
//!
//! * Void frames stay in a shard's log, because the log only appends. Its index and its answers leave them
//!   out.

/// The live parts of a log. The journal's table is always empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Rollbacks {
    /// Invariant: ascending in both positions and in seq. A rollback to a seq not below that of a later one
    /// is contained in the later one.
    rollbacks: Vec<Rollback>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rollback {
    /// Before this position frames below `seq` are live; from here to `resumed_at` none is.
    live_until: u64,
    /// The Epoch mark.
    resumed_at: u64,
    /// The seq that the mark fell back to.
    seq: u64,
}

impl Rollbacks {
    /// Notes that the Epoch mark at `position` fell back to `seq`.
    pub(super) fn push(&mut self, position: u64, seq: u64) {
        let mut live_until = position;
        while let Some(contained) = self.rollbacks.pop_if(|earlier| earlier.seq >= seq) {
            live_until = contained.live_until;
        }
        self.rollbacks.push(Rollback { live_until, resumed_at: position, seq });
    }

    /// Forgets what happened before `first_position`, the first that the log still has.
    pub(super) fn forget_before(&mut self, first_position: u64) {
        let gone = self.rollbacks.partition_point(|entry| entry.resumed_at <= first_position);
        self.rollbacks.drain(..gone);
    }

    /// Data frames at `position` with this seq or a higher one are void; `u64::MAX`: none is.
    pub(super) fn void_from(&self, position: u64) -> u64 {
        let after = self.rollbacks.partition_point(|entry| entry.resumed_at <= position);
        self.rollbacks.get(after).map_or(u64::MAX, |entry| entry.seq)
    }

    /// The stretch in which `seq` has to be looked for: from, until, and where to go on when the
    /// stretch has nothing live that is not below `seq`.
    pub(super) fn stretch(&self, seq: u64, first: u64, end: u64) -> Stretch {
        let index = self.rollbacks.partition_point(|entry| entry.seq <= seq);
        let from = match index.checked_sub(1) {
            Some(before) => self.rollbacks[before].resumed_at,
            None => first,
        };
        match self.rollbacks.get(index) {
            Some(next) => Stretch {
                from: from.max(first),
                until: next.live_until.max(first),
                void_from: next.seq,
                otherwise: next.resumed_at,
            },
            None => {
                Stretch { from: from.max(first), until: end, void_from: u64::MAX, otherwise: end }
            }
        }
    }
}

/// See [`Rollbacks::stretch`].
pub(super) struct Stretch {
    pub(super) from: u64,
    pub(super) until: u64,
    pub(super) void_from: u64,
    pub(super) otherwise: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deeper_fall_contains_the_earlier_ones() {
        let mut rollbacks = Rollbacks::default();
        rollbacks.push(10, 8);
        rollbacks.push(20, 15);
        assert_eq!(rollbacks.void_from(3), 8);
        assert_eq!(rollbacks.void_from(12), 15);
        assert_eq!(rollbacks.void_from(20), u64::MAX);
        rollbacks.push(30, 5);
        assert_eq!(rollbacks.void_from(3), 5);
        assert_eq!(rollbacks.void_from(12), 5);
        let stretch = rollbacks.stretch(4, 0, 40);
        assert_eq!((stretch.from, stretch.until, stretch.otherwise), (0, 10, 30));
    }

    #[test]
    fn what_is_before_the_first_position_is_forgotten() {
        let mut rollbacks = Rollbacks::default();
        rollbacks.push(10, 8);
        rollbacks.push(20, 15);
        let whole = rollbacks.clone();
        for (seq, from, until) in [(7, 0, 10), (8, 10, 20), (14, 10, 20), (15, 20, 40)] {
            let stretch = rollbacks.stretch(seq, 0, 40);
            assert_eq!((stretch.from, stretch.until), (from, until), "{seq}");
        }
        rollbacks.forget_before(9);
        assert_eq!(rollbacks, whole);
        rollbacks.forget_before(10);
        assert_eq!((rollbacks.void_from(3), rollbacks.rollbacks.len()), (15, 1));
        rollbacks.forget_before(40);
        assert_eq!(rollbacks, Rollbacks::default());
    }
}
