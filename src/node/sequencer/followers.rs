//! The nodes that follow the journal: the broker gets all of it, each shard its own part, each at its
//! own pace from its own place. Because they read the journal and not a queue, one that was away asks
//! for what it missed and nothing had to be kept for it.
//!
//! # Decisions
//!
//! * What a follower says of itself is bounded by what it was sent, or anybody who listens on a shard's port could make
//!   core remove what the shard lacks. An ACK counts as far as the stream has come on its connection; one
//!   beyond that is refused. A shard's SESSION may not go beyond what this process has sent it, or what the journal
//!   had when this process opened it.
//! * Somebody who listens in a shard's place, reads its stream, and acknowledges that, is not distinguished from the shard.
//!   That takes an identity.
//! * What a shard calls durable in its SESSION, beyond the frames that it holds, lets core skip nothing that the shard
//!   owns. Where the journal was trimmed meanwhile, the shard had said that it needs none of that.

mod catch_up;
mod claims;
mod continuity;
mod heartbeats;

use std::net::SocketAddr;
use std::time::Duration;

pub(super) use catch_up::first_seq_from;
use continuity::{Continuity, Foreign};

use super::market::Market;
use super::{ConnId, DialFailure, DialId, FollowerConfig, MARKET_SOURCE, SequencerConfig};
use crate::breaker::{ConfigError, Outcome, Transition};
use crate::limits;
use crate::log::{Log, Mark, Read, Storage, is_event};
use crate::node::CloseReason;
use crate::node::session::Status;
use crate::node::uplink::{OnBreakerOpen, Uplink, UplinkClose, UplinkConfig, UplinkEnd};
use crate::planted::{Bug, is_planted};
use crate::time::{Mono, Now};
use crate::wire::{
    Ack, BreakerAction, FeedStates, Flags, Frame, Heartbeat, InstrumentIndex, Kind, Role, Seq,
    Session, U32, U64, padded,
};

/// What a follower is sent, once its connection is ready.
#[derive(Debug)]
enum Stream {
    /// Nothing: it has not said what it wants.
    None,
    /// An empty broker, or one that wants what the journal no longer has or what rotted in it, first gets every
    /// definition and last value, from this index on. Then the stream begins at `wanted_seq`, or (`None`) near its
    /// end.
    Snapshot { next_index: InstrumentIndex, wanted_seq: Option<Seq> },
    /// A shard that wants what the journal no longer has first gets the definitions of its
    /// instruments, from this index on, and then a GAP: its history begins later.
    CatchingUp { next_index: InstrumentIndex, wanted_seq: Seq },
    /// A shard comes to what rotted in the journal: it gets the definitions that stood there, from this
    /// index on, and then a GAP of the rest.
    PassingHole { next_index: InstrumentIndex, hole: Hole },
    /// The journal, from this position on.
    Frames { position: u64 },
}

/// Frames that the journal had and has no more.
#[derive(Clone, Copy, Debug)]
struct Hole {
    from_seq: Seq,
    to_seq: Seq,
    /// Where the stream goes on.
    position: u64,
}

#[derive(Debug)]
struct Follower {
    config: FollowerConfig,
    uplink: Uplink,
    stream: Stream,
    /// The next `seq` that its stream will bring it, as it was last announced.
    announced_seq: Option<Seq>,
    /// The next `seq` that the stream has passed.
    passed_seq: Seq,
    /// The journal's next `seq` when it was last begun to be given definitions and last values: it knows
    /// what came before. The first one, before which nothing came, when it has been given none on this connection.
    snapshot_seq: Seq,
    /// The farthest that any of its streams has come in this process.
    sent_seq: Seq,
    /// It was told on this connection that what it has from there on is void.
    was_taken_back: bool,
    accepted_seq: Option<Seq>,
    durable_seq: Option<Seq>,
    next_heartbeat: Mono,
    /// Whether its last heartbeat said that the last values are current; a shard gets none.
    reported: Option<FeedStates>,
    /// It was asked on this connection to look at core's SESSION once more.
    was_asked: bool,
    /// Why it is not fed, and when it is asked again.
    foreign: Option<(Foreign, Mono)>,
    probe: Option<Probe>,
}

/// What core says to a frame of a follower.
#[derive(Debug)]
pub(super) enum FollowerReply {
    Nothing,
    Session(Session),
    /// It begins to be fed. One that hands the sequence on is told the epochs that the journal knows.
    Begun {
        wants_lineage: bool,
    },
    /// It is refused with this word, and core's log says why.
    Foreign {
        refusal: &'static str,
        text: String,
    },
}

/// A follower's question whether it has all that core has.
#[derive(Clone, Copy, Debug)]
struct Probe {
    token: U32,
    /// Where the journal was when it was asked: the answer stands behind all that was there.
    position: u64,
}

/// All of them.
#[derive(Debug)]
pub(super) struct Followers {
    all: Vec<Follower>,
    warmup_frames: u64,
}

impl Followers {
    pub(super) fn new(config: &SequencerConfig, opened_seq: Seq) -> Result<Followers, ConfigError> {
        let follower = |(index, follower): (usize, &FollowerConfig)| {
            Ok(Follower {
                config: follower.clone(),
                uplink: Uplink::new(UplinkConfig {
                    breaker_name: format!("core.{}", follower.name),
                    address: follower.address,
                    breaker: &config.breaker,
                    seed: config.seed ^ (index as u64 + 2),
                    on_breaker_open: OnBreakerOpen::Keep,
                    connect_deadline: config.connect_deadline,
                    greeting_deadline: config.request_deadline,
                })?,
                stream: Stream::None,
                announced_seq: None,
                passed_seq: Seq::FIRST,
                snapshot_seq: Seq::FIRST,
                sent_seq: opened_seq,
                was_taken_back: false,
                accepted_seq: None,
                durable_seq: None,
                next_heartbeat: Mono::default(),
                reported: None,
                was_asked: false,
                foreign: None,
                probe: None,
            })
        };
        Ok(Followers {
            all: config.followers.iter().enumerate().map(follower).collect::<Result<_, _>>()?,
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
        let due = |(number, follower): (u32, &mut Follower)| {
            let (to, within) = follower.uplink.poll_dial(now)?;
            Some((DialId(number), to, within))
        };
        (1..).zip(&mut self.all).filter_map(due).collect()
    }

    /// Connected: what to say first.
    pub(super) fn handle_open<S: Storage>(
        &mut self,
        now: Now,
        index: usize,
        conn: ConnId,
        journal: &Log<S>,
    ) -> Session {
        let mut role = Role::Publisher;
        if let Some(follower) = self.all.get_mut(index) {
            if follower.config.shard.is_some() {
                role = Role::Feeder;
            }
            follower.stream = Stream::None;
            follower.was_asked = false;
            follower.probe = None;
            follower.was_taken_back = false;
            follower.uplink.handle_open(now, conn);
        }
        own_session(role, journal)
    }

    pub(super) fn handle_dial_failed(&mut self, now: Now, index: usize, failure: DialFailure) {
        if let Some(follower) = self.all.get_mut(index) {
            follower.uplink.handle_dial_failed(now, failure);
        }
    }

    pub(super) fn handle_close(
        &mut self,
        now: Now,
        index: usize,
        conn: ConnId,
        reason: CloseReason,
    ) {
        let Some(follower) = self.all.get_mut(index) else { return };
        if let UplinkEnd::Ready(outcome) = follower.uplink.handle_close(now, conn, reason) {
            follower.uplink.breaker_mut().observe(outcome, now.mono);
        }
        if follower.uplink.conn().is_none() {
            follower.stream = Stream::None;
            if let Some((_, until)) = follower.foreign {
                follower.uplink.delay_until(until);
            }
        }
    }

    /// A follower sent nonsense; the caller closes its connection.
    pub(super) fn handle_protocol_error(&mut self, now: Now, index: usize) {
        if let Some(follower) = self.all.get_mut(index) {
            follower.uplink.fail(now, Outcome::ProtocolError);
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
    ) -> Result<FollowerReply, &'static str> {
        let sent_seq = self.sent_to_copies(index);
        let Some(follower) = self.all.get_mut(index) else { return Ok(FollowerReply::Nothing) };
        match frame.kind() {
            Some(Kind::Session) => match frame.view::<Session>() {
                Some(session) => {
                    follower.sent_seq = sent_seq;
                    follower.handle_session(now, session, journal, market)
                }
                None => Ok(FollowerReply::Nothing),
            },
            Some(Kind::Ack) => {
                if let Some(ack) = frame.view::<Ack>()
                    && ack.epoch.get() == journal.epoch()
                {
                    follower.take_ack(ack)?;
                }
                Ok(FollowerReply::Nothing)
            }
            Some(Kind::Heartbeat) => Ok(FollowerReply::Nothing),
            Some(Kind::Error) => {
                follower.uplink.fail(now, Outcome::Refused);
                Err("the follower refused")
            }
            _ => Err("a follower may not send this"),
        }
    }

    /// The farthest that this process has sent a follower, or, of a shard, any of its copies: the directory of one
    /// may be a copy of the other's.
    fn sent_to_copies(&self, index: usize) -> Seq {
        let shard = self.all.get(index).and_then(|follower| follower.config.shard);
        let counts = |other: usize, follower: &Follower| {
            other == index || shard.is_some() && follower.config.shard == shard
        };
        let copies = self.all.iter().enumerate().filter(|(other, it)| counts(*other, it));
        let sent = copies.map(|(_, it)| it.sent_seq.max(it.passed_seq)).max();
        sent.unwrap_or(Seq::FIRST)
    }

    /// Connections to which frames are streamed.
    pub(super) fn streaming(&self) -> impl Iterator<Item = ConnId> {
        let streaming = self.all.iter().filter(|it| !matches!(it.stream, Stream::None));
        streaming.filter_map(|follower| follower.uplink.ready())
    }

    /// Gathers the next frames of a follower from the journal.
    pub(super) fn fill<S: Storage>(
        &mut self,
        now: Now,
        index: usize,
        journal: &Log<S>,
        market: &Market,
        out: &mut Vec<Frame>,
    ) {
        let warmup = self.warmup_frames;
        let Some(follower) = self.all.get_mut(index) else { return };
        if follower.uplink.ready().is_none() {
            return;
        }
        follower.note_overtaken(journal);
        if let Stream::CatchingUp { next_index, wanted_seq } = follower.stream {
            follower.fill_definitions(next_index, wanted_seq, journal, market, out);
        }
        if let Stream::Frames { position } = follower.stream
            && out.is_empty()
        {
            follower.stream = match follower.fill_frames(position, journal, market, out) {
                Ok(position) => Stream::Frames { position },
                Err(hole) => follower.at_hole(hole),
            };
        }
        if let Stream::Snapshot { next_index, wanted_seq } = follower.stream {
            let place = (next_index, wanted_seq);
            follower.fill_snapshot(place, warmup, journal, market, out);
        }
        if let Stream::PassingHole { next_index, hole } = follower.stream {
            follower.fill_hole(next_index, hole, market, out);
        }
        out.extend(follower.answer_probe(now));
    }

    /// Whether a follower has more of the journal before it.
    pub(super) fn is_behind<S: Storage>(&self, index: usize, journal: &Log<S>) -> bool {
        self.all
            .get(index)
            .and_then(|follower| Some(follower.position()? < follower.end(journal).0))
            .unwrap_or(false)
    }

    /// Connections to close now, and why.
    pub(super) fn closes_due(&mut self, now: Now) -> Vec<UplinkClose> {
        self.all.iter_mut().filter_map(|it| it.uplink.poll_close(now, false, true)).collect()
    }

    /// Does what an operator wants, if the breaker is one of these.
    pub(super) fn operate(&mut self, now: Now, name: &str, action: BreakerAction) -> bool {
        self.all.iter_mut().any(|follower| follower.uplink.operate(now, name, action))
    }

    pub(super) fn handle_timers(&mut self, now: Now) {
        for follower in &mut self.all {
            follower.uplink.handle_timers(now);
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Mono> {
        let of = |follower: &Follower| {
            let has_updates = follower.announced_seq < Some(follower.passed_seq);
            let heartbeat =
                follower.position().filter(|_| has_updates).map(|_| follower.next_heartbeat);
            heartbeat.into_iter().chain(follower.uplink.next_deadline(true)).min()
        };
        self.all.iter().filter_map(of).min()
    }

    pub(super) fn poll_transition(&mut self) -> Option<(String, Transition)> {
        self.all.iter_mut().find_map(|follower| {
            let (name, change) = follower.uplink.poll_transition()?;
            Some((name.to_owned(), change))
        })
    }

    pub(super) fn describe(&self, now: Now, status: &mut Status) {
        for follower in &self.all {
            let name = &follower.config.name;
            let phase = match (follower.uplink.state(), &follower.stream) {
                ("ready", Stream::Snapshot { .. }) => "snapshot",
                ("ready", Stream::CatchingUp { .. } | Stream::PassingHole { .. }) => "catching up",
                ("ready", _) => "streaming",
                (other, _) => other,
            };
            status.text(name.clone(), phase);
            status.metric(format!("{name}.accepted_seq"), Seq::number(follower.accepted_seq));
            status.metric(format!("{name}.durable_seq"), Seq::number(follower.durable_seq));
            if let Some((foreign, _)) = follower.foreign {
                status.text(format!("{name}.feed"), foreign.word());
            }
            follower.uplink.describe(now, status);
        }
    }
}

impl Follower {
    /// Where in the journal it is, while it is sent frames.
    fn position(&self) -> Option<u64> {
        match self.stream {
            Stream::Frames { position } => self.uplink.ready().map(|_| position),
            _ => None,
        }
    }

    /// Up to where it is sent the journal: a position, and the seq that stands there. A shard keeps what it is sent
    /// for good, so it gets only what core cannot lose any more, as far as the journal's policy promises that.
    fn end<S: Storage>(&self, journal: &Log<S>) -> (u64, u64) {
        let committed = (journal.committed_position(), journal.committed_seq());
        let waits = self.config.shard.is_some() && journal.promises_durability();
        if waits && !is_planted(Bug::FeedUndurableToShards) {
            // A mark can be durable before it is committed, and only what is committed can be read.
            return committed.min((journal.durable_position(), journal.durable_seq()));
        }
        committed
    }

    /// It has answered our SESSION: it says where it is.
    fn handle_session<S: Storage>(
        &mut self,
        now: Now,
        session: &Session,
        journal: &Log<S>,
        market: &Market,
    ) -> Result<FollowerReply, &'static str> {
        if !self.uplink.is_greeting() {
            return Err("a second SESSION");
        }
        if self.is_ahead(session, journal) {
            self.was_taken_back = true;
            let next_seq = Seq::field(Some(self.sent_seq));
            let session = Session { next_seq, ..own_session(Role::Publisher, journal) };
            return Ok(FollowerReply::Session(session));
        }
        match self.continuity(session, journal, market) {
            Continuity::Same => {
                self.begin(now, session, journal, market)?;
                Ok(FollowerReply::Begun { wants_lineage: self.config.shard.is_none() })
            }
            Continuity::Continues { .. } if self.was_asked => {
                Err("it was told how this journal goes on, and does not follow")
            }
            Continuity::Continues { end, gives_up } => {
                self.was_asked = true;
                Ok(FollowerReply::Session(self.continued_session(journal, end, gives_up)))
            }
            Continuity::Foreign(foreign) => {
                self.foreign = Some((foreign, now.mono + limits::FOREIGN_RETRY_EVERY));
                // Nothing is wrong with the connection, so its breaker hears nothing of it.
                self.uplink.abandon();
                let (refusal, text) = (foreign.refusal(), self.explain(foreign));
                Ok(FollowerReply::Foreign { refusal, text })
            }
        }
    }

    /// It stands in our epoch, and goes on where it says.
    fn begin<S: Storage>(
        &mut self,
        now: Now,
        session: &Session,
        journal: &Log<S>,
        market: &Market,
    ) -> Result<(), &'static str> {
        let wanted = self.place_of(session, journal, market)?;
        self.foreign = None;
        self.uplink.handle_greeted(now);
        self.announced_seq = None;
        self.passed_seq = wanted.unwrap_or(Seq::FIRST);
        self.snapshot_seq = Seq::FIRST;
        self.next_heartbeat = now.mono;
        // What it said before counts no more: its directory may be another one since.
        self.accepted_seq = wanted;
        self.durable_seq = session.durable_seq().min(wanted);
        let next_index = InstrumentIndex::FIRST;
        let is_trimmed = wanted < journal.first_seq();
        self.stream = match wanted {
            None => Stream::Snapshot { next_index, wanted_seq: None },
            Some(_) if self.must_have_snapshot(is_trimmed) => {
                Stream::Snapshot { next_index, wanted_seq: wanted }
            }
            Some(wanted_seq) if is_trimmed && self.config.shard.is_some() => {
                Stream::CatchingUp { next_index, wanted_seq }
            }
            Some(wanted) => Stream::Frames { position: journal.position_of_seq(wanted.get()) },
        };
        Ok(())
    }

    fn fill_snapshot<S: Storage>(
        &mut self,
        (mut next_index, wanted_seq): (InstrumentIndex, Option<Seq>),
        warmup: u64,
        journal: &Log<S>,
        market: &Market,
        out: &mut Vec<Frame>,
    ) {
        let values = market.values();
        let end = values.index_end();
        if next_index == InstrumentIndex::FIRST {
            self.snapshot_seq = Seq::or_first(journal.next_seq());
        }
        while next_index < end {
            if out.len() >= limits::FILL_FRAMES_MAX {
                self.stream = Stream::Snapshot { next_index, wanted_seq };
                return;
            }
            out.extend(values.known(next_index).into_iter().flatten().map(|frame| {
                let is_uncertain = frame.seq() < market.uncertain_below() && !frame.is_naming();
                let uncertainty = if is_uncertain { Flags::STALE } else { 0 };
                frame.delivered(Flags::SNAPSHOT | uncertainty)
            }));
            next_index = next_index.next();
        }
        let end = Seq::or_first(journal.next_seq());
        let start = wanted_seq.unwrap_or_else(|| end.back(warmup));
        let position = journal.position_of_seq(start.get());
        let start = first_seq_from(journal, position).unwrap_or(end);
        self.announced_seq = Some(start);
        self.passed_seq = start;
        let next_seq = Seq::field(self.announced_seq);
        let start = Heartbeat { next_seq, ..Heartbeat::default() };
        out.push(Frame::seal(self.reported_states().said_by(start)));
        self.stream = Stream::Frames { position };
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
        let (end, _) = self.end(journal);
        while out.len() < limits::FILL_FRAMES_MAX && looked < limits::RECORDS_PER_FILL_MAX {
            let room = limits::FILL_FRAMES_MAX - out.len();
            let left = usize::try_from(end.saturating_sub(position)).unwrap_or(usize::MAX);
            if left == 0 {
                break;
            }
            let frames = match journal.read(position, room.min(left)) {
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
                let seq = frame.seq.get();
                if seq == self.passed_seq.get() && seq < void_from && is_event(frame) {
                    // The next event, as nearly all are: nothing is missing before it.
                    self.passed_seq = frame.next_seq();
                    if self.is_theirs(frame, market) {
                        out.push(*frame);
                    }
                    continue;
                }
                let mark = frame.view::<Mark>();
                if let Some(hole) = self.hole_before(frame, mark, position) {
                    return Err(hole);
                }
                if !is_event(frame) || seq >= void_from {
                    continue;
                }
                if seq > self.passed_seq.get() {
                    out.extend(self.notice_of_jump(frame));
                }
                self.passed_seq = self.passed_seq.max(frame.next_seq());
                if self.is_theirs(frame, market) {
                    out.push(*frame);
                }
            }
            position += frames.len() as u64;
        }
        Ok(position)
    }

    /// Whether this follower is sent this event.
    #[inline]
    fn is_theirs(&self, frame: &Frame, market: &Market) -> bool {
        match self.config.shard {
            None => true,
            shard => market.owner(frame.instrument().index()) == shard,
        }
    }
}

/// Core's first frame to a follower.
fn own_session<S: Storage>(role: Role, journal: &Log<S>) -> Session {
    Session {
        role: role as u8,
        source: MARKET_SOURCE,
        epoch: U32::new(journal.epoch()),
        epoch_start: U64::new(journal.epoch_start()),
        next_seq: U64::new(journal.next_seq()),
        durable_seq: U64::new(journal.durable_seq()),
        feed: U64::new(journal.epoch_id()),
        name: padded("core"),
        ..Session::default()
    }
}
