//! The blocking shell of a producer: the feed that a program brings to core, on a connection that is made again when it
//! breaks.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use super::{ClientError, random_id};
use crate::limits::{CLIENT_CONNECT_MAX, SILENCE_MAX};
use crate::producer::{FeedId, Instrument, ProduceError, Production};
use crate::subscription::Backoff;
use crate::time::{Clock, Mono};
use crate::wire::{
    Decimals, ErrorCode, FRAME_BYTES, FullName, Message, NameError, Symbol, as_frames,
};

const NODE: &str = "core";
const SOCKET: Token = Token(0);
/// Bytes read from the socket at once. Core says little.
const READ_BYTES: usize = 16 * 1024;
/// Frames that are gathered for one write.
const WRITE_FRAMES: usize = 1_024;
/// Events that may wait for more before they are sent; [`Producer::flush`] does not wait for more.
const GATHERED_EVENTS: u64 = 256;
/// Waits between dials.
const REDIAL_FIRST: Duration = Duration::from_millis(50);
const REDIAL_LONGEST: Duration = Duration::from_secs(1);

/// Why a producer cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum ProducerError {
    /// Core is not to be reached, or was not for too long.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Core and the feed do not fit together, or an event has no place in it.
    #[error(transparent)]
    Produce(#[from] ProduceError),
    /// That is no symbol.
    #[error(transparent)]
    Symbol(#[from] NameError),
}

/// A producer of one exchange's feed.
///
/// Core numbers nothing by itself: an event has the number that it has in this feed, and is stored once. Whoever begins again
/// after the death of its process goes on at [`Producer::next_seq`].
///
/// ```no_run
/// use std::time::Duration;
///
/// use pregao::client::{FeedId, Producer};
/// use pregao::time::Mono;
/// use pregao::wire::{Decimals, I64, Trade, U64};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// // The identity of a feed that is the same in each run.
/// let feed = FeedId::new("own", 0x2026_11_28)?;
/// let mut producer = Producer::open("127.0.0.1:8082".parse()?, feed, Duration::from_secs(30))?;
/// let gold = producer.define("GOLD", Decimals { price: 2, quantity: 0 })?;
/// for number in producer.next_seq()..=100 {
///     producer.produce(Trade {
///         instrument: gold.id.into(),
///         ts_event: U64::new(1_784_034_439_126_000_000 + number),
///         price: I64::new(2_650_500_000_000),
///         qty: U64::new(3),
///         ..Trade::default()
///     })?;
/// }
/// // All of it survives a loss of power.
/// producer.end(Mono(u64::MAX))?;
/// # Ok(())
/// # }
/// ```
///
/// Core asks a producer that is quiet whether it is there. Whoever produces nothing for seconds waits in
/// [`Producer::wait_until`], which answers.
#[derive(Debug)]
pub struct Producer {
    core: SocketAddr,
    clock: Clock,
    machine: Production,
    poll: Poll,
    events: Events,
    socket: Option<Socket>,
    backoff: Backoff,
    next_dial: Mono,
    /// When core was last heard.
    last_heard: Mono,
    /// Since when core has not let it in.
    away_since: Mono,
    /// For how long that may be.
    patience: Duration,
    /// What went wrong when an event had been taken already: told by the next call.
    failed: Option<ProducerError>,
}

#[derive(Debug)]
struct Socket {
    stream: TcpStream,
    read: Vec<u8>,
    unsent: Vec<u8>,
    /// How much of `unsent` has left.
    sent: usize,
}

impl Producer {
    /// Brings a feed to core, and waits until core has said where it goes on. `patience` is how long core may be away,
    /// now and later.
    ///
    /// # Errors
    /// When core refuses, or is away for longer.
    pub fn open(
        core: SocketAddr,
        feed: FeedId,
        patience: Duration,
    ) -> Result<Producer, ProducerError> {
        Producer::connect(core, Production::new(feed), patience)
    }

    /// The same for a feed that has so many events, all in all. Core then never takes numbers behind them for its own, also
    /// where its journal has lost frames.
    ///
    /// # Errors
    /// As [`Producer::open`].
    pub fn open_whole(
        core: SocketAddr,
        feed: FeedId,
        events: u64,
        patience: Duration,
    ) -> Result<Producer, ProducerError> {
        let mut machine = Production::new(feed);
        machine.set_total(events);
        Producer::connect(core, machine, patience)
    }

    fn connect(
        core: SocketAddr,
        machine: Production,
        patience: Duration,
    ) -> Result<Producer, ProducerError> {
        let clock = Clock::start();
        let now = clock.now().mono;
        let mut producer = Producer {
            core,
            clock,
            machine,
            poll: Poll::new().map_err(broken)?,
            events: Events::with_capacity(8),
            socket: None,
            backoff: Backoff::new(REDIAL_FIRST, REDIAL_LONGEST, random_id()),
            next_dial: now,
            last_heard: now,
            away_since: now,
            patience,
            failed: None,
        };
        producer.drive(Mono(u64::MAX), Production::is_ready)?;
        Ok(producer)
    }

    /// The clock that deadlines are measured with.
    #[must_use]
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// The number of the next event. What is before it, core has, or it is kept here.
    #[must_use]
    pub fn next_seq(&self) -> u64 {
        self.machine.next_seq().unwrap_or(1)
    }

    /// Core's journal has every event before this number.
    #[must_use]
    pub fn accepted_seq(&self) -> u64 {
        self.machine.accepted_seq()
    }

    /// Every event before this number survives a loss of power.
    #[must_use]
    pub fn durable_seq(&self) -> u64 {
        self.machine.durable_seq()
    }

    /// How often core has let it in.
    #[must_use]
    pub fn sessions(&self) -> u64 {
        self.machine.sessions()
    }

    /// Gives an instrument its number, or finds the one that it has. For a name that is longer than a symbol, of 80 characters at
    /// most, a symbol stands, and core is told the name. The answer has the decimals that count: those of
    /// core, if it has the instrument.
    ///
    /// # Errors
    /// When that is no symbol, or the feed is full, or core is away for too long.
    pub fn define(&mut self, name: &str, decimals: Decimals) -> Result<Instrument, ProducerError> {
        let symbol = Symbol::meant_by(name)?;
        let is_longer = name.len() > Symbol::BYTES_MAX;
        let longer = if is_longer { Some(name.parse::<FullName>()?) } else { None };
        let define = |machine: &mut Production| match &longer {
            Some(name) => machine.define_named(name, decimals),
            None => machine.define(symbol, decimals),
        };
        match define(&mut self.machine) {
            Err(ProduceError::NotReady) => {
                self.drive(Mono(u64::MAX), Production::is_ready)?;
                Ok(define(&mut self.machine)?)
            }
            defined => Ok(defined?),
        }
    }

    /// Sends an event of a defined instrument. Returns its number. Waits while too many are not durable.
    ///
    /// # Errors
    /// When it is no such event, core refuses, or is away for too long.
    pub fn produce<M: Message>(&mut self, event: M) -> Result<u64, ProducerError> {
        if !self.machine.has_room() || self.failed.is_some() {
            self.drive(Mono(u64::MAX), Production::has_room)?;
        }
        let seq = self.machine.push(event)?;
        if self.machine.unsent() >= GATHERED_EVENTS && seq.is_multiple_of(GATHERED_EVENTS) {
            // The event is taken: an error now would make the caller bring it once more.
            self.failed = self.advance().err();
        }
        Ok(seq)
    }

    /// Whether [`Producer::produce`] does not wait.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.machine.has_room()
    }

    /// Waits until [`Producer::produce`] does not; whether that is so, when the deadline comes.
    ///
    /// # Errors
    /// When core refuses, or is away for too long.
    pub fn wait_room(&mut self, deadline: Mono) -> Result<bool, ProducerError> {
        self.drive(deadline, Production::has_room)
    }

    /// Sends what waits for more, as far as the kernel takes it now.
    ///
    /// # Errors
    /// When core refuses, or is away for too long.
    pub fn flush(&mut self) -> Result<(), ProducerError> {
        self.drive(Mono(0), |_| false).map(drop)
    }

    /// Lets time pass until the deadline, and answers core meanwhile.
    ///
    /// # Errors
    /// When core refuses, or is away for too long.
    pub fn wait_until(&mut self, deadline: Mono) -> Result<(), ProducerError> {
        self.drive(deadline, |_| false).map(drop)
    }

    /// Waits until every event is durable; whether it is, when the deadline comes.
    ///
    /// # Errors
    /// When core refuses, or is away for too long.
    pub fn wait_durable(&mut self, deadline: Mono) -> Result<bool, ProducerError> {
        self.drive(deadline, Production::is_durable)
    }

    /// There are no more events: tells core so, and waits until all of them are durable. Whether they are, when the deadline
    /// comes. Core then takes the last values for those of a feed that has ended, and not for stale ones.
    ///
    /// # Errors
    /// When core refuses, or is away for too long.
    pub fn end(&mut self, deadline: Mono) -> Result<bool, ProducerError> {
        self.machine.end();
        // The end stands behind the events, and has left with them: it is a part of what is written last.
        self.drive(deadline, |it| it.is_durable() && it.is_end_sent())
    }

    /// Goes on until it is enough; whether it is, when the deadline comes.
    fn drive(
        &mut self,
        deadline: Mono,
        is_enough: impl Fn(&Production) -> bool,
    ) -> Result<bool, ProducerError> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        loop {
            self.advance()?;
            if is_enough(&self.machine) {
                return Ok(true);
            }
            let now = self.clock.now().mono;
            if now >= deadline {
                return Ok(false);
            }
            let silent_at = self.last_heard + SILENCE_MAX;
            let redial = if self.socket.is_some() { silent_at } else { self.next_dial };
            let wait = deadline.min(redial).since(now);
            match self.poll.poll(&mut self.events, Some(wait)) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                    return Err(broken(error).into());
                }
                _ => {}
            }
        }
    }

    /// Dials, reads and writes as far as nothing has to be waited for.
    fn advance(&mut self) -> Result<(), ProducerError> {
        if self.socket.is_none() {
            let now = self.clock.now().mono;
            if now < self.next_dial {
                return Ok(());
            }
            match self.dial() {
                Ok(socket) => {
                    self.socket = Some(socket);
                    self.last_heard = self.clock.now().mono;
                    self.machine.handle_open();
                }
                Err(error) => {
                    let (node, address) = (NODE, self.core);
                    return self.lose(ClientError::Unreachable { node, address, error }.into());
                }
            }
        }
        match self.exchange() {
            Err(ProducerError::Produce(error)) if error.is_final() => Err(error.into()),
            Err(error) => self.lose(error),
            Ok(()) => {
                let now = self.clock.now().mono;
                if now.since(self.last_heard) >= SILENCE_MAX {
                    // Its host has lost its power, or the network between: the kernel does not know.
                    return self.lose(ClientError::Deadline { node: NODE }.into());
                }
                if self.machine.is_ready() {
                    self.away_since = now;
                    self.backoff.reset();
                }
                Ok(())
            }
        }
    }

    /// The connection is over, or there is none. That is an error when it has been so for too long.
    fn lose(&mut self, error: ProducerError) -> Result<(), ProducerError> {
        let now = self.clock.now().mono;
        let is_full = matches!(
            &error,
            ProducerError::Produce(ProduceError::Refused { code: Some(ErrorCode::Storage), .. })
        );
        if self.machine.is_ready() || is_full {
            // It was there until now, or it is there and its journal has no room.
            self.away_since = now;
        }
        self.socket = None;
        self.machine.handle_close();
        if now.since(self.away_since) >= self.patience {
            return Err(error);
        }
        self.next_dial = now + self.backoff.next_wait();
        Ok(())
    }

    fn dial(&mut self) -> io::Result<Socket> {
        let within = CLIENT_CONNECT_MAX.min(self.patience.max(REDIAL_FIRST));
        let stream = std::net::TcpStream::connect_timeout(&self.core, within)?;
        if stream.local_addr()? == self.core {
            // Nobody listens: the kernel connected the socket to itself.
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let mut stream = TcpStream::from_std(stream);
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut stream, SOCKET, interest)?;
        Ok(Socket { stream, read: Vec::new(), unsent: Vec::new(), sent: 0 })
    }

    /// Reads all that has come and writes all that the kernel takes.
    fn exchange(&mut self) -> Result<(), ProducerError> {
        let Some(socket) = &mut self.socket else { return Ok(()) };
        loop {
            let has_read = socket.read_more().map_err(broken)?;
            let (frames, rest) = as_frames(&socket.read);
            let consumed = frames.len() * FRAME_BYTES;
            debug_assert_eq!(consumed + rest.len(), socket.read.len());
            if has_read {
                self.last_heard = self.clock.now().mono;
            }
            for frame in frames {
                self.machine.handle_frame(frame)?;
            }
            socket.read.drain(..consumed);
            if socket.sent == socket.unsent.len() {
                socket.sent = 0;
                socket.unsent.clear();
                self.machine.poll_bytes(&mut socket.unsent, WRITE_FRAMES);
            }
            let has_written = socket.write_more().map_err(broken)?;
            if !has_read && !has_written {
                return Ok(());
            }
        }
    }
}

impl Socket {
    /// Whether something came.
    fn read_more(&mut self) -> io::Result<bool> {
        let held = self.read.len();
        self.read.resize(held + READ_BYTES, 0);
        let read = self.stream.read(&mut self.read[held..]);
        self.read.truncate(held + *read.as_ref().unwrap_or(&0));
        match read {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => Ok(true),
            Err(error) => wait_or(error),
        }
    }

    /// Whether something left.
    fn write_more(&mut self) -> io::Result<bool> {
        let unsent = &self.unsent[self.sent..];
        if unsent.is_empty() {
            return Ok(false);
        }
        match self.stream.write(unsent) {
            Ok(count) => {
                self.sent += count;
                Ok(count > 0)
            }
            Err(error) => wait_or(error),
        }
    }
}

/// Nothing more for now, unless it is an error.
fn wait_or(error: io::Error) -> io::Result<bool> {
    match error.kind() {
        io::ErrorKind::WouldBlock => Ok(false),
        io::ErrorKind::Interrupted => Ok(true),
        _ => Err(error),
    }
}

fn broken(error: io::Error) -> ClientError {
    ClientError::Broken { node: NODE, error }
}
