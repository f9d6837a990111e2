//! The nonblocking shell of a subscription, for callers with a `mio::Poll` of their own; the blocking form
//! is this one with a poll inside.
//!
//! It knows mio, as the reactor does: a caller's event loop is a mio one, and a second, hidden selector
//! would cost it a thread. It does not use the reactor: that drives nodes, which live as long as their thread,
//! and a subscription lives in a loop of its caller's.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Registry, Token, event};

use super::ClientError;
use crate::subscription::{Action, Event, Request, Subscriber, Symbols, Upstream};
use crate::time::{Clock, Mono, Now};
use crate::wire::{ErrorCode, FRAME_BYTES, Refusal, Seq, as_frames, unpadded};

/// Bytes read from a socket at once.
const READ_BYTES: usize = 64 * 1024;

/// A subscription that never blocks.
///
/// Register it once with [`Registry::register`]; whatever connections it makes later, it registers itself
/// under the same token. Then, whenever the token shows up or [`deadline`](Self::deadline) has come: call
/// [`handle_timers`](Self::handle_timers), and [`poll_event`](Self::poll_event) until it has nothing more.
/// Readiness is edge-triggered: who stops earlier must come back without waiting.
///
/// ```
/// use mio::{Events, Interest, Poll, Token};
/// use pregao::client::{Event, LocalBroker, NonblockingSubscription, Request};
/// use pregao::feed::Pattern;
/// use pregao::time::Clock;
/// use pregao::wire::{Kind, Trade};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// // A broker in this process; a running system has its own, on port 8081.
/// let mut broker = LocalBroker::start()?;
/// let petr4 = broker.define("PETR4")?;
///
/// let (mut poll, mut events) = (Poll::new()?, Events::with_capacity(8));
/// let clock = Clock::start();
/// let request = Request::market(vec![Pattern::new("PETR4", Kind::Trade.mask())?]);
/// // Core fills gaps. There are none here, so anybody's address will do.
/// let mut subscription =
///     NonblockingSubscription::new(broker.address(), broker.address(), request, clock);
/// poll.registry().register(&mut subscription, Token(0), Interest::READABLE)?;
///
/// let mut prices = Vec::new();
/// while prices.len() < 2 {
///     subscription.handle_timers(clock.now());
///     while let Some(event) = subscription.poll_event()? {
///         match event {
///             // Now that the snapshot has come, something happens.
///             Event::Live { .. } => broker.trade(petr4, &[38_410_000_000, 38_420_000_000])?,
///             Event::Data(frame) => {
///                 prices.extend(frame.view::<Trade>().map(|trade| trade.price.get()));
///             }
///             Event::Lost { reason, missed, .. } => eprintln!("{reason:?}: {missed:?} missed"),
///             Event::Stale | Event::Ended | Event::Current | Event::Exchange { .. } => {}
///         }
///     }
///     if prices.len() < 2 {
///         let wait = subscription.deadline().map(|at| at.since(clock.now().mono));
///         poll.poll(&mut events, wait)?;
///     }
/// }
/// assert_eq!(prices, [38_410_000_000, 38_420_000_000]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct NonblockingSubscription {
    machine: Subscriber,
    clock: Clock,
    broker: UpstreamEndpoint,
    core: UpstreamEndpoint,
    registration: Option<(Registry, Token)>,
}

/// One of the two peers.
#[derive(Debug)]
struct UpstreamEndpoint {
    address: SocketAddr,
    socket: Option<Socket>,
}

#[derive(Debug)]
struct Socket {
    stream: TcpStream,
    is_connected: bool,
    buffer: Vec<u8>,
    /// Start of the bytes in `buffer` that were not yet handed on.
    start: usize,
}

/// What became of a look at one side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Something happened; look again.
    Moved,
    /// Nothing to do until the kernel says so.
    Idle,
}

impl NonblockingSubscription {
    /// A subscription at this broker; core, or whoever holds its journal, is asked for what is missing.
    /// Nothing happens before the first [`NonblockingSubscription::handle_timers`].
    #[must_use]
    pub fn new(
        broker: SocketAddr,
        core: SocketAddr,
        request: Request,
        clock: Clock,
    ) -> NonblockingSubscription {
        let endpoint = |address| UpstreamEndpoint { address, socket: None };
        NonblockingSubscription {
            machine: Subscriber::new(request, seed()),
            clock,
            broker: endpoint(broker),
            core: endpoint(core),
            registration: None,
        }
    }

    /// Names of the instruments seen so far.
    #[must_use]
    pub fn symbols(&self) -> &Symbols {
        self.machine.symbols()
    }

    /// How many instruments matched; `None` before the broker has confirmed the subscription.
    #[must_use]
    pub fn matched(&self) -> Option<u32> {
        self.machine.matched()
    }

    /// The next `seq` to deliver: what a later subscription can begin from. `None` before it is known.
    #[must_use]
    pub fn next_seq(&self) -> Option<Seq> {
        self.machine.next_seq()
    }

    /// The clock that deadlines are measured with.
    #[must_use]
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// Whether the broker has answered.
    #[must_use]
    pub fn was_greeted(&self) -> bool {
        self.machine.was_greeted()
    }

    /// Whether the broker has refused the subscription: nothing more will come.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.machine.is_over()
    }

    /// When [`NonblockingSubscription::handle_timers`] has to be called at the latest.
    #[must_use]
    pub fn deadline(&self) -> Option<Mono> {
        self.machine.deadline()
    }

    /// Reconnects, says something, or gives a silent peer up, if it is time to. `now` is of the clock that
    /// the subscription was made with.
    pub fn handle_timers(&mut self, now: Now) {
        self.machine.handle_timers(now);
    }

    /// The next event; `None` when the kernel has nothing more for now.
    ///
    /// # Errors
    /// When the broker refuses the subscription: that is the end of it. Before the broker has ever
    /// answered also when it cannot be reached, which the subscription goes on trying. Later breaks are
    /// repaired; the caller only sees what was lost.
    pub fn poll_event(&mut self) -> Result<Option<Event>, ClientError> {
        loop {
            if let Some(event) = self.machine.poll_event() {
                return Ok(Some(event));
            }
            let now = self.clock.now();
            let mut moved = false;
            while let Some(action) = self.machine.poll_action() {
                moved = true;
                self.act(now, action)?;
            }
            for upstream in Upstream::ALL {
                moved |= self.advance(now, upstream)? == Step::Moved;
            }
            if !moved {
                return Ok(None);
            }
            // What was wanted of history may be due at once.
            self.machine.handle_timers(now);
        }
    }

    fn endpoint_mut(&mut self, upstream: Upstream) -> &mut UpstreamEndpoint {
        match upstream {
            Upstream::Broker => &mut self.broker,
            Upstream::Core => &mut self.core,
        }
    }

    fn act(&mut self, now: Now, action: Action) -> Result<(), ClientError> {
        match action {
            Action::Connect(upstream) => {
                let connected = TcpStream::connect(self.endpoint_mut(upstream).address);
                match connected.and_then(|stream| self.watch(stream)) {
                    Ok(stream) => {
                        let (buffer, start, is_connected) = (Vec::new(), 0, false);
                        let socket = Socket { stream, is_connected, buffer, start };
                        self.endpoint_mut(upstream).socket = Some(socket);
                        Ok(())
                    }
                    Err(error) => self.lose(now, upstream, error),
                }
            }
            Action::Disconnect(upstream) => {
                let is_new = self.is_first_attempt(upstream);
                self.close(upstream);
                match is_new {
                    true => Err(ClientError::Deadline { node: upstream.name() }),
                    false => Ok(()),
                }
            }
        }
    }

    fn watch(&self, mut stream: TcpStream) -> io::Result<TcpStream> {
        if let Some((registry, token)) = &self.registration {
            registry.register(&mut stream, *token, Interest::READABLE | Interest::WRITABLE)?;
        }
        Ok(stream)
    }

    fn close(&mut self, upstream: Upstream) {
        if let Some(mut socket) = self.endpoint_mut(upstream).socket.take()
            && let Some((registry, _)) = &self.registration
        {
            // Closing ends the registration too; this is only tidier.
            let _ = registry.deregister(&mut socket.stream);
        }
    }

    fn is_first_attempt(&self, upstream: Upstream) -> bool {
        upstream == Upstream::Broker && !self.machine.was_greeted() && !self.machine.is_over()
    }

    /// A connection failed. It is an error for the caller only while there has never been one.
    fn lose(&mut self, now: Now, upstream: Upstream, error: io::Error) -> Result<(), ClientError> {
        let (node, address) = (upstream.name(), self.endpoint_mut(upstream).address);
        let is_first = self.is_first_attempt(upstream);
        self.close(upstream);
        self.machine.handle_disconnected(now, upstream);
        if is_first {
            return Err(ClientError::Unreachable { node, address, error });
        }
        log::info!("the connection to {node} is gone: {error}; trying again");
        Ok(())
    }

    /// Connects, writes and reads what can be without waiting.
    fn advance(&mut self, now: Now, upstream: Upstream) -> Result<Step, ClientError> {
        let Some(socket) = self.endpoint_mut(upstream).socket.as_mut() else {
            return Ok(Step::Idle);
        };
        if !socket.is_connected {
            match socket.conclude() {
                Ok(false) => return Ok(Step::Idle),
                Ok(true) => self.machine.handle_connected(now, upstream),
                Err(error) => return self.lose(now, upstream, error).map(|()| Step::Moved),
            }
        }
        if let Err(error) = self.flush(upstream) {
            return self.lose(now, upstream, error).map(|()| Step::Moved);
        }
        if !self.machine.wants_frames(upstream) {
            return Ok(Step::Idle);
        }
        if self.deliver(now, upstream)? == Step::Moved {
            return Ok(Step::Moved);
        }
        let Some(socket) = self.endpoint_mut(upstream).socket.as_mut() else {
            return Ok(Step::Moved);
        };
        match socket.read_more() {
            Ok(true) => Ok(Step::Moved),
            Ok(false) => Ok(Step::Idle),
            Err(error) => self.lose(now, upstream, error).map(|()| Step::Moved),
        }
    }

    fn flush(&mut self, upstream: Upstream) -> io::Result<()> {
        while !self.machine.outgoing(upstream).is_empty() {
            let endpoint = match upstream {
                Upstream::Broker => &mut self.broker,
                Upstream::Core => &mut self.core,
            };
            let Some(socket) = endpoint.socket.as_mut() else { return Ok(()) };
            match socket.stream.write(self.machine.outgoing(upstream)) {
                Ok(bytes) => self.machine.handle_sent(upstream, bytes),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Hands frames that have arrived to the machine, until it has something to say.
    fn deliver(&mut self, now: Now, upstream: Upstream) -> Result<Step, ClientError> {
        let endpoint = match upstream {
            Upstream::Broker => &mut self.broker,
            Upstream::Core => &mut self.core,
        };
        let Some(socket) = endpoint.socket.as_mut() else { return Ok(Step::Idle) };
        let (frames, _) = as_frames(&socket.buffer[socket.start..]);
        let mut step = Step::Idle;
        for frame in frames {
            step = Step::Moved;
            if let Err(error) = frame.check() {
                if frame.is_of_unknown_data_kind() {
                    // Another connection would only bring it again.
                    let (node, kind) = (upstream.name(), frame.kind);
                    self.close(upstream);
                    self.machine.handle_disconnected(now, upstream);
                    return Err(ClientError::UnknownKind { node, kind });
                }
                let broken = io::Error::new(io::ErrorKind::InvalidData, error);
                return self.lose(now, upstream, broken).map(|()| step);
            }
            let refused = self.machine.handle_frame(now, upstream, frame);
            socket.start += FRAME_BYTES;
            if let Err(refusal) = refused {
                self.close(upstream);
                return Err(refused_by(upstream, &refusal));
            }
            if self.machine.has_updates() || !self.machine.wants_frames(upstream) {
                break;
            }
        }
        Ok(step)
    }
}

fn refused_by(upstream: Upstream, refusal: &Refusal) -> ClientError {
    ClientError::Refused {
        node: upstream.name(),
        code: ErrorCode::from_number(refusal.code.get()),
        text: unpadded(&refusal.text),
    }
}

/// Every subscription's own, also of those that one process makes at once.
fn seed() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    // The standard library's maps get their seeds from the operating system.
    std::hash::RandomState::new().build_hasher().finish()
}

impl Socket {
    /// Whether the connection stands by now.
    fn conclude(&mut self) -> io::Result<bool> {
        if let Some(error) = self.stream.take_error()? {
            return Err(error);
        }
        match self.stream.peer_addr() {
            Ok(peer) if self.stream.local_addr()? == peer => {
                // Nobody listens: the kernel connected the socket to itself.
                Err(io::ErrorKind::ConnectionRefused.into())
            }
            Ok(_) => {
                self.stream.set_nodelay(true)?;
                self.is_connected = true;
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Reads once; `false` when there is nothing for now.
    fn read_more(&mut self) -> io::Result<bool> {
        self.buffer.drain(..self.start);
        self.start = 0;
        let held = self.buffer.len();
        self.buffer.resize(held + READ_BYTES, 0);
        let read = self.stream.read(&mut self.buffer[held..]);
        self.buffer.truncate(held + *read.as_ref().unwrap_or(&0));
        match read {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => Ok(true),
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock => Ok(false),
                io::ErrorKind::Interrupted => Ok(true),
                _ => Err(error),
            },
        }
    }
}

impl event::Source for NonblockingSubscription {
    /// Remembers where to register, now and for every later connection. It is interested in both
    /// directions, whatever is asked for.
    fn register(&mut self, registry: &Registry, token: Token, _: Interest) -> io::Result<()> {
        self.registration = Some((registry.try_clone()?, token));
        for socket in [&mut self.broker, &mut self.core].into_iter().flat_map(|s| &mut s.socket) {
            let both = Interest::READABLE | Interest::WRITABLE;
            registry.register(&mut socket.stream, token, both)?;
        }
        Ok(())
    }

    fn reregister(&mut self, registry: &Registry, token: Token, _: Interest) -> io::Result<()> {
        self.registration = Some((registry.try_clone()?, token));
        for socket in [&mut self.broker, &mut self.core].into_iter().flat_map(|s| &mut s.socket) {
            let both = Interest::READABLE | Interest::WRITABLE;
            registry.reregister(&mut socket.stream, token, both)?;
        }
        Ok(())
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        self.registration = None;
        for socket in [&mut self.broker, &mut self.core].into_iter().flat_map(|s| &mut s.socket) {
            registry.deregister(&mut socket.stream)?;
        }
        Ok(())
    }
}

/// The poll of the blocking form.
#[derive(Debug)]
pub(super) struct BlockingPoll {
    poll: Poll,
    events: Events,
}

impl BlockingPoll {
    pub(super) fn new(subscription: &mut NonblockingSubscription) -> io::Result<BlockingPoll> {
        let poll = Poll::new()?;
        poll.registry().register(subscription, Token(0), Interest::READABLE)?;
        Ok(BlockingPoll { poll, events: Events::with_capacity(4) })
    }

    /// Waits until the kernel has something, or at most this long.
    pub(super) fn wait(&mut self, at_most: Duration) -> io::Result<()> {
        match self.poll.poll(&mut self.events, Some(at_most)) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::time::Duration;

    use zerocopy::IntoBytes;

    use super::*;
    use crate::client::Subscription;
    use crate::feed::Pattern;
    use crate::wire::{Frame, Quote, Session, Subscribed};

    #[test]
    fn a_kind_that_only_a_newer_broker_knows_ends_the_subscription_and_is_named() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let broker = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut newer = Frame::seal(Quote::default());
            newer.kind = 14;
            newer.renew_crc();
            let said = [Frame::seal(Session::default()), Frame::seal(Subscribed::default()), newer];
            stream.write_all(said.as_bytes()).unwrap();
            // The client hangs up.
            stream.read_to_end(&mut Vec::new()).unwrap();
        });
        let request = Request::market(vec![Pattern::new("*", 0).unwrap()]);
        let opened = Subscription::open(address, address, request);
        let read = opened.and_then(|mut subscription| {
            let deadline = subscription.clock().now().mono + Duration::from_secs(20);
            subscription.next_before(deadline)
        });
        let error = read.unwrap_err();
        assert!(matches!(error, ClientError::UnknownKind { kind: 14, .. }), "{error}");
        broker.join().unwrap();
    }
}
