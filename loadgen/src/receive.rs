//! One receiving thread: a poll over its share of the subscribers and one big read buffer for all.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use mio::{Events, Interest as Readiness, Poll, Token};
use pregao::time::{Mono, nanos};

use crate::check::Continuity;
use crate::connect::Dialer;
use crate::limits;
use crate::measure::Recorder;
use crate::plan::Plan;
use crate::shared::{BusyMark, Shared};
use crate::subscriber::{Pace, Sink, Subscriber, Tally};
use crate::target::Interest;
use crate::timebase::Timebase;

/// What one thread is to do.
#[derive(Clone, Debug)]
pub(crate) struct Share {
    pub(crate) dialer: Dialer,
    /// `None`: the live market.
    pub(crate) plan: Option<Arc<Plan>>,
    /// The source of the live market.
    pub(crate) market_source: u8,
    /// Subscribers by number, with how they read.
    pub(crate) subscribers: Vec<(usize, Pace)>,
    /// How long connecting everybody may take.
    pub(crate) connect_max: Duration,
    /// How long the run waits for late deliveries at all.
    pub(crate) drain_max: Duration,
    /// Time between two subscribers of this thread that leave and come back.
    pub(crate) churn_every: Option<Duration>,
    pub(crate) timebase: Timebase,
}

/// What a thread comes back with.
pub(crate) struct Received {
    pub(crate) recorder: Option<Recorder>,
    pub(crate) tallies: Vec<(Pace, Tally)>,
    pub(crate) busy_percent: Option<f64>,
    pub(crate) reconnects: u64,
    pub(crate) first_refusal: Option<String>,
}

/// The thread's state.
pub(crate) struct Receiver {
    share: Share,
    shared: Arc<Shared>,
    poll: Poll,
    subscribers: Vec<Subscriber>,
    buffer: Box<[u8]>,
    recorder: Option<Recorder>,
    /// Subscribers that were left before the kernel had no more for them.
    ready: Vec<usize>,
    /// Slow ones that have something to read.
    slow: Vec<usize>,
    slow_at: Mono,
    /// Bytes that the fast ones have read together, and how many they are: half of the mean is what
    /// a slow one may read.
    full_bytes: u64,
    full_count: u64,
    /// Bytes that anybody has read: as long as they come, something may be under way.
    bytes: u64,
    delivered: u64,
    /// What of that the other threads have been told.
    reported: u64,
    unconfirmed: usize,
    /// Everything is sent: who never read, or slowly, now reads what it was told.
    is_late: bool,
    beat: (Mono, usize),
    churn: (Mono, usize),
    reconnects: u64,
    first_refusal: Option<String>,
}

impl Receiver {
    pub(crate) fn new(share: Share, shared: Arc<Shared>) -> io::Result<Receiver> {
        let now = share.timebase.mono();
        let full = share.subscribers.iter().filter(|(_, pace)| *pace == Pace::Full).count();
        Ok(Receiver {
            poll: Poll::new()?,
            subscribers: Vec::with_capacity(share.subscribers.len()),
            buffer: vec![0; limits::READ_BYTES].into_boxed_slice(),
            recorder: None,
            ready: Vec::new(),
            slow: Vec::new(),
            slow_at: now,
            full_bytes: 0,
            full_count: full as u64,
            bytes: 0,
            delivered: 0,
            reported: 0,
            unconfirmed: 0,
            is_late: false,
            beat: (now, 0),
            churn: (now, 0),
            reconnects: 0,
            first_refusal: None,
            share,
            shared,
        })
    }

    /// Connects and subscribes everybody.
    ///
    /// # Errors
    /// A sentence that says what stood in the way.
    pub(crate) fn connect(&mut self) -> Result<(), String> {
        let all = std::mem::take(&mut self.share.subscribers);
        let mut events = Events::with_capacity(limits::EVENTS_MAX);
        let give_up = self.share.timebase.mono() + self.share.connect_max;
        for batch in all.chunks(limits::CONNECTS_AT_ONCE) {
            for &(number, pace) in batch {
                let subscriber = self.open(number, pace, self.subscribers.len())?;
                self.subscribers.push(subscriber);
            }
            let deadline = give_up.min(self.share.timebase.mono() + limits::CONFIRM_MAX);
            while self.unconfirmed > 0 {
                self.turn(&mut events).map_err(|error| error.to_string())?;
                if let Some(refusal) = self.first_refusal.take() {
                    return Err(format!("the target refused a subscriber: {refusal}"));
                }
                if self.share.timebase.mono() > deadline {
                    let stand = self.subscribers.len() - self.unconfirmed;
                    return Err(format!(
                        "the target takes too long: {stand} of {} subscribers stood when it was given up",
                        all.len()
                    ));
                }
                if self.shared.abort.load(Ordering::Relaxed) {
                    return Err("another thread failed".to_owned());
                }
            }
            self.shared.confirmed.fetch_add(batch.len() as u64, Ordering::Relaxed);
        }
        Ok(())
    }

    fn open(&mut self, number: usize, pace: Pace, place: usize) -> Result<Subscriber, String> {
        let dialer = self.share.dialer;
        let mut stream = dialer.dial(number).map_err(|error| error.to_string())?;
        let (watch_list, mut continuity) = match &self.share.plan {
            Some(plan) => {
                let list = plan.watch_list(number);
                let continuity = plan.continuity(&list);
                (list, continuity)
            }
            None => (Vec::new(), Continuity::Feed(0)),
        };
        if self.shared.window.get().is_some() {
            continuity.restart();
        }
        let topics = match &self.share.plan {
            Some(plan) => {
                let symbols = watch_list.iter().filter_map(|&i| plan.symbols().get(i as usize));
                symbols.cloned().collect()
            }
            None => Vec::new(),
        };
        let source = self.share.plan.as_ref().map_or(self.share.market_source, |p| p.source());
        let interest = Interest { source, topics: &topics };
        let (greeting, unwrapping) = dialer.target.greet(dialer.address, interest);
        let register = |stream: &mut std::net::TcpStream| -> io::Result<()> {
            stream.write_all(&greeting)?;
            stream.set_nonblocking(true)
        };
        register(&mut stream)
            .map_err(|error| format!("a subscriber's greeting failed: {error}"))?;
        let mut stream = mio::net::TcpStream::from_std(stream);
        let token = Token(place);
        let registered = self.poll.registry().register(&mut stream, token, Readiness::READABLE);
        registered.map_err(|error| format!("a subscriber cannot be watched: {error}"))?;
        self.unconfirmed += 1;
        Ok(Subscriber {
            number,
            stream,
            pace,
            carry: Vec::new(),
            unwrapping,
            confirmations_left: dialer.target.confirmations(interest),
            continuity,
            bytes: 0,
            is_waiting: false,
            is_closed: false,
            tally: Tally::default(),
        })
    }

    /// Receives until the run is over and everything has come, or nothing comes any more.
    ///
    /// # Errors
    /// When polling fails.
    pub(crate) fn run(mut self) -> io::Result<Received> {
        let mut events = Events::with_capacity(limits::EVENTS_MAX);
        let mut busy: Option<(Mono, BusyMark)> = None;
        let mut busy_percent = None;
        let mut quiet: Option<(u64, Mono)> = None;
        let mut done_at: Option<Mono> = None;
        let mut look_at = Mono(0);
        // The live market goes on by itself: that more comes says nothing.
        let is_live = self.share.plan.is_none();
        let longest_drain = if is_live { limits::DRAIN_QUIET_MAX } else { self.share.drain_max };
        loop {
            self.turn(&mut events)?;
            let now = self.share.timebase.mono();
            if self.shared.abort.load(Ordering::Relaxed) {
                break;
            }
            let Some(&window) = self.shared.window.get() else { continue };
            if self.recorder.is_none() {
                self.recorder = Some(Recorder::new(window));
                self.churn.0 = now;
            }
            if busy.is_none() && now >= window.from {
                busy = Some((now, BusyMark::take()));
            }
            let end = self.shared.end_of(&window);
            if let (Some((since, mark)), None, true) = (busy, busy_percent, now >= end) {
                busy_percent = BusyMark::take().percent_since(mark, nanos(now.since(since)));
            }
            if now < end {
                self.churn_if_due(now);
                continue;
            }
            // Checking every subscriber for what it still misses is not free: look now and then.
            let has_ended = self.share.plan.is_none() || self.shared.published.get().is_some();
            if !has_ended || now < look_at {
                continue;
            }
            look_at = now + limits::POLL_MAX;
            let done_at = *done_at.get_or_insert(now);
            self.wake_up();
            let since = match quiet {
                Some((bytes, since)) if bytes == self.bytes => since,
                _ => quiet.insert((self.bytes, now)).1,
            };
            if self.nothing_is_missing(self.share.timebase.stamp(end))
                || now.since(since) > limits::DRAIN_QUIET_MAX
                || now.since(done_at) > longest_drain
            {
                break;
            }
        }
        Ok(self.finish(busy_percent))
    }

    /// Who never read, or slowly, now reads: a loss that it was told of is in there, however late.
    fn wake_up(&mut self) {
        if std::mem::replace(&mut self.is_late, true) {
            return;
        }
        for (place, subscriber) in self.subscribers.iter_mut().enumerate() {
            if subscriber.pace != Pace::Full && !subscriber.is_waiting {
                subscriber.is_waiting = true;
                self.ready.push(place);
            }
        }
        self.ready.append(&mut self.slow);
    }

    /// Whether every subscriber has what was sent in the measured part, or was told that it lacks some
    /// of it; the slow ones read all of it late. On the live market
    /// the first message from behind that part says so: stopping earlier would leave out the latest.
    fn nothing_is_missing(&self, to_stamp: u64) -> bool {
        let published = self.shared.published.get();
        self.subscribers.iter().all(|subscriber| {
            subscriber.is_closed
                || published.is_none() && subscriber.pace != Pace::Full
                || match published {
                    Some(published) => subscriber.continuity.missing(published) == 0,
                    None => subscriber.tally.newest_stamp >= to_stamp,
                }
        })
    }

    fn finish(mut self, busy_percent: Option<f64>) -> Received {
        if let Some(published) = self.shared.published.get() {
            for subscriber in &mut self.subscribers {
                subscriber.tally.faults.lost += subscriber.continuity.missing(published);
            }
        }
        Received {
            recorder: self.recorder,
            tallies: self.subscribers.iter().map(|s| (s.pace, s.tally)).collect(),
            busy_percent,
            reconnects: self.reconnects,
            first_refusal: self.first_refusal,
        }
    }

    /// Waits for readiness and reads what there is.
    fn turn(&mut self, events: &mut Events) -> io::Result<()> {
        let timeout = if !self.ready.is_empty() {
            Duration::ZERO
        } else if self.slow.is_empty() && self.share.churn_every.is_none() {
            limits::POLL_MAX
        } else {
            limits::SLOW_TICK
        };
        match self.poll.poll(events, Some(timeout)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            other => other?,
        }
        for index in std::mem::take(&mut self.ready) {
            self.read(index, usize::MAX);
        }
        for event in events.iter() {
            let index = event.token().0;
            let Some(subscriber) = self.subscribers.get_mut(index) else { continue };
            let is_confirmed = subscriber.confirmations_left == 0;
            match subscriber.pace {
                Pace::Stalled if is_confirmed && !self.is_late => {}
                Pace::Half if is_confirmed && !self.is_late => {
                    if !std::mem::replace(&mut subscriber.is_waiting, true) {
                        self.slow.push(index);
                    }
                }
                _ if subscriber.is_waiting => {}
                _ => self.read(index, usize::MAX),
            }
        }
        let now = self.share.timebase.mono();
        if !self.slow.is_empty() && now >= self.slow_at {
            self.slow_at = now + limits::SLOW_TICK;
            let allowance = self.full_bytes / self.full_count.max(1) / 2;
            for index in std::mem::take(&mut self.slow) {
                let Some(subscriber) = self.subscribers.get_mut(index) else { continue };
                subscriber.is_waiting = false;
                let budget = allowance.saturating_sub(subscriber.bytes);
                self.read(index, usize::try_from(budget).unwrap_or(usize::MAX));
            }
        }
        self.beat(now);
        let news = self.delivered - std::mem::replace(&mut self.reported, self.delivered);
        self.shared.delivered.fetch_add(news, Ordering::Relaxed);
        Ok(())
    }

    /// Reads one subscriber until the kernel has no more, or its turn or its budget is over.
    fn read(&mut self, index: usize, budget: usize) {
        let Some(subscriber) = self.subscribers.get_mut(index) else { return };
        subscriber.is_waiting = false;
        if subscriber.is_closed {
            return;
        }
        let mut left = budget;
        for _ in 0..limits::READS_PER_TURN_MAX {
            let carried = subscriber.carry.len();
            let room = (self.buffer.len() - carried).min(left);
            if room == 0 {
                break;
            }
            self.buffer[..carried].copy_from_slice(&subscriber.carry);
            let bytes = match subscriber.stream.read(&mut self.buffer[carried..carried + room]) {
                Ok(0) => return self.lose(index, "it closed the connection"),
                Ok(bytes) => bytes,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return self.lose(index, "it reset the connection"),
            };
            left = left.saturating_sub(bytes);
            let now = self.share.timebase.mono();
            let is_live = self.share.plan.is_none();
            let stamp = if is_live {
                self.share.timebase.wall_ns()
            } else {
                self.share.timebase.stamp(now)
            };
            if let Some(recorder) = &mut self.recorder {
                recorder.turn(now);
            }
            let mut counted = 0;
            let held = &self.buffer[..carried + bytes];
            let mut sink = Sink {
                recorder: self.recorder.as_mut(),
                shared: &self.shared,
                is_live,
                is_late: self.is_late && subscriber.pace != Pace::Full,
                now,
                stamp,
            };
            let heard = subscriber.receive(self.share.dialer.target, held, &mut sink, &mut counted);
            self.bytes += bytes as u64;
            if subscriber.pace == Pace::Full {
                self.delivered += counted;
                self.full_bytes += bytes as u64;
            }
            match heard {
                Ok(newly_confirmed) => self.unconfirmed -= usize::from(newly_confirmed),
                Err(why) => return self.lose(index, &why),
            }
            if bytes < room {
                return;
            }
        }
        // Stopped before the kernel said that there is no more: the edge will not come again.
        subscriber.is_waiting = true;
        let is_half = subscriber.pace == Pace::Half && !self.is_late;
        if is_half && subscriber.confirmations_left == 0 {
            self.slow.push(index);
        } else {
            self.ready.push(index);
        }
    }

    /// A subscriber is of no more use; the first reason is kept for the report.
    fn lose(&mut self, index: usize, why: &str) {
        if let Some(subscriber) = self.subscribers.get_mut(index) {
            subscriber.cut_off();
            subscriber.tally.told.get_or_insert("closed without a word");
            self.first_refusal.get_or_insert_with(|| why.to_owned());
        }
    }

    /// Everybody says once per period that it lives; a few at a time.
    fn beat(&mut self, now: Mono) {
        let count = self.subscribers.len();
        let (since, next) = &mut self.beat;
        let period = nanos(limits::HEARTBEAT_EVERY);
        let elapsed = nanos(now.since(*since)).min(period);
        let due = usize::try_from(count as u64 * elapsed / period).unwrap_or(count);
        if due > *next {
            let beat = self.share.dialer.target.heartbeat();
            for subscriber in &mut self.subscribers[*next..due] {
                if subscriber.pace != Pace::Stalled {
                    subscriber.send(&beat);
                }
            }
            *next = due;
        }
        if elapsed == period {
            self.beat = (now, 0);
        }
    }

    /// One subscriber leaves and comes back.
    fn churn_if_due(&mut self, now: Mono) {
        let Some(every) = self.share.churn_every else { return };
        while self.churn.0 <= now {
            self.churn.0 = self.churn.0 + every;
            let count = self.subscribers.len();
            let from = self.churn.1;
            let next = (from..from + count).map(|place| place % count).find(|&place| {
                let subscriber = &self.subscribers[place];
                subscriber.pace == Pace::Full
                    && !subscriber.is_closed
                    && subscriber.confirmations_left == 0
            });
            let Some(place) = next else { return };
            self.churn.1 = place + 1;
            let (number, pace) = (self.subscribers[place].number, Pace::Full);
            drop(self.poll.registry().deregister(&mut self.subscribers[place].stream));
            match self.open(number, pace, place) {
                Ok(mut fresh) => {
                    fresh.tally = self.subscribers[place].tally;
                    fresh.is_waiting = self.subscribers[place].is_waiting;
                    self.subscribers[place] = fresh;
                    self.reconnects += 1;
                }
                Err(why) => {
                    self.lose(place, &why);
                }
            }
        }
    }
}
