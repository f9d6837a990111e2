//! What the first reactor tells the further ones besides the frames, and what they tell it: a bounded
//! letter box each, and a few figures. What is *not* here: frames of the sequence, which all read from
//! the one ring.
//!
//! Invariant: a letter says how far the ring had come when it was written (`at_seq`). Who reads it
//! takes in the ring up to there first, so that letters and frames have one order on every reactor.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::feed::RingReader;
use crate::limits;
use crate::wire::Frame;

/// A letter about one source.
#[derive(Debug)]
pub(super) struct Letter {
    pub(super) source: u8,
    pub(super) at_seq: u64,
    pub(super) news: News,
}

/// What happened to a source.
#[derive(Debug)]
pub(super) enum News {
    /// It goes on elsewhere: the sequence began, or jumped.
    Window(RingReader),
    /// The publisher said where the sequence goes on: readers can be served.
    Ready,
    /// A new epoch began. From `void_from` on, what was published is void.
    Epoch { epoch: u32, epoch_start: u64, void_from: Option<u64>, is_ready: bool },
    /// A last value that is not of the sequence.
    Value(Box<Frame>),
    /// Whether a publisher is there, and what it says of its last values.
    Standing { has_publisher: bool, is_stale: bool },
}

/// What the first reactor and one further reactor share.
#[derive(Debug, Default)]
pub(super) struct Post {
    letters: Mutex<VecDeque<Letter>>,
    /// Connections that were given to it and have not ended, on the way or open.
    pub(super) connections: AtomicUsize,
    /// Of these, those on the way.
    pub(super) arriving: AtomicUsize,
    /// Its figures, as of its last turn.
    pub(super) refused: AtomicU64,
    pub(super) interest_bytes: AtomicU64,
    pub(super) gaps_told: [AtomicU64; limits::SOURCES_MAX],
}

impl Post {
    fn letters(&self) -> MutexGuard<'_, VecDeque<Letter>> {
        // A thread that panicked in here left a whole queue; and its end is the process's end.
        self.letters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn next_letter(&self) -> Option<Letter> {
        self.letters().pop_front()
    }

    pub(super) fn has_letters(&self) -> bool {
        !self.letters().is_empty()
    }

    /// How many letters more may wait.
    fn room(&self) -> usize {
        limits::REACTOR_LETTERS_MAX.saturating_sub(self.letters().len())
    }
}

/// Set by the intake when it waits for the further reactors, so that they wake it.
///
/// Invariant: the intake sets it and *then* looks once more whether there is room; a reactor makes
/// room and *then* looks at it. With a full fence between, at least one of them sees the other.
#[derive(Clone, Debug, Default)]
pub(super) struct Stall(Arc<AtomicBool>);

impl Stall {
    /// The intake is about to wait.
    pub(super) fn announce(&self) {
        self.0.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// A reactor has made room. Whether the intake has to be woken.
    pub(super) fn is_over(&self) -> bool {
        fence(Ordering::SeqCst);
        self.0.load(Ordering::Relaxed) && self.0.swap(false, Ordering::Relaxed)
    }
}

/// The first reactor's end: the further reactors in their order, none unless configured.
#[derive(Debug, Default)]
pub(super) struct Outlets {
    pub(super) posts: Vec<Arc<Post>>,
    pub(super) stall: Stall,
    /// Letters that every box has room for, at least.
    room: usize,
    /// Something was posted or published: the others are to be woken.
    pub(super) has_news: bool,
}

impl Outlets {
    pub(super) fn new(count: usize) -> Outlets {
        let posts = (0..count).map(|_| Arc::default()).collect();
        Outlets { posts, ..Outlets::default() }
    }

    /// Whether a frame may be taken in that every reactor has to be told of.
    pub(super) fn has_room(&mut self) -> bool {
        // What one frame leads to, and the end of its connection.
        const LETTERS: usize = 4;
        if self.room < LETTERS {
            self.room = self.posts.iter().map(|post| post.room()).min().unwrap_or(usize::MAX);
        }
        self.room >= LETTERS
    }

    /// Tells every reactor.
    pub(super) fn tell(&mut self, source: u8, at_seq: u64, mut news: impl FnMut() -> News) {
        for post in &self.posts {
            post.letters().push_back(Letter { source, at_seq, news: news() });
        }
        self.room = self.room.saturating_sub(1);
        self.has_news = !self.posts.is_empty();
    }

    /// Hands every reactor its half of a ring.
    pub(super) fn hand_out(&mut self, source: u8, at_seq: u64, readers: Vec<RingReader>) {
        let mut readers = readers.into_iter();
        for post in &self.posts {
            let Some(reader) = readers.next() else { break };
            post.letters().push_back(Letter { source, at_seq, news: News::Window(reader) });
        }
        self.room = self.room.saturating_sub(1);
        self.has_news = !self.posts.is_empty();
    }
}
