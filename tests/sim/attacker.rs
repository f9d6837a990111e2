//! A peer that means no good: dials any node, says things that are almost right, and reads or does
//! not. It never speaks as a publisher, a feeder, an operator or the exchange's consumer: those are
//! trusted, and what they can do is no fault of the nodes.

use std::net::SocketAddr;
use std::time::Duration;

use zerocopy::IntoBytes;

use pregao::node::{
    Action, CloseReason, ConnId, Connections, DialFailure, DialId, LocalFault, Node, Origin,
    Outgoing,
};
use pregao::random::Random;
use pregao::time::{Mono, Now};
use pregao::wire::{
    Ack, Flags, Frame, Heartbeat, InstrumentId, InstrumentIndex, Kind, Op, Query, Quote, Resume,
    Role, Session, Subscribe, Trade, U16, U32, U64, padded,
};

use crate::querier::is_a_client_with;

#[derive(Clone, Debug)]
pub(crate) struct AttackerConfig {
    /// Whom to attack.
    pub(crate) targets: Vec<SocketAddr>,
    pub(crate) seed: u64,
    /// No more from here on.
    pub(crate) calm_at: Mono,
}

/// The peer.
pub(crate) struct Attacker {
    config: AttackerConfig,
    connections: Connections<()>,
    random: Random,
    conn: Option<ConnId>,
    reads: bool,
    act_at: Mono,
    is_dialing: bool,
    pub(crate) said: u64,
}

impl Attacker {
    pub(crate) fn new(config: AttackerConfig) -> Attacker {
        Attacker {
            random: Random::new(config.seed),
            config,
            connections: Connections::default(),
            conn: None,
            reads: true,
            act_at: Mono::default(),
            is_dialing: false,
            said: 0,
        }
    }

    fn number(&mut self) -> u64 {
        match self.random.below(5) {
            0 => 0,
            1 => u64::MAX,
            2 => self.random.below(1_000),
            3 => 1 << self.random.below(64),
            _ => self.random.next_u64(),
        }
    }

    fn symbol(&mut self) -> &'static str {
        ["PETR4", "*", "P*", "", "$sys.breaker", "NOSUCH"]
            [usize::try_from(self.random.below(6)).unwrap()]
    }

    #[allow(clippy::cast_possible_truncation, reason = "any number will do")]
    fn frame(&mut self) -> Frame {
        let (seq, from, to) = (self.number(), self.number(), self.number());
        let (id, symbol) = (U32::new(self.random.below(4) as u32), self.symbol());
        let roles = [Role::Subscriber, Role::Querier];
        let role = roles[self.random.below(2) as usize] as u8;
        let ops = [Op::Quote, Op::Last, Op::Range, Op::Bars, Op::Replay, Op::Status, Op::Stop];
        let mut frame = match self.random.below(10) {
            0 | 1 => Frame::seal(Session { role, next_seq: U64::new(seq), ..Session::default() }),
            2 => Frame::seal(Subscribe {
                id,
                source: self.random.below(10) as u8,
                mode: self.random.below(3) as u8,
                kinds: U16::new(self.random.below(1 << 16) as u16),
                flags: U16::new(if self.random.below(4) == 0 { Flags::MORE } else { 0 }),
                from_seq: U64::new(seq),
                pattern: padded(symbol),
                ..Subscribe::default()
            }),
            3 | 4 => Frame::seal(Query {
                id,
                op: ops[self.random.below(7) as usize] as u8,
                options: self.random.below(4) as u8,
                deadline_us: U32::new(self.number() as u32),
                limit: U32::new(self.number() as u32),
                symbol: padded(symbol),
                from: U64::new(from),
                to: U64::new(to),
                ..Query::default()
            }),
            5 => Frame::seal(Heartbeat {
                flags: U16::new(Flags::MORE),
                next_seq: U64::new(seq),
                ..Heartbeat::default()
            }),
            6 => Frame::seal(Quote {
                seq: U64::new(seq),
                instrument: InstrumentId::new(1, InstrumentIndex::FIRST).into(),
                ..Quote::default()
            }),
            7 => Frame::seal(Trade {
                seq: U64::new(seq),
                instrument: U32::new(from as u32),
                ..Trade::default()
            }),
            8 => Frame::seal(Ack { accepted_seq: U64::new(seq), ..Ack::default() }),
            _ => Frame::seal(Resume { id, next_seq: U64::new(seq), ..Resume::default() }),
        };
        match self.random.below(6) {
            // A bit flips on the way.
            0 => {
                let bit = self.random.below(512) as usize;
                frame.as_mut_bytes()[bit / 8] ^= 1 << (bit % 8);
            }
            // A byte is wrong, and the checksum right.
            1 => {
                let at = self.random.below(60) as usize;
                frame.as_mut_bytes()[at] = self.random.next_u64() as u8;
                frame.renew_crc();
                if is_trusted(&frame) {
                    frame = Frame::ZERO;
                }
            }
            _ => {}
        }
        frame
    }
}

/// Whether a frame would speak with the voice of somebody that nodes trust.
fn is_trusted(frame: &Frame) -> bool {
    let speaks = frame.view::<Session>().is_some_and(|session| {
        !matches!(Role::from_number(session.role), Some(Role::Subscriber | Role::Querier))
    });
    let orders = frame.view::<Query>().is_some_and(|query| query.op == Op::Breaker as u8);
    speaks || orders || frame.kind() == Some(Kind::BreakerChange)
}

impl Attacker {
    fn handle_frames(&mut self, _now: Now, _conn: ConnId, _frames: &[Frame]) {}
}

impl Node for Attacker {
    fn handle_open(&mut self, now: Now, conn: ConnId, _origin: Origin) {
        self.is_dialing = false;
        self.conn = Some(conn);
        self.reads = self.random.below(3) > 0;
        self.connections.insert_dialed(now, conn);
        self.connections.dialed(conn, ());
        if self.random.below(4) > 0 {
            let role =
                [Role::Subscriber, Role::Querier][usize::try_from(self.random.below(2)).unwrap()];
            self.connections.send(conn, Session { role: role as u8, ..Session::default() });
        }
    }

    fn handle_dial_failed(&mut self, _now: Now, _dial: DialId, _failure: DialFailure) {
        self.is_dialing = false;
    }

    fn handle_close(&mut self, _now: Now, conn: ConnId, _reason: CloseReason) {
        self.connections.remove(conn);
        self.conn = None;
    }

    fn handle_timers(&mut self, now: Now) {
        if now.mono < self.act_at {
            return;
        }
        self.act_at = now.mono + Duration::from_micros(self.random.between(200, 60_000));
        let is_over = now.mono >= self.config.calm_at;
        match self.conn {
            Some(conn) if is_over || self.random.below(20) == 0 => {
                self.connections.close_after_flush(conn);
            }
            Some(conn) => {
                for _ in 0..self.random.between(1, 30) {
                    let frame = self.frame();
                    self.said += 1;
                    self.connections.send_frame(conn, &frame);
                }
            }
            None if !self.is_dialing && !is_over => {
                let targets = &self.config.targets;
                let pick = usize::try_from(self.random.below(targets.len() as u64)).unwrap();
                let to = targets[pick];
                self.is_dialing = true;
                self.connections.dial(DialId(0), to, Duration::from_secs(1));
            }
            None => {}
        }
    }

    fn next_deadline(&self) -> Option<Mono> {
        let is_done = self.conn.is_none() && self.act_at >= self.config.calm_at;
        (!is_done).then_some(self.act_at)
    }

    is_a_client_with!(connections);

    fn wants_bytes(&self, _conn: ConnId) -> bool {
        self.reads
    }
}
