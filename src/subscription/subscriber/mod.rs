//! The machine of a whole subscription: which of its two peers it is connected to, when it tries again,
//! what it says to stay alive, and when it takes a peer for dead. What the frames mean is the
//! [`Follower`]'s; sockets and clocks are the shell's.
//!
//! The broker is always wanted; core only while a piece of history is. Meanwhile nothing is read from
//! the broker, so that frames come in order and back-pressure stays in the kernel.

use zerocopy::IntoBytes;

use super::{Backoff, Event, Follower, Request, Symbols, Want};
use crate::dial::Dial;
use crate::limits;
use crate::time::{Mono, Now};
use crate::wire::{
    Ended, ErrorCode, Flags, Frame, Gap, Heartbeat, Kind, Message, Refusal, Role, Session,
    Subscribed, U16, U32, U64, padded,
};

/// Chosen for all heartbeats of ours: one is under way at a time, and its answer is a sign of life whatever
/// it repeats.
const HEARTBEAT_TOKEN: u32 = 1;

/// Whom a subscription talks to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// Who distributes the feed.
    Broker,
    /// Who has its history.
    Core,
}

impl Peer {
    /// Both.
    pub const ALL: [Peer; 2] = [Peer::Broker, Peer::Core];

    /// Its name in messages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Peer::Broker => "broker",
            Peer::Core => "core",
        }
    }
}

/// What the shell is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Begin to connect, and tell what becomes of it.
    Connect(Peer),
    /// Close the connection, also one that is still being made. Nothing is to be told of it any more.
    Disconnect(Peer),
}

/// One of the two connections.
#[derive(Debug)]
struct Line {
    dial: Dial<()>,
    last_heard: Mono,
    last_sent: Mono,
    outbox: Vec<u8>,
    backoff: Backoff,
    action: Option<Action>,
}

impl Line {
    fn new(seed: u64) -> Line {
        Line {
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
    broker: Line,
    core: Line,
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
            broker: Line::new(seed),
            core: Line::new(seed.rotate_left(32)),
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

    /// The next `seq` to deliver: what a later subscription can begin from.
    #[must_use]
    pub fn next_seq(&self) -> u64 {
        self.follower.next_seq()
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

    /// What the caller is told next.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.follower.poll_event()
    }

    /// Whether the caller is to be told, or the shell to do, something.
    #[must_use]
    pub fn has_news(&self) -> bool {
        self.follower.has_events() || self.broker.action.is_some() || self.core.action.is_some()
    }

    /// What the shell is to do next.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.broker.action.take().or_else(|| self.core.action.take())
    }

    /// Bytes for this peer.
    #[must_use]
    pub fn outgoing(&self, peer: Peer) -> &[u8] {
        &self.line(peer).outbox
    }

    /// The kernel took so many of them.
    pub fn handle_sent(&mut self, peer: Peer, bytes: usize) {
        let outbox = &mut self.line_mut(peer).outbox;
        outbox.drain(..bytes.min(outbox.len()));
    }

    /// Whether frames of this peer are wanted now.
    #[must_use]
    pub fn wants_frames(&self, peer: Peer) -> bool {
        match peer {
            Peer::Broker => !self.wants_history(),
            Peer::Core => true,
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
        for peer in Peer::ALL {
            let is_wanted = (peer == Peer::Core) == wants_history;
            let is_read = self.wants_frames(peer);
            let next_seq = if peer == Peer::Broker { self.follower.next_seq() } else { 0 };
            let line = self.line_mut(peer);
            let opening_until = line.dial.since().map(|since| since + limits::CLIENT_CONNECT_MAX);
            if is_wanted && line.dial.is_due(now.mono) {
                line.dial.begin(now.mono, ());
                line.action = Some(Action::Connect(peer));
            } else if opening_until.is_some_and(|until| until <= now.mono) {
                self.leave(now, peer);
            } else if line.dial.is_ready() && is_read && line.dead_at() <= now.mono {
                log::info!("{} said nothing for 45 s; reconnecting", peer.name());
                self.leave(now, peer);
            } else if line.dial.is_ready() && line.heartbeat_at() <= now.mono {
                // Asks for an answer: a feed of others' frames would otherwise show no sign of life.
                line.send(
                    now,
                    Heartbeat {
                        flags: U16::new(Flags::MORE),
                        token: U32::new(HEARTBEAT_TOKEN),
                        next_seq: U64::new(next_seq),
                        sent_at: U64::new(now.wall_ns),
                        ..Heartbeat::default()
                    },
                );
            }
        }
    }

    /// The connection stands: says who we are and what we want.
    pub fn handle_connected(&mut self, now: Now, peer: Peer) {
        let role = match peer {
            Peer::Broker => Role::Subscriber,
            Peer::Core => Role::Querier,
        };
        let line = self.line_mut(peer);
        line.dial.opened(now.mono);
        line.outbox.clear();
        line.last_heard = now.mono;
        let name = padded("client");
        line.send(now, Session { role: role as u8, name, ..Session::default() });
        match (peer, self.follower.want()) {
            (Peer::Broker, Want::Broker { from_seq }) => {
                for subscribe in self.follower.subscribe_frames(from_seq) {
                    self.broker.send(now, subscribe);
                }
            }
            (Peer::Core, Want::History { from_seq, to_seq }) => {
                let query = self.follower.history_query(from_seq, to_seq, u32::MAX);
                self.core.send(now, query);
            }
            // What it was made for has gone meanwhile.
            _ => self.leave(now, peer),
        }
    }

    /// The connection could not be made, or has ended.
    pub fn handle_disconnected(&mut self, now: Now, peer: Peer) {
        self.line_mut(peer).fail(now);
        match peer {
            Peer::Broker => {
                self.follower.handle_broker_lost();
                self.hang_up(now, Peer::Core);
            }
            Peer::Core => self.follower.handle_history_lost(),
        }
    }

    /// A frame that passed [`Frame::check`].
    ///
    /// # Errors
    /// The broker's refusal, when another attempt would only meet it again.
    pub fn handle_frame(&mut self, now: Now, peer: Peer, frame: &Frame) -> Result<(), Refusal> {
        let next_seq = if peer == Peer::Broker { self.follower.next_seq() } else { 0 };
        let line = self.line_mut(peer);
        line.last_heard = now.mono;
        if let Some(refusal) = frame.view::<Refusal>() {
            return self.handle_refusal(now, peer, refusal);
        }
        if let Some(beat) = frame.view::<Heartbeat>()
            && beat.flags.get() & Flags::MORE != 0
        {
            line.send(
                now,
                Heartbeat {
                    token: beat.token,
                    next_seq: U64::new(next_seq),
                    sent_at: U64::new(now.wall_ns),
                    ..Heartbeat::default()
                },
            );
        }
        if line.dial.greeted().is_some() {
            self.was_greeted |= peer == Peer::Broker;
        }
        match peer {
            Peer::Broker => self.handle_broker_frame(now, frame),
            Peer::Core => self.handle_core_frame(now, frame),
        }
        Ok(())
    }

    fn handle_broker_frame(&mut self, now: Now, frame: &Frame) {
        if frame.view::<Subscribed>().is_some() {
            if self.was_confirmed {
                log::info!("subscribed again from seq {}", self.follower.next_seq());
            }
            self.was_confirmed = true;
            // Not sooner: a broker that accepts and falls again must not be hammered.
            self.broker.backoff.reset();
        }
        self.follower.handle_broker_frame(frame);
        if self.follower.must_subscribe_again() {
            self.leave(now, Peer::Broker);
        }
    }

    fn handle_core_frame(&mut self, now: Now, frame: &Frame) {
        if let Some(end) = frame.view::<Ended>() {
            self.core.backoff.reset();
            self.follower.handle_history_end(end.covered_from.get());
            self.hang_up(now, Peer::Core);
            // It was not read meanwhile, which is no silence.
            self.broker.last_heard = now.mono;
        } else if let Some(session) = frame.view::<Session>() {
            let (epoch, start) = (session.epoch.get(), session.epoch_start.get());
            self.follower.handle_history_session(epoch, start);
            if self.follower.must_subscribe_again() {
                log::info!("core is in epoch {epoch} already; subscribing again");
                self.leave(now, Peer::Broker);
            }
        } else if let Some(gap) = frame.view::<Gap>() {
            self.follower.handle_history_gap(gap);
        } else if frame.kind().is_some_and(Kind::is_data) {
            self.follower.handle_history_frame(frame);
        }
    }

    fn handle_refusal(&mut self, now: Now, peer: Peer, refusal: &Refusal) -> Result<(), Refusal> {
        let passes = match ErrorCode::from_number(refusal.code.get()) {
            Some(ErrorCode::Stopping | ErrorCode::Silent) => self.was_greeted,
            Some(ErrorCode::Limit) => self.was_confirmed,
            _ => false,
        };
        if peer == Peer::Broker && !passes {
            self.is_over = true;
            self.leave(now, Peer::Broker);
            return Err(*refusal);
        }
        log::info!("{} refused: {}", peer.name(), crate::wire::unpadded(&refusal.text));
        self.leave(now, peer);
        Ok(())
    }

    fn wants_history(&self) -> bool {
        matches!(self.follower.want(), Want::History { .. })
    }

    /// Gives a connection up that did not do, and lets some time pass.
    fn leave(&mut self, now: Now, peer: Peer) {
        self.line_mut(peer).action = Some(Action::Disconnect(peer));
        self.handle_disconnected(now, peer);
    }

    /// Ends a connection that has served.
    fn hang_up(&mut self, now: Now, peer: Peer) {
        let line = self.line_mut(peer);
        if line.dial.not_before().is_none() {
            line.action = Some(Action::Disconnect(peer));
            let _ = line.dial.end(now.mono);
            line.outbox.clear();
        }
    }

    fn line(&self, peer: Peer) -> &Line {
        match peer {
            Peer::Broker => &self.broker,
            Peer::Core => &self.core,
        }
    }

    fn line_mut(&mut self, peer: Peer) -> &mut Line {
        match peer {
            Peer::Broker => &mut self.broker,
            Peer::Core => &mut self.core,
        }
    }
}

#[cfg(test)]
mod tests;
