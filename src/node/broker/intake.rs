//! How frames of a publisher come into its source: sessions, the ring's writer, counting. What is
//! *not* here: connections, and subscribers.

use std::collections::VecDeque;

use super::mailbox::{FurtherReactors, SourceChange};
use super::publisher_life::PublisherLife;
use super::source::{Source, note};
use crate::feed::Ring;
use crate::node::ConnId;
use crate::time::Now;
use crate::wire::{Flags, Frame, Seq, Session};

/// The publishing side of one source.
#[derive(Debug)]
pub(super) struct Intake {
    number: u8,
    pub(super) publisher: Option<ConnId>,
    pub(super) life: PublisherLife,
    /// It says of its last values that they are not known to be current, or has said nothing in this session.
    says_stale: bool,
    pub(super) frames: u64,
    pub(super) duplicates: u64,
    /// What the publisher sent before the further reactors had room for it; the rest of one read, since
    /// it is not read again until this is empty.
    pub(super) waiting: VecDeque<Frame>,
    /// How often it began to wait.
    pub(super) stalls: u64,
}

/// What a new session means to readers.
#[derive(Clone, Copy, Debug)]
pub(super) struct SessionStart {
    /// The publisher that was there, and is not any more.
    pub(super) displaced: Option<ConnId>,
    /// Everything from here on is void.
    pub(super) void_from: Option<u64>,
    pub(super) is_new_epoch: bool,
}

impl Intake {
    pub(super) fn new(number: u8) -> Intake {
        Intake {
            number,
            publisher: None,
            life: PublisherLife::default(),
            says_stale: true,
            frames: 0,
            duplicates: 0,
            waiting: VecDeque::new(),
            stalls: 0,
        }
    }

    pub(super) fn number(&self) -> u8 {
        self.number
    }

    /// Whether a frame of the publisher can be taken in now.
    pub(super) fn has_room(
        &self,
        source: &mut Source<Ring>,
        further_reactors: &mut FurtherReactors,
    ) -> bool {
        source.window.as_mut().is_none_or(Ring::has_room) && further_reactors.has_room()
    }

    /// A publisher connected.
    ///
    /// Another epoch than the known one means that everything from its first `seq` on is void.
    pub(super) fn begin_session(
        &mut self,
        now: Now,
        source: &mut Source<Ring>,
        further_reactors: &mut FurtherReactors,
        conn: ConnId,
        session: &Session,
    ) -> SessionStart {
        let mut start = session.epoch_start.get();
        let epoch = session.epoch.get();
        if epoch.saturating_sub(source.epoch) > 1 {
            // Where a missed epoch began is not known, but it was not before the one known here.
            start = start.min(source.epoch_start);
        }
        // What a displaced publisher has sent and we have not taken in, the new one is asked for.
        self.waiting.clear();
        let at_seq = source.bounds().1;
        let mut void_from = None;
        if source.is_ready
            && epoch != source.epoch
            && let Some(ring) = &mut source.window
            && start < ring.next_seq()
        {
            further_reactors.share_ring(self.number, at_seq, ring.restart_at(start));
            source.values.void_from(start);
            void_from = Some(start);
            if start <= ring.oldest_seq() {
                // Nothing of the old sequence is left: begin as an empty source does.
                source.is_ready = false;
            }
        }
        let is_new_epoch = source.epoch != epoch;
        source.epoch = epoch;
        source.epoch_start = session.epoch_start.get();
        let (epoch_start, is_ready) = (source.epoch_start, source.is_ready);
        // Where the new window stands: not a frame of the new epoch is to be taken in before.
        let at_seq = source.bounds().1;
        further_reactors.notify(self.number, at_seq, || SourceChange::Epoch {
            epoch,
            epoch_start,
            void_from,
            is_ready,
        });
        let displaced = self.publisher.replace(conn);
        self.life = PublisherLife::new(now);
        self.says_stale = true;
        self.note_publisher(source, further_reactors);
        SessionStart { displaced, void_from, is_new_epoch }
    }

    /// The publisher says whether its last values are known to be current.
    pub(super) fn note_says_stale(&mut self, says_stale: bool) {
        self.says_stale = says_stale;
    }

    /// Takes note of whether there is a publisher, whether it is heard, and what it says of its last values.
    pub(super) fn note_publisher(
        &mut self,
        source: &mut Source<Ring>,
        further_reactors: &mut FurtherReactors,
    ) {
        let has_publisher = self.publisher.is_some();
        let is_stale = self.says_stale || self.life.is_silent();
        if (source.has_publisher, source.is_stale) != (has_publisher, is_stale) {
            (source.has_publisher, source.is_stale) = (has_publisher, is_stale);
            let at_seq = source.bounds().1;
            further_reactors.notify(self.number, at_seq, || SourceChange::Publisher {
                has_publisher,
                is_stale,
            });
        }
    }

    /// The publisher says what it sends next. `true` when that made an empty source ready.
    pub(super) fn make_ready(
        &mut self,
        source: &mut Source<Ring>,
        further_reactors: &mut FurtherReactors,
        ring_frames: usize,
        next_seq: u64,
    ) -> bool {
        if source.is_ready {
            return false;
        }
        let at_seq = source.bounds().1;
        let readers = match &mut source.window {
            Some(ring) => ring.restart_at(next_seq),
            None => {
                let (ring, readers) =
                    Ring::shared(ring_frames, next_seq, further_reactors.mailboxes.len());
                source.window = Some(ring);
                readers
            }
        };
        further_reactors.share_ring(self.number, at_seq, readers);
        further_reactors.notify(self.number, Seq::new(next_seq), || SourceChange::Ready);
        source.is_ready = true;
        true
    }

    /// Takes a frame in. There must be room.
    pub(super) fn publish(
        &mut self,
        source: &mut Source<Ring>,
        further_reactors: &mut FurtherReactors,
        frame: &Frame,
    ) -> Result<(), &'static str> {
        if frame.has(Flags::SNAPSHOT) {
            source.note(frame);
            let at_seq = source.bounds().1;
            further_reactors.notify(self.number, at_seq, || SourceChange::Value(Box::new(*frame)));
            return Ok(());
        }
        let Some(ring) = source.window.as_mut().filter(|_| source.is_ready) else {
            return Err("say where the sequence starts (HEARTBEAT) first");
        };
        let (seq, next_seq) = (frame.seq.get(), ring.next_seq());
        if seq == 0 || seq == u64::MAX {
            return Err("a published frame needs a seq");
        }
        if seq < next_seq {
            self.duplicates += 1;
            return Ok(());
        }
        if seq > next_seq {
            let at_seq = Seq::new(next_seq);
            further_reactors.share_ring(self.number, at_seq, ring.restart_at(seq));
        }
        if !ring.push(frame) {
            // The jump just made needs the others to follow first; the frame is behind it.
            self.waiting.push_front(*frame);
            return Ok(());
        }
        note(&mut source.values, &mut source.interests, frame);
        self.frames += 1;
        source.has_updates = true;
        Ok(())
    }
}
