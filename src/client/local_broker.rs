//! A broker in a thread of this process, with a publisher: for examples and tests of clients that are
//! not to need a running system. What it is *not*: a market. It keeps no journal and has no core, so
//! nobody can fill a gap.

use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::thread::JoinHandle;

use super::{ClientError, PublishError, Publisher};
use crate::node::broker::{Broker, BrokerConfig};
use crate::reactor::{Options, Reactor};
use crate::subscription::Request;
use crate::wire::{I64, InstrumentId, Trade, U64};

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
    publisher: Publisher,
}

impl LocalBroker {
    /// Starts it, empty.
    ///
    /// # Errors
    /// When this machine has no port, thread or descriptor for it.
    pub fn start() -> Result<LocalBroker, PublishError> {
        let failed = |error| ClientError::Broken { node: "broker", error };
        let anywhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let mut reactor = Reactor::new(Options::listening(anywhere)).map_err(failed)?;
        let address = reactor.local_addr().map_err(failed)?;
        let (stop, stopped) = UnixStream::pair().map_err(failed)?;
        reactor.stop_on(stopped).map_err(failed)?;
        let config = BrokerConfig::new(RING_FRAMES, SUBSCRIBERS_MAX);
        let run = move || reactor.run(&mut Broker::new(config));
        let thread = std::thread::Builder::new().name("local-broker".to_owned()).spawn(run);
        let thread = Some(thread.map_err(failed)?);
        let publisher = Publisher::open(address, Request::MARKET, 1)?;
        Ok(LocalBroker { address, stop, thread, publisher })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The next `seq` that it will publish.
    #[must_use]
    pub fn next_seq(&self) -> u64 {
        self.publisher.next_seq()
    }

    /// Gives a new instrument a number, with two decimals, and publishes its definition.
    ///
    /// # Errors
    /// When the symbol is none, or the broker is gone.
    pub fn define(&mut self, symbol: &str) -> Result<InstrumentId, PublishError> {
        self.publisher.define(symbol, 2)
    }

    /// Publishes a trade of quantity 1 at each of these prices, in units of 1e-9, as of now.
    ///
    /// # Errors
    /// When the instrument was not defined, or the broker is gone.
    pub fn trade(&mut self, instrument: InstrumentId, prices: &[i64]) -> Result<(), PublishError> {
        for &price in prices {
            let ts_event = U64::new(self.publisher.clock().now().wall_ns);
            self.publish_trade(Trade {
                instrument: instrument.into(),
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
    /// When its instrument was not defined, or the broker is gone.
    pub fn publish_trade(&mut self, trade: Trade) -> Result<(), PublishError> {
        self.publisher.publish(trade).map(drop)
    }
}

impl Drop for LocalBroker {
    fn drop(&mut self) {
        // If it cannot be signalled, it has ended already.
        let _ = self.stop.write_all(&[1]);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
