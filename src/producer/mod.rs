//! A producer as a machine: the feed that a program brings to core, on whatever connection it has. It numbers events, keeps them
//! until core says that they are durable, and sends again what core does not have.
//!
//! Who drives it brings the connection, the waits and the time: [`crate::client::Producer`] is the blocking one.
//!
//! Invariant: what core has acknowledged is not sent again, and what it has not acknowledged is not forgotten.
//!
//! # Decisions
//!
//! * What is kept has a bound ([`crate::limits::PRODUCER_WINDOW_FRAMES`]). When it is full, the caller waits: back-pressure
//!   reaches whoever makes the events.
//! * Frames are kept until they are durable, not only until core has taken them in: a core that loses its power wants them
//!   again. Where core's journal makes nothing durable by itself, what is taken in is enough.
//! * Nothing is defined before core has told the instruments that it has of the exchange: an instrument keeps its units of
//!   quantities, and only core knows those of an earlier run.

mod error;
mod records;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};

use zerocopy::IntoBytes;

pub use error::ProduceError;
pub use records::{QUANTITY_DECIMALS_DEFAULT, RecordEvent, decimals_of, event_of};

use crate::limits::{EXCHANGE_NAME_BYTES_MAX, INSTRUMENTS_MAX, PRODUCER_WINDOW_FRAMES};
use crate::market::venue::check_exchange_name;
use crate::planted::{Bug, is_planted};
use crate::wire::{
    Ack, Decimals, Definition, ErrorCode, Flags, Frame, FullName, Heartbeat, InstrumentId,
    InstrumentIndex, InstrumentName, Kind, Message, QUANTITY_DECIMALS_MAX, Refusal, Resume, Role,
    Seq, Session, SnapshotEnd, Symbol, U16, U32, U64, padded, unpadded,
};

/// Which feed of which exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeedId {
    exchange: [u8; EXCHANGE_NAME_BYTES_MAX],
    feed: u64,
    appends: bool,
}

impl FeedId {
    /// The feed with this identity, of the exchange of this name. The same events from the same beginning must have the same
    /// identity, and others another one.
    ///
    /// # Errors
    /// When that is no name of an exchange, or the identity is 0.
    pub fn new(exchange: &str, feed: u64) -> Result<FeedId, ProduceError> {
        check_exchange_name(exchange)?;
        if feed == 0 {
            return Err(ProduceError::NoIdentity);
        }
        Ok(FeedId { exchange: padded(exchange), feed, appends: false })
    }

    /// The same, and it may come behind another feed that core has of this exchange. Else core refuses it: the same events under
    /// another identity would be there twice.
    #[must_use]
    pub fn behind_others(self) -> FeedId {
        FeedId { appends: true, ..self }
    }

    /// The name of the exchange.
    #[must_use]
    pub fn exchange(&self) -> String {
        unpadded(&self.exchange)
    }

    /// The identity of the feed.
    #[must_use]
    pub fn feed(&self) -> u64 {
        self.feed
    }
}

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Away,
    /// SESSION is sent, or about to be.
    Greeting,
    /// Core tells the instruments that it has.
    Told,
    Streaming,
}

/// An instrument that a producer has defined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instrument {
    /// Its number, for the events of it.
    pub id: InstrumentId,
    /// Its decimals, as core has them.
    pub decimals: Decimals,
}

/// A feed on its way to core.
#[derive(Debug)]
pub struct Production {
    id: FeedId,
    state: State,
    /// How many events are kept at most.
    window_max: usize,
    /// The lowest number of the feed.
    first: u64,
    /// Events that are not durable, in order.
    window: VecDeque<Frame>,
    /// The number of the first event of the window, or of the next one if there is none. `None` before core has said it.
    front: Option<u64>,
    /// The number of the next event to send on this connection.
    cursor: u64,
    accepted: u64,
    durable: u64,
    /// Whether core's journal makes durable what it has taken in.
    waits_for_disk: bool,
    /// All events that there are; `None`: not known yet.
    end: Option<u64>,
    is_end_sent: bool,
    /// What is to be sent ahead of the next event.
    control: Vec<Frame>,
    /// How many instruments core takes that it does not have, and how many of ours these are.
    room: usize,
    further: usize,
    /// What core has of this exchange, by the names that it uses.
    known: BTreeMap<Symbol, Decimals>,
    /// Of each instrument its definition, and the parts of its full name where it has one.
    definitions: Vec<Frame>,
    by_symbol: BTreeMap<Symbol, Instrument>,
    /// Full names of symbols that stand for one.
    full_names: BTreeMap<Symbol, FullName>,
    /// How many definitions were sent on this connection.
    defined: usize,
    sessions: u64,
}

impl Production {
    /// Nothing is sent before [`Production::handle_open`].
    #[must_use]
    pub fn new(id: FeedId) -> Production {
        Production::with_window(id, PRODUCER_WINDOW_FRAMES)
    }

    /// The same, and no more than so many events are kept.
    #[must_use]
    pub fn with_window(id: FeedId, window_max: usize) -> Production {
        Production {
            id,
            state: State::Away,
            window_max,
            first: 1,
            window: VecDeque::new(),
            front: None,
            cursor: 1,
            accepted: 0,
            durable: 0,
            waits_for_disk: true,
            end: None,
            is_end_sent: false,
            control: Vec::new(),
            room: 0,
            further: 0,
            known: BTreeMap::new(),
            definitions: Vec::new(),
            full_names: BTreeMap::new(),
            by_symbol: BTreeMap::new(),
            defined: 0,
            sessions: 0,
        }
    }

    /// Which feed it is.
    #[must_use]
    pub fn id(&self) -> FeedId {
        self.id
    }

    /// A connection to core stands.
    pub fn handle_open(&mut self) {
        self.handle_close();
        self.state = State::Greeting;
        self.control.push(Frame::seal(Session {
            role: Role::Producer as u8,
            options: U16::new(if self.id.appends { Session::APPENDS } else { 0 }),
            // Who has sent nothing yet can begin wherever core wants.
            next_seq: U64::new(self.front.unwrap_or(self.first)),
            durable_seq: U64::new(self.end.or(self.next_seq()).unwrap_or(0)),
            feed: U64::new(self.id.feed),
            name: padded(&self.id.exchange()),
            ..Session::default()
        }));
    }

    /// The connection is gone.
    pub fn handle_close(&mut self) {
        (self.state, self.defined, self.is_end_sent) = (State::Away, 0, false);
        self.control.clear();
    }

    /// Whether core has said where the feed goes on and which instruments it has: then events can be made.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.state == State::Streaming
    }

    /// Whether there is a connection, however far it is.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.state != State::Away
    }

    /// How often core has let it in.
    #[must_use]
    pub fn sessions(&self) -> u64 {
        self.sessions
    }

    /// The number of the next event that [`Production::push`] takes; `None` before core has said it. What is before it, core
    /// has, or it is kept here.
    #[must_use]
    pub fn next_seq(&self) -> Option<u64> {
        Some(self.front? + self.window.len() as u64)
    }

    /// Core's journal has every event before this number: they survive the death of its process.
    #[must_use]
    pub fn accepted_seq(&self) -> u64 {
        self.accepted
    }

    /// Every event before this number survives a loss of power, or core's journal makes nothing durable and has it.
    #[must_use]
    pub fn durable_seq(&self) -> u64 {
        let waits_for_disk = self.waits_for_disk && !is_planted(Bug::ForgetAccepted);
        if waits_for_disk { self.durable } else { self.accepted }
    }

    /// Whether core has acknowledged all that was pushed.
    #[must_use]
    pub fn is_durable(&self) -> bool {
        self.front.is_some() && self.window.is_empty()
    }

    /// Whether [`Production::push`] takes an event.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.window.len() < self.window_max && self.front.is_some()
    }

    /// Events that are kept: core has not said that they are durable.
    #[must_use]
    pub fn kept(&self) -> usize {
        self.window.len()
    }

    /// Begins another feed, and forgets the events that are kept: core is told that some are missing.
    pub fn begin_anew(&mut self, id: FeedId) {
        let first = 2;
        *self = Production { first, ..Production::with_window(id, self.window_max) };
    }

    /// Events that are not sent on this connection.
    #[must_use]
    pub fn unsent(&self) -> u64 {
        self.next_seq().unwrap_or(0).saturating_sub(self.cursor)
    }

    /// Gives an instrument its number, or finds the one that it has. `decimals` are those that its prices are shown with and
    /// those of a unit of quantities; those that core has of it outweigh them.
    ///
    /// # Errors
    /// When core has not told its instruments, or there are too many.
    pub fn define(
        &mut self,
        symbol: Symbol,
        decimals: Decimals,
    ) -> Result<Instrument, ProduceError> {
        if let Some(instrument) = self.by_symbol.get(&symbol) {
            return Ok(*instrument);
        }
        if self.sessions == 0 || self.state == State::Told {
            return Err(ProduceError::NotReady);
        }
        if symbol.is_reserved() {
            return Err(ProduceError::Reserved(symbol));
        }
        let full = || ProduceError::TooManyInstruments;
        let index = InstrumentIndex::at(self.by_symbol.len()).ok_or_else(full)?;
        if index.place() >= INSTRUMENTS_MAX {
            return Err(full());
        }
        let known = self.known.get(&Symbol::at_venue(&self.id.exchange(), &symbol).0);
        let is_further = known.is_none();
        if is_further && self.further >= self.room {
            return Err(full());
        }
        let decimals = known.copied().unwrap_or(decimals);
        if decimals.quantity > QUANTITY_DECIMALS_MAX {
            return Err(ProduceError::QuantityDecimals(decimals.quantity));
        }
        let id = InstrumentId::new(0, index);
        let definition = Definition::new(id, symbol, decimals.price);
        let definition = Frame::seal(definition.with_quantity_decimals(decimals.quantity));
        self.definitions.push(definition.delivered(Flags::SNAPSHOT));
        self.further += usize::from(is_further);
        let instrument = Instrument { id, decimals };
        self.by_symbol.insert(symbol, instrument);
        Ok(instrument)
    }

    /// The same of an instrument with a name that may be longer than a symbol: a symbol stands for it then, and core is told the
    /// name.
    ///
    /// # Errors
    /// As [`Production::define`], and when the symbol stands for another name already.
    pub fn define_named(
        &mut self,
        name: &FullName,
        decimals: Decimals,
    ) -> Result<Instrument, ProduceError> {
        let symbol = name.symbol();
        let instrument = self.define(symbol, decimals)?;
        match self.full_names.get(&symbol) {
            Some(other) if other != name => {
                return Err(ProduceError::NamesAlike(Box::new(*other), Box::new(*name)));
            }
            None if name.as_str() != symbol.as_str() => {
                let parts = InstrumentName::parts(instrument.id, name);
                self.definitions.extend(parts.map(|part| part.delivered(Flags::SNAPSHOT)));
                self.full_names.insert(symbol, *name);
            }
            _ => {}
        }
        Ok(instrument)
    }

    /// Gives an event of a defined instrument the next number, and keeps it. Returns the number.
    ///
    /// # Errors
    /// When it is no event of an instrument that was defined, there is no room, or core has not said where the feed goes on.
    pub fn push<M: Message>(&mut self, event: M) -> Result<u64, ProduceError> {
        if !matches!(M::KIND, Kind::Quote | Kind::Trade | Kind::Cancel) {
            return Err(ProduceError::NotAnEvent(M::KIND));
        }
        let seq = self.next_seq().filter(|seq| *seq < u64::MAX).ok_or(ProduceError::NotReady)?;
        if !self.has_room() {
            return Err(ProduceError::NoRoom);
        }
        let mut frame = Frame::seal(event);
        let instrument = frame.instrument();
        if instrument.source() != 0 || instrument.index().place() >= self.by_symbol.len() {
            return Err(ProduceError::Undefined(instrument));
        }
        frame.seq = U64::new(seq);
        frame.renew_crc();
        // What core refuses would be kept for ever.
        frame.check()?;
        self.window.push_back(frame);
        Ok(seq)
    }

    /// So many events there are in all. Core is told ahead of the first one, and does not take numbers behind them for its own.
    pub fn set_total(&mut self, events: u64) {
        self.end = Some(events.saturating_add(1));
    }

    /// There are no more events. Core is told when it has been sent all of them.
    pub fn end(&mut self) {
        self.end = self.next_seq();
    }

    /// Whether core was told on this connection that all events were sent.
    #[must_use]
    pub fn is_end_sent(&self) -> bool {
        self.is_end_sent
    }

    /// A frame of core.
    ///
    /// # Errors
    /// Why the connection cannot be used any more; [`ProduceError::is_final`] says whether another one can.
    pub fn handle_frame(&mut self, frame: &Frame) -> Result<(), ProduceError> {
        frame.check()?;
        if let Some(refusal) = frame.view::<Refusal>() {
            if refusal.id.get() != 0 {
                return Ok(());
            }
            let code = ErrorCode::from_number(refusal.code.get());
            return Err(ProduceError::Refused { code, text: unpadded(&refusal.text) });
        }
        match self.state {
            State::Away => Ok(()),
            State::Greeting => {
                let session = frame.view::<Session>().ok_or(ProduceError::Confused)?;
                self.begin(session)
            }
            State::Told | State::Streaming => self.handle_stream(frame),
        }
    }

    fn begin(&mut self, session: &Session) -> Result<(), ProduceError> {
        let next = session.next_seq().filter(|next| *next < Seq::LAST).map(Seq::get);
        let next = next.ok_or(ProduceError::Confused)?;
        if session.feed.get() != self.id.feed {
            return Err(ProduceError::Confused);
        }
        if let (Some(front), Some(behind)) = (self.front, self.next_seq()) {
            if next > behind {
                return Err(ProduceError::AnotherProducer);
            }
            if next < front {
                return Err(ProduceError::JournalWentBack);
            }
        } else {
            self.front = Some(next);
        }
        (self.cursor, self.accepted) = (next, next);
        // What core had before is as durable as it says in its first acknowledgement.
        self.waits_for_disk = session.durable_seq.get() != 0;
        self.known.clear();
        (self.state, self.sessions) = (State::Told, self.sessions.saturating_add(1));
        Ok(())
    }

    fn handle_stream(&mut self, frame: &Frame) -> Result<(), ProduceError> {
        if let Some(ack) = frame.view::<Ack>() {
            return self.handle_ack(ack);
        }
        if let Some(resume) = frame.view::<Resume>() {
            return self.go_back(resume);
        }
        if let Some(beat) = frame.view::<Heartbeat>() {
            if beat.flags.get() & Flags::MORE != 0 {
                self.say_cursor(beat.token);
            }
            return Ok(());
        }
        if self.state != State::Told {
            return Err(ProduceError::Confused);
        }
        if let Some(definition) = frame.view::<Definition>() {
            if self.known.len() < INSTRUMENTS_MAX {
                self.known.insert(definition.symbol, definition.decimals());
            }
            return Ok(());
        }
        let end = frame.view::<SnapshotEnd>().ok_or(ProduceError::Confused)?;
        self.state = State::Streaming;
        self.room = usize::try_from(end.id.get()).unwrap_or(usize::MAX);
        self.check_instruments()
    }

    /// An instrument keeps its units. Another journal may have others than the one of before, or other instruments.
    fn check_instruments(&mut self) -> Result<(), ProduceError> {
        let exchange = self.id.exchange();
        self.further = 0;
        for (symbol, instrument) in &self.by_symbol {
            let known = self.known.get(&Symbol::at_venue(&exchange, symbol).0);
            if let Some(known) = known.filter(|it| it.quantity != instrument.decimals.quantity) {
                return Err(ProduceError::Units(*symbol, known.quantity));
            }
            self.further += usize::from(known.is_none());
        }
        if self.further > self.room { Err(ProduceError::TooManyInstruments) } else { Ok(()) }
    }

    fn handle_ack(&mut self, ack: &Ack) -> Result<(), ProduceError> {
        let place = |field: Option<Seq>| field.map_or(0, Seq::get);
        let (accepted, durable) = (place(ack.accepted_seq()), place(ack.durable_seq()));
        if accepted > self.cursor || durable > accepted {
            return Err(ProduceError::Confused);
        }
        self.accepted = self.accepted.max(accepted);
        self.durable = self.durable.max(durable);
        let (done, front) = (self.durable_seq(), self.front.unwrap_or(1));
        let count = usize::try_from(done.saturating_sub(front)).unwrap_or(usize::MAX);
        let count = count.min(self.window.len());
        self.window.drain(..count);
        self.front = Some(front + count as u64);
        Ok(())
    }

    fn go_back(&mut self, resume: &Resume) -> Result<(), ProduceError> {
        let wanted = resume.next_seq().map_or(0, Seq::get);
        if self.front > Some(wanted) || wanted > self.cursor {
            return Err(ProduceError::Confused);
        }
        // The end stands behind the events, so it is said again.
        (self.cursor, self.is_end_sent) = (wanted, false);
        self.say_cursor(resume.id);
        Ok(())
    }

    /// All before the cursor has been sent.
    fn say_cursor(&mut self, token: U32) {
        // A peer asks one thing at a time; one that asks more is answered the last.
        self.control.retain(|frame| frame.view::<Heartbeat>().is_none());
        let flags = if self.is_end_sent { Flags::ENDED } else { 0 };
        let (flags, next_seq) = (U16::new(flags), U64::new(self.cursor));
        self.control.push(Frame::seal(Heartbeat {
            flags,
            token,
            next_seq,
            ..Heartbeat::default()
        }));
    }

    /// Appends what comes next on the connection to `out`, at most so many frames.
    pub fn poll_bytes(&mut self, out: &mut Vec<u8>, frames_max: usize) {
        for frame in self.control.drain(..) {
            out.extend_from_slice(frame.as_bytes());
        }
        if self.state != State::Streaming {
            return;
        }
        let mut room = frames_max;
        let definitions = self.definitions.get(self.defined..).unwrap_or_default();
        let count = definitions.len().min(room);
        out.extend_from_slice(definitions[..count].as_bytes());
        (self.defined, room) = (self.defined + count, room - count);
        if self.defined < self.definitions.len() {
            return;
        }
        let sent = self.cursor.saturating_sub(self.front.unwrap_or(1));
        let sent = usize::try_from(sent).unwrap_or(usize::MAX).min(self.window.len());
        let end = self.window.len().min(sent.saturating_add(room));
        let (head, tail) = self.window.as_slices();
        let split = head.len();
        out.extend_from_slice(head[sent.min(split)..end.min(split)].as_bytes());
        out.extend_from_slice(tail[sent.max(split) - split..end.max(split) - split].as_bytes());
        self.cursor += (end - sent) as u64;
        if self.end == Some(self.cursor) && !self.is_end_sent {
            self.is_end_sent = true;
            self.say_cursor(U32::ZERO);
            for frame in self.control.drain(..) {
                out.extend_from_slice(frame.as_bytes());
            }
        }
    }
}
