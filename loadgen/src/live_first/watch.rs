//! The subscriber whose ticks are measured: a thread that reads one connection and does nothing else.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;

use hdrhistogram::Histogram;
use pregao::wire::{Frame, Trade};

use super::ticks::own_books;
use crate::check::{Continuity, Faults};
use crate::connect::Dialer;
use crate::limits;
use crate::measure::histogram;
use crate::target::{Event, Interest, Target, Unwrapping};
use crate::timebase::Timebase;

/// One tick, by the stamps of its three moments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tick {
    pub(super) intended: u64,
    pub(super) sent: u64,
    pub(super) received: u64,
}

/// All that the subscriber got.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) ticks: Vec<Tick>,
    pub(super) faults: Faults,
}

/// Ticks of one span.
#[derive(Clone, Debug)]
pub(super) struct Latencies {
    /// From the moment at which the tick was to be sent.
    pub(super) intended: Histogram<u64>,
    /// From the moment at which it was.
    pub(super) sent: Histogram<u64>,
}

impl Seen {
    /// The ticks that were to be sent between two stamps.
    pub(super) fn between(&self, from: u64, to: u64) -> Latencies {
        let mut of = Latencies { intended: histogram(), sent: histogram() };
        for tick in self.ticks.iter().filter(|tick| (from..to).contains(&tick.intended)) {
            of.intended.saturating_record(tick.received.saturating_sub(tick.intended).max(1));
            of.sent.saturating_record(tick.received.saturating_sub(tick.sent).max(1));
        }
        of
    }
}

/// The subscriber.
pub(super) struct Watch {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<Seen, String>>>,
    /// Where the kernel keeps the books of the thread.
    pub(super) books: PathBuf,
}

impl Watch {
    /// Subscribes to all of a source, and waits for the first tick.
    ///
    /// # Errors
    /// A sentence, when none comes.
    pub(super) fn start(
        broker: SocketAddr,
        source: u8,
        timebase: Timebase,
    ) -> Result<Watch, String> {
        let failed = |error: io::Error| format!("the measured subscriber: {error}");
        let dialer = Dialer { target: Target::Pregao, address: broker };
        let mut stream = dialer.dial(0).map_err(|error| error.to_string())?;
        let hello = Target::Pregao.hello_subscriber(Interest { source, topics: &[] });
        stream.write_all(&hello).map_err(failed)?;
        stream.set_read_timeout(Some(limits::POLL_MAX)).map_err(failed)?;
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, (say, said)) = (Arc::clone(&stop), mpsc::channel());
        let work = move || read_all(stream, timebase, &stopped, || drop(say.send(own_books())));
        let thread = std::thread::Builder::new().name("measured".to_owned()).spawn(work);
        let thread = thread.map_err(|error| format!("cannot start a thread: {error}"))?;
        let mut watch = Watch { stop, thread: Some(thread), books: PathBuf::new() };
        match said.recv_timeout(limits::CONFIRM_MAX) {
            Ok(books) => watch.books = books,
            Err(_) => {
                watch.finish()?;
                return Err("the measured subscriber got no tick".to_owned());
            }
        }
        Ok(watch)
    }

    /// Ends the thread, and gives back what it has seen.
    ///
    /// # Errors
    /// A sentence, when its connection ended before.
    pub(super) fn finish(mut self) -> Result<Seen, String> {
        self.stop.store(true, Ordering::Relaxed);
        let ended = || "the measured subscriber ended badly".to_owned();
        self.thread.take().and_then(|thread| thread.join().ok()).ok_or_else(ended)?
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn read_all(
    mut stream: TcpStream,
    timebase: Timebase,
    stopped: &AtomicBool,
    began: impl Fn(),
) -> Result<Seen, String> {
    let mut seen = Seen::default();
    let (mut continuity, mut held) = (Continuity::Feed(0), Vec::new());
    let mut buffer = vec![0; limits::READ_BYTES];
    let mut beat_at = timebase.mono();
    while !stopped.load(Ordering::Relaxed) {
        let now = timebase.mono();
        if now >= beat_at {
            beat_at = now + limits::HEARTBEAT_EVERY;
            let beat = Target::Pregao.heartbeat();
            stream.write_all(&beat).map_err(|error| format!("the measured subscriber: {error}"))?;
        }
        match stream.read(&mut buffer) {
            Ok(0) => return Err("the measured subscriber was closed".to_owned()),
            Ok(bytes) => held.extend_from_slice(&buffer[..bytes]),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock
                        | io::ErrorKind::TimedOut
                        | io::ErrorKind::Interrupted
                ) =>
            {
                continue;
            }
            Err(error) => return Err(format!("the measured subscriber: {error}")),
        }
        let received = timebase.stamp(timebase.mono());
        let had_none = seen.ticks.is_empty();
        let (mut reply, mut refused) = (Vec::new(), None);
        let mut on = |event: Event<'_>| match event {
            Event::Frames(frames) => note(frames, received, &mut continuity, &mut seen),
            Event::Gap(_) => seen.faults.gaps_told += 1,
            Event::Reply(bytes) => reply.extend_from_slice(bytes),
            Event::Refused(why) => refused = Some(why),
            Event::Confirmed => {}
        };
        let taken = Target::Pregao
            .parse(&mut Unwrapping::default(), &held, &mut on)
            .map_err(|error| error.to_string())?;
        held.drain(..taken);
        if let Some(why) = refused {
            return Err(format!("the measured subscriber is refused: {why}"));
        }
        stream.write_all(&reply).map_err(|error| format!("the measured subscriber: {error}"))?;
        if had_none && !seen.ticks.is_empty() {
            began();
        }
    }
    Ok(seen)
}

fn note(frames: &[Frame], received: u64, continuity: &mut Continuity, seen: &mut Seen) {
    for frame in frames {
        let counts = continuity.note(frame, &mut seen.faults);
        // What only fills a journal has no times.
        if let Some(trade) = frame.view::<Trade>().filter(|it| counts && it.trade_id.get() > 0) {
            let (intended, sent) = (trade.ts_event.get(), trade.trade_id.get());
            if seen.ticks.is_empty() {
                seen.faults = Faults::default();
            }
            seen.ticks.push(Tick { intended, sent, received });
        }
    }
}

#[cfg(test)]
mod tests {
    use pregao::wire::{Quote, U64};

    use super::*;

    #[test]
    fn a_tick_belongs_to_the_span_in_which_it_was_to_be_sent() {
        let tick = |intended| Tick { intended, sent: intended + 10, received: intended + 100 };
        let seen = Seen { ticks: [99, 100, 199, 200].map(tick).to_vec(), ..Seen::default() };
        let of = seen.between(100, 200);
        assert_eq!((of.intended.len(), of.sent.len()), (2, 2));
        assert_eq!((of.intended.max(), of.sent.max()), (100, 90));
    }

    #[test]
    fn a_loss_is_noted_and_a_frame_that_is_no_trade_is_no_tick() {
        let trade = |seq, sent| {
            let (seq, trade_id) = (U64::new(seq), U64::new(sent));
            Frame::seal(Trade { seq, trade_id, ..Trade::default() })
        };
        let quote = |seq| Frame::seal(Quote { seq: U64::new(seq), ..Quote::default() });
        let (mut seen, mut continuity) = (Seen::default(), Continuity::Feed(0));
        let frames = [trade(1, 0), trade(5, 0), trade(6, 1), quote(7), trade(8, 1), trade(10, 1)];
        note(&frames, 7, &mut continuity, &mut seen);
        assert_eq!((seen.ticks.len(), seen.faults.lost), (3, 1), "what is before the first tick");
    }
}
