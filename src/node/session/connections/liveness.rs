//! Heartbeats and silence: who was heard when, and who must hear of us.
//!
//! # Decisions
//!
//! * Who reads nothing holds the kernel's buffers of its connection, on a machine of its own or on this one, and a
//!   place. So a subscriber that takes nothing for long is closed, although the ring costs no more for it. It is told by
//!   ERROR, if it reads after all, and the log and the status say it in any case.
//! * A silent peer is closed at the last check before 45 s of silence, that is 43 to 45 s after its last
//!   frame. Checks are 2 s apart, and the bound must hold.

use std::time::Duration;

use super::{Connection, Connections, NEVER};
use crate::limits;
use crate::node::{ConnId, Level};
use crate::planted::{Bug, is_planted};
use crate::time::{Mono, Now};
use crate::wire::{ErrorCode, FeedStatus, Flags, Heartbeat, Seq, U16, U32, U64};

/// The token of the heartbeats that [`Connections::tick`] sends; nobody else counts so far.
const TICK_TOKEN: u32 = u32::MAX;

impl<P> Connection<P> {
    /// How long the peer has taken nothing of what waits for it. What is lent waits unseen, but not beyond the next
    /// heartbeat, which has to wait behind it.
    fn look_unread(&mut self, now: Mono) -> Duration {
        if self.outbox.is_empty() {
            self.unread_since = NEVER;
        } else if self.unread_since == NEVER {
            self.unread_since = now;
        }
        now.since(self.unread_since)
    }
}

impl<P> Connections<P> {
    /// Peers that take nothing of what waits for them for this long are closed.
    pub fn bound_unread(&mut self, unread_max: Duration) {
        self.unread_max = Some(unread_max);
    }

    /// Peers closed because they did not read.
    #[must_use]
    pub fn unread_closed(&self) -> u64 {
        self.unread_closed
    }

    /// Notes that a peer spoke. Whether this node dialed it.
    #[inline]
    pub fn heard(&mut self, now: Now, id: ConnId) -> bool {
        let Some(connection) = self.get_mut(id) else { return false };
        connection.last_heard = now.mono;
        connection.is_dialed
    }

    /// Every [`limits::SILENCE_CHECK_EVERY`]: closes peers that have been silent too long, and greets those that we have been
    /// silent to. One look at all connections, every two seconds: `limits::CONNECTIONS_MAX` at most. `next_seq` says what a connection's heartbeat states (`None`: it is sent no sequence).
    ///
    /// Of many heartbeats that are due at once, each turn sends some: all of them would have a buffer at the same time,
    /// and the memory of a process does not shrink behind that.
    pub fn tick(&mut self, now: Now, next_seq: impl Fn(&P) -> Option<Seq>) {
        if now.mono >= self.next_tick {
            self.next_tick = now.mono + limits::SILENCE_CHECK_EVERY;
            self.check_silence(now);
            self.repeat_exposure(now);
            self.beats_from = Some(0);
        }
        let Some(from) = self.beats_from.take() else { return };
        let mut sent = 0;
        for slot in from..self.slots.len() {
            if sent >= limits::HEARTBEATS_PER_TURN_MAX {
                self.beats_from = Some(slot);
                return;
            }
            sent += usize::from(self.beat(now, slot, &next_seq));
        }
    }

    /// Says to one that we have been silent to that we are there. Whether that was so.
    fn beat(&mut self, now: Now, slot: usize, next_seq: impl Fn(&P) -> Option<Seq>) -> bool {
        let Some(connection) = self.at_slot(slot) else { return false };
        let is_due = now.mono.since(connection.last_sent) >= limits::HEARTBEAT_EVERY
            && connection.outbox.is_empty();
        if is_due {
            let beat = Heartbeat {
                flags: U16::new(Flags::MORE),
                token: U32::new(TICK_TOKEN),
                next_seq: Seq::field(connection.peer.as_ref().and_then(&next_seq)),
                sent_at: U64::new(now.wall_ns),
                ..Heartbeat::default()
            };
            connection.last_sent = now.mono;
            let id = connection.id;
            self.send(id, beat);
        }
        is_due
    }

    /// Closes those who have been silent for too long, and those who do not read.
    fn check_silence(&mut self, now: Now) {
        let unlogged = self.refused_lately.saturating_sub(limits::REFUSALS_LOGGED_PER_TICK_MAX);
        if unlogged > 0 {
            self.log(Level::Warn, format!("closed {unlogged} more connections"));
        }
        self.refused_lately = 0;
        let unread_max = self.unread_max.filter(|_| !is_planted(Bug::KeepTheUnread));
        for slot in 0..self.slots.len() {
            let Some(connection) = self.at_slot(slot) else { continue };
            let id = connection.id;
            let unread = connection.look_unread(now.mono);
            let silence = now.mono.since(connection.last_heard);
            if silence > limits::SILENCE_MAX - limits::SILENCE_CHECK_EVERY {
                // Behind the next look the bound would be broken.
                self.refuse(id, ErrorCode::Silent, "silent for 45 s; send heartbeats");
            } else if connection.peer.is_none() && silence > limits::GREETING_MAX {
                self.refuse(id, ErrorCode::Silent, "no SESSION frame within 5 s");
            } else if unread_max.is_some_and(|unread_max| unread >= unread_max) {
                self.unread_closed += 1;
                self.refuse(id, ErrorCode::Limit, "you read nothing for too long");
            }
        }
    }

    /// Asks a peer for a sign of life now: somebody else wants its seat.
    pub(in crate::node::session) fn ask_for_life(&mut self, now: Now, id: ConnId) {
        let flags = U16::new(Flags::MORE);
        let (token, sent_at) = (U32::new(Heartbeat::LIFE_TOKEN), U64::new(now.wall_ns));
        self.send(id, Heartbeat { flags, token, sent_at, ..Heartbeat::default() });
    }

    /// When [`Connections::tick`] is due; never while nobody is connected, so that a quiet node sleeps.
    #[must_use]
    pub fn next_tick(&self) -> Option<Mono> {
        let at_once = self.beats_from.map(|_| Mono::default());
        (self.open > 0).then_some(at_once.unwrap_or(self.next_tick))
    }

    /// Answers a heartbeat that wants an answer.
    pub fn answer_heartbeat(
        &mut self,
        now: Now,
        id: ConnId,
        beat: &Heartbeat,
        next_seq: Option<Seq>,
    ) {
        self.answer_heartbeat_as(now, id, beat, next_seq, FeedStatus::Current);
    }

    /// The same, and says whether what it has up to there is known to be current.
    pub(in crate::node) fn answer_heartbeat_as(
        &mut self,
        now: Now,
        id: ConnId,
        beat: &Heartbeat,
        next_seq: Option<Seq>,
        status: FeedStatus,
    ) {
        if beat.flags.get() & Flags::MORE != 0 {
            self.send(
                id,
                Heartbeat {
                    flags: U16::new(status.flags()),
                    token: beat.token,
                    next_seq: Seq::field(next_seq),
                    sent_at: U64::new(now.wall_ns),
                    ..Heartbeat::default()
                },
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::as_frames;

    fn now(seconds: u64) -> Now {
        Now { mono: Mono(seconds * 1_000_000_000), wall_ns: 0 }
    }

    fn conn(generation: u32) -> ConnId {
        ConnId { generation, slot: 0 }
    }

    #[test]
    fn a_silent_peer_is_closed_and_a_quiet_one_greeted() {
        let mut connections = Connections::<()>::default();
        connections.insert(now(0), conn(1));
        connections.greet(conn(1), false, ());
        connections.tick(now(16), |()| Seq::new(7));
        let (frames, _) = as_frames(connections.outbox(conn(1)));
        assert_eq!(frames[0].view::<Heartbeat>().map(|beat| beat.next_seq.get()), Some(7));
        connections.tick(now(43), |()| Seq::new(7));
        assert!(connections.get(conn(1)).is_some());
        // The last look before the bound.
        connections.tick(now(45), |()| Seq::new(7));
        assert!(connections.get(conn(1)).is_none());
    }

    #[test]
    fn many_heartbeats_that_are_due_at_once_are_sent_over_several_turns() {
        let mut connections = Connections::<()>::default();
        let count = limits::HEARTBEATS_PER_TURN_MAX * 2 + 1;
        for slot in 0..u32::try_from(count).unwrap() {
            let id = ConnId { generation: 1, slot };
            connections.insert(now(0), id);
            connections.greet(id, false, ());
        }
        let waiting = |it: &Connections<()>| it.iter().filter(|it| it.outbox_bytes() > 0).count();
        for turn in 1..=3 {
            connections.tick(now(16), |()| None);
            assert_eq!(waiting(&connections), count.min(turn * limits::HEARTBEATS_PER_TURN_MAX));
            let is_at_once = connections.next_tick() == Some(Mono::default());
            assert_eq!(is_at_once, turn < 3, "the next turn follows at once");
        }
        connections.tick(now(17), |()| None);
        let of_one = |it: &Connections<()>| it.iter().all(|it| it.outbox_bytes() == 64);
        assert!(of_one(&connections), "each has one");
    }

    #[test]
    fn a_peer_that_takes_nothing_for_long_is_closed_and_a_slow_one_is_not() {
        let mut connections = Connections::<()>::default();
        connections.bound_unread(Duration::from_secs(20));
        connections.insert(now(0), conn(1));
        connections.greet(conn(1), false, ());
        for seconds in (2..100).step_by(2) {
            connections.heard(now(seconds), conn(1));
            connections.tick(now(seconds), |()| None);
            connections.send(conn(1), crate::wire::Run::default());
            if seconds % 16 == 0 {
                connections.sent(now(seconds), conn(1), 1);
            }
        }
        assert!(connections.get(conn(1)).is_some(), "it reads, if only a little");
        // The look at 98 found it as it was; it has taken nothing since.
        for seconds in (100..=118).step_by(2) {
            assert!(connections.get(conn(1)).is_some(), "{seconds}");
            connections.heard(now(seconds), conn(1));
            connections.tick(now(seconds), |()| None);
        }
        assert!(connections.get(conn(1)).is_none());
        assert_eq!(connections.unread_closed(), 1);
    }

    #[test]
    fn a_peer_without_a_greeting_is_closed_soon() {
        let mut connections = Connections::<()>::default();
        connections.insert(now(0), conn(1));
        connections.tick(now(4), |()| None);
        assert!(connections.get(conn(1)).is_some());
        connections.tick(now(6), |()| None);
        assert!(connections.get(conn(1)).is_none());
    }
}
