//! A subscriber as a node, around the client library's [`Follower`] only: when to connect and when to give
//! up is its own and quicker than the library's. `library` is the one around the whole machine.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use pregao::client::{Follower, NextRead, Request};
use pregao::feed::Pattern;
use pregao::limits;
use pregao::node::{
    Action, CloseReason, ConnId, Connections, DialFailure, DialId, LocalFault, Node, Origin,
    Outgoing,
};
use pregao::random::Random;
use pregao::time::{Mono, Now};
use pregao::wire::{Ended, Frame, Gap, Heartbeat, Kind, Mode, Refusal, Role, Seq, Session};

use crate::delivered::Delivered;
use crate::querier::is_a_client_with;

const BROKER: DialId = DialId(0);
const CORE: DialId = DialId(1);
const RETRY: Duration = Duration::from_millis(100);

#[derive(Clone, Debug)]
pub(crate) struct ClientConfig {
    pub(crate) broker: SocketAddr,
    pub(crate) core: SocketAddr,
    /// Pattern and kind mask.
    pub(crate) patterns: Vec<(&'static str, u16)>,
    pub(crate) from_seq: u64,
    pub(crate) mode: Mode,
    pub(crate) conflate_ms: u32,
    pub(crate) habit: Habit,
    /// From here on it behaves.
    pub(crate) calm_at: Mono,
    pub(crate) seed: u64,
    /// Of the client library's machine only: it folds bars of so many seconds; none with 0.
    pub(crate) bar_seconds: u32,
}

impl ClientConfig {
    /// A subscriber that behaves.
    pub(crate) fn good(patterns: Vec<(&'static str, u16)>, from_seq: u64) -> ClientConfig {
        ClientConfig {
            broker: crate::road::address(8081),
            core: crate::road::address(8082),
            patterns,
            from_seq,
            mode: Mode::Lossless,
            conflate_ms: 0,
            habit: Habit::Good,
            calm_at: Mono::default(),
            seed: 0,
            bar_seconds: 0,
        }
    }

    /// What it subscribes to.
    pub(crate) fn request(&self) -> Request {
        let pattern = |&(text, kinds): &(&str, u16)| Pattern::new(text, kinds).unwrap();
        Request {
            source: Request::MARKET,
            patterns: self.patterns.iter().map(pattern).collect(),
            mode: self.mode,
            conflate_ms: self.conflate_ms,
            from_seq: Seq::new(self.from_seq),
        }
    }

    /// When it reads again, after having read; `None` = whenever there is something.
    pub(crate) fn deaf_until(&self, now: Now, random: &mut Random) -> Option<Mono> {
        if now.mono >= self.calm_at {
            return None;
        }
        let until = match self.habit {
            Habit::Slow => now.mono + Duration::from_millis(random.between(1, 250)),
            Habit::Stalled(from) if now.mono >= from => self.calm_at,
            _ => return None,
        };
        Some(until.min(self.calm_at))
    }

    /// When it hangs up next, if it is of that kind.
    pub(crate) fn next_flap(&self, now: Now, random: &mut Random) -> Option<Mono> {
        let flaps = self.habit == Habit::Flapping && now.mono < self.calm_at;
        flaps.then(|| now.mono + Duration::from_millis(random.between(20, 900)))
    }
}

/// How a subscriber reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Habit {
    Good,
    /// A little, now and then.
    Slow,
    /// Not at all after this, until it is calm.
    Stalled(Mono),
    /// Hangs up now and then.
    Flapping,
}

/// What the broker says to who wants to go on with another sequence.
pub(crate) const FOREIGN: &str = "another sequence";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    Idle(Mono),
    Dialing,
    Open(ConnId),
}

/// The subscriber.
pub(crate) struct Client {
    config: ClientConfig,
    follower: Follower,
    connections: Connections<()>,
    broker: Line,
    core: Line,
    /// Frames of the broker that wait until history has been read.
    pending: VecDeque<Frame>,
    pub(crate) delivered: Delivered,
    random: Random,
    /// Reads nothing before this.
    deaf_until: Option<Mono>,
    next_flap: Option<Mono>,
    broker_heard: Mono,
    history_heard: Mono,
}

impl Client {
    pub(crate) fn new(config: ClientConfig) -> Client {
        let follower = Follower::new(config.request());
        let mut random = Random::new(config.seed);
        let flaps = config.habit == Habit::Flapping;
        Client {
            next_flap: flaps.then(|| Mono(random.between(1, 1_000_000_000))),
            random,
            deaf_until: None,
            broker_heard: Mono::default(),
            history_heard: Mono::default(),
            delivered: Delivered::new(config.clone()),
            config,
            follower,
            connections: Connections::default(),
            broker: Line::Idle(Mono::default()),
            core: Line::Idle(Mono::default()),
            pending: VecDeque::new(),
        }
    }

    fn note(&mut self) {
        while let Some(event) = self.follower.poll_event() {
            self.delivered.note(&event);
        }
        self.delivered.next_seq = Seq::number(self.follower.next_seq());
    }

    /// Decides when to read again, after having read.
    fn listen_again(&mut self, now: Now) {
        self.deaf_until = self.config.deaf_until(now, &mut self.random);
    }

    fn broker_is_open(&self) -> bool {
        matches!(self.broker, Line::Open(_))
    }

    fn wants_history(&self) -> bool {
        matches!(self.follower.next_read(), NextRead::History { .. })
    }

    fn drain(&mut self, now: Now) {
        while !self.wants_history() {
            let Some(frame) = self.pending.pop_front() else { return };
            self.follower.handle_broker_frame(&frame);
            self.note();
            if self.follower.must_subscribe_again() {
                self.lose_broker(now);
            }
        }
    }

    fn lose_broker(&mut self, now: Now) {
        for line in [&mut self.broker, &mut self.core] {
            if let Line::Open(conn) = *line {
                self.connections.close_after_flush(conn);
                *line = Line::Idle(now.mono + RETRY);
            }
        }
        self.pending.clear();
        self.follower.handle_broker_lost();
        self.note();
    }

    /// What it has is no part of the sequence that there is: it lets go of all of it.
    fn begin_again(&mut self, now: Now) {
        self.lose_broker(now);
        self.follower = Follower::new(self.config.request());
        let refusals = std::mem::take(&mut self.delivered.refusals);
        self.delivered = Delivered { refusals, ..Delivered::new(self.config.clone()) };
    }

    fn hang_up_core(&mut self, now: Now, wait: Duration) {
        if let Line::Open(conn) = self.core {
            self.connections.close_after_flush(conn);
            self.core = Line::Idle(now.mono + wait);
        }
    }

    fn handle_core_frame(&mut self, now: Now, frame: &Frame) {
        if let Some(session) = frame.view::<Session>() {
            let (epoch, start) = (session.epoch.get(), Seq::from_field(session.epoch_start));
            self.follower.handle_history_session(epoch, start);
            if self.follower.must_subscribe_again() {
                self.lose_broker(now);
            }
        } else if let Some(end) = frame.view::<Ended>() {
            self.follower.handle_history_end(end);
            self.note();
            self.hang_up_core(now, Duration::ZERO);
            if self.follower.must_subscribe_again() {
                self.lose_broker(now);
            }
        } else if let Some(refusal) = frame.view::<Refusal>() {
            self.delivered.refusals.push(pregao::wire::unpadded(&refusal.text));
            self.hang_up_core(now, RETRY);
        } else if frame.kind().is_some_and(Kind::is_data) {
            self.follower.handle_history_frame(frame);
            self.note();
        } else if let Some(gap) = frame.view::<Gap>() {
            self.follower.handle_history_gap(gap);
            self.note();
        }
    }

    fn greet(&mut self, now: Now, conn: ConnId, role: Role) {
        self.connections.insert_dialed(now, conn);
        self.connections.dialed(conn, ());
        let (feed, epoch) = self.follower.epoch();
        let (role, feed, epoch) = (role as u8, feed.into(), epoch.into());
        let next_seq = Seq::field(self.follower.expected_seq());
        self.connections.send(conn, Session { role, feed, epoch, next_seq, ..Session::default() });
    }
}

impl Client {
    fn handle_frames(&mut self, now: Now, conn: ConnId, frames: &[Frame]) {
        self.connections.heard(now, conn);
        for frame in frames {
            assert_eq!(frame.check(), Ok(()), "a node sent a bad frame");
            if let Some(beat) = frame.view::<Heartbeat>() {
                let beat = *beat;
                self.connections.answer_heartbeat(now, conn, &beat, None);
            }
            if self.broker == Line::Open(conn) {
                self.broker_heard = now.mono;
                if let Some(refusal) = frame.view::<Refusal>() {
                    let text = pregao::wire::unpadded(&refusal.text);
                    self.delivered.refusals.push(text.clone());
                    if text.contains(FOREIGN) {
                        self.begin_again(now);
                        return;
                    }
                }
                self.pending.push_back(*frame);
                self.drain(now);
            } else if self.core == Line::Open(conn) {
                self.history_heard = now.mono;
                self.handle_core_frame(now, frame);
                self.drain(now);
            }
        }
        self.listen_again(now);
    }
}

impl Node for Client {
    fn handle_open(&mut self, now: Now, conn: ConnId, origin: Origin) {
        if origin == Origin::Dialed(BROKER) {
            self.broker = Line::Open(conn);
            self.broker_heard = now.mono;
            self.greet(now, conn, Role::Subscriber);
            let NextRead::Broker { from_seq } = self.follower.next_read() else {
                panic!("dialed too soon")
            };
            for frame in self.follower.subscribe_frames(from_seq) {
                self.connections.send(conn, frame);
            }
        } else {
            self.core = Line::Open(conn);
            self.history_heard = now.mono;
            self.greet(now, conn, Role::Querier);
            if let NextRead::History { from_seq, to_seq } = self.follower.next_read() {
                let query = self.follower.history_query(from_seq, to_seq, u32::MAX);
                self.connections.send(conn, query);
            } else {
                self.hang_up_core(now, RETRY);
            }
        }
    }

    fn handle_dial_failed(&mut self, now: Now, dial: DialId, _failure: DialFailure) {
        let line = if dial == BROKER { &mut self.broker } else { &mut self.core };
        *line = Line::Idle(now.mono + RETRY);
        if dial == CORE {
            self.follower.handle_history_lost();
            self.note();
        }
    }

    fn handle_close(&mut self, now: Now, conn: ConnId, _reason: CloseReason) {
        self.connections.remove(conn);
        if self.broker == Line::Open(conn) {
            // What arrived before the end is still read.
            self.drain(now);
            if self.broker == Line::Open(conn) {
                self.broker = Line::Idle(now.mono + RETRY);
                self.lose_broker(now);
            }
        } else if self.core == Line::Open(conn) {
            self.follower.handle_history_lost();
            self.note();
            self.core = Line::Idle(now.mono + RETRY);
        }
    }

    fn handle_timers(&mut self, now: Now) {
        if self.deaf_until.take_if(|until| *until <= now.mono).is_some() {
            // What has waited in the kernel is not its silence.
            self.broker_heard = now.mono;
            self.history_heard = now.mono;
            for line in [self.broker, self.core] {
                if let Line::Open(conn) = line {
                    self.connections.heard(now, conn);
                }
            }
        }
        if self.next_flap.is_some_and(|at| at <= now.mono) {
            self.next_flap = self.config.next_flap(now, &mut self.random);
            self.lose_broker(now);
        }
        if self.deaf_until.is_none() {
            let silence = now.mono.since(self.broker_heard);
            if self.broker_is_open() && !self.wants_history() && silence > limits::SILENCE_MAX {
                self.lose_broker(now);
            }
            let silence = now.mono.since(self.history_heard);
            if matches!(self.core, Line::Open(_)) && silence > limits::SILENCE_MAX {
                self.hang_up_core(now, RETRY);
            }
        }
        if self.deaf_until.is_none() {
            self.connections.tick(now, |()| None);
        }
        self.drain(now);
        let within = Duration::from_secs(2);
        if matches!(self.broker, Line::Idle(at) if at <= now.mono) && !self.wants_history() {
            self.broker = Line::Dialing;
            self.connections.dial(BROKER, self.config.broker, within);
        }
        if matches!(self.core, Line::Idle(at) if at <= now.mono) && self.wants_history() {
            self.core = Line::Dialing;
            self.connections.dial(CORE, self.config.core, within);
        }
    }

    fn next_deadline(&self) -> Option<Mono> {
        let broker = match self.broker {
            Line::Idle(at) if !self.wants_history() => Some(at),
            _ => None,
        };
        let core = match self.core {
            Line::Idle(at) if self.wants_history() => Some(at),
            _ => None,
        };
        let tick = self.connections.next_tick().filter(|_| self.deaf_until.is_none());
        [broker, core, self.deaf_until, self.next_flap, tick].into_iter().flatten().min()
    }

    is_a_client_with!(connections);

    /// While history is read the broker is not, and so learns what back-pressure is.
    fn wants_bytes(&self, conn: ConnId) -> bool {
        let waits = self.broker == Line::Open(conn) && self.wants_history();
        !waits && self.deaf_until.is_none()
    }
}
