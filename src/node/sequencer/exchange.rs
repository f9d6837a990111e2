//! The session with the exchange: when to dial, what to ask, when to give up. Two breakers guard it:
//! one the session (connect and greeting), one the requests on a standing session.

use std::net::SocketAddr;
use std::time::Duration;

use super::{ConnId, DialFailure, SequencerConfig};
use crate::breaker::{Breaker, ConfigError, Outcome, Permit, State, Transition};
use crate::limits;
use crate::node::status::Status;
use crate::node::{CloseReason, breaker_outcome, describe_breaker, obey_operator};
use crate::time::{Mono, Now};
use crate::wire::{
    BreakerAction, Flags, Frame, Heartbeat, Kind, Refusal, Resume, Role, Session, U16, U32, U64,
    padded,
};

/// The names under which the two breakers are known to operators.
const SESSION_BREAKER: &str = "core.exchange";
const REQUEST_BREAKER: &str = "core.requests";

/// What a control frame of the exchange means to the sequencer.
pub(super) enum Verdict {
    Ok,
    Close(&'static str),
    Start {
        feed: u64,
        next_seq: u64,
    },
    /// It went back, as far as it could: this comes next.
    Resumed {
        next_seq: u64,
    },
    /// All before this number has been sent.
    At {
        next_seq: u64,
    },
}

/// Something to do.
pub(super) enum Step {
    Dial(SocketAddr, Duration),
    Send(ConnId, Frame),
    Close(ConnId, &'static str),
}

#[derive(Debug)]
enum Phase {
    /// No connection; the next attempt not before this.
    Idle {
        not_before: Mono,
    },
    Dialing {
        permit: Permit,
        since: Mono,
    },
    /// Connected; the exchange has not answered our SESSION.
    Greeting {
        permit: Permit,
        since: Mono,
        opened: Mono,
        conn: ConnId,
    },
    Streaming {
        conn: ConnId,
    },
    /// We gave it up; the shell has not yet said that it is closed.
    Closing {
        conn: ConnId,
    },
}

/// One request that waits for its answer.
#[derive(Debug)]
struct Request {
    token: u32,
    permit: Permit,
    since: Mono,
    is_resume: bool,
}

#[derive(Debug)]
pub(super) struct Exchange {
    address: SocketAddr,
    heartbeat: Duration,
    silence_max: Duration,
    request_deadline: Duration,
    connect_deadline: Duration,
    session: Breaker,
    requests: Breaker,
    phase: Phase,
    request: Option<Request>,
    next_token: u32,
    next_probe: Mono,
    last_heard: Mono,
    /// Frames were left out (by the exchange, or by us): the rest must be asked for again.
    is_incomplete: bool,
    /// How far the exchange's feed was when the session began.
    head_seq: u64,
    has_room: bool,
    give_up: Option<&'static str>,
    pub(super) duplicates: u64,
    sessions: u64,
    resumes: u64,
}

impl Exchange {
    pub(super) fn new(config: &SequencerConfig, now: Now) -> Result<Exchange, ConfigError> {
        Ok(Exchange {
            address: config.exchange,
            heartbeat: config.heartbeat,
            silence_max: config.silence_max,
            request_deadline: config.request_deadline,
            connect_deadline: config.connect_deadline,
            session: Breaker::new(&config.breaker, config.seed)?,
            requests: Breaker::new(&config.breaker, config.seed ^ 1)?,
            phase: Phase::Idle { not_before: now.mono },
            request: None,
            next_token: 1,
            next_probe: now.mono,
            last_heard: now.mono,
            is_incomplete: false,
            head_seq: 0,
            has_room: true,
            give_up: None,
            duplicates: 0,
            sessions: 0,
            resumes: 0,
        })
    }

    pub(super) fn conn(&self) -> Option<ConnId> {
        match self.phase {
            Phase::Greeting { conn, .. } | Phase::Streaming { conn } | Phase::Closing { conn } => {
                Some(conn)
            }
            _ => None,
        }
    }

    pub(super) fn is_streaming(&self) -> bool {
        matches!(self.phase, Phase::Streaming { .. })
    }

    /// Whether the last values are known to be current: the session stands, nothing is missing, the
    /// exchange was heard lately, and what it had released before the session began has been taken
    /// in. `upstream_seq` is its next number.
    pub(super) fn is_live(&self, now: Now, upstream_seq: u64) -> bool {
        let silence = now.mono.since(self.last_heard);
        self.is_streaming()
            && !self.is_incomplete
            && silence <= self.silence_max
            && upstream_seq >= self.head_seq
    }

    /// Connected. The SESSION frame to send says what we have.
    pub(super) fn handle_open(
        &mut self,
        now: Now,
        conn: ConnId,
        feed: u64,
        wanted: u64,
    ) -> Session {
        let phase = std::mem::replace(&mut self.phase, Phase::Closing { conn });
        if let Phase::Dialing { permit, since } = phase {
            self.phase = Phase::Greeting { permit, since, opened: now.mono, conn };
        }
        self.last_heard = now.mono;
        Session {
            role: Role::Consumer as u8,
            next_seq: U64::new(wanted),
            feed: U64::new(feed),
            name: padded("core"),
            ..Session::default()
        }
    }

    pub(super) fn handle_dial_failed(&mut self, now: Now, failure: DialFailure) {
        let idle = Phase::Idle { not_before: now.mono + limits::REDIAL_MIN };
        if let Phase::Dialing { permit, .. } = std::mem::replace(&mut self.phase, idle) {
            self.session.record(permit, breaker_outcome(failure), now.mono);
        }
    }

    pub(super) fn handle_close(&mut self, now: Now, conn: ConnId, reason: CloseReason) {
        if self.conn() != Some(conn) {
            return;
        }
        let idle = Phase::Idle { not_before: now.mono + limits::REDIAL_MIN };
        match std::mem::replace(&mut self.phase, idle) {
            Phase::Greeting { permit, .. } => self.session.record(permit, Outcome::Reset, now.mono),
            Phase::Streaming { .. } if reason != CloseReason::Ours => {
                self.session.observe(Outcome::Reset, now.mono);
            }
            _ => {}
        }
        // A session that we ended says nothing about a request that still had time: its permit is
        // given back.
        if let Some(request) = self.request.take_if(|_| reason != CloseReason::Ours) {
            self.requests.record(request.permit, Outcome::Reset, now.mono);
        }
        self.request = None;
        self.is_incomplete = false;
        self.give_up = None;
    }

    /// The exchange sent nonsense; the caller closes the connection.
    pub(super) fn handle_protocol_error(&mut self, now: Now) {
        let Some(conn) = self.conn() else { return };
        match std::mem::replace(&mut self.phase, Phase::Closing { conn }) {
            Phase::Greeting { permit, .. } => {
                self.session.record(permit, Outcome::ProtocolError, now.mono);
            }
            _ => self.session.observe(Outcome::ProtocolError, now.mono),
        }
    }

    pub(super) fn handle_control(&mut self, now: Now, frame: &Frame) -> Verdict {
        self.last_heard = now.mono;
        match frame.kind() {
            Some(Kind::Session) => self.handle_session(now, frame),
            Some(Kind::Heartbeat) => {
                let Some(beat) = frame.view::<Heartbeat>() else { return Verdict::Ok };
                let next_seq = beat.next_seq.get();
                // A heartbeat that wants an answer is the exchange's own question.
                let is_answer = !frame.has(Flags::MORE);
                if is_answer && self.conclude(now, beat.token.get(), None) {
                    return Verdict::Resumed { next_seq };
                }
                Verdict::At { next_seq }
            }
            Some(Kind::Error) => self.handle_refusal(now, frame),
            _ => {
                self.handle_protocol_error(now);
                Verdict::Close("the exchange may not send this")
            }
        }
    }

    fn handle_session(&mut self, now: Now, frame: &Frame) -> Verdict {
        let Some(conn) = self.conn() else { return Verdict::Ok };
        let phase = std::mem::replace(&mut self.phase, Phase::Streaming { conn });
        let (Phase::Greeting { permit, since, .. }, Some(session)) =
            (phase, frame.view::<Session>())
        else {
            self.handle_protocol_error(now);
            return Verdict::Close("a second SESSION");
        };
        let (next_seq, head_seq) = (session.next_seq.get(), session.durable_seq.get());
        if next_seq == 0 || next_seq == u64::MAX || head_seq != 0 && next_seq > head_seq {
            self.session.record(permit, Outcome::ProtocolError, now.mono);
            self.phase = Phase::Closing { conn };
            return Verdict::Close("a SESSION from a place that no feed has");
        }
        let latency = now.mono.since(since);
        self.session.record(permit, Outcome::Answered { latency }, now.mono);
        self.sessions += 1;
        self.next_probe = now.mono + self.heartbeat;
        self.head_seq = session.durable_seq.get();
        Verdict::Start { feed: session.feed.get(), next_seq: session.next_seq.get() }
    }

    fn handle_refusal(&mut self, now: Now, frame: &Frame) -> Verdict {
        let Some(refusal) = frame.view::<Refusal>() else { return Verdict::Ok };
        if refusal.id.get() != 0 {
            self.conclude(now, refusal.id.get(), Some(Outcome::Refused));
            return Verdict::Ok;
        }
        let Some(conn) = self.conn() else { return Verdict::Ok };
        match std::mem::replace(&mut self.phase, Phase::Closing { conn }) {
            Phase::Greeting { permit, .. } => {
                self.session.record(permit, Outcome::Refused, now.mono);
            }
            _ => self.session.observe(Outcome::Refused, now.mono),
        }
        Verdict::Close("refused by the exchange")
    }

    /// A request was answered, or failed with this outcome. Whether it was a RESUME.
    fn conclude(&mut self, now: Now, token: u32, failed: Option<Outcome>) -> bool {
        let Some(request) = self.request.take_if(|request| request.token == token) else {
            return false;
        };
        let latency = now.mono.since(request.since);
        let outcome = failed.unwrap_or(Outcome::Answered { latency });
        self.requests.record(request.permit, outcome, now.mono);
        if request.is_resume {
            // The answer stands before the first frame of the new place: what came until now was
            // still from the old one.
            self.is_incomplete = false;
            self.give_up = failed.map(|_| "the exchange would not go back");
        }
        request.is_resume
    }

    /// What arrived cannot be used, through no fault of the exchange: begin again when there is room.
    pub(super) fn abandon(&mut self, why: &'static str) {
        self.give_up = Some(why);
    }

    /// A frame came that is not the next one: what is between must be asked for again.
    pub(super) fn note_left_out(&mut self) {
        self.is_incomplete = true;
    }

    /// The exchange has shown that it is at least this far: before it is taken in, values are old.
    pub(super) fn expect(&mut self, next_seq: u64) {
        self.head_seq = self.head_seq.max(next_seq);
    }

    /// The exchange said something.
    pub(super) fn note_heard(&mut self, now: Now) {
        self.last_heard = now.mono;
    }

    pub(super) fn handle_timers(&mut self, now: Now) {
        self.session.handle_timeout(now.mono);
        self.requests.handle_timeout(now.mono);
        if !self.has_room {
            // Nothing is read: its silence says nothing about the exchange.
            return;
        }
        if let Phase::Greeting { opened, conn, .. } = self.phase
            && now.mono.since(opened) >= self.request_deadline
        {
            let closing = Phase::Closing { conn };
            if let Phase::Greeting { permit, .. } = std::mem::replace(&mut self.phase, closing) {
                self.session.record(permit, Outcome::RequestDeadline, now.mono);
            }
            self.give_up = Some("no answer to SESSION in time");
        }
        let deadline = self.request_deadline;
        if let Some(late) = self.request.take_if(|r| now.mono.since(r.since) >= deadline) {
            self.requests.record(late.permit, Outcome::RequestDeadline, now.mono);
            if late.is_resume {
                self.give_up = Some("the exchange did not go back in time");
            }
        }
        // While requests are not permitted a quiet market cannot be told from a dead exchange: then
        // its quotes are stale, but the session is left alone.
        let was_asked = self.requests.state() == State::Closed;
        let silence = now.mono.since(self.last_heard);
        if self.is_streaming() && was_asked && silence > self.silence_max {
            self.session.observe(Outcome::RequestDeadline, now.mono);
            self.give_up = Some("the exchange is silent");
        }
    }

    /// Does what an operator wants, if the breaker is one of these two.
    pub(super) fn obey(&mut self, now: Now, name: &str, action: BreakerAction) -> bool {
        let breaker = match name {
            SESSION_BREAKER => &mut self.session,
            REQUEST_BREAKER => &mut self.requests,
            _ => return false,
        };
        obey_operator(breaker, action, now);
        true
    }

    /// What to do next, until there is nothing. `wanted` is the exchange's next number;
    /// `has_room` says whether the journal takes frames.
    pub(super) fn poll_step(&mut self, now: Now, wanted: u64, has_room: bool) -> Option<Step> {
        self.has_room = has_room;
        if let (Some(why), Some(conn)) = (self.give_up.take(), self.conn()) {
            self.phase = Phase::Closing { conn };
            return Some(Step::Close(conn, why));
        }
        // Forced open means that this exchange is not to be spoken to, not only that it is not to be
        // dialed again. Nothing is held against it.
        if self.session.state() == State::ForcedOpen
            && let Phase::Greeting { conn, .. } | Phase::Streaming { conn } = self.phase
        {
            self.phase = Phase::Closing { conn };
            return Some(Step::Close(conn, "an operator forced its breaker open"));
        }
        match self.phase {
            Phase::Idle { not_before } if now.mono >= not_before && has_room => {
                let permit = self.session.try_acquire(now.mono).ok()?;
                self.phase = Phase::Dialing { permit, since: now.mono };
                Some(Step::Dial(self.address, self.connect_deadline))
            }
            Phase::Streaming { conn } if self.request.is_none() => {
                if self.is_incomplete && has_room {
                    return self.ask_resume(now, conn, wanted);
                }
                if now.mono >= self.next_probe && has_room {
                    return self.ask_probe(now, conn);
                }
                None
            }
            _ => None,
        }
    }

    fn ask_resume(&mut self, now: Now, conn: ConnId, wanted: u64) -> Option<Step> {
        let Ok(permit) = self.requests.try_acquire(now.mono) else {
            // A new session resumes by sequence too, and is guarded by the other breaker.
            self.phase = Phase::Closing { conn };
            return Some(Step::Close(conn, "frames are missing and requests are not permitted"));
        };
        self.resumes += 1;
        let token = self.begin(now, permit, true);
        let (id, next_seq) = (U32::new(token), U64::new(wanted));
        Some(Step::Send(conn, Frame::seal(Resume { id, next_seq, ..Resume::default() })))
    }

    fn ask_probe(&mut self, now: Now, conn: ConnId) -> Option<Step> {
        self.next_probe = now.mono + self.heartbeat;
        let permit = self.requests.try_acquire(now.mono).ok()?;
        let token = self.begin(now, permit, false);
        let beat = Heartbeat {
            flags: U16::new(Flags::MORE),
            token: U32::new(token),
            sent_at: U64::new(now.wall_ns),
            ..Heartbeat::default()
        };
        Some(Step::Send(conn, Frame::seal(beat)))
    }

    fn begin(&mut self, now: Now, permit: Permit, is_resume: bool) -> u32 {
        let token = self.next_token;
        self.next_token = self.next_token.wrapping_add(1).max(1);
        self.request = Some(Request { token, permit, since: now.mono, is_resume });
        token
    }

    pub(super) fn poll_transition(&mut self) -> Option<(&'static str, Transition)> {
        let of_session = self.session.poll_transition().map(|change| (SESSION_BREAKER, change));
        of_session.or_else(|| self.requests.poll_transition().map(|c| (REQUEST_BREAKER, c)))
    }

    #[cfg(test)]
    pub(super) fn request_token(&self) -> Option<u32> {
        self.request.as_ref().map(|request| request.token)
    }

    /// Outcomes that were counted against the exchange.
    #[cfg(test)]
    pub(super) fn failures(&self) -> u64 {
        let good = crate::breaker::OutcomeClass::Answered as usize;
        let of = |breaker: &Breaker| {
            let counts = breaker.snapshot(Mono::default()).counts.by_class;
            counts
                .iter()
                .enumerate()
                .filter(|&(class, _)| class != good)
                .map(|(_, n)| *n)
                .sum::<u64>()
        };
        of(&self.session) + of(&self.requests)
    }

    pub(super) fn next_deadline(&self) -> Option<Mono> {
        let of_breakers = self.session.next_deadline().into_iter();
        let of_breakers = of_breakers.chain(self.requests.next_deadline()).min();
        if !self.has_room {
            return of_breakers;
        }
        let of_phase = match self.phase {
            Phase::Idle { not_before } => {
                let waits = matches!(self.session.state(), State::Open | State::ForcedOpen);
                if waits { None } else { Some(not_before) }
            }
            Phase::Greeting { opened, .. } => Some(opened + self.request_deadline),
            Phase::Streaming { .. } => {
                // One nanosecond later, since silence is given up on when it is *over* its bound.
                let silence = self.last_heard + self.silence_max + Duration::from_nanos(1);
                let silence = (self.requests.state() == State::Closed).then_some(silence);
                let probe = self.request.is_none().then_some(self.next_probe);
                silence.into_iter().chain(probe).min()
            }
            Phase::Dialing { .. } | Phase::Closing { .. } => None,
        };
        let of_request = self.request.as_ref().map(|request| request.since + self.request_deadline);
        [of_phase, of_request, of_breakers].into_iter().flatten().min()
    }

    pub(super) fn describe(&self, now: Now, upstream_seq: u64, status: &mut Status) {
        let phase = match self.phase {
            Phase::Idle { .. } => "waiting",
            Phase::Dialing { .. } => "dialing",
            Phase::Greeting { .. } => "greeting",
            Phase::Streaming { .. } if self.is_live(now, upstream_seq) => "live",
            Phase::Streaming { .. } => "behind",
            Phase::Closing { .. } => "closing",
        };
        status.text("exchange", phase);
        status.metric("exchange.sessions", self.sessions);
        status.metric("exchange.resumes", self.resumes);
        status.metric("exchange.duplicates", self.duplicates);
        describe_breaker(SESSION_BREAKER, &self.session, now, status);
        describe_breaker(REQUEST_BREAKER, &self.requests, now, status);
    }
}
