//! The storage thread of the model, cut into its steps, and the storage of the log in front of it.

use std::cell::RefCell;
use std::rc::Rc;

use super::super::{Answer, Jobs, Worklist};
use crate::log::memory::{MemorySegment, MemoryStorage};
use crate::log::{Completion, HEADER_BYTES, Storage, StorageError};
use crate::storage::directory::completion;

/// What is done in the wrong order, or left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    None,
    /// The thread wakes the reactor for an answer that is not there yet.
    WakeBeforeTell,
    /// The thread reports that a job is done, and then does it.
    TellBeforeDoing,
    /// The reactor looks, and then forgets that it was woken.
    LookBeforeForgettingWake,
    /// The thread ends as soon as the log's side has stopped.
    EndWithoutDoing,
    /// A thread that is lost wakes nobody.
    DieSilently,
    /// Jobs that the lost thread had answered are not heard.
    ForgetAnswersOfTheDead,
}

/// Which way to go wherever there are several: all of them, one after the other.
#[derive(Debug, Default)]
pub(super) struct Choices {
    pub(super) made: Vec<(usize, usize)>,
    pub(super) at: usize,
}

impl Choices {
    pub(super) fn choose(&mut self, ways: usize) -> usize {
        if ways == 1 {
            return 0;
        }
        if self.at == self.made.len() {
            self.made.push((0, ways));
        }
        let (way, known) = self.made[self.at];
        assert_eq!(known, ways, "the same choices lead elsewhere");
        self.at += 1;
        way
    }

    /// Goes to the next way; `false` when all were gone.
    pub(super) fn advance(&mut self) -> bool {
        self.at = 0;
        while let Some((way, ways)) = self.made.pop() {
            if way + 1 < ways {
                self.made.push((way + 1, ways));
                return true;
            }
        }
        false
    }
}

/// Where the thread is in its loop.
pub(super) enum Stage {
    /// It takes the next job, or waits for one.
    Idle,
    /// It has done a job and reported it in one step, since nobody looks in between; it has the reactor to
    /// wake.
    Reported,
    /// It has woken before it reported.
    Woken(Completion<MemorySegment>),
    /// It has reported a success, and the job is still to do.
    Promised,
    /// It no longer holds its side of the queues, and has the reactor to wake.
    Ending,
    Ended,
}

pub(super) struct World {
    /// Who does the jobs: the disk's own queue has them in the same order.
    pub(super) doer: MemoryStorage,
    pub(super) choices: Choices,
    pub(super) flaw: Flaw,
    pub(super) list: Option<Worklist<(), Completion<MemorySegment>>>,
    pub(super) stage: Stage,
    pub(super) has_stopped: bool,
    pub(super) is_woken: bool,
    /// Once, at any of its steps.
    pub(super) may_die: bool,
    pub(super) under_way: usize,
    pub(super) under_way_max: usize,
    /// Answers that the thread has reported, and that the log's side has received.
    pub(super) reported: usize,
    pub(super) heard: usize,
    /// Of those heard, failed syncs and the end of the thread.
    pub(super) errors: usize,
}

impl World {
    /// Whether the thread has a step to make.
    pub(super) fn can_step(&self) -> bool {
        match self.stage {
            Stage::Idle => {
                self.has_stopped || self.list.as_ref().is_some_and(|list| !list.todo.is_empty())
            }
            Stage::Ended => false,
            _ => true,
        }
    }

    /// One step of the thread, in the order of [`Worklist::run`].
    pub(super) fn step(&mut self) {
        let lives = !matches!(self.stage, Stage::Ending | Stage::Ended);
        if lives && self.may_die && self.choices.choose(2) == 1 {
            self.may_die = false;
            return self.end();
        }
        let Some(list) = &self.list else {
            self.is_woken |= self.flaw != Flaw::DieSilently;
            self.stage = Stage::Ended;
            return;
        };
        let early = self.flaw == Flaw::EndWithoutDoing && self.has_stopped;
        self.stage = match std::mem::replace(&mut self.stage, Stage::Idle) {
            Stage::Idle => match Some(()).filter(|()| !early).and_then(|()| list.take()) {
                None => return self.end(),
                Some(()) if self.flaw == Flaw::TellBeforeDoing => {
                    assert!(list.report(Completion::Synced(Ok(()))));
                    self.reported += 1;
                    Stage::Promised
                }
                Some(()) => {
                    let completion = self.doer.wait_completion().expect("the disk has it too");
                    if self.flaw == Flaw::WakeBeforeTell {
                        self.is_woken = true;
                        Stage::Woken(completion)
                    } else {
                        assert!(
                            list.report(completion),
                            "somebody hears until the thread has ended"
                        );
                        self.reported += 1;
                        Stage::Reported
                    }
                }
            },
            Stage::Woken(completion) => {
                assert!(list.report(completion));
                self.reported += 1;
                Stage::Idle
            }
            Stage::Promised => {
                let _ = self.doer.wait_completion();
                Stage::Reported
            }
            Stage::Reported => {
                self.is_woken = true;
                Stage::Idle
            }
            Stage::Ending | Stage::Ended => unreachable!("its side of the queues is closed"),
        };
    }

    fn end(&mut self) {
        self.list = None;
        self.stage = Stage::Ending;
    }
}

/// As `FileStorage`, with a disk in memory behind the queue.
pub(super) struct ModelStorage {
    pub(super) world: Rc<RefCell<World>>,
    pub(super) jobs: Jobs<(), Completion<MemorySegment>>,
}

impl ModelStorage {
    fn start(&mut self, start: impl FnOnce(&mut MemoryStorage)) {
        let mut world = self.world.borrow_mut();
        start(&mut world.doer);
        self.jobs.start(());
        world.under_way = self.jobs.under_way();
        world.under_way_max = world.under_way_max.max(world.under_way);
    }

    fn heard(
        &mut self,
        answer: Option<Answer<Completion<MemorySegment>>>,
    ) -> Option<Completion<MemorySegment>> {
        let mut world = self.world.borrow_mut();
        world.under_way = self.jobs.under_way();
        match &answer {
            Some(Answer::Done(completion)) => {
                world.heard += 1;
                // Only syncs fail here.
                world.errors += usize::from(matches!(completion, Completion::Synced(Err(_))));
            }
            Some(Answer::Gone) => world.errors += 1,
            None => {}
        }
        answer.map(completion)
    }
}

impl Storage for ModelStorage {
    type Segment = MemorySegment;

    fn list(&mut self) -> Result<Vec<u64>, StorageError> {
        self.world.borrow_mut().doer.list()
    }

    fn removed_through(&mut self) -> Result<u64, StorageError> {
        self.world.borrow_mut().doer.removed_through()
    }

    fn set_removed_through(&mut self, number: u64) -> Result<(), StorageError> {
        self.world.borrow_mut().doer.set_removed_through(number)
    }

    fn partition(&mut self) -> Result<Option<Vec<u8>>, StorageError> {
        self.world.borrow_mut().doer.partition()
    }

    fn set_partition(&mut self, text: &[u8]) -> Result<(), StorageError> {
        self.world.borrow_mut().doer.set_partition(text)
    }

    fn open(&mut self, number: u64) -> Result<MemorySegment, StorageError> {
        self.world.borrow_mut().doer.open(number)
    }

    fn extend(&mut self, segment: &mut MemorySegment, bytes: usize) -> Result<(), StorageError> {
        self.world.borrow_mut().doer.extend(segment, bytes)
    }

    fn start_prepare(&mut self, number: u64, header: &[u8; HEADER_BYTES], bytes: usize) {
        self.start(|disk| disk.start_prepare(number, header, bytes));
    }

    fn start_sync(&mut self, segment: &MemorySegment) {
        self.start(|disk| disk.start_sync(segment));
    }

    fn start_touch(&mut self, segment: &MemorySegment, offset: usize, len: usize) {
        self.start(|disk| disk.start_touch(segment, offset, len));
    }

    fn start_remove(&mut self, segment: MemorySegment) {
        self.start(|disk| disk.start_remove(segment));
    }

    fn start_examine(&mut self) {
        self.start(|disk| disk.start_examine());
    }

    fn poll_completion(&mut self) -> Option<Completion<MemorySegment>> {
        let world = self.world.borrow();
        if world.flaw == Flaw::ForgetAnswersOfTheDead && world.list.is_none() {
            while self.jobs.done.try_recv().is_ok() {}
        }
        drop(world);
        let answer = self.jobs.poll();
        self.heard(answer)
    }

    fn wait_completion(&mut self) -> Option<Completion<MemorySegment>> {
        // Who blocks makes no step: the thread makes them all.
        while self.jobs.under_way() > 0 && self.jobs.done.is_empty() {
            let mut world = self.world.borrow_mut();
            if !world.can_step() {
                assert!(world.list.is_none(), "it would wait for ever");
                break;
            }
            world.step();
        }
        let answer = self.jobs.wait();
        self.heard(answer)
    }
}

impl Drop for ModelStorage {
    fn drop(&mut self) {
        self.jobs.stop();
        let mut world = self.world.borrow_mut();
        world.has_stopped = true;
        while world.can_step() {
            world.step();
        }
    }
}
