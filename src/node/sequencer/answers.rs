//! What core answers: the current quote of an instrument, with its provenance; and what a connection that
//! streams something is sent next. Replays are in `replays`.

use super::{Sequencer, SequencerPeer};
use crate::log::Storage;
use crate::node::ConnId;
use crate::node::quotes::QuoteView;
use crate::node::session::Rejection;
use crate::question::Question;
use crate::time::{Mono, Now};
use crate::wire::{Ended, ErrorCode, Op, Seq, U64};

impl<S: Storage> Sequencer<S> {
    /// A question other than those that every node answers alike.
    pub(super) fn answer(
        &mut self,
        now: Now,
        conn: ConnId,
        question: Question,
    ) -> Result<(), Rejection> {
        match question.op() {
            Some(Op::Quote) => self.begin_quotes(now, conn, question),
            Some(Op::Replay) => self.ask_for_replay(now, conn, &question.query),
            _ => Err(Rejection::new(ErrorCode::NotOwner, "core keeps no such history")),
        }
    }

    /// The fallback ladder: a live quote, the last one flagged STALE, or an explicit none. A question about a cut
    /// that core has not come to waits for it.
    fn begin_quotes(
        &mut self,
        now: Now,
        conn: ConnId,
        question: Question,
    ) -> Result<(), Rejection> {
        let Some(SequencerPeer::Querier(querier)) = self.connections.peer_mut(conn) else {
            return Ok(());
        };
        let waits = question.as_of > Seq::new(self.journal.next_seq());
        querier.quotes.ask(now.mono, question, waits, &mut self.places)?;
        if waits {
            self.waiting.insert(conn);
        }
        // It does not wait for a replay on the same connection.
        self.connections.set_bulk(conn, false);
        self.connections.mark_dirty(conn);
        Ok(())
    }

    /// Looks after questions about a cut that was ahead: core may have come to it, or their time may be over. One
    /// look at all connections with such a question, of which there are none most of the time.
    pub(super) fn settle_waiting(&mut self, now: Now) {
        let next_seq = Seq::new(self.journal.next_seq());
        for conn in std::mem::take(&mut self.waiting) {
            let Some(SequencerPeer::Querier(querier)) = self.connections.peer_mut(conn) else {
                continue;
            };
            let is_due = querier.quotes.handle_timeout(now.mono);
            querier.quotes.settle(&mut self.places);
            let is_reached = querier.quotes.next_cut().is_some_and(|cut| Some(cut) <= next_seq);
            if is_due || is_reached {
                self.connections.set_bulk(conn, false);
                self.connections.mark_dirty(conn);
            }
            if self.waits(conn) {
                self.waiting.insert(conn);
            }
        }
    }

    fn waits(&self, conn: ConnId) -> bool {
        matches!(self.connections.peer(conn), Some(SequencerPeer::Querier(querier))
            if querier.quotes.next_cut().is_some())
    }

    /// When the first question that waits for its cut has waited long enough.
    pub(super) fn waited_until(&self) -> Option<Mono> {
        let of = |conn: &ConnId| match self.connections.peer(*conn) {
            Some(SequencerPeer::Querier(querier)) => querier.quotes.next_deadline(),
            _ => None,
        };
        self.waiting.iter().filter_map(of).min()
    }

    /// The parts of an END frame that say how far this node is.
    pub(super) fn end(&self) -> Ended {
        Ended {
            covered_to: U64::new(u64::MAX),
            as_of: U64::new(self.journal.next_seq()),
            durable_seq: U64::new(self.journal.durable_seq()),
            ..Ended::default()
        }
    }

    /// Fills the empty outbox of a connection that streams something.
    pub(super) fn refill(&mut self, now: Now, conn: ConnId) {
        let states = self.feed_states(now);
        self.scratch.clear();
        match self.connections.peer_mut(conn) {
            Some(SequencerPeer::Follower(index)) => {
                let index = *index;
                self.followers.fill(now, index, &self.journal, &self.market, &mut self.scratch);
                if self.scratch.is_empty() && self.followers.is_behind(index, &self.journal) {
                    self.scanning.push(conn);
                }
            }
            Some(SequencerPeer::Querier(querier)) => {
                let view = QuoteView {
                    values: self.market.values(),
                    names: self.market.names(),
                    states,
                    uncertain_below: self.market.uncertain_below(),
                    as_of: Seq::new(self.journal.next_seq()),
                    durable_seq: Seq::new(self.journal.durable_seq()),
                    behind_ms: 0,
                };
                querier.quotes.fill(&view, &mut self.scratch);
                querier.quotes.settle(&mut self.places);
                if self.scratch.is_empty() {
                    return self.refill_replay(now, conn);
                }
            }
            Some(SequencerPeer::Exchange(index)) => {
                let index = *index;
                self.fill_definitions(conn, index);
            }
            None => return,
        }
        if !self.scratch.is_empty() {
            self.connections.fill(conn, zerocopy::IntoBytes::as_bytes(self.scratch.as_slice()));
        }
    }
}
