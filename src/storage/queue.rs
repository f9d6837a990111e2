//! The two queues between a log and its storage thread: jobs one way, what became of them the other.
//!
//! What it is not: the jobs. They are whatever the two sides agree on, so that the model in
//! `queue/model.rs` runs these very halves with a disk in memory.
//!
//! Invariant: the thread does a job, then reports what became of it, then wakes the reactor; the reactor
//! takes note that it was woken, and then looks. So no answer lies there that nobody comes for, and
//! none is there before its job is done.
//!
//! Invariant: jobs are answered in the order they were started, each once. When the log's side stops,
//! what it started is still done. When the thread is lost, what it answered before is still heard,
//! then once that it is gone; and it wakes the reactor for that.

use crossbeam::channel::{Receiver, Sender, TryRecvError, bounded};

use crate::limits::STORAGE_JOBS_MAX;

/// Called by the storage thread after each answer, and when it ends; wakes the reactor that looks.
pub type Wake = Box<dyn Fn() + Send>;

/// What the log's side hears.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer<C> {
    /// The oldest job that was not answered yet has ended.
    Done(C),
    /// The thread has ended, and with it all jobs under way.
    Gone,
}

/// The log's side.
pub(super) struct Jobs<J, C> {
    /// `None` once no more jobs come.
    todo: Option<Sender<J>>,
    done: Receiver<C>,
    under_way: usize,
    /// It has learned that the thread is gone.
    is_gone: bool,
}

/// The thread's side.
pub(super) struct Worklist<J, C> {
    todo: Receiver<J>,
    done: Sender<C>,
}

/// Both sides.
pub(super) fn queues<J, C>() -> (Jobs<J, C>, Worklist<J, C>) {
    let (start, todo) = bounded(STORAGE_JOBS_MAX);
    let (report, done) = bounded(STORAGE_JOBS_MAX);
    let jobs = Jobs { todo: Some(start), done, under_way: 0, is_gone: false };
    (jobs, Worklist { todo, done: report })
}

impl<J, C> Jobs<J, C> {
    /// Starts a job. Never waits: the log keeps fewer jobs under way than the queue holds.
    pub(super) fn start(&mut self, job: J) {
        if self.is_gone {
            return;
        }
        self.under_way += 1;
        // A job that is lost because the thread has ended is reported by the next look, for which the
        // thread has woken the reactor.
        if let Some(todo) = &self.todo {
            let _ = todo.try_send(job);
        }
    }

    /// Jobs that were started and not answered yet.
    pub(super) fn under_way(&self) -> usize {
        self.under_way
    }

    /// The next answer, if there is one.
    pub(super) fn poll(&mut self) -> Option<Answer<C>> {
        match self.done.try_recv() {
            Ok(completion) => Some(self.answered(completion)),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => self.gone(),
        }
    }

    /// The next answer. Blocks; `None` when no job is under way.
    pub(super) fn wait(&mut self) -> Option<Answer<C>> {
        if self.under_way == 0 {
            return None;
        }
        match self.done.recv() {
            Ok(completion) => Some(self.answered(completion)),
            Err(_) => self.gone(),
        }
    }

    /// No more jobs come: the thread ends when it has done those that were started. What becomes of
    /// them still has its place in the queue, so the thread never waits for somebody to hear it.
    pub(super) fn stop(&mut self) {
        self.todo = None;
    }

    fn answered(&mut self, completion: C) -> Answer<C> {
        self.under_way = self.under_way.saturating_sub(1);
        Answer::Done(completion)
    }

    fn gone(&mut self) -> Option<Answer<C>> {
        self.under_way = 0;
        // Told though nothing may be under way: nobody would be woken for the jobs that come now.
        (!std::mem::replace(&mut self.is_gone, true)).then_some(Answer::Gone)
    }
}

impl<J, C> Worklist<J, C> {
    /// Works until the log's side stops. Whatever ends it, a panic too, wakes the reactor.
    pub(super) fn run(self, mut work: impl FnMut(J) -> C, wake: &Wake) {
        // Declared first, so it rings when this side of the queues is closed.
        let _bell = WakeOnDrop(wake);
        let list = self;
        while let Some(job) = list.take() {
            if !list.report(work(job)) {
                return;
            }
            wake();
        }
    }

    /// The next job. Blocks; `None` when the log's side has stopped and everything is done.
    fn take(&self) -> Option<J> {
        self.todo.recv().ok()
    }

    /// Reports what became of a job; `false` when nobody can receive it any more.
    fn report(&self, completion: C) -> bool {
        self.done.send(completion).is_ok()
    }
}

/// Wakes the reactor when it is dropped.
struct WakeOnDrop<'a>(&'a Wake);

impl Drop for WakeOnDrop<'_> {
    fn drop(&mut self) {
        (self.0)();
    }
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
