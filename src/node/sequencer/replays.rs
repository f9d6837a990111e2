//! Replays of the journal: they stream at the client's pace, and behind what is live. What is *not* here: other
//! answers.
//!
//! # Decisions
//!
//! * Live comes before history. All replays together have a bounded part of a turn, and share it piece by piece
//!   in a circle. What a replay looks at counts like what it sends, so nobody waits for the rare symbol of
//!   somebody else.
//! * [`limits::REPLAYS_MAX`] replays are under way at once. The next ones wait in the order in which they were
//!   asked for; there is at most one on a connection. A refusal would be a loss to a subscriber that needs the
//!   replay to go on. One that is not read for a second gives its place up, and goes on when it is read: nobody
//!   keeps others from history by not reading.
//! * Which instruments are meant is looked up by name, in pieces, and kept as one bit for each.

use std::collections::VecDeque;

use super::followers::first_seq_from;
use super::{Querier, Sequencer, SequencerPeer};
use crate::feed::{LastValues, NamePlace, NameTable, Pattern};
use crate::limits;
use crate::log::{Log, Read, Storage, is_event};
use crate::node::quotes::QuotePlaces;
use crate::node::session::Rejection;
use crate::node::{ConnId, Work};
use crate::planted::{Bug, is_planted};
use crate::time::{Mono, Now};
use crate::wire::{
    EndStatus, Ended, ErrorCode, Flags, Frame, Gap, GapReason, InstrumentId, InstrumentIndex, Kind,
    Query, Run, Seq, Symbol, U32, U64,
};

/// Replays that begin in one turn, of those that wait.
const BEGINNINGS_PER_TURN_MAX: usize = 32;

/// All of them.
#[derive(Debug)]
pub(super) struct Replays {
    under_way_max: usize,
    under_way: usize,
    /// Who waits, in order.
    waiting: VecDeque<ConnId>,
    /// When those that are not read are looked for.
    next_look: Mono,
}

impl Default for Replays {
    fn default() -> Replays {
        Replays {
            under_way_max: limits::REPLAYS_MAX,
            under_way: 0,
            waiting: VecDeque::new(),
            next_look: Mono::default(),
        }
    }
}

impl Replays {
    pub(super) fn bound(&mut self, under_way_max: usize) {
        self.under_way_max = under_way_max.max(1);
    }

    /// How many are under way, and how many wait.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.under_way, self.waiting.len())
    }

    /// Whether one of those that wait may begin.
    fn may_begin(&self) -> bool {
        !self.waiting.is_empty() && self.under_way < self.under_way_max
    }

    /// What a connection asked for is over, or not wanted any more.
    pub(super) fn forget(&mut self, conn: ConnId, asked: &AskedReplay) {
        match asked {
            // As many as there are connections, at most.
            AskedReplay::Waiting(..) => self.waiting.retain(|waiting| *waiting != conn),
            AskedReplay::UnderWay(replay) => self.under_way -= usize::from(replay.has_place),
        }
    }

    /// When [`Sequencer::begin_replays`] has something to do.
    pub(super) fn next_due(&self) -> Option<Mono> {
        match (self.may_begin(), self.waiting.is_empty()) {
            (true, _) => Some(Mono::default()),
            (false, false) => Some(self.next_look),
            (false, true) => None,
        }
    }
}

/// What a connection has asked for.
#[derive(Debug)]
pub(super) enum AskedReplay {
    Waiting(Pattern, Query),
    UnderWay(Box<Replay>),
}

impl AskedReplay {
    pub(super) fn id(&self) -> u32 {
        match self {
            AskedReplay::Waiting(_, query) => query.id.get(),
            AskedReplay::UnderWay(replay) => replay.id,
        }
    }
}

/// How much is gathered at once, besides the frame that says whose it is.
#[derive(Debug)]
struct Piece {
    room: usize,
    look_max: usize,
    looked: usize,
}

/// A replay under way.
#[derive(Debug)]
pub(super) struct Replay {
    id: u32,
    pattern: Pattern,
    /// Names from here on have not been looked at; `None`: all have.
    look_from: Option<NamePlace>,
    /// By own index: one bit for each instrument that is meant.
    meant: Vec<u64>,
    /// Behind the instruments that there were at its beginning.
    index_end: InstrumentIndex,
    /// Definitions up to this index have been sent.
    next_index: InstrumentIndex,
    /// The whole sequence, the system's frames included: the broker sends them to whoever follows everything, who
    /// would else be left with holes.
    is_everything: bool,
    position: u64,
    to_seq: u64,
    rows: u32,
    first_seq: Seq,
    /// Behind the last frame looked at, wanted or not.
    next_seq: Seq,
    had_damage: bool,
    /// It counts as one of those under way.
    has_place: bool,
    /// When it was last asked for a piece.
    asked_at: Mono,
}

impl<S: Storage> Sequencer<S> {
    /// What its turns spend on replays.
    #[must_use]
    pub fn work(&self) -> &Work {
        self.connections.work()
    }

    /// The same, to bound it.
    pub fn work_mut(&mut self) -> &mut Work {
        self.connections.work_mut()
    }

    /// Bounds the replays under way; others wait. [`limits::REPLAYS_MAX`] unless said.
    pub fn bound_replays(&mut self, under_way_max: usize) {
        self.replays.bound(under_way_max);
    }

    pub(super) fn ask_for_replay(
        &mut self,
        now: Now,
        conn: ConnId,
        query: &Query,
    ) -> Result<(), Rejection> {
        let pattern = Pattern::from_field(&query.symbol, query.kinds.get());
        let pattern = pattern.map_err(|_| {
            Rejection::new(ErrorCode::BadPattern, "a pattern is SYMBOL, PREFIX* or *")
        })?;
        let Some(SequencerPeer::Querier(Querier { replay: place, quotes, feed, .. })) =
            self.connections.peer_mut(conn)
        else {
            return Ok(());
        };
        if *feed != 0 && self.journal.lineage().end_of(*feed).is_none() {
            // It would fill gaps of one history with frames of another.
            let text = "another sequence: subscribe from 0";
            return Err(Rejection::new(ErrorCode::Unexpected, text));
        }
        if place.is_some() {
            let text = "one replay per connection at a time";
            return Err(Rejection::new(ErrorCode::Limit, text));
        }
        *place = Some(AskedReplay::Waiting(pattern, *query));
        let is_bulk = quotes.is_idle();
        self.connections.set_bulk(conn, is_bulk);
        self.replays.waiting.push_back(conn);
        self.begin_replays(now);
        Ok(())
    }

    /// Begins replays that wait, as far as there are places; a bounded number of them.
    pub(super) fn begin_replays(&mut self, now: Now) {
        if !self.replays.may_begin() && !self.replays.waiting.is_empty() {
            self.take_unread_places(now);
        }
        for _ in 0..BEGINNINGS_PER_TURN_MAX {
            if !self.replays.may_begin() {
                return;
            }
            let Some(conn) = self.replays.waiting.pop_front() else { return };
            let Some(SequencerPeer::Querier(querier)) = self.connections.peer(conn) else {
                continue;
            };
            if let Some(AskedReplay::Waiting(pattern, query)) = querier.replay {
                self.begin_replay(now, conn, pattern, &query);
            }
        }
    }

    /// Once in a while: replays that are not read give their places up. One look over all connections.
    fn take_unread_places(&mut self, now: Now) {
        if now.mono < self.replays.next_look {
            return;
        }
        self.replays.next_look = now.mono + limits::REPLAY_UNREAD_MAX;
        for (_, peer) in self.connections.peers_mut() {
            if let SequencerPeer::Querier(querier) = peer
                && let Some(AskedReplay::UnderWay(replay)) = &mut querier.replay
                && now.mono.since(replay.asked_at) >= limits::REPLAY_UNREAD_MAX
                && std::mem::take(&mut replay.has_place)
            {
                self.replays.under_way -= 1;
            }
        }
    }

    fn begin_replay(&mut self, now: Now, conn: ConnId, pattern: Pattern, query: &Query) {
        let first_seq = self.first_journaled_seq();
        let from_seq = Seq::or_first(query.from.get());
        let index_end = self.market.values().index_end();
        let replay = Replay {
            id: query.id.get(),
            look_from: NameTable::<InstrumentId>::first(&pattern)
                .filter(|_| !pattern.is_everything()),
            meant: vec![0; index_end.place().div_ceil(64)],
            index_end,
            next_index: InstrumentIndex::FIRST,
            is_everything: pattern.is_everything(),
            pattern,
            position: self.journal.position_of_seq(query.from.get()),
            // Instruments that come later are not meant, and a replay must end.
            to_seq: query.to.get().min(self.journal.next_seq()),
            rows: 0,
            first_seq,
            next_seq: from_seq.max(first_seq),
            had_damage: false,
            has_place: true,
            asked_at: now.mono,
        };
        let lost_to = Seq::new(replay.to_seq).min(Some(first_seq)).and_then(Seq::previous);
        let Some(SequencerPeer::Querier(querier)) = self.connections.peer_mut(conn) else { return };
        querier.replay = Some(AskedReplay::UnderWay(Box::new(replay)));
        self.replays.under_way += 1;
        self.connections.send(conn, Run { id: query.id, ..Run::default() });
        if let Some(lost_to) = lost_to.filter(|lost_to| *lost_to >= from_seq) {
            // At once: who loses the connection before END would else take the first row for the first
            // that there was.
            self.connections.send(conn, Gap::uncounted(GapReason::SourceLost, from_seq, lost_to));
        }
    }

    /// Where the journal begins, whether the frames there can be read or not: what rotted is damage, and
    /// no later beginning. Where even the segment's first record is rot, only its readable frames show it.
    fn first_journaled_seq(&self) -> Seq {
        let position = self.journal.first_position();
        let whole = (position == 0).then_some(Seq::FIRST);
        let stated = whole.or_else(|| self.journal.first_seq());
        let first_seq = stated.or_else(|| first_seq_from(&self.journal, position));
        first_seq.unwrap_or(Seq::or_first(self.journal.next_seq()))
    }

    /// Puts the next piece of a replay into an empty outbox, as long as this turn may spend something on it.
    pub(super) fn refill_replay(&mut self, now: Now, conn: ConnId) {
        let frames_left = self.connections.work().frames_left();
        let is_bulk = self.connections.is_bulk(conn);
        let Some(SequencerPeer::Querier(Querier { replay: place, .. })) =
            self.connections.peer_mut(conn)
        else {
            return;
        };
        let Some(AskedReplay::UnderWay(replay)) = place else { return };
        replay.asked_at = now.mono;
        if !is_bulk || frames_left == 0 {
            self.connections.set_bulk(conn, true);
            self.connections.mark_dirty(conn);
            return;
        }
        let (room, look_max) = limits::bulk_piece(frames_left);
        // Another answer may stand between this piece and the one before.
        let run = Run { id: U32::new(replay.id), ..Run::default() };
        self.scratch.push(Frame::seal(run));
        let mut piece = Piece { room, look_max, looked: 0 };
        let progress = replay.fill(&self.market, &self.journal, &mut self.scratch, &mut piece);
        if progress == Progress::Over {
            let status = if replay.had_damage { EndStatus::Partial } else { EndStatus::Complete };
            let end = Ended {
                id: U32::new(replay.id),
                status: status as u8,
                rows: U32::new(replay.rows),
                covered_from: Seq::field(Some(replay.first_seq)),
                covered_to: U64::new(replay.to_seq),
                as_of: U64::new(replay.to_seq),
                durable_seq: U64::new(self.journal.durable_seq()),
                ..Ended::default()
            };
            self.scratch.push(Frame::seal(end));
            if let Some(asked) = place.take() {
                self.replays.forget(conn, &asked);
            }
            self.connections.set_bulk(conn, false);
        }
        let looked = piece.looked.div_ceil(limits::RECORDS_PER_BULK_FRAME);
        if self.scratch.len() == 1 {
            // Much was looked at and nothing found: others have their turn.
            self.connections.work_mut().spend_frames(looked);
            self.connections.mark_dirty(conn);
            return;
        }
        let spent = self.scratch.len() + looked + limits::BULK_FRAMES_PER_WRITE;
        self.connections.work_mut().spend_frames(spent);
        self.connections.fill(conn, zerocopy::IntoBytes::as_bytes(self.scratch.as_slice()));
    }
}

impl Querier {
    /// Whether a question with this id is open.
    pub(super) fn has_open(&self, id: u32) -> bool {
        self.quotes.has_open(id) || self.replay.as_ref().is_some_and(|replay| replay.id() == id)
    }

    /// Forgets a question. No answer follows. The replay, if it was one.
    pub(super) fn stop(&mut self, id: u32, places: &mut QuotePlaces) -> Option<AskedReplay> {
        self.quotes.stop(id);
        self.quotes.settle(places);
        self.replay.take_if(|replay| replay.id() == id)
    }
}

impl Replay {
    /// Gathers the next piece, after a bounded look.
    fn fill<S: Storage>(
        &mut self,
        market: &super::Market,
        journal: &Log<S>,
        out: &mut Vec<Frame>,
        piece: &mut Piece,
    ) -> Progress {
        if !self.look_names_up(market.names(), market.values(), piece) {
            return Progress::More;
        }
        self.fill_definitions(market.values(), out, piece);
        if out.len() > 1 || self.next_index < self.index_end {
            return Progress::More;
        }
        self.fill_frames(journal, out, piece)
    }

    /// Looks up which instruments are meant. Whether that is done.
    fn look_names_up(
        &mut self,
        names: &NameTable<InstrumentId>,
        values: &LastValues,
        piece: &mut Piece,
    ) -> bool {
        let (index_end, meant) = (self.index_end, &mut self.meant);
        let found = |symbol: &Symbol, instrument: InstrumentId| {
            let index = instrument.index();
            let is_named_so = values.symbol(index).as_ref() == Some(symbol);
            if index < index_end
                && is_named_so
                && let Some(bits) = meant.get_mut(index.place() / 64)
            {
                *bits |= 1 << (index.place() % 64);
            }
        };
        let looks_max = piece.look_max.saturating_sub(piece.looked);
        piece.looked += names.look_up(&self.pattern, &mut self.look_from, looks_max, found);
        self.look_from.is_none()
    }

    /// The kinds that are wanted of an instrument.
    #[inline]
    fn kinds_of(&self, index: InstrumentIndex) -> u16 {
        if self.is_everything {
            return self.pattern.kinds();
        }
        let bits = self.meant.get(index.place() / 64).copied().unwrap_or(0);
        if bits >> (index.place() % 64) & 1 == 0 { 0 } else { self.pattern.kinds() }
    }

    fn fill_definitions(&mut self, values: &LastValues, out: &mut Vec<Frame>, piece: &mut Piece) {
        while self.next_index < self.index_end
            && out.len() <= piece.room
            && piece.looked < piece.look_max
        {
            piece.looked += 1;
            if self.kinds_of(self.next_index) != 0 {
                let naming = values.naming(self.next_index);
                let delivery = Flags::SNAPSHOT | Flags::REPLAY;
                out.extend(naming.map(|frame| frame.delivered(delivery)));
            }
            self.next_index = self.next_index.next();
        }
    }

    /// Gathers the next frames.
    fn fill_frames<S: Storage>(
        &mut self,
        journal: &Log<S>,
        out: &mut Vec<Frame>,
        piece: &mut Piece,
    ) -> Progress {
        loop {
            if out.len() > piece.room || piece.looked >= piece.look_max {
                return Progress::More;
            }
            let frames = match journal.read(self.position, piece.room + 1 - out.len()) {
                Read::End => return self.finish(out),
                Read::Damaged(range) => {
                    piece.looked += 1;
                    self.position = range.end;
                    continue;
                }
                Read::Frames(frames) => frames,
            };
            piece.looked += frames.len();
            let void_from = journal.void_from(self.position);
            for frame in frames {
                if !is_event(frame) || frame.seq.get() >= void_from {
                    continue;
                }
                let early = u64::from(is_planted(Bug::ReplayEndsEarly));
                if frame.seq.get() + early >= self.to_seq {
                    return self.finish(out);
                }
                // The journal has no holes but those of damage.
                self.report_damage(frame.seq.get(), out);
                self.next_seq = frame.next_seq();
                let wanted = self.kinds_of(frame.instrument().index());
                let bit = frame.kind().map_or(0, Kind::mask);
                if wanted & bit != 0 || frame.is_naming() && wanted != 0 {
                    out.push(frame.delivered(Flags::REPLAY));
                    self.rows = self.rows.saturating_add(1);
                }
            }
            self.position += frames.len() as u64;
        }
    }

    fn finish(&mut self, out: &mut Vec<Frame>) -> Progress {
        self.report_damage(self.to_seq, out);
        Progress::Over
    }

    /// Everything before `seq` that has not come is rot.
    fn report_damage(&mut self, seq: u64, out: &mut Vec<Frame>) {
        if seq <= self.next_seq.get() {
            return;
        }
        let Some(lost_to) = Seq::new(seq - 1) else { return };
        self.had_damage = true;
        out.push(Frame::seal(Gap::uncounted(GapReason::Corrupt, self.next_seq, lost_to)));
        self.next_seq = lost_to.next();
    }
}

/// How far a piece of a replay came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// There is more.
    More,
    /// That was all.
    Over,
}
