//! A producer: the machine of the client library that brings a feed to core, and a program around it that makes the same
//! events again after each death. It holds what it is told against what it was told before.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pregao::limits::SILENCE_MAX;
use pregao::market::tape::Schedule;
use pregao::node::{
    Action, CloseReason, ConnId, Connections, DialFailure, DialId, LocalFault, Node, Origin,
    Outgoing,
};
use pregao::producer::{FeedId, ProduceError, Production};
use pregao::random::Random;
use pregao::time::{Mono, Now};
use pregao::wire::{Cancel, Definition, Frame, Kind, Message, Quote, Trade, as_frames};

use crate::querier::is_a_client_with;

/// The wait before the next dial.
const REDIAL: Duration = Duration::from_millis(80);

#[derive(Clone, Debug)]
pub(crate) struct ProducerConfig {
    pub(crate) core: SocketAddr,
    pub(crate) exchange: &'static str,
    pub(crate) schedule: Schedule,
    /// Whether events wait for their time; else they come as fast as they are taken.
    pub(crate) is_paced: bool,
    pub(crate) seed: u64,
    /// Core's journal may go back to an older copy: then the program begins again, and makes all that core wants.
    pub(crate) begins_again: bool,
    /// All before this number was told to be durable, on any connection and by any process of it.
    pub(crate) durable: Arc<AtomicU64>,
}

/// The program.
pub(crate) struct Producer {
    config: ProducerConfig,
    machine: Production,
    connections: Connections<()>,
    conn: Option<ConnId>,
    redial_at: Option<Mono>,
    last_heard: Mono,
    /// When the first event of the tape was due; known once core has said where to go on.
    begun: Option<Mono>,
    /// What core did that no core does.
    pub(crate) complaint: Option<String>,
}

impl Producer {
    pub(crate) fn new(config: ProducerConfig) -> Producer {
        let id = FeedId::new(config.exchange, config.schedule.identity()).unwrap().behind_others();
        let window = Random::new(config.seed).between(1, 64);
        Producer {
            machine: Production::with_window(id, usize::try_from(window).unwrap()),
            config,
            connections: Connections::default(),
            conn: None,
            redial_at: Some(Mono::default()),
            last_heard: Mono::default(),
            begun: None,
            complaint: None,
        }
    }

    /// The place of the event with this number in the tape, whose definitions come first.
    fn place(&self, number: u64) -> usize {
        self.config.schedule.definitions() + usize::try_from(number - 1).unwrap()
    }

    /// When the next event is due.
    fn next_due(&self) -> Option<Mono> {
        let next = self.machine.next_seq().filter(|_| self.machine.is_ready())?;
        let offset_ns = *self.config.schedule.offsets_ns().get(self.place(next))?;
        let due = self.begun? + Duration::from_nanos(offset_ns);
        self.machine.has_room().then_some(if self.config.is_paced { due } else { Mono::default() })
    }

    /// Makes what is due, and sends what can be sent.
    fn go_on(&mut self, now: Now) {
        if self.machine.is_ready() {
            self.release(now);
        }
        let Some(conn) = self.conn else { return };
        let mut bytes = Vec::new();
        self.machine.poll_bytes(&mut bytes, usize::MAX);
        for frame in as_frames(&bytes).0 {
            self.connections.send_frame(conn, frame);
        }
    }

    fn release(&mut self, now: Now) {
        let next = self.machine.next_seq().expect("it is ready");
        if self.begun.is_none() {
            // A process that was started again goes on with the next event at once.
            let offsets = self.config.schedule.offsets_ns();
            let offset_ns = offsets.get(self.place(next)).copied().unwrap_or(0);
            self.begun = Some(Mono(now.mono.0.saturating_sub(offset_ns)));
        }
        while self.next_due().is_some_and(|due| due <= now.mono) {
            let next = self.machine.next_seq().expect("it is ready");
            let frame = self.config.schedule.frames()[self.place(next)];
            self.make(&frame).unwrap();
        }
        let next = self.machine.next_seq().expect("it is ready");
        if self.place(next) == self.config.schedule.frames().len() {
            self.machine.end();
        }
    }

    /// An event of the tape, with the number that its instrument has here.
    fn make(&mut self, frame: &Frame) -> Result<(), ProduceError> {
        let definitions = &self.config.schedule.frames()[..self.config.schedule.definitions()];
        let is_its = |it: &&Frame| it.instrument() == frame.instrument();
        let definition = definitions.iter().find(is_its).and_then(Frame::view::<Definition>);
        let definition = definition.expect("the tape defines its instruments");
        let instrument = self.machine.define(definition.symbol, definition.decimals())?;
        assert_eq!(instrument.decimals.quantity, definition.decimals().quantity);
        let instrument = instrument.id.into();
        match frame.kind() {
            Some(Kind::Quote) => self.push(Quote { instrument, ..*frame.view().unwrap() }),
            Some(Kind::Trade) => self.push(Trade { instrument, ..*frame.view().unwrap() }),
            _ => self.push(Cancel { instrument, ..*frame.view::<Cancel>().unwrap() }),
        }
    }

    fn push<M: Message>(&mut self, event: M) -> Result<(), ProduceError> {
        self.machine.push(event).map(drop)
    }

    fn take(&mut self, now: Now, conn: ConnId, frame: &Frame) {
        if let Err(error) = self.machine.handle_frame(frame) {
            self.hang_up(now, conn);
            if error.is_final() && self.config.begins_again {
                self.begin_again();
            } else if error.is_final() {
                self.complaint.get_or_insert(error.to_string());
            }
            return;
        }
        let told = self.config.durable.load(Ordering::Relaxed);
        let is_behind = self.machine.is_ready() && self.machine.next_seq() < Some(told);
        if is_behind && !self.config.begins_again {
            let text = format!("{told} was durable, and core wants {:?}", self.machine.next_seq());
            self.complaint.get_or_insert(text);
        }
        self.config.durable.fetch_max(self.machine.durable_seq(), Ordering::Relaxed);
    }

    /// The program is started once more.
    fn begin_again(&mut self) {
        let window = Random::new(self.config.seed).between(1, 64);
        let window = usize::try_from(window).unwrap();
        self.machine = Production::with_window(self.machine.id(), window);
        self.begun = None;
    }

    fn hang_up(&mut self, now: Now, conn: ConnId) {
        if self.conn.take_if(|it| *it == conn).is_some() {
            self.connections.close_after_flush(conn);
            self.machine.handle_close();
            self.redial_at = Some(now.mono + REDIAL);
        }
    }

    fn handle_frames(&mut self, now: Now, conn: ConnId, frames: &[Frame]) {
        self.last_heard = now.mono;
        for frame in frames {
            if self.conn == Some(conn) {
                self.take(now, conn, frame);
            }
        }
        self.go_on(now);
    }
}

impl Node for Producer {
    fn handle_open(&mut self, now: Now, conn: ConnId, _origin: Origin) {
        self.connections.insert_dialed(now, conn);
        self.connections.dialed(conn, ());
        (self.conn, self.last_heard) = (Some(conn), now.mono);
        self.machine.handle_open();
        self.go_on(now);
    }

    fn handle_dial_failed(&mut self, now: Now, _dial: DialId, _failure: DialFailure) {
        self.redial_at = Some(now.mono + REDIAL);
    }

    fn handle_close(&mut self, now: Now, conn: ConnId, _reason: CloseReason) {
        self.connections.remove(conn);
        if self.conn == Some(conn) {
            self.conn = None;
            self.machine.handle_close();
            self.redial_at = Some(now.mono + REDIAL);
        }
    }

    fn handle_timers(&mut self, now: Now) {
        if let Some(conn) = self.conn
            && now.mono.since(self.last_heard) >= SILENCE_MAX
        {
            self.hang_up(now, conn);
        }
        if self.redial_at.take_if(|at| *at <= now.mono).is_some() {
            self.connections.dial(DialId(0), self.config.core, Duration::from_secs(1));
        }
        self.go_on(now);
    }

    fn next_deadline(&self) -> Option<Mono> {
        let silent_at = self.conn.map(|_| self.last_heard + SILENCE_MAX);
        [self.redial_at, self.next_due(), silent_at].into_iter().flatten().min()
    }

    is_a_client_with!(connections, always reads);
}
