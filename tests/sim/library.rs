//! A subscriber as a node, around the client library's whole machine, [`Subscriber`]: the shell of
//! `client::NonblockingSubscription` once more, on the simulated network, with a caller that may be slow or
//! stand still.

use pregao::client::{Action as Wish, Subscriber, Upstream};
use pregao::node::{
    Action, CloseReason, ConnId, Connections, DialFailure, DialId, LocalFault, Node, Origin,
    Outgoing,
};
use pregao::random::Random;
use pregao::time::{Mono, Now};
use pregao::wire::{ErrorCode, Frame, Refusal, Seq, unpadded};

use std::time::Duration;

use crate::bars::Folded;
use crate::client::{ClientConfig, FOREIGN, Habit};
use crate::delivered::Delivered;
use crate::querier::is_a_client_with;

/// One of its two connections. A dial has a number of its own, for the machine may give one up and begin
/// another before the network has said what became of the first.
#[derive(Debug, Default)]
struct Side {
    dial: Option<DialId>,
    conn: Option<ConnId>,
    /// Read, and not handed on because something else comes first.
    held: Vec<Frame>,
}

/// The subscriber.
pub(crate) struct Library {
    config: ClientConfig,
    machine: Subscriber,
    pub(crate) delivered: Delivered,
    /// The bars of what it is told.
    pub(crate) bars: Option<Folded>,
    connections: Connections<()>,
    sides: [Side; 2],
    next_dial: u32,
    random: Random,
    /// The caller does nothing before this.
    deaf_until: Option<Mono>,
    next_flap: Option<Mono>,
}

fn index(upstream: Upstream) -> usize {
    usize::from(upstream == Upstream::Core)
}

impl Library {
    pub(crate) fn new(config: ClientConfig) -> Library {
        let mut random = Random::new(config.seed);
        let flaps = config.habit == Habit::Flapping;
        Library {
            machine: Subscriber::new(config.request(), random.next_u64()),
            delivered: Delivered::new(config.clone()),
            bars: Folded::new(&config),
            connections: Connections::default(),
            sides: [Side::default(), Side::default()],
            next_dial: 0,
            next_flap: flaps.then(|| Mono(random.between(1, 1_000_000_000))),
            random,
            deaf_until: None,
            config,
        }
    }

    /// Does what the machine asks for and tells the caller what it has, until there is nothing more.
    fn go_on(&mut self, now: Now) {
        if self.deaf_until.is_some() {
            return;
        }
        loop {
            self.machine.handle_timers(now);
            self.bars.iter_mut().for_each(|bars| bars.go_on(now));
            let mut has_moved = false;
            while let Some(wish) = self.machine.poll_action() {
                has_moved = true;
                self.act(wish);
            }
            self.note(now);
            for upstream in Upstream::ALL {
                has_moved |= self.hand_on(now, upstream);
            }
            if !has_moved {
                break;
            }
        }
        for upstream in Upstream::ALL {
            let bytes = self.machine.outgoing(upstream).to_vec();
            if let Some(conn) = self.sides[index(upstream)].conn.filter(|_| !bytes.is_empty()) {
                self.machine.handle_sent(upstream, bytes.len());
                self.connections.fill(conn, &bytes);
                self.connections.mark_dirty(conn);
            }
        }
    }

    fn note(&mut self, now: Now) {
        while let Some(event) = self.machine.poll_event() {
            self.delivered.note(&event);
            if let Some(bars) = &mut self.bars {
                bars.take(now, &event, self.machine.symbols());
            }
        }
        self.delivered.next_seq = Seq::number(self.machine.next_seq());
    }

    fn act(&mut self, wish: Wish) {
        match wish {
            Wish::Connect(upstream) => {
                let dial = DialId(self.next_dial);
                self.next_dial += 1;
                self.sides[index(upstream)] = Side { dial: Some(dial), ..Side::default() };
                let to = if upstream == Upstream::Broker {
                    self.config.broker
                } else {
                    self.config.core
                };
                // The machine gives up in its own time.
                self.connections.dial(dial, to, Duration::from_secs(60));
            }
            Wish::Disconnect(upstream) => self.hang_up(upstream),
        }
    }

    fn hang_up(&mut self, upstream: Upstream) {
        let side = std::mem::take(&mut self.sides[index(upstream)]);
        if let Some(conn) = side.conn {
            self.connections.close_after_flush(conn);
        }
    }

    /// Hands on what was read of a peer, as far as it is wanted.
    fn hand_on(&mut self, now: Now, upstream: Upstream) -> bool {
        let mut has_moved = false;
        while self.machine.wants_frames(upstream) && !self.sides[index(upstream)].held.is_empty() {
            has_moved = true;
            let frame = self.sides[index(upstream)].held.remove(0);
            if let Err(refusal) = self.machine.handle_frame(now, upstream, &frame) {
                self.begin_again(&refusal);
                return true;
            }
            self.note(now);
            if self.machine.has_updates() {
                return true;
            }
        }
        has_moved
    }

    /// The broker refused for good: before it has ever served us, it may have been about to stop. A person
    /// would start the program once more.
    fn begin_again(&mut self, refusal: &Refusal) {
        let code = ErrorCode::from_number(refusal.code.get());
        let may_pass = matches!(code, Some(ErrorCode::Stopping | ErrorCode::Silent));
        let is_foreign = unpadded(&refusal.text).contains(FOREIGN);
        self.delivered.refusals.push(unpadded(&refusal.text));
        if !is_foreign && (!may_pass || !self.delivered.frames.is_empty()) {
            let text = format!("a refusal for good: {}", unpadded(&refusal.text));
            self.delivered.disorder.get_or_insert(text);
        }
        self.hang_up(Upstream::Broker);
        self.hang_up(Upstream::Core);
        self.delivered = Delivered {
            disorder: self.delivered.disorder.take(),
            refusals: std::mem::take(&mut self.delivered.refusals),
            ..Delivered::new(self.config.clone())
        };
        self.machine = Subscriber::new(self.config.request(), self.random.next_u64());
        self.bars = Folded::new(&self.config);
    }

    fn peer_of(&self, is_it: impl Fn(&Side) -> bool) -> Option<Upstream> {
        Upstream::ALL.into_iter().find(|&upstream| is_it(&self.sides[index(upstream)]))
    }
}

impl Library {
    fn handle_frames(&mut self, now: Now, conn: ConnId, frames: &[Frame]) {
        for frame in frames {
            assert_eq!(frame.check(), Ok(()), "a node sent a bad frame");
        }
        if let Some(upstream) = self.peer_of(|side| side.conn == Some(conn)) {
            self.sides[index(upstream)].held.extend_from_slice(frames);
            self.go_on(now);
            self.deaf_until = self.config.deaf_until(now, &mut self.random);
        }
    }
}

impl Node for Library {
    fn handle_open(&mut self, now: Now, conn: ConnId, origin: Origin) {
        self.connections.insert_dialed(now, conn);
        self.connections.dialed(conn, ());
        let Origin::Dialed(dial) = origin else { return };
        let Some(upstream) = self.peer_of(|side| side.dial == Some(dial)) else {
            // It was given up meanwhile.
            self.connections.close_after_flush(conn);
            return;
        };
        self.sides[index(upstream)].conn = Some(conn);
        self.machine.handle_connected(now, upstream);
        self.go_on(now);
    }

    fn handle_dial_failed(&mut self, now: Now, dial: DialId, _failure: DialFailure) {
        if let Some(upstream) = self.peer_of(|side| side.dial == Some(dial)) {
            self.sides[index(upstream)] = Side::default();
            self.machine.handle_disconnected(now, upstream);
            self.go_on(now);
        }
    }

    fn handle_close(&mut self, now: Now, conn: ConnId, _reason: CloseReason) {
        self.connections.remove(conn);
        if let Some(upstream) = self.peer_of(|side| side.conn == Some(conn)) {
            // What arrived before the end is still read, as far as it is wanted.
            self.hand_on(now, upstream);
            if self.sides[index(upstream)].conn == Some(conn) {
                self.sides[index(upstream)] = Side::default();
                self.machine.handle_disconnected(now, upstream);
            }
            self.go_on(now);
        }
    }

    fn handle_timers(&mut self, now: Now) {
        self.deaf_until.take_if(|until| *until <= now.mono);
        if self.next_flap.is_some_and(|at| at <= now.mono) {
            self.next_flap = self.config.next_flap(now, &mut self.random);
            if self.sides[0].conn.is_some() {
                self.hang_up(Upstream::Broker);
                self.machine.handle_disconnected(now, Upstream::Broker);
            }
        }
        self.go_on(now);
    }

    fn next_deadline(&self) -> Option<Mono> {
        let own = match self.deaf_until {
            Some(until) => Some(until),
            None => self.machine.deadline(),
        };
        let bars = self.bars.as_ref().and_then(Folded::deadline);
        own.into_iter().chain(bars).chain(self.next_flap).min()
    }

    is_a_client_with!(connections);

    fn wants_bytes(&self, conn: ConnId) -> bool {
        let upstream = self.peer_of(|side| side.conn == Some(conn));
        self.deaf_until.is_none()
            && upstream.is_none_or(|upstream| self.machine.wants_frames(upstream))
    }
}
