//! Subscriptions that go on from a place that the ring has no more: what is before the ring comes from core's journal, and
//! what follows it from the inner broker. What is *not* here: how core is asked (`front/pieces`).
//!
//! # Decisions
//!
//! * The inner broker is asked first. It alone knows what of a place is void, and whether the ring has it. Only its gap
//!   before the ring is held back.
//! * While the journal is read, the subscription has a connection to the inner broker that has not subscribed yet. So it
//!   keeps its place among the subscribers, nothing waits for it there, and the words of the connection are as ever.
//! * Who has reached the ring subscribes there from its next place, under the epoch that it was told. What became void
//!   meanwhile it is told by that; if the ring has moved on meanwhile, there is another gap, and another piece.
//! * The next piece is asked for when the one before has left. A bounded number of subscriptions has one at once.
//! * Where core does not answer, or not under the epoch of the feed, or does not have the place, the gap is told.
//! * The state is in a table of its own: a browser that is live has none.

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
    Heartbeat, Kind, Mode, Op, Query, Refusal, Seq, SnapshotEnd, Subscribed, U32, U64, as_frames,
    padded,
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
    /// When bytes of its piece were last taken.
    taken_at: Mono,
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
        let takes_nothing = self.holding.iter().filter_map(|conn| self.all.get(conn));
        let slow = takes_nothing.map(|it| it.taken_at + unread_max).min();
        let asks = match (self.waiting.is_empty(), front.can_replay(epoch)) {
            (true, _) => None,
            (false, false) => {
                Some(self.unable_since.unwrap_or_default() + limits::GATEWAY_PIECE_WAIT)
            }
            (false, true) => {
                let may_ask = front.is_free() && self.holding.len() < limits::GATEWAY_PIECES_MAX;
                may_ask.then(Mono::default)
            }
        };
        [slow, asks].into_iter().flatten().min()
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
        has_core: bool,
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
                if reason == Some(GapReason::BeforeRing) && has_core && self.may_replay() {
                    joining.is_before_ring = true;
                    self.next_seq = gap.from_seq.get();
                    continue;
                }
                if reason == Some(GapReason::Void) {
                    self.next_seq = self.next_seq.min(gap.from_seq.get());
                }
            } else if let Some(end) = frame.view::<SnapshotEnd>() {
                joining.has_ended = true;
                if std::mem::replace(&mut self.has_begun, true) {
                    // It was told where it begins. How the feed is, the inner broker says to a newcomer only if it is not
                    // current.
                    let next = frames.get(place + 1).and_then(state_of);
                    let may_differ = self.told != Some(FeedStates::default());
                    if !joining.is_before_ring && may_differ && next.is_none() {
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
    fn name_all(&mut self, piece: &mut Piece) {
        let mut lacks = BTreeSet::new();
        for frame in piece.frames.iter().filter(|frame| frame.kind != Kind::Gap as u8) {
            if self.named.insert(frame.instrument().index()) && !frame.is_naming() {
                lacks.insert(frame.instrument());
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
            taken_at: Mono::default(),
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
                    behind.join(joining, self.past.has_core, &frames, &mut out);
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
                    self.past.frames += taken.len() as u64;
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
        behind.stage = Stage::Wants;
        self.past.waiting.push_back(*conn);
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
        let oldest = self.broker.oldest_seq(Request::MARKET);
        if oldest.is_some_and(|oldest| behind.next_seq < oldest.get()) {
            behind.stage = Stage::Wants;
            self.past.waiting.push_back(conn);
        } else {
            self.join_ring(now, conn, behind);
        }
    }

    fn give_up(&mut self, now: Now, conn: ConnId, behind: &mut Behind) {
        behind.is_given_up = true;
        self.past.given_up += 1;
        self.join_ring(now, conn, behind);
    }

    /// What became of the piece under way.
    fn take_piece(&mut self, now: Now, end: PieceEnd) {
        let Some(conn) = self.past.asked.take() else { return };
        let Some(mut behind) = self.past.all.remove(&conn) else { return };
        if matches!(behind.stage, Stage::Asked) {
            self.take_piece_of(now, conn, &mut behind, end);
        }
        self.past.all.insert(conn, behind);
    }

    fn take_piece_of(&mut self, now: Now, conn: ConnId, behind: &mut Behind, end: PieceEnd) {
        let mut piece = match end {
            PieceEnd::Whole(piece) if piece.next_seq > behind.next_seq => piece,
            PieceEnd::Broken if behind.attempts < limits::GATEWAY_PIECE_ATTEMPTS => {
                behind.stage = Stage::Wants;
                self.past.waiting.push_front(conn);
                return;
            }
            PieceEnd::Whole(_) | PieceEnd::Broken | PieceEnd::None => {
                return self.give_up(now, conn, behind);
            }
        };
        behind.attempts = 0;
        let few = limits::GATEWAY_PIECE_FRAMES_MAX / 4;
        behind.span = match piece.frames.len() < few {
            true => (behind.span * 2).min(limits::GATEWAY_PIECE_SPAN_MAX),
            false => limits::GATEWAY_PIECE_FRAMES_MAX as u64,
        };
        self.sort_out(&behind.wish.patterns, &mut piece);
        behind.name_all(&mut piece);
        if piece.frames.is_empty() {
            behind.next_seq = piece.next_seq;
            self.go_on(now, conn, behind);
            return;
        }
        piece.frames.shrink_to_fit();
        behind.taken_at = now.mono;
        behind.stage = Stage::Sends(piece, 0);
        self.past.holding.insert(conn);
    }

    /// Lets go of what the patterns do not mean.
    fn sort_out(&self, patterns: &[Pattern], piece: &mut Piece) {
        if patterns.iter().any(Pattern::is_everything) {
            return;
        }
        let Some(values) = self.broker.last_values(Request::MARKET) else { return };
        let mut known = BTreeMap::new();
        let names = &piece.names;
        piece.frames.retain(|frame| {
            if frame.kind == Kind::Gap as u8 {
                return true;
            }
            let kinds = *known.entry(frame.instrument()).or_insert_with(|| {
                let is_its = |it: &&Frame| {
                    it.instrument() == frame.instrument() && it.kind == Kind::Definition as u8
                };
                let definition = values.definition(frame.instrument().index());
                let definition = definition.or_else(|| names.iter().find(is_its));
                let Some(it) = definition.and_then(Frame::view::<Definition>) else { return 0 };
                let names = it.names();
                let meaning = patterns.iter().filter(|pattern| pattern.means(&names));
                meaning.fold(0, |kinds, pattern| kinds | pattern.kinds())
            });
            frame.is_naming() && kinds != 0 || kinds & frame.kind().map_or(0, Kind::mask) != 0
        });
    }

    /// Takes the heartbeats for those that have not subscribed. They say nothing to a browser that reads a piece, and the
    /// inner broker would take it for one that reads nothing.
    fn take_words(&mut self, now: Now) {
        let idle = self.past.all.iter().filter(|(_, it)| !matches!(it.stage, Stage::Joining(_)));
        let idle: Vec<ConnId> = idle.map(|(conn, _)| *conn).collect();
        for conn in idle {
            let (frames, _) = as_frames(self.broker.outgoing(now, conn).head);
            let words = frames.iter().take_while(|it| it.view::<Refusal>().is_none()).count();
            if words > 0 {
                self.broker.handle_sent(now, conn, words * FRAME_BYTES);
            }
        }
    }

    /// Asks for pieces, takes what has come, and gives up what cannot come. Whoever has something is returned.
    pub(super) fn look_after_past(&mut self, now: Now, front: &mut Front) -> Vec<ConnId> {
        let mut woken = Vec::new();
        if let Some(end) = front.poll_piece() {
            woken.extend(self.past.asked);
            self.take_piece(now, end);
        }
        if self.past.next_words <= now.mono && !self.past.all.is_empty() {
            self.past.next_words = now.mono + limits::GATEWAY_SWEEP_EVERY;
            self.take_words(now);
        }
        let is_able = front.can_replay(self.epoch);
        self.past.unable_since = (!is_able).then(|| self.past.unable_since.unwrap_or(now.mono));
        let seen = (self.epoch.0, self.states_behind());
        if std::mem::replace(&mut self.past.seen, seen) != seen {
            woken.extend(self.past.all.keys());
        }
        let wait = limits::GATEWAY_PIECE_WAIT;
        if self.past.unable_since.is_some_and(|since| now.mono.since(since) >= wait) {
            for conn in std::mem::take(&mut self.past.waiting) {
                if let Some(mut behind) = self.past.all.remove(&conn) {
                    if matches!(behind.stage, Stage::Wants) {
                        self.give_up(now, conn, &mut behind);
                    }
                    self.past.all.insert(conn, behind);
                }
            }
        }
        while is_able && front.is_free() && self.past.holding.len() < limits::GATEWAY_PIECES_MAX {
            let Some(conn) = self.past.waiting.pop_front() else { break };
            let Some(mut behind) = self.past.all.remove(&conn) else { continue };
            if matches!(behind.stage, Stage::Wants) && behind.epoch_id == self.epoch.0 {
                self.ask_core(now, front, conn, &mut behind);
            }
            self.past.all.insert(conn, behind);
        }
        woken.into_iter().filter_map(|conn| self.owner(conn)).collect()
    }

    fn ask_core(&mut self, now: Now, front: &mut Front, conn: ConnId, behind: &mut Behind) {
        let oldest = Seq::number(self.broker.oldest_seq(Request::MARKET));
        let to_seq = behind.next_seq.saturating_add(behind.span).min(oldest);
        if to_seq <= behind.next_seq {
            self.join_ring(now, conn, behind);
        } else if front.ask_piece(now, behind.query(to_seq)) {
            behind.attempts += 1;
            behind.stage = Stage::Asked;
            self.past.asked = Some(conn);
        } else {
            // Its breaker lets nothing through.
            self.give_up(now, conn, behind);
        }
    }
}
