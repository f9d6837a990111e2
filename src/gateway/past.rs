//! Subscriptions that go on from a place that the ring has no more: what is before the ring comes from core's journal, and
//! what follows it from the inner broker. What is *not* here: whose turn it is (`past/turns`), and how core is asked
//! (`front/pieces`).
//!
//! # Decisions
//!
//! * The inner broker is asked first. It alone knows what of a place is void, and whether the ring has it. Only its gap
//!   before the ring is held back.
//! * While the journal is read, the subscription has a connection to the inner broker that has not subscribed yet. So it
//!   counts among the subscribers, nothing waits for it there, and the words of the connection are as ever. It asks for its
//!   place anew: where an address has more than its share meanwhile, it is refused.
//! * Who has reached the ring subscribes there from its next place, under the epoch that it was told. What became void
//!   meanwhile it is told by that; if the ring has moved on meanwhile, there is another gap, and another piece.
//! * The next piece is asked for when the one before has left. A bounded number of subscriptions has one at once. Who does
//!   not read its piece gives it up while others wait.
//! * Where core does not answer, or not under the epoch of the feed, or does not have the place, the gap is told. So it is to
//!   who waits too long for its turn, and to whom the ring moves on faster than the pieces come.
//! * The state is in a table of its own: a browser that is live has none.

mod turns;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use super::feed::Feed;
use super::front::{Front, Piece, PieceEnd};
use super::instrument_set::InstrumentSet;
use super::wish::Wish;
use crate::feed::Pattern;
use crate::limits;
use crate::node::{ConnId, Node as _};
use crate::planted::{Bug, is_planted};
use crate::subscription::Request;
use crate::time::{Mono, Now};
use crate::wire::{
    Definition, ExchangeSet, FRAME_BYTES, FeedStates, FeedStatus, Flags, Frame, Gap, GapReason,
    Heartbeat, InstrumentId, Kind, Mode, Op, Query, Refusal, Seq, SnapshotEnd, Subscribed, U32,
    U64, as_frames, padded,
};

/// How far one subscription is.
#[derive(Debug)]
enum Stage {
    /// It has subscribed at the inner broker.
    Joining(Joining),
    /// It waits until its piece can be asked for.
    Wants,
    /// Its piece is under way.
    Asked,
    /// A piece is sent, of which so many frames have left.
    Sends(Piece, usize),
}

/// What the inner broker has answered so far.
#[derive(Clone, Copy, Debug, Default)]
struct Joining {
    /// The ring begins behind its place.
    is_before_ring: bool,
    /// The snapshot has ended.
    has_ended: bool,
}

/// What a subscription that joins has around it.
#[derive(Clone, Copy, Debug)]
struct Surroundings {
    has_core: bool,
    /// The oldest place of the ring.
    oldest: u64,
    states: FeedStates,
}

/// A subscription that began at a place, until it follows the ring.
#[derive(Debug)]
struct Behind {
    id: u32,
    from: IpAddr,
    wish: Wish,
    /// Under which epoch it was told to be; 0 before that.
    epoch_id: u64,
    /// The next place that it is to be sent.
    next_seq: u64,
    stage: Stage,
    /// Instruments of which it was told what they are called.
    named: InstrumentSet,
    /// It was told where it begins.
    has_begun: bool,
    /// The journal was asked in vain: the gap is told.
    is_given_up: bool,
    /// How the feed is, as far as it was told; `None`: it has to be told.
    told: Option<FeedStates>,
    /// Places that the next piece is about.
    span: u64,
    attempts: u8,
    /// Since when it wants a piece.
    wants_since: Mono,
    /// How far it was from the ring when it was closest, and how many pieces have brought it no closer since.
    distance: u64,
    in_vain: u8,
    /// When bytes were last taken by whom it is of, and when frames of its piece were.
    taken_at: Mono,
    moved_at: Mono,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Past {
    has_core: bool,
    all: BTreeMap<ConnId, Box<Behind>>,
    /// Who wants a piece, in the order of asking. Some may be gone.
    waiting: VecDeque<ConnId>,
    /// Whose piece is under way, unless that one is gone.
    asked: Option<ConnId>,
    /// Who has a piece.
    holding: BTreeSet<ConnId>,
    /// Since when core cannot be asked.
    unable_since: Option<Mono>,
    /// When the words for those that have not subscribed are taken next.
    next_words: Mono,
    /// The epoch and the states that all of them were woken for.
    seen: (u64, FeedStates),
    /// Frames that were sent from the journal, and subscriptions that were told of a gap instead.
    pub(super) frames: u64,
    pub(super) given_up: u64,
}

fn state_of(frame: &Frame) -> Option<FeedStates> {
    let beat = frame.view::<Heartbeat>()?;
    let is_word = beat.token.get() == 0 && beat.flags.get() & Flags::MORE == 0;
    is_word.then(|| FeedStates::of(beat))
}

impl Past {
    pub(super) fn new(has_core: bool) -> Past {
        Past { has_core, ..Past::default() }
    }

    /// Whether this subscription does not follow the ring yet.
    pub(super) fn has(&self, conn: ConnId) -> bool {
        !self.all.is_empty() && self.all.contains_key(&conn)
    }

    /// How many do not.
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// Who has a piece.
    #[cfg(test)]
    pub(super) fn holding(&self) -> usize {
        self.holding.len()
    }

    /// Bytes were taken by whom this subscription is of.
    pub(super) fn note_taken(&mut self, now: Now, conn: ConnId) {
        if !self.holding.is_empty()
            && let Some(behind) = self.all.get_mut(&conn)
        {
            behind.taken_at = now.mono;
        }
    }

    pub(super) fn forget(&mut self, conn: ConnId) {
        if !self.all.is_empty() {
            self.all.remove(&conn);
            self.holding.remove(&conn);
        }
    }

    /// Who has taken nothing of its piece for so long.
    pub(super) fn find_slow(&self, now: Now, unread_max: Duration) -> Option<ConnId> {
        let is_slow = |conn: &&ConnId| {
            let behind = self.all.get(conn);
            behind.is_some_and(|it| now.mono.since(it.taken_at) >= unread_max)
        };
        self.holding.iter().find(is_slow).copied()
    }

    /// When there is something to do.
    pub(super) fn deadline(
        &self,
        front: &Front,
        epoch: (u64, u32),
        unread_max: Duration,
    ) -> Option<Mono> {
        if front.has_piece() {
            return Some(Mono::default());
        }
        let holders = || self.holding.iter().filter_map(|conn| self.all.get(conn));
        let slow = holders().map(|it| it.taken_at + unread_max).min();
        let Some(first) = self.waiting.front() else { return slow };
        let first = self.all.get(first).filter(|it| matches!(it.stage, Stage::Wants));
        let asks = match (first, front.can_replay(epoch)) {
            // It has left: who is behind it is the first then.
            (None, _) => Mono::default(),
            (_, false) => self.unable_since.unwrap_or_default() + limits::GATEWAY_PIECE_WAIT,
            (Some(_), true) if front.is_free() && !self.is_full() => Mono::default(),
            (Some(first), true) => {
                let turn = first.wants_since + limits::GATEWAY_PIECE_TURN_WAIT;
                let place = holders().map(|it| it.moved_at + limits::GATEWAY_PIECE_UNREAD_MAX);
                turn.min(place.min().filter(|_| self.is_full()).unwrap_or(turn))
            }
        };
        slow.into_iter().chain([asks]).min()
    }

    /// As many have a piece as may.
    fn is_full(&self) -> bool {
        self.holding.len() >= limits::GATEWAY_PIECES_MAX
    }

    /// Puts a subscription behind those that want a piece.
    fn line_up(&mut self, now: Now, conn: ConnId, behind: &mut Behind) {
        behind.stage = Stage::Wants;
        behind.wants_since = now.mono;
        if self.waiting.len() > 2 * self.all.len() + limits::GATEWAY_PIECES_MAX {
            // Most of them have left.
            let all = &self.all;
            self.waiting.retain(|conn| all.contains_key(conn));
        }
        self.waiting.push_back(conn);
    }
}

impl Behind {
    /// What core is asked for. A query has room for one pattern: of several, all is asked for and sorted out here.
    fn query(&self, to_seq: u64) -> Query {
        let only = match self.wish.patterns.as_slice() {
            [one] if one.text().len() <= 24 => Some(one),
            _ => None,
        };
        let kinds = only.map_or(0, Pattern::kinds);
        Query {
            op: Op::Replay as u8,
            options: Query::PARTIAL,
            kinds: if kinds == u16::MAX { 0 } else { kinds }.into(),
            deadline_us: U32::new(u32::MAX),
            limit: U32::new(u32::MAX),
            symbol: padded(&only.map_or("*".to_owned(), Pattern::text)),
            from: U64::new(self.next_seq),
            to: U64::new(to_seq),
            ..Query::default()
        }
    }

    fn may_replay(&self) -> bool {
        !self.is_given_up && self.epoch_id != 0
    }

    /// Frames of the inner broker: what of them is handed on.
    fn join(
        &mut self,
        mut joining: Joining,
        at: Surroundings,
        frames: &[Frame],
        out: &mut Vec<Frame>,
    ) {
        for (place, frame) in frames.iter().enumerate() {
            if joining.has_ended {
                let state = state_of(frame).filter(|_| joining.is_before_ring);
                self.told = state.or(self.told);
                if !joining.is_before_ring || state.is_some() {
                    out.push(*frame);
                }
                continue;
            }
            if let Some(subscribed) = frame.view::<Subscribed>() {
                let before = std::mem::replace(&mut self.epoch_id, subscribed.feed.get());
                if self.has_begun && before == self.epoch_id {
                    continue;
                }
            } else if let Some(gap) = frame.view::<Gap>() {
                let reason = GapReason::from_number(gap.reason);
                if reason == Some(GapReason::BeforeRing) && at.has_core && self.may_replay() {
                    joining.is_before_ring = true;
                    self.next_seq = gap.from_seq.get();
                    continue;
                }
                if reason == Some(GapReason::Void) {
                    self.next_seq = self.next_seq.min(gap.from_seq.get());
                }
            } else if let Some(end) = frame.view::<SnapshotEnd>() {
                joining.has_ended = true;
                // The ring has moved on while it was told names.
                joining.is_before_ring |=
                    at.has_core && self.may_replay() && self.next_seq < at.oldest;
                if std::mem::replace(&mut self.has_begun, true) {
                    // It was told where it begins. How the feed is, the inner broker says to a newcomer only if it is not
                    // current.
                    let next = frames.get(place + 1).and_then(state_of);
                    let may_differ = self.told != Some(FeedStates::default());
                    let is_current = at.states == FeedStates::default();
                    if !joining.is_before_ring && may_differ && is_current && next.is_none() {
                        self.say(FeedStates::default(), out);
                    }
                    continue;
                }
                self.told = self.told.is_none().then(FeedStates::default);
                if joining.is_before_ring {
                    out.push(Frame::seal(SnapshotEnd {
                        next_seq: U64::new(self.next_seq),
                        ..*end
                    }));
                    continue;
                }
            } else if let Some(state) = state_of(frame) {
                self.told = Some(state);
            } else if frame.is_naming() {
                self.named.insert(frame.instrument().index());
            }
            out.push(*frame);
        }
        self.stage = Stage::Joining(joining);
    }

    /// Names come before the frames of an instrument: puts those ahead of a piece that it was not told. The gateway may have
    /// learned some since it subscribed.
    fn name_all(&self, piece: &mut Piece) {
        let (mut lacks, mut seen) = (BTreeSet::new(), BTreeSet::new());
        for frame in piece.frames.iter().filter(|frame| frame.kind != Kind::Gap as u8) {
            let instrument = frame.instrument();
            if seen.insert(instrument)
                && !frame.is_naming()
                && !self.named.contains(instrument.index())
            {
                lacks.insert(instrument);
            }
        }
        let mut names = std::mem::take(&mut piece.names);
        names.retain(|frame| lacks.contains(&frame.instrument()));
        piece.frames.splice(0..0, names);
    }

    fn say(&mut self, states: FeedStates, out: &mut Vec<Frame>) {
        let beat = Heartbeat { next_seq: U64::new(self.next_seq), ..Heartbeat::default() };
        out.push(Frame::seal(states.said_by(beat)));
        self.told = Some(states);
    }
}

impl Feed {
    /// A subscription that begins at a place has begun.
    pub(super) fn begin_from(&mut self, conn: ConnId, id: u32, from: IpAddr, wish: &Wish) {
        let Some(start) = wish.from.filter(|_| wish.mode == Mode::Lossless) else { return };
        let behind = Behind {
            id,
            from,
            wish: wish.clone(),
            epoch_id: 0,
            next_seq: start.seq.get(),
            stage: Stage::Joining(Joining::default()),
            named: InstrumentSet::default(),
            has_begun: false,
            is_given_up: false,
            told: None,
            span: limits::GATEWAY_PIECE_FRAMES_MAX as u64,
            attempts: 0,
            wants_since: Mono::default(),
            distance: u64::MAX,
            in_vain: 0,
            taken_at: Mono::default(),
            moved_at: Mono::default(),
        };
        self.past.all.insert(conn, Box::new(behind));
    }

    /// Whole frames that wait for a subscription, at most so many and a few words about it; they count as sent. Its inner
    /// connection may become another one.
    pub(super) fn take_frames(
        &mut self,
        now: Now,
        conn: &mut ConnId,
        frames_max: usize,
    ) -> Vec<Frame> {
        if !self.past.has(*conn) {
            return self.frames_of(now, *conn, frames_max);
        }
        let Some(mut behind) = self.past.all.remove(conn) else { return Vec::new() };
        let mut out = Vec::new();
        while out.len() < frames_max {
            let room = frames_max - out.len();
            if !matches!(behind.stage, Stage::Joining(_)) && self.epoch.0 != behind.epoch_id {
                // What it has of a piece may be void.
                self.join_ring(now, *conn, &mut behind);
            }
            match &mut behind.stage {
                Stage::Joining(joining) => {
                    let joining = *joining;
                    let frames = self.frames_of(now, *conn, room);
                    if frames.is_empty() {
                        break;
                    }
                    let at = Surroundings {
                        has_core: self.past.has_core,
                        oldest: Seq::number(self.broker.oldest_seq(Request::MARKET)),
                        states: self.states(),
                    };
                    behind.join(joining, at, &frames, &mut out);
                    let Stage::Joining(joining) = behind.stage else { break };
                    if joining.has_ended && !joining.is_before_ring {
                        return out;
                    }
                    if joining.has_ended {
                        self.step_out(now, conn, &mut behind);
                    }
                }
                Stage::Wants | Stage::Asked => {
                    let words = self.frames_of(now, *conn, room);
                    out.extend(words.into_iter().filter(|it| it.view::<Refusal>().is_some()));
                    break;
                }
                Stage::Sends(piece, sent) => {
                    let rest = piece.frames.get(*sent..).unwrap_or_default();
                    let taken = rest.get(..room.min(rest.len())).unwrap_or_default();
                    out.extend_from_slice(taken);
                    *sent += taken.len();
                    behind.moved_at = now.mono;
                    // Only what it takes: the rest of a piece may be taken back.
                    for name in taken.iter().filter(|it| it.is_naming()) {
                        behind.named.insert(name.instrument().index());
                    }
                    let of_market =
                        |it: &&Frame| !it.has(Flags::SNAPSHOT) && it.kind != Kind::Gap as u8;
                    self.past.frames += taken.iter().filter(of_market).count() as u64;
                    if let Some(last) = taken.iter().rfind(|it| !it.has(Flags::SNAPSHOT)) {
                        let last =
                            last.view::<Gap>().map_or(last.seq.get(), |gap| gap.to_seq.get());
                        behind.next_seq = Seq::behind(last).get();
                    }
                    if *sent >= piece.frames.len() {
                        behind.next_seq = piece.next_seq;
                        self.past.holding.remove(conn);
                        self.go_on(now, *conn, &mut behind);
                    }
                }
            }
        }
        if !matches!(behind.stage, Stage::Joining(_)) {
            let states = self.states_behind();
            if behind.told != Some(states) {
                behind.say(states, &mut out);
            }
        }
        self.past.all.insert(*conn, behind);
        out
    }

    /// How the feed is for one who has not all of it: it has not ended.
    fn states_behind(&self) -> FeedStates {
        let mut states = self.states();
        states.ended = ExchangeSet::NONE;
        if states.all == FeedStatus::Ended {
            states.all = FeedStatus::Current;
        }
        states
    }

    /// Leaves the inner broker, and keeps its place there.
    fn step_out(&mut self, now: Now, conn: &mut ConnId, behind: &mut Behind) {
        let Some(owner) = self.owner(*conn) else { return };
        self.close(now, *conn);
        *conn = self.open_subscriber(now, owner, behind.from, behind.epoch_id);
        self.past.line_up(now, *conn, behind);
    }

    /// Subscribes at the ring from the next place on.
    fn join_ring(&mut self, now: Now, conn: ConnId, behind: &mut Behind) {
        behind.stage = Stage::Joining(Joining::default());
        self.past.holding.remove(&conn);
        let late = u64::from(is_planted(Bug::SeamLosesFrame));
        let from = Seq::new(behind.next_seq.saturating_add(late));
        self.ask_ring(now, conn, behind.id, &behind.wish, from);
    }

    /// The piece before has left: the ring follows, or another piece.
    fn go_on(&mut self, now: Now, conn: ConnId, behind: &mut Behind) {
        let oldest = Seq::number(self.broker.oldest_seq(Request::MARKET));
        let distance = oldest.saturating_sub(behind.next_seq);
        behind.in_vain = if distance < behind.distance { 0 } else { behind.in_vain + 1 };
        behind.distance = distance.min(behind.distance);
        if distance == 0 {
            self.join_ring(now, conn, behind);
        } else if behind.in_vain < limits::GATEWAY_PIECES_IN_VAIN_MAX {
            self.past.line_up(now, conn, behind);
        } else {
            self.give_up(now, conn, behind);
        }
    }

    fn give_up(&mut self, now: Now, conn: ConnId, behind: &mut Behind) {
        behind.is_given_up = true;
        self.past.given_up += 1;
        self.join_ring(now, conn, behind);
    }
}
