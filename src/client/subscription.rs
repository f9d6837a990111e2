//! The blocking form of a subscription: the nonblocking one, and a wait.

use std::net::SocketAddr;

use super::ClientError;
use super::nonblocking::{BlockingPoll, NonblockingSubscription};
use crate::subscription::{Event, Request, Symbols};
use crate::time::{Clock, Mono};
use crate::wire::Seq;

/// A subscription that survives the broker's restarts, to be read with a `for` loop.
///
/// Frames come in order, each once; what is missing is fetched from history or reported as [`Event::Lost`].
/// The iterator ends only when the broker refuses the subscription, which is its last item.
///
/// ```
/// use pregao::client::{Event, LocalBroker, Request, Subscription};
/// use pregao::feed::Pattern;
/// use pregao::wire::{Kind, Seq, Trade};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// // A broker in this process; a running system has its own, on port 8081.
/// let mut broker = LocalBroker::start()?;
/// let petr4 = broker.define("PETR4")?;
/// broker.trade(petr4, &[38_410_000_000, 38_420_000_000, 38_430_000_000])?;
///
/// // From the first frame on; `Request::market` alone is live, beginning with a snapshot. Core fills
/// // gaps. There are none here, so anybody's address will do.
/// let pattern = Pattern::new("PETR*", Kind::Trade.mask())?;
/// let request = Request { from_seq: Some(Seq::FIRST), ..Request::market(vec![pattern]) };
/// let subscription = Subscription::open(broker.address(), broker.address(), request)?;
/// let mut prices = Vec::new();
/// for event in subscription {
///     match event? {
///         Event::Data(frame) => {
///             prices.extend(frame.view::<Trade>().map(|trade| trade.price.get()));
///         }
///         Event::Lost { from_seq, to_seq, reason, missed, .. } => {
///             eprintln!("{from_seq} to {to_seq} are missing ({reason:?}), {missed:?} of ours");
///         }
///         Event::Stale => eprintln!("prices are not known to be current"),
///         Event::Ended => eprintln!("nothing more comes"),
///         Event::Exchange { exchange, status } => eprintln!("exchange {exchange}: {status:?}"),
///         Event::Current | Event::Live { .. } => {}
///     }
///     if prices.len() == 3 {
///         break;
///     }
/// }
/// assert_eq!(prices, [38_410_000_000, 38_420_000_000, 38_430_000_000]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Subscription {
    inner: NonblockingSubscription,
    poll: BlockingPoll,
    /// Came while the subscription was being opened.
    first: Option<Event>,
}

impl Subscription {
    /// Connects to the broker and subscribes. `core` is asked for history when frames are missing.
    ///
    /// # Errors
    /// When the broker cannot be reached or refuses.
    pub fn open(
        broker: SocketAddr,
        core: SocketAddr,
        request: Request,
    ) -> Result<Subscription, ClientError> {
        let mut inner = NonblockingSubscription::new(broker, core, request, Clock::start());
        let poll = BlockingPoll::new(&mut inner).map_err(local)?;
        let mut subscription = Subscription { inner, poll, first: None };
        while subscription.first.is_none() && !subscription.inner.was_greeted() {
            let far = Mono(u64::MAX);
            subscription.first = subscription.step(far)?;
        }
        Ok(subscription)
    }

    /// Names of the instruments seen so far.
    #[must_use]
    pub fn symbols(&self) -> &Symbols {
        self.inner.symbols()
    }

    /// How many instruments matched; `None` before the broker has confirmed the subscription.
    #[must_use]
    pub fn matched(&self) -> Option<u32> {
        self.inner.matched()
    }

    /// The next `seq` to deliver: what a later subscription can begin from. `None` before it is known.
    #[must_use]
    pub fn next_seq(&self) -> Option<Seq> {
        self.inner.next_seq()
    }

    /// The clock that deadlines are measured with.
    #[must_use]
    pub fn clock(&self) -> Clock {
        self.inner.clock()
    }

    /// The next event; `None` when `deadline` comes first, or the subscription was refused before.
    ///
    /// # Errors
    /// Only when the broker refuses the subscription itself; a broken connection is mended.
    pub fn next_before(&mut self, deadline: Mono) -> Result<Option<Event>, ClientError> {
        if let Some(first) = self.first.take() {
            return Ok(Some(first));
        }
        loop {
            if let Some(event) = self.step(deadline)? {
                return Ok(Some(event));
            }
            if self.inner.is_over() || self.clock().now().mono >= deadline {
                return Ok(None);
            }
        }
    }

    /// What is at hand; if nothing is, waits for something, once.
    fn step(&mut self, deadline: Mono) -> Result<Option<Event>, ClientError> {
        let now = self.clock().now();
        self.inner.handle_timers(now);
        let event = self.inner.poll_event()?;
        if event.is_none() && now.mono < deadline && !self.inner.is_over() {
            let until = self.inner.deadline().map_or(deadline, |own| own.min(deadline));
            self.poll.wait(until.since(now.mono)).map_err(local)?;
        }
        Ok(event)
    }
}

/// This machine has run out of something.
fn local(error: std::io::Error) -> ClientError {
    ClientError::Broken { node: "broker", error }
}

impl Iterator for Subscription {
    type Item = Result<Event, ClientError>;

    /// The next event, however long it takes.
    fn next(&mut self) -> Option<Self::Item> {
        self.next_before(Mono(u64::MAX)).transpose()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::client::LocalBroker;
    use crate::feed::Pattern;
    use crate::wire::Kind;

    #[test]
    fn it_waits_until_the_deadline_and_no_longer_and_says_where_it_is() {
        let mut broker = LocalBroker::start().unwrap();
        let petr4 = broker.define("PETR4").unwrap();
        broker.define("VALE3").unwrap();
        let pattern = Pattern::new("PETR*", Kind::Trade.mask()).unwrap();
        let request = Request { from_seq: Some(Seq::FIRST), ..Request::market(vec![pattern]) };
        let mut subscription =
            Subscription::open(broker.address(), broker.address(), request).unwrap();
        let next = |subscription: &mut Subscription, wait: Duration| {
            let deadline = subscription.clock().now().mono + wait;
            let event = subscription.next_before(deadline).unwrap();
            (event, subscription.clock().now().mono.since(deadline))
        };
        // What comes with the subscription.
        while next(&mut subscription, Duration::from_millis(200)).0.is_some() {}
        let (event, late) = next(&mut subscription, Duration::from_millis(50));
        assert_eq!(event, None);
        assert!(late < Duration::from_secs(20));
        let begun = subscription.clock().now().mono;
        next(&mut subscription, Duration::from_millis(50));
        let waited = subscription.clock().now().mono.since(begun);
        assert!(waited >= Duration::from_millis(50), "{waited:?}");
        assert_eq!(subscription.matched(), Some(1));
        broker.trade(petr4, &[38_410_000_000]).unwrap();
        let (event, _) = next(&mut subscription, Duration::from_secs(20));
        let Some(Event::Data(frame)) = event else { panic!("{event:?}") };
        assert_eq!(subscription.next_seq(), Some(frame.next_seq()));
        assert_eq!(frame.next_seq().get(), broker.next_seq());
    }
}
