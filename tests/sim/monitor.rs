//! Somebody who looks at a node's figures again and again, as a dashboard does. What the figures may be
//! is the watch's (`watch_figure`).

use std::net::SocketAddr;
use std::time::Duration;

use pregao::node::{
    Action, CloseReason, ConnId, DialFailure, DialId, LocalFault, Node, Origin, Outgoing,
};
use pregao::time::{Mono, Now};
use pregao::wire::{Frame, Op, Query, U32};

use crate::querier::{Querier, is_a_client_with};

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
    querier: Querier,
    ask_at: Mono,
    next_id: u32,
}

impl Monitor {
    pub(crate) fn new(config: MonitorConfig) -> Monitor {
        Monitor {
            querier: Querier::new(config.node, config.every),
            config,
            ask_at: Mono::default(),
            next_id: 1,
        }
    }

    fn next_question(&self) -> Option<Mono> {
        self.querier.conn.map(|_| self.ask_at).filter(|at| *at < self.config.calm_at)
    }
}

impl Monitor {
    fn handle_frames(&mut self, now: Now, conn: ConnId, frames: &[Frame]) {
        for frame in frames {
            self.querier.answer_heartbeat(now, conn, frame);
        }
    }
}

impl Node for Monitor {
    fn handle_open(&mut self, now: Now, conn: ConnId, _origin: Origin) {
        self.querier.open(now, conn);
    }

    fn handle_dial_failed(&mut self, now: Now, _dial: DialId, _failure: DialFailure) {
        self.querier.dial_later(now);
    }

    fn handle_close(&mut self, now: Now, conn: ConnId, _reason: CloseReason) {
        self.querier.close(now, conn);
    }

    fn handle_timers(&mut self, now: Now) {
        self.querier.dial_if_due(now);
        if let Some(conn) = self.querier.conn.filter(|_| self.next_question() <= Some(now.mono))
            && self.next_question().is_some()
        {
            self.ask_at = now.mono + self.config.every;
            let id = U32::new(self.next_id);
            self.next_id += 1;
            let deadline_us = 1_000_000.into();
            let query = Query { id, op: Op::Status as u8, deadline_us, ..Query::default() };
            self.querier.connections.send(conn, query);
        }
    }

    fn next_deadline(&self) -> Option<Mono> {
        self.querier.next_dial().into_iter().chain(self.next_question()).min()
    }

    is_a_client_with!(querier.connections, always reads);
}
