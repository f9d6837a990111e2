//! The ring: the newest frames of one sequence, each stored once, addressed by `seq`.
//!
//! A reader is nothing but a `seq` (its cursor). The bytes between a cursor and the head are already
//! the bytes to send, so a full-feed reader costs no copy in user space.
//!
//! The ring has one writer, [`Ring`], which may also be read where it is written, and a
//! [`RingReader`] for every *further* reactor. What is *not* here: subscribers. The writer waits for
//! reactors, which always come round, and never for a subscriber, which may not.
//!
//! Invariant (the protocol of the two halves): the writer stores into the slot of `seq` only while
//! every gate is above `seq - capacity`, the frame that it overwrites, and then moves `head`
//! (Release). A reader looks only at `gate..seen`, where `seen` is a head that it has loaded (Acquire),
//! and moves its gate (Release; the writer loads it with Acquire) only while nothing borrows what it
//! looked at. So no slot is stored into that anybody looks at, and none is looked at before its store.
//!
//! Invariant: the sequence of one set of slots only grows. A restart behind the head would store again
//! into slots that readers may look at, and a jump ahead would leave them frames that are not in order;
//! with readers, each begins a new set, which the readers are handed in order with the frames.
//!
//! This is the one file outside `storage/` with `unsafe`: safe code cannot share memory of which one
//! part is written while another is read.
//!
//! # Decisions
//!
//! * Ring positions are sequence numbers. A cursor is the next `seq`, so there is no second numbering to
//!   keep in step. They are plain numbers: the ring always has both its ends, and no position of it means
//!   none.
//! * Slots that a restart replaced are freed when their last reader lets go of them. Until then there is no
//!   second restart, so a source has at most two sets of slots.

#![allow(unsafe_code)]

use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use zerocopy::IntoBytes;

use crate::planted::{Bug, is_planted};
use crate::wire::Frame;

/// A number with two cache lines of its own, so that who writes it slows nobody who writes another.
#[repr(align(128))]
#[derive(Debug)]
struct Padded(AtomicU64);

/// The slots, the head, and the gate of each reader.
#[derive(Debug)]
struct Slots {
    frames: Box<[UnsafeCell<Frame>]>,
    /// The `seq` that the next frame has.
    head: Padded,
    /// By reader: it looks at nothing before this `seq` any more.
    gates: Box<[Padded]>,
}

// SAFETY: the slots are reached only through `Slots::store` and `Slots::part`, whose callers keep the
// protocol above: no slot is stored into while anybody else can look at it.
unsafe impl Sync for Slots {}

impl Slots {
    fn new(capacity: usize, next_seq: u64, readers: usize) -> Slots {
        let padded = || Padded(AtomicU64::new(next_seq));
        Slots {
            frames: (0..capacity).map(|_| UnsafeCell::new(Frame::ZERO)).collect(),
            head: padded(),
            gates: (0..readers).map(|_| padded()).collect(),
        }
    }

    #[allow(clippy::cast_possible_truncation, reason = "the mask is below the slot count")]
    fn index(&self, seq: u64) -> usize {
        (seq & (self.frames.len() as u64 - 1)) as usize
    }

    /// Stores a frame.
    ///
    /// # Safety
    /// Only the one writer calls this, while nothing borrows the slot of `seq` and no gate lets a
    /// reader borrow it.
    unsafe fn store(&self, seq: u64, frame: &Frame) {
        let slot = self.frames[self.index(seq)].get();
        // SAFETY: the pointer is that of a slot, and by the caller's promise nobody else uses it.
        unsafe { slot.write(*frame) };
    }

    /// Some slots in a row.
    ///
    /// # Safety
    /// The writer stores into none of them while the slice lives.
    unsafe fn part(&self, start: usize, count: usize) -> &[Frame] {
        let slots = &self.frames[start..start + count];
        // SAFETY: `UnsafeCell<Frame>` has the layout of `Frame`, the range was checked, and by the
        // caller's promise these frames do not change.
        unsafe { std::slice::from_raw_parts(slots.as_ptr().cast::<Frame>(), count) }
    }
}

/// The frames `oldest_seq..next_seq`, contiguous, for as long as the half that lent them is not used
/// otherwise.
#[derive(Clone, Copy, Debug)]
pub struct RingView<'a> {
    slots: &'a Slots,
    oldest_seq: u64,
    next_seq: u64,
}

impl<'a> RingView<'a> {
    /// The oldest `seq` held; equal to [`RingView::next_seq`] when nothing is.
    #[must_use]
    pub fn oldest_seq(&self) -> u64 {
        self.oldest_seq
    }

    /// The `seq` behind the newest frame.
    #[must_use]
    pub fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// How many frames its slots hold at most.
    #[must_use]
    pub fn capacity(&self) -> u64 {
        self.slots.frames.len() as u64
    }

    /// The frame with this `seq`, while it is held.
    #[must_use]
    pub fn get(&self, seq: u64) -> Option<&'a Frame> {
        self.slices(seq, 1).0.first().filter(|_| self.oldest_seq <= seq)
    }

    /// The held frames of `from_seq..`, at most `frames_max` of them, as one slice or (at the wrap) two.
    #[must_use]
    pub fn slices(&self, from_seq: u64, frames_max: usize) -> (&'a [Frame], &'a [Frame]) {
        let from_seq = from_seq.max(self.oldest_seq);
        let held = self.next_seq.saturating_sub(from_seq);
        let count = usize::try_from(held).unwrap_or(usize::MAX).min(frames_max);
        let start = self.slots.index(from_seq);
        let first = count.min(self.slots.frames.len() - start);
        // SAFETY: these are slots of `oldest_seq..next_seq`. A view of the writer borrows it, and
        // storing takes it whole. A view of a reader borrows that, and its gate, which is not above
        // `oldest_seq`, moves only when it is taken whole.
        let head = unsafe { self.slots.part(start, first) };
        // SAFETY: as above; what wraps begins at the first slot.
        let tail = unsafe { self.slots.part(0, count - first) };
        let skipped = usize::from(is_planted(Bug::RingWrapOffByOne) && count > first);
        (head, &tail[skipped..])
    }

    /// The same as bytes to send.
    #[must_use]
    pub fn bytes(&self, from_seq: u64, frames_max: usize) -> (&'a [u8], &'a [u8]) {
        let (head, tail) = self.slices(from_seq, frames_max);
        (head.as_bytes(), tail.as_bytes())
    }
}

/// What lends a view of a ring: either half.
pub trait Window {
    /// What can be read now.
    fn view(&self) -> RingView<'_>;
}

/// The writer's half of a power-of-two ring of frames.
///
/// Invariant: the frames `oldest_seq..next_seq` are held, contiguous.
#[derive(Debug)]
pub struct Ring {
    slots: Arc<Slots>,
    oldest_seq: u64,
    next_seq: u64,
    /// Every gate lets frames before this `seq` be stored. Gates only rise, so an old answer is only
    /// too careful; without readers it is endless, and nothing is ever asked.
    room_until: u64,
    /// The slots before the last restart, while a reader still holds them.
    previous: Weak<Slots>,
}

impl Ring {
    /// A ring for the last `frames` frames, rounded up to a power of two, that begins at `next_seq`
    /// and is read only where it is written.
    #[must_use]
    pub fn new(frames: usize, next_seq: u64) -> Ring {
        Ring::shared(frames, next_seq, 0).0
    }

    /// The same with so many readers elsewhere.
    #[must_use]
    pub fn shared(frames: usize, next_seq: u64, readers: usize) -> (Ring, Vec<RingReader>) {
        let slots = Slots::new(frames.max(1).next_power_of_two(), next_seq, readers);
        let mut ring = Ring {
            slots: Arc::new(slots),
            oldest_seq: next_seq,
            next_seq,
            room_until: 0,
            previous: Weak::new(),
        };
        ring.look_at_gates();
        let readers = ring.readers();
        (ring, readers)
    }

    fn readers(&self) -> Vec<RingReader> {
        let reader = |index| RingReader {
            slots: Arc::clone(&self.slots),
            index,
            gate: self.slots.gates[index].0.load(Ordering::Relaxed),
            seen: self.next_seq,
        };
        (0..self.slots.gates.len()).map(reader).collect()
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
        self.slots.frames.len()
    }

    /// Whether a frame can be taken in, or a restart made, now. Without readers always; else every
    /// reader must have moved on far enough, and have let go of the slots before the last restart.
    #[must_use]
    pub fn has_room(&mut self) -> bool {
        if self.next_seq < self.room_until {
            return true;
        }
        self.look_at_gates();
        self.next_seq < self.room_until
    }

    fn look_at_gates(&mut self) {
        // So there are never more than two sets of slots.
        if self.previous.strong_count() > 0 {
            return;
        }
        let gates = self.slots.gates.iter().map(|gate| gate.0.load(Ordering::Acquire));
        let capacity = self.slots.frames.len() as u64;
        self.room_until = gates.min().map_or(u64::MAX, |gate| gate.saturating_add(capacity));
    }

    /// Appends the frame with `seq == next_seq`, overwriting the oldest one when full. `false`, and
    /// nothing is done, when there is no room.
    #[must_use]
    pub fn push(&mut self, frame: &Frame) -> bool {
        if !self.has_room() {
            return false;
        }
        // SAFETY: this is the one writer, whom no view borrows now, and every gate is above the frame
        // that is overwritten: `next_seq < room_until`.
        unsafe { self.slots.store(self.next_seq, frame) };
        self.next_seq = self.next_seq.saturating_add(1);
        self.oldest_seq =
            self.oldest_seq.max(self.next_seq.saturating_sub(self.slots.frames.len() as u64));
        self.slots.head.0.store(self.next_seq, Ordering::Release);
        true
    }

    /// Forgets everything from `seq` on (a new epoch made it void), or everything at all when `seq`
    /// is ahead (the source jumped). The next frame is `seq`. A ring with readers begins new slots;
    /// what comes back has to be handed to them, in the order of the readers.
    #[must_use]
    pub fn restart_at(&mut self, seq: u64) -> Vec<RingReader> {
        let kept = if seq > self.next_seq { seq..seq } else { self.oldest_seq.min(seq)..seq };
        if self.slots.gates.is_empty() {
            (self.oldest_seq, self.next_seq) = (kept.start, kept.end);
            self.slots.head.0.store(self.next_seq, Ordering::Release);
            return Vec::new();
        }
        let slots = Slots::new(self.capacity(), seq, self.slots.gates.len());
        for gate in &slots.gates {
            gate.0.store(gate_for(kept.start, seq, self.capacity()), Ordering::Relaxed);
        }
        let view = self.view();
        for (seq, frame) in kept.clone().filter_map(|seq| Some((seq, view.get(seq)?))) {
            // SAFETY: nobody else has these slots yet.
            unsafe { slots.store(seq, frame) };
        }
        self.previous = Arc::downgrade(&self.slots);
        self.slots = Arc::new(slots);
        (self.oldest_seq, self.next_seq, self.room_until) = (kept.start, kept.end, 0);
        self.readers()
    }
}

impl Window for Ring {
    fn view(&self) -> RingView<'_> {
        RingView { slots: &self.slots, oldest_seq: self.oldest_seq, next_seq: self.next_seq }
    }
}

/// The gate of a reader that has seen everything before `seen`: it keeps half of the ring for its
/// subscribers, so that the writer has the other half for as long as one of its turns takes.
fn gate_for(oldest_seq: u64, seen: u64, capacity: usize) -> u64 {
    oldest_seq.max(seen.saturating_sub(capacity as u64 / 2))
}

/// The half of a further reactor.
///
/// Invariant: `gate <= seen <= head`, and this `gate` is the one in the slots.
#[derive(Debug)]
pub struct RingReader {
    slots: Arc<Slots>,
    index: usize,
    gate: u64,
    seen: u64,
}

impl RingReader {
    /// How far the writer has come.
    #[must_use]
    pub fn head(&self) -> u64 {
        self.slots.head.0.load(Ordering::Acquire)
    }

    /// The `seq` of the first frame that was not taken in.
    #[must_use]
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// How many frames may be taken in at once so that a cursor which has come to [`RingReader::seen`]
    /// is not left behind the gate.
    #[must_use]
    pub fn stride(&self) -> usize {
        (self.slots.frames.len() / 2).max(1)
    }

    /// Takes in the frames before `seq` (or before the head, which is nearer): hands each that was not
    /// seen to `see`, and moves the gate, so that the writer has room again. Whether it moved.
    pub fn advance(&mut self, seq: u64, mut see: impl FnMut(&Frame)) -> bool {
        let from_seq = self.seen;
        self.seen = seq.min(self.head()).max(from_seq);
        let (head, tail) = self.view().slices(from_seq, usize::MAX);
        head.iter().chain(tail).for_each(&mut see);
        let gate = gate_for(self.gate, self.seen, self.slots.frames.len());
        let has_moved = gate > self.gate;
        if has_moved {
            self.gate = gate;
            self.slots.gates[self.index].0.store(gate, Ordering::Release);
        }
        has_moved
    }
}

impl Window for RingReader {
    fn view(&self) -> RingView<'_> {
        RingView { slots: &self.slots, oldest_seq: self.gate, next_seq: self.seen }
    }
}

impl Drop for RingReader {
    fn drop(&mut self) {
        // Nobody looks here any more; the writer need not wait.
        self.slots.gates[self.index].0.store(u64::MAX, Ordering::Release);
    }
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
