//! A peer that asks one node what it is told to ask, and keeps all that comes back.

use std::net::SocketAddr;
use std::time::Duration;

use pregao::node::{
    Action, CloseReason, ConnId, DialFailure, DialId, LocalFault, Node, Origin, Outgoing,
};
use pregao::question::Question;
use pregao::time::{Mono, Now};
use pregao::wire::{Ended, Frame, Message, Query, Refusal, Seq, U32};
use zerocopy::IntoBytes;

use crate::querier::{Querier, is_a_client_with};

#[derive(Clone, Debug)]
pub(crate) struct AskerConfig {
    pub(crate) node: SocketAddr,
}

/// The peer.
pub(crate) struct Asker {
    querier: Querier,
    next_id: u32,
    /// A question is under way on the present connection.
    has_asked: bool,
    pub(crate) frames: Vec<Frame>,
}

impl Asker {
    pub(crate) fn new(config: AskerConfig) -> Asker {
        let querier = Querier::new(config.node, Duration::from_millis(100));
        Asker { querier, next_id: 1, has_asked: false, frames: Vec::new() }
    }

    /// Asks, as of a `seq` or (0) of now; what came before is forgotten. Returns the number of the query.
    pub(crate) fn ask(&mut self, query: Query, as_of: u64) -> Option<u32> {
        let conn = self.querier.conn?;
        let id = self.next_id;
        self.next_id += 1;
        self.frames.clear();
        self.has_asked = true;
        let query = Query { id: U32::new(id), ..query };
        if as_of == 0 {
            self.querier.connections.send(conn, query);
        } else {
            let question = Question::new(&query).expect("a question that can be asked");
            let frames = question.cut_at(Seq::new(as_of)).frames();
            self.querier.connections.fill(conn, frames.as_bytes());
            self.querier.connections.mark_dirty(conn);
        }
        Some(id)
    }

    /// Forgets the last query and its answer.
    pub(crate) fn forget(&mut self) {
        self.has_asked = false;
        self.frames.clear();
    }

    /// Whether a question is under way or answered.
    pub(crate) fn has_asked(&self) -> bool {
        self.has_asked
    }

    /// Whether the last query is over. The end of an earlier one, that nobody waited for, is none of it.
    pub(crate) fn is_done(&self) -> bool {
        let last = self.next_id - 1;
        self.has_asked
            && (self.messages::<Ended>().any(|end| end.id.get() == last)
                || self.messages::<Refusal>().any(|refusal| refusal.id.get() == last))
    }

    pub(crate) fn messages<M: Message + 'static>(&self) -> impl Iterator<Item = &M> {
        self.frames.iter().filter_map(Frame::view::<M>)
    }
}

impl Asker {
    fn handle_frames(&mut self, now: Now, conn: ConnId, frames: &[Frame]) {
        for frame in frames {
            assert_eq!(frame.check(), Ok(()), "a node sent a bad frame");
            self.querier.answer_heartbeat(now, conn, frame);
        }
        self.frames.extend_from_slice(frames);
    }
}

impl Node for Asker {
    fn handle_open(&mut self, now: Now, conn: ConnId, _origin: Origin) {
        self.querier.open(now, conn);
    }

    fn handle_dial_failed(&mut self, now: Now, _dial: DialId, _failure: DialFailure) {
        self.querier.dial_later(now);
    }

    fn handle_close(&mut self, now: Now, conn: ConnId, _reason: CloseReason) {
        self.querier.close(now, conn);
        self.has_asked = false;
    }

    fn handle_timers(&mut self, now: Now) {
        self.querier.dial_if_due(now);
    }

    fn next_deadline(&self) -> Option<Mono> {
        self.querier.next_dial()
    }

    is_a_client_with!(querier.connections, always reads);
}
