//! One subscriber: a cursor, an interest, and what happens when it is too slow.
//!
//! # Decisions
//!
//! * A lossless reader that was lapped continues in the middle of the ring. At the ring's edge the next
//!   frame would lap it again.

mod ahead;
mod conflation;

use std::collections::BinaryHeap;
use std::num::NonZeroU8;
use std::time::Duration;

use zerocopy::IntoBytes;

use crate::feed::{Interest, InterestId, LastValues, Pattern, RingView, Window};
use crate::limits;
use crate::node::session::Rejection;
use crate::planted::{Bug, is_planted};
use crate::time::Mono;
use crate::wire::{
    ErrorCode, FRAME_BYTES, FeedStates, FeedStatus, Flags, Frame, Gap, GapReason, Heartbeat,
    InstrumentIndex, Mode, Seq, Session, SnapshotEnd, Subscribe, Subscribed, U32, U64,
};

use super::source::{Announcement, Source, Told};
use super::{MARKET_SOURCE, SNAPSHOT};

/// Where the bytes are that a subscriber is sent next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Nowhere: there is nothing to send.
    Nothing,
    /// They are gathered.
    Gathered,
    /// In the ring.
    Lent,
    /// There is more, behind what others are sent.
    Later,
    /// Nothing: it has to be refused, since it wants to go on with another sequence.
    Foreign,
}

impl Next {
    fn gathered(out: &[Frame], has_more: bool) -> Next {
        match (out.is_empty(), has_more) {
            (false, _) => Next::Gathered,
            (true, true) => Next::Later,
            (true, false) => Next::Nothing,
        }
    }
}

/// How much is gathered at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece {
    /// Frames, and some more for what belongs to the last one.
    room: usize,
    /// Frames or instruments looked at.
    look_max: usize,
    looked: usize,
}

impl Piece {
    /// As much as is sent at once.
    pub(super) const WHOLE: Piece = Piece {
        room: limits::FILL_FRAMES_MAX,
        look_max: limits::BULK_RECORDS_PER_PIECE_MAX,
        looked: 0,
    };

    /// The same, but no more than a turn may still make.
    pub(super) fn within(frames_left: usize) -> Piece {
        let (room, look_max) = limits::bulk_piece(frames_left);
        Piece { room, look_max, looked: 0 }
    }

    /// What the look has cost, in frames.
    pub(super) fn look_cost(&self) -> usize {
        self.looked.div_ceil(limits::RECORDS_PER_BULK_FRAME)
    }
}

/// What it has, as its SESSION says: the identity of the epoch that it is in, and the next `seq` that it expects; 0 =
/// it does not say. Nobody asks once it is confirmed, so it stands in the states before that.
#[derive(Clone, Copy, Debug, Default)]
struct Standing {
    feed: u64,
    expects_seq: u64,
}

/// A subscription that comes in.
#[derive(Debug)]
struct Incoming {
    standing: Standing,
    patterns: Vec<Pattern>,
    /// Its last frame, when it is complete.
    subscribe: Subscribe,
}

#[derive(Debug)]
enum SubscriberState {
    /// It has not said what it wants.
    Idle(Standing),
    /// The subscription is not complete.
    Collecting(Box<Incoming>),
    /// What it wants to go on with is no part of the sequence: it is refused.
    Foreign,
    /// The subscription is complete, and its patterns wait to be looked up.
    Joining(Box<Incoming>),
    /// The source has to become ready before the subscription can be confirmed.
    Waiting(Standing),
    /// Definitions (and last values) up to this instrument index have been sent.
    Snapshot { next_index: InstrumentIndex, repeats: Repeats, frames: u32, live_from: u64 },
    Live {
        /// Values that it was sent are void. It may have been sent them instead of others, which stand.
        lacks_values: bool,
    },
}

/// What a snapshot is to a subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Repeats {
    /// Its first.
    Nothing,
    /// It was live already, and is sent the definitions once more.
    Definitions,
    /// And the last values.
    Values,
}

/// A subscriber. Most are idle most of the time, so it is kept small.
#[derive(Debug)]
pub(crate) struct Subscriber {
    state: SubscriberState,
    id: u32,
    source: u8,
    mode: Mode,
    wants_history: bool,
    is_due: bool,
    /// What it is sent next can wait for what others are sent: a snapshot, what it missed while it was away,
    /// conflated batches.
    is_bulk: bool,
    /// What its last heartbeat said of the feed. Before the first one it takes the feed for current.
    told: Told,
    /// Where its address is counted.
    bucket: Option<NonZeroU8>,
    interest: Option<InterestId>,
    /// Its place among the readers of its source.
    place: u32,
    conflate_ms: u32,
    due: Mono,
    /// The next `seq` to look at: a position of the ring, read and moved for each frame. It stands for a place
    /// from the subscription on; before that it is 0, and nobody looks.
    cursor: u64,
}

impl Default for Subscriber {
    fn default() -> Subscriber {
        Subscriber {
            state: SubscriberState::Idle(Standing::default()),
            id: 0,
            source: 0,
            mode: Mode::Lossless,
            wants_history: false,
            is_due: false,
            is_bulk: true,
            told: Told::NOTHING,
            bucket: None,
            interest: None,
            place: 0,
            conflate_ms: 0,
            due: Mono::default(),
            cursor: 0,
        }
    }
}

impl Subscriber {
    /// One that says in its SESSION what it has; its address is counted there.
    pub(super) fn greeted(session: &Session, bucket: Option<NonZeroU8>) -> Subscriber {
        let (feed, expects_seq) = (session.feed.get(), session.next_seq.get());
        let state = SubscriberState::Idle(Standing { feed, expects_seq });
        Subscriber { state, bucket, ..Subscriber::default() }
    }

    pub(super) fn bucket(&self) -> Option<NonZeroU8> {
        self.bucket
    }

    pub(super) fn source(&self) -> u8 {
        self.source
    }

    /// How it is sent what its patterns match, once they have been looked up.
    pub(super) fn mode(&self) -> Option<Mode> {
        self.interest.map(|_| self.mode)
    }

    pub(super) fn cursor(&self) -> u64 {
        self.cursor
    }

    pub(super) fn interest(&self) -> Option<InterestId> {
        self.interest
    }

    pub(super) fn place(&self) -> usize {
        self.place as usize
    }

    pub(super) fn set_place(&mut self, place: usize) {
        self.place = u32::try_from(place).unwrap_or(u32::MAX);
    }

    pub(super) fn conflate_due(&self) -> Option<Mono> {
        (self.mode == Mode::Conflate && self.interest.is_some()).then_some(self.due)
    }

    /// Collects one frame of a subscription. Whether it was the last.
    pub(super) fn add_pattern(&mut self, subscribe: &Subscribe) -> Result<bool, Rejection> {
        let nothing = SubscriberState::Idle(Standing::default());
        let mut incoming = match std::mem::replace(&mut self.state, nothing) {
            SubscriberState::Idle(standing) => {
                Box::new(Incoming { standing, patterns: Vec::new(), subscribe: *subscribe })
            }
            SubscriberState::Collecting(incoming) => incoming,
            other => {
                self.state = other;
                return Err(Rejection::new(ErrorCode::Limit, "one subscription per connection"));
            }
        };
        if incoming.patterns.len() >= limits::PATTERNS_MAX {
            let text = "too many patterns in one subscription";
            return Err(Rejection::new(ErrorCode::Limit, text));
        }
        let pattern = Pattern::from_field(&subscribe.pattern, subscribe.kinds.get());
        incoming.patterns.push(pattern.map_err(|_| {
            Rejection::new(ErrorCode::BadPattern, "a pattern is SYMBOL, PREFIX* or *")
        })?);
        if subscribe.flags.get() & Flags::MORE != 0 {
            self.state = SubscriberState::Collecting(incoming);
            return Ok(false);
        }
        self.source = subscribe.source;
        incoming.subscribe = *subscribe;
        self.state = SubscriberState::Joining(incoming);
        Ok(true)
    }

    /// The patterns that wait to be looked up; once.
    pub(super) fn take_patterns(&mut self) -> Option<Vec<Pattern>> {
        match &mut self.state {
            SubscriberState::Joining(incoming) => Some(std::mem::take(&mut incoming.patterns)),
            _ => None,
        }
    }

    /// Whether what comes next can wait for what others are sent.
    #[inline]
    pub(super) fn is_bulk(&self) -> bool {
        self.is_bulk
    }

    /// Whether it is being sent what came before its subscription. That is ended before another one's is begun.
    pub(super) fn is_in_snapshot(&self) -> bool {
        matches!(self.state, SubscriberState::Snapshot { .. })
    }

    /// Its patterns have been looked up. Returns when its first conflated batch is due.
    pub(super) fn begin(&mut self, now: Mono, interest: InterestId) -> Option<Mono> {
        let waiting = SubscriberState::Waiting(Standing::default());
        let SubscriberState::Joining(incoming) = std::mem::replace(&mut self.state, waiting) else {
            return None;
        };
        let Incoming { standing, subscribe, .. } = *incoming;
        self.state = SubscriberState::Waiting(standing);
        self.id = subscribe.id.get();
        self.mode = Mode::from_number(subscribe.mode).unwrap_or(Mode::Lossless);
        self.wants_history = subscribe.from_seq().is_some();
        self.cursor = subscribe.from_seq.get();
        self.interest = Some(interest);
        self.conflate_ms = subscribe.conflate_ms.get();
        self.due = now + self.conflate_interval();
        self.conflate_due()
    }

    /// A conflated batch may go out. Returns when the next one may.
    pub(super) fn make_due(&mut self, now: Mono) -> Mono {
        self.is_due = true;
        self.due = now + self.conflate_interval();
        self.due
    }

    fn conflate_interval(&self) -> Duration {
        let wanted = Duration::from_millis(u64::from(self.conflate_ms));
        wanted.clamp(limits::CONFLATE_MIN, limits::CONFLATE_MAX)
    }

    /// Everything from `seq` on is void. The GAP frame to send, when this subscriber was past it.
    pub(super) fn void_from(&mut self, seq: u64) -> Option<Gap> {
        let may_lack = self.mode != Mode::Lossless;
        let place = match &mut self.state {
            SubscriberState::Idle(_)
            | SubscriberState::Collecting(_)
            | SubscriberState::Joining(_)
            | SubscriberState::Waiting(_)
            | SubscriberState::Foreign => return None,
            SubscriberState::Snapshot { live_from, .. } if *live_from <= seq => return None,
            SubscriberState::Live { .. } if self.cursor <= seq => return None,
            SubscriberState::Snapshot { live_from, next_index, repeats, .. } => {
                if may_lack && *repeats == Repeats::Definitions {
                    (*next_index, *repeats) = (InstrumentIndex::FIRST, Repeats::Values);
                }
                live_from
            }
            SubscriberState::Live { lacks_values } => {
                *lacks_values |= may_lack;
                &mut self.cursor
            }
        };
        let gap = gap(GapReason::Void, seq, *place - 1, u64::MAX);
        *place = seq;
        self.cursor = self.cursor.min(seq);
        Some(gap)
    }

    /// Last values were missing when it was told of a loss, and have come. Whether it is sent last values then.
    pub(super) fn note_late_values(&mut self) -> bool {
        let may_lack = self.mode != Mode::Lossless;
        match &mut self.state {
            SubscriberState::Live { lacks_values } => *lacks_values |= may_lack,
            SubscriberState::Snapshot { repeats, .. }
                if *repeats == Repeats::Definitions && may_lack =>
            {
                *repeats = Repeats::Values;
            }
            _ => {}
        }
        may_lack
    }

    /// The publisher has stated instruments that the broker did not know. Their definitions stand in no ring, so all
    /// are sent once more, before anything else; and last values to who may lack some. Whether there is something to send.
    pub(super) fn repeat_stated(&mut self) -> bool {
        match &mut self.state {
            SubscriberState::Snapshot { next_index, .. } => *next_index = InstrumentIndex::FIRST,
            SubscriberState::Live { lacks_values } => {
                let repeats = if *lacks_values { Repeats::Values } else { Repeats::Definitions };
                self.state = SubscriberState::Snapshot {
                    next_index: InstrumentIndex::FIRST,
                    repeats,
                    frames: 0,
                    live_from: self.cursor,
                };
                self.is_bulk = true;
            }
            // It is confirmed later, and sent them then.
            SubscriberState::Idle(_)
            | SubscriberState::Collecting(_)
            | SubscriberState::Joining(_)
            | SubscriberState::Waiting(_)
            | SubscriberState::Foreign => return false,
        }
        true
    }

    /// What says that the subscription stands, and in which epoch; none before it does.
    pub(super) fn confirmation<W: Window>(&self, source: &Source<W>) -> Option<Subscribed> {
        let stands =
            matches!(self.state, SubscriberState::Snapshot { .. } | SubscriberState::Live { .. });
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
            feed: U64::new(source.feed),
            ..Subscribed::default()
        }
    }

    /// Decides what is sent next: gathers it into `out`, or points at the ring. `piece`: no more than that, since it
    /// can wait; `None`: as much as is sent at once.
    ///
    /// Each subscriber comes here for each batch, so this is a part of the caller, and what seldom happens stands
    /// elsewhere.
    #[inline(always)]
    pub(super) fn fill<W: Window>(
        &mut self,
        source: &mut Source<W>,
        out: &mut Vec<Frame>,
        mut piece: Option<&mut Piece>,
    ) -> Next {
        let is_live = matches!(self.state, SubscriberState::Live { .. });
        if !is_live || self.told != source.announced().told() {
            let mut whole = Piece::WHOLE;
            let piece = piece.as_deref_mut().unwrap_or(&mut whole);
            if let Some(next) = self.fill_ahead(source, out, piece) {
                return next;
            }
        }
        let Some(view) = source.view() else { return Next::Nothing };
        let Some(interest) = self.interest.and_then(|id| source.interests.get(id)) else {
            return Next::Nothing;
        };
        let is_everything = interest.is_everything();
        if !is_everything && !source.interests.is_settled() {
            // A new instrument stands in the ring, and whether it is meant is not known.
            return Next::Nothing;
        }
        let next = view.next_seq();
        if self.mode == Mode::Conflate || self.cursor < view.oldest_seq() {
            return self.fill_late(source, out, piece.unwrap_or(&mut { Piece::WHOLE }));
        }
        if self.is_bulk && self.cursor >= next {
            self.is_bulk = false;
        }
        if is_everything {
            return Next::Lent;
        }
        let before = self.cursor;
        let (room, look_max) = piece
            .as_ref()
            .map_or((Piece::WHOLE.room, Piece::WHOLE.look_max), |it| (it.room, it.look_max));
        self.fill_matching(view, interest, out, room, look_max);
        if let Some(piece) = piece {
            piece.looked += usize::try_from(self.cursor - before).unwrap_or(0);
        }
        if out.is_empty() {
            // Much was looked at and nothing found: others have their turn. Who has come to the end without a match
            // waits for what is live, like everybody.
            self.is_bulk = self.cursor < next;
            if self.is_bulk {
                return Next::Later;
            }
        }
        Next::gathered(out, false)
    }

    /// What one is sent who conflates, or whose place the ring no longer has.
    #[inline(never)]
    fn fill_late<W: Window>(
        &mut self,
        source: &mut Source<W>,
        out: &mut Vec<Frame>,
        piece: &mut Piece,
    ) -> Next {
        let Some(view) = source.view() else { return Next::Nothing };
        let Some(interest) = self.interest.and_then(|id| source.interests.get(id)) else {
            return Next::Nothing;
        };
        if !source.interests.is_settled() {
            // The same of the last values that stand for what was left out.
            return Next::Nothing;
        }
        let (oldest, next) = (view.oldest_seq(), view.next_seq());
        match self.mode {
            Mode::Conflate => {
                if std::mem::take(&mut self.is_due) {
                    self.fill_batch(view, &source.values, interest, out, piece);
                }
                Next::gathered(out, self.is_due)
            }
            Mode::Latest => {
                if !std::mem::replace(&mut self.is_bulk, true) {
                    // The table of last values is looked through, which can wait for who is not late.
                    return Next::Later;
                }
                self.fill_last_values(view, &source.values, interest, out, piece);
                source.gaps_sent += 1;
                Next::gathered(out, true)
            }
            Mode::Lossless => {
                // Half of it ahead of the edge, or the next frame would push it out again. In a ring that has just begun
                // behind a jump nothing is pushed out soon.
                let held = next - oldest;
                let resume = if held * 4 < view.capacity() { oldest } else { oldest + held / 2 };
                let reason = self.loss(GapReason::Lapped);
                let lapped = gap(reason, self.cursor, resume - 1, u64::MAX);
                out.push(Frame::seal(lapped));
                if is_planted(Bug::DropGapFrame) {
                    out.clear();
                }
                self.cursor = resume;
                source.gaps_sent += 1;
                if source.names_behind_gaps {
                    self.repeat_stated();
                }
                Next::gathered(out, true)
            }
        }
    }

    /// Gathers matching frames between cursor and head, after a bounded look. A part of its only caller.
    #[inline(always)]
    fn fill_matching(
        &mut self,
        view: RingView<'_>,
        interest: &Interest,
        out: &mut Vec<Frame>,
        room: usize,
        look_max: usize,
    ) {
        let (head, tail) = view.slices(self.cursor, look_max);
        for frame in head.iter().chain(tail) {
            if out.len() >= room {
                break;
            }
            self.cursor = frame.seq.get() + 1;
            if interest.wants(frame) {
                out.push(*frame);
            }
        }
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
