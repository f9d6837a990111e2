//! One subscriber: a cursor, an interest, and what happens when it is too slow.
//!
//! # Decisions
//!
//! * A lossless reader that was lapped continues in the middle of the ring. At the ring's edge the next
//!   frame would lap it again.

use std::time::Duration;

use zerocopy::IntoBytes;

use crate::feed::{Interest, InterestId, LastValues, Pattern, RingView, Window};
use crate::limits;
use crate::node::session::{Filled, Rejection};
use crate::planted::{Bug, is_planted};
use crate::time::Mono;
use crate::wire::{
    ErrorCode, FRAME_BYTES, Frame, Gap, GapReason, InstrumentIndex, Mode, Seq, SnapshotEnd,
    Subscribe, Subscribed, U32, U64,
};

use super::SNAPSHOT;
use super::source::Source;

#[derive(Debug, Default)]
enum SubscriberState {
    /// The subscription is not complete.
    #[default]
    Idle,
    /// Its patterns so far.
    Collecting(Vec<Pattern>),
    /// The source has to become ready before the subscription can be confirmed.
    Waiting,
    /// Definitions (and last values) up to this instrument index have been sent.
    Snapshot {
        next_index: InstrumentIndex,
        frames: u32,
        live_from: u64,
    },
    Live,
}

/// A subscriber.
#[derive(Debug)]
pub(crate) struct Subscriber {
    state: SubscriberState,
    id: u32,
    source: u8,
    mode: Mode,
    wants_history: bool,
    is_due: bool,
    /// Where its address is counted.
    bucket: Option<u8>,
    interest: Option<InterestId>,
    /// Its place among the readers of its source.
    place: usize,
    conflate: Duration,
    due: Mono,
    /// The next `seq` to look at: a position of the ring, read and moved for each frame. It stands for a place
    /// from the subscription on; before that it is 0, and nobody looks.
    cursor: u64,
}

impl Default for Subscriber {
    fn default() -> Subscriber {
        Subscriber {
            state: SubscriberState::Idle,
            id: 0,
            source: 0,
            mode: Mode::Lossless,
            wants_history: false,
            is_due: false,
            bucket: None,
            interest: None,
            place: 0,
            conflate: Duration::ZERO,
            due: Mono::default(),
            cursor: 0,
        }
    }
}

impl Subscriber {
    /// One that has not said what it wants; its address is counted there.
    pub(super) fn counted_in(bucket: Option<u8>) -> Subscriber {
        Subscriber { bucket, ..Subscriber::default() }
    }

    pub(super) fn bucket(&self) -> Option<u8> {
        self.bucket
    }

    pub(super) fn source(&self) -> u8 {
        self.source
    }

    pub(super) fn cursor(&self) -> u64 {
        self.cursor
    }

    pub(super) fn interest(&self) -> Option<InterestId> {
        self.interest
    }

    pub(super) fn place(&self) -> usize {
        self.place
    }

    pub(super) fn set_place(&mut self, place: usize) {
        self.place = place;
    }

    pub(super) fn conflate_due(&self) -> Option<Mono> {
        (self.mode == Mode::Conflate && self.interest.is_some()).then_some(self.due)
    }

    /// Collects one frame of a subscription; all its patterns when it was the last.
    pub(super) fn add_pattern(
        &mut self,
        subscribe: &Subscribe,
    ) -> Result<Option<Vec<Pattern>>, Rejection> {
        let mut patterns = match std::mem::take(&mut self.state) {
            SubscriberState::Idle => Vec::new(),
            SubscriberState::Collecting(patterns) => patterns,
            other => {
                self.state = other;
                return Err(Rejection::new(ErrorCode::Limit, "one subscription per connection"));
            }
        };
        if patterns.len() >= limits::PATTERNS_MAX {
            let text = "too many patterns in one subscription";
            return Err(Rejection::new(ErrorCode::Limit, text));
        }
        let pattern = Pattern::from_field(&subscribe.pattern, subscribe.kinds.get());
        patterns.push(pattern.map_err(|_| {
            Rejection::new(ErrorCode::BadPattern, "a pattern is SYMBOL, PREFIX* or *")
        })?);
        if subscribe.flags.get() & crate::wire::Flags::MORE != 0 {
            self.state = SubscriberState::Collecting(patterns);
            return Ok(None);
        }
        Ok(Some(patterns))
    }

    /// The subscription is complete. Returns when its first conflated batch is due.
    pub(super) fn begin(
        &mut self,
        now: Mono,
        subscribe: &Subscribe,
        interest: InterestId,
    ) -> Option<Mono> {
        self.state = SubscriberState::Waiting;
        self.id = subscribe.id.get();
        self.source = subscribe.source;
        self.mode = Mode::from_number(subscribe.mode).unwrap_or(Mode::Lossless);
        self.wants_history = subscribe.from_seq().is_some();
        self.cursor = subscribe.from_seq.get();
        self.interest = Some(interest);
        self.conflate = Duration::from_millis(u64::from(subscribe.conflate_ms.get()))
            .clamp(limits::CONFLATE_MIN, limits::CONFLATE_MAX);
        self.due = now + self.conflate;
        self.conflate_due()
    }

    /// A conflated batch may go out. Returns when the next one may.
    pub(super) fn make_due(&mut self, now: Mono) -> Mono {
        self.is_due = true;
        self.due = now + self.conflate;
        self.due
    }

    /// Everything from `seq` on is void. The GAP frame to send, when this subscriber was past it.
    pub(super) fn void_from(&mut self, seq: u64) -> Option<Gap> {
        let place = match &mut self.state {
            SubscriberState::Idle | SubscriberState::Collecting(_) | SubscriberState::Waiting => {
                return None;
            }
            SubscriberState::Snapshot { live_from, .. } => live_from,
            SubscriberState::Live => &mut self.cursor,
        };
        if *place <= seq {
            return None;
        }
        let gap = gap(GapReason::Void, seq, *place - 1, u64::MAX);
        *place = seq;
        Some(gap)
    }

    /// What says that the subscription stands, and in which epoch; none before it does.
    pub(super) fn confirmation<W: Window>(&self, source: &Source<W>) -> Option<Subscribed> {
        let stands = matches!(self.state, SubscriberState::Snapshot { .. } | SubscriberState::Live);
        let interest = source.interests.get(self.interest.filter(|_| stands)?)?;
        Some(self.subscribed(source, interest))
    }

    fn subscribed<W: Window>(&self, source: &Source<W>, interest: &Interest) -> Subscribed {
        let (oldest_seq, next_seq) = source.bounds();
        Subscribed {
            id: U32::new(self.id),
            matched: U32::new(u32::try_from(interest.matched()).unwrap_or(u32::MAX)),
            epoch: U32::new(source.epoch),
            epoch_start: U64::new(source.epoch_start),
            next_seq: Seq::field(next_seq),
            oldest_seq: Seq::field(oldest_seq),
            ..Subscribed::default()
        }
    }

    /// Decides what is sent next: gathers it into `out`, or points at the ring.
    pub(super) fn fill<W: Window>(
        &mut self,
        source: &mut Source<W>,
        out: &mut Vec<Frame>,
    ) -> Filled {
        let Some(view) = source.view() else { return Filled::Outbox };
        let Some(interest) = self.interest.and_then(|id| source.interests.get(id)) else {
            return Filled::Outbox;
        };
        if matches!(self.state, SubscriberState::Waiting) {
            self.confirm(source, view, interest, out);
        }
        if matches!(self.state, SubscriberState::Snapshot { .. }) {
            self.fill_snapshot(source, interest, out);
        }
        if !matches!(self.state, SubscriberState::Live) || !out.is_empty() {
            return Filled::Outbox;
        }
        let (oldest, next) = (view.oldest_seq(), view.next_seq());
        match self.mode {
            Mode::Conflate => {
                if std::mem::take(&mut self.is_due) {
                    self.fill_last_values(view, &source.values, interest, out);
                }
                return Filled::Outbox;
            }
            Mode::Latest if self.cursor < oldest => {
                self.fill_last_values(view, &source.values, interest, out);
                source.gaps_sent += 1;
                return Filled::Outbox;
            }
            Mode::Lossless if self.cursor < oldest => {
                // Half a ring ahead of the edge, or the next frame would push it out again.
                let resume = oldest + (next - oldest) / 2;
                let lapped = gap(GapReason::Lapped, self.cursor, resume - 1, u64::MAX);
                out.push(Frame::seal(lapped));
                if is_planted(Bug::DropGapFrame) {
                    out.clear();
                }
                self.cursor = resume;
                source.gaps_sent += 1;
                return Filled::Outbox;
            }
            _ => {}
        }
        if interest.is_everything() {
            return Filled::Lent;
        }
        self.fill_matching(view, interest, out);
        Filled::Outbox
    }

    fn confirm<W: Window>(
        &mut self,
        source: &Source<W>,
        view: RingView<'_>,
        interest: &Interest,
        out: &mut Vec<Frame>,
    ) {
        let (oldest, next) = (view.oldest_seq(), view.next_seq());
        out.push(Frame::seal(self.subscribed(source, interest)));
        let mut live_from = next;
        if self.wants_history {
            live_from = self.cursor;
            if self.cursor < oldest {
                let reason = GapReason::BeforeRing;
                out.push(Frame::seal(gap(reason, self.cursor, oldest - 1, u64::MAX)));
                live_from = oldest;
            }
        }
        self.state =
            SubscriberState::Snapshot { next_index: InstrumentIndex::FIRST, frames: 0, live_from };
    }

    /// Sends definitions and, to who did not ask for history, last values.
    ///
    /// A snapshot may take several turns while the feed goes on. Values that are newer than its start
    /// are left out: the ring delivers them, in order, from `live_from` on.
    fn fill_snapshot<W>(&mut self, source: &Source<W>, interest: &Interest, out: &mut Vec<Frame>) {
        let (values, value_flags) = (&source.values, source.snapshot_flags());
        let SubscriberState::Snapshot { mut next_index, mut frames, live_from } = self.state else {
            return;
        };
        let end = values.index_end();
        while next_index < end {
            if out.len() >= limits::FILL_FRAMES_MAX {
                self.state = SubscriberState::Snapshot { next_index, frames, live_from };
                return;
            }
            let is_wanted = interest.kinds_of(next_index) != 0;
            // The ring brings the system's frames to who asked for everything: they need names, or
            // nobody could distinguish them.
            if is_wanted || interest.is_everything() {
                let before = out.len();
                out.extend(values.definition(next_index).map(|frame| frame.delivered(SNAPSHOT)));
                if is_wanted && !self.wants_history {
                    let wanted = values
                        .values(next_index)
                        .into_iter()
                        .flatten()
                        .filter(|frame| frame.seq.get() < live_from && interest.wants(frame));
                    out.extend(wanted.map(|frame| frame.delivered(value_flags)));
                }
                frames += u32::try_from(out.len() - before).unwrap_or(0);
            }
            next_index = next_index.next();
        }
        out.push(Frame::seal(SnapshotEnd {
            id: U32::new(self.id),
            frames: U32::new(frames),
            next_seq: U64::new(live_from),
            ..SnapshotEnd::default()
        }));
        self.cursor = live_from;
        self.state = SubscriberState::Live;
    }

    /// Gathers matching frames between cursor and head.
    fn fill_matching(&mut self, view: RingView<'_>, interest: &Interest, out: &mut Vec<Frame>) {
        let (head, tail) = view.slices(self.cursor, usize::MAX);
        for frame in head.iter().chain(tail) {
            if out.len() >= limits::FILL_FRAMES_MAX {
                return;
            }
            self.cursor = frame.seq.get() + 1;
            if interest.wants(frame) {
                out.push(*frame);
            }
        }
    }

    /// Sends the newest value of every matching instrument that changed since the cursor, in order of
    /// `seq`, and says how much was left out.
    fn fill_last_values(
        &mut self,
        view: RingView<'_>,
        values: &LastValues,
        interest: &Interest,
        out: &mut Vec<Frame>,
    ) {
        if self.cursor >= view.next_seq() {
            return;
        }
        // An empty broker is sent last values ahead of the ring that brings them: those have their turn
        // when the ring has come so far, or the batch would hide what is missing before them.
        let forgotten = u64::from(is_planted(Bug::ForgetLastConflated));
        let span = self.cursor + forgotten..view.next_seq();
        let indexes = InstrumentIndex::until(values.index_end());
        let changed = indexes
            .flat_map(|index| values.known(index))
            .flatten()
            .filter(|frame| span.contains(&frame.seq.get()) && interest.wants(frame));
        // Behind a hole the publisher states values again that the ring still has: this is no snapshot.
        let as_published = |frame: &Frame| *view.get(frame.seq.get()).unwrap_or(frame);
        let mut changed: Vec<Frame> = changed.map(as_published).collect();
        changed.sort_unstable_by_key(|frame| frame.seq.get());
        let mut end = view.next_seq();
        if changed.len() > limits::FILL_FRAMES_MAX {
            changed.truncate(limits::FILL_FRAMES_MAX);
            if !is_planted(Bug::ConflateOnePiece) {
                end = changed.last().map_or(end, |frame| frame.seq.get() + 1);
            }
            // The rest belongs to the same batch, or what changes most would never be sent.
            self.is_due = self.mode == Mode::Conflate;
        }
        let missed = if self.cursor < view.oldest_seq() {
            u64::MAX
        } else {
            let span = usize::try_from(end - self.cursor).unwrap_or(usize::MAX);
            let (head, tail) = view.slices(self.cursor, span);
            let matching = head.iter().chain(tail).filter(|frame| interest.wants(frame)).count();
            matching.saturating_sub(changed.len()) as u64
        };
        if missed > 0 {
            out.push(Frame::seal(gap(GapReason::Skipped, self.cursor, end - 1, missed)));
        }
        out.append(&mut changed);
        self.cursor = end;
    }

    /// The kernel took this many bytes from the ring. Returns the rest of a half-sent frame.
    pub(super) fn advance(&mut self, view: RingView<'_>, bytes: usize) -> Option<Vec<u8>> {
        self.cursor += (bytes / FRAME_BYTES) as u64;
        let half = bytes % FRAME_BYTES;
        if half == 0 {
            return None;
        }
        let rest = view.get(self.cursor).map(|frame| frame.as_bytes()[half..].to_vec());
        self.cursor += 1;
        rest
    }
}

fn gap(reason: GapReason, from_seq: u64, to_seq: u64, missed: u64) -> Gap {
    Gap {
        reason: reason as u8,
        from_seq: U64::new(from_seq),
        to_seq: U64::new(to_seq),
        missed: U64::new(missed),
        ..Gap::default()
    }
}
