//! The session with the exchange: what to ask, when to give up. Two breakers guard it: one the session
//! (connect and greeting, see [`crate::node::uplink`]), one the requests on a standing session. A producer is an exchange
//! that comes by itself: without the first breaker, and all else alike.
//!
//! # Decisions
//!
//! * Sessions and requests have separate breakers. A feed that flows while requests fail is still a feed.
//!   Its quotes stay live as long as the exchange was heard recently.
//! * Half-open closes on an answered SESSION, not on a handshake: the kernel completes handshakes for a
//!   stopped process.
//! * Live means that core has all that the exchange has released. SESSION states how far the feed is.
//!   Heartbeats and holes can raise that. Until everything has arrived, and while the exchange is silent,
//!   quotes are STALE. Core reports this to the broker by a flag on a heartbeat, and the broker flags the
//!   last values of its snapshots. A broker without core flags all of them.

mod status;

use std::net::SocketAddr;
use std::time::Duration;

use super::breaker_changes::RequestChanges;
use super::full_names::Saying;
use super::link::{Accepted, Link};
use super::silence::{Judge, Pulse, SilenceChange};
use super::{ConnId, DialFailure, ExchangeConfig, SequencerConfig};
use crate::breaker::{Breaker, ConfigError, Outcome, Permit, State, Transition};
use crate::node::uplink::{OnBreakerOpen, Uplink, UplinkConfig};
use crate::node::{CloseReason, apply_operator_action};
use crate::planted::{Bug, is_planted};
use crate::time::{Mono, Now};
use crate::wire::{
    BreakerAction, ExchangeNumber, FeedStatus, Flags, Frame, Heartbeat, Kind, Refusal, Resume,
    Role, Seq, Session, U16, U32, U64, padded,
};

/// The names under which the two breakers of an exchange are known to operators: of its sessions and of its requests.
fn breaker_names(exchange: &str) -> (String, String) {
    match exchange {
        ExchangeConfig::NAMELESS => ("core.exchange".to_owned(), "core.requests".to_owned()),
        name => (format!("core.{name}"), format!("core.{name}.req")),
    }
}

/// What a control frame of the exchange means to the sequencer.
pub(super) enum ExchangeEvent {
    Ok,
    Close(&'static str),
    Start {
        feed: u64,
        next_seq: Seq,
        /// The feed is more of the one that was followed before, and this is its place in the new numbers.
        continued: Option<Seq>,
    },
    /// It went back, as far as it could: this comes next.
    Resumed {
        next_seq: Option<Seq>,
    },
    /// All before this number has been sent; `is_end`: and nothing comes behind it.
    At {
        next_seq: Option<Seq>,
        is_end: bool,
    },
}

/// Something to do.
pub(super) enum ExchangeAction {
    Dial(SocketAddr, Duration),
    Send(ConnId, Frame),
    Close(ConnId, &'static str),
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
    name: String,
    /// What its frames are marked with.
    number: ExchangeNumber,
    /// The name of the breaker of its requests.
    request_breaker: String,
    /// Its next number. Ahead of the journal's own count by the frames that were taken in but not journaled, such as
    /// definitions that are known already.
    pub(super) upstream_seq: Seq,
    /// Its place is to be said in the journal before anything else of it is: the journal may have lost frames of it.
    pub(super) is_place_uncertain: bool,
    /// The feed of a producer's session, while the journal does not have its place.
    pub(super) unplaced: Option<u64>,
    /// What pauses are usual for it.
    pub(super) pulse: Pulse,
    /// Since when something can be expected of it; `None`: it cannot.
    live_since: Option<Mono>,
    /// The changes of the breaker of its requests that the log has not told.
    pub(super) request_changes: RequestChanges,
    link: Link,
    heartbeat: Duration,
    silence_max: Duration,
    request_deadline: Duration,
    requests: Breaker,
    request: Option<Request>,
    next_token: u32,
    next_probe: Mono,
    last_heard: Mono,
    /// When the last frame of the market was taken in.
    last_event: Option<Mono>,
    /// Frames were left out (by the exchange, or by us): the rest must be asked for again.
    is_incomplete: bool,
    /// How far the exchange's feed was when the session began, as far as it said so.
    head_seq: Option<Seq>,
    /// The exchange has said that nothing more comes, and core has all of it.
    has_ended: bool,
    has_room: bool,
    give_up: Option<&'static str>,
    /// What it offers is another recording than the journal holds.
    is_other_feed: bool,
    pub(super) duplicates: u64,
    /// The full name that it is saying.
    pub(super) saying: Saying,
    sessions: u64,
    resumes: u64,
}

impl Exchange {
    pub(super) fn new(
        exchange: &ExchangeConfig,
        config: &SequencerConfig,
        (number, upstream_seq): (ExchangeNumber, Seq),
        now: Now,
    ) -> Result<Exchange, ConfigError> {
        let (session_breaker, request_breaker) = breaker_names(&exchange.name);
        // Or the waits of all of them would have the same jitter.
        let seed = config.seed ^ (u64::from(number.get()) << 32);
        Ok(Exchange {
            name: exchange.name.clone(),
            number,
            request_breaker,
            upstream_seq,
            is_place_uncertain: false,
            unplaced: None,
            pulse: Pulse::default(),
            live_since: None,
            request_changes: RequestChanges::default(),
            link: match exchange.address {
                Some(address) => Link::Dialed(Uplink::new(UplinkConfig {
                    breaker_name: session_breaker,
                    address,
                    breaker: &exchange.breaker,
                    seed,
                    on_breaker_open: OnBreakerOpen::Keep,
                    connect_deadline: config.connect_deadline,
                    greeting_deadline: config.request_deadline,
                })?),
                None => Link::Accepted(Accepted::default()),
            },
            heartbeat: config.heartbeat,
            silence_max: config.silence_max,
            request_deadline: config.request_deadline,
            requests: Breaker::new(&exchange.breaker, seed ^ 1)?,
            request: None,
            next_token: 1,
            next_probe: now.mono,
            last_heard: now.mono,
            last_event: None,
            is_incomplete: false,
            head_seq: None,
            has_ended: false,
            has_room: true,
            give_up: None,
            is_other_feed: false,
            duplicates: 0,
            saying: Saying::default(),
            sessions: 0,
            resumes: 0,
        })
    }

    pub(super) fn conn(&self) -> Option<ConnId> {
        self.link.conn()
    }

    /// What it is called.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn number(&self) -> ExchangeNumber {
        self.number
    }

    /// What the symbols of its instruments begin with; `None`: they have no venue.
    pub(super) fn venue(&self) -> Option<&str> {
        (self.number != ExchangeNumber::FIRST).then_some(&*self.name)
    }

    /// The name of the breaker of its requests.
    pub(super) fn request_breaker(&self) -> &str {
        &self.request_breaker
    }

    /// What log lines call its session.
    pub(super) fn session_title(&self) -> String {
        match self.venue() {
            Some(name) => format!("{name}: the exchange session"),
            None => "the exchange session".to_owned(),
        }
    }

    /// What log lines call it.
    pub(super) fn title(&self) -> String {
        match self.venue() {
            Some(name) => format!("the exchange {name}"),
            None => "the exchange".to_owned(),
        }
    }

    pub(super) fn is_streaming(&self) -> bool {
        self.link.ready().is_some()
    }

    /// Whether the last values are known to be current: the session stands, nothing is missing, the
    /// exchange was heard lately, and what it had released before the session began has been taken
    /// in.
    pub(super) fn is_live(&self, now: Now) -> bool {
        let silence = now.mono.since(self.last_heard);
        self.is_streaming()
            && !self.is_incomplete
            && silence <= self.silence_max
            && Some(self.upstream_seq) >= self.head_seq
    }

    /// Connected. The SESSION frame to send says what we have.
    pub(super) fn handle_open(&mut self, now: Now, conn: ConnId, feed: u64) -> Session {
        if let Some(uplink) = self.link.uplink() {
            uplink.handle_open(now, conn);
        }
        self.last_heard = now.mono;
        Session {
            role: Role::Consumer as u8,
            next_seq: Seq::field(Some(self.upstream_seq)),
            feed: U64::new(feed),
            name: padded("core"),
            ..Session::default()
        }
    }

    pub(super) fn handle_dial_failed(&mut self, now: Now, failure: DialFailure) {
        self.is_other_feed = false;
        self.link.handle_dial_failed(now, failure);
    }

    pub(super) fn handle_close(&mut self, now: Now, conn: ConnId, reason: CloseReason) {
        if self.conn() != Some(conn) {
            return;
        }
        self.link.handle_close(now, conn, reason);
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
        self.link.fail(now, Outcome::ProtocolError);
    }

    /// Whether the feed that it offers is one that is taken. Whether another one is refused for the first time.
    pub(super) fn judge_feed(&mut self, now: Now, is_taken: bool) -> bool {
        if !is_taken {
            self.link.fail(now, Outcome::Refused);
        }
        !std::mem::replace(&mut self.is_other_feed, !is_taken) && !is_taken
    }

    pub(super) fn handle_control(&mut self, now: Now, frame: &Frame) -> ExchangeEvent {
        self.last_heard = now.mono;
        match frame.kind() {
            Some(Kind::Session) => self.handle_session(now, frame),
            Some(Kind::Heartbeat) => {
                let Some(beat) = frame.view::<Heartbeat>() else { return ExchangeEvent::Ok };
                let next_seq = beat.next_seq();
                // A heartbeat that wants an answer is the exchange's own question.
                let is_answer = !frame.has(Flags::MORE);
                if is_answer && self.complete_request(now, beat.token.get(), None) {
                    return ExchangeEvent::Resumed { next_seq };
                }
                let is_end = FeedStatus::of(frame.flags.get()) == FeedStatus::Ended;
                ExchangeEvent::At { next_seq, is_end }
            }
            Some(Kind::Error) => self.handle_refusal(now, frame),
            _ => {
                self.handle_protocol_error(now);
                ExchangeEvent::Close("the exchange may not send this")
            }
        }
    }

    fn handle_session(&mut self, now: Now, frame: &Frame) -> ExchangeEvent {
        if self.conn().is_none() {
            return ExchangeEvent::Ok;
        }
        let is_greeting = self.link.uplink().is_some_and(|uplink| uplink.is_greeting());
        let Some(session) = frame.view::<Session>().filter(|_| is_greeting) else {
            self.handle_protocol_error(now);
            return ExchangeEvent::Close("a second SESSION");
        };
        let head_seq = session.durable_seq();
        let is_place = |next: &Seq| *next < Seq::LAST && head_seq.is_none_or(|head| *next <= head);
        let Some(next_seq) = session.next_seq().filter(is_place) else {
            self.handle_protocol_error(now);
            return ExchangeEvent::Close("a SESSION from a place that no feed has");
        };
        if let Some(uplink) = self.link.uplink() {
            uplink.handle_greeted(now);
        }
        self.begin(now, head_seq);
        let is_continued = session.options.get() & Session::CONTINUES != 0;
        let continued = session.epoch_start().filter(|place| is_continued && is_place(place));
        ExchangeEvent::Start { feed: session.feed.get(), next_seq, continued }
    }

    fn begin(&mut self, now: Now, head_seq: Option<Seq>) {
        self.sessions += 1;
        self.next_probe = now.mono + self.heartbeat;
        (self.head_seq, self.has_ended) = (head_seq, false);
    }

    /// A producer was let in, and its feed is this far.
    pub(super) fn accept(
        &mut self,
        now: Now,
        conn: ConnId,
        head_seq: Option<Seq>,
        unplaced: Option<u64>,
    ) {
        if let Some(accepted) = self.link.accepted() {
            accepted.open(conn);
        }
        (self.last_heard, self.unplaced) = (now.mono, unplaced);
        self.begin(now, head_seq);
    }

    /// The producer's connection, if it is one.
    pub(super) fn accepted(&mut self) -> Option<&mut Accepted> {
        self.link.accepted()
    }

    /// Whether it comes by itself.
    pub(super) fn is_producer(&self) -> bool {
        self.link.is_accepted()
    }

    fn handle_refusal(&mut self, now: Now, frame: &Frame) -> ExchangeEvent {
        let Some(refusal) = frame.view::<Refusal>() else { return ExchangeEvent::Ok };
        if refusal.id.get() != 0 {
            self.complete_request(now, refusal.id.get(), Some(Outcome::Refused));
            return ExchangeEvent::Ok;
        }
        self.link.fail(now, Outcome::Refused);
        ExchangeEvent::Close("refused by the exchange")
    }

    /// A request was answered, or failed with this outcome. Whether it was a RESUME.
    fn complete_request(&mut self, now: Now, token: u32, failed: Option<Outcome>) -> bool {
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
    pub(super) fn note_missing(&mut self) {
        self.is_incomplete = true;
    }

    /// The exchange has shown that it is at least this far: before it is taken in, values are old.
    pub(super) fn raise_head(&mut self, next_seq: Seq) {
        self.head_seq = self.head_seq.max(Some(next_seq));
    }

    /// A frame of the market was taken in. Whether it was told to be silent until now.
    #[inline]
    pub(super) fn note_event(&mut self, now: Now) -> Option<SilenceChange> {
        (self.last_event, self.has_ended) = (Some(now.mono), false);
        let change = self.pulse.hear(now.mono, self.live_since);
        if change.is_some() {
            // Until now nothing could be expected of its instruments.
            self.live_since = Some(now.mono);
        }
        change
    }

    /// Since when something can be expected of it.
    pub(super) fn live_since(&self) -> Option<Mono> {
        self.live_since
    }

    /// Takes note of whether something can be expected of it. Whether it is silent for too long now, and that is news.
    pub(super) fn judge_silence(&mut self, now: Now) -> Option<SilenceChange> {
        // While nothing is read, its silence says nothing of it.
        let is_live = self.has_room && self.feed_status(now) == FeedStatus::Current;
        self.live_since = is_live.then(|| self.live_since.unwrap_or(now.mono));
        self.pulse.judge(now.mono, self.live_since?, Judge::OF_EXCHANGES)
    }

    /// Since when something can be expected of its instruments.
    pub(super) fn speaks_since(&self) -> Option<Mono> {
        self.live_since.filter(|_| !self.pulse.is_silent())
    }

    /// The exchange has said whether anything comes behind what core has. Whether that is news of an end.
    pub(super) fn note_end(&mut self, is_end: bool) -> bool {
        let is_news = is_end && !self.has_ended;
        self.has_ended = is_end;
        is_news
    }

    /// What is known of the last values.
    pub(super) fn feed_status(&self, now: Now) -> FeedStatus {
        match self.is_live(now) || self.has_ended && self.link.is_away() {
            true if self.has_ended && !is_planted(Bug::EndNotTold) => FeedStatus::Ended,
            true => FeedStatus::Current,
            false => FeedStatus::Stale,
        }
    }

    /// The exchange said something.
    pub(super) fn note_heard(&mut self, now: Now) {
        self.last_heard = now.mono;
    }

    pub(super) fn handle_timers(&mut self, now: Now) {
        self.link.handle_timers(now);
        self.requests.handle_timeout(now.mono);
        if !self.has_room {
            // Nothing is read: its silence says nothing about the exchange.
            return;
        }
        let deadline = self.request_deadline;
        if let Some(late) = self.request.take_if(|r| now.mono.since(r.since) >= deadline) {
            self.requests.record(late.permit, Outcome::RequestDeadline, now.mono);
            if late.is_resume {
                self.give_up = Some("the exchange did not go back in time");
            }
        }
        // While requests are not permitted a quiet market cannot be distinguished from a dead exchange: then
        // its quotes are stale, but the session is left alone.
        let was_asked = self.requests.state() == State::Closed;
        let silence = now.mono.since(self.last_heard);
        if self.is_streaming() && was_asked && silence > self.silence_max {
            self.link.observe(now, Outcome::RequestDeadline);
            self.give_up = Some("the exchange is silent");
        }
    }

    /// Does what an operator wants, if the breaker is one of these two.
    pub(super) fn operate(&mut self, now: Now, name: &str, action: BreakerAction) -> bool {
        if name == self.request_breaker {
            apply_operator_action(&mut self.requests, action, now);
            return true;
        }
        self.link.operate(now, name, action)
    }

    /// What to do next, until there is nothing. `has_room` says whether the journal takes frames.
    pub(super) fn poll_action(&mut self, now: Now, has_room: bool) -> Option<ExchangeAction> {
        if has_room && !self.has_room {
            // It may have spoken all the time.
            (self.last_heard, self.next_probe) = (now.mono, now.mono);
        }
        self.has_room = has_room;
        if let (Some(why), Some(conn)) = (self.give_up.take(), self.conn()) {
            self.link.abandon();
            return Some(ExchangeAction::Close(conn, why));
        }
        if let Some(close) = self.link.poll_close(now, has_room) {
            return Some(ExchangeAction::Close(close.conn, close.text));
        }
        if !has_room {
            return None;
        }
        if let Some((to, within)) = self.link.poll_dial(now) {
            return Some(ExchangeAction::Dial(to, within));
        }
        let conn = self.link.ready().filter(|_| self.request.is_none())?;
        if self.is_incomplete {
            return self.request_resume(now, conn);
        }
        if now.mono >= self.next_probe {
            return self.request_heartbeat(now, conn);
        }
        None
    }

    fn request_resume(&mut self, now: Now, conn: ConnId) -> Option<ExchangeAction> {
        let Ok(permit) = self.requests.try_acquire(now.mono) else {
            // A new session resumes by sequence too, and is guarded by the other breaker.
            self.link.abandon();
            return Some(ExchangeAction::Close(
                conn,
                "frames are missing, and requests not permitted",
            ));
        };
        self.resumes += 1;
        let token = self.begin_request(now, permit, true);
        let (id, next_seq) = (U32::new(token), Seq::field(Some(self.upstream_seq)));
        Some(ExchangeAction::Send(conn, Frame::seal(Resume { id, next_seq, ..Resume::default() })))
    }

    fn request_heartbeat(&mut self, now: Now, conn: ConnId) -> Option<ExchangeAction> {
        self.next_probe = now.mono + self.heartbeat;
        let permit = self.requests.try_acquire(now.mono).ok()?;
        let token = self.begin_request(now, permit, false);
        let beat = Heartbeat {
            flags: U16::new(Flags::MORE),
            token: U32::new(token),
            sent_at: U64::new(now.wall_ns),
            ..Heartbeat::default()
        };
        Some(ExchangeAction::Send(conn, Frame::seal(beat)))
    }

    fn begin_request(&mut self, now: Now, permit: Permit, is_resume: bool) -> u32 {
        let token = self.next_token;
        self.next_token = self.next_token.wrapping_add(1).max(1);
        self.request = Some(Request { token, permit, since: now.mono, is_resume });
        token
    }

    /// A change of one of its breakers, by name; and whether it is that of the requests.
    pub(super) fn poll_transition(&mut self) -> Option<(String, Transition, bool)> {
        let of_session = self.link.uplink().and_then(|uplink| {
            uplink.poll_transition().map(|(name, it)| (name.to_owned(), it, false))
        });
        let of_requests = || {
            let change = self.requests.poll_transition()?;
            Some((self.request_breaker.clone(), change, true))
        };
        of_session.or_else(of_requests)
    }

    #[cfg(test)]
    pub(super) fn request_token(&self) -> Option<u32> {
        self.request.as_ref().map(|request| request.token)
    }

    pub(super) fn next_deadline(&self) -> Option<Mono> {
        let of_link = self.link.next_deadline(self.has_room);
        let of_breakers = of_link.into_iter().chain(self.requests.next_deadline()).min();
        if !self.has_room {
            return of_breakers;
        }
        let of_stream = self.link.ready().and_then(|_| {
            // One nanosecond later, since silence is given up on when it is *over* its bound.
            let silence = self.last_heard + self.silence_max + Duration::from_nanos(1);
            let silence = (self.requests.state() == State::Closed).then_some(silence);
            let probe = self.request.is_none().then_some(self.next_probe);
            silence.into_iter().chain(probe).min()
        });
        let of_request = self.request.as_ref().map(|request| request.since + self.request_deadline);
        let of_silence =
            self.live_since.and_then(|since| self.pulse.due(since, Judge::OF_EXCHANGES));
        let of_session = [of_stream, of_request, of_breakers];
        of_session.into_iter().chain([of_silence]).flatten().min()
    }
}
