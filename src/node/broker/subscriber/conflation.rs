//! Conflated batches: what a subscriber gets that wants each instrument's last value now and then.

use super::*;

impl Subscriber {
    /// Sends the next piece of a batch: of the frames since the cursor those that are the newest of their
    /// instrument and kind, in order of `seq`; and says how much was left out. A batch ends at the head. A value
    /// that has a newer one meanwhile is left out, and that one is sent where it stands.
    pub(super) fn fill_batch(
        &mut self,
        view: RingView<'_>,
        values: &LastValues,
        interest: &Interest,
        out: &mut Vec<Frame>,
        piece: &mut Piece,
    ) {
        if self.cursor < view.oldest_seq() {
            return self.fill_last_values(view, values, interest, out, piece);
        }
        let from = self.cursor;
        // In its place comes what was left out.
        out.push(Frame::seal(gap(GapReason::Skipped, from, from, 0)));
        let mut missed = 0;
        let (head, tail) = view.slices(from, piece.look_max);
        for frame in head.iter().chain(tail) {
            if out.len() > piece.room {
                if is_planted(Bug::ConflateOnePiece) {
                    self.cursor = view.next_seq();
                }
                break;
            }
            self.cursor = frame.seq.get() + 1;
            if !interest.wants(frame) {
                continue;
            }
            let is_forgotten = frame.seq.get() == from && is_planted(Bug::ForgetLastConflated);
            if values.is_last(frame) && !is_forgotten {
                out.push(*frame);
            } else {
                missed += 1;
            }
        }
        piece.looked += usize::try_from(self.cursor - from).unwrap_or(0);
        // The rest belongs to the same batch, or what changes most would never be sent.
        self.is_due = self.cursor < view.next_seq();
        match out.first_mut().filter(|_| missed > 0) {
            Some(place) => {
                *place = Frame::seal(gap(GapReason::Skipped, from, self.cursor - 1, missed));
            }
            None => drop(out.remove(0)),
        }
    }

    /// For one that has fallen out of the ring: sends the newest value of matching instruments that changed since
    /// the cursor, in order of `seq`, as many as one piece holds, and says that something was left out.
    ///
    /// One look through the table of instruments, which has a bound and does not stop in the middle: what is
    /// sent is the first in order of `seq`.
    pub(super) fn fill_last_values(
        &mut self,
        view: RingView<'_>,
        values: &LastValues,
        interest: &Interest,
        out: &mut Vec<Frame>,
        piece: &mut Piece,
    ) {
        // An empty broker is sent last values ahead of the ring that brings them: those have their turn
        // when the ring has come so far, or the batch would hide what is missing before them.
        let forgotten = u64::from(is_planted(Bug::ForgetLastConflated));
        let span = self.cursor + forgotten..view.next_seq();
        let mut changed = BinaryHeap::with_capacity(piece.room + 1);
        let mut is_cut = false;
        for index in InstrumentIndex::until(values.index_end()) {
            piece.looked += 1;
            if interest.kinds_of(index) == 0 {
                continue;
            }
            for (slot, frame) in values.known(index).into_iter().enumerate() {
                let Some(frame) = frame else { continue };
                if span.contains(&frame.seq.get()) && interest.wants(frame) {
                    changed.push((frame.seq.get(), index, slot));
                    if changed.len() > piece.room {
                        is_cut = true;
                        changed.pop();
                    }
                }
            }
        }
        let changed = changed.into_sorted_vec();
        let mut end = view.next_seq();
        if is_cut && !is_planted(Bug::ConflateOnePiece) {
            end = changed.last().map_or(end, |(seq, ..)| seq + 1);
        }
        // The rest belongs to the same batch.
        self.is_due = is_cut && self.mode == Mode::Conflate;
        out.push(Frame::seal(gap(GapReason::Skipped, self.cursor, end - 1, u64::MAX)));
        // Behind a hole the publisher states values again that the ring still has: this is no snapshot.
        let as_published = |frame: &Frame| *view.get(frame.seq.get()).unwrap_or(frame);
        let frame_at = |(_, index, slot): &(u64, InstrumentIndex, usize)| {
            values.known(*index).get(*slot).copied().flatten()
        };
        out.extend(changed.iter().filter_map(frame_at).map(as_published));
        self.cursor = end;
    }
}
