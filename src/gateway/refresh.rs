//! A fresh snapshot of the broker, behind a loss that the gateway was told of. No frame of the sequence brings the last
//! values that stood in the loss, and the broker has them.
//!
//! # Decisions
//!
//! * It is a second subscription on a connection of its own, which ends with its snapshot. The feed goes on meanwhile.
//! * Values at or ahead of the feed's place are left out: the feed brings them, or is told of another loss.
//! * Meanwhile no snapshot is begun for a browser: it would lack these values, and nobody would tell it. It is told that it
//!   waits.

use std::net::SocketAddr;

use super::feed::{Feed, request};
use super::line::Line;
use crate::limits;
use crate::node::codec::{Codec, Frames};
use crate::node::{Action, ConnId, DialId};
use crate::planted::{Bug, is_planted};
use crate::subscription::{self, Event, Request, Subscriber, Upstream};
use crate::time::{Mono, Now};
use crate::wire::{Flags, Frame, Kind, Subscribed};

/// The dial of this module.
pub(super) const DIAL: DialId = DialId(2);

/// The snapshot that is wanted, if one is.
#[derive(Debug)]
pub(super) struct Refresh {
    seed: u64,
    line: Line,
    /// What asks for it.
    subscriber: Option<Subscriber>,
    /// Something was lost that the one under way, if there is one, may not have.
    is_wanted: bool,
    /// Not before.
    not_before: Mono,
}

impl Refresh {
    pub(super) fn new(broker: SocketAddr, seed: u64) -> Refresh {
        Refresh {
            seed,
            line: Line::new(broker),
            subscriber: None,
            is_wanted: false,
            not_before: Mono::default(),
        }
    }

    /// Its connection, if there is one.
    pub(super) fn conn(&self) -> Option<ConnId> {
        self.line.conn
    }

    pub(super) fn outgoing(&self) -> &[u8] {
        self.subscriber.as_ref().map_or(&[], |it| it.outgoing(Upstream::Broker))
    }

    pub(super) fn handle_sent(&mut self, bytes: usize) {
        if let Some(subscriber) = &mut self.subscriber {
            subscriber.handle_sent(Upstream::Broker, bytes);
        }
        let has_more = !self.outgoing().is_empty();
        self.line.was_asked &= has_more;
    }

    /// The connection, if it has something to send that it was not asked for.
    pub(super) fn poll_dirty(&mut self) -> Option<ConnId> {
        let has_some = !self.outgoing().is_empty();
        let conn = self.line.conn.filter(|_| has_some && !self.line.was_asked);
        self.line.was_asked = has_some;
        conn
    }

    pub(super) fn deadline(&self) -> Option<Mono> {
        let begins = (self.is_wanted && self.subscriber.is_none()).then_some(self.not_before);
        begins.or_else(|| self.subscriber.as_ref().and_then(Subscriber::deadline))
    }
}

impl Feed {
    /// Whether this connection is one of the feed's.
    pub(super) fn has(&self, conn: ConnId) -> bool {
        self.upstream_at(conn).is_some() || self.refresh.conn() == Some(conn)
    }

    /// Frames are lost, and with them the last values among them.
    pub(super) fn want_values(&mut self) {
        if !is_planted(Bug::GatewayKeepsOldValues) {
            self.refresh.is_wanted = true;
            self.broker.hold_snapshots(Request::MARKET);
        }
    }

    /// Whether more bytes of it can be taken in.
    pub(super) fn wants_values(&self) -> bool {
        self.publisher.is_none_or(|conn| crate::node::Node::wants_bytes(&self.broker, conn))
    }

    pub(super) fn open_refresh(&mut self, now: Now, conn: ConnId) {
        let line = &mut self.refresh.line;
        line.is_dialing = false;
        match self.refresh.subscriber.as_mut().filter(|_| line.is_wanted && line.conn.is_none()) {
            Some(subscriber) => {
                (line.conn, line.was_asked) = (Some(conn), false);
                subscriber.handle_connected(now, Upstream::Broker);
            }
            None => self.actions.push_back(Action::Close(conn)),
        }
    }

    pub(super) fn refresh_failed(&mut self, now: Now) {
        self.refresh.line.is_dialing = false;
        self.leave_refresh(now);
    }

    /// Its connection is gone.
    pub(super) fn refresh_closed(&mut self, now: Now) {
        self.refresh.line.conn = None;
        self.leave_refresh(now);
    }

    /// Its connection is of no use; another one is made after a while.
    fn leave_refresh(&mut self, now: Now) {
        let line = &mut self.refresh.line;
        if let Some(conn) = line.conn.take() {
            self.actions.push_back(Action::Close(conn));
        }
        if std::mem::take(&mut line.is_wanted)
            && let Some(subscriber) = &mut self.refresh.subscriber
        {
            subscriber.handle_disconnected(now, Upstream::Broker);
        }
    }

    /// Takes bytes of the snapshot. How many of them are whole frames.
    pub(super) fn take_values(&mut self, now: Now, bytes: &[u8]) -> usize {
        let (frames, consumed) = Frames::split(bytes);
        for frame in frames {
            let Some(subscriber) = &mut self.refresh.subscriber else { break };
            let is_bad = frame.check().is_err();
            if is_bad || subscriber.handle_frame(now, Upstream::Broker, frame).is_err() {
                self.begin_refresh_again(now);
                break;
            }
            let of = frame.view::<Subscribed>().map(|it| (it.feed.get(), it.epoch.get()));
            if of.is_some_and(|epoch| epoch != self.epoch) {
                // One of the two connections has not heard of an epoch.
                self.begin_refresh_again(now);
                break;
            }
            self.take_refresh_events(now);
        }
        self.publish(now);
        self.say_states(now);
        consumed
    }

    fn take_refresh_events(&mut self, now: Now) {
        while let Some(event) = self.refresh.subscriber.as_mut().and_then(Subscriber::poll_event) {
            match event {
                Event::Data(frame) if frame.has(Flags::SNAPSHOT) => self.take_value(&frame),
                Event::Live { .. } => {
                    self.publish(now);
                    // Names among them may wait to be looked at, and what stands behind those with them.
                    self.broker.take_in_all();
                    self.end_refresh(now);
                    if !self.refresh.is_wanted {
                        self.broker.release_snapshots(Request::MARKET);
                    }
                }
                Event::Lost { .. } => self.begin_refresh_again(now),
                _ => {}
            }
        }
    }

    /// A value of the snapshot: news, if it is newer than what is known, and if the feed does not bring it.
    fn take_value(&mut self, frame: &Frame) {
        let seq = frame.seq.get();
        let index = frame.instrument().index();
        let values = self.broker.last_values(Request::MARKET);
        let mut known = values.into_iter().flat_map(|it| it.known(index).into_iter().flatten());
        let is_known = known.any(|held| held.kind == frame.kind && held.seq.get() >= seq);
        let is_news = frame.is_naming() || !is_known;
        if seq < self.next_seq && is_news {
            if frame.kind == Kind::Definition as u8 {
                self.told = None;
            }
            self.batch.push(super::feed::as_sequenced(frame, Flags::SNAPSHOT));
        }
    }

    fn end_refresh(&mut self, now: Now) {
        let line = &mut self.refresh.line;
        line.is_wanted = false;
        if let Some(conn) = line.conn.take() {
            self.actions.push_back(Action::Close(conn));
        }
        self.refresh.subscriber = None;
        self.refresh.not_before = now.mono + limits::GATEWAY_REFRESH_EVERY;
    }

    fn begin_refresh_again(&mut self, now: Now) {
        self.end_refresh(now);
        self.refresh.is_wanted = true;
    }

    /// Begins what is wanted, once the feed is connected and stands somewhere.
    pub(super) fn look_after_refresh(&mut self, now: Now) {
        let may_begin = self.publisher.is_some() && self.refresh.not_before <= now.mono;
        if may_begin && self.refresh.is_wanted && self.refresh.subscriber.is_none() {
            self.refresh.is_wanted = false;
            self.refresh.seed = self.refresh.seed.rotate_left(9);
            self.refresh.subscriber = Some(Subscriber::new(request(), self.refresh.seed));
        }
        if let Some(subscriber) = &mut self.refresh.subscriber {
            subscriber.handle_timers(now);
        }
        while let Some(action) = self.refresh.subscriber.as_mut().and_then(Subscriber::poll_action)
        {
            match action {
                subscription::Action::Connect(Upstream::Broker) => {
                    let line = &mut self.refresh.line;
                    line.is_wanted = true;
                    if !std::mem::replace(&mut line.is_dialing, true) {
                        let (dial, to, within) = (DIAL, line.address, limits::CLIENT_CONNECT_MAX);
                        self.actions.push_back(Action::Dial { dial, to, within });
                    }
                }
                subscription::Action::Disconnect(Upstream::Broker) => {
                    self.refresh.line.is_wanted = false;
                    if let Some(conn) = self.refresh.line.conn.take() {
                        self.actions.push_back(Action::Close(conn));
                    }
                }
                // It ends before it could want history.
                subscription::Action::Connect(Upstream::Core)
                | subscription::Action::Disconnect(Upstream::Core) => {}
            }
        }
    }
}
