//! One answer on its way out: definitions, then the rows of one instrument after the other, then its end.
//! It holds what it has to find and no rows; it is asked for a piece at a time, and each piece looks at
//! no more than its budget.

use std::ops::Range;

use super::bars::BarScan;
use super::count::CountScan;
use super::holes::Holes;
use super::index::Index;
use super::instrument::{InstrumentHistory, LOG_LOOK_COST, UnpackedBlock};
use super::rows::RowScan;
use super::scan_range::ScanRange;
use crate::limits;
use crate::log::{Log, Storage};
use crate::planted::{Bug, is_planted};
use crate::question::{Question, Rejection};
use crate::wire::{
    EndStatus, Ended, ErrorCode, Flags, Frame, Kind, Op, Query, Refusal, Run, Seq, U16, U32, U64,
};

/// An answer under way.
#[derive(Debug)]
pub(crate) struct HistoryAnswer {
    query: Query,
    op: Op,
    /// Rows have a `seq` below this.
    cut: u64,
    /// Whether the client named the cut.
    is_cut: bool,
    /// Rows at the time `from` up to this one were in the page before.
    after_seq: Option<Seq>,
    /// The log's epoch when it began: frames of it that a later one made void are not sent.
    epoch: u32,
    /// Places in the index, by symbol.
    places: Vec<u32>,
    next_definition: usize,
    /// How many parts of a name were sent of the instrument whose definition was sent last.
    parts: usize,
    next_place: usize,
    scan: Scan,
    rows: u32,
    damaged: bool,
    /// Frames may be missing that core lost.
    touches_hole: bool,
    /// How far behind core the node was when the answer began, as END states it.
    behind_ms: u32,
    /// That is further than an answer in full may be.
    is_behind: bool,
    covered: Option<(u64, u64)>,
    pub(crate) is_short: bool,
}

/// What is done for the instrument whose turn it is.
#[derive(Debug)]
enum Scan {
    /// Cancellations are looked into first.
    Settle(ScanRange),
    Rows {
        scan: RowScan,
        trades_left: u64,
    },
    Bars(BarScan),
    Count(CountScan),
    /// The next instrument's turn comes.
    Idle,
}

/// What an answer wants of one instrument, as far as it matters for frames that are lost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LossScope {
    /// Frames with a seq below this.
    pub(crate) cut: u64,
    /// The newest entries: what was lost right before this ordinal or a later one could be among them.
    /// `None`: those of a range of time.
    pub(crate) newest_from: Option<u64>,
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) by_receive: bool,
    /// Cancellations count that are not in the range themselves.
    pub(crate) minds_cancels: bool,
}

/// How far a piece came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AnswerProgress {
    More,
    Over,
}

/// What a piece is made from and where it goes.
pub(crate) struct AnswerContext<'a, S: Storage> {
    pub(crate) index: &'a mut Index,
    pub(crate) log: &'a Log<S>,
    pub(crate) unpacked: &'a mut UnpackedBlock,
    pub(crate) out: &'a mut Vec<Frame>,
    /// Length that `out` may come to.
    pub(crate) room: usize,
    /// Entries that may still be looked at in this turn.
    pub(crate) budget: &'a mut usize,
    /// Whether the log is known to have damage.
    pub(crate) is_damaged: bool,
}

impl HistoryAnswer {
    /// An answer about the instruments at these places, which are by symbol.
    ///
    /// # Errors
    /// When it would go beyond a limit, or what is asked makes no sense.
    pub(crate) fn new<S: Storage>(
        question: &Question,
        places: Vec<u32>,
        index: &Index,
        log: &Log<S>,
    ) -> Result<HistoryAnswer, Rejection> {
        let (query, as_of) = (&question.query, question.as_of);
        let op = HistoryAnswer::op_of(query)?;
        let limit = query.limit.get();
        if op == Op::Bars && !(1..=limits::BAR_SECONDS_MAX).contains(&limit) {
            return Err(Rejection::new(ErrorCode::Limit, "bars are 1 second to 1 day long"));
        }
        if op == Op::Last && limit as usize > limits::ANSWER_ROWS_MAX {
            return Err(Rejection::new(ErrorCode::Limit, "more rows than a shard may answer"));
        }
        let next_seq = log.upstream().1;
        let mut answer = HistoryAnswer {
            query: *query,
            op,
            cut: as_of.map_or(next_seq, Seq::get),
            is_cut: as_of.is_some(),
            after_seq: question.after_seq,
            epoch: log.epoch(),
            places,
            next_definition: 0,
            parts: 0,
            next_place: 0,
            scan: Scan::Idle,
            rows: 0,
            damaged: false,
            touches_hole: false,
            behind_ms: 0,
            is_behind: false,
            covered: None,
            is_short: false,
        };
        answer.check_limits(index)?;
        Ok(answer)
    }

    /// What is asked, when it is about history.
    ///
    /// # Errors
    /// When it is not.
    pub(crate) fn op_of(query: &Query) -> Result<Op, Rejection> {
        match Op::from_number(query.op) {
            Some(op @ (Op::Last | Op::Range | Op::Bars | Op::Count | Op::Instruments)) => Ok(op),
            _ => {
                let text = "a shard answers for history and nothing else";
                Err(Rejection::new(ErrorCode::NotOwner, text))
            }
        }
    }

    /// Refuses what is too much, before any of it is done.
    fn check_limits(&mut self, index: &Index) -> Result<(), Rejection> {
        let (mut trades, mut rows) = (0_u64, 0_u64);
        for history in self.places.iter().filter_map(|&place| index.at(place)) {
            let all = history.end() - history.start();
            let found = match self.op {
                Op::Instruments => 0,
                Op::Last => all.min(u64::from(self.query.limit.get())),
                // By receive time it takes reading to know; the entries of all time are the bound.
                _ if self.by_receive() => all,
                _ => {
                    let wanted = self.wanted_by_event(history.start()..history.end());
                    wanted.entries_max(history)
                }
            };
            let limit = u64::from(self.query.limit.get());
            trades = trades.saturating_add(found);
            rows = rows.saturating_add(match self.op {
                Op::Last | Op::Range if limit > 0 => found.min(limit),
                Op::Count | Op::Instruments => 1,
                _ => found,
            });
        }
        if trades > limits::SCAN_TRADES_MAX {
            return Err(Rejection::new(ErrorCode::Limit, "more trades than a shard may look at"));
        }
        if rows > limits::SCAN_ROWS_MAX && self.op != Op::Bars {
            return Err(Rejection::new(ErrorCode::Limit, "more rows than a shard may answer"));
        }
        let instruments = self.places.len() as u64;
        self.is_short = trades + instruments <= limits::SHORT_SCAN_TRADES_MAX;
        Ok(())
    }

    /// Takes note of how far behind core the node is, and whether that is further than an answer in full may
    /// be. An answer at a cut lacks nothing for it.
    pub(crate) fn note_behind(&mut self, behind_ms: u32, is_behind: bool) {
        self.behind_ms = behind_ms;
        self.is_behind = is_behind && !self.is_cut;
    }

    pub(crate) fn id(&self) -> u32 {
        self.query.id.get()
    }

    /// Instruments that it holds the places of.
    pub(crate) fn instruments(&self) -> usize {
        self.places.len()
    }

    fn by_receive(&self) -> bool {
        self.query.options & Query::RECEIVE_TIME != 0
    }

    fn wanted_by_event(&self, ordinals: Range<u64>) -> ScanRange {
        let (from, to) = (self.query.from.get(), self.query.to.get());
        ScanRange { cut: ordinals.end, ordinals, from, to }
    }

    /// What the query wants of an instrument.
    fn wanted<S: Storage>(&self, history: &InstrumentHistory, log: &Log<S>) -> ScanRange {
        let beyond = u64::from(self.is_cut && is_planted(Bug::AnswerBeyondCut)) * 16;
        let cut = history.ordinal_of_seq(self.cut + beyond);
        let ordinals = history.start()..cut;
        if self.op == Op::Last {
            return ScanRange { ordinals, cut, from: 0, to: u64::MAX };
        }
        if !self.by_receive() {
            return self.wanted_by_event(ordinals);
        }
        let ordinal_of = |time: u64| match time {
            0 => ordinals.start,
            u64::MAX => cut,
            time => history.ordinal_of_receive(log, time).min(cut),
        };
        let (from, to) = (self.query.from.get(), self.query.to.get());
        ScanRange { ordinals: ordinal_of(from)..ordinal_of(to), cut, from: 0, to: u64::MAX }
    }

    /// Gathers the next frames.
    pub(crate) fn fill<S: Storage>(
        &mut self,
        context: &mut AnswerContext<'_, S>,
    ) -> AnswerProgress {
        let begun = context.out.len();
        context.out.push(Frame::seal(Run { id: self.query.id, ..Run::default() }));
        if self.epoch != context.log.epoch() {
            let text = "an epoch began, and with it another history";
            context.out.truncate(begun);
            context.out.push(Frame::seal(Refusal::new(ErrorCode::Failed, self.id(), text)));
            return AnswerProgress::Over;
        }
        // A bar is three frames, and the end one.
        while context.out.len() + 4 <= context.room && *context.budget > 0 {
            if self.next_part(context) {
                self.parts += 1;
            } else if self.next_definition < self.places.len() {
                self.define(context);
            } else if self.next_place < self.places.len() && self.op != Op::Instruments {
                self.advance(context);
            } else {
                context.out.push(Frame::seal(self.end(context)));
                return AnswerProgress::Over;
            }
        }
        if context.out.len() == begun + 1 {
            context.out.pop();
        }
        AnswerProgress::More
    }

    /// The next part of the full name of what was defined last. Whether there was one.
    fn next_part<S: Storage>(&self, context: &mut AnswerContext<'_, S>) -> bool {
        let last = self.next_definition.checked_sub(1);
        let place = last.and_then(|last| self.places.get(last));
        let part = place.and_then(|place| context.index.full_name(*place).nth(self.parts));
        context.out.extend(part.map(|frame| frame.delivered(Flags::SNAPSHOT)));
        part.is_some()
    }

    /// The next definition.
    fn define<S: Storage>(&mut self, context: &mut AnswerContext<'_, S>) {
        let place = self.places[self.next_definition];
        self.next_definition += 1;
        self.parts = 0;
        *context.budget = context.budget.saturating_sub(1);
        let Some(history) = context.index.at(place) else { return };
        context.out.push(history.definition.delivered(Flags::SNAPSHOT));
        if self.op == Op::Instruments {
            self.rows = self.rows.saturating_add(1);
        }
    }

    /// Finds out whether what core lost may be missing from this instrument's part of the answer, and
    /// what of it is whole.
    fn look_for_holes<S: Storage>(
        &mut self,
        history: &InstrumentHistory,
        holes: &Holes,
        log: &Log<S>,
        unpacked: &mut UnpackedBlock,
    ) {
        let by_receive = self.by_receive();
        let newest_from = match &self.scan {
            Scan::Rows { scan, .. } if self.op == Op::Last => {
                Some(scan.newest_from(history, self.query.limit.get() as usize))
            }
            _ => None,
        };
        let scope = LossScope {
            cut: self.cut,
            newest_from,
            from: self.query.from.get(),
            to: self.query.to.get(),
            by_receive,
            minds_cancels: matches!(self.op, Op::Bars | Op::Count),
        };
        let whole_from = holes.touched(history, log, &scope);
        self.touches_hole |= whole_from.is_some();
        let from = whole_from.unwrap_or(0).max(history.start());
        let ordinals = from..history.ordinal_of_seq(self.cut);
        let times = if by_receive {
            let received = |ordinal| history.frame(log, ordinal).map(|f| f.ts_recv.get());
            let last = ordinals.end.checked_sub(1).filter(|last| *last >= ordinals.start);
            last.and_then(|last| Some((received(ordinals.start)?, received(last)?)))
        } else {
            history.times(log, &ordinals, unpacked)
        };
        if let Some((first, last)) = times {
            let (from, to) = self.covered.unwrap_or((first, last));
            self.covered = Some((from.min(first), to.max(last)));
        }
    }

    /// Goes on with the instrument whose turn it is.
    fn advance<S: Storage>(&mut self, context: &mut AnswerContext<'_, S>) {
        let place = self.places[self.next_place];
        if let Scan::Settle(wanted) = &self.scan
            && let Some(history) = context.index.at_mut(place)
        {
            history.settle_cancels(context.log, wanted.cut, context.unpacked, context.budget);
            if !history.cancels.is_settled(wanted.cut) {
                return;
            }
        }
        let Some(history) = context.index.at(place) else {
            self.next_place += 1;
            return;
        };
        let is_over = match &mut self.scan {
            Scan::Idle => {
                let wanted = self.wanted(history, context.log);
                let (log, unpacked) = (context.log, &mut *context.unpacked);
                self.scan = self.begin(history, wanted, log, unpacked, context.budget);
                let holes = &context.index.holes;
                self.look_for_holes(history, holes, log, unpacked);
                let cost = LOG_LOOK_COST * (1 + holes.len());
                *context.budget = context.budget.saturating_sub(cost);
                false
            }
            Scan::Settle(wanted) => {
                let wanted = wanted.clone();
                self.scan = self.compute(history, wanted);
                false
            }
            Scan::Rows { scan, trades_left } => {
                match scan.next(history, context.log, context.unpacked, context.budget) {
                    Some(ordinal) => {
                        *context.budget = context.budget.saturating_sub(LOG_LOOK_COST);
                        match history.frame(context.log, ordinal) {
                            Some(frame) if frame.kind == Kind::Trade as u8 && *trades_left == 0 => {
                                true
                            }
                            Some(frame) => {
                                *trades_left -= u64::from(frame.kind == Kind::Trade as u8);
                                self.rows = self.rows.saturating_add(1);
                                context.out.push(frame);
                                false
                            }
                            None => {
                                self.damaged = true;
                                false
                            }
                        }
                    }
                    None => scan.is_over(),
                }
            }
            Scan::Bars(scan) => {
                match scan.next(history, context.log, context.unpacked, context.budget) {
                    Some(bar) => {
                        self.rows = self.rows.saturating_add(1);
                        context.out.extend(bar.frames(history.instrument));
                    }
                    None => self.damaged |= scan.damaged > 0,
                }
                scan.is_over()
            }
            Scan::Count(scan) => {
                match scan.count(history, context.log, context.unpacked, context.budget) {
                    Some(counted) => {
                        self.rows = self.rows.saturating_add(1);
                        self.damaged |= scan.damaged > 0;
                        context.out.push(Frame::seal(crate::wire::Counted {
                            id: self.query.id,
                            ..counted
                        }));
                        true
                    }
                    None => false,
                }
            }
        };
        if is_over {
            self.scan = Scan::Idle;
            self.next_place += 1;
        }
    }

    fn begin<S: Storage>(
        &self,
        history: &InstrumentHistory,
        wanted: ScanRange,
        log: &Log<S>,
        unpacked: &mut UnpackedBlock,
        budget: &mut usize,
    ) -> Scan {
        let limit = self.query.limit.get();
        match self.op {
            Op::Last => {
                let limit = limit as usize;
                let scan = RowScan::last(history, log, wanted, limit, unpacked);
                *budget = budget.saturating_sub(limit);
                Scan::Rows { scan, trades_left: u64::MAX }
            }
            Op::Range => {
                let trades_left = if limit == 0 { u64::MAX } else { u64::from(limit) };
                let after = self.after_seq.map(|seq| history.ordinal_of_seq(seq.next().get()));
                let scan = if self.by_receive() {
                    RowScan::by_receive(self.behind(history, log, wanted, after))
                } else {
                    RowScan::by_event(history, wanted, after.unwrap_or(0))
                };
                Scan::Rows { scan, trades_left }
            }
            _ if history.cancels.is_settled(wanted.cut) => self.compute(history, wanted),
            _ => Scan::Settle(wanted),
        }
    }

    /// A range of receive time without the rows at its first instant that stand before this ordinal.
    fn behind<S: Storage>(
        &self,
        history: &InstrumentHistory,
        log: &Log<S>,
        mut wanted: ScanRange,
        after: Option<u64>,
    ) -> ScanRange {
        if let Some(after) = after {
            let first = self.query.from.get().saturating_add(1);
            let end = history.ordinal_of_receive(log, first).min(wanted.ordinals.end);
            wanted.ordinals.start = wanted.ordinals.start.max(after.min(end));
        }
        wanted
    }

    /// What depends on the cancellations.
    fn compute(&self, history: &InstrumentHistory, wanted: ScanRange) -> Scan {
        if self.op == Op::Count {
            return Scan::Count(CountScan::new(wanted, self.by_receive()));
        }
        let interval_ns = u64::from(self.query.limit.get()) * 1_000_000_000;
        Scan::Bars(BarScan::new(history, wanted, interval_ns))
    }

    fn end<S: Storage>(&self, context: &AnswerContext<'_, S>) -> Ended {
        let partial = self.damaged || self.touches_hole || context.is_damaged;
        let (from, to) = self.covered.map_or((0, 0), |(from, to)| (from, to.saturating_add(1)));
        let durable_seq = (!self.is_cut).then(|| context.log.durable_upstream_seq());
        let is_whole = !partial && !self.is_behind;
        let code = if self.is_behind && !partial { ErrorCode::Behind as u16 } else { 0 };
        Ended {
            id: self.query.id,
            status: if is_whole { EndStatus::Complete } else { EndStatus::Partial } as u8,
            code: U16::new(code),
            behind_ms: U32::new(self.behind_ms),
            rows: U32::new(self.rows),
            covered_from: U64::new(from),
            covered_to: U64::new(to),
            as_of: U64::new(self.cut),
            durable_seq: Seq::field(durable_seq),
            ..Ended::default()
        }
    }
}
