//! A peer that speaks in a role that is not its own: as a feeder, a publisher, a follower of core, a consumer of the
//! exchange, the aggregator, a client of the future, or a subscriber that does not read. It says the numbers that do
//! most harm. What it does not do: forge frames that could be the next ones of the sequence. Nobody can distinguish
//! these from core's own without knowing who core is.

use std::net::SocketAddr;
use std::time::Duration;

use pregao::breaker::{Reason, State};
use pregao::node::{
    Action, CloseReason, ConnId, Connections, DialFailure, DialId, LocalFault, Node, Origin,
    Outgoing,
};
use pregao::question::Question;
use pregao::random::Random;
use pregao::time::{Mono, Now};
use pregao::wire::{
    Ack, BreakerChange, Ended, Frame, Gap, GapReason, Heartbeat, InstrumentId, InstrumentIndex, Op,
    Query, Refusal, Role, Seq, Session, Subscribe, Trade, U16, U32, U64, padded,
};

use crate::querier::is_a_client_with;

/// In which role it speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Voice {
    /// To a shard: it asks first where the shard is.
    Feeder,
    /// To a broker or a replica.
    Publisher,
    /// The same, and it announces its jumps.
    Jumper,
    /// It listens in the place of a follower.
    Follower,
    /// To the exchange.
    Consumer,
    /// To core, as the aggregator.
    Reporter,
    /// To any node that answers: so many questions about cuts to come.
    Future(u32),
    /// To the broker: it subscribes to everything and reads nothing.
    Deaf,
}

#[derive(Clone, Debug)]
pub(crate) struct RogueConfig {
    pub(crate) voice: Voice,
    pub(crate) target: SocketAddr,
    pub(crate) seed: u64,
    /// It is there from this time on,
    pub(crate) from: Mono,
    /// and not from this time on.
    pub(crate) until: Mono,
}

/// The peer.
pub(crate) struct Rogue {
    config: RogueConfig,
    connections: Connections<()>,
    random: Random,
    conn: Option<ConnId>,
    is_dialing: bool,
    act_at: Mono,
    /// What its target has said of itself.
    known: Option<Session>,
    /// On the present connection it only asks.
    asks_first: bool,
    has_begun: bool,
    /// It has said SESSION a second time.
    insists: bool,
    said_epoch: U32,
    pub(crate) said: u64,
    /// How often it spoke on one connection at most, and on the present one.
    pub(crate) tolerated: u64,
    spoken: u64,
    /// Connections on which it was let in, and that ended against its will.
    pub(crate) greeted: u64,
    pub(crate) closed: u64,
    pub(crate) refused: u64,
    /// Questions that were ended, and when the first was.
    pub(crate) ended: u64,
    pub(crate) first_end: Option<Mono>,
    next_id: u32,
}

impl Rogue {
    pub(crate) fn new(config: RogueConfig) -> Rogue {
        Rogue {
            random: Random::new(config.seed),
            act_at: config.from,
            config,
            connections: Connections::default(),
            conn: None,
            is_dialing: false,
            known: None,
            asks_first: false,
            has_begun: false,
            insists: false,
            said_epoch: U32::ZERO,
            said: 0,
            tolerated: 0,
            spoken: 0,
            greeted: 0,
            closed: 0,
            refused: 0,
            ended: 0,
            first_end: None,
            next_id: 1,
        }
    }

    fn hello(&mut self) -> Session {
        let known = self.known.unwrap_or_default();
        let (role, epoch, next_seq) = match self.config.voice {
            Voice::Feeder if self.asks_first => (Role::Querier, U32::ZERO, 0),
            Voice::Feeder => {
                // An epoch of its own is nobody's; the shard's own lets it in when core is away.
                let epochs = [known.epoch, known.epoch, U32::new(u32::MAX), U32::new(1 << 31)];
                let near = known.next_seq.get().saturating_add(self.random.below(40));
                let places = [near, near, 0, 1, 1 << 63, u64::MAX];
                let pick = usize::try_from(self.random.below(6)).unwrap();
                let epoch = epochs[usize::try_from(self.random.below(4)).unwrap()];
                (Role::Feeder, epoch, places[pick])
            }
            Voice::Publisher | Voice::Jumper => {
                // The broker tells whoever asks under which identity and epoch it stands.
                let own = known.epoch.get();
                let epochs = [own, own, own, 1, 2, 3, u32::MAX, 0];
                let stays = self.config.voice == Voice::Jumper;
                let pick = if stays { 0 } else { self.random.below(8) };
                let epoch = epochs[usize::try_from(pick).unwrap()];
                (Role::Publisher, U32::new(epoch), 1 << self.random.below(64))
            }
            Voice::Consumer => (Role::Consumer, U32::ZERO, 1 << self.random.below(20)),
            Voice::Deaf => (Role::Subscriber, U32::ZERO, 0),
            Voice::Reporter | Voice::Future(_) | Voice::Follower => (Role::Querier, U32::ZERO, 0),
        };
        let name = if self.config.voice == Voice::Reporter { "aggregator" } else { "core" };
        Session {
            role: role as u8,
            source: 1,
            epoch,
            epoch_start: U64::new(1),
            next_seq: U64::new(next_seq),
            name: padded(name),
            ..known
        }
    }

    /// What it says once it is let in.
    fn speak(&mut self, conn: ConnId) {
        self.said += 1;
        self.spoken += 1;
        self.tolerated = self.tolerated.max(self.spoken);
        let next_seq = self.known.map_or(1, |known| known.next_seq.get());
        let huge = 1 << self.random.between(60, 63);
        match self.config.voice {
            Voice::Feeder => {
                let near = next_seq.saturating_add(self.random.between(1, 60));
                let ahead = [near, near, if self.random.below(2) == 0 { huge } else { u64::MAX }];
                let place = ahead[usize::try_from(self.random.below(3)).unwrap()];
                self.beat(conn, place);
                if self.random.below(4) == 0 {
                    self.connections.send_frame(conn, &trade(huge));
                }
                if self.random.below(4) == 0 {
                    let from_seq = Seq::or_first(next_seq);
                    let to_seq = Seq::or_first(huge);
                    self.connections
                        .send(conn, Gap::uncounted(GapReason::Corrupt, from_seq, to_seq));
                }
            }
            Voice::Publisher => {
                // A frame that nobody announced.
                self.connections.send_frame(conn, &trade(huge));
            }
            Voice::Jumper => {
                self.beat(conn, huge);
                self.connections.send_frame(conn, &trade(huge));
            }
            Voice::Follower => {
                let epoch = self.known.map_or(U32::ZERO, |known| known.epoch);
                // Who acknowledges no more than it was sent cannot be distinguished from the shard.
                let ahead = 1_000 + self.random.below(3);
                let accepted_seq = U64::new(next_seq.saturating_add(ahead));
                let durable_seq = accepted_seq;
                self.connections
                    .send(conn, Ack { epoch, accepted_seq, durable_seq, ..Ack::default() });
            }
            Voice::Reporter => {
                for generation in 0..64 {
                    let names = [
                        "aggregator.shard-0",
                        "aggregator.core",
                        "core.exchange",
                        "aggregator.none",
                    ];
                    let name = names[usize::try_from(self.random.below(4)).unwrap()];
                    self.connections.send(
                        conn,
                        BreakerChange {
                            from: State::Closed as u8,
                            to: State::Open as u8,
                            reason: Reason::FailureRate as u8,
                            generation: U16::new(generation),
                            name: padded(name),
                            ..BreakerChange::default()
                        },
                    );
                }
            }
            Voice::Future(count) if !self.has_begun => {
                for _ in 0..count {
                    let query = Query {
                        id: U32::new(self.next_id),
                        op: Op::Last as u8,
                        deadline_us: U32::new(u32::MAX),
                        limit: U32::new(1),
                        symbol: padded("*"),
                        to: U64::new(u64::MAX),
                        ..Query::default()
                    };
                    self.next_id += 1;
                    let question = Question::new(&query).unwrap().cut_at(Seq::new(u64::MAX - 1));
                    for frame in question.frames() {
                        self.connections.send_frame(conn, &frame);
                    }
                }
            }
            Voice::Deaf if !self.has_begun => {
                let (id, source) = (U32::new(1), 1);
                self.connections.send(
                    conn,
                    Subscribe { id, source, pattern: padded("*"), ..Subscribe::default() },
                );
            }
            // It lives, and only its ears are shut.
            Voice::Deaf => self.beat(conn, 0),
            Voice::Consumer | Voice::Future(_) => {}
        }
        self.has_begun = true;
    }

    fn beat(&mut self, conn: ConnId, next_seq: u64) {
        self.connections
            .send(conn, Heartbeat { next_seq: U64::new(next_seq), ..Heartbeat::default() });
    }

    fn handle_frames(&mut self, now: Now, conn: ConnId, frames: &[Frame]) {
        for frame in frames {
            if let Some(session) = frame.view::<Session>() {
                if self.config.voice == Voice::Follower && session.role == Role::Querier as u8 {
                    self.connections.close_after_flush(conn);
                    return;
                }
                self.known = Some(*session);
                if self.config.voice == Voice::Follower {
                    // It has nothing, or more than there is, it says.
                    let beyond = U64::new(session.next_seq.get().saturating_add(1));
                    // Whoever says that is asked again only after a while, so it comes second.
                    let has_nothing = self.said == 0 || self.random.below(2) == 0;
                    let next_seq = if has_nothing { U64::new(1) } else { beyond };
                    let durable_seq = next_seq;
                    self.connections
                        .send(conn, Session { role: 0, next_seq, durable_seq, ..*session });
                }
                let is_other = self.said_epoch != session.epoch && !self.asks_first;
                if self.config.voice == Voice::Feeder && is_other && !self.insists {
                    // A shard that does not know the epoch asks once more. Nothing of what it has is void, it is told.
                    self.insists = true;
                    let epoch_start = session.next_seq;
                    let role = Role::Feeder as u8;
                    let epoch = self.said_epoch;
                    let is_far = epoch.get() >= 1 << 31;
                    let options = U16::new(if is_far { Session::CONTINUES } else { 0 });
                    self.connections
                        .send(conn, Session { role, options, epoch, epoch_start, ..*session });
                }
                self.greeted += u64::from(!self.asks_first);
                if self.asks_first {
                    self.connections.close_after_flush(conn);
                }
            } else if frame.view::<Refusal>().is_some_and(|refusal| refusal.id.get() == 0) {
                self.refused += 1;
            } else if frame.view::<Ended>().is_some() {
                self.ended += 1;
                self.first_end.get_or_insert(now.mono);
            } else if let Some(beat) = frame.view::<Heartbeat>() {
                self.connections.answer_heartbeat(now, conn, beat, None);
            }
        }
    }

    fn is_there(&self, now: Mono) -> bool {
        (self.config.from..self.config.until).contains(&now)
    }

    /// How long one connection of it lasts: some come and go, and others stay.
    fn leaves(&mut self) -> bool {
        match self.config.voice {
            Voice::Future(_) | Voice::Deaf | Voice::Reporter | Voice::Follower => false,
            Voice::Feeder | Voice::Publisher | Voice::Jumper | Voice::Consumer => {
                self.random.below(6) == 0
            }
        }
    }
}

fn trade(seq: u64) -> Frame {
    let instrument = InstrumentId::new(1, InstrumentIndex::FIRST).into();
    Frame::seal(Trade { seq: U64::new(seq), instrument, ..Trade::default() })
}

impl Node for Rogue {
    fn handle_open(&mut self, now: Now, conn: ConnId, origin: Origin) {
        self.is_dialing = false;
        (self.has_begun, self.insists, self.spoken) = (false, false, 0);
        self.conn = Some(conn);
        self.connections.insert_dialed(now, conn);
        self.connections.dialed(conn, ());
        if matches!(origin, Origin::Dialed(_)) {
            self.asks_first = self.config.voice == Voice::Feeder && !self.asks_first;
            let hello = self.hello();
            self.said_epoch = hello.epoch;
            self.connections.send(conn, hello);
        }
    }

    fn handle_dial_failed(&mut self, _now: Now, _dial: DialId, _failure: DialFailure) {
        self.is_dialing = false;
        self.asks_first = false;
    }

    fn handle_close(&mut self, _now: Now, conn: ConnId, reason: CloseReason) {
        self.connections.remove(conn);
        if self.conn == Some(conn) {
            self.conn = self.connections.iter().next().map(|it| it.id());
        }
        self.closed += u64::from(reason != CloseReason::Ours);
    }

    fn handle_timers(&mut self, now: Now) {
        if now.mono < self.act_at {
            return;
        }
        let wait_ms = match self.config.voice {
            Voice::Reporter | Voice::Deaf => 1_000,
            _ => self.random.between(1, 60),
        };
        self.act_at = now.mono + Duration::from_millis(wait_ms);
        let stays = self.is_there(now.mono) && !self.leaves();
        let is_there = self.is_there(now.mono);
        match self.conn {
            Some(_) if !stays => {
                // Who listens may have several.
                let all: Vec<ConnId> = self.connections.iter().map(|it| it.id()).collect();
                all.into_iter().for_each(|conn| self.connections.close_after_flush(conn));
            }
            Some(conn) if self.known.is_some() || self.config.voice != Voice::Feeder => {
                self.speak(conn)
            }
            None if is_there && !self.is_dialing && self.config.voice != Voice::Follower => {
                self.is_dialing = true;
                self.connections.dial(DialId(0), self.config.target, Duration::from_secs(1));
            }
            _ => {}
        }
    }

    fn next_deadline(&self) -> Option<Mono> {
        let is_done = self.conn.is_none() && self.act_at >= self.config.until;
        (!is_done).then_some(self.act_at)
    }

    is_a_client_with!(connections);

    fn wants_bytes(&self, _conn: ConnId) -> bool {
        self.config.voice != Voice::Deaf || !self.has_begun
    }
}
