//! Any node, and beside it a second address that tells this node's figures by HTTP: `/metrics` and `/healthz`.
//!
//! The connections of that address are kept here. All others are the node's, which does not notice.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use super::Text;
use crate::http::{AllowedHosts, HttpConnection, Method, Problem, Request, Response, check_host};
use crate::limits::METRICS_CONNECTIONS_MAX;
use crate::node::session::Described;
use crate::node::{
    Action, CloseReason, ConnId, DialFailure, DialId, ListenerId, LocalFault, Node, Origin,
    Outgoing, Timed,
};
use crate::render::NodeReport;
use crate::render::health::judge;
use crate::time::{Mono, Now};

/// A node with a second listener.
#[derive(Debug)]
pub(crate) struct WithMetrics<'a, N> {
    node: &'a mut N,
    name: String,
    /// By which names it may be asked; `None`: by any, since it listens for other machines.
    hosts: Option<AllowedHosts>,
    doors: BTreeMap<ConnId, Door>,
    dirty: VecDeque<ConnId>,
    closes: VecDeque<ConnId>,
}

/// One connection that speaks HTTP.
#[derive(Debug)]
struct Door {
    http: HttpConnection,
    /// What came and is not read: behind a request whose answer is not sent, or the part of a head.
    pending: Vec<u8>,
    /// The rest of a head is missing.
    is_partial: bool,
}

impl<'a, N: Node + Described> WithMetrics<'a, N> {
    /// The listener that speaks HTTP.
    pub(crate) const LISTENER: ListenerId = ListenerId(1);

    /// This node under this name, with its figures at this address.
    pub(crate) fn new(node: &'a mut N, name: String, address: SocketAddr) -> WithMetrics<'a, N> {
        let is_loopback = address.ip().is_loopback();
        WithMetrics {
            node,
            name,
            hosts: is_loopback.then(|| AllowedHosts::loopback(address.port())),
            doors: BTreeMap::new(),
            dirty: VecDeque::new(),
            closes: VecDeque::new(),
        }
    }

    fn enter(&mut self, now: Now, conn: ConnId, is_refused: bool) {
        let mut http = HttpConnection::new(now.mono);
        if is_refused || self.doors.len() >= METRICS_CONNECTIONS_MAX {
            let text = "Too many ask for the figures of this node; come back later.";
            http.turn_away(now.mono, &Problem::new(503, text));
            self.dirty.push_back(conn);
            self.closes.push_back(conn);
        }
        self.doors.insert(conn, Door { http, pending: Vec::new(), is_partial: false });
    }

    /// Reads what has come, up to the first request whose answer has to be sent.
    fn read(&mut self, now: Now, conn: ConnId) {
        loop {
            let Some(door) = self.doors.get_mut(&conn) else { return };
            if door.pending.is_empty() || !door.http.wants_bytes() {
                return;
            }
            let (taken, request) = door.http.handle_bytes(now.mono, &door.pending);
            door.pending.drain(..taken);
            door.is_partial = taken == 0;
            self.dirty.push_back(conn);
            match request {
                Some(request) => {
                    let response = self.answer(now, &request);
                    if let Some(door) = self.doors.get_mut(&conn) {
                        door.http.respond(now.mono, response);
                    }
                }
                None if taken == 0 => return,
                None => {}
            }
        }
    }

    fn answer(&self, now: Now, request: &Request) -> Response {
        let checked = self.hosts.as_ref().map_or(Ok(()), |hosts| check_host(request, hosts));
        let is_read = matches!(request.method(), Method::Get | Method::Head);
        let response = match (checked, request.path()) {
            (Err(problem), _) => Response::problem(&problem),
            (_, "/metrics" | "/healthz") if !is_read => {
                Response::problem(&Problem::new(405, "This path takes GET and HEAD."))
            }
            (_, "/metrics") => {
                let mut report = [NodeReport::of_own(&self.name, &self.node.described(now))];
                judge(&mut report);
                Response::new(200, Text::CONTENT_TYPE, Text::of(&report).write())
            }
            (_, "/healthz") => Response::json(200, "{\"status\":\"ok\"}\n".to_owned()),
            _ => Response::problem(&Problem::new(404, "Here are /metrics and /healthz.")),
        };
        response.with_header("Cache-Control", "no-store")
    }

    /// Goes on with requests that came behind another one, and ends who is too slow.
    fn look_after(&mut self, now: Now) {
        let conns: Vec<ConnId> = self.doors.keys().copied().collect();
        for conn in conns {
            let Some(door) = self.doors.get_mut(&conn) else { continue };
            if door.has_next() {
                self.read(now, conn);
            } else if door.http.deadline().is_some_and(|at| at <= now.mono) {
                if door.http.handle_timeout(now.mono) {
                    self.closes.push_back(conn);
                }
                self.dirty.push_back(conn);
            }
        }
    }

    /// When [`WithMetrics::look_after`] has something to do.
    fn due(&self) -> Option<Mono> {
        let due = |door: &Door| match door.has_next() {
            true => Some(Mono::default()),
            false => door.http.deadline(),
        };
        self.doors.values().filter_map(due).min()
    }
}

impl Door {
    /// Whether a request waits that can be read now.
    fn has_next(&self) -> bool {
        !self.pending.is_empty() && !self.is_partial && self.http.wants_bytes()
    }
}

impl<N: Timed> Timed for WithMetrics<'_, N> {
    #[inline]
    fn handle_turn_end(&mut self, now: Now, length: Duration) {
        self.node.handle_turn_end(now, length);
    }
}

impl<N: Node + Described> Node for WithMetrics<'_, N> {
    fn handle_open(&mut self, now: Now, conn: ConnId, origin: Origin) {
        match origin {
            Origin::Accepted(listener, _) if listener == Self::LISTENER => {
                self.enter(now, conn, false);
            }
            Origin::Surplus(listener) if listener == Self::LISTENER => self.enter(now, conn, true),
            origin => self.node.handle_open(now, conn, origin),
        }
    }

    fn handle_bytes(&mut self, now: Now, conn: ConnId, bytes: &[u8]) -> usize {
        let Some(door) = self.doors.get_mut(&conn) else {
            return self.node.handle_bytes(now, conn, bytes);
        };
        door.pending.extend_from_slice(bytes);
        self.read(now, conn);
        bytes.len()
    }

    fn handle_close(&mut self, now: Now, conn: ConnId, reason: CloseReason) {
        if self.doors.remove(&conn).is_none() {
            self.node.handle_close(now, conn, reason);
        }
    }

    fn handle_timers(&mut self, now: Now) {
        if !self.doors.is_empty() {
            self.look_after(now);
        }
        self.node.handle_timers(now);
    }

    fn handle_stop(&mut self, now: Now) {
        self.closes.extend(self.doors.keys());
        self.node.handle_stop(now);
    }

    fn next_deadline(&self) -> Option<Mono> {
        [self.node.next_deadline(), self.due()].into_iter().flatten().min()
    }

    fn poll_action(&mut self) -> Option<Action> {
        match self.closes.pop_front() {
            Some(conn) => Some(Action::Close(conn)),
            None => self.node.poll_action(),
        }
    }

    #[inline]
    fn poll_dirty(&mut self) -> Option<ConnId> {
        // They are few. Behind a node whose flushes reach the bound of a turn they would never have theirs.
        self.dirty.pop_front().or_else(|| self.node.poll_dirty())
    }

    #[inline]
    fn outgoing(&mut self, now: Now, conn: ConnId) -> Outgoing<'_> {
        match self.doors.get(&conn) {
            Some(door) => Outgoing::one(door.http.outgoing()),
            None => self.node.outgoing(now, conn),
        }
    }

    #[inline]
    fn handle_sent(&mut self, now: Now, conn: ConnId, bytes: usize) -> bool {
        let Some(door) = self.doors.get_mut(&conn) else {
            return self.node.handle_sent(now, conn, bytes);
        };
        door.http.handle_sent(now.mono, bytes);
        if door.http.is_over() {
            self.closes.push_back(conn);
        }
        !door.http.outgoing().is_empty()
    }

    fn wants_bytes(&self, conn: ConnId) -> bool {
        match self.doors.get(&conn) {
            // What comes behind a request stays in the kernel.
            Some(door) => door.http.wants_bytes() && (door.pending.is_empty() || door.is_partial),
            None => self.node.wants_bytes(conn),
        }
    }

    fn is_source(&self, conn: ConnId) -> bool {
        !self.doors.contains_key(&conn) && self.node.is_source(conn)
    }

    fn put_off(&mut self, conn: ConnId) -> bool {
        !self.doors.contains_key(&conn) && self.node.put_off(conn)
    }

    fn handle_dial_failed(&mut self, now: Now, dial: DialId, failure: DialFailure) {
        self.node.handle_dial_failed(now, dial, failure);
    }

    fn handle_local_fault(&mut self, now: Now, fault: LocalFault) {
        self.node.handle_local_fault(now, fault);
    }

    fn handle_storage(&mut self, now: Now) {
        self.node.handle_storage(now);
    }

    fn handle_mail(&mut self, now: Now) {
        self.node.handle_mail(now);
    }

    fn sends_before_timers(&self) -> bool {
        self.node.sends_before_timers()
    }

    fn commit(&mut self, now: Now) {
        self.node.commit(now);
    }

    fn proceed(&mut self, now: Now) {
        self.node.proceed(now);
    }

    fn is_stopped(&self) -> bool {
        self.node.is_stopped()
    }

    fn failure(&self) -> Option<&str> {
        self.node.failure()
    }

    fn poll_wake(&mut self) -> Option<usize> {
        self.node.poll_wake()
    }

    fn poll_bulk(&mut self) -> Option<ConnId> {
        self.node.poll_bulk()
    }

    fn has_bulk(&self) -> bool {
        self.node.has_bulk()
    }
}

#[cfg(test)]
mod tests;
