//! `pregao subscribe --from TIME` and `--speed`: where in the sequence a time is, and a replay of history at a pace. Both
//! ask core for pieces of its journal, which it sends behind everything that is live.

use std::io::Write;
use std::thread;
use std::time::Duration;

use super::exit::Failure;
use super::parse::TimeNs;
use super::subscribe::{FramePrinter, Progress, SubscribeRequest, feed_pattern};
use crate::client::{ClientError, Event, QueryClient, Symbols};
use crate::config::{NodeId, Speed};
use crate::duration;
use crate::feed;
use crate::limits::{PAST_DEADLINE, PAST_PIECE_FRAMES};
use crate::time::Mono;
use crate::wire::{
    Definition, EndStatus, Frame, GapReason, Kind, Op, Query, SnapshotEnd, U64, padded,
};

/// Core's journal, as a reader asks for it.
pub(super) struct Past {
    client: QueryClient,
    first_seq: u64,
    next_seq: u64,
}

impl Past {
    /// Connects to core.
    ///
    /// # Errors
    /// When core cannot be reached.
    pub(super) fn open(request: &SubscribeRequest) -> Result<Past, Failure> {
        let core = request.config.net.connect(NodeId::Core);
        let core = core.ok_or_else(|| Failure::usage("no address of core"))?;
        let client = QueryClient::open("core", core, PAST_DEADLINE).map_err(failed)?;
        let mut past = Past { client, first_seq: 1, next_seq: 1 };
        past.look()?;
        Ok(past)
    }

    /// Asks how far the journal reaches.
    fn look(&mut self) -> Result<(), Failure> {
        let query = Query { op: Op::Status as u8, ..Query::default() };
        let answers = self.client.ask(&[query], PAST_DEADLINE).map_err(failed)?;
        let metrics = answers.iter().flat_map(|answer| &answer.metrics);
        for (name, value) in metrics {
            let value = u64::try_from(*value).unwrap_or(1);
            match name.as_str() {
                "journal_first_seq" => self.first_seq = value.max(1),
                "next_seq" => self.next_seq = value.max(1),
                _ => {}
            }
        }
        Ok(())
    }

    /// The frames of the sequence from one number up to the other, and the definitions that they need.
    fn read(&mut self, from: u64, to: u64) -> Result<(Vec<Frame>, Vec<Frame>), Failure> {
        let (from, to) = (U64::new(from), U64::new(to));
        let query =
            Query { op: Op::Replay as u8, symbol: padded("*"), from, to, ..Query::default() };
        let answers = self.client.ask(&[query], PAST_DEADLINE).map_err(failed)?;
        let Some(answer) = answers.into_iter().next() else { return Ok((Vec::new(), Vec::new())) };
        if answer.status() == EndStatus::Failed {
            let why = answer.refusal.map_or_else(String::new, |(_, text)| text);
            return Err(Failure::failed(format!("core does not replay its journal: {why}")));
        }
        Ok((answer.rows, answer.definitions))
    }

    /// The first frame of the journal that has this number or a higher one, below `to`.
    fn first_behind(&mut self, from: u64, to: u64) -> Result<Option<Frame>, Failure> {
        let mut from = from;
        while from < to {
            let end = to.min(from.saturating_add(SEARCH_FRAMES));
            let (rows, _) = self.read(from, end)?;
            if let Some(frame) = rows.first() {
                return Ok(Some(*frame));
            }
            from = end;
        }
        Ok(None)
    }

    /// The number of the first frame that core received at this time or later; that of the next frame, when there is
    /// none. Times of receipt never fall from one number to the next.
    pub(super) fn seq_at(&mut self, time: TimeNs) -> Result<u64, Failure> {
        let (mut low, mut high) = (self.first_seq, self.next_seq);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.first_behind(middle, high)? {
                Some(frame) if frame.ts_recv.get() < time.0 => low = frame.seq.get() + 1,
                _ => high = middle,
            }
        }
        Ok(low)
    }
}

/// A pause of the market that is said to whoever waits.
const PAUSE_TOLD: Duration = Duration::from_secs(5);

/// Frames that one step of a search for a time looks at, at most.
const SEARCH_FRAMES: u64 = 64;

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
    let clock = past.client.clock();
    let started = clock.now().mono;
    let end = request.duration.map_or(Mono(u64::MAX), |duration| started + duration);
    let mut pace = Pace { speed, started, first_ns: None };
    let mut symbols = Symbols::default();
    let mut at = from_seq.max(past.first_seq);
    if from_seq < past.first_seq {
        printer.lose(&symbols, &lost(from_seq, past.first_seq - 1, GapReason::BeforeRing))?;
    }
    loop {
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
                printer.lose(&symbols, &lost(at, seq - 1, GapReason::Corrupt))?;
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
            printer.lose(&symbols, &lost(at, to - 1, GapReason::Corrupt))?;
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
    let Some(symbol) = symbols.symbol(frame.instrument()) else { return false };
    let is_meant = |it: &feed::Pattern| it.kinds() & mask != 0 && it.matches(symbol);
    frame.view::<Definition>().is_none() && patterns.iter().any(is_meant)
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
