//! A broker in a thread of this process, with a publisher: for examples and tests of clients that are
//! not to need a running system. What it is *not*: a market. It keeps no journal and has no core, so
//! nobody can fill a gap.

use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::thread::JoinHandle;

use super::{ClientError, Connection};
use crate::limits;
use crate::node::broker::{Broker, BrokerConfig};
use crate::reactor::{Options, Reactor};
use crate::subscription::Request;
use crate::time::Clock;
use crate::wire::{
    Definition, Frame, Heartbeat, I64, Message, Role, Session, Symbol, Trade, U32, U64, padded,
};

/// Frames that it holds.
const RING_FRAMES: usize = 1 << 14;
/// Subscribers that it takes.
const SUBSCRIBERS_MAX: usize = 64;

/// A broker on a port of its own, and the one who publishes the market to it. It ends when it is dropped.
#[derive(Debug)]
pub struct LocalBroker {
    address: SocketAddr,
    stop: UnixStream,
    thread: Option<JoinHandle<io::Result<()>>>,
    publisher: Connection,
    clock: Clock,
    next_seq: u64,
    /// The next `instrument_seq` of the trades of each instrument.
    next_trades: Vec<u32>,
}

impl LocalBroker {
    /// Starts it, empty.
    ///
    /// # Errors
    /// When this machine has no port, thread or descriptor for it.
    pub fn start() -> Result<LocalBroker, ClientError> {
        let node = "broker";
        let failed = |error| ClientError::Broken { node, error };
        let listen = Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        let mut reactor = Reactor::new(Options { listen, ..Options::default() }).map_err(failed)?;
        let address = reactor.local_addr().map_err(failed)?;
        let (stop, stopped) = UnixStream::pair().map_err(failed)?;
        reactor.stop_on(stopped).map_err(failed)?;
        let config = BrokerConfig { ring_frames: RING_FRAMES, subscribers_max: SUBSCRIBERS_MAX };
        let run = move || reactor.run(&mut Broker::new(config));
        let thread = std::thread::Builder::new().name("local-broker".to_owned()).spawn(run);
        let thread = Some(thread.map_err(failed)?);
        let clock = Clock::start();
        let session = Session {
            role: Role::Publisher as u8,
            source: Request::MARKET,
            epoch: U32::new(1),
            epoch_start: U64::new(1),
            next_seq: U64::new(1),
            name: padded("local"),
            ..Session::default()
        };
        let within = limits::CLIENT_CONNECT_MAX;
        let mut publisher = Connection::open_as(node, address, session, within, clock)?;
        publisher.send(Heartbeat { next_seq: U64::new(1), ..Heartbeat::default() })?;
        let (next_seq, next_trades) = (1, Vec::new());
        Ok(LocalBroker { address, stop, thread, publisher, clock, next_seq, next_trades })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The next `seq` that it will publish.
    #[must_use]
    pub fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// Gives a new instrument a number, with two decimals, and publishes its definition.
    ///
    /// # Errors
    /// When the symbol is none, or the broker is gone.
    pub fn define(&mut self, symbol: &str) -> Result<u32, ClientError> {
        let bad = |_| {
            let error = io::Error::new(io::ErrorKind::InvalidInput, "that is no symbol");
            ClientError::Broken { node: "broker", error }
        };
        let symbol: Symbol = symbol.parse().map_err(bad)?;
        let index = u32::try_from(self.next_trades.len()).unwrap_or(u32::MAX);
        let instrument = u32::from(Request::MARKET) << 24 | (index & 0x00FF_FFFF);
        self.next_trades.push(1);
        self.publish(Definition::new(instrument, symbol, 2))?;
        Ok(instrument)
    }

    /// Publishes a trade of quantity 1 at each of these prices, in units of 1e-9, as of now.
    ///
    /// # Errors
    /// When the broker is gone.
    pub fn trade(&mut self, instrument: u32, prices: &[i64]) -> Result<(), ClientError> {
        for &price in prices {
            let ts_event = U64::new(self.clock.now().wall_ns);
            self.publish_trade(Trade {
                instrument: U32::new(instrument),
                ts_event,
                price: I64::new(price),
                qty: U64::new(1),
                ..Trade::default()
            })?;
        }
        Ok(())
    }

    /// Publishes a trade, with the next numbers and this receive time.
    ///
    /// # Errors
    /// When the broker is gone.
    pub fn publish_trade(&mut self, trade: Trade) -> Result<(), ClientError> {
        let index = (trade.instrument.get() & 0x00FF_FFFF) as usize;
        let mut instrument_seq = U32::ZERO;
        if let Some(next) = self.next_trades.get_mut(index) {
            instrument_seq = U32::new(*next);
            *next = next.wrapping_add(1);
        }
        self.publish(Trade { instrument_seq, ..trade })
    }

    /// Publishes a data frame as it is, but for its place in the sequence and its receive time.
    fn publish<M: Message>(&mut self, message: M) -> Result<(), ClientError> {
        let mut frame = Frame::seal(message);
        frame.seq = U64::new(self.next_seq);
        frame.ts_recv = U64::new(self.clock.now().wall_ns);
        frame.renew_crc();
        self.next_seq += 1;
        self.publisher.send_frame(&frame)
    }
}

impl Drop for LocalBroker {
    fn drop(&mut self) {
        // If it cannot be told, it has ended already.
        let _ = self.stop.write_all(&[1]);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
