//! The publisher: its own thread and connection, open loop. Messages that are due are encoded and
//! written in batches; one that the target does not take in time is late, and its latency says so.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hdrhistogram::Histogram;
use pregao::time::{Mono, nanos};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::connect::Dialer;
use crate::limits;
use crate::measure::histogram;
use crate::pace::Pacer;
use crate::plan::Plan;
use crate::shared::{BusyMark, Shared};
use crate::target::{Event, Unwrapping};
use crate::timebase::Timebase;

/// A connection that has greeted and may publish.
pub(crate) struct Publisher {
    dialer: Dialer,
    stream: TcpStream,
    plan: Arc<Plan>,
    held: Vec<u8>,
    refusal: Option<String>,
    scratch: Box<[u8]>,
}

/// What the publisher did.
pub(crate) struct Offered {
    /// Messages of the measured part.
    pub(crate) measured: u64,
    /// From the due time to the encoding, of the measured part.
    pub(crate) lag: Histogram<u64>,
    /// Time in which the target took nothing.
    pub(crate) blocked: Duration,
    pub(crate) busy_percent: Option<f64>,
    /// Why the target refused, if it did.
    pub(crate) refusal: Option<String>,
    /// Kept open until everything has come: a broker may drop what it holds of a publisher that left.
    pub(crate) connection: Option<TcpStream>,
}

impl Publisher {
    /// Connects, greets, and names the instruments.
    ///
    /// # Errors
    /// A sentence that says what stood in the way.
    pub(crate) fn open(dialer: Dialer, plan: Arc<Plan>, epoch: u32) -> Result<Publisher, String> {
        let stream = dialer.dial(0).map_err(|error| error.to_string())?;
        let scratch = vec![0; 64 * 1024].into_boxed_slice();
        let mut publisher =
            Publisher { dialer, stream, plan, held: Vec::new(), refusal: None, scratch };
        publisher.greet(epoch).map_err(|error| {
            format!("{} did not take a publisher: {error}", dialer.target.name())
        })?;
        Ok(publisher)
    }

    fn greet(&mut self, epoch: u32) -> io::Result<()> {
        let (target, source) = (self.dialer.target, self.plan.source());
        self.stream.set_read_timeout(Some(limits::CONNECT_MAX))?;
        self.stream.write_all(&target.hello_publisher(source, epoch))?;
        self.await_confirmed()?;
        let preparations = target.prepare(source, self.plan.symbols());
        if !preparations.is_empty() {
            self.stream.write_all(&preparations)?;
            self.await_confirmed()?;
        }
        self.stream.set_nonblocking(true)
    }

    fn await_confirmed(&mut self) -> io::Result<()> {
        while !self.read()? {
            if let Some(refusal) = self.refusal.take() {
                return Err(io::Error::other(refusal));
            }
        }
        Ok(())
    }

    /// Reads once; whether a confirmation was in it. Answers what wants an answer.
    fn read(&mut self) -> io::Result<bool> {
        let bytes = match self.stream.read(&mut self.scratch)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            bytes => bytes,
        };
        self.held.extend_from_slice(&self.scratch[..bytes]);
        let (mut confirmed, mut replies, mut refusal) = (false, Vec::new(), None);
        let mut on = |event: Event<'_>| match event {
            Event::Confirmed => confirmed = true,
            Event::Reply(bytes) => replies.extend_from_slice(bytes),
            Event::Refused(why) => refusal = Some(why),
            Event::Frames(_) | Event::Gap(_) => {}
        };
        // A publisher's stream is never a WebSocket.
        let taken = self.dialer.target.parse(&mut Unwrapping::default(), &self.held, &mut on);
        self.held.drain(..taken.map_err(io::Error::other)?);
        self.refusal = self.refusal.take().or(refusal);
        if !replies.is_empty() {
            self.stream.write_all(&replies)?;
        }
        Ok(confirmed)
    }

    /// Publishes the whole schedule.
    ///
    /// # Errors
    /// A sentence, when the connection breaks.
    pub(crate) fn run(
        mut self,
        pacer: Pacer,
        timebase: Timebase,
        shared: &Shared,
    ) -> Result<Offered, String> {
        let plan = Arc::clone(&self.plan);
        let mut messages = plan.messages();
        let window = shared.window.get().copied();
        let is_measured =
            |intended| window.is_none_or(|w| w.from_stamp <= intended && intended < w.to_stamp);
        let mut offered = Offered {
            measured: 0,
            lag: histogram(),
            blocked: Duration::ZERO,
            busy_percent: None,
            refusal: None,
            connection: None,
        };
        let (started, mark) = (timebase.mono(), BusyMark::take());
        let mut pending: Vec<u8> = Vec::with_capacity(limits::PUBLISH_PENDING_BYTES_MAX * 2);
        let mut written = 0;
        let mut sent = 0;
        let mut blocked_since: Option<Mono> = None;
        let mut total = pacer.total();
        while sent < total || written < pending.len() {
            if shared.abort.load(Ordering::Relaxed) {
                return Err("another thread failed".to_owned());
            }
            let now = timebase.mono();
            if shared.has_ended_early(now) {
                // What is under way is sent, so that nobody waits for the rest of a frame.
                total = sent;
            }
            if written == pending.len() {
                pending.clear();
                written = 0;
            }
            let batch = (pacer.due_by(now).min(total) - sent).min(limits::PUBLISH_BATCH_MAX);
            if blocked_since.is_none() && pending.len() < limits::PUBLISH_PENDING_BYTES_MAX {
                let stamp = timebase.stamp(now);
                for number in sent..sent + batch {
                    let due = pacer.due_at(number);
                    let intended = timebase.stamp(due);
                    let (topic, frame) = messages.next(intended, stamp);
                    self.dialer.target.publish(topic, &frame, &mut pending);
                    if is_measured(intended) {
                        offered.measured += 1;
                        offered.lag.saturating_record(nanos(now.since(due)).max(1));
                    }
                }
                sent += batch;
            }
            match self.stream.write(&pending[written..]) {
                Ok(bytes) => {
                    written += bytes;
                    if let Some(since) = blocked_since.take() {
                        offered.blocked += timebase.mono().since(since);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    blocked_since.get_or_insert(now);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(format!("the publisher's connection broke: {error}")),
            }
            let until = if written < pending.len() {
                None
            } else {
                Some(pacer.due_at(sent).since(timebase.mono()))
            };
            self.wait(until).map_err(|error| format!("the publisher cannot go on: {error}"))?;
            if let Some(refusal) = self.refusal.take() {
                return Err(format!("the target refused the publisher: {refusal}"));
            }
        }
        let span_ns = nanos(timebase.mono().since(started));
        offered.busy_percent = BusyMark::take().percent_since(mark, span_ns);
        shared.published.get_or_init(|| messages.published().clone());
        offered.refusal = self.refusal;
        offered.connection = Some(self.stream);
        Ok(offered)
    }

    /// Waits until the next message is due, or (`None`) until the target takes more, and reads what it
    /// says meanwhile. `ppoll`, since epoll's timeout is too coarse for a message every 100 µs.
    fn wait(&mut self, until: Option<Duration>) -> io::Result<()> {
        let flags = if until.is_none() { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
        let longest = until.unwrap_or(limits::POLL_MAX).min(limits::POLL_MAX);
        let timeout = Timespec::try_from(longest).unwrap_or(Timespec { tv_sec: 0, tv_nsec: 0 });
        let mut fds = [PollFd::new(&self.stream, flags)];
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        if fds[0].revents().intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
            match self.read() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                other => drop(other?),
            }
        }
        Ok(())
    }
}
