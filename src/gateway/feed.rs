//! The feed within the gateway. It follows the broker as any subscriber does, and hands each frame to a broker of its
//! own. The subscriptions of browsers are subscribers of that one: the same ring, snapshots, gaps and bounds.
//!
//! What is *not* here: sockets of browsers, and how a subscription is told to them.
//!
//! # Decisions
//!
//! * The inner broker has no listener. Its connections are this module's: one publisher, which says what the follower has
//!   learned, and one for each subscription. So a loss, a new epoch and a stale exchange need no second machine.
//! * A frame of the inner broker is as it was sequenced. Flags of its delivery to the gateway are taken off.
//! * A sequence that does not continue what this gateway has sent ends the process. Whoever runs it starts it again, and
//!   browsers connect again: nothing is kept here that could be lost.

use std::collections::VecDeque;
use std::net::SocketAddr;

use super::inner::Owner;
use super::line::Line;
use super::past::Past;
use super::refresh::Refresh;
use crate::feed::Pattern;
use crate::limits;
use crate::node::broker::{Broker, BrokerConfig};
use crate::node::codec::{Codec, Frames};
use crate::node::{Action, CloseReason, ConnId, DialFailure, DialId, FrameInput, Level, Node};
use crate::planted::{Bug, is_planted};
use crate::render::Venues;
use crate::subscription::{self, Event, Request, Subscriber, Symbols, Upstream};
use crate::time::{Mono, Now};
use crate::wire::{
    ErrorCode, FeedStates, Flags, Frame, GapReason, Heartbeat, Kind, Seq, Session, Subscribed, U16,
    U64, unpadded,
};

/// The dials of this module, by upstream.
const DIALS: [DialId; 2] = [DialId(0), DialId(1)];

/// The follower and the inner broker.
#[derive(Debug)]
pub(super) struct Feed {
    seed: u64,
    pub(super) upstream: Subscriber,
    venues: Venues,
    lines: [Line; 2],
    pub(super) broker: Broker,
    pub(super) publisher: Option<ConnId>,
    /// The epoch that the inner broker was told, by identity and number.
    pub(super) epoch: (u64, u32),
    /// The next `seq` that the inner broker takes.
    pub(super) next_seq: u64,
    /// What the inner broker was told of the last values.
    pub(super) told: Option<FeedStates>,
    /// Frames for the inner broker, from one read.
    pub(super) batch: Vec<Frame>,
    /// Numbers of inner connections.
    pub(super) generation: u32,
    pub(super) free_slots: Vec<u32>,
    pub(super) slots: u32,
    /// By slot: which inner connection has it now, and whose subscription that is.
    pub(super) owners: Vec<Owner>,
    pub(super) actions: VecDeque<Action>,
    /// The broker refused; another attempt is made then.
    again_at: Option<Mono>,
    /// The follower has begun anew behind a refusal: it knows nothing of what the inner broker has.
    pub(super) is_begun_anew: bool,
    pub(super) failure: Option<String>,
    /// Instruments were named: lines of text that were made before may be wrong.
    pub(super) has_new_names: bool,
    /// Frames that nobody has any more, as far as they were counted.
    pub(super) missed: u64,
    pub(super) frames: u64,
    /// Last values that stood in a loss.
    pub(super) refresh: Refresh,
    /// Subscriptions that go on from a place before the ring.
    pub(super) past: Past,
}

/// The frame as core sequenced it, and with these delivery flags. How a copy came here says nothing about how it goes on.
pub(super) fn as_sequenced(frame: &Frame, delivery: u16) -> Frame {
    let flags = frame.flags.get() & !Flags::DELIVERY | delivery;
    let mut plain = *frame;
    if flags != frame.flags.get() {
        plain.flags = U16::new(flags);
        plain.renew_crc();
    }
    plain
}

/// All of the market, and the system's topics.
pub(super) fn request() -> Request {
    let patterns = ["*", "$*"].iter().filter_map(|text| Pattern::new(text, 0).ok());
    Request::market(patterns.collect())
}

impl Feed {
    pub(super) fn new(
        broker: SocketAddr,
        core: SocketAddr,
        config: BrokerConfig,
        seed: u64,
    ) -> Feed {
        let owners_max = config.subscribers_max.min(limits::CONNECTIONS_MAX);
        Feed {
            seed,
            upstream: Subscriber::new(request(), seed),
            venues: Venues::default(),
            lines: [Line::new(broker), Line::new(core)],
            broker: Broker::new(config),
            publisher: None,
            epoch: (0, 0),
            next_seq: 0,
            told: None,
            batch: Vec::new(),
            generation: 0,
            free_slots: Vec::new(),
            slots: 0,
            owners: Vec::with_capacity(owners_max),
            actions: VecDeque::new(),
            again_at: None,
            is_begun_anew: false,
            failure: None,
            has_new_names: false,
            missed: 0,
            frames: 0,
            refresh: Refresh::new(broker, seed.rotate_left(17)),
            past: Past::default(),
        }
    }

    /// The inner broker, as the turn drives it.
    pub(super) fn broker(&self) -> &Broker {
        &self.broker
    }

    /// The same.
    pub(super) fn broker_mut(&mut self) -> &mut Broker {
        &mut self.broker
    }

    /// What exchanges are called.
    pub(super) fn venues(&self) -> &Venues {
        &self.venues
    }

    /// Names of all instruments so far.
    pub(super) fn symbols(&self) -> &Symbols {
        self.upstream.symbols()
    }

    /// What is known of the last values.
    pub(super) fn states(&self) -> FeedStates {
        self.told.unwrap_or(FeedStates::STALE)
    }

    /// Why this node cannot go on.
    pub(super) fn failure(&self) -> Option<&str> {
        self.failure.as_deref().or_else(|| self.broker.failure())
    }

    /// The next `seq` that comes.
    pub(super) fn next_seq(&self) -> Option<Seq> {
        Seq::new(self.next_seq)
    }

    /// Whether this dial is one of this module's.
    pub(super) fn upstream_of(dial: DialId) -> Option<Upstream> {
        DIALS.iter().position(|it| *it == dial).and_then(|place| Upstream::ALL.get(place)).copied()
    }

    fn line(&mut self, upstream: Upstream) -> &mut Line {
        &mut self.lines[usize::from(upstream == Upstream::Core)]
    }

    /// Which of the two connections this is.
    pub(super) fn upstream_at(&self, conn: ConnId) -> Option<Upstream> {
        let place = self.lines.iter().position(|line| line.conn == Some(conn))?;
        Upstream::ALL.get(place).copied()
    }

    /// Bytes for a connection of ours.
    pub(super) fn outgoing(&self, upstream: Upstream) -> &[u8] {
        self.upstream.outgoing(upstream)
    }

    /// The connection, if it has something to send that it was not asked for.
    pub(super) fn poll_dirty(&mut self, upstream: Upstream) -> Option<ConnId> {
        let has_some = !self.upstream.outgoing(upstream).is_empty();
        let line = self.line(upstream);
        let conn = line.conn.filter(|_| has_some && !line.was_asked);
        line.was_asked = has_some;
        conn
    }

    pub(super) fn handle_sent(&mut self, upstream: Upstream, bytes: usize) {
        self.upstream.handle_sent(upstream, bytes);
        // What comes next is news again, also when the bound of a flush is met before anybody looks.
        let has_more = !self.upstream.outgoing(upstream).is_empty();
        self.line(upstream).was_asked &= has_more;
    }

    /// Whether the node is connected to the broker.
    pub(super) fn is_connected(&self) -> bool {
        self.lines[0].conn.is_some()
    }

    pub(super) fn wants_bytes(&self, upstream: Upstream) -> bool {
        let held = &self.lines[usize::from(upstream == Upstream::Core)].held;
        let has_room = self.publisher.is_none_or(|conn| self.broker.wants_bytes(conn));
        held.is_empty() && has_room && self.upstream.wants_frames(upstream)
    }

    /// A connection stands. It is closed if nobody waits for it any more.
    pub(super) fn handle_open(&mut self, now: Now, conn: ConnId, upstream: Upstream) {
        let line = self.line(upstream);
        line.is_dialing = false;
        if !line.is_wanted || line.conn.is_some() {
            self.actions.push_back(Action::Close(conn));
            return;
        }
        line.conn = Some(conn);
        line.was_asked = false;
        line.held.clear();
        self.upstream.handle_connected(now, upstream);
        self.settle(now);
    }

    pub(super) fn handle_dial_failed(
        &mut self,
        now: Now,
        upstream: Upstream,
        failure: DialFailure,
    ) {
        let line = self.line(upstream);
        line.is_dialing = false;
        if std::mem::take(&mut line.is_wanted) {
            let text = format!("{}: {failure:?}", upstream.name());
            self.actions.push_back(Action::Log(Level::Debug, text));
            self.upstream.handle_disconnected(now, upstream);
            self.settle(now);
        }
    }

    pub(super) fn handle_close(&mut self, now: Now, upstream: Upstream, reason: CloseReason) {
        let line = self.line(upstream);
        (line.conn, line.is_wanted) = (None, false);
        line.held.clear();
        if upstream == Upstream::Broker {
            let text = format!("the link to the broker ended: {reason}");
            self.actions.push_back(Action::Log(Level::Warn, text));
        }
        self.upstream.handle_disconnected(now, upstream);
        self.settle(now);
    }

    /// Takes bytes of one of the two connections. How many of them are whole frames.
    pub(super) fn handle_bytes(&mut self, now: Now, upstream: Upstream, bytes: &[u8]) -> usize {
        let (frames, consumed) = Frames::split(bytes);
        self.take(now, upstream, frames);
        self.settle(now);
        consumed
    }

    /// Takes frames, as long as some are wanted and nothing else is to be done first; the rest is held.
    fn take(&mut self, now: Now, upstream: Upstream, frames: &[Frame]) {
        for (place, frame) in frames.iter().enumerate() {
            // What the follower wants done comes first: it may be done with this connection.
            if self.upstream.has_updates() || !self.upstream.wants_frames(upstream) {
                self.line(upstream).held.extend_from_slice(frames.get(place..).unwrap_or_default());
                return;
            }
            if let Err(error) = frame.check() {
                let text = format!("{} sent a bad frame: {error}", upstream.name());
                self.leave(now, upstream, &text);
                return;
            }
            if let Err(refusal) = self.upstream.handle_frame(now, upstream, frame) {
                self.handle_refusal(
                    now,
                    ErrorCode::from_number(refusal.code.get()),
                    &unpadded(&refusal.text),
                );
                return;
            }
            match upstream {
                Upstream::Broker => {
                    if let Some(subscribed) = frame.view::<Subscribed>() {
                        self.begin_session(now, subscribed);
                    }
                }
                Upstream::Core => {
                    if let Some(session) = frame.view::<Session>() {
                        self.note_core(now, session);
                    }
                }
            }
            self.take_events(now);
        }
    }

    /// The broker refuses this subscription.
    fn handle_refusal(&mut self, now: Now, code: Option<ErrorCode>, text: &str) {
        if code == Some(ErrorCode::Unexpected) && self.next_seq != 0 {
            self.failure =
                Some(format!("the broker goes on with {text}; start this gateway again"));
            return;
        }
        self.actions.push_back(Action::Log(Level::Warn, format!("the broker refused: {text}")));
        self.again_at = Some(now.mono + limits::GATEWAY_REFUSED_WAIT);
    }

    fn leave(&mut self, now: Now, upstream: Upstream, text: &str) {
        self.actions.push_back(Action::Log(Level::Warn, text.to_owned()));
        if let Some(conn) = self.line(upstream).conn.take() {
            self.actions.push_back(Action::Close(conn));
        }
        self.line(upstream).is_wanted = false;
        self.line(upstream).held.clear();
        self.upstream.handle_disconnected(now, upstream);
    }

    /// What the follower wants done, what it has learned, and what was held for it.
    fn settle(&mut self, now: Now) {
        loop {
            self.take_events(now);
            let mut is_idle = true;
            while let Some(action) = self.upstream.poll_action() {
                is_idle = false;
                self.act(action);
            }
            for upstream in Upstream::ALL {
                if !self.line(upstream).held.is_empty() && self.upstream.wants_frames(upstream) {
                    is_idle = false;
                    let held = std::mem::take(&mut self.line(upstream).held);
                    self.take(now, upstream, &held);
                }
            }
            if is_idle {
                break;
            }
        }
        self.publish(now);
        self.say_states(now);
    }

    fn act(&mut self, action: subscription::Action) {
        match action {
            subscription::Action::Connect(upstream) => {
                let dial = DIALS[usize::from(upstream == Upstream::Core)];
                let line = self.line(upstream);
                line.is_wanted = true;
                if !std::mem::replace(&mut line.is_dialing, true) {
                    let to = line.address;
                    self.actions.push_back(Action::Dial {
                        dial,
                        to,
                        within: limits::CLIENT_CONNECT_MAX,
                    });
                }
            }
            subscription::Action::Disconnect(upstream) => {
                let line = self.line(upstream);
                line.is_wanted = false;
                line.held.clear();
                if let Some(conn) = line.conn.take() {
                    self.actions.push_back(Action::Close(conn));
                }
            }
        }
    }

    fn take_events(&mut self, now: Now) {
        while let Some(event) = self.upstream.poll_event() {
            if let Event::Data(frame) = &event {
                let kind = frame.kind();
                self.has_new_names |= matches!(kind, Some(Kind::Definition | Kind::InstrumentName));
                self.venues.note(frame, self.upstream.symbols());
            }
            match event {
                Event::Data(frame) if frame.has(Flags::SNAPSHOT) => {
                    if self.next_seq != 0 && frame.kind == Kind::Definition as u8 {
                        // A word of where the sequence stands ends the statement: browsers learn the names.
                        self.told = None;
                    }
                    self.batch.push(as_sequenced(&frame, Flags::SNAPSHOT));
                }
                Event::Data(frame) => self.take_frame(now, &frame),
                Event::Live { next_seq } => {
                    self.publish(now);
                    let beat =
                        Heartbeat { next_seq: Seq::field(Some(next_seq)), ..Heartbeat::default() };
                    self.say(now, beat);
                    self.next_seq = self.next_seq.max(next_seq.get());
                }
                Event::Lost { reason: GapReason::Void, from_seq, .. } => self.void(now, from_seq),
                Event::Lost { missed, .. } => {
                    self.want_values();
                    self.missed = self.missed.saturating_add(missed.unwrap_or(0));
                }
                // All of them are said at the end of a turn.
                Event::Stale | Event::Ended | Event::Current | Event::Exchange { .. } => {}
            }
        }
    }

    /// The next frame of the sequence.
    fn take_frame(&mut self, now: Now, frame: &Frame) {
        let seq = frame.seq.get();
        self.make_ready(now, seq);
        if seq % 32 == 17 && is_planted(Bug::GatewayDropsFrame) {
            return;
        }
        if seq < self.next_seq {
            return;
        }
        if seq > self.next_seq {
            // What is between is lost, and the inner broker says so to whoever waits for it.
            self.publish(now);
            let beat = Heartbeat { next_seq: U64::new(seq), ..Heartbeat::default() };
            self.say(now, beat);
        }
        self.next_seq = seq.saturating_add(1);
        self.frames += 1;
        self.batch.push(as_sequenced(frame, 0));
    }

    /// The inner broker may have nothing, as behind a start, or when all that it had is void. The follower has its place
    /// all the same, and is sent no snapshot: the sequence begins there.
    pub(super) fn make_ready(&mut self, now: Now, seq: u64) {
        if self.next_seq == 0 {
            self.publish(now);
            self.say(now, Heartbeat { next_seq: U64::new(seq), ..Heartbeat::default() });
            self.next_seq = seq;
        }
    }

    /// Says what is known of the last values, when that has changed.
    pub(super) fn say_states(&mut self, now: Now) {
        let states = self.upstream.states();
        if self.told.is_some() && is_planted(Bug::GatewayForgetsStates) {
            return;
        }
        if self.publisher.is_some() && self.told != Some(states) {
            self.told = Some(states);
            self.say(now, Heartbeat { next_seq: U64::new(self.next_seq), ..Heartbeat::default() });
        }
    }

    pub(super) fn say(&mut self, now: Now, beat: Heartbeat) {
        let states = self.told.unwrap_or(FeedStates::STALE);
        if let Some(conn) = self.publisher {
            self.broker.handle_frames(now, conn, &[Frame::seal(states.said_by(beat))]);
        }
    }

    /// Hands the batch over.
    pub(super) fn publish(&mut self, now: Now) {
        if let Some(conn) = self.publisher.filter(|_| !self.batch.is_empty()) {
            self.broker.handle_frames(now, conn, &self.batch);
        }
        self.batch.clear();
    }

    pub(super) fn handle_timers(&mut self, now: Now) {
        if self.again_at.is_some_and(|at| at <= now.mono) {
            self.again_at = None;
            self.is_begun_anew = true;
            self.upstream = Subscriber::new(request(), self.seed.rotate_left(7));
        }
        self.upstream.handle_timers(now);
        self.settle(now);
        self.look_after_refresh(now);
        self.broker.handle_timers(now);
        // It may have asked whether its publisher is there.
        if let Some(conn) = self.publisher {
            self.answer(now, conn);
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Mono> {
        let held = self.lines.iter().any(|line| !line.held.is_empty());
        let at_once = held.then(Mono::default).filter(|_| self.upstream.has_updates());
        let of_upstream = self.upstream.deadline();
        let of_refresh = self.refresh.deadline().filter(|_| self.publisher.is_some());
        [at_once, of_upstream, of_refresh, self.again_at, self.broker.next_deadline()]
            .into_iter()
            .flatten()
            .min()
    }

    pub(super) fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }
}
