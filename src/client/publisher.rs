//! The blocking shell of a publisher: one source, one sequence, and the broker's answers to it. What it is
//! *not*: durable. It keeps no journal; whoever needs one publishes through core.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use super::{ClientError, Connection, random_id};
use crate::limits::{
    CLIENT_CONNECT_MAX, CLOCK_STEP_DEFAULT, INSTRUMENTS_MAX, PUBLISH_UNACCEPTED_MAX, SILENCE_MAX,
};
use crate::time::{Clock, Follow, Mono, SteadyTime};
use crate::wire::{
    Ack, Decimals, Definition, Frame, FullName, Heartbeat, InstrumentId, InstrumentIndex,
    InstrumentName, Kind, Message, NameError, QUANTITY_DECIMALS_MAX, Refusal, Role, Session,
    Symbol, U32, U64, next_instrument_seq, padded,
};

const NODE: &str = "broker";
/// The `seq` of the first frame.
const FIRST_SEQ: u64 = 1;

/// Why something was not published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The broker refused, or it is gone, or the way to it is.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// That is no symbol.
    #[error(transparent)]
    Symbol(#[from] NameError),
    /// Control frames and definitions have no place among the events.
    #[error("a frame of kind {0:?} is not an event of an instrument")]
    NotAnEvent(Kind),
    /// The caller has not defined this instrument.
    #[error("instrument {0:#x} was not defined by this publisher")]
    Undefined(InstrumentId),
    /// The source has all the instruments that it may have.
    #[error("a source has at most {INSTRUMENTS_MAX} instruments")]
    TooManyInstruments,
    /// A unit of quantities would be finer than a definition can say.
    #[error("a unit of quantities has at most {QUANTITY_DECIMALS_MAX} decimals, not {0}")]
    QuantityDecimals(u8),
    /// The broker has frames of this epoch already, which this publisher does not know.
    #[error("the broker has frames of epoch {0} already; begin with a later epoch")]
    EpochInUse(u32),
}

/// The publisher of one source at a broker.
///
/// It begins a new sequence and numbers the frames. At most [`PUBLISH_UNACCEPTED_MAX`] frames are on their
/// way: after that, publishing waits until the broker has accepted some.
///
/// ```
/// use pregao::client::{Event, LocalBroker, Publisher, Request, Subscription};
/// use pregao::feed::Pattern;
/// use pregao::time::Mono;
/// use pregao::wire::{I64, Seq, Trade, U64};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// // A broker in this process; a running system has its own, on port 8081. There core publishes source 1.
/// let broker = LocalBroker::start()?;
/// let source = 2;
/// let mut publisher = Publisher::open(broker.address(), source, 1)?;
/// let gold = publisher.define("GOLD", 2)?;
/// let (instrument, price, qty) = (gold.into(), I64::new(2_650_500_000_000), U64::new(3));
/// let seq = publisher.publish(Trade { instrument, price, qty, ..Trade::default() })?;
/// publisher.wait_accepted(Mono(u64::MAX))?;
///
/// let (patterns, from_seq) = (vec![Pattern::new("GOLD", 0)?], Some(Seq::FIRST));
/// let request = Request { source, from_seq, ..Request::market(patterns) };
/// let mut events = Subscription::open(broker.address(), broker.address(), request)?;
/// let trade = events.find_map(|event| match event {
///     Ok(Event::Data(frame)) => frame.view::<Trade>().copied(),
///     _ => None,
/// });
/// assert_eq!(trade.map(|trade| (trade.seq.get(), trade.qty.get())), Some((seq, 3)));
/// # Ok(())
/// # }
/// ```
///
/// The broker asks a publisher that is quiet for half a second whether it is there. Whoever publishes nothing for
/// longer waits in [`Publisher::wait_until`], which answers; else subscribers are told that the feed is stale, until
/// the next frame.
#[derive(Debug)]
pub struct Publisher {
    connection: Connection,
    clock: Clock,
    /// What receive times are taken from.
    received: SteadyTime,
    source: u8,
    epoch: u32,
    instruments: InstrumentIndex,
    next_seq: u64,
    accepted_seq: u64,
    /// How long the broker may accept nothing while it has to.
    patience: Duration,
    /// The next `instrument_seq` by instrument and kind.
    next_of_kind: BTreeMap<(InstrumentId, u8), u32>,
}

impl Publisher {
    /// Takes over a source that nobody publishes and begins its sequence anew. `epoch` must be later than all that
    /// were used for this source at this broker; seconds since 1970 will do. What the source had before is void. While
    /// another publisher lives, the broker refuses.
    ///
    /// # Errors
    /// When the broker cannot be reached, refuses, or has frames of this epoch.
    pub fn open(broker: SocketAddr, source: u8, epoch: u32) -> Result<Publisher, PublishError> {
        let clock = Clock::start();
        let session = Session {
            role: Role::Publisher as u8,
            source,
            epoch: U32::new(epoch),
            epoch_start: U64::new(FIRST_SEQ),
            next_seq: U64::new(FIRST_SEQ),
            feed: U64::new(random_id()),
            name: padded("publisher"),
            ..Session::default()
        };
        let mut connection = Connection::open_as(NODE, broker, session, CLIENT_CONNECT_MAX, clock)?;
        if connection.session().next_seq.get() > FIRST_SEQ {
            return Err(PublishError::EpochInUse(epoch));
        }
        connection.send(Heartbeat { next_seq: U64::new(FIRST_SEQ), ..Heartbeat::default() })?;
        Ok(Publisher {
            connection,
            clock,
            received: SteadyTime::start(Follow::Receipts, None, CLOCK_STEP_DEFAULT, clock.now()),
            source,
            epoch,
            instruments: InstrumentIndex::FIRST,
            next_seq: FIRST_SEQ,
            accepted_seq: FIRST_SEQ,
            patience: SILENCE_MAX,
            next_of_kind: BTreeMap::new(),
        })
    }

    /// The clock that deadlines are measured with.
    #[must_use]
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// The next `seq` that will be published.
    #[must_use]
    pub fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// The broker has accepted every frame before this `seq`.
    #[must_use]
    pub fn accepted_seq(&self) -> u64 {
        self.accepted_seq
    }

    /// Gives a new instrument a number and publishes its definition. `decimals` (0 to 9) is how many its
    /// prices are shown with.
    ///
    /// # Errors
    /// When the symbol is none, the source is full, or the broker refuses or is gone.
    pub fn define(&mut self, symbol: &str, decimals: u8) -> Result<InstrumentId, PublishError> {
        self.define_with(symbol, Decimals { price: decimals, quantity: 0 })
    }

    /// The same with quantities in units of so many decimals (0 to 14): with 8 a quantity of 12,345 is 0.00012345.
    ///
    /// # Errors
    /// As [`Publisher::define`].
    pub fn define_with(
        &mut self,
        name: &str,
        decimals: Decimals,
    ) -> Result<InstrumentId, PublishError> {
        let symbol = Symbol::meant_by(name)?;
        let is_longer = name.len() > Symbol::BYTES_MAX;
        let longer = if is_longer { Some(name.parse::<FullName>()?) } else { None };
        if self.instruments.place() >= INSTRUMENTS_MAX {
            return Err(PublishError::TooManyInstruments);
        }
        let instrument = InstrumentId::new(self.source, self.instruments);
        if decimals.quantity > QUANTITY_DECIMALS_MAX {
            return Err(PublishError::QuantityDecimals(decimals.quantity));
        }
        let definition = Definition::new(instrument, symbol, decimals.price);
        self.send(Frame::seal(definition.with_quantity_decimals(decimals.quantity)))?;
        for part in longer.iter().flat_map(|name| InstrumentName::parts(instrument, name)) {
            self.send(part)?;
        }
        self.instruments = self.instruments.next();
        Ok(instrument)
    }

    /// Publishes an event of an instrument, with the next numbers and the time of now as its receive time.
    /// Returns its `seq`. Waits when too many frames are not accepted yet.
    ///
    /// # Errors
    /// When it is no event of an instrument of this publisher, or the broker refuses, accepts nothing for
    /// [`SILENCE_MAX`], or is gone.
    pub fn publish<M: Message>(&mut self, event: M) -> Result<u64, PublishError> {
        if !M::KIND.is_data() || matches!(M::KIND, Kind::Definition | Kind::InstrumentName) {
            return Err(PublishError::NotAnEvent(M::KIND));
        }
        let mut frame = Frame::seal(event);
        let instrument = frame.instrument();
        if instrument.source() != self.source || instrument.index() >= self.instruments {
            return Err(PublishError::Undefined(instrument));
        }
        let topic = (instrument, frame.kind);
        let next = self.next_of_kind.get(&topic).copied().unwrap_or(1);
        frame.instrument_seq = U32::new(next);
        let seq = self.send(frame)?;
        self.next_of_kind.insert(topic, next_instrument_seq(next));
        Ok(seq)
    }

    /// Waits until the broker has accepted everything; whether it has, when the deadline comes.
    ///
    /// # Errors
    /// When the broker refuses or is gone.
    pub fn wait_accepted(&mut self, deadline: Mono) -> Result<bool, ClientError> {
        self.read_until(deadline, |publisher| publisher.accepted_seq >= publisher.next_seq)
    }

    /// Lets time pass until the deadline and answers the broker meanwhile. Whoever publishes nothing for
    /// longer must wait here, or the broker takes the publisher for dead.
    ///
    /// # Errors
    /// When the broker refuses or is gone.
    pub fn wait_until(&mut self, deadline: Mono) -> Result<(), ClientError> {
        self.read_until(deadline, |_| false).map(drop)
    }

    /// Sends a frame as the next one of the sequence.
    fn send(&mut self, mut frame: Frame) -> Result<u64, ClientError> {
        let now = self.clock.now();
        self.wait_for_room(now.mono + self.patience)?;
        let seq = self.next_seq;
        frame.seq = U64::new(seq);
        frame.ts_recv = U64::new(self.received.read(now));
        frame.renew_crc();
        if let Err(error) = self.connection.send_frame(&frame) {
            // The broker closes behind a refusal, which says more than the broken connection does.
            let refusal = self.read_until(Mono(u64::MAX), |_| false).err();
            return Err(refusal.filter(is_refusal).unwrap_or(error));
        }
        self.next_seq += 1;
        Ok(seq)
    }

    fn wait_for_room(&mut self, deadline: Mono) -> Result<(), ClientError> {
        let has_room = |it: &Publisher| it.next_seq - it.accepted_seq < PUBLISH_UNACCEPTED_MAX;
        match self.read_until(deadline, has_room)? {
            true => Ok(()),
            false => Err(ClientError::Deadline { node: NODE }),
        }
    }

    /// Reads until it is enough; whether it is, when the deadline comes.
    fn read_until(
        &mut self,
        deadline: Mono,
        is_enough: impl Fn(&Publisher) -> bool,
    ) -> Result<bool, ClientError> {
        while !is_enough(self) {
            let Some(frame) = self.connection.read(deadline)? else { return Ok(false) };
            if frame.view::<Refusal>().is_some() {
                return Err(self.connection.refused(&frame));
            }
            if let Some(ack) = frame.view::<Ack>()
                && ack.epoch.get() == self.epoch
            {
                self.accepted_seq = self.accepted_seq.max(ack.accepted_seq.get());
            }
        }
        Ok(true)
    }
}

fn is_refusal(error: &ClientError) -> bool {
    matches!(error, ClientError::Refused { .. })
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{Ipv4Addr, TcpListener};

    use zerocopy::IntoBytes;

    use super::*;
    use crate::client::{Event, LocalBroker, Request, Subscription};
    use crate::feed::Pattern;
    use crate::wire::{ErrorCode, FRAME_BYTES, Quote, Trade};

    const SOURCE: u8 = 3;
    const FAR: Mono = Mono(u64::MAX);

    fn trade(instrument: InstrumentId) -> Trade {
        Trade { instrument: instrument.into(), ..Trade::default() }
    }

    #[test]
    fn more_frames_than_may_be_under_way_come_in_order_and_each_kind_is_counted() {
        let broker = LocalBroker::start().unwrap();
        let mut publisher = Publisher::open(broker.address(), SOURCE, 1).unwrap();
        let instruments = ["A", "B"].map(|symbol| publisher.define(symbol, 2).unwrap());
        let rounds = 2 * PUBLISH_UNACCEPTED_MAX;
        for _ in 0..rounds {
            for instrument in instruments {
                publisher.publish(trade(instrument)).unwrap();
            }
            let quote = Quote { instrument: instruments[0].into(), ..Quote::default() };
            publisher.publish(quote).unwrap();
        }
        assert!(publisher.wait_accepted(FAR).unwrap());
        assert_eq!(publisher.accepted_seq(), publisher.next_seq());

        let patterns = vec![Pattern::new("*", 0).unwrap()];
        let from_seq = Some(crate::wire::Seq::FIRST);
        let request = Request { source: SOURCE, from_seq, ..Request::market(patterns) };
        let events = Subscription::open(broker.address(), broker.address(), request).unwrap();
        let frames = events.filter_map(|event| match event.unwrap() {
            Event::Data(frame) => Some(frame),
            Event::Live { .. }
            | Event::Stale
            | Event::Ended
            | Event::Current
            | Event::Exchange { .. } => None,
            lost @ Event::Lost { .. } => panic!("{lost:?}"),
        });
        let mut counts: BTreeMap<(InstrumentId, u8), u32> = BTreeMap::new();
        let wanted = usize::try_from(publisher.next_seq() - 1).unwrap();
        // Definitions come ahead of the sequence too, as a snapshot.
        let frames = frames.filter(|frame| !frame.has(crate::wire::Flags::SNAPSHOT));
        for (frame, seq) in frames.take(wanted).zip(1..) {
            assert_eq!(frame.seq.get(), seq);
            if frame.kind() != Some(Kind::Definition) {
                let count = counts.entry((frame.instrument(), frame.kind)).or_default();
                *count += 1;
                assert_eq!(frame.instrument_seq.get(), *count);
            }
        }
        let each = u32::try_from(rounds).unwrap();
        assert_eq!(counts.into_values().collect::<Vec<_>>(), [each; 3]);
    }

    /// Somebody else publishes this source.
    fn is_taken(error: &PublishError) -> bool {
        let taken = Some(ErrorCode::Unexpected);
        matches!(error, PublishError::Client(ClientError::Refused { code, .. }) if *code == taken)
    }

    /// The broker may read the end of the one before later than it accepts this one.
    fn open_when_free(broker: &LocalBroker, epoch: u32) -> Result<Publisher, PublishError> {
        let clock = Clock::start();
        let end = clock.now().mono + SILENCE_MAX;
        loop {
            match Publisher::open(broker.address(), SOURCE, epoch) {
                Err(error) if is_taken(&error) && clock.now().mono < end => {}
                opened => return opened,
            }
        }
    }

    #[test]
    fn a_living_publisher_is_not_displaced() {
        let broker = LocalBroker::start().unwrap();
        let mut first = Publisher::open(broker.address(), SOURCE, 1).unwrap();
        let instrument = first.define("A", 2).unwrap();
        let error = Publisher::open(broker.address(), SOURCE, 2).unwrap_err();
        assert!(is_taken(&error), "{error}");
        first.publish(trade(instrument)).unwrap();
        assert!(first.wait_accepted(FAR).unwrap());
    }

    #[test]
    fn an_epoch_with_frames_is_not_continued_by_who_does_not_know_them() {
        let broker = LocalBroker::start().unwrap();
        let mut first = Publisher::open(broker.address(), SOURCE, 5).unwrap();
        first.define("A", 2).unwrap();
        assert!(first.wait_accepted(FAR).unwrap());
        drop(first);
        let again = open_when_free(&broker, 5);
        assert!(matches!(again, Err(PublishError::EpochInUse(5))), "{again:?}");
        open_when_free(&broker, 6).unwrap();
    }

    #[test]
    fn what_the_broker_would_refuse_is_not_sent() {
        let broker = LocalBroker::start().unwrap();
        let mut publisher = Publisher::open(broker.address(), SOURCE, 1).unwrap();
        let instrument = publisher.define("A", 2).unwrap();
        let index = instrument.index();
        let of = InstrumentId::new;
        for foreign in [of(SOURCE, index.next()), of(0, index), of(1, InstrumentIndex::FIRST)] {
            let refused = publisher.publish(trade(foreign));
            assert!(matches!(refused, Err(PublishError::Undefined(it)) if it == foreign));
        }
        let refused = publisher.publish(Heartbeat::default());
        assert!(matches!(refused, Err(PublishError::NotAnEvent(Kind::Heartbeat))), "{refused:?}");
        assert!(matches!(publisher.define("no*", 2), Err(PublishError::Symbol(_))));
        assert_eq!(publisher.publish(trade(instrument)).unwrap(), 2);
        assert!(publisher.wait_accepted(FAR).unwrap());
    }

    #[test]
    fn a_broker_that_accepts_nothing_is_sent_no_more_than_the_bound() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let broker = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(Frame::seal(Session::default()).as_bytes()).unwrap();
            let mut bytes = Vec::new();
            stream.read_to_end(&mut bytes).unwrap();
            bytes.len() / FRAME_BYTES
        });
        let mut publisher = Publisher::open(address, SOURCE, 1).unwrap();
        let instrument = publisher.define("A", 2).unwrap();
        for _ in 1..PUBLISH_UNACCEPTED_MAX {
            publisher.publish(trade(instrument)).unwrap();
        }
        publisher.patience = Duration::from_millis(1);
        let full = publisher.publish(trade(instrument));
        assert!(
            matches!(full, Err(PublishError::Client(ClientError::Deadline { .. }))),
            "{full:?}"
        );
        let soon = publisher.clock().now().mono + Duration::from_millis(1);
        assert!(!publisher.wait_accepted(soon).unwrap());
        drop(publisher);
        // The greeting and the heartbeat came before.
        let events = broker.join().unwrap() - 2;
        assert_eq!(events, usize::try_from(PUBLISH_UNACCEPTED_MAX).unwrap());
    }
}
