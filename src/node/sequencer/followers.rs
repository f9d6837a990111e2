//! The nodes that follow the journal: the broker gets all of it, each shard its own part, each at its
//! own pace from its own place. Because they read the journal and not a queue, one that was away asks
//! for what it missed and nothing had to be kept for it.

mod catching;

use std::net::SocketAddr;
use std::time::Duration;

pub(super) use catching::first_seq_from;

use super::market::Market;
use super::{ConnId, DialFailure, DialId, FollowerConfig, MARKET_SOURCE, SequencerConfig};
use crate::breaker::{Breaker, ConfigError, Outcome, Permit, State, Transition};
use crate::limits;
use crate::log::{Log, Mark, Read, Storage, is_event};
use crate::node::status::Status;
use crate::node::{breaker_outcome, describe_breaker, obey_operator};
use crate::time::{Mono, Now};
use crate::wire::{
    Ack, BreakerAction, Flags, Frame, Heartbeat, Kind, Role, Session, U16, U32, U64, padded,
};

#[derive(Debug)]
enum Phase {
    Idle {
        not_before: Mono,
    },
    Dialing {
        permit: Permit,
        since: Mono,
    },
    Greeting {
        permit: Permit,
        since: Mono,
        conn: ConnId,
    },
    /// An empty broker, or one that wants what the journal no longer has or what rotted in it, first gets every
    /// definition and last value, from this index on. Then the stream begins at `wanted_seq`, or (0) near its end.
    Snapshot {
        conn: ConnId,
        next_index: u32,
        wanted_seq: u64,
    },
    /// A shard that wants what the journal no longer has first gets the definitions of its
    /// instruments, from this index on, and then the word that its history begins later.
    Catching {
        conn: ConnId,
        next_index: u32,
        wanted_seq: u64,
    },
    /// A shard comes to what rotted in the journal: it gets the definitions that stood there, from this
    /// index on, and then the word that the rest is lost.
    Passing {
        conn: ConnId,
        next_index: u32,
        hole: Hole,
    },
    Streaming {
        conn: ConnId,
        position: u64,
    },
    Closing {
        conn: ConnId,
    },
}

/// Frames that the journal had and has no more.
#[derive(Clone, Copy, Debug)]
struct Hole {
    from_seq: u64,
    to_seq: u64,
    /// Where the stream goes on.
    position: u64,
}

#[derive(Debug)]
struct Follower {
    config: FollowerConfig,
    breaker_name: String,
    breaker: Breaker,
    phase: Phase,
    /// The next `seq` that its stream will bring it, as it was last told.
    told_seq: u64,
    /// The next `seq` that `Streaming` has passed.
    passed_seq: u64,
    /// The journal's next `seq` when it was last begun to be given definitions and last values: it knows
    /// what came before. 0: it has been given none on this connection.
    stated_seq: u64,
    accepted_seq: u64,
    durable_seq: u64,
    next_word: Mono,
    /// Whether it was last told that the last values are current; only a broker is told.
    told_live: Option<bool>,
}

/// All of them.
#[derive(Debug)]
pub(super) struct Followers {
    all: Vec<Follower>,
    connect_deadline: Duration,
    request_deadline: Duration,
    warmup_frames: u64,
}

impl Followers {
    pub(super) fn new(config: &SequencerConfig) -> Result<Followers, ConfigError> {
        let follower = |(index, follower): (usize, &FollowerConfig)| {
            Ok(Follower {
                config: follower.clone(),
                breaker_name: format!("core.{}", follower.name),
                breaker: Breaker::new(&config.breaker, config.seed ^ (index as u64 + 2))?,
                phase: Phase::Idle { not_before: Mono::default() },
                told_seq: 0,
                passed_seq: 0,
                stated_seq: 0,
                accepted_seq: 0,
                durable_seq: 0,
                next_word: Mono::default(),
                told_live: None,
            })
        };
        Ok(Followers {
            all: config.followers.iter().enumerate().map(follower).collect::<Result<_, _>>()?,
            connect_deadline: config.connect_deadline,
            request_deadline: config.request_deadline,
            warmup_frames: config.broker_warmup_frames,
        })
    }

    pub(super) fn index_of(&self, dial: DialId) -> Option<usize> {
        let index = (dial.0 as usize).checked_sub(1)?;
        (index < self.all.len()).then_some(index)
    }

    pub(super) fn name(&self, index: usize) -> &str {
        self.all.get(index).map_or("?", |follower| &follower.config.name)
    }

    /// Whom to dial now.
    pub(super) fn dials_due(&mut self, now: Now) -> Vec<(DialId, SocketAddr, Duration)> {
        let within = self.connect_deadline;
        let due = |(number, follower): (u32, &mut Follower)| {
            let Phase::Idle { not_before } = follower.phase else { return None };
            if now.mono < not_before {
                return None;
            }
            let permit = follower.breaker.try_acquire(now.mono).ok()?;
            follower.phase = Phase::Dialing { permit, since: now.mono };
            Some((DialId(number), follower.config.address, within))
        };
        (1..).zip(&mut self.all).filter_map(due).collect()
    }

    /// Connected: what to say first.
    pub(super) fn handle_open<S: Storage>(
        &mut self,
        _now: Now,
        index: usize,
        conn: ConnId,
        journal: &Log<S>,
    ) -> Session {
        let mut role = Role::Publisher;
        if let Some(follower) = self.all.get_mut(index) {
            if follower.config.shard.is_some() {
                role = Role::Feeder;
            }
            let phase = std::mem::replace(&mut follower.phase, Phase::Closing { conn });
            if let Phase::Dialing { permit, since } = phase {
                follower.phase = Phase::Greeting { permit, since, conn };
            }
        }
        introduction(role, journal)
    }

    pub(super) fn handle_dial_failed(&mut self, now: Now, index: usize, failure: DialFailure) {
        let Some(follower) = self.all.get_mut(index) else { return };
        let idle = Phase::Idle { not_before: now.mono + limits::REDIAL_MIN };
        if let Phase::Dialing { permit, .. } = std::mem::replace(&mut follower.phase, idle) {
            follower.breaker.record(permit, breaker_outcome(failure), now.mono);
        }
    }

    pub(super) fn handle_close(&mut self, now: Now, index: usize, conn: ConnId) {
        let Some(follower) = self.all.get_mut(index) else { return };
        if follower.conn() != Some(conn) {
            return;
        }
        let idle = Phase::Idle { not_before: now.mono + limits::REDIAL_MIN };
        match std::mem::replace(&mut follower.phase, idle) {
            Phase::Greeting { permit, .. } => {
                follower.breaker.record(permit, Outcome::Reset, now.mono);
            }
            Phase::Snapshot { .. }
            | Phase::Catching { .. }
            | Phase::Passing { .. }
            | Phase::Streaming { .. } => {
                follower.breaker.observe(Outcome::Reset, now.mono);
            }
            _ => {}
        }
    }

    /// A frame of a follower; the answer, if it needs one. An error is a reason to close.
    pub(super) fn handle_frame<S: Storage>(
        &mut self,
        now: Now,
        index: usize,
        frame: &Frame,
        journal: &Log<S>,
        market: &Market,
    ) -> Result<Option<Session>, &'static str> {
        let Some(follower) = self.all.get_mut(index) else { return Ok(None) };
        match frame.kind() {
            Some(Kind::Session) => match frame.view::<Session>() {
                Some(session) if follower.has_missed_epochs(session, journal) => {
                    let epoch_start = U64::new(market.void_from(session.epoch.get()));
                    Ok(Some(Session { epoch_start, ..introduction(Role::Feeder, journal) }))
                }
                Some(session) => follower.begin(now, session, journal).map(|()| None),
                None => Ok(None),
            },
            Some(Kind::Ack) => {
                if let Some(ack) = frame.view::<Ack>()
                    && ack.epoch.get() == journal.epoch()
                {
                    follower.accepted_seq = ack.accepted_seq.get();
                    follower.durable_seq = ack.durable_seq.get();
                }
                Ok(None)
            }
            Some(Kind::Heartbeat) => Ok(None),
            Some(Kind::Error) => Err("the follower refused"),
            _ => Err("a follower may not send this"),
        }
    }

    /// Connections to which frames are streamed.
    pub(super) fn streaming(&self) -> impl Iterator<Item = ConnId> {
        self.all.iter().filter_map(|follower| match follower.phase {
            Phase::Streaming { conn, .. }
            | Phase::Snapshot { conn, .. }
            | Phase::Passing { conn, .. }
            | Phase::Catching { conn, .. } => Some(conn),
            _ => None,
        })
    }

    /// Gathers the next frames of a follower from the journal.
    pub(super) fn fill<S: Storage>(
        &mut self,
        index: usize,
        journal: &Log<S>,
        market: &Market,
        out: &mut Vec<Frame>,
    ) {
        let warmup = self.warmup_frames;
        let Some(follower) = self.all.get_mut(index) else { return };
        follower.note_overtaken(journal);
        if let Phase::Catching { conn, next_index, wanted_seq } = follower.phase {
            follower.fill_definitions(conn, next_index, wanted_seq, journal, market, out);
        }
        if let Phase::Streaming { conn, position } = follower.phase
            && out.is_empty()
        {
            follower.phase = match follower.fill_frames(position, journal, market, out) {
                Ok(position) => Phase::Streaming { conn, position },
                Err(hole) => follower.at_hole(conn, hole),
            };
        }
        if let Phase::Snapshot { conn, next_index, wanted_seq } = follower.phase {
            let place = (next_index, wanted_seq);
            follower.fill_snapshot(conn, place, warmup, journal, market, out);
        }
        if let Phase::Passing { conn, next_index, hole } = follower.phase {
            follower.fill_hole(conn, next_index, hole, market, out);
        }
    }

    /// Whether a follower has more of the journal before it.
    pub(super) fn is_behind<S: Storage>(&self, index: usize, journal: &Log<S>) -> bool {
        let phase = self.all.get(index).map(|follower| &follower.phase);
        matches!(phase, Some(Phase::Streaming { position, .. })
            if *position < journal.committed_position())
    }

    /// Once a second a follower is told how far its stream has come, when that is news: a shard that
    /// owns nothing of what happened would otherwise ask for all of it again after a restart.
    pub(super) fn words_due<S: Storage>(
        &mut self,
        now: Now,
        journal: &Log<S>,
        is_live: bool,
    ) -> Vec<(ConnId, Frame)> {
        let stale = U16::new(if is_live { 0 } else { Flags::STALE });
        let word = |follower: &mut Follower| {
            // A broker hands last values out: it must know at once whether they are current.
            let (Phase::Streaming { conn, .. } | Phase::Snapshot { conn, .. }) = follower.phase
            else {
                follower.told_live = None;
                return None;
            };
            // Stale at once; live only when it has been sent all that makes it so.
            let has_all = journal.committed_seq() == journal.next_seq()
                && matches!(follower.phase, Phase::Streaming { position, .. }
                    if position == journal.committed_position());
            let is_news = follower.config.shard.is_none()
                && follower.told_live != Some(is_live)
                && (has_all || !is_live);
            if is_news {
                follower.told_live = Some(is_live);
                return Some((
                    conn,
                    Frame::seal(Heartbeat { flags: stale, ..Heartbeat::default() }),
                ));
            }
            let Phase::Streaming { position, .. } = follower.phase else { return None };
            if now.mono < follower.next_word {
                return None;
            }
            follower.next_word = now.mono + limits::WORD_EVERY;
            if position == journal.committed_position() {
                // What is appended in this turn has not been streamed: it is not committed yet.
                follower.passed_seq = journal.committed_seq();
            }
            if follower.told_seq >= follower.passed_seq {
                return None;
            }
            follower.told_seq = follower.passed_seq;
            let next_seq = U64::new(follower.passed_seq);
            let sent_at = U64::new(now.wall_ns);
            let stale = U16::new(if follower.told_live == Some(true) { 0 } else { Flags::STALE });
            let word = Heartbeat { flags: stale, next_seq, sent_at, ..Heartbeat::default() };
            Some((conn, Frame::seal(word)))
        };
        self.all.iter_mut().filter_map(word).collect()
    }

    /// What a follower that hands last values out was last told of them.
    pub(super) fn told_live(&self, index: usize) -> Option<bool> {
        let follower = self.all.get(index).filter(|follower| follower.config.shard.is_none())?;
        follower.told_live
    }

    /// Followers that did not answer our SESSION in time.
    pub(super) fn overdue(&mut self, now: Now) -> Vec<ConnId> {
        let patience = self.connect_deadline + self.request_deadline;
        let overdue = |follower: &mut Follower| {
            let Phase::Greeting { since, conn, .. } = follower.phase else { return None };
            if now.mono.since(since) < patience {
                return None;
            }
            let closing = Phase::Closing { conn };
            if let Phase::Greeting { permit, .. } = std::mem::replace(&mut follower.phase, closing)
            {
                follower.breaker.record(permit, Outcome::RequestDeadline, now.mono);
            }
            Some(conn)
        };
        self.all.iter_mut().filter_map(overdue).collect()
    }

    /// Does what an operator wants, if the breaker is one of these.
    pub(super) fn obey(&mut self, now: Now, name: &str, action: BreakerAction) -> bool {
        let named = self.all.iter_mut().find(|follower| follower.breaker_name == name);
        if let Some(follower) = named {
            obey_operator(&mut follower.breaker, action, now);
            return true;
        }
        false
    }

    /// Standing connections whose breaker an operator forced open: they are to be closed.
    pub(super) fn forced_out(&mut self) -> Vec<ConnId> {
        let forced = |follower: &mut Follower| {
            let conn = follower.conn()?;
            let is_closing = matches!(follower.phase, Phase::Closing { .. });
            if is_closing || follower.breaker.state() != State::ForcedOpen {
                return None;
            }
            follower.phase = Phase::Closing { conn };
            Some(conn)
        };
        self.all.iter_mut().filter_map(forced).collect()
    }

    pub(super) fn handle_timers(&mut self, now: Now) {
        for follower in &mut self.all {
            follower.breaker.handle_timeout(now.mono);
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Mono> {
        let patience = self.connect_deadline + self.request_deadline;
        let of = |follower: &Follower| {
            let of_phase = match follower.phase {
                Phase::Idle { not_before } => {
                    let waits = matches!(follower.breaker.state(), State::Open | State::ForcedOpen);
                    if waits { None } else { Some(not_before) }
                }
                Phase::Greeting { since, .. } => Some(since + patience),
                Phase::Streaming { .. } if follower.told_seq < follower.passed_seq => {
                    Some(follower.next_word)
                }
                _ => None,
            };
            of_phase.into_iter().chain(follower.breaker.next_deadline()).min()
        };
        self.all.iter().filter_map(of).min()
    }

    pub(super) fn poll_transition(&mut self) -> Option<(String, Transition)> {
        self.all.iter_mut().find_map(|follower| {
            let change = follower.breaker.poll_transition()?;
            Some((follower.breaker_name.clone(), change))
        })
    }

    pub(super) fn describe(&self, now: Now, status: &mut Status) {
        for follower in &self.all {
            let name = &follower.config.name;
            let phase = match follower.phase {
                Phase::Idle { .. } => "waiting",
                Phase::Dialing { .. } => "dialing",
                Phase::Greeting { .. } => "greeting",
                Phase::Snapshot { .. } => "snapshot",
                Phase::Catching { .. } | Phase::Passing { .. } => "catching up",
                Phase::Streaming { .. } => "streaming",
                Phase::Closing { .. } => "closing",
            };
            status.text(name.clone(), phase);
            status.metric(format!("{name}.accepted_seq"), follower.accepted_seq);
            status.metric(format!("{name}.durable_seq"), follower.durable_seq);
            describe_breaker(&follower.breaker_name, &follower.breaker, now, status);
        }
    }
}

impl Follower {
    fn conn(&self) -> Option<ConnId> {
        match self.phase {
            Phase::Greeting { conn, .. }
            | Phase::Snapshot { conn, .. }
            | Phase::Catching { conn, .. }
            | Phase::Passing { conn, .. }
            | Phase::Streaming { conn, .. }
            | Phase::Closing { conn } => Some(conn),
            _ => None,
        }
    }

    /// It has answered our SESSION: it says what it wants next.
    fn begin<S: Storage>(
        &mut self,
        now: Now,
        session: &Session,
        journal: &Log<S>,
    ) -> Result<(), &'static str> {
        let Some(conn) = self.conn() else { return Ok(()) };
        let phase = std::mem::replace(&mut self.phase, Phase::Closing { conn });
        let Phase::Greeting { permit, since, .. } = phase else {
            return Err("a second SESSION");
        };
        let latency = now.mono.since(since);
        let wanted = session.next_seq.get();
        if wanted > journal.next_seq() {
            self.breaker.record(permit, Outcome::ProtocolError, now.mono);
            return Err("it holds frames that this journal never had");
        }
        self.breaker.record(permit, Outcome::Answered { latency }, now.mono);
        self.told_seq = 0;
        self.passed_seq = wanted.max(1);
        self.stated_seq = 0;
        self.next_word = now.mono;
        // What it said before counts no more: its directory may be another one since.
        self.accepted_seq = wanted;
        self.durable_seq = session.durable_seq.get().min(wanted);
        let first_seq = journal.first_seq().unwrap_or(0);
        self.phase = if wanted == 0 {
            Phase::Snapshot { conn, next_index: 0, wanted_seq: 0 }
        } else if self.must_have_snapshot(wanted, first_seq) {
            Phase::Snapshot { conn, next_index: 0, wanted_seq: wanted }
        } else if wanted < first_seq && self.config.shard.is_some() {
            Phase::Catching { conn, next_index: 0, wanted_seq: wanted }
        } else {
            Phase::Streaming { conn, position: journal.position_of_seq(wanted) }
        };
        Ok(())
    }

    fn fill_snapshot<S: Storage>(
        &mut self,
        conn: ConnId,
        (mut next_index, wanted_seq): (u32, u64),
        warmup: u64,
        journal: &Log<S>,
        market: &Market,
        out: &mut Vec<Frame>,
    ) {
        let values = market.values();
        let end = u32::try_from(values.index_end()).unwrap_or(u32::MAX);
        if next_index == 0 {
            self.stated_seq = journal.next_seq();
        }
        while next_index < end {
            if out.len() >= limits::FILL_FRAMES_MAX {
                self.phase = Phase::Snapshot { conn, next_index, wanted_seq };
                return;
            }
            out.extend(values.known(next_index).into_iter().flatten().map(|frame| {
                let is_definition = frame.kind == Kind::Definition as u8;
                let is_doubtful = frame.seq.get() < market.doubtful_below() && !is_definition;
                let doubt = if is_doubtful { Flags::STALE } else { 0 };
                frame.delivered(Flags::SNAPSHOT | doubt)
            }));
            next_index += 1;
        }
        let start = match wanted_seq {
            0 => journal.next_seq().saturating_sub(warmup).max(1),
            wanted_seq => wanted_seq,
        };
        let position = journal.position_of_seq(start);
        let start = first_seq_from(journal, position).unwrap_or(journal.next_seq());
        self.told_seq = start;
        self.passed_seq = start;
        let next_seq = U64::new(start);
        let stale = if self.told_live == Some(true) { 0 } else { Flags::STALE };
        let start = Heartbeat { flags: U16::new(stale), next_seq, ..Heartbeat::default() };
        out.push(Frame::seal(start));
        self.phase = Phase::Streaming { conn, position };
    }

    /// Returns the position behind what was looked at, or what is lost right behind what it gathered.
    fn fill_frames<S: Storage>(
        &mut self,
        mut position: u64,
        journal: &Log<S>,
        market: &Market,
        out: &mut Vec<Frame>,
    ) -> Result<u64, Hole> {
        let mut looked = 0;
        while out.len() < limits::FILL_FRAMES_MAX && looked < limits::RECORDS_PER_FILL_MAX {
            let frames = match journal.read(position, limits::FILL_FRAMES_MAX - out.len()) {
                Read::End => break,
                Read::Damaged(range) => {
                    looked += 1;
                    position = range.end;
                    continue;
                }
                Read::Frames(frames) => frames,
            };
            looked += frames.len();
            let void_from = journal.void_from(position);
            for (frame, position) in frames.iter().zip(position..) {
                let mark = frame.view::<Mark>();
                if let Some(hole) = self.hole_before(frame, mark, position) {
                    return Err(hole);
                }
                if !is_event(frame) || frame.seq.get() >= void_from {
                    continue;
                }
                self.passed_seq = self.passed_seq.max(frame.seq.get().saturating_add(1));
                let is_theirs = match self.config.shard {
                    None => true,
                    shard => market.owner(frame.instrument.get()) == shard,
                };
                if is_theirs {
                    out.push(*frame);
                }
            }
            position += frames.len() as u64;
        }
        Ok(position)
    }
}

/// Core's first word to a follower.
fn introduction<S: Storage>(role: Role, journal: &Log<S>) -> Session {
    Session {
        role: role as u8,
        source: MARKET_SOURCE,
        epoch: U32::new(journal.epoch()),
        epoch_start: U64::new(journal.epoch_start()),
        next_seq: U64::new(journal.next_seq()),
        name: padded("core"),
        ..Session::default()
    }
}
