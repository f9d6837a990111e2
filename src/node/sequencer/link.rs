//! The connection with an exchange: core dials it, or it comes to core by itself as a producer.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use super::{ConnId, DialFailure};
use crate::breaker::Outcome;
use crate::limits;
use crate::node::CloseReason;
use crate::node::session::Status;
use crate::node::uplink::{Uplink, UplinkClose, UplinkEnd};
use crate::planted::{Bug, is_planted};
use crate::time::{Mono, Now};
use crate::wire::{Ack, BreakerAction, InstrumentIndex, Seq, U32};

/// How an exchange and core are connected.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "there are 32 at most, and each turn looks into them")]
pub(super) enum Link {
    /// Core dials it, behind a breaker.
    Dialed(Uplink),
    /// It comes, and core waits for it. There is no dial that a breaker could guard.
    Accepted(Accepted),
}

/// The connection of a producer.
#[derive(Debug, Default)]
pub(super) struct Accepted {
    conn: Option<ConnId>,
    /// Core has given it up, and it is being closed.
    is_given_up: bool,
    acks: Acks,
    /// The next of core's instruments that is to be looked at, for the definitions that a producer is told.
    untold: Option<InstrumentIndex>,
    told: u32,
}

/// What of a producer's feed is in the journal, and what is durable there.
#[derive(Debug, Default)]
struct Acks {
    /// When the journal is durable up to the first number, the feed is up to the second.
    pending: VecDeque<(Seq, Seq)>,
    accepted: Option<Seq>,
    durable: Option<Seq>,
    is_news: bool,
}

impl Acks {
    fn note_committed(&mut self, journal: Seq, feed: Seq) {
        if self.accepted == Some(feed) {
            return;
        }
        (self.accepted, self.is_news) = (Some(feed), true);
        if self.pending.len() >= limits::PRODUCER_ACKS_MAX {
            // A later place in the journal covers the feed up to an earlier one as well.
            self.pending.pop_back();
        }
        self.pending.push_back((journal, feed));
    }

    fn note_durable(&mut self, journal: Seq) {
        while let Some((_, feed)) = self.pending.pop_front_if(|(at, _)| *at <= journal) {
            (self.durable, self.is_news) = (Some(feed), true);
        }
    }
}

impl Accepted {
    /// A producer was let in.
    pub(super) fn open(&mut self, conn: ConnId) {
        *self = Accepted {
            conn: Some(conn),
            untold: Some(InstrumentIndex::FIRST),
            ..Accepted::default()
        };
    }

    /// The connection, while it stands.
    pub(super) fn ready(&self) -> Option<ConnId> {
        self.conn.filter(|_| !self.is_given_up)
    }

    /// What is in the journal is committed there: all of it up to this place, and of the feed up to that number.
    pub(super) fn note_committed(&mut self, journal: Seq, feed: Seq) {
        self.acks.note_committed(journal, feed);
        if is_planted(Bug::AckBeforeSync) {
            self.acks.note_durable(Seq::LAST);
        }
    }

    /// The journal is durable up to here.
    pub(super) fn note_durable(&mut self, journal: Seq) {
        self.acks.note_durable(journal);
    }

    /// What the producer is to be told, if it is news.
    pub(super) fn poll_ack(&mut self, epoch: u32) -> Option<(ConnId, Ack)> {
        let conn = self.ready()?;
        let is_news = std::mem::take(&mut self.acks.is_news);
        let ack = Ack {
            epoch: U32::new(epoch),
            accepted_seq: Seq::field(self.acks.accepted),
            durable_seq: Seq::field(self.acks.durable),
            ..Ack::default()
        };
        is_news.then_some((conn, ack))
    }

    /// The next instrument to look at for the definitions that a producer is told.
    pub(super) fn untold(&self) -> Option<InstrumentIndex> {
        self.untold.filter(|_| self.ready().is_some())
    }

    /// So many definitions more were told, and this is the next instrument to look at; `None`: there are no more. How many
    /// were told in all.
    pub(super) fn note_told(&mut self, count: usize, next: Option<InstrumentIndex>) -> u32 {
        self.told = self.told.saturating_add(u32::try_from(count).unwrap_or(u32::MAX));
        self.untold = next;
        self.told
    }
}

impl Link {
    /// The connection, until the shell says that it is closed.
    pub(super) fn conn(&self) -> Option<ConnId> {
        match self {
            Link::Dialed(uplink) => uplink.conn(),
            Link::Accepted(accepted) => accepted.conn,
        }
    }

    /// The connection, while it stands.
    pub(super) fn ready(&self) -> Option<ConnId> {
        match self {
            Link::Dialed(uplink) => uplink.ready(),
            Link::Accepted(accepted) => accepted.ready(),
        }
    }

    /// The machine of the dials, if core dials.
    pub(super) fn uplink(&mut self) -> Option<&mut Uplink> {
        match self {
            Link::Dialed(uplink) => Some(uplink),
            Link::Accepted(_) => None,
        }
    }

    /// The producer's connection, if core does not dial.
    pub(super) fn accepted(&mut self) -> Option<&mut Accepted> {
        match self {
            Link::Dialed(_) => None,
            Link::Accepted(accepted) => Some(accepted),
        }
    }

    /// Whether it comes by itself.
    pub(super) fn is_accepted(&self) -> bool {
        matches!(self, Link::Accepted(_))
    }

    /// Whether it comes by itself, and is not there.
    pub(super) fn is_away(&self) -> bool {
        self.is_accepted() && self.conn().is_none()
    }

    pub(super) fn handle_dial_failed(&mut self, now: Now, failure: DialFailure) {
        if let Some(uplink) = self.uplink() {
            uplink.handle_dial_failed(now, failure);
        }
    }

    /// The connection has ended.
    pub(super) fn handle_close(&mut self, now: Now, conn: ConnId, reason: CloseReason) {
        match self {
            Link::Dialed(uplink) => {
                if let UplinkEnd::Ready(outcome) = uplink.handle_close(now, conn, reason)
                    && reason != CloseReason::Ours
                {
                    uplink.breaker_mut().observe(outcome, now.mono);
                }
            }
            Link::Accepted(accepted) => *accepted = Accepted::default(),
        }
    }

    /// Counts an outcome of the standing connection.
    pub(super) fn observe(&mut self, now: Now, outcome: Outcome) {
        if let Some(uplink) = self.uplink() {
            uplink.breaker_mut().observe(outcome, now.mono);
        }
    }

    /// Gives the connection up by the peer's fault, and counts it once.
    pub(super) fn fail(&mut self, now: Now, outcome: Outcome) {
        match self {
            Link::Dialed(uplink) => uplink.fail(now, outcome),
            Link::Accepted(accepted) => accepted.is_given_up = true,
        }
    }

    /// Gives the connection up, and holds nothing against the peer.
    pub(super) fn abandon(&mut self) {
        match self {
            Link::Dialed(uplink) => uplink.abandon(),
            Link::Accepted(accepted) => accepted.is_given_up = true,
        }
    }

    /// A connection to close, if it is time. While nothing is read, the answer to our SESSION cannot come.
    pub(super) fn poll_close(&mut self, now: Now, has_room: bool) -> Option<UplinkClose> {
        self.uplink()?.poll_close(now, false, has_room)
    }

    /// Whom to dial now, and within what time.
    pub(super) fn poll_dial(&mut self, now: Now) -> Option<(SocketAddr, Duration)> {
        self.uplink()?.poll_dial(now)
    }

    pub(super) fn handle_timers(&mut self, now: Now) {
        if let Some(uplink) = self.uplink() {
            uplink.handle_timers(now);
        }
    }

    /// Does what an operator wants, if the breaker is the one of the dials.
    pub(super) fn operate(&mut self, now: Now, name: &str, action: BreakerAction) -> bool {
        self.uplink().is_some_and(|uplink| uplink.operate(now, name, action))
    }

    /// When a dial, a deadline or the breaker is due; without room only the breaker.
    pub(super) fn next_deadline(&self, has_room: bool) -> Option<Mono> {
        match self {
            Link::Dialed(uplink) if has_room => uplink.next_deadline(true),
            Link::Dialed(uplink) => uplink.breaker().next_deadline(),
            Link::Accepted(_) => None,
        }
    }

    /// The breaker of the dials.
    #[cfg(test)]
    pub(super) fn breaker(&self) -> Option<&crate::breaker::Breaker> {
        match self {
            Link::Dialed(uplink) => Some(uplink.breaker()),
            Link::Accepted(_) => None,
        }
    }

    /// The state of the connection, as a name.
    pub(super) fn state(&self) -> &'static str {
        match self {
            Link::Dialed(uplink) => uplink.state(),
            Link::Accepted(accepted) if accepted.ready().is_some() => "ready",
            Link::Accepted(_) => "away",
        }
    }

    /// Adds the breaker of the dials to a status answer.
    pub(super) fn describe(&self, now: Now, status: &mut Status) {
        if let Link::Dialed(uplink) = self {
            uplink.describe(now, status);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seq(number: u64) -> Seq {
        Seq::or_first(number)
    }

    fn said(accepted: &mut Accepted) -> Option<(u64, u64)> {
        accepted.poll_ack(1).map(|(_, ack)| (ack.accepted_seq.get(), ack.durable_seq.get()))
    }

    #[test]
    fn what_is_durable_in_the_journal_is_durable_in_the_feed_and_nothing_more() {
        let mut accepted = Accepted::default();
        accepted.open(ConnId { generation: 1, slot: 1 });
        assert_eq!(said(&mut accepted), None);
        accepted.note_committed(seq(10), seq(4));
        accepted.note_committed(seq(20), seq(9));
        assert_eq!(said(&mut accepted), Some((9, 0)));
        accepted.note_durable(seq(19));
        assert_eq!(said(&mut accepted), Some((9, 4)));
        accepted.note_durable(seq(19));
        accepted.note_committed(seq(25), seq(9));
        assert_eq!(said(&mut accepted), None);
        accepted.note_durable(seq(20));
        assert_eq!(said(&mut accepted), Some((9, 9)));
    }

    #[test]
    fn what_waits_for_the_disk_has_a_bound_and_is_never_told_too_early() {
        let mut accepted = Accepted::default();
        accepted.open(ConnId { generation: 1, slot: 1 });
        let last = 3 * limits::PRODUCER_ACKS_MAX as u64;
        for number in 1..=last {
            accepted.note_committed(seq(100 + number), seq(number));
        }
        assert_eq!(accepted.acks.pending.len(), limits::PRODUCER_ACKS_MAX);
        for number in 1..=last {
            accepted.note_durable(seq(100 + number));
            assert!(accepted.acks.durable.is_none_or(|durable| durable <= seq(number)));
        }
        assert_eq!(said(&mut accepted), Some((last, last)));
    }
}
