//! Whether the log should have an appending thread: how long after its moment a tick can be read, when the
//! reactor's thread stores it itself, and when it hands it through a bounded queue to a thread that does.
//! In both ways the storage thread syncs every 50 ms.
//!
//! `cargo bench --bench log_thread` (about 40 s, 0.5 GB in the build directory; with `-- --test` a moment,
//! as a smoke test)
//!
//! Not a reactor: its thread never sleeps. Of the queue's way back only an atomic load is counted, where a
//! reactor that sleeps would have to be woken, which flatters the queue; on two cores the appending thread
//! and the storage thread share what the spinning one leaves, which does not.

#![allow(missing_docs, reason = "a bench is a program")]

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crossbeam::channel::{Receiver, bounded};
use hdrhistogram::Histogram;
use pregao::log::{
    AppendError, Log, LogConfig, Retention, Sequence, Storage, SyncPolicy, UpstreamRule,
};
use pregao::storage::FileStorage;
use pregao::time::{Clock, Mono, Now};
use pregao::wire::{Frame, Quote, U64};

/// Ticks a second.
const RATES: [u64; 3] = [20_000, 200_000, 1_000_000];

/// Most frames of one turn, and of one turn of the appending thread.
const TURN_FRAMES_MAX: u64 = 1024;

const QUEUE_FRAMES_MAX: usize = 1 << 16;

const QUEUE_WAIT: Duration = Duration::from_millis(1);

/// The longest time that is told apart from longer ones.
const NANOS_MAX: u64 = 60_000_000_000;

/// When each tick is due.
#[derive(Clone, Copy)]
struct Schedule {
    start: Mono,
    rate: u64,
    ticks: u64,
}

impl Schedule {
    /// How many ticks are due at this moment.
    fn due(self, now: Mono) -> u64 {
        let elapsed = u128::from(now.0.saturating_sub(self.start.0));
        let due = elapsed * u128::from(self.rate) / 1_000_000_000;
        u64::try_from(due).unwrap_or(u64::MAX).min(self.ticks)
    }

    fn moment(self, seq: u64) -> u64 {
        self.start.0 + seq * 1_000_000_000 / self.rate
    }
}

/// What a run measured, in nanoseconds.
struct Measured {
    /// From a tick's moment until a reader could have it.
    visible: Histogram<u64>,
    /// How long a turn that took in ticks kept the reactor's thread.
    turn: Histogram<u64>,
}

impl Measured {
    fn new() -> Measured {
        let histogram =
            || Histogram::new_with_max(NANOS_MAX, 3).expect("three digits of a minute are allowed");
        Measured { visible: histogram(), turn: histogram() }
    }

    fn note_visible(&mut self, schedule: Schedule, seqs: std::ops::Range<u64>, now: Mono) {
        for seq in seqs {
            self.visible.saturating_record(now.0.saturating_sub(schedule.moment(seq)));
        }
    }
}

fn frame(seq: u64) -> Frame {
    Frame::seal(Quote { seq: U64::new(seq), ..Quote::default() })
}

fn open(directory: &std::path::Path, now: Now) -> Log<FileStorage> {
    let storage = FileStorage::open(directory, Box::new(|| {})).expect("a new directory");
    let config = LogConfig {
        name: *b"bench\0\0\0\0\0\0\0\0\0\0\0",
        segment_records: 1 << 20,
        policy: SyncPolicy::Interval(Duration::from_millis(50)),
        upstream: UpstreamRule::CountAppended,
        sequence: Sequence::Contiguous,
        retention: Retention { bytes_max: Some(256 << 20), age_max: None },
    };
    Log::open(storage, config, now).expect("a new log").0
}

/// What a reactor does for its log besides appending.
fn keep<S: Storage>(log: &mut Log<S>, now: Now) {
    log.handle_completions(now);
    log.handle_timers(now);
}

/// Whether the frame is in; it is not while the next segment is being made.
fn append<S: Storage>(log: &mut Log<S>, frame: &Frame) -> bool {
    match log.append(frame) {
        Ok(_) => true,
        Err(AppendError::NotReady) => false,
        Err(error) => panic!("the log takes no frame: {error}"),
    }
}

/// The reactor's thread appends.
fn run_on_the_reactor(clock: Clock, schedule: Schedule, mut log: Log<FileStorage>) -> Measured {
    let mut measured = Measured::new();
    let mut taken = 0;
    while taken < schedule.ticks {
        let now = clock.now();
        let due = schedule.due(now.mono).min(taken + TURN_FRAMES_MAX);
        keep(&mut log, now);
        let first = taken + 1;
        while taken < due && append(&mut log, &frame(taken + 1)) {
            taken += 1;
        }
        log.commit(now);
        if due >= first {
            let done = clock.now().mono;
            measured.note_visible(schedule, first..taken + 1, done);
            measured.turn.saturating_record(done.0 - now.mono.0);
        }
    }
    measured
}

/// The reactor's thread hands the frames to a thread that appends, and sees when they are committed.
fn run_with_a_queue(clock: Clock, schedule: Schedule, log: Log<FileStorage>) -> Measured {
    let mut measured = Measured::new();
    let committed = AtomicU64::new(0);
    let (sender, receiver) = bounded(QUEUE_FRAMES_MAX);
    std::thread::scope(|scope| {
        scope.spawn(|| append_from_a_queue(clock, log, receiver, &committed));
        let (mut taken, mut seen) = (0, 0);
        while seen < schedule.ticks {
            let now = clock.now();
            let due = schedule.due(now.mono).min(taken + TURN_FRAMES_MAX);
            let has_ticks = taken < due;
            while taken < due && sender.try_send(frame(taken + 1)).is_ok() {
                taken += 1;
            }
            if has_ticks {
                measured.turn.saturating_record(clock.now().mono.0 - now.mono.0);
            }
            let visible = committed.load(Ordering::Acquire);
            if visible > seen {
                measured.note_visible(schedule, seen + 1..visible + 1, clock.now().mono);
                seen = visible;
            }
        }
        drop(sender);
    });
    measured
}

fn append_from_a_queue(
    clock: Clock,
    mut log: Log<FileStorage>,
    queue: Receiver<Frame>,
    committed: &AtomicU64,
) {
    loop {
        let first = match queue.recv_timeout(QUEUE_WAIT) {
            Ok(frame) => Some(frame),
            Err(error) if error.is_disconnected() => return,
            Err(_) => None,
        };
        let now = clock.now();
        keep(&mut log, now);
        let more = first.map_or(0, |_| TURN_FRAMES_MAX - 1);
        for frame in first.into_iter().chain((0..more).map_while(|_| queue.try_recv().ok())) {
            while !append(&mut log, &frame) {
                log.commit(now);
                keep(&mut log, clock.now());
            }
        }
        log.commit(now);
        committed.store(log.committed_seq() - 1, Ordering::Release);
    }
}

fn print(rate: u64, way: &str, measured: &Measured) {
    let micros = |nanos: u64| Duration::from_nanos(nanos).as_secs_f64() * 1e6;
    let [p50, p99, p999] = [0.5, 0.99, 0.999].map(|at| measured.visible.value_at_quantile(at));
    println!(
        "{rate:>9}  {way:<10}  {:>9.1}  {:>9.1}  {:>9.1}  {:>9.1}  {:>9.1}  {:>9.1}",
        micros(p50),
        micros(p99),
        micros(p999),
        micros(measured.visible.max()),
        micros(measured.turn.value_at_quantile(0.999)),
        micros(measured.turn.max()),
    );
}

fn main() {
    pregao::planted::refuse_to_measure();
    let arguments: Vec<String> = std::env::args().collect();
    let is_smoke_test =
        arguments.iter().any(|a| a == "--test") || !arguments.iter().any(|a| a == "--bench");
    let (rounds, span_ms) = if is_smoke_test { (1, 20) } else { (2, 3_000) };
    println!("tick to visible, and how long a turn kept the reactor's thread, in µs");
    println!(
        "  ticks/s  appends on        p50        p99      p99.9        max  turn p99.9   turn max"
    );
    let clock = Clock::start();
    for _ in 0..rounds {
        for rate in RATES {
            for way in ["reactor", "log thread"] {
                let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))
                    .expect("the bench needs a directory on the disk that it measures");
                let log = open(directory.path(), clock.now());
                let ticks = rate * span_ms / 1_000;
                let schedule = Schedule { start: clock.now().mono, rate, ticks };
                let measured = match way {
                    "reactor" => run_on_the_reactor(clock, schedule, log),
                    _ => run_with_a_queue(clock, schedule, log),
                };
                print(rate, way, &measured);
            }
        }
    }
}
