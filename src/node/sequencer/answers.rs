//! What core answers: the current quote of an instrument, with its provenance, and replays of the
//! journal, which stream at the client's pace.
//!
//! # Decisions
//!
//! * A long search is divided over turns. A replay that finds few matches reads a bounded number of
//!   records, leaves the outbox empty, and continues in the next turn. So nobody waits for the rare symbol
//!   of somebody else. A follower's stream does the same.

use super::followers::first_seq_from;
use super::{Querier, Sequencer, SequencerPeer};
use crate::feed::Pattern;
use crate::limits;
use crate::log::{Log, Read, Storage, is_event};
use crate::node::ConnId;
use crate::node::quotes::{QuotePlaces, QuoteView};
use crate::node::session::{Rejection, Shares};
use crate::planted::{Bug, is_planted};
use crate::question::Question;
use crate::time::Now;
use crate::wire::{
    EndStatus, Ended, ErrorCode, Flags, Frame, Gap, GapReason, InstrumentIndex, Kind, Op, Query,
    Run, Seq, U32, U64,
};

/// A replay under way.
#[derive(Debug)]
pub(super) struct Replay {
    id: u32,
    /// By own index: the kinds wanted of it.
    kinds: Vec<u16>,
    /// Definitions up to this index have been sent.
    next_index: InstrumentIndex,
    /// Every instrument is named, also one whose frames are not wanted: whoever follows everything gets
    /// those from the broker, and must be able to distinguish them.
    names_all: bool,
    position: u64,
    to_seq: u64,
    rows: u32,
    first_seq: Seq,
    /// Behind the last frame looked at, wanted or not.
    next_seq: Seq,
    had_damage: bool,
}

/// The places of all connections' questions.
#[derive(Debug)]
pub(super) struct Places {
    quotes: QuotePlaces,
    replays: Shares,
}

impl Default for Places {
    fn default() -> Places {
        let replays = Shares::new("replays", limits::REPLAYS_MAX);
        Places { quotes: QuotePlaces::default(), replays }
    }
}

impl<S: Storage> Sequencer<S> {
    /// A question other than those that every node answers alike.
    pub(super) fn answer(
        &mut self,
        now: Now,
        conn: ConnId,
        question: Question,
    ) -> Result<(), Rejection> {
        match question.op() {
            Some(Op::Quote) => self.begin_quotes(now, conn, question),
            Some(Op::Replay) => self.begin_replay(conn, &question.query),
            _ => Err(Rejection::new(ErrorCode::NotOwner, "core keeps no such history")),
        }
    }

    /// The fallback ladder: a live quote, the last one flagged STALE, or an explicit none. Nobody is
    /// ahead of core, so nobody waits here for a cut.
    fn begin_quotes(
        &mut self,
        now: Now,
        conn: ConnId,
        question: Question,
    ) -> Result<(), Rejection> {
        let Some(SequencerPeer::Querier(querier)) = self.connections.peer_mut(conn) else {
            return Ok(());
        };
        querier.quotes.ask(now.mono, question, false, &mut self.places.quotes)?;
        self.connections.mark_dirty(conn);
        Ok(())
    }

    /// The parts of an END frame that say how far this node is.
    pub(super) fn end(&self) -> Ended {
        Ended {
            covered_to: U64::new(u64::MAX),
            as_of: U64::new(self.journal.next_seq()),
            durable_seq: U64::new(self.journal.durable_seq()),
            ..Ended::default()
        }
    }

    fn begin_replay(&mut self, conn: ConnId, query: &Query) -> Result<(), Rejection> {
        let pattern = Pattern::from_field(&query.symbol, query.kinds.get());
        let pattern = pattern.map_err(|_| {
            Rejection::new(ErrorCode::BadPattern, "a pattern is SYMBOL, PREFIX* or *")
        })?;
        let values = self.market.values();
        let kinds_of = |index: InstrumentIndex| {
            let symbol = values.symbol(index)?;
            pattern.matches(&symbol).then_some(pattern.kinds())
        };
        let indexes = InstrumentIndex::until(values.index_end());
        let first_seq = self.first_journaled_seq();
        let replay = Replay {
            id: query.id.get(),
            kinds: indexes.map(|index| kinds_of(index).unwrap_or(0)).collect(),
            next_index: InstrumentIndex::FIRST,
            names_all: pattern.is_everything(),
            position: self.journal.position_of_seq(query.from.get()),
            // Instruments that come later are not in `kinds`, and a replay must end.
            to_seq: query.to.get().min(self.journal.next_seq()),
            rows: 0,
            first_seq,
            next_seq: Seq::or_first(query.from.get()).max(first_seq),
            had_damage: false,
        };
        let principal = self.connections.principal(conn);
        let Some(SequencerPeer::Querier(Querier { replay: place, .. })) =
            self.connections.peer_mut(conn)
        else {
            return Ok(());
        };
        if place.is_some() {
            let text = "one replay per connection at a time";
            return Err(Rejection::new(ErrorCode::Limit, text));
        }
        self.places.replays.check(principal)?;
        self.places.replays.change(principal, 0, 1);
        let from_seq = Seq::or_first(query.from.get());
        let lost_to = Seq::new(replay.to_seq).min(Some(first_seq)).and_then(Seq::previous);
        *place = Some(replay);
        self.connections.send(conn, Run { id: query.id, ..Run::default() });
        if let Some(lost_to) = lost_to.filter(|lost_to| *lost_to >= from_seq) {
            // At once: who loses the connection before END would else take the first row for the first
            // that there was.
            self.connections.send(conn, Gap::uncounted(GapReason::SourceLost, from_seq, lost_to));
        }
        Ok(())
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

    /// Fills the empty outbox of a connection that streams something.
    pub(super) fn refill(&mut self, now: Now, conn: ConnId) {
        let provenance = if self.is_live(now) { 0 } else { Flags::STALE };
        self.scratch.clear();
        match self.connections.peer_mut(conn) {
            Some(SequencerPeer::Follower(index)) => {
                let index = *index;
                self.followers.fill(index, &self.journal, &self.market, &mut self.scratch);
                if self.scratch.is_empty() && self.followers.is_behind(index, &self.journal) {
                    self.scanning.push(conn);
                }
            }
            Some(SequencerPeer::Querier(Querier { replay: place, quotes, principal, .. })) => {
                let view = QuoteView {
                    values: self.market.values(),
                    names: self.market.names(),
                    provenance,
                    uncertain_below: self.market.uncertain_below(),
                    as_of: Seq::new(self.journal.next_seq()),
                    durable_seq: Seq::new(self.journal.durable_seq()),
                };
                quotes.fill(&view, &mut self.scratch);
                quotes.settle(&mut self.places.quotes);
                if !self.scratch.is_empty() {
                    self.connections
                        .fill(conn, zerocopy::IntoBytes::as_bytes(self.scratch.as_slice()));
                    return;
                }
                let principal = *principal;
                let Some(replay) = place else { return };
                let values = self.market.values();
                // Another answer may stand between this piece and the one before.
                let run = Run { id: U32::new(replay.id), ..Run::default() };
                self.scratch.push(Frame::seal(run));
                replay.fill_definitions(values, &mut self.scratch);
                let to_seq = replay.to_seq;
                let mut progress = Progress::More;
                if self.scratch.len() == 1 {
                    progress = replay.fill_frames(&self.journal, &mut self.scratch);
                }
                if progress == Progress::Paused && self.scratch.len() == 1 {
                    self.scratch.clear();
                    self.scanning.push(conn);
                }
                if progress == Progress::Over {
                    let status =
                        if replay.had_damage { EndStatus::Partial } else { EndStatus::Complete };
                    let end = Ended {
                        id: U32::new(replay.id),
                        status: status as u8,
                        rows: U32::new(replay.rows),
                        covered_from: Seq::field(Some(replay.first_seq)),
                        covered_to: U64::new(to_seq),
                        as_of: U64::new(to_seq),
                        durable_seq: U64::new(self.journal.durable_seq()),
                        ..Ended::default()
                    };
                    *place = None;
                    self.places.replays.change(principal, 1, 0);
                    self.scratch.push(Frame::seal(end));
                }
            }
            _ => return,
        }
        if !self.scratch.is_empty() {
            self.connections.fill(conn, zerocopy::IntoBytes::as_bytes(self.scratch.as_slice()));
        }
    }
}

impl Querier {
    /// Whether a question with this id is open.
    pub(super) fn has_open(&self, id: u32) -> bool {
        self.quotes.has_open(id) || self.replay.as_ref().is_some_and(|replay| replay.id == id)
    }

    /// Forgets a question. No answer follows.
    pub(super) fn stop(&mut self, id: u32, places: &mut Places) {
        let stopped = self.replay.take_if(|replay| replay.id == id);
        places.replays.change(self.principal, usize::from(stopped.is_some()), 0);
        self.quotes.stop(id);
        self.quotes.settle(&mut places.quotes);
    }

    /// The connection has ended.
    pub(super) fn end(&mut self, places: &mut Places) {
        places.replays.change(self.principal, usize::from(self.replay.is_some()), 0);
        self.quotes.end(&mut places.quotes);
    }
}

impl Replay {
    fn fill_definitions(&mut self, values: &crate::feed::LastValues, out: &mut Vec<Frame>) {
        while self.next_index.place() < self.kinds.len() && out.len() < limits::FILL_FRAMES_MAX {
            if self.names_all || self.kinds[self.next_index.place()] != 0 {
                let definition = values.definition(self.next_index);
                let delivery = Flags::SNAPSHOT | Flags::REPLAY;
                out.extend(definition.map(|frame| frame.delivered(delivery)));
            }
            self.next_index = self.next_index.next();
        }
    }

    /// Gathers the next frames, after a bounded look.
    fn fill_frames<S: Storage>(&mut self, journal: &Log<S>, out: &mut Vec<Frame>) -> Progress {
        let mut looked = 0;
        loop {
            if out.len() >= limits::FILL_FRAMES_MAX {
                return Progress::More;
            }
            if looked >= limits::RECORDS_PER_FILL_MAX {
                return Progress::Paused;
            }
            let frames = match journal.read(self.position, limits::FILL_FRAMES_MAX - out.len()) {
                Read::End => return self.finish(out),
                Read::Damaged(range) => {
                    self.position = range.end;
                    continue;
                }
                Read::Frames(frames) => frames,
            };
            looked += frames.len();
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
                let index = frame.instrument().index();
                let wanted = self.kinds.get(index.place()).copied().unwrap_or(0);
                let bit = frame.kind().map_or(0, Kind::mask);
                let is_definition = frame.kind == Kind::Definition as u8 && wanted != 0;
                if wanted & bit != 0 || is_definition {
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
    /// Ask again when it has been sent.
    More,
    /// Much was looked at; go on in the next turn, so that others have theirs.
    Paused,
    /// That was all.
    Over,
}
