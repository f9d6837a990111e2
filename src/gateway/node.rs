//! The gateway as a node: which of its parts each call of the turn is for.

use std::time::Duration;

use super::Gateway;
use super::door::{Door, HttpDoor, Job};
use super::feed::Feed;
use super::refresh;
use super::streams::CLOSE_GOING_AWAY;
use crate::http::{HttpConnection, Problem};
use crate::limits;
use crate::node::session::{Described, Service as _, Status};
use crate::node::{
    Action, CloseReason, ConnId, DialFailure, DialId, LocalFault, Node, Origin, Outgoing, Timed,
};
use crate::time::{Mono, Now};
use crate::wire::{Kind, VERSION};

/// Whether bytes begin as a connection of frames does.
fn begins_with_frames(bytes: &[u8]) -> bool {
    matches!(bytes, [kind, VERSION, ..] if *kind == Kind::Session as u8)
}

impl Gateway {
    /// Ends a door; what it had is given back.
    fn shut(&mut self, now: Now, conn: ConnId) {
        match self.doors.remove(conn) {
            Some(Door::Stream(stream)) => {
                for subscription in stream.subscriptions.all() {
                    self.feed.close(now, subscription.conn);
                }
            }
            Some(Door::Events(door)) => self.feed.close(now, door.subscription.conn),
            Some(Door::Http(door)) => {
                self.front.memory.give_back(door.held);
                if let Job::Answer(ticket) = door.job {
                    self.tickets.remove(&ticket);
                }
            }
            None => {}
        }
    }

    /// What the inner broker wants done.
    fn take_inner_actions(&mut self, now: Now) {
        while let Some(action) = self.feed.broker_mut().poll_action() {
            match action {
                Action::Close(inner) => self.end_subscription(now, inner),
                Action::Log(level, text) => {
                    self.actions.push_back(Action::Log(level, format!("feed: {text}")));
                }
                Action::Dial { .. } | Action::HandOver { .. } => {}
            }
        }
        while let Some(action) = self.feed.poll_action() {
            self.actions.push_back(action);
        }
    }

    /// A stream has sent a message to its end: subscriptions that waited for that are over.
    fn note_stream_sent(&mut self, now: Now, conn: ConnId) {
        loop {
            let Some(Door::Stream(stream)) = self.doors.get_mut(conn) else { return };
            let Some(inner) = stream.poll_ended() else { break };
            self.feed.close(now, inner);
        }
        if let Some(Door::Stream(stream)) = self.doors.get(conn)
            && stream.socket.is_over()
            && stream.is_idle()
        {
            self.actions.push_back(Action::Close(conn));
        }
    }
}

impl Described for Gateway {
    fn described(&self, now: Now) -> Status {
        let mut status = self.describe();
        self.front.describe(now, &mut status);
        self.front.connections().describe(&mut status);
        status
    }

    fn expose(&mut self, text: String) {
        self.front.connections_mut().expose(text);
    }
}

impl Timed for Gateway {
    fn handle_turn_end(&mut self, now: Now, length: Duration) {
        self.front.handle_turn_end(now, length);
        self.feed.broker_mut().handle_turn_end(now, length);
    }
}

impl Node for Gateway {
    fn handle_open(&mut self, now: Now, conn: ConnId, origin: Origin) {
        match origin {
            Origin::Accepted(_, from) | Origin::HandedOver(from) => {
                let http = HttpConnection::new(now.mono);
                let (job, pending, is_new) = (Job::None, Vec::new(), true);
                let door = HttpDoor { http, from, job, held: 0, pending, is_new };
                self.doors.insert(conn, Door::Http(Box::new(door)));
            }
            Origin::Surplus(_) => {
                self.counts.refused += 1;
                let mut http = HttpConnection::new(now.mono);
                let text = "No descriptor is left here; come back later.";
                http.turn_away(now.mono, &Problem::new(503, text));
                let from = std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
                let (job, pending, is_new) = (Job::None, Vec::new(), false);
                let door = HttpDoor { http, from, job, held: 0, pending, is_new };
                self.doors.insert(conn, Door::Http(Box::new(door)));
                self.mark_dirty(conn);
                self.actions.push_back(Action::Close(conn));
            }
            Origin::Dialed(refresh::DIAL) => self.feed.open_refresh(now, conn),
            Origin::Dialed(dial) => match Feed::upstream_of(dial) {
                Some(upstream) => self.feed.handle_open(now, conn, upstream),
                None => self.front.handle_open(now, conn, origin),
            },
        }
    }

    fn handle_dial_failed(&mut self, now: Now, dial: DialId, failure: DialFailure) {
        if dial == refresh::DIAL {
            return self.feed.refresh_failed(now);
        }
        match Feed::upstream_of(dial) {
            Some(upstream) => self.feed.handle_dial_failed(now, upstream, failure),
            None => self.front.handle_dial_failed(now, dial, failure),
        }
    }

    fn handle_bytes(&mut self, now: Now, conn: ConnId, bytes: &[u8]) -> usize {
        match self.doors.get_mut(conn) {
            Some(Door::Http(door)) if door.is_new => {
                if let [kind] = bytes
                    && *kind == Kind::Session as u8
                {
                    return 0;
                }
                let from = door.from;
                door.is_new = false;
                if begins_with_frames(bytes) {
                    self.doors.remove(conn);
                    let origin = Origin::Accepted(crate::node::ListenerId(0), from);
                    self.front.handle_open(now, conn, origin);
                    self.front.status = self.describe();
                    return self.front.handle_bytes(now, conn, bytes);
                }
                self.handle_http_bytes(now, conn, bytes)
            }
            Some(Door::Http(_)) => self.handle_http_bytes(now, conn, bytes),
            Some(Door::Stream(_)) => self.handle_stream_bytes(now, conn, bytes),
            // Nothing more is said on an event stream.
            Some(Door::Events(_)) => bytes.len(),
            None if self.feed.refresh.conn() == Some(conn) => self.feed.take_values(now, bytes),
            None => match self.feed.upstream_at(conn) {
                Some(upstream) => self.feed.handle_bytes(now, upstream, bytes),
                None => {
                    // Only who asks for it pays for it.
                    if self.front.is_querier(conn) {
                        self.front.status = self.describe();
                    }
                    self.front.handle_bytes(now, conn, bytes)
                }
            },
        }
    }

    fn handle_close(&mut self, now: Now, conn: ConnId, reason: CloseReason) {
        if self.doors.get(conn).is_some() {
            self.shut(now, conn);
        } else if let Some(upstream) = self.feed.upstream_at(conn) {
            self.feed.handle_close(now, upstream, reason);
        } else if self.feed.refresh.conn() == Some(conn) {
            self.feed.refresh_closed(now);
        } else {
            self.front.handle_close(now, conn, reason);
        }
    }

    fn handle_local_fault(&mut self, now: Now, fault: LocalFault) {
        self.front.handle_local_fault(now, fault);
    }

    fn handle_storage(&mut self, now: Now) {
        self.front.handle_storage(now);
    }

    fn handle_mail(&mut self, now: Now) {
        self.feed.broker_mut().handle_mail(now);
        self.front.handle_mail(now);
    }

    fn sends_before_timers(&self) -> bool {
        false
    }

    fn handle_timers(&mut self, now: Now) {
        self.take_pipelined(now);
        self.feed.handle_timers(now);
        self.front.handle_timers(now);
        self.look_after_bars(now);
        self.take_answers(now);
        self.look_after_past(now);
        self.sweep(now);
        self.take_inner_actions(now);
        if self.stops_at.is_some_and(|at| at <= now.mono || self.doors.len() == 0) {
            self.is_stopped = true;
        }
    }

    fn commit(&mut self, now: Now) {
        if std::mem::take(&mut self.feed.has_new_names) {
            self.lines.forget();
        }
        self.feed.broker_mut().commit(now);
        self.front.commit(now);
    }

    fn proceed(&mut self, now: Now) {
        self.feed.broker_mut().proceed(now);
        self.front.proceed(now);
    }

    fn handle_stop(&mut self, now: Now) {
        if self.stops_at.is_some() {
            return;
        }
        self.stops_at = Some(now.mono + limits::GATEWAY_CLOSE_WAIT);
        for conn in self.doors.conns() {
            match self.doors.get(conn) {
                Some(Door::Stream(_)) => {
                    self.close_stream(now, conn, CLOSE_GOING_AWAY, "the gateway stops; come back");
                }
                _ => self.actions.push_back(Action::Close(conn)),
            }
        }
        self.front.handle_stop(now);
    }

    fn is_stopped(&self) -> bool {
        self.is_stopped
    }

    fn failure(&self) -> Option<&str> {
        self.feed.failure()
    }

    fn next_deadline(&self) -> Option<Mono> {
        if self.is_stopped {
            return None;
        }
        let at_once = !self.pipelined.is_empty() || self.front.has_answers();
        let at_once = at_once.then(Mono::default);
        let sweep = (self.doors.len() > 0).then_some(self.next_sweep);
        let bars = (!self.with_bars.is_empty()).then_some(self.next_bars);
        let past = self.feed.past.deadline(&self.front, self.feed.epoch, self.unread_max);
        let (feed, front) = (self.feed.next_deadline(), self.front.next_deadline());
        [at_once, sweep, bars, past, self.stops_at, feed, front].into_iter().flatten().min()
    }

    fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front().or_else(|| self.front.poll_action())
    }

    fn poll_wake(&mut self) -> Option<usize> {
        None
    }

    fn poll_dirty(&mut self) -> Option<ConnId> {
        if let Some(conn) = self.dirty.pop_front() {
            return Some(conn);
        }
        while let Some(inner) = self.feed.broker_mut().poll_dirty() {
            if let Some(conn) = self.feed.owner(inner) {
                return Some(conn);
            }
        }
        for upstream in crate::subscription::Upstream::ALL {
            if let Some(conn) = self.feed.poll_dirty(upstream) {
                return Some(conn);
            }
        }
        self.feed.refresh.poll_dirty().or_else(|| self.front.poll_dirty())
    }

    fn poll_bulk(&mut self) -> Option<ConnId> {
        while let Some(inner) = self.feed.broker_mut().poll_bulk() {
            if let Some(conn) = self.feed.owner(inner) {
                return Some(conn);
            }
        }
        self.front.poll_bulk()
    }

    fn has_bulk(&self) -> bool {
        // One connection asks several inner ones at once, and one of these may become live by that: a turn more looks at it.
        self.feed.broker().has_bulk() || self.feed.has_dirty() || self.front.has_bulk()
    }

    fn put_off(&mut self, conn: ConnId) -> bool {
        match self.doors.get(conn) {
            Some(Door::Stream(stream)) if stream.is_idle() => {
                // Only if all that it has can wait.
                match stream.subscriptions.all() {
                    [only] => self.feed.broker_mut().put_off(only.conn),
                    _ => false,
                }
            }
            Some(_) => false,
            None => !self.feed.has(conn) && self.front.put_off(conn),
        }
    }

    fn outgoing(&mut self, now: Now, conn: ConnId) -> Outgoing<'_> {
        let (is_writing, is_events) = match self.doors.get(conn) {
            Some(Door::Http(door)) => (matches!(door.job, Job::Writing(_)), false),
            Some(Door::Events(door)) => (false, door.http.outgoing().is_empty()),
            _ => (false, false),
        };
        if is_writing {
            self.write_more(now, conn);
        }
        if is_events {
            self.write_events(now, conn);
        }
        match self.doors.get_mut(conn) {
            Some(Door::Http(door)) => Outgoing::one(door.http.outgoing()),
            Some(Door::Events(door)) => Outgoing::one(door.http.outgoing()),
            Some(Door::Stream(stream)) => {
                stream.outgoing(now, &mut self.feed, &mut self.lines, &mut self.to_lend)
            }
            None if self.feed.refresh.conn() == Some(conn) => {
                Outgoing::one(self.feed.refresh.outgoing())
            }
            None => match self.feed.upstream_at(conn) {
                Some(upstream) => Outgoing::one(self.feed.outgoing(upstream)),
                None => self.front.outgoing(now, conn),
            },
        }
    }

    fn handle_sent(&mut self, now: Now, conn: ConnId, bytes: usize) -> bool {
        if self.doors.get(conn).is_some() {
            self.front.connections_mut().note_sent_bytes(bytes);
        }
        if let Some(Door::Http(door)) = self.doors.get_mut(conn) {
            door.http.handle_sent(now.mono, bytes);
            self.release_sent(conn);
        }
        match self.doors.get_mut(conn) {
            Some(Door::Http(door)) => {
                if door.http.is_over() {
                    self.actions.push_back(Action::Close(conn));
                    return false;
                }
                if !door.pending.is_empty() && door.http.wants_bytes() {
                    self.pipelined.push_back(conn);
                }
                !door.http.outgoing().is_empty() || matches!(door.job, Job::Writing(_))
            }
            Some(Door::Events(door)) => {
                self.feed.past.note_taken(now, door.subscription.conn);
                door.http.handle_sent(now.mono, bytes);
                true
            }
            Some(Door::Stream(stream)) => {
                let more = stream.handle_sent(now, &mut self.feed, bytes);
                self.note_stream_sent(now, conn);
                more
            }
            None if self.feed.refresh.conn() == Some(conn) => {
                self.feed.refresh.handle_sent(bytes);
                !self.feed.refresh.outgoing().is_empty()
            }
            None => match self.feed.upstream_at(conn) {
                Some(upstream) => {
                    self.feed.handle_sent(upstream, bytes);
                    !self.feed.outgoing(upstream).is_empty()
                }
                None => self.front.handle_sent(now, conn, bytes),
            },
        }
    }

    fn wants_bytes(&self, conn: ConnId) -> bool {
        match self.doors.get(conn) {
            Some(Door::Http(door)) => door.http.wants_bytes(),
            // Commands of one that reads no answers wait.
            Some(Door::Stream(stream)) => stream.is_reading_allowed(),
            Some(Door::Events(_)) => true,
            None if self.feed.refresh.conn() == Some(conn) => self.feed.wants_values(),
            None => match self.feed.upstream_at(conn) {
                Some(upstream) => self.feed.wants_bytes(upstream),
                None => self.front.wants_bytes(conn),
            },
        }
    }

    fn is_source(&self, conn: ConnId) -> bool {
        match self.doors.get(conn) {
            Some(_) => false,
            None => self.feed.has(conn) || self.front.is_source(conn),
        }
    }
}
