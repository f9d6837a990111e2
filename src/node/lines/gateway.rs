//! Both protocols at one address: who begins with a frame is a peer as at any node, who begins with a line writes lines.

use std::ops::Bound;
use std::time::Duration;

use super::{Intake, LineConnection, LineConnections, LinesConfig};
use crate::limits;
use crate::node::session::{Described, Status};
use crate::node::{
    Action, CloseReason, ConnId, DialFailure, DialId, LocalFault, Node, Origin, Outgoing, Timed,
};
use crate::time::{Mono, Now};
use crate::wire::{Kind, VERSION};

/// How long a stopping node waits for core to acknowledge what it has.
const STOP_WAIT: Duration = Duration::from_secs(2);

/// The node of an exchange that programs write lines to.
#[derive(Debug)]
pub struct Lines {
    intake: Intake,
    lines: LineConnections,
    /// Connections that have not said anything yet.
    unknown: Vec<(ConnId, Origin)>,
    /// Whose held lines were taken last.
    served: ConnId,
    dirty: Vec<ConnId>,
    closes: Vec<ConnId>,
}

/// What a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Speech {
    Frames,
    Lines,
    /// Too little has come.
    Unknown,
}

impl Speech {
    fn of(bytes: &[u8]) -> Speech {
        // A SESSION is the first frame of everybody.
        match bytes {
            [] => Speech::Unknown,
            [kind] if *kind == Kind::Session as u8 => Speech::Unknown,
            [kind, VERSION, ..] if *kind == Kind::Session as u8 => Speech::Frames,
            _ => Speech::Lines,
        }
    }
}

impl Lines {
    /// A node that dials core at once.
    ///
    /// # Errors
    /// When the configuration is not valid.
    pub fn new(config: LinesConfig) -> Result<Lines, String> {
        Ok(Lines {
            intake: Intake::new(config)?,
            lines: LineConnections::new(),
            unknown: Vec::new(),
            served: ConnId { generation: 0, slot: 0 },
            dirty: Vec::new(),
            closes: Vec::new(),
        })
    }

    /// Takes lines that have waited for room: of whoever was not the first last time.
    fn take_held(&mut self, now: Now) {
        let waiting = |(conn, it): (&ConnId, &LineConnection)| it.is_waiting().then_some(*conn);
        let behind = self.lines.range((Bound::Excluded(self.served), Bound::Unbounded));
        let turn: Vec<ConnId> =
            behind.chain(self.lines.range(..=self.served)).filter_map(waiting).collect();
        for conn in turn {
            if !self.intake.has_room() {
                break;
            }
            if let Some(connection) = self.lines.get_mut(&conn) {
                connection.take_held(now, &mut self.intake);
                if !connection.outbox.is_empty() {
                    self.dirty.push(conn);
                }
            }
            self.served = conn;
            self.intake.mark_core();
        }
    }

    /// A connection has said its first bytes. What it speaks.
    fn meet(&mut self, now: Now, conn: ConnId, bytes: &[u8]) {
        let Some(place) = self.unknown.iter().position(|(known, _)| *known == conn) else { return };
        match Speech::of(bytes) {
            Speech::Unknown => {}
            Speech::Frames => {
                let (_, origin) = self.unknown.swap_remove(place);
                self.intake.handle_open(now, conn, origin);
            }
            Speech::Lines => {
                self.unknown.swap_remove(place);
                let mut connection = LineConnection::new(&self.intake.config.options);
                if self.lines.len() >= limits::LINE_CONNECTIONS_MAX {
                    self.intake.counts.refused += 1;
                    connection
                        .outbox
                        .extend_from_slice(b"error: too many connections; come back later\n");
                    self.closes.push(conn);
                }
                self.intake.counts.connections += 1;
                self.lines.insert(conn, connection);
            }
        }
    }
}

impl Described for Lines {
    fn described(&self, now: Now) -> Status {
        self.intake.described(now)
    }

    fn expose(&mut self, text: String) {
        self.intake.expose(text);
    }
}

impl Timed for Lines {
    fn handle_turn_end(&mut self, now: Now, length: Duration) {
        self.intake.handle_turn_end(now, length);
    }
}

impl Node for Lines {
    fn handle_open(&mut self, now: Now, conn: ConnId, origin: Origin) {
        match origin {
            Origin::Accepted(..) => {
                self.unknown.push((conn, origin));
                if self.unknown.len() > limits::LINE_CONNECTIONS_MAX {
                    // Who has said nothing for longest makes room: a dead host, or one that has nothing to say.
                    self.intake.counts.refused += 1;
                    self.closes.push(self.unknown.remove(0).0);
                }
            }
            _ => self.intake.handle_open(now, conn, origin),
        }
    }

    fn handle_bytes(&mut self, now: Now, conn: ConnId, bytes: &[u8]) -> usize {
        self.meet(now, conn, bytes);
        if self.closes.contains(&conn) {
            return bytes.len();
        }
        if let Some(connection) = self.lines.get_mut(&conn) {
            let taken = connection.take_bytes(now, &mut self.intake, bytes);
            if !connection.outbox.is_empty() {
                self.dirty.push(conn);
            }
            self.intake.mark_core();
            return taken;
        }
        if self.unknown.iter().any(|(unknown, _)| *unknown == conn) {
            return 0;
        }
        self.intake.handle_bytes(now, conn, bytes)
    }

    fn handle_close(&mut self, now: Now, conn: ConnId, reason: CloseReason) {
        self.closes.retain(|closed| *closed != conn);
        if let Some(connection) = self.lines.remove(&conn) {
            connection.end(&mut self.intake, reason);
        } else if let Some(place) = self.unknown.iter().position(|(known, _)| *known == conn) {
            self.unknown.swap_remove(place);
        } else {
            self.intake.handle_close(now, conn, reason);
        }
    }

    fn poll_dirty(&mut self) -> Option<ConnId> {
        self.dirty.pop().or_else(|| self.intake.poll_dirty())
    }

    fn outgoing(&mut self, now: Now, conn: ConnId) -> Outgoing<'_> {
        if let Some(connection) = self.lines.get(&conn) {
            return Outgoing::one(&connection.outbox);
        }
        self.intake.outgoing(now, conn)
    }

    fn handle_sent(&mut self, now: Now, conn: ConnId, bytes: usize) -> bool {
        match self.lines.get_mut(&conn) {
            Some(connection) => {
                connection.outbox.drain(..bytes.min(connection.outbox.len()));
                !connection.outbox.is_empty()
            }
            None => self.intake.handle_sent(now, conn, bytes),
        }
    }

    fn wants_bytes(&self, conn: ConnId) -> bool {
        match self.lines.get(&conn) {
            Some(connection) => connection.wants_bytes() && self.intake.has_room(),
            None => {
                let is_unknown = self.unknown.iter().any(|(unknown, _)| *unknown == conn);
                is_unknown || self.intake.wants_bytes(conn)
            }
        }
    }

    fn is_source(&self, conn: ConnId) -> bool {
        // Of each other a turn reads a part, so that many cost a turn no more than one.
        !self.lines.contains_key(&conn) && self.intake.is_source(conn)
    }

    fn handle_timers(&mut self, now: Now) {
        self.take_held(now);
        if self.intake.stops_at == Some(Mono::default()) {
            self.intake.stops_at = Some(now.mono + STOP_WAIT);
        }
        if self.intake.may_end(now) && !self.intake.is_stopped() {
            for connection in self.lines.values() {
                connection.end(&mut self.intake, CloseReason::Ours);
            }
            self.intake.handle_stop(now);
        }
        self.intake.handle_timers(now);
    }

    fn handle_stop(&mut self, _now: Now) {
        // Lines are not taken any more; what was taken is core's first.
        self.intake.stops_at.get_or_insert(Mono::default());
    }

    fn is_stopped(&self) -> bool {
        self.intake.is_stopped()
    }

    fn poll_action(&mut self) -> Option<Action> {
        match self.closes.pop() {
            Some(conn) => Some(Action::Close(conn)),
            None => self.intake.poll_action(),
        }
    }

    fn handle_dial_failed(&mut self, now: Now, dial: DialId, failure: DialFailure) {
        self.intake.handle_dial_failed(now, dial, failure);
    }

    fn handle_local_fault(&mut self, now: Now, fault: LocalFault) {
        self.intake.handle_local_fault(now, fault);
    }

    fn handle_storage(&mut self, now: Now) {
        self.intake.handle_storage(now);
    }

    fn handle_mail(&mut self, now: Now) {
        self.intake.handle_mail(now);
    }

    fn sends_before_timers(&self) -> bool {
        self.intake.sends_before_timers()
    }

    fn commit(&mut self, now: Now) {
        self.intake.commit(now);
    }

    fn proceed(&mut self, now: Now) {
        self.intake.proceed(now);
    }

    fn failure(&self) -> Option<&str> {
        self.intake.failure()
    }

    fn next_deadline(&self) -> Option<Mono> {
        let waits = self.lines.values().any(LineConnection::is_waiting) && self.intake.has_room();
        let at_once = waits.then(Mono::default);
        self.intake.next_deadline().into_iter().chain(at_once).min()
    }

    fn poll_wake(&mut self) -> Option<usize> {
        self.intake.poll_wake()
    }

    fn poll_bulk(&mut self) -> Option<ConnId> {
        self.intake.poll_bulk()
    }

    fn has_bulk(&self) -> bool {
        self.intake.has_bulk()
    }

    fn put_off(&mut self, conn: ConnId) -> bool {
        self.intake.put_off(conn)
    }
}
