//! The blocking shell of live bars: a subscription to trades, the fold, and questions to the aggregator for
//! what a bar under way lacks.

use std::net::SocketAddr;

use super::{Answer, ClientError, QueryClient, Subscription};
use crate::limits::{BACKFILL_DEADLINE, BACKFILL_GIVE_UP, BACKFILL_RETRY, LIVE_BAR_TRADES_MAX};
use crate::subscription::{
    Backfill, BackfillSearch, BarPattern, Event, LiveBar, LiveBars, Request, Symbols, Unfound,
};
use crate::time::{Clock, Mono};
use crate::wire::{ErrorCode, ExchangeNumber, FeedStatus, Frame, Query, Seq};

/// What a subscription to bars brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BarEvent {
    /// A bar that is over, or one that has changed since.
    Bar(LiveBar),
    /// Trades that are missing, as an [`Event::Lost`]; the bars concerned are flagged incomplete, or, after
    /// what was void, reported again.
    Lost(Event),
    /// As [`Event::Stale`]: bars may be late.
    Stale,
    /// As [`Event::Ended`].
    Ended,
    /// As [`Event::Current`].
    Current,
    /// As [`Event::Exchange`].
    Exchange {
        /// Which one.
        exchange: ExchangeNumber,
        /// What is known of its last values.
        status: FeedStatus,
    },
}

/// A subscription to live bars.
///
/// The bars equal those of a report: the same trades in the same order through the same fold. The bar that
/// is under way at the beginning is completed from history; while that is asked, it blocks for up to
/// [`BACKFILL_DEADLINE`] beyond a caller's deadline. A caller with a loop of its own feeds [`LiveBars`] from
/// its subscription instead.
///
/// ```
/// use pregao::client::{BarEvent, BarPattern, BarSubscription, LocalBroker};
/// use pregao::feed::Pattern;
/// use pregao::time::Mono;
/// use pregao::wire::{I64, Seq, Trade, U64};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut broker = LocalBroker::start()?;
/// let petr4 = broker.define("PETR4")?;
/// for (second, price) in [(30, 38_410_000_000), (59, 38_430_000_000), (60, 38_420_000_000)] {
///     broker.publish_trade(Trade {
///         instrument: petr4.into(),
///         ts_event: U64::new(second * 1_000_000_000),
///         price: I64::new(price),
///         qty: U64::new(100),
///         ..Trade::default()
///     })?;
/// }
/// let pattern = BarPattern { pattern: Pattern::new("PETR*", 0)?, seconds: 60 };
/// // Nothing is missing here, so nobody is asked for history.
/// let nobody = broker.address();
/// let from_seq = Some(Seq::FIRST);
/// let mut bars = BarSubscription::open(broker.address(), nobody, nobody, vec![pattern], from_seq)?;
/// let Some(BarEvent::Bar(told)) = bars.next_before(Mono(u64::MAX))? else { panic!("a loss") };
/// assert_eq!((told.bar.trades, told.bar.volume, told.bar.close), (2, 200, 38_430_000_000));
/// assert!(!told.is_revised && !told.is_incomplete);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct BarSubscription {
    subscription: Subscription,
    bars: LiveBars,
    aggregator: SocketAddr,
    query_client: Option<QueryClient>,
    /// What is still to be asked, and until when.
    waiting: Vec<(Backfill, Mono)>,
    retry_at: Mono,
}

impl BarSubscription {
    /// Subscribes to the bars of these patterns, live, or from `from_seq` on if there is one.
    ///
    /// # Errors
    /// When the broker cannot be reached or refuses.
    pub fn open(
        broker: SocketAddr,
        core: SocketAddr,
        aggregator: SocketAddr,
        patterns: Vec<BarPattern>,
        from_seq: Option<Seq>,
    ) -> Result<BarSubscription, ClientError> {
        let trades = LiveBars::subscription(&patterns).map_err(|error| ClientError::Refused {
            node: "broker",
            code: Some(ErrorCode::BadPattern),
            text: error.to_string(),
        })?;
        let request = Request { from_seq, ..Request::market(trades) };
        Ok(BarSubscription {
            subscription: Subscription::open(broker, core, request)?,
            bars: LiveBars::new(patterns, from_seq),
            aggregator,
            query_client: None,
            waiting: Vec::new(),
            retry_at: Mono::default(),
        })
    }

    /// Names of the instruments seen so far.
    #[must_use]
    pub fn symbols(&self) -> &Symbols {
        self.subscription.symbols()
    }

    /// How many instruments matched; `None` before the broker has confirmed the subscription.
    #[must_use]
    pub fn matched(&self) -> Option<u32> {
        self.subscription.matched()
    }

    /// The clock that deadlines are measured with.
    #[must_use]
    pub fn clock(&self) -> Clock {
        self.subscription.clock()
    }

    /// The next bar, loss or word about the feed; `None` when `deadline` comes first.
    ///
    /// # Errors
    /// Only when the broker refuses the subscription itself.
    pub fn next_before(&mut self, deadline: Mono) -> Result<Option<BarEvent>, ClientError> {
        loop {
            let now = self.clock().now();
            self.bars.handle_timers(now);
            if let Some(bar) = self.bars.poll_bar() {
                return Ok(Some(BarEvent::Bar(bar)));
            }
            while let Some(backfill) = self.bars.poll_backfill() {
                self.waiting.push((backfill, now.mono + BACKFILL_GIVE_UP));
            }
            if !self.waiting.is_empty() && self.retry_at <= now.mono {
                self.fill();
                continue;
            }
            let retry = (!self.waiting.is_empty()).then_some(self.retry_at);
            let own = self.bars.deadline().into_iter().chain(retry).min();
            let until = own.map_or(deadline, |own| own.min(deadline));
            let Some(event) = self.subscription.next_before(until)? else {
                if self.clock().now().mono >= deadline {
                    return Ok(None);
                }
                continue;
            };
            let now = self.clock().now();
            self.bars.handle_event(now, &event, self.subscription.symbols());
            match event {
                Event::Lost { .. } => return Ok(Some(BarEvent::Lost(event))),
                Event::Stale => return Ok(Some(BarEvent::Stale)),
                Event::Ended => return Ok(Some(BarEvent::Ended)),
                Event::Current => return Ok(Some(BarEvent::Current)),
                Event::Exchange { exchange, status } => {
                    return Ok(Some(BarEvent::Exchange { exchange, status }));
                }
                Event::Data(_) | Event::Live { .. } => {}
            }
        }
    }

    /// Asks for what is waiting. What history does not have yet is asked for again, for a while.
    fn fill(&mut self) {
        for (backfill, until) in std::mem::take(&mut self.waiting) {
            let now = self.clock().now();
            // After one question that nobody answered the others wait too.
            let found =
                if self.retry_at <= now.mono { self.ask(&backfill) } else { Err(Unfound::NotYet) };
            let now = self.clock().now();
            let symbol = &backfill.symbol;
            match &found {
                Err(Unfound::NotYet) if now.mono < until => {
                    self.retry_at = now.mono + BACKFILL_RETRY;
                    self.waiting.push((backfill, until));
                    continue;
                }
                Err(Unfound::NotYet) => {
                    log::warn!("history of {symbol} is away: its bar is incomplete");
                }
                Err(Unfound::TooMany) => log::warn!(
                    "a bar of {symbol} has more than {LIVE_BAR_TRADES_MAX} trades: it is incomplete"
                ),
                Ok(_) => {}
            }
            self.bars.handle_backfill(now, &backfill, found.ok().as_deref());
        }
    }

    /// All trades of a backfill, in as many questions as it takes.
    fn ask(&mut self, backfill: &Backfill) -> Result<Vec<Frame>, Unfound> {
        let mut search = BackfillSearch::new(*backfill);
        while let Some(query) = search.query() {
            let answer = self.answer(query).ok_or(Unfound::NotYet)?;
            search.handle_answer(&answer.rows, answer.end.as_ref(), answer.code())?;
        }
        Ok(search.into_rows())
    }

    /// The answer to one question. `None` when the aggregator is away.
    fn answer(&mut self, query: Query) -> Option<Answer> {
        let query_client = match self.query_client.take() {
            Some(query_client) => query_client,
            None => QueryClient::open("aggregator", self.aggregator, BACKFILL_DEADLINE).ok()?,
        };
        let query_client = self.query_client.insert(query_client);
        match query_client.ask(&[query], BACKFILL_DEADLINE) {
            Ok(mut answers) => answers.pop(),
            Err(error) => {
                log::debug!("{error}");
                self.query_client = None;
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::thread::{self, JoinHandle};

    use super::*;
    use crate::client::LocalBroker;
    use crate::client::tests::{read, write};
    use crate::feed::Pattern;
    use crate::wire::{
        EndStatus, Ended, I64, InstrumentId, Refusal, Run, Session, Trade, U16, U64,
    };

    const SECOND: u64 = 1_000_000_000;

    /// A trade of one unit; its price is its seq.
    fn trade(instrument: InstrumentId, seq: u64, second: u64) -> Trade {
        Trade {
            instrument: instrument.into(),
            seq: U64::new(seq),
            ts_event: U64::new(second * SECOND),
            price: I64::new(i64::try_from(seq).unwrap()),
            qty: U64::new(1),
            ..Trade::default()
        }
    }

    /// An aggregator that has these trades, everything before `as_of`, and answers for `span` at most at once. Where
    /// it was asked for, in order.
    fn aggregator(
        trades: Vec<Trade>,
        span: u64,
        as_of: u64,
    ) -> (SocketAddr, JoinHandle<Vec<(u64, u64)>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let serve = move |stream: &mut TcpStream| {
            let mut asked = Vec::new();
            read(stream);
            write(stream, &[Frame::seal(Session::default())]);
            while let Some(frame) = read(stream) {
                let Some(&Query { id, from, to, .. }) = frame.view::<Query>() else { continue };
                asked.push((from.get(), to.get()));
                let status = EndStatus::Failed as u8;
                let code = U16::new(ErrorCode::Limit as u16);
                // As with the real one, it is what an answer would have that is too much.
                let range = from.get()..to.get();
                let rows = trades.iter().filter(|it| range.contains(&it.ts_event.get()));
                let times: Vec<u64> = rows.map(|it| it.ts_event.get()).collect();
                if times.last().unwrap_or(&0) - times.first().unwrap_or(&0) > span {
                    let refusal =
                        Refusal::new(ErrorCode::Limit, id.get(), "more than one answer may have");
                    let end = Ended { id, status, code, ..Ended::default() };
                    write(stream, &[Frame::seal(refusal), Frame::seal(end)]);
                    continue;
                }
                let range = from.get()..to.get();
                let rows = trades.iter().filter(|it| range.contains(&it.ts_event.get()));
                let mut frames = vec![Frame::seal(Run { id, ..Run::default() })];
                frames.extend(rows.map(|it| Frame::seal(*it)));
                frames.push(Frame::seal(Ended { id, as_of: U64::new(as_of), ..Ended::default() }));
                write(stream, &frames);
            }
            asked
        };
        let thread = thread::spawn(move || serve(&mut listener.accept().unwrap().0));
        (address, thread)
    }

    /// The bar of the first minute, of which a subscription sees the last trades only, and where history was asked for.
    fn first_bar(span: u64, as_of: u64) -> (LiveBar, Vec<(u64, u64)>) {
        let mut broker = LocalBroker::start().unwrap();
        let petr4 = broker.define("PETR4").unwrap();
        let before = [(2, 10), (3, 11), (4, 20)].map(|(seq, second)| trade(petr4, seq, second));
        before.iter().for_each(|it| broker.publish_trade(*it).unwrap());
        let (address, asked) = aggregator(before.to_vec(), span, as_of);
        let pattern = BarPattern { pattern: Pattern::new("*", 0).unwrap(), seconds: 60 };
        let nobody = broker.address();
        let mut bars =
            BarSubscription::open(broker.address(), nobody, address, vec![pattern], None).unwrap();
        // The snapshot has come.
        let soon = bars.clock().now().mono + std::time::Duration::from_millis(200);
        assert_eq!(bars.next_before(soon).unwrap(), None);
        for (seq, second) in [(5, 30), (6, 61)] {
            broker.publish_trade(trade(petr4, seq, second)).unwrap();
        }
        let far = bars.clock().now().mono + std::time::Duration::from_secs(40);
        let Some(BarEvent::Bar(told)) = bars.next_before(far).unwrap() else { panic!("no bar") };
        drop(bars);
        (told, asked.join().unwrap())
    }

    #[test]
    fn a_bar_under_way_is_completed_from_history_in_as_many_questions_as_it_takes() {
        for (span, most) in [(u64::MAX, 1), (7 * SECOND, 40)] {
            let (told, asked) = first_bar(span, 1_000);
            assert!(!told.is_incomplete, "{told:?}");
            let bar = (told.bar.trades, told.bar.open, told.bar.close, told.bar.volume);
            assert_eq!(bar, (4, 2, 5, 4));
            assert!((1..=most).contains(&asked.len()), "{asked:?}");
        }
    }

    #[test]
    fn a_history_that_is_not_as_far_as_the_subscription_completes_no_bar() {
        let (told, asked) = first_bar(u64::MAX, 4);
        assert!(told.is_incomplete && asked.len() > 1, "{told:?}, {asked:?}");
    }
}
