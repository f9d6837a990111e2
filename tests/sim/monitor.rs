//! Somebody who looks at a node's figures again and again, as a dashboard does. What the figures may be
//! is the watch's (`watch_figure`).

use std::net::SocketAddr;
use std::time::Duration;

use pregao::node::{
    Action, CloseReason, ConnId, DialFailure, DialId, Links, LocalFault, Node, Origin, Outgoing,
};
use pregao::time::{Mono, Now};
use pregao::wire::{Frame, Op, Query, Role, Session, U32};

#[derive(Clone, Debug)]
pub(crate) struct MonitorConfig {
    pub(crate) node: SocketAddr,
    pub(crate) every: Duration,
    /// No more questions from here on.
    pub(crate) calm_at: Mono,
}

/// The node that looks.
pub(crate) struct Monitor {
    config: MonitorConfig,
    links: Links<()>,
    conn: Option<ConnId>,
    redial_at: Option<Mono>,
    ask_at: Mono,
    next_id: u32,
}

impl Monitor {
    pub(crate) fn new(config: MonitorConfig) -> Monitor {
        Monitor {
            config,
            links: Links::default(),
            conn: None,
            redial_at: Some(Mono::default()),
            ask_at: Mono::default(),
            next_id: 1,
        }
    }

    fn next_question(&self) -> Option<Mono> {
        self.conn.map(|_| self.ask_at).filter(|at| *at < self.config.calm_at)
    }
}

impl Node for Monitor {
    fn handle_open(&mut self, now: Now, conn: ConnId, _origin: Origin) {
        self.conn = Some(conn);
        self.links.insert(now, conn, ());
        self.links.send(conn, Session { role: Role::Querier as u8, ..Session::default() });
    }

    fn handle_dial_failed(&mut self, now: Now, _dial: DialId, _failure: DialFailure) {
        self.redial_at = Some(now.mono + self.config.every);
    }

    fn handle_frames(&mut self, now: Now, conn: ConnId, frames: &[Frame]) {
        for frame in frames {
            if let Some(beat) = frame.view() {
                self.links.answer_heartbeat(now, conn, beat, 0);
            }
        }
    }

    fn handle_close(&mut self, now: Now, conn: ConnId, _reason: CloseReason) {
        self.links.remove(conn);
        self.conn = None;
        self.redial_at = Some(now.mono + self.config.every);
    }

    fn handle_local_fault(&mut self, _now: Now, _fault: LocalFault) {}

    fn handle_timers(&mut self, now: Now) {
        if self.redial_at.take_if(|at| *at <= now.mono).is_some() {
            self.links.dial(DialId(0), self.config.node, Duration::from_secs(1));
        }
        if let Some(conn) = self.conn.filter(|_| self.next_question() <= Some(now.mono))
            && self.next_question().is_some()
        {
            self.ask_at = now.mono + self.config.every;
            let id = U32::new(self.next_id);
            self.next_id += 1;
            let deadline_us = 1_000_000.into();
            let query = Query { id, op: Op::Status as u8, deadline_us, ..Query::default() };
            self.links.send(conn, query);
        }
    }

    fn handle_stop(&mut self, _now: Now) {}

    fn is_stopped(&self) -> bool {
        false
    }

    fn next_deadline(&self) -> Option<Mono> {
        self.redial_at.into_iter().chain(self.next_question()).min()
    }

    fn poll_action(&mut self) -> Option<Action> {
        self.links.poll_action()
    }

    fn poll_dirty(&mut self) -> Option<ConnId> {
        self.links.poll_dirty()
    }

    fn outgoing(&mut self, _now: Now, conn: ConnId) -> Outgoing<'_> {
        Outgoing { head: self.links.outbox(conn), tail: &[] }
    }

    fn handle_sent(&mut self, now: Now, conn: ConnId, bytes: usize) {
        self.links.sent(now, conn, bytes);
    }
}
