//! What the people of the simulator do alike: a client that sends what its [`Connections`] hold and never stops,
//! and the connection of one who asks a single node and dials it again when it is lost. Not here: what is
//! asked, and what is made of the answers.

use std::net::SocketAddr;
use std::time::Duration;

use pregao::node::{ConnId, Connections, DialId};
use pregao::time::{Mono, Now};
use pregao::wire::{Frame, Role, Session};

/// Of a [`pregao::node::Node`] that is no server what it never does.
macro_rules! is_no_server {
    () => {
        fn handle_storage(&mut self, _now: Now) {}

        fn handle_mail(&mut self, _now: Now) {}

        fn sends_before_timers(&self) -> bool {
            false
        }

        fn commit(&mut self, _now: Now) {}

        fn proceed(&mut self, _now: Now) {}

        fn failure(&self) -> Option<&str> {
            None
        }

        fn poll_wake(&mut self) -> Option<usize> {
            None
        }

        fn handle_local_fault(&mut self, _now: Now, _fault: LocalFault) {}

        fn handle_stop(&mut self, _now: Now) {}

        fn is_stopped(&self) -> bool {
            false
        }

        fn poll_bulk(&mut self) -> Option<ConnId> {
            None
        }

        fn has_bulk(&self) -> bool {
            false
        }

        fn put_off(&mut self, _conn: ConnId) -> bool {
            false
        }

        fn is_source(&self, _conn: ConnId) -> bool {
            true
        }
    };
}

pub(crate) use is_no_server;

/// The methods of a [`pregao::node::Node`] that is no server: it sends what these connections hold, has no
/// descriptors to run out of, and goes on until its host ends it.
macro_rules! is_a_client_with {
    ($($connections:ident).+, always reads) => {
        is_a_client_with!($($connections).+);

        fn wants_bytes(&self, _conn: ConnId) -> bool {
            true
        }
    };
    ($($connections:ident).+) => {
        fn handle_bytes(&mut self, now: Now, conn: ConnId, bytes: &[u8]) -> usize {
            let (frames, consumed) = <pregao::node::codec::Frames as pregao::node::codec::Codec>::split(bytes);
            self.handle_frames(now, conn, frames);
            consumed
        }

        crate::querier::is_no_server!();

        fn poll_action(&mut self) -> Option<Action> {
            self.$($connections).+.poll_action()
        }

        fn poll_dirty(&mut self) -> Option<ConnId> {
            self.$($connections).+.poll_dirty()
        }

        fn outgoing(&mut self, _now: Now, conn: ConnId) -> Outgoing<'_> {
            Outgoing::one(self.$($connections).+.outbox(conn))
        }

        fn handle_sent(&mut self, now: Now, conn: ConnId, bytes: usize) -> bool {
            self.$($connections).+.sent(now, conn, bytes);
            true
        }
    };
}

pub(crate) use is_a_client_with;

/// The connection to the one node that is asked.
pub(crate) struct Querier {
    node: SocketAddr,
    redial_after: Duration,
    redial_at: Option<Mono>,
    pub(crate) conn: Option<ConnId>,
    pub(crate) connections: Connections<()>,
}

impl Querier {
    pub(crate) fn new(node: SocketAddr, redial_after: Duration) -> Querier {
        let redial_at = Some(Mono::default());
        Querier { node, redial_after, redial_at, conn: None, connections: Connections::default() }
    }

    pub(crate) fn open(&mut self, now: Now, conn: ConnId) {
        self.conn = Some(conn);
        self.connections.insert_dialed(now, conn);
        self.connections.dialed(conn, ());
        self.connections.send(conn, Session { role: Role::Querier as u8, ..Session::default() });
    }

    /// A dial came to nothing.
    pub(crate) fn dial_later(&mut self, now: Now) {
        self.redial_at = Some(now.mono + self.redial_after);
    }

    pub(crate) fn close(&mut self, now: Now, conn: ConnId) {
        self.connections.remove(conn);
        self.conn = None;
        self.dial_later(now);
    }

    pub(crate) fn answer_heartbeat(&mut self, now: Now, conn: ConnId, frame: &Frame) {
        if let Some(beat) = frame.view() {
            self.connections.answer_heartbeat(now, conn, beat, None);
        }
    }

    pub(crate) fn dial_if_due(&mut self, now: Now) {
        if self.redial_at.take_if(|at| *at <= now.mono).is_some() {
            self.connections.dial(DialId(0), self.node, Duration::from_secs(1));
        }
    }

    /// When [`Querier::dial_if_due`] has something to do.
    pub(crate) fn next_dial(&self) -> Option<Mono> {
        self.redial_at
    }
}
