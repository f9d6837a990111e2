//! The log and its storage thread, step by step: every interleaving of a short script of the appending
//! side with the thread's steps, and a death of the thread at each of them. Both sides are the
//! production code: the log, and the two halves of the queue, over a disk in memory. What stands here
//! is only the thread's loop, cut into its steps, so that it can be cut wrongly too.
//!
//! What it is not: a test of what the compiler and the processor make of it; that is `tests.rs`, also
//! under Miri. What a crash leaves of the disk is in `log/exhaustive_tests.rs`.

use std::cell::RefCell;
use std::rc::Rc;

mod world;

use Step::{Append, Close, Commit, Epoch, Look};

use super::queues;
use crate::log::memory::MemoryDisk;
use crate::log::{
    AppendError, HEADER_BYTES, Health, Log, LogConfig, NewEpoch, Read, Retention, Sequence,
    SyncPolicy, UpstreamRule,
};
use crate::time::{Mono, Now};
use crate::wire::{FRAME_BYTES, Frame, Kind, Quote, U64};
use world::{Choices, Flaw, ModelStorage, Stage, World};

/// Few, so that scripts get from one segment to the next.
const SEGMENT_RECORDS: u64 = 8;

/// A step of the appending side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Takes in what the storage has completed, as each turn does, woken or not.
    Look,
    Append,
    Commit,
    /// Blocks.
    Epoch,
    /// Blocks.
    Close,
}

/// What is run, in every interleaving.
#[derive(Clone, Copy, Debug)]
struct Plan {
    /// Frames that are durable before it begins.
    frames_before: u64,
    script: &'static [Step],
    /// The storage is let go of right behind the script; else everybody comes to rest first.
    stops: bool,
    thread_may_die: bool,
    syncs_until_failure: Option<u32>,
    bytes_max: Option<u64>,
    flaw: Flaw,
}

/// A run of one script along one way through the choices.
struct Life {
    world: Rc<RefCell<World>>,
    disk: MemoryDisk,
    log: Log<ModelStorage>,
    appended_seq: u64,
    committed_seq: u64,
    durable: u64,
    /// A frame was refused, and nobody has said since that there is room.
    is_held_back: bool,
}

fn at(millis: u64) -> Now {
    Now { mono: Mono(millis * 1_000_000), wall_ns: 1_700_000_000_000_000_000 + millis }
}

fn frame(seq: u64) -> Frame {
    Frame::seal(Quote { seq: U64::new(seq), ..Quote::default() })
}

type Verdict = Result<(), String>;

fn holds(is_so: bool, what: impl FnOnce() -> String) -> Verdict {
    if is_so { Ok(()) } else { Err(what()) }
}

impl Life {
    fn new(plan: &Plan, choices: Choices) -> Life {
        let disk = MemoryDisk::new(128);
        let (jobs, list) = queues();
        let world = Rc::new(RefCell::new(World {
            doer: disk.storage(),
            choices,
            flaw: Flaw::None,
            list: Some(list),
            stage: Stage::Idle,
            has_stopped: false,
            is_woken: false,
            may_die: false,
            under_way: 0,
            under_way_max: 0,
            reported: 0,
            heard: 0,
            errors: 0,
        }));
        let storage = ModelStorage { world: Rc::clone(&world), jobs };
        let config = LogConfig {
            name: *b"journal\0\0\0\0\0\0\0\0\0",
            segment_records: SEGMENT_RECORDS,
            policy: SyncPolicy::Batch,
            upstream: UpstreamRule::CountAppended,
            sequence: Sequence::Contiguous,
            retention: Retention { bytes_max: plan.bytes_max, age_max: None },
        };
        let (mut log, _) = Log::open(storage, config, at(0)).expect("an empty disk");
        while log.next_seq() <= plan.frames_before {
            let _ = log.append(&frame(log.next_seq()));
            log.commit(at(1));
            while log.durable_position() < log.committed_position() {
                let mut thread = world.borrow_mut();
                if thread.can_step() {
                    thread.step();
                }
                drop(thread);
                log.handle_completions(at(1));
            }
        }
        if let Some(count) = plan.syncs_until_failure {
            disk.fail_sync_after(count);
        }
        let mut begun = world.borrow_mut();
        (begun.flaw, begun.may_die) = (plan.flaw, plan.thread_may_die);
        drop(begun);
        let last_seq = plan.frames_before;
        Life {
            disk,
            durable: log.durable_position(),
            world,
            log,
            appended_seq: last_seq,
            committed_seq: last_seq,
            is_held_back: false,
        }
    }

    fn act(&mut self, step: Step) -> Verdict {
        match step {
            Step::Look => self.look()?,
            Step::Append => match self.log.append(&frame(self.log.next_seq())) {
                Ok(_) => self.appended_seq += 1,
                Err(AppendError::NotReady) => self.is_held_back = true,
                Err(AppendError::Failed) if self.has_failed() => {}
                Err(error) => return Err(format!("an append: {error}")),
            },
            Step::Commit => {
                self.log.commit(at(1));
                self.committed_seq = self.appended_seq;
            }
            Step::Epoch => {
                let done = self.log.begin_epoch(NewEpoch::of(7), at(1));
                self.blocked(done.map(|_| ()))?;
            }
            Step::Close => {
                let done = self.log.close(at(1));
                self.blocked(done)?;
            }
        }
        self.check()
    }

    fn look(&mut self) -> Verdict {
        let (forgets_late, errors) = {
            let world = self.world.borrow();
            (world.flaw == Flaw::LookBeforeForgettingWake, world.errors)
        };
        let had_failed = self.has_failed();
        let progress = if forgets_late {
            let progress = self.log.handle_completions(at(1));
            self.let_thread_step();
            self.world.borrow_mut().is_woken = false;
            progress
        } else {
            self.world.borrow_mut().is_woken = false;
            self.let_thread_step();
            self.log.handle_completions(at(1))
        };
        let durable = self.log.durable_position();
        holds(progress.durable == (durable > self.durable), || format!("said {progress:?}"))?;
        holds(!had_failed || durable == self.durable, || "durable after a failure".to_owned())?;
        let errors = self.world.borrow().errors - errors;
        holds(progress.failed == (errors > 0), || format!("{errors} errors, said {progress:?}"))?;
        self.durable = durable;
        self.is_held_back &= !progress.room;
        Ok(())
    }

    /// A step that waited for the thread is over.
    fn blocked(&mut self, done: Result<(), AppendError>) -> Verdict {
        self.durable = self.log.durable_position();
        match done {
            Ok(()) => {
                self.committed_seq = self.appended_seq;
                // Who has waited tries again without a notification.
                self.is_held_back = false;
                let all = self.durable == self.log.committed_position();
                holds(all, || "it did not wait for everything".to_owned())
            }
            // It publishes, and then fails to have it made durable.
            Err(AppendError::Failed) => {
                self.committed_seq = self.log.committed_seq() - 1;
                holds(self.has_failed(), || "refused for nothing".to_owned())
            }
            Err(error) => Err(format!("it was refused: {error}")),
        }
    }

    fn has_failed(&self) -> bool {
        matches!(self.log.health(), Health::Failed(_))
    }

    /// What holds behind every step of the appending side. The thread's steps change nothing that it sees.
    fn check(&self) -> Verdict {
        let (committed, durable) = (self.log.committed_position(), self.log.durable_position());
        holds(durable <= committed, || format!("durable {durable}, committed {committed}"))?;
        // What a reader sees ends with what was committed.
        let mut seqs = Vec::new();
        let mut position = self.log.first_position();
        loop {
            match self.log.read(position, usize::MAX) {
                Read::Frames(frames) => {
                    let data = frames.iter().filter(|it| it.kind().is_some_and(Kind::is_data));
                    seqs.extend(data.map(|it| it.seq.get()));
                    position += frames.len() as u64;
                }
                Read::Damaged(range) => return Err(format!("damaged: {range:?}")),
                Read::End => break,
            }
        }
        holds(position == committed, || format!("read to {position} of {committed}"))?;
        let first = seqs.first().copied().unwrap_or(self.committed_seq + 1);
        let expected: Vec<u64> = (first..=self.committed_seq).collect();
        holds(seqs == expected, || format!("read {seqs:?}, committed {}", self.committed_seq))?;
        // What is called durable is, in every segment that has it.
        for number in self.disk.numbers() {
            let base = (number - 1) * SEGMENT_RECORDS;
            let records = durable.saturating_sub(base).min(SEGMENT_RECORDS);
            let bytes = HEADER_BYTES + records as usize * FRAME_BYTES;
            let (stored, kept) = (self.disk.bytes(number), self.disk.durable_bytes(number));
            holds(stored[..bytes] == kept[..bytes], || format!("{durable} is not durable"))?;
        }
        Ok(())
    }

    fn can_step(&self) -> bool {
        self.world.borrow().can_step()
    }

    fn choose(&mut self, ways: usize) -> usize {
        self.world.borrow_mut().choices.choose(ways)
    }

    /// As many steps of the thread as there are, or fewer.
    fn let_thread_step(&mut self) {
        while self.can_step() && self.choose(2) == 1 {
            self.world.borrow_mut().step();
        }
    }

    /// Until the thread has nothing to do, and the reactor, which sleeps, nothing to look for.
    fn come_to_rest(&mut self) -> Verdict {
        loop {
            let is_woken = self.world.borrow().is_woken;
            match (is_woken, self.can_step()) {
                (false, false) => break,
                (true, true) if self.choose(2) == 0 => self.act(Step::Look)?,
                (true, false) => self.act(Step::Look)?,
                _ => self.world.borrow_mut().step(),
            }
        }
        let world = self.world.borrow();
        holds(world.under_way == 0, || format!("{} jobs nobody hears of", world.under_way))?;
        holds(world.reported == world.heard, || format!("{} of {}", world.heard, world.reported))?;
        let is_closed = *self.log.health() == Health::Closed;
        let is_said = world.errors == 0 || self.has_failed() || is_closed;
        holds(is_said, || "an error without a failure".to_owned())?;
        if !self.has_failed() {
            let (committed, durable) = (self.log.committed_position(), self.log.durable_position());
            holds(durable == committed, || format!("{durable} of {committed} is durable"))?;
            let is_held_back = self.is_held_back && *self.log.health() == Health::Open;
            holds(!is_held_back, || "held back for ever".to_owned())?;
        }
        Ok(())
    }

    /// Runs the plan along its choices. Lets go of the storage in the end.
    fn run(mut self, plan: &Plan) -> (Choices, usize, Verdict) {
        let verdict = self.play(plan);
        let Life { world, disk, log, .. } = self;
        let failed = matches!(log.health(), Health::Failed(_));
        drop(log);
        let mut world = world.borrow_mut();
        let is_over = verdict.and_then(|()| {
            holds(matches!(world.stage, Stage::Ended), || "the thread lives on".to_owned())?;
            let is_lost = plan.thread_may_die && !world.may_die;
            let left = disk.jobs();
            holds(left == 0 || is_lost, || format!("{left} jobs were never done"))?;
            holds(!failed || is_lost || world.errors > 0, || "failed for nothing".to_owned())
        });
        (std::mem::take(&mut world.choices), world.under_way_max, is_over)
    }

    fn play(&mut self, plan: &Plan) -> Verdict {
        for step in plan.script {
            // An append and a commit start jobs and hear nothing: the thread's steps before them are the
            // same behind them, and come there.
            let meets = !matches!(step, Step::Append | Step::Commit);
            if meets {
                self.let_thread_step();
            }
            self.act(*step)?;
        }
        if plan.stops { Ok(()) } else { self.come_to_rest() }
    }
}

/// Goes every way; how many there are and the most jobs that were under way, or what went wrong.
fn explore(plan: &Plan) -> Result<(usize, usize), String> {
    let mut choices = Choices::default();
    let (mut ways, mut under_way_max) = (0, 0);
    loop {
        let (made, under_way, verdict) = Life::new(plan, choices).run(plan);
        verdict.map_err(|what| format!("{what}; {plan:?} by {:?}", made.made))?;
        ways += 1;
        under_way_max = under_way_max.max(under_way);
        choices = made;
        if !choices.advance() {
            return Ok((ways, under_way_max));
        }
    }
}

/// Two turns, in the order of the reactor's turn; more follow until everybody has come to rest.
const TURNS: Plan = Plan {
    frames_before: 0,
    script: &[Append, Commit, Look, Append, Append, Commit],
    stops: false,
    thread_may_die: false,
    syncs_until_failure: None,
    bytes_max: None,
    flaw: Flaw::None,
};

const CLOSED: &[Step] = &[Append, Commit, Look, Append, Close];

/// From every place in a segment; the number of ways.
fn explore_from_everywhere(plan: Plan) -> usize {
    let explored = (0..SEGMENT_RECORDS).map(|frames_before| {
        let (ways, under_way_max) = explore(&Plan { frames_before, ..plan }).unwrap();
        assert!(under_way_max <= 6, "{under_way_max} jobs under way");
        ways
    });
    explored.sum()
}

#[test]
#[cfg_attr(miri, ignore = "a search of minutes in safe code")]
fn everything_becomes_durable_and_nothing_is_seen_or_promised_too_early() {
    let ways = explore_from_everywhere(TURNS);
    assert!(ways > 10_000, "{ways} are not all");
    // Segments are removed as soon as they may be.
    let script = &[Append, Commit, Look, Append, Commit];
    let ways = explore_from_everywhere(Plan { script, bytes_max: Some(1), ..TURNS });
    assert!(ways > 1_000, "{ways} are not all");
}

#[test]
#[cfg_attr(miri, ignore = "a search of minutes in safe code")]
fn who_waits_for_the_thread_finds_everything_durable() {
    for script in [CLOSED, &[Append, Commit, Epoch, Append, Commit, Look, Append, Epoch]] {
        let ways = explore_from_everywhere(Plan { script, ..TURNS });
        assert!(ways > 1_000, "{ways} are not all");
    }
}

#[test]
#[cfg_attr(miri, ignore = "a search of minutes in safe code")]
fn what_was_started_is_done_when_the_storage_is_let_go_of() {
    let ways = explore_from_everywhere(Plan { stops: true, bytes_max: Some(1), ..TURNS });
    assert!(ways > 100, "{ways} are not all");
}

#[test]
#[cfg_attr(miri, ignore = "a search of minutes in safe code")]
fn a_sync_that_fails_is_reported_once_and_nothing_is_durable_behind_it() {
    for count in 0..3 {
        for script in [&[Append, Commit, Look, Append, Commit], CLOSED] {
            let plan = Plan { script, syncs_until_failure: Some(count), ..TURNS };
            let ways = explore_from_everywhere(plan);
            assert!(ways > 500, "{ways} are not all");
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "a search of minutes in safe code")]
fn a_thread_that_is_lost_anywhere_is_reported_once_and_its_earlier_answers_arrive() {
    for script in [&[Append, Commit, Look, Append, Commit], CLOSED] {
        let ways = explore_from_everywhere(Plan { script, thread_may_die: true, ..TURNS });
        assert!(ways > 1_000, "{ways} are not all");
    }
}

#[test]
#[cfg_attr(miri, ignore = "a search of minutes in safe code")]
fn each_step_of_the_protocol_is_needed() {
    for (flaw, stops, thread_may_die) in [
        (Flaw::WakeBeforeTell, false, false),
        (Flaw::TellBeforeDoing, false, false),
        (Flaw::LookBeforeForgettingWake, false, false),
        (Flaw::EndWithoutDoing, true, false),
        (Flaw::DieSilently, false, true),
        (Flaw::ForgetAnswersOfTheDead, false, true),
    ] {
        let plan = Plan { stops, thread_may_die, flaw, ..TURNS };
        assert!(explore(&plan).is_err(), "{flaw:?} goes unseen");
    }
}
