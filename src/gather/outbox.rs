//! What the machine wants done: requests to send, requests to cancel, answers to deliver.
//!
//! Invariant: a request that was not sent is taken back, not cancelled.

use std::collections::VecDeque;

use super::request::RequestId;
use super::{Answer, LeafId, Request};

/// Waits to be polled.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    requests: VecDeque<Request>,
    cancels: VecDeque<(LeafId, u32)>,
    answers: VecDeque<Answer>,
}

impl Outbox {
    pub(super) fn request(&mut self, request: Request) {
        self.requests.push_back(request);
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
        let waiting = self.requests.len();
        self.forget(request);
        if self.requests.len() == waiting {
            self.cancel(leaf, request);
        }
    }

    /// A request is over: it need not be sent.
    pub(super) fn forget(&mut self, request: RequestId) {
        self.requests.retain(|waiting| waiting.id() != request.0);
    }

    /// The connection to a leaf is gone: there is nothing left to cancel.
    pub(super) fn forget_cancels_of(&mut self, leaf: LeafId) {
        self.cancels.retain(|(cancelled, _)| *cancelled != leaf);
    }

    pub(super) fn forget_answers_of(&mut self, client: u64) {
        self.answers.retain(|answer| answer.client != client);
    }

    /// Answers that wait.
    pub(super) fn answers(&self) -> usize {
        self.answers.len()
    }

    pub(super) fn poll_request(&mut self) -> Option<Request> {
        self.requests.pop_front()
    }

    pub(super) fn poll_cancel(&mut self) -> Option<(LeafId, u32)> {
        self.cancels.pop_front()
    }

    pub(super) fn poll_answer(&mut self) -> Option<Answer> {
        self.answers.pop_front()
    }
}
