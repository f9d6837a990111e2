//! How frames of a publisher come into its source: sessions, the ring's writer, counting. What is
//! *not* here: connections, and subscribers.
//!
//! # Decisions
//!
//! * A jump in `seq` needs a HEARTBEAT that announces it. Before, one frame with a wrong number emptied the ring, and
//!   nothing that the right publisher sent was new again.
//! * A publisher that finds the broker ahead of it says SESSION again, with its own place. What the broker has from
//!   there on is void. So whatever a wrong publisher has brought about, the next right one takes back.
//! * An epoch that is lower than the known one, under the same identity, does not descend from it: everything is void.

use std::collections::VecDeque;

use super::MARKET_SOURCE;
use super::jumps::{Jump, Jumps};
use super::mailbox::{EpochChange, FurtherReactors, SourceChange};
use super::publisher_life::PublisherLife;
use super::source::{PublisherState, Source};
use crate::feed::{Ring, Window};
use crate::log::EpochEntry;
use crate::node::ConnId;
use crate::node::session::{Rejection, Seat};
use crate::planted::{Bug, is_planted};
use crate::time::Now;
use crate::wire::{Definition, ErrorCode, FeedStates, Flags, Frame, Seq, Session};

/// The publishing side of one source.
#[derive(Debug)]
pub(super) struct Intake {
    number: u8,
    /// Who has been told where this source stands, and has to say what of that is part of his sequence.
    pub(super) asked: Option<ConnId>,
    pub(super) seat: Seat,
    /// Where the publisher has said that it goes on, beyond the frame that would be next.
    announced_seq: Option<Seq>,
    /// Where publishers have led the window ahead.
    jumps: Jumps,
    /// It has stated an instrument that was not known, in a snapshot that has not ended.
    has_stated: bool,
    pub(super) life: PublisherLife,
    /// It says of its last values that they are not known to be current, or has said nothing in this session.
    says: FeedStates,
    pub(super) frames: u64,
    /// Core's time of the first frame of this turn; 0 when there is none.
    first_received_ns: u64,
    pub(super) duplicates: u64,
    /// What the publisher sent before the further reactors had room for it; the rest of one read, since
    /// it is not read again until this is empty.
    pub(super) waiting: VecDeque<Frame>,
    /// How often it began to wait.
    pub(super) stalls: u64,
}

/// What a publisher's SESSION means to what the source has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Continuity {
    /// The source goes on. From `start` on, what it has under an earlier epoch is void. `is_new`: all of it is, and
    /// another sequence begins.
    Goes { start: u64, is_new: bool },
    /// The publisher has to be told where the source stands.
    Unknown,
    /// No.
    Refused,
}

/// What is taken back.
#[derive(Clone, Copy, Debug)]
struct Void {
    /// Everything from here on.
    from: u64,
    /// The jump that led beyond it.
    jump: Option<Jump>,
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
            asked: None,
            seat: Seat::default(),
            announced_seq: None,
            jumps: Jumps::default(),
            has_stated: false,
            life: PublisherLife::default(),
            says: FeedStates::STALE,
            frames: 0,
            first_received_ns: 0,
            duplicates: 0,
            waiting: VecDeque::new(),
            stalls: 0,
        }
    }

    /// Core's time of the first frame since this was asked last, if there was one.
    #[inline]
    pub(super) fn take_first_received(&mut self) -> Option<u64> {
        let at = std::mem::take(&mut self.first_received_ns);
        (at > 0).then_some(at)
    }

    pub(super) fn number(&self) -> u8 {
        self.number
    }

    /// The source's publisher, when there is one.
    pub(super) fn publisher(&self) -> Option<ConnId> {
        self.seat.holder()
    }

    /// Whether a frame of the publisher can be taken in now.
    pub(super) fn has_room(
        &self,
        source: &mut Source<Ring>,
        further_reactors: &mut FurtherReactors,
    ) -> bool {
        source.window.as_mut().is_none_or(Ring::has_room) && further_reactors.has_room()
    }

    /// Whether what the source has is part of the sequence that a publisher brings.
    ///
    /// Core keeps a lineage of its sequence, and says what of it the source has. A publisher of another source keeps
    /// nothing: a sequence with another identity is a new one.
    pub(super) fn continuity<W: Window>(
        &self,
        source: &Source<W>,
        conn: ConnId,
        session: &Session,
    ) -> Continuity {
        let start = session.epoch_start.get();
        let is_same = session.feed.get() == source.feed;
        // What was stated before there is a sequence belongs to it, if the publisher says so.
        let is_new = !session.has(Session::CONTINUES);
        if source.window.is_none() {
            // Nobody was ever sent anything.
            return Continuity::Goes { start, is_new };
        }
        if is_same {
            // Where an epoch began that was missed is not known, but it was not before the one known here.
            let missed = session.epoch.get().saturating_sub(source.epoch) > 1;
            let start = if missed { start.min(source.epoch_start) } else { start };
            // A lower one does not descend from it.
            let descends = session.epoch.get() >= source.epoch;
            let start = if descends { start } else { start.min(Seq::FIRST.get()) };
            return Continuity::Goes { start, is_new: false };
        }
        if !source.is_ready {
            // There is nothing, whoever has brought it about.
            return Continuity::Goes { start, is_new };
        }
        if source.feed == 0 && self.number == MARKET_SOURCE {
            // Whose it is, nobody said, so core's it is not.
            return Continuity::Goes { start: Seq::FIRST.get(), is_new: true };
        }
        if self.number != MARKET_SOURCE {
            // Readers of older programs know an epoch by its number alone.
            return match session.epoch.get() == source.epoch {
                true => Continuity::Unknown,
                false => Continuity::Goes { start: Seq::FIRST.get(), is_new: true },
            };
        }
        match (self.asked == Some(conn), session.has(Session::CONTINUES)) {
            (false, _) => Continuity::Unknown,
            (true, true) => Continuity::Goes { start, is_new: false },
            (true, false) => Continuity::Refused,
        }
    }

    /// A publisher connected, and its epoch begins at `start` for this source: everything from there on that came
    /// under another epoch is void.
    pub(super) fn begin_session(
        &mut self,
        now: Now,
        source: &mut Source<Ring>,
        further_reactors: &mut FurtherReactors,
        conn: ConnId,
        session: &Session,
        (start, is_new): (u64, bool),
    ) -> SessionStart {
        let (feed, epoch) = (session.feed.get(), session.epoch.get());
        // What a displaced publisher has sent and we have not taken in, the new one is asked for.
        self.waiting.clear();
        self.announced_seq = None;
        let is_new_epoch = (source.epoch, source.feed) != (epoch, feed);
        let void = is_new_epoch.then(|| self.void(source, further_reactors, start)).flatten();
        if is_new {
            source.void_from(0);
        }
        let epoch_start = if is_new_epoch { start } else { session.epoch_start.get() };
        source.begin_epoch(feed, epoch, epoch_start, is_new);
        source.publisher_seq = session.next_seq.get();
        self.tell_epoch(source, further_reactors, is_new, void);
        let displaced = self.seat.take(conn);
        self.life = PublisherLife::new(now);
        self.says = FeedStates::STALE;
        self.note_publisher(source, further_reactors);
        SessionStart { displaced, void_from: void.map(|it| it.from), is_new_epoch }
    }

    /// The publisher says SESSION again: what is here from its next `seq` on never was its own. Void from where,
    /// when something is.
    pub(super) fn take_back(
        &mut self,
        source: &mut Source<Ring>,
        further_reactors: &mut FurtherReactors,
        session: &Session,
    ) -> Option<u64> {
        self.waiting.clear();
        self.announced_seq = None;
        source.publisher_seq = session.next_seq.get();
        let void = self.void(source, further_reactors, session.next_seq()?.get());
        self.tell_epoch(source, further_reactors, false, void);
        void.map(|it| it.from)
    }

    /// What the source has from `start` on is void, and what a publisher jumped over to come beyond it: readers were led
    /// over that too, and have not had it. `None`: it has nothing there.
    fn void(
        &mut self,
        source: &mut Source<Ring>,
        further_reactors: &mut FurtherReactors,
        start: u64,
    ) -> Option<Void> {
        let at_seq = source.bounds().1;
        let is_ready = source.is_ready;
        let ring = source.window.as_mut().filter(|ring| is_ready && start < ring.next_seq())?;
        let jump = self.jumps.take_back(start);
        let start = jump.map_or(start, |jump| jump.from.min(start));
        jump.into_iter().for_each(|jump| source.taken_back.note(jump));
        further_reactors.share_ring(self.number, at_seq, ring.restart_at(start));
        if start <= ring.oldest_seq() {
            // Nothing of the old sequence is left: begin as an empty source does.
            source.is_ready = false;
        }
        source.void_from(start);
        Some(Void { from: start, jump })
    }

    fn tell_epoch(
        &self,
        source: &Source<Ring>,
        further_reactors: &mut FurtherReactors,
        is_new: bool,
        void: Option<Void>,
    ) {
        let (feed, epoch, epoch_start) = (source.feed, source.epoch, source.epoch_start);
        let (publisher_seq, is_ready) = (source.publisher_seq, source.is_ready);
        // Where the new window stands: not a frame of the new epoch is to be taken in before.
        let at_seq = source.bounds().1;
        let (void_from, jump) = (void.map(|it| it.from), void.and_then(|it| it.jump));
        let change = EpochChange {
            feed,
            epoch,
            epoch_start,
            publisher_seq,
            is_new,
            void_from,
            jump,
            is_ready,
        };
        further_reactors.notify(self.number, at_seq, || SourceChange::Epoch(change));
    }

    /// The publisher says where it goes on: a frame may jump there.
    pub(super) fn announce(&mut self, source: &Source<Ring>, next_seq: Seq) {
        if Some(next_seq) > source.wanted_seq() && next_seq < Seq::LAST {
            self.announced_seq = Some(next_seq);
        }
    }

    /// The publisher says what is known of its last values.
    pub(super) fn note_says(&mut self, says: FeedStates) {
        self.says = says;
    }

    /// Takes note of whether there is a publisher, whether it is heard, what it says of its last values, and whether
    /// it has sent what it had when it came.
    pub(super) fn note_publisher(
        &mut self,
        source: &mut Source<Ring>,
        further_reactors: &mut FurtherReactors,
    ) {
        let has_publisher = self.publisher().is_some();
        let states = if self.life.is_silent() { FeedStates::STALE } else { self.says };
        // What it announces to jump over does not come.
        let at = source.wanted_seq().max(self.announced_seq);
        let is_behind = Seq::number(at) < source.publisher_seq;
        let is_catching_up = has_publisher && is_behind && !is_planted(Bug::ConfirmWhileCatchingUp);
        let state = PublisherState { has_publisher, states, is_catching_up };
        if source.note_publisher(state) {
            let at_seq = source.bounds().1;
            further_reactors.notify(self.number, at_seq, || SourceChange::Publisher(state));
        }
    }

    /// The publisher tells an epoch that its sequence went through.
    pub(super) fn note_lineage(
        &self,
        source: &mut Source<Ring>,
        further_reactors: &mut FurtherReactors,
        entry: EpochEntry,
    ) {
        source.lineage.note(entry);
        let at_seq = source.bounds().1;
        further_reactors.notify(self.number, at_seq, || SourceChange::Lineage(entry));
    }

    /// The publisher says what it sends next, so its snapshot has ended. Whether it named instruments that who is
    /// connected may not know; the further reactors are told.
    pub(super) fn end_statement(
        &mut self,
        source: &Source<Ring>,
        further_reactors: &mut FurtherReactors,
    ) -> bool {
        let has_stated = std::mem::take(&mut self.has_stated);
        if has_stated {
            further_reactors.notify(self.number, source.bounds().1, || SourceChange::Stated);
            return true;
        }
        false
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
            Some(ring) => {
                self.jumps.note(ring.next_seq(), next_seq);
                ring.restart_at(next_seq)
            }
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

    /// Takes a data frame in. There must be room.
    pub(super) fn publish(
        &mut self,
        source: &mut Source<Ring>,
        further_reactors: &mut FurtherReactors,
        frame: &Frame,
    ) -> Result<(), Rejection> {
        let refused = |text| Err(Rejection::new(ErrorCode::Unexpected, text));
        if frame.instrument().source() != self.number {
            return refused("instrument of another source");
        }
        // Core's own topics are in the market's sequence, and nowhere else.
        if self.number != MARKET_SOURCE
            && frame.view::<Definition>().is_some_and(|it| it.symbol.is_reserved())
        {
            return refused("a symbol that begins with $ is the system's own");
        }
        if frame.has(Flags::SNAPSHOT) {
            let is_news = source.note(frame);
            // Behind a void that left nothing, who is connected has names of the sequence before.
            let is_named = frame.is_naming() && (is_news || !source.is_ready);
            self.has_stated |= is_named;
            let at_seq = source.bounds().1;
            further_reactors.notify(self.number, at_seq, || SourceChange::Value(Box::new(*frame)));
            return Ok(());
        }
        let Some(ring) = source.window.as_mut().filter(|_| source.is_ready) else {
            return refused("say where the sequence starts (HEARTBEAT) first");
        };
        let (seq, next_seq) = (frame.seq.get(), ring.next_seq());
        if seq == 0 || seq == u64::MAX {
            return refused("a published frame needs a seq");
        }
        if seq < next_seq {
            // A frame that is held already changes nothing. Another one would be lost without a word.
            if ring.view().get(seq) != Some(frame) {
                return refused("older than what was asked for: begin a new epoch");
            }
            self.duplicates += 1;
            return Ok(());
        }
        if seq > next_seq {
            if self.announced_seq != frame.seq() && !is_planted(Bug::JumpWithoutNotice) {
                return refused("a jump needs a HEARTBEAT with its next_seq");
            }
            let at_seq = Seq::new(next_seq);
            self.jumps.note(next_seq, seq);
            further_reactors.share_ring(self.number, at_seq, ring.restart_at(seq));
        }
        if self.announced_seq.is_some_and(|announced| announced.get() <= seq) {
            self.announced_seq = None;
        }
        if !ring.push(frame) {
            // The jump just made needs the others to follow first; the frame is behind it.
            self.waiting.push_front(*frame);
            return Ok(());
        }
        let _ = source.note(frame);
        self.frames += 1;
        if self.first_received_ns == 0 {
            self.first_received_ns = frame.ts_recv.get();
        }
        source.has_updates = true;
        if source.is_catching_up {
            self.note_publisher(source, further_reactors);
        }
        Ok(())
    }
}
