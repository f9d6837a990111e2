//! `pregao subscribe --from TIME` and `--speed`: where in the sequence a time is, and a replay of history at a pace. Both
//! ask core for pieces of its journal, which it sends behind everything that is live.

use std::io::Write;
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use super::exit::Failure;
use super::subscribe::{FramePrinter, Progress, SubscribeRequest, feed_pattern};
use crate::client::{Answer, ClientError, Event, QueryClient, Symbols};
use crate::config::{NodeId, Speed};
use crate::duration;
use crate::feed;
use crate::limits::{HEARTBEAT_EVERY, PAST_DEADLINE, PAST_PIECE_FRAMES};
use crate::parse::TimeNs;
use crate::time::{Clock, Mono};
use crate::wire::{EndStatus, Frame, GapReason, Kind, Op, Query, SnapshotEnd, U64, padded};

/// Core's journal, as a reader asks for it.
pub(super) struct Past {
    core: SocketAddr,
    client: QueryClient,
    clock: Clock,
    /// When core was asked last. It hangs up on who says nothing for long.
    asked_at: Mono,
    first_seq: u64,
    next_seq: u64,
}

impl Past {
    /// Connects to core.
    ///
    /// # Errors
    /// When core cannot be reached.
    pub(super) fn open(request: &SubscribeRequest) -> Result<Past, Failure> {
        let core = request.config.connect(NodeId::Core);
        let core = core.ok_or_else(|| Failure::usage("no address of core"))?;
        let (client, clock) = (open(core)?, Clock::start());
        let asked_at = clock.now().mono;
        let mut past = Past { core, client, clock, asked_at, first_seq: 1, next_seq: 1 };
        past.look()?;
        Ok(past)
    }

    /// Asks core. Behind a long pause it is dialed again: nobody has answered its heartbeats meanwhile.
    fn ask(&mut self, query: Query) -> Result<Answer, Failure> {
        let now = self.clock.now().mono;
        if now.since(self.asked_at) > HEARTBEAT_EVERY {
            self.client = open(self.core)?;
        }
        let answers = self.client.ask(&[query], PAST_DEADLINE).map_err(failed)?;
        self.asked_at = self.clock.now().mono;
        let answer = answers.into_iter().next().unwrap_or_default();
        if answer.status() == EndStatus::Failed {
            let why = answer.refusal.map_or_else(String::new, |(_, text)| text);
            return Err(Failure::failed(format!("core does not say what its journal has: {why}")));
        }
        Ok(answer)
    }

    /// Asks how far the journal reaches.
    fn look(&mut self) -> Result<(), Failure> {
        let answer = self.ask(Query { op: Op::Status as u8, ..Query::default() })?;
        let metric = |wanted: &str| {
            let found = answer.metrics.iter().find(|(name, _)| name == wanted);
            let value = found.and_then(|(_, value)| u64::try_from(*value).ok());
            let missing = || Failure::failed(format!("core does not say its {wanted}"));
            value.ok_or_else(missing).map(|value| value.max(1))
        };
        (self.first_seq, self.next_seq) = (metric("journal_first_seq")?, metric("next_seq")?);
        Ok(())
    }

    /// The frames of the sequence from one number up to the other, and the definitions that they need.
    fn read(&mut self, from: u64, to: u64) -> Result<(Vec<Frame>, Vec<Frame>), Failure> {
        let (first, behind) = (U64::new(from), U64::new(to));
        let (op, symbol) = (Op::Replay as u8, padded("*"));
        let query = Query { op, symbol, from: first, to: behind, ..Query::default() };
        let answer = self.ask(query)?;
        let is_asked = answer.rows.iter().all(|frame| (from..to).contains(&frame.seq.get()));
        if !is_asked || !answer.rows.is_sorted_by(|a, b| a.seq.get() < b.seq.get()) {
            return Err(Failure::failed("core answers with frames that were not asked for"));
        }
        Ok((answer.rows, answer.definitions))
    }

    /// Why numbers up to this one are not in the journal: the retention may have removed them meanwhile.
    fn why_missing(&mut self, last: u64) -> Result<GapReason, Failure> {
        self.look()?;
        let is_removed = last < self.first_seq;
        Ok(if is_removed { GapReason::BeforeRing } else { GapReason::Corrupt })
    }

    /// The first frame of the journal that has this number or a higher one, below `to`.
    fn first_behind(&mut self, from: u64, to: u64) -> Result<Option<Frame>, Failure> {
        let (mut from, mut frames) = (from, SEARCH_FRAMES);
        for _ in 0..SEARCH_STEPS_MAX {
            if from >= to {
                return Ok(None);
            }
            let end = to.min(from.saturating_add(frames));
            let (rows, _) = self.read(from, end)?;
            if let Some(frame) = rows.first() {
                return Ok(Some(*frame));
            }
            // A stretch that has nothing is left in longer steps.
            (from, frames) = (end, (frames * 2).min(PAST_PIECE_FRAMES));
        }
        Err(Failure::failed(format!("core's journal has nothing for long before seq {from}")))
    }

    /// The number of the first frame that core received at this time or later; that of the next frame, when there is
    /// none. Times of receipt never fall from one number to the next.
    pub(super) fn seq_at(&mut self, time: TimeNs) -> Result<u64, Failure> {
        let (mut low, mut high) = (self.first_seq, self.next_seq);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.first_behind(middle, high)? {
                Some(frame) if frame.ts_recv.get() < time.0 => {
                    low = frame.seq.get().saturating_add(1);
                }
                _ => high = middle,
            }
        }
        Ok(low)
    }
}

/// A pause of the market that is said to whoever waits.
const PAUSE_TOLD: Duration = Duration::from_secs(5);

/// Frames that the first step of a search for a time looks at.
const SEARCH_FRAMES: u64 = 64;
/// Steps over numbers that the journal does not have.
const SEARCH_STEPS_MAX: u32 = 10_000;

fn open(core: SocketAddr) -> Result<QueryClient, Failure> {
    QueryClient::open("core", core, PAST_DEADLINE).map_err(failed)
}

fn failed(error: ClientError) -> Failure {
    Failure::failed(error.to_string())
}

/// Where a subscription from a time begins.
///
/// # Errors
/// When core cannot be asked.
pub(super) fn seq_at(request: &SubscribeRequest, time: TimeNs) -> Result<u64, Failure> {
    Past::open(request)?.seq_at(time)
}

/// How a paced replay ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// It has shown all that was asked for.
    Done,
    /// It has met the end of the journal: the next number.
    Met(u64),
}

/// Shows history from a number on at a pace, until it meets the end of the journal.
///
/// # Errors
/// When core cannot be asked, or the output takes no more.
pub(super) fn replay<W: Write>(
    request: &SubscribeRequest,
    (from_seq, speed): (u64, Speed),
    printer: &mut FramePrinter<'_, W>,
) -> Result<Ended, Failure> {
    let patterns: Vec<feed::Pattern> =
        request.patterns.iter().map(feed_pattern).collect::<Result<_, _>>()?;
    let mut past = Past::open(request)?;
    let clock = past.clock;
    let started = clock.now().mono;
    let end = request.duration.map_or(Mono(u64::MAX), |duration| started + duration);
    let mut pace = Pace { speed, started, first_ns: None };
    let mut symbols = Symbols::default();
    let mut at = from_seq.max(past.first_seq);
    if from_seq < past.first_seq {
        printer.lose(&symbols, &lost(from_seq, past.first_seq - 1, GapReason::BeforeRing))?;
    }
    if at >= past.next_seq && !request.then_live {
        return Err(Failure::failed("core has received nothing from there on yet"));
    }
    loop {
        if clock.now().mono >= end {
            printer.flush()?;
            return Ok(Ended::Done);
        }
        if at >= past.next_seq {
            past.look()?;
        }
        let to = past.next_seq.min(at.saturating_add(PAST_PIECE_FRAMES));
        if at >= to {
            printer.flush()?;
            return Ok(Ended::Met(at));
        }
        let (rows, definitions) = past.read(at, to)?;
        for definition in &definitions {
            symbols.note(definition);
            printer.take(definition)?;
        }
        for frame in &rows {
            let seq = frame.seq.get();
            if seq > at {
                let reason = past.why_missing(seq - 1)?;
                printer.lose(&symbols, &lost(at, seq - 1, reason))?;
            }
            at = seq.saturating_add(1).max(at);
            symbols.note(frame);
            if !wants(&patterns, &symbols, frame) {
                continue;
            }
            let due = pace.due(frame.ts_recv.get()).min(end);
            if due > clock.now().mono {
                printer.flush()?;
                let wait = due.since(clock.now().mono);
                if wait >= PAUSE_TOLD {
                    let time = TimeNs(frame.ts_recv.get());
                    let wait = duration::show(Duration::from_secs(wait.as_secs()));
                    log::warn!("core received the next frame at {time}: it is shown in {wait}");
                }
                while let wait = due.since(clock.now().mono)
                    && !wait.is_zero()
                {
                    thread::park_timeout(wait);
                }
            }
            let is_over = clock.now().mono >= end;
            if is_over || printer.take(frame)? == Progress::Done {
                printer.flush()?;
                return Ok(Ended::Done);
            }
        }
        if at < to {
            let reason = past.why_missing(to - 1)?;
            printer.lose(&symbols, &lost(at, to - 1, reason))?;
            at = to;
        }
    }
}

/// That the replay goes on with the live feed from here on.
pub(super) fn joins(next_seq: u64) -> Frame {
    Frame::seal(SnapshotEnd { next_seq: U64::new(next_seq), ..SnapshotEnd::default() })
}

fn lost(from: u64, to: u64, reason: GapReason) -> Event {
    let (from_seq, to_seq) = (from, to);
    Event::Lost { reason, from_seq, to_seq, instrument: None, missed: None }
}

fn wants(patterns: &[feed::Pattern], symbols: &Symbols, frame: &Frame) -> bool {
    let mask = frame.kind().map_or(0, Kind::mask);
    let Some(names) = symbols.names(frame.instrument()) else { return false };
    let is_meant = |it: &feed::Pattern| it.kinds() & mask != 0 && it.means(names);
    !frame.is_naming() && patterns.iter().any(is_meant)
}

/// When frames are due.
struct Pace {
    speed: Speed,
    started: Mono,
    /// The time of receipt of the first frame that is shown.
    first_ns: Option<u64>,
}

impl Pace {
    fn due(&mut self, received_ns: u64) -> Mono {
        let first_ns = *self.first_ns.get_or_insert(received_ns);
        let Speed::Thousandths(thousandths) = self.speed else { return self.started };
        let passed = u128::from(received_ns.saturating_sub(first_ns));
        let scaled = passed * 1_000 / u128::from(thousandths.max(1));
        let nanos = u64::try_from(scaled).unwrap_or(u64::MAX);
        self.started + Duration::from_nanos(nanos)
    }
}
