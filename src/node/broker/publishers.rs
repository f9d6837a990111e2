//! The broker's side of publishers: who may publish a source, and what of what it sends is taken in. What is *not* here:
//! the source itself, and how frames come into it.

use super::intake::Continuity;
use super::{Broker, BrokerPeer};
use crate::log::EpochEntry;
use crate::node::session::{Admission, Rejection};
use crate::node::{ConnId, Level};
use crate::time::Now;
use crate::wire::{ErrorCode, FeedStates, Flags, Frame, Heartbeat, Lineage, Session};

impl Broker {
    /// A frame from a publisher. While the further reactors have no room for it, it waits,
    /// with all that come behind it.
    pub(super) fn handle_published(
        &mut self,
        conn: ConnId,
        number: u8,
        frame: &Frame,
    ) -> Result<(), Rejection> {
        let is_data = frame.is_market_data();
        if !is_data && let Some(session) = frame.view::<Session>() {
            let is_same = session.source == number;
            return if is_same {
                self.take_back(conn, session)
            } else {
                Err(Rejection::out_of_place())
            };
        }
        let Some(intake) = self.intakes.get_mut(usize::from(number)) else { return Ok(()) };
        if intake.publisher() != Some(conn) {
            return Ok(());
        }
        let is_settled = self.readers.settle(number);
        let place = self.readers.sources.get_mut(usize::from(number));
        let Some(Some(source)) = place else { return Ok(()) };
        let has_room = is_settled && intake.has_room(source, &mut self.further_reactors);
        if !intake.waiting.is_empty() || !has_room {
            intake.stalls += u64::from(intake.waiting.is_empty());
            intake.waiting.push_back(*frame);
            return Ok(());
        }
        if is_data {
            // Each frame of the feed comes here: nothing is looked up twice.
            return intake.publish(source, &mut self.further_reactors, frame);
        }
        self.take_in(number, frame)
    }

    /// A frame from a publisher, for which there is room.
    fn take_in(&mut self, number: u8, frame: &Frame) -> Result<(), Rejection> {
        if frame.is_market_data() {
            let Some(intake) = self.intakes.get_mut(usize::from(number)) else { return Ok(()) };
            let Some(source) = self.readers.source_mut(number) else { return Ok(()) };
            return intake.publish(source, &mut self.further_reactors, frame);
        }
        if let Some(lineage) = frame.view::<Lineage>() {
            return self.note_lineage(number, lineage);
        }
        let beat = frame.view::<Heartbeat>().ok_or_else(Rejection::out_of_place)?;
        self.note_publisher_at(number, beat);
        Ok(())
    }

    /// A publisher tells an epoch that its sequence went through.
    fn note_lineage(&mut self, number: u8, lineage: &Lineage) -> Result<(), Rejection> {
        if lineage.source != number {
            return Err(Rejection::new(ErrorCode::Unexpected, "the lineage of another source"));
        }
        let Some(intake) = self.intakes.get(usize::from(number)) else { return Ok(()) };
        let Some(source) = self.readers.source_mut(number) else { return Ok(()) };
        let entry = EpochEntry::of_message(lineage);
        intake.note_lineage(source, &mut self.further_reactors, entry);
        Ok(())
    }

    /// Takes in what waited, as far as there is room now. Whoever still waits is woken.
    pub(super) fn take_in_waiting(&mut self) {
        if self.intakes.iter().all(|intake| intake.waiting.is_empty()) {
            return;
        }
        self.further_reactors.stall.announce();
        for number in 0..u8::try_from(self.intakes.len()).unwrap_or(u8::MAX) {
            while let Some(intake) = self.intakes.get_mut(usize::from(number))
                && let Some(conn) = intake.publisher()
                && !intake.waiting.is_empty()
                && self.readers.settle(number)
                && let Some(source) = self.readers.source_mut(number)
                && intake.has_room(source, &mut self.further_reactors)
                && let Some(frame) = intake.waiting.pop_front()
            {
                if let Err(rejection) = self.take_in(number, &frame) {
                    self.readers.connections.refuse(conn, rejection.code, &rejection.text);
                    // What stands behind a bad frame is not taken in.
                    if let Some(intake) = self.intakes.get_mut(usize::from(number)) {
                        intake.waiting.clear();
                    }
                    break;
                }
            }
        }
    }

    /// Takes in all that waits for interests to decide, however much they have to look at: for a publisher of this
    /// process that begins another session and cannot send it again.
    pub(crate) fn take_in_all(&mut self) {
        let waiting =
            |broker: &Broker| broker.intakes.iter().map(|it| it.waiting.len()).sum::<usize>();
        let mut left = waiting(self);
        while left > 0 {
            for number in 0..u8::try_from(self.intakes.len()).unwrap_or(u8::MAX) {
                self.readers.settle_all(number);
            }
            self.take_in_waiting();
            // A frame that defines an instrument stops those behind it. What makes no progress waits for readers.
            let before = std::mem::replace(&mut left, waiting(self));
            if left >= before {
                return;
            }
        }
    }

    /// Begins no snapshot of a source: last values are missing, and its publisher is about to state them.
    pub(crate) fn hold_snapshots(&mut self, number: u8) {
        if let Some(source) = self.readers.source_mut(number) {
            source.is_held = true;
        }
    }

    /// They have come.
    pub(crate) fn release_snapshots(&mut self, number: u8) {
        let Some(source) = self.readers.source_mut(number) else { return };
        if std::mem::take(&mut source.is_held) {
            self.readers.notify_ready(number);
            self.readers.notify_late_values(number);
        }
    }

    pub(super) fn greet_publisher(
        &mut self,
        now: Now,
        conn: ConnId,
        session: &Session,
    ) -> Admission<BrokerPeer> {
        let number = session.source;
        let Some(intake) = self.intakes.get_mut(usize::from(number)) else {
            return Admission::refused(ErrorCode::Limit, "source numbers are 0 to 7");
        };
        let text = "another publisher lives; come back later";
        if let Err(rejection) = intake.seat.check(now, &mut self.readers.connections, text) {
            return Admission::Refused(rejection);
        }
        let Some(source) = self.readers.source_mut(number) else {
            return Admission::refused(ErrorCode::Limit, "source numbers are 0 to 7");
        };
        if !intake.has_room(source, &mut self.further_reactors) {
            // Its epoch would need a third ring, or one message more.
            let text = "the last session is still taken in; come back";
            return Admission::refused(ErrorCode::Limit, text);
        }
        let begins = match intake.continuity(source, conn, session) {
            Continuity::Goes { start, is_new } => (start, is_new),
            Continuity::Unknown => {
                intake.asked = Some(conn);
                return Admission::Retry(source.session(number));
            }
            Continuity::Refused => {
                let text = "that is not the sequence that this broker has";
                return Admission::refused(ErrorCode::Unexpected, text);
            }
        };
        let begun =
            intake.begin_session(now, source, &mut self.further_reactors, conn, session, begins);
        let answer = source.session(number);
        if let Some(previous) = begun.displaced {
            let text = "no sign of life from you; another took over";
            self.readers.connections.refuse(previous, ErrorCode::Silent, text);
        }
        if begun.is_new_epoch {
            self.readers.notify_epoch(number, begun.void_from);
        }
        let text = format!("publisher of source {number} connected, epoch {}", session.epoch);
        self.readers.connections.log(Level::Info, text);
        Admission::Accepted(BrokerPeer::Publisher { source: number }, answer)
    }

    /// A publisher says SESSION again: it finds the broker ahead of what it has sent.
    pub(super) fn take_back(&mut self, conn: ConnId, session: &Session) -> Result<(), Rejection> {
        let number = session.source;
        let (Some(intake), Some(source)) =
            (self.intakes.get_mut(usize::from(number)), self.readers.source_mut(number))
        else {
            return Err(Rejection::out_of_place());
        };
        let is_same = (session.epoch.get(), session.feed.get()) == (source.epoch, source.feed);
        if intake.publisher() != Some(conn) || !is_same {
            return Err(Rejection::out_of_place());
        }
        if !intake.has_room(source, &mut self.further_reactors) {
            let text = "the last session is still taken in; come back";
            return Err(Rejection::new(ErrorCode::Limit, text));
        }
        let void_from = intake.take_back(source, &mut self.further_reactors, session);
        let answer = source.session(number);
        if let Some(void_from) = void_from {
            self.readers.notify_epoch(number, Some(void_from));
            let text = format!(
                "source {number}: what came from seq {void_from} on is void: its publisher never sent it"
            );
            self.readers.connections.log(Level::Error, text);
        }
        self.readers.connections.send(conn, answer);
        Ok(())
    }

    /// A publisher says which `seq` it sends next: an empty source begins there.
    fn note_publisher_at(&mut self, number: u8, beat: &Heartbeat) {
        let frames = self.config.ring_frames;
        let Some(intake) = self.intakes.get_mut(usize::from(number)) else { return };
        let Some(source) = self.readers.source_mut(number) else { return };
        intake.life.note_heartbeat(beat);
        if beat.flags.get() & Flags::MORE == 0 {
            intake.note_says(FeedStates::of(beat));
        }
        let (mut has_stated, mut is_made_ready) = (false, false);
        if let Some(next_seq) = beat.next_seq() {
            has_stated = intake.end_statement(source, &mut self.further_reactors);
            is_made_ready =
                intake.make_ready(source, &mut self.further_reactors, frames, next_seq.get());
            if !is_made_ready {
                intake.announce(source, next_seq);
            }
        }
        intake.note_publisher(source, &mut self.further_reactors);
        if is_made_ready {
            self.readers.notify_ready(number);
        }
        if has_stated {
            self.readers.notify_stated(number);
        }
    }

    /// Asks publishers that are quiet whether they are there, and takes note of those that do not answer.
    pub(super) fn look_after_publishers(&mut self, now: Now) {
        for (intake, source) in self.intakes.iter_mut().zip(&mut self.readers.sources) {
            let (Some(conn), Some(source)) = (intake.publisher(), source) else { continue };
            let is_read = intake.waiting.is_empty()
                && self.readers.connections.round().has_room()
                && self.further_reactors.has_room();
            if !is_read {
                // Its silence says nothing.
                intake.life.note_heard(now);
            }
            if let Some(probe) = intake.life.poll(now) {
                self.readers.connections.send(conn, probe);
            }
            if intake.life.check(now) {
                intake.note_publisher(source, &mut self.further_reactors);
            }
        }
    }

    pub(super) fn forget_publisher(&mut self, conn: ConnId, number: u8) {
        let Some(intake) = self.intakes.get_mut(usize::from(number)) else { return };
        if !intake.seat.leave(conn) {
            return;
        }
        intake.waiting.clear();
        if let Some(source) = self.readers.source_mut(number) {
            intake.note_publisher(source, &mut self.further_reactors);
        }
        self.readers.connections.log(Level::Warn, format!("publisher of source {number} left"));
    }
}
