//! The machine of a whole subscription: which of its two peers it is connected to, when it tries again,
//! what it says to stay alive, and when it takes a peer for dead. What the frames mean is the
//! [`Follower`]'s; sockets and clocks are the shell's.
//!
//! The broker is always wanted; core only while a piece of history is. Meanwhile nothing is read from
//! the broker, so that frames come in order and back-pressure stays in the kernel.

use zerocopy::IntoBytes;

use super::{Backoff, Event, Follower, NextRead, Request, Symbols};
use crate::dial::Dial;
use crate::limits;
use crate::time::{Mono, Now};
use crate::wire::{
    Ended, ErrorCode, FeedStates, Flags, Frame, Gap, Heartbeat, Kind, Message, Refusal, Role, Seq,
    Session, Subscribed, U16, U32, U64, padded,
};

/// Chosen for all heartbeats of ours: one is under way at a time, and its answer is a sign of life whatever
/// it repeats.
const HEARTBEAT_TOKEN: u32 = 1;

/// Whom a subscription talks to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upstream {
    /// Who distributes the feed.
    Broker,
    /// Who has its history.
    Core,
}

impl Upstream {
    /// Both.
    pub const ALL: [Upstream; 2] = [Upstream::Broker, Upstream::Core];

    /// Its name in messages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Upstream::Broker => "broker",
            Upstream::Core => "core",
        }
    }
}

/// What the shell is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Begin to connect, and report what becomes of it.
    Connect(Upstream),
    /// Close the connection, also one that is still being made. Nothing is to be reported of it any more.
    Disconnect(Upstream),
}

/// One of the two connections.
#[derive(Debug)]
struct UpstreamConnection {
    dial: Dial<()>,
    last_heard: Mono,
    last_sent: Mono,
    outbox: Vec<u8>,
    backoff: Backoff,
    action: Option<Action>,
}

impl UpstreamConnection {
    fn new(seed: u64) -> UpstreamConnection {
        UpstreamConnection {
            dial: Dial::default(),
            last_heard: Mono::default(),
            last_sent: Mono::default(),
            outbox: Vec::new(),
            backoff: Backoff::new(limits::RECONNECT_WAIT_MIN, limits::RECONNECT_WAIT_MAX, seed),
            action: None,
        }
    }

    /// Not connected, and not before a wait that grows from one failure to the next.
    fn fail(&mut self, now: Now) {
        let _ = self.dial.end(now.mono + self.backoff.next_wait());
        self.outbox.clear();
    }

    fn send<M: Message>(&mut self, now: Now, message: M) {
        self.last_sent = now.mono;
        self.outbox.extend_from_slice(Frame::seal(message).as_bytes());
    }

    /// When something has to happen here.
    fn deadline(&self, is_wanted: bool, is_read: bool) -> Option<Mono> {
        if let Some(retry_at) = self.dial.not_before() {
            return is_wanted.then_some(retry_at);
        }
        if let Some(since) = self.dial.since() {
            return Some(since + limits::CLIENT_CONNECT_MAX);
        }
        let heartbeat_at = self.heartbeat_at();
        Some(if is_read { heartbeat_at.min(self.dead_at()) } else { heartbeat_at })
    }

    fn heartbeat_at(&self) -> Mono {
        self.last_sent + limits::HEARTBEAT_EVERY
    }

    fn dead_at(&self) -> Mono {
        self.last_heard + limits::SILENCE_MAX
    }
}

/// The machine.
#[derive(Debug)]
pub struct Subscriber {
    follower: Follower,
    broker: UpstreamConnection,
    core: UpstreamConnection,
    was_greeted: bool,
    was_confirmed: bool,
    is_over: bool,
}

impl Subscriber {
    /// A subscriber that wants to be connected at once. `seed` makes its waits its own.
    #[must_use]
    pub fn new(request: Request, seed: u64) -> Subscriber {
        Subscriber {
            follower: Follower::new(request),
            broker: UpstreamConnection::new(seed),
            core: UpstreamConnection::new(seed.rotate_left(32)),
            was_greeted: false,
            was_confirmed: false,
            is_over: false,
        }
    }

    /// Names of the instruments seen so far.
    #[must_use]
    pub fn symbols(&self) -> &Symbols {
        self.follower.symbols()
    }

    /// How many instruments matched; `None` before the broker has confirmed the subscription.
    #[must_use]
    pub fn matched(&self) -> Option<u32> {
        self.follower.matched()
    }

    /// The next `seq` to deliver: what a later subscription can begin from. `None` before it is known.
    #[must_use]
    pub fn next_seq(&self) -> Option<Seq> {
        self.follower.next_seq()
    }

    /// What is known of the last values of each exchange: the last that was said.
    #[must_use]
    pub fn states(&self) -> FeedStates {
        self.follower.states()
    }

    /// Whether the broker has ever answered. Before, a failure is rather a wrong address than a break.
    #[must_use]
    pub fn was_greeted(&self) -> bool {
        self.was_greeted
    }

    /// Whether the broker has refused for good: nothing more will come.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    /// The next event for the caller.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.follower.poll_event()
    }

    /// Whether there is an event for the caller, or an action for the shell.
    #[must_use]
    pub fn has_updates(&self) -> bool {
        self.follower.has_events() || self.broker.action.is_some() || self.core.action.is_some()
    }

    /// What the shell is to do next.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.broker.action.take().or_else(|| self.core.action.take())
    }

    /// Bytes for this peer.
    #[must_use]
    pub fn outgoing(&self, upstream: Upstream) -> &[u8] {
        &self.connection(upstream).outbox
    }

    /// The kernel took so many of them.
    pub fn handle_sent(&mut self, upstream: Upstream, bytes: usize) {
        let outbox = &mut self.connection_mut(upstream).outbox;
        outbox.drain(..bytes.min(outbox.len()));
    }

    /// Whether frames of this peer are wanted now.
    #[must_use]
    pub fn wants_frames(&self, upstream: Upstream) -> bool {
        match upstream {
            Upstream::Broker => !self.wants_history(),
            Upstream::Core => true,
        }
    }

    /// The earliest time at which [`Subscriber::handle_timers`] has something to do.
    #[must_use]
    pub fn deadline(&self) -> Option<Mono> {
        if self.is_over {
            return None;
        }
        let wants_history = self.wants_history();
        let broker = self.broker.deadline(!wants_history, !wants_history);
        broker.into_iter().chain(self.core.deadline(wants_history, true)).min()
    }

    /// Connects, says something, or gives up, if it is time to.
    pub fn handle_timers(&mut self, now: Now) {
        if self.deadline().is_none_or(|deadline| deadline > now.mono) {
            return;
        }
        let wants_history = self.wants_history();
        for upstream in Upstream::ALL {
            let is_wanted = (upstream == Upstream::Core) == wants_history;
            let is_read = self.wants_frames(upstream);
            let next_seq = self.follower.next_seq().filter(|_| upstream == Upstream::Broker);
            let connection = self.connection_mut(upstream);
            let opening_until =
                connection.dial.since().map(|since| since + limits::CLIENT_CONNECT_MAX);
            if is_wanted && connection.dial.is_due(now.mono) {
                connection.dial.begin(now.mono, ());
                connection.action = Some(Action::Connect(upstream));
            } else if opening_until.is_some_and(|until| until <= now.mono) {
                self.leave(now, upstream);
            } else if connection.dial.is_ready() && is_read && connection.dead_at() <= now.mono {
                log::info!("{} said nothing for 45 s; reconnecting", upstream.name());
                self.leave(now, upstream);
            } else if connection.dial.is_ready() && connection.heartbeat_at() <= now.mono {
                // Asks for an answer: a feed of others' frames would otherwise show no sign of life.
                connection.send(
                    now,
                    Heartbeat {
                        flags: U16::new(Flags::MORE),
                        token: U32::new(HEARTBEAT_TOKEN),
                        next_seq: Seq::field(next_seq),
                        sent_at: U64::new(now.wall_ns),
                        ..Heartbeat::default()
                    },
                );
            }
        }
    }

    /// The connection stands: says who we are and what we want.
    pub fn handle_connected(&mut self, now: Now, upstream: Upstream) {
        let role = match upstream {
            Upstream::Broker => Role::Subscriber,
            Upstream::Core => Role::Querier,
        };
        let (feed, epoch) = self.follower.epoch();
        let next_seq = Seq::field(self.follower.expected_seq());
        let connection = self.connection_mut(upstream);
        connection.dial.opened(now.mono);
        if !connection.dial.is_greeting() {
            // Nobody waits for it any more.
            return self.leave(now, upstream);
        }
        connection.outbox.clear();
        connection.last_heard = now.mono;
        let name = padded("client");
        let (role, feed, epoch) = (role as u8, U64::new(feed), U32::new(epoch));
        connection.send(now, Session { role, feed, epoch, next_seq, name, ..Session::default() });
        match (upstream, self.follower.next_read()) {
            (Upstream::Broker, NextRead::Broker { from_seq }) => {
                for subscribe in self.follower.subscribe_frames(from_seq) {
                    self.broker.send(now, subscribe);
                }
            }
            (Upstream::Core, NextRead::History { from_seq, to_seq }) => {
                let query = self.follower.history_query(from_seq, to_seq, u32::MAX);
                self.core.send(now, query);
            }
            // What it was made for has gone meanwhile.
            _ => self.leave(now, upstream),
        }
    }

    /// The connection could not be made, or has ended.
    pub fn handle_disconnected(&mut self, now: Now, upstream: Upstream) {
        self.connection_mut(upstream).fail(now);
        match upstream {
            Upstream::Broker => {
                self.follower.handle_broker_lost();
                self.disconnect(now, Upstream::Core);
            }
            Upstream::Core => self.follower.handle_history_lost(),
        }
    }

    /// A frame that passed [`Frame::check`].
    ///
    /// # Errors
    /// The broker's refusal, when another attempt would only meet it again.
    pub fn handle_frame(
        &mut self,
        now: Now,
        upstream: Upstream,
        frame: &Frame,
    ) -> Result<(), Refusal> {
        let next_seq = self.follower.next_seq().filter(|_| upstream == Upstream::Broker);
        let connection = self.connection_mut(upstream);
        connection.last_heard = now.mono;
        if let Some(refusal) = frame.view::<Refusal>() {
            return self.handle_refusal(now, upstream, refusal);
        }
        if let Some(beat) = frame.view::<Heartbeat>()
            && beat.flags.get() & Flags::MORE != 0
        {
            connection.send(
                now,
                Heartbeat {
                    token: beat.token,
                    next_seq: Seq::field(next_seq),
                    sent_at: U64::new(now.wall_ns),
                    ..Heartbeat::default()
                },
            );
        }
        if connection.dial.greeted().is_some() {
            self.was_greeted |= upstream == Upstream::Broker;
        }
        match upstream {
            Upstream::Broker => self.handle_broker_frame(now, frame),
            Upstream::Core => self.handle_core_frame(now, frame),
        }
        Ok(())
    }

    fn handle_broker_frame(&mut self, now: Now, frame: &Frame) {
        if frame.view::<Subscribed>().is_some() {
            if self.was_confirmed {
                log::info!("subscribed again from seq {}", Seq::number(self.follower.next_seq()));
            }
            self.was_confirmed = true;
            // Not sooner: a broker that accepts and falls again must not be hammered.
            self.broker.backoff.reset();
        }
        self.follower.handle_broker_frame(frame);
        if self.follower.must_subscribe_again() {
            self.leave(now, Upstream::Broker);
        }
    }

    fn handle_core_frame(&mut self, now: Now, frame: &Frame) {
        if let Some(end) = frame.view::<Ended>() {
            self.core.backoff.reset();
            self.follower.handle_history_end(end);
            self.disconnect(now, Upstream::Core);
            if self.follower.must_subscribe_again() {
                log::warn!("the broker is ahead of core's journal; subscribing again");
                self.leave(now, Upstream::Broker);
            }
            // It was not read meanwhile, which is no silence.
            self.broker.last_heard = now.mono;
        } else if let Some(session) = frame.view::<Session>() {
            let (epoch, start) = (session.epoch.get(), Seq::from_field(session.epoch_start));
            self.follower.handle_history_session(epoch, start);
            if self.follower.must_subscribe_again() {
                log::info!("core is in epoch {epoch} already; subscribing again");
                self.leave(now, Upstream::Broker);
            }
        } else if let Some(gap) = frame.view::<Gap>() {
            self.follower.handle_history_gap(gap);
        } else if frame.kind().is_some_and(Kind::is_data) {
            self.follower.handle_history_frame(frame);
        }
    }

    fn handle_refusal(
        &mut self,
        now: Now,
        upstream: Upstream,
        refusal: &Refusal,
    ) -> Result<(), Refusal> {
        let passes = match ErrorCode::from_number(refusal.code.get()) {
            Some(ErrorCode::Stopping | ErrorCode::Silent) => self.was_greeted,
            Some(ErrorCode::Limit) => self.was_confirmed,
            _ => false,
        };
        if upstream == Upstream::Broker && !passes {
            self.is_over = true;
            self.leave(now, Upstream::Broker);
            return Err(*refusal);
        }
        log::info!("{} refused: {}", upstream.name(), crate::wire::unpadded(&refusal.text));
        self.leave(now, upstream);
        Ok(())
    }

    fn wants_history(&self) -> bool {
        matches!(self.follower.next_read(), NextRead::History { .. })
    }

    /// Gives a connection up that did not do, and lets some time pass.
    fn leave(&mut self, now: Now, upstream: Upstream) {
        self.connection_mut(upstream).action = Some(Action::Disconnect(upstream));
        self.handle_disconnected(now, upstream);
    }

    /// Ends a connection that has served.
    fn disconnect(&mut self, now: Now, upstream: Upstream) {
        let connection = self.connection_mut(upstream);
        if connection.dial.not_before().is_none() {
            connection.action = Some(Action::Disconnect(upstream));
            let _ = connection.dial.end(now.mono);
            connection.outbox.clear();
        }
    }

    fn connection(&self, upstream: Upstream) -> &UpstreamConnection {
        match upstream {
            Upstream::Broker => &self.broker,
            Upstream::Core => &self.core,
        }
    }

    fn connection_mut(&mut self, upstream: Upstream) -> &mut UpstreamConnection {
        match upstream {
            Upstream::Broker => &mut self.broker,
            Upstream::Core => &mut self.core,
        }
    }
}

#[cfg(test)]
mod tests;
