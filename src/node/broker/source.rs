//! One publisher's sequence in the broker: its ring, last values, and the readers of both.

use crate::feed::{Interests, LastValues, Ring};
use crate::node::ConnId;
use crate::wire::{Flags, Frame, Session};

/// A source. It outlives its publisher's connections.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) epoch: u32,
    pub(super) epoch_start: u64,
    pub(super) ring: Ring,
    pub(super) values: LastValues,
    pub(super) interests: Interests,
    pub(super) readers: Vec<ConnId>,
    pub(super) publisher: Option<ConnId>,
    /// Where the next fan-out starts in `readers`.
    pub(super) turn_start: usize,
    pub(super) frames: u64,
    pub(super) duplicates: u64,
    pub(super) gaps_told: u64,
    /// The publisher has said that its last values are not known to be current.
    pub(super) is_stale: bool,
    /// The publisher has said where the sequence goes on; before, nobody can be served.
    is_ready: bool,
    void_from: Option<u64>,
    has_news: bool,
}

impl Default for Source {
    fn default() -> Source {
        Source {
            epoch: 0,
            epoch_start: 0,
            ring: Ring::new(1, 0),
            values: LastValues::default(),
            interests: Interests::default(),
            readers: Vec::new(),
            publisher: None,
            turn_start: 0,
            frames: 0,
            duplicates: 0,
            gaps_told: 0,
            is_stale: false,
            is_ready: false,
            void_from: None,
            has_news: false,
        }
    }
}

impl Source {
    /// A publisher connected. Returns the one that it displaces.
    ///
    /// Another epoch than the known one means that everything from its first `seq` on is void.
    pub(super) fn begin_session(&mut self, conn: ConnId, session: &Session) -> Option<ConnId> {
        let mut start = session.epoch_start.get();
        if session.epoch.get().saturating_sub(self.epoch) > 1 {
            // Where a missed epoch began is not known, but it was not before the one known here.
            start = start.min(self.epoch_start);
        }
        if self.is_ready && session.epoch.get() != self.epoch && start < self.ring.next_seq() {
            self.ring.restart_at(start);
            self.values.void_from(start);
            self.void_from = Some(start);
            if start <= self.ring.oldest_seq() {
                // Nothing of the old sequence is left: begin as an empty source does.
                self.is_ready = false;
            }
        }
        self.epoch = session.epoch.get();
        self.epoch_start = session.epoch_start.get();
        self.publisher.replace(conn)
    }

    /// The first void `seq`, once.
    pub(super) fn take_void(&mut self) -> Option<u64> {
        self.void_from.take()
    }

    /// The delivery flags of last values in a snapshot. Nobody vouches for those of a publisher that is
    /// away.
    pub(super) fn snapshot_flags(&self) -> u16 {
        let is_stale = self.is_stale || self.publisher.is_none();
        if is_stale { Flags::SNAPSHOT | Flags::STALE } else { Flags::SNAPSHOT }
    }

    /// The next `seq` wanted from the publisher; 0 = nothing is known, begin with a snapshot.
    pub(super) fn wanted_seq(&self) -> u64 {
        if self.is_ready { self.ring.next_seq() } else { 0 }
    }

    pub(super) fn is_ready(&self) -> bool {
        self.is_ready
    }

    /// The publisher says what it sends next. `true` when that made an empty source ready.
    pub(super) fn make_ready(&mut self, ring_frames: usize, next_seq: u64) -> bool {
        if self.is_ready {
            return false;
        }
        self.ring = Ring::new(ring_frames, next_seq);
        self.is_ready = true;
        true
    }

    /// Takes a frame in.
    pub(super) fn publish(&mut self, frame: &Frame) -> Result<(), &'static str> {
        if frame.has(Flags::SNAPSHOT) {
            self.note(frame);
            return Ok(());
        }
        if !self.is_ready {
            return Err("say where the sequence starts (HEARTBEAT) first");
        }
        let (seq, next_seq) = (frame.seq.get(), self.ring.next_seq());
        if seq == 0 || seq == u64::MAX {
            return Err("a published frame needs a seq");
        }
        if seq < next_seq {
            self.duplicates += 1;
            return Ok(());
        }
        if seq > next_seq {
            self.ring.restart_at(seq);
        }
        self.note(frame);
        self.ring.push(frame);
        self.frames += 1;
        self.has_news = true;
        Ok(())
    }

    fn note(&mut self, frame: &Frame) {
        if self.values.note(frame) {
            let instrument = frame.instrument.get();
            if let Some(symbol) = self.values.symbol(instrument) {
                self.interests.note_definition(instrument, &symbol);
            }
        }
    }

    /// The next `seq`, when frames came since the last call.
    pub(super) fn take_news(&mut self) -> Option<u64> {
        std::mem::take(&mut self.has_news).then(|| self.ring.next_seq())
    }
}
