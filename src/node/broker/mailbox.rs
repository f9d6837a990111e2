//! What the first reactor sends the further ones besides the frames, and what they report: a bounded
//! mailbox each, and a few figures. What is *not* here: frames of the sequence, which all read from
//! the one ring.
//!
//! Invariant: a message says how far the ring had come when it was written (`at_seq`). Who reads it
//! takes in the ring up to there first, so that messages and frames have one order on every reactor.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::jumps::Jump;
use super::readers::MODES;
use super::source::PublisherState;
use crate::feed::RingReader;
use crate::limits;
use crate::log::EpochEntry;
use crate::wire::{Frame, Seq};

/// A message about one source.
#[derive(Debug)]
pub(super) struct MailboxMessage {
    pub(super) source: u8,
    pub(super) at_seq: Option<Seq>,
    pub(super) change: SourceChange,
}

/// What happened to a source.
#[derive(Debug)]
pub(super) enum SourceChange {
    /// It goes on elsewhere: the sequence began, or jumped.
    Window(RingReader),
    /// The publisher said where the sequence goes on: readers can be served.
    Ready,
    /// A new epoch began. From `void_from` on, what was published is void.
    Epoch(EpochChange),
    /// An epoch that the sequence went through.
    Lineage(EpochEntry),
    /// A last value that is not of the sequence.
    Value(Box<Frame>),
    /// The publisher has stated them all, and some instruments were not known.
    Stated,
    /// What is known of the publisher.
    Publisher(PublisherState),
}

/// What a new epoch of a source is.
#[derive(Clone, Copy, Debug)]
pub(super) struct EpochChange {
    pub(super) feed: u64,
    pub(super) epoch: u32,
    pub(super) epoch_start: u64,
    pub(super) publisher_seq: u64,
    /// It begins another sequence.
    pub(super) is_new: bool,
    pub(super) void_from: Option<u64>,
    /// The jump that is taken back with it.
    pub(super) jump: Option<Jump>,
    pub(super) is_ready: bool,
}

impl EpochChange {
    /// From where on values and definitions are void. Of another sequence all are, those without a place too.
    pub(super) fn values_void_from(&self) -> Option<u64> {
        if self.is_new { Some(0) } else { self.void_from }
    }
}

/// What the first reactor and one further reactor share.
#[derive(Debug, Default)]
pub(super) struct Mailbox {
    messages: Mutex<VecDeque<MailboxMessage>>,
    /// Connections that were given to it and have not ended, on the way or open.
    pub(super) connections: AtomicUsize,
    /// Of these, those on the way.
    pub(super) arriving: AtomicUsize,
    /// Its figures, as of its last turn.
    pub(super) refused: AtomicU64,
    pub(super) unread_closed: AtomicU64,
    pub(super) interest_bytes: AtomicU64,
    pub(super) gaps_sent: [AtomicU64; limits::SOURCES_MAX],
    pub(super) by_mode: [AtomicUsize; MODES],
    pub(super) sent_bytes: AtomicU64,
}

impl Mailbox {
    fn messages(&self) -> MutexGuard<'_, VecDeque<MailboxMessage>> {
        // A thread that panicked in here left a whole queue; and its end is the process's end.
        self.messages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn next_message(&self) -> Option<MailboxMessage> {
        self.messages().pop_front()
    }

    pub(super) fn has_messages(&self) -> bool {
        !self.messages().is_empty()
    }

    /// How many messages more may wait.
    fn room(&self) -> usize {
        limits::MAILBOX_MESSAGES_MAX.saturating_sub(self.messages().len())
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
pub(super) struct FurtherReactors {
    pub(super) mailboxes: Vec<Arc<Mailbox>>,
    pub(super) stall: Stall,
    /// Messages that every box has room for, at least.
    room: usize,
    /// Something was posted or published: the others are to be woken.
    pub(super) has_updates: bool,
}

impl FurtherReactors {
    pub(super) fn new(count: usize) -> FurtherReactors {
        let mailboxes = (0..count).map(|_| Arc::default()).collect();
        FurtherReactors { mailboxes, ..FurtherReactors::default() }
    }

    /// Whether a frame may be taken in that every reactor has to be notified of.
    pub(super) fn has_room(&mut self) -> bool {
        // What one frame leads to, and the end of its connection.
        const MESSAGES: usize = 5;
        if self.room < MESSAGES {
            self.room =
                self.mailboxes.iter().map(|mailbox| mailbox.room()).min().unwrap_or(usize::MAX);
        }
        self.room >= MESSAGES
    }

    /// Notifies every reactor.
    pub(super) fn notify(
        &mut self,
        source: u8,
        at_seq: Option<Seq>,
        mut change: impl FnMut() -> SourceChange,
    ) {
        for mailbox in &self.mailboxes {
            mailbox.messages().push_back(MailboxMessage { source, at_seq, change: change() });
        }
        self.room = self.room.saturating_sub(1);
        self.has_updates = !self.mailboxes.is_empty();
    }

    /// Hands every reactor its half of a ring.
    pub(super) fn share_ring(&mut self, source: u8, at_seq: Option<Seq>, readers: Vec<RingReader>) {
        let mut readers = readers.into_iter();
        for mailbox in &self.mailboxes {
            let Some(reader) = readers.next() else { break };
            mailbox.messages().push_back(MailboxMessage {
                source,
                at_seq,
                change: SourceChange::Window(reader),
            });
        }
        self.room = self.room.saturating_sub(1);
        self.has_updates = !self.mailboxes.is_empty();
    }
}
