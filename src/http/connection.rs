//! One connection of HTTP/1.1: requests come out one at a time, and answers become bytes.
//!
//! The owner asks [`HttpConnection::wants_bytes`] before it reads, offers what it has read until nothing more is
//! consumed, sends [`HttpConnection::outgoing`], and closes the socket at [`HttpConnection::is_over`].

use bytes::Bytes;

use super::head;
use super::request::{Method, Request};
use super::response::{Framing, Problem, Response, has_body, write_head};
use crate::limits::{
    HTTP_BODY_BYTES_MAX, HTTP_HEAD_BYTES_MAX, HTTP_IDLE_MAX, HTTP_JOINED_BYTES_MAX,
    HTTP_OUTGOING_KEPT_BYTES, HTTP_REQUEST_TIME_MAX, HTTP_STALL_MAX,
};
use crate::time::Mono;

/// One connection.
#[derive(Debug)]
pub struct HttpConnection {
    phase: Phase,
    /// When the phase began. It counts where the phase has a deadline.
    since: Mono,
    /// A request whose body is not here yet.
    reading: Option<Box<Reading>>,
    /// What the answer must know of its request.
    asked: Asked,
    /// Bytes to send, of which the first `sent` are sent; then `body`.
    front: Vec<u8>,
    sent: usize,
    body: Bytes,
    /// Since when the peer takes nothing, as far as that is known.
    stalled_since: Option<Mono>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nothing of a request is here.
    Idle,
    /// A part of a head is here.
    Head,
    /// A part of a body is missing.
    Body,
    /// The owner makes an answer.
    Answering,
    /// The owner makes an answer and sends it meanwhile.
    Streaming,
    /// All of the answer waits to be sent.
    Sending,
    /// What waits is sent, and then the connection ends. Whatever comes is thrown away.
    Ending,
}

#[derive(Debug)]
struct Reading {
    request: Request,
    body_bytes: usize,
}

/// One request's share in the form of its answer.
#[derive(Clone, Copy, Debug)]
struct Asked {
    is_head: bool,
    is_http_1_0: bool,
    keeps_alive: bool,
}

const UNKNOWN: Asked = Asked { is_head: false, is_http_1_0: false, keeps_alive: false };

impl HttpConnection {
    /// Bytes that the owner must be able to hold for a peer: of a head that is not whole, nothing is consumed.
    pub const OFFERED_BYTES_MAX: usize = HTTP_HEAD_BYTES_MAX;

    /// A connection that has just been accepted.
    #[must_use]
    pub fn new(now: Mono) -> HttpConnection {
        HttpConnection {
            phase: Phase::Idle,
            since: now,
            reading: None,
            asked: UNKNOWN,
            front: Vec::new(),
            sent: 0,
            body: Bytes::new(),
            stalled_since: None,
        }
    }

    /// Reads at most one request. Returns how many bytes are consumed; the rest is offered again, with what comes
    /// behind it. A wrong request is answered here, and the connection ends.
    pub fn handle_bytes(&mut self, now: Mono, bytes: &[u8]) -> (usize, Option<Request>) {
        match self.phase {
            Phase::Idle | Phase::Head if !bytes.is_empty() => self.handle_head(now, bytes),
            Phase::Body => self.handle_body(bytes),
            Phase::Ending => (bytes.len(), None),
            _ => (0, None),
        }
    }

    fn handle_head(&mut self, now: Mono, bytes: &[u8]) -> (usize, Option<Request>) {
        if self.phase == Phase::Idle {
            self.enter(Phase::Head, now);
        }
        let head = match head::parse(bytes) {
            Ok(Some(head)) => head,
            Ok(None) => return (0, None),
            Err(problem) => {
                self.asked = UNKNOWN;
                self.refuse(now, &problem);
                return (bytes.len(), None);
            }
        };
        let request = head.request;
        self.asked = Asked {
            is_head: request.method() == Method::Head,
            is_http_1_0: request.is_http_1_0(),
            keeps_alive: head.keeps_alive,
        };
        if head.awaits_continue {
            self.stalled_since.get_or_insert(now);
            self.front.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
        }
        self.enter(Phase::Body, now);
        self.reading = Some(Box::new(Reading { request, body_bytes: head.body_bytes }));
        let (of_body, request) = self.handle_body(&bytes[head.bytes..]);
        (head.bytes + of_body, request)
    }

    fn handle_body(&mut self, bytes: &[u8]) -> (usize, Option<Request>) {
        let Some(reading) = &mut self.reading else { return (0, None) };
        let body = &mut reading.request.body;
        let taken = bytes.len().min(reading.body_bytes - body.len());
        body.extend_from_slice(&bytes[..taken]);
        debug_assert!(body.len() <= HTTP_BODY_BYTES_MAX);
        if body.len() < reading.body_bytes {
            return (taken, None);
        }
        self.phase = Phase::Answering;
        (taken, self.reading.take().map(|reading| reading.request))
    }

    /// Whether bytes of the peer are wanted: not while an answer is made or sent.
    #[must_use]
    pub fn wants_bytes(&self) -> bool {
        match self.phase {
            Phase::Idle | Phase::Head | Phase::Body => true,
            // What a refused peer still sends is thrown away: unread bytes would reset the connection under the refusal.
            Phase::Ending => !self.is_over(),
            Phase::Answering | Phase::Streaming | Phase::Sending => false,
        }
    }

    /// The whole answer to the request that came last.
    pub fn respond(&mut self, now: Mono, response: Response) {
        if self.phase == Phase::Answering {
            self.put(now, response);
            self.phase = Phase::Sending;
        }
    }

    fn put(&mut self, now: Mono, response: Response) {
        self.stalled_since.get_or_insert(now);
        let Response { status, content_type, headers, body } = response;
        let framing = match has_body(status) {
            true => Framing::Length(body.len()),
            false => Framing::None,
        };
        let headers = headers.iter().map(|(name, value)| (*name, value.as_str()));
        let closes = !self.asked.keeps_alive;
        write_head(&mut self.front, (status, content_type), headers, framing, closes);
        if self.asked.is_head || framing == Framing::None {
            return;
        }
        // One packet for what is short, and no copy of what is long.
        if body.len() <= HTTP_JOINED_BYTES_MAX {
            self.front.extend_from_slice(&body);
        } else {
            self.body = body;
        }
    }

    /// Answers what is wrong, and ends.
    fn refuse(&mut self, now: Mono, problem: &Problem) {
        self.reading = None;
        self.asked.keeps_alive = false;
        self.put(now, Response::problem(problem));
        self.phase = Phase::Ending;
    }

    /// Answers a peer that may not even ask, and ends.
    pub fn turn_away(&mut self, now: Mono, problem: &Problem) {
        if self.phase == Phase::Idle {
            self.refuse(now, problem);
        }
    }

    /// The head of an answer whose body comes in pieces: in chunks, or until the close for HTTP/1.0.
    pub fn begin_stream(
        &mut self,
        now: Mono,
        status: u16,
        content_type: &'static str,
        headers: &[(&'static str, &str)],
    ) {
        if self.phase != Phase::Answering {
            return;
        }
        let framing = match self.asked.is_http_1_0 {
            true => Framing::UntilClose,
            false => Framing::Chunked,
        };
        let closes = !self.asked.keeps_alive;
        let headers = headers.iter().copied();
        self.stalled_since.get_or_insert(now);
        write_head(&mut self.front, (status, content_type), headers, framing, closes);
        self.phase = Phase::Streaming;
    }

    /// One piece of the body, as one chunk. An empty piece is no piece. HEAD gets none.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.phase != Phase::Streaming || self.asked.is_head || bytes.is_empty() {
            return;
        }
        self.make_room();
        if self.asked.is_http_1_0 {
            self.front.extend_from_slice(bytes);
            return;
        }
        self.front.extend_from_slice(format!("{:x}\r\n", bytes.len()).as_bytes());
        self.front.extend_from_slice(bytes);
        self.front.extend_from_slice(b"\r\n");
    }

    /// No piece follows.
    pub fn end_stream(&mut self, now: Mono) {
        if self.phase != Phase::Streaming {
            return;
        }
        if !self.asked.is_head && !self.asked.is_http_1_0 {
            self.front.extend_from_slice(b"0\r\n\r\n");
        }
        self.phase = Phase::Sending;
        self.finish(now);
    }

    /// The rest of a stream will not come. What waits is sent, and the connection ends without the last chunk, so that
    /// the peer sees that something is missing.
    pub fn abort(&mut self) {
        self.phase = Phase::Ending;
    }

    /// What to send next; empty when nothing waits. There may be more behind it.
    #[must_use]
    pub fn outgoing(&self) -> &[u8] {
        match &self.front[self.sent..] {
            [] => &self.body,
            front => front,
        }
    }

    /// So many bytes of [`HttpConnection::outgoing`] were sent; 0 when the peer took none.
    pub fn handle_sent(&mut self, now: Mono, bytes: usize) {
        if self.sent < self.front.len() {
            self.sent = self.front.len().min(self.sent.saturating_add(bytes));
        } else {
            let _sent = self.body.split_to(bytes.min(self.body.len()));
        }
        if self.sent == self.front.len() {
            self.front.clear();
            self.front.shrink_to(HTTP_OUTGOING_KEPT_BYTES);
            self.sent = 0;
        }
        if self.outgoing_bytes() == 0 {
            self.stalled_since = None;
        } else if bytes > 0 || self.stalled_since.is_none() {
            self.stalled_since = Some(now);
        }
        self.finish(now);
    }

    /// Sent bytes go before they are half of all, so that a stream which never runs empty does not grow.
    fn make_room(&mut self) {
        if self.sent > self.front.len() / 2 {
            self.front.drain(..self.sent);
            self.sent = 0;
        }
    }

    /// After the last byte of an answer: the next request, or the end.
    fn finish(&mut self, now: Mono) {
        if self.phase == Phase::Sending && self.outgoing_bytes() == 0 {
            let next = if self.asked.keeps_alive { Phase::Idle } else { Phase::Ending };
            self.enter(next, now);
        }
    }

    fn enter(&mut self, phase: Phase, now: Mono) {
        self.phase = phase;
        self.since = now;
    }

    /// Bytes that wait to be sent.
    #[must_use]
    pub fn outgoing_bytes(&self) -> usize {
        self.front.len() - self.sent + self.body.len()
    }

    /// When [`HttpConnection::handle_timeout`] is due. A moment of the past: at once.
    #[must_use]
    pub fn deadline(&self) -> Option<Mono> {
        let stall = match self.stalled_since {
            _ if self.outgoing_bytes() == 0 => None,
            Some(since) => Some(since + HTTP_STALL_MAX),
            // Pieces of a stream come without a time. The first timeout gives them one.
            None => Some(self.since),
        };
        let phase = match self.phase {
            Phase::Idle => Some(self.since + HTTP_IDLE_MAX),
            Phase::Head | Phase::Body => Some(self.since + HTTP_REQUEST_TIME_MAX),
            Phase::Answering | Phase::Streaming | Phase::Sending | Phase::Ending => None,
        };
        stall.into_iter().chain(phase).min()
    }

    /// Time has passed. Returns whether to close now, whatever waits. A peer that was too slow with its request is
    /// answered 408 instead, and the connection is over after that.
    pub fn handle_timeout(&mut self, now: Mono) -> bool {
        if self.outgoing_bytes() > 0 {
            let since = *self.stalled_since.get_or_insert(now);
            if now >= since + HTTP_STALL_MAX {
                return true;
            }
        }
        match self.phase {
            Phase::Idle => now >= self.since + HTTP_IDLE_MAX,
            Phase::Head | Phase::Body if now >= self.since + HTTP_REQUEST_TIME_MAX => {
                let seconds = HTTP_REQUEST_TIME_MAX.as_secs();
                let detail = format!("The request was not whole after {seconds} s.");
                self.refuse(now, &Problem::new(408, detail));
                false
            }
            _ => false,
        }
    }

    /// Whether everything was sent and the connection must be closed.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.phase == Phase::Ending && self.outgoing_bytes() == 0
    }
}

#[cfg(test)]
mod tests;
