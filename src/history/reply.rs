//! One answer on its way out: definitions, then the rows of one instrument after the other, then its end.
//! It holds what it has to find and no rows; it is asked for a piece at a time, and each piece looks at
//! no more than its budget.

use std::ops::Range;

use super::bars::BarScan;
use super::count::CountScan;
use super::holes::Holes;
use super::index::Index;
use super::listed::{LOG_LOOK_COST, Listed, Loaded};
use super::rows::RowScan;
use super::wanted::Wanted;
use crate::limits;
use crate::log::{Log, Storage};
use crate::planted::{Bug, is_planted};
use crate::question::Denial;
use crate::wire::{
    EndStatus, Ended, ErrorCode, Flags, Frame, Kind, Op, Query, Refusal, Run, Seq, U32, U64,
};

/// An answer under way.
#[derive(Debug)]
pub(crate) struct Reply {
    query: Query,
    op: Op,
    /// Rows have a `seq` below this.
    cut: u64,
    /// Whether the asker named the cut.
    is_cut: bool,
    /// The log's epoch when it began: frames of it that a later one made void are not told.
    epoch: u32,
    /// Places in the index, by symbol.
    places: Vec<u32>,
    next_definition: usize,
    next_place: usize,
    scan: Scan,
    rows: u32,
    damaged: bool,
    /// Frames may be missing that core lost.
    touches_hole: bool,
    covered: Option<(u64, u64)>,
    pub(crate) is_short: bool,
}

/// What is done for the instrument whose turn it is.
#[derive(Debug)]
enum Scan {
    /// Cancellations are looked into first.
    Settle(Wanted),
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
pub(crate) struct Wants {
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
pub(crate) enum Filled {
    More,
    Over,
}

/// What a piece is made from and where it goes.
pub(crate) struct Desk<'a, S: Storage> {
    pub(crate) index: &'a mut Index,
    pub(crate) log: &'a Log<S>,
    pub(crate) loaded: &'a mut Loaded,
    pub(crate) out: &'a mut Vec<Frame>,
    /// Length that `out` may come to.
    pub(crate) room: usize,
    /// Entries that may still be looked at in this turn.
    pub(crate) budget: &'a mut usize,
    /// Whether the log is known to have damage.
    pub(crate) is_damaged: bool,
}

impl Reply {
    /// An answer about the instruments at these places, which are by symbol.
    ///
    /// # Errors
    /// When it would go beyond a limit, or what is asked makes no sense.
    pub(crate) fn new<S: Storage>(
        query: &Query,
        as_of: Option<Seq>,
        places: Vec<u32>,
        index: &Index,
        log: &Log<S>,
    ) -> Result<Reply, Denial> {
        let op = match Op::from_number(query.op) {
            Some(op @ (Op::Last | Op::Range | Op::Bars | Op::Count | Op::Instruments)) => op,
            _ => {
                return Err(Denial::new(
                    ErrorCode::NotOwner,
                    "a shard answers for history and nothing else",
                ));
            }
        };
        let limit = query.limit.get();
        if op == Op::Bars && !(1..=limits::BAR_SECONDS_MAX).contains(&limit) {
            return Err(Denial::new(ErrorCode::Limit, "bars are 1 second to 1 day long"));
        }
        if op == Op::Last && limit as usize > limits::ANSWER_ROWS_MAX {
            return Err(Denial::new(ErrorCode::Limit, "more rows than one answer may have"));
        }
        let next_seq = log.upstream().1;
        let mut reply = Reply {
            query: *query,
            op,
            cut: as_of.map_or(next_seq, Seq::get),
            is_cut: as_of.is_some(),
            epoch: log.epoch(),
            places,
            next_definition: 0,
            next_place: 0,
            scan: Scan::Idle,
            rows: 0,
            damaged: false,
            touches_hole: false,
            covered: None,
            is_short: false,
        };
        reply.weigh(index)?;
        Ok(reply)
    }

    /// Refuses what is too much, before any of it is done.
    fn weigh(&mut self, index: &Index) -> Result<(), Denial> {
        let (mut trades, mut rows) = (0_u64, 0_u64);
        for listed in self.places.iter().filter_map(|&place| index.at(place)) {
            let all = listed.end() - listed.start();
            let found = match self.op {
                Op::Instruments => 0,
                Op::Last => all.min(u64::from(self.query.limit.get())),
                // By receive time it takes reading to know; the entries of all time are the bound.
                _ if self.by_receive() => all,
                _ => {
                    let wanted = self.wanted_by_event(listed.start()..listed.end());
                    wanted.entries_max(listed)
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
            return Err(Denial::new(ErrorCode::Limit, "more trades than one query may look at"));
        }
        if rows > limits::SCAN_ROWS_MAX && self.op != Op::Bars {
            return Err(Denial::new(ErrorCode::Limit, "more rows than one answer may have"));
        }
        let instruments = self.places.len() as u64;
        self.is_short = trades + instruments <= limits::SHORT_SCAN_TRADES_MAX;
        Ok(())
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

    fn wanted_by_event(&self, ordinals: Range<u64>) -> Wanted {
        let (from, to) = (self.query.from.get(), self.query.to.get());
        Wanted { cut: ordinals.end, ordinals, from, to }
    }

    /// What the query wants of an instrument.
    fn wanted<S: Storage>(&self, listed: &Listed, log: &Log<S>) -> Wanted {
        let beyond = u64::from(self.is_cut && is_planted(Bug::AnswerBeyondCut)) * 16;
        let cut = listed.ordinal_of_seq(self.cut + beyond);
        let ordinals = listed.start()..cut;
        if self.op == Op::Last {
            return Wanted { ordinals, cut, from: 0, to: u64::MAX };
        }
        if !self.by_receive() {
            return self.wanted_by_event(ordinals);
        }
        let ordinal_of = |time: u64| match time {
            0 => ordinals.start,
            u64::MAX => cut,
            time => listed.ordinal_of_receive(log, time).min(cut),
        };
        let (from, to) = (self.query.from.get(), self.query.to.get());
        Wanted { ordinals: ordinal_of(from)..ordinal_of(to), cut, from: 0, to: u64::MAX }
    }

    /// Gathers the next frames.
    pub(crate) fn fill<S: Storage>(&mut self, desk: &mut Desk<'_, S>) -> Filled {
        let begun = desk.out.len();
        desk.out.push(Frame::seal(Run { id: self.query.id, ..Run::default() }));
        if self.epoch != desk.log.epoch() {
            let text = "an epoch began, and with it another history";
            desk.out.truncate(begun);
            desk.out.push(Frame::seal(Refusal::new(ErrorCode::Failed, self.id(), text)));
            return Filled::Over;
        }
        // A bar is three frames, and the end one.
        while desk.out.len() + 4 <= desk.room && *desk.budget > 0 {
            if self.next_definition < self.places.len() {
                self.define(desk);
            } else if self.next_place < self.places.len() && self.op != Op::Instruments {
                self.work(desk);
            } else {
                desk.out.push(Frame::seal(self.end(desk)));
                return Filled::Over;
            }
        }
        if desk.out.len() == begun + 1 {
            desk.out.pop();
        }
        Filled::More
    }

    /// The next definition.
    fn define<S: Storage>(&mut self, desk: &mut Desk<'_, S>) {
        let place = self.places[self.next_definition];
        self.next_definition += 1;
        *desk.budget = desk.budget.saturating_sub(1);
        let Some(listed) = desk.index.at(place) else { return };
        desk.out.push(listed.definition.delivered(Flags::SNAPSHOT));
        if self.op == Op::Instruments {
            self.rows = self.rows.saturating_add(1);
        }
    }

    /// Finds out whether what core lost may be missing from this instrument's part of the answer, and
    /// what of it is whole.
    fn look_for_holes<S: Storage>(
        &mut self,
        listed: &Listed,
        holes: &Holes,
        log: &Log<S>,
        loaded: &mut Loaded,
    ) {
        let by_receive = self.by_receive();
        let newest_from = match &self.scan {
            Scan::Rows { scan, .. } if self.op == Op::Last => {
                Some(scan.newest_from(listed, self.query.limit.get() as usize))
            }
            _ => None,
        };
        let wants = Wants {
            cut: self.cut,
            newest_from,
            from: self.query.from.get(),
            to: self.query.to.get(),
            by_receive,
            minds_cancels: matches!(self.op, Op::Bars | Op::Count),
        };
        let whole_from = holes.touched(listed, log, &wants);
        self.touches_hole |= whole_from.is_some();
        let from = whole_from.unwrap_or(0).max(listed.start());
        let ordinals = from..listed.ordinal_of_seq(self.cut);
        let times = if by_receive {
            let received = |ordinal| listed.frame(log, ordinal).map(|f| f.ts_recv.get());
            let last = ordinals.end.checked_sub(1).filter(|last| *last >= ordinals.start);
            last.and_then(|last| Some((received(ordinals.start)?, received(last)?)))
        } else {
            listed.times(log, &ordinals, loaded)
        };
        if let Some((first, last)) = times {
            let (from, to) = self.covered.unwrap_or((first, last));
            self.covered = Some((from.min(first), to.max(last)));
        }
    }

    /// Goes on with the instrument whose turn it is.
    fn work<S: Storage>(&mut self, desk: &mut Desk<'_, S>) {
        let place = self.places[self.next_place];
        if let Scan::Settle(wanted) = &self.scan
            && let Some(listed) = desk.index.at_mut(place)
        {
            listed.settle_cancels(desk.log, wanted.cut, desk.loaded, desk.budget);
            if !listed.cancels.is_settled(wanted.cut) {
                return;
            }
        }
        let Some(listed) = desk.index.at(place) else {
            self.next_place += 1;
            return;
        };
        let is_over = match &mut self.scan {
            Scan::Idle => {
                let wanted = self.wanted(listed, desk.log);
                let (log, loaded) = (desk.log, &mut *desk.loaded);
                self.scan = self.begin(listed, wanted, log, loaded, desk.budget);
                let holes = &desk.index.holes;
                self.look_for_holes(listed, holes, log, loaded);
                let cost = LOG_LOOK_COST * (1 + holes.len());
                *desk.budget = desk.budget.saturating_sub(cost);
                false
            }
            Scan::Settle(wanted) => {
                let wanted = wanted.clone();
                self.scan = self.compute(listed, wanted);
                false
            }
            Scan::Rows { scan, trades_left } => {
                match scan.next(listed, desk.log, desk.loaded, desk.budget) {
                    Some(ordinal) => {
                        *desk.budget = desk.budget.saturating_sub(LOG_LOOK_COST);
                        match listed.frame(desk.log, ordinal) {
                            Some(frame) if frame.kind == Kind::Trade as u8 && *trades_left == 0 => {
                                true
                            }
                            Some(frame) => {
                                *trades_left -= u64::from(frame.kind == Kind::Trade as u8);
                                self.rows = self.rows.saturating_add(1);
                                desk.out.push(frame);
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
                match scan.next(listed, desk.log, desk.loaded, desk.budget) {
                    Some(bar) => {
                        self.rows = self.rows.saturating_add(1);
                        desk.out.extend(bar.frames(listed.instrument));
                    }
                    None => self.damaged |= scan.damaged > 0,
                }
                scan.is_over()
            }
            Scan::Count(scan) => match scan.count(listed, desk.log, desk.loaded, desk.budget) {
                Some(counted) => {
                    self.rows = self.rows.saturating_add(1);
                    self.damaged |= scan.damaged > 0;
                    desk.out
                        .push(Frame::seal(crate::wire::Counted { id: self.query.id, ..counted }));
                    true
                }
                None => false,
            },
        };
        if is_over {
            self.scan = Scan::Idle;
            self.next_place += 1;
        }
    }

    fn begin<S: Storage>(
        &self,
        listed: &Listed,
        wanted: Wanted,
        log: &Log<S>,
        loaded: &mut Loaded,
        budget: &mut usize,
    ) -> Scan {
        let limit = self.query.limit.get();
        match self.op {
            Op::Last => {
                let limit = limit as usize;
                let scan = RowScan::last(listed, log, wanted, limit, loaded);
                *budget = budget.saturating_sub(limit);
                Scan::Rows { scan, trades_left: u64::MAX }
            }
            Op::Range => {
                let trades_left = if limit == 0 { u64::MAX } else { u64::from(limit) };
                let scan = if self.by_receive() {
                    RowScan::by_receive(wanted)
                } else {
                    RowScan::by_event(listed, wanted)
                };
                Scan::Rows { scan, trades_left }
            }
            _ if listed.cancels.is_settled(wanted.cut) => self.compute(listed, wanted),
            _ => Scan::Settle(wanted),
        }
    }

    /// What depends on the cancellations.
    fn compute(&self, listed: &Listed, wanted: Wanted) -> Scan {
        if self.op == Op::Count {
            return Scan::Count(CountScan::new(wanted, self.by_receive()));
        }
        let interval_ns = u64::from(self.query.limit.get()) * 1_000_000_000;
        Scan::Bars(BarScan::new(listed, wanted, interval_ns))
    }

    fn end<S: Storage>(&self, desk: &Desk<'_, S>) -> Ended {
        let partial = self.damaged || self.touches_hole || desk.is_damaged;
        let (from, to) = self.covered.map_or((0, 0), |(from, to)| (from, to.saturating_add(1)));
        let durable_seq = if self.is_cut { 0 } else { desk.log.durable_upstream_seq() };
        Ended {
            id: self.query.id,
            status: if partial { EndStatus::Partial } else { EndStatus::Complete } as u8,
            rows: U32::new(self.rows),
            covered_from: U64::new(from),
            covered_to: U64::new(to),
            as_of: U64::new(self.cut),
            durable_seq: U64::new(durable_seq),
            ..Ended::default()
        }
    }
}
