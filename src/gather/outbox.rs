//! What the machine wants done: requests to send, requests to cancel, answers to deliver.
//!
//! Invariant: a request that was not sent is taken back, not cancelled.

use std::collections::VecDeque;

use super::request::RequestId;
use super::{Answer, Ask, LeafId};

/// Waits to be polled.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    asks: VecDeque<Ask>,
    cancels: VecDeque<(LeafId, u32)>,
    answers: VecDeque<Answer>,
}

impl Outbox {
    pub(super) fn ask(&mut self, ask: Ask) {
        self.asks.push_back(ask);
    }

    pub(super) fn answer(&mut self, answer: Answer) {
        self.answers.push_back(answer);
    }

    /// Cancels a request that was sent: nobody waits for it any more.
    pub(super) fn cancel(&mut self, leaf: LeafId, request: RequestId) {
        self.cancels.push_back((leaf, request.0));
    }

    /// Takes back a request that nobody waits for any more; cancels it when it was sent.
    pub(super) fn withdraw(&mut self, leaf: LeafId, request: RequestId) {
        let waiting = self.asks.len();
        self.forget(request);
        if self.asks.len() == waiting {
            self.cancel(leaf, request);
        }
    }

    /// A request is over: it need not be sent.
    pub(super) fn forget(&mut self, request: RequestId) {
        self.asks.retain(|ask| ask.id() != request.0);
    }

    /// The connection to a leaf is gone: there is nothing left to cancel.
    pub(super) fn forget_cancels_of(&mut self, leaf: LeafId) {
        self.cancels.retain(|(cancelled, _)| *cancelled != leaf);
    }

    pub(super) fn forget_answers_of(&mut self, asker: u64) {
        self.answers.retain(|answer| answer.asker != asker);
    }

    /// Answers that wait.
    pub(super) fn answers(&self) -> usize {
        self.answers.len()
    }

    pub(super) fn poll_ask(&mut self) -> Option<Ask> {
        self.asks.pop_front()
    }

    pub(super) fn poll_cancel(&mut self) -> Option<(LeafId, u32)> {
        self.cancels.pop_front()
    }

    pub(super) fn poll_answer(&mut self) -> Option<Answer> {
        self.answers.pop_front()
    }
}
