//! Live bars of one subscription: the machine that the client library has too, over a subscription of the inner broker.
//! Trades that a bar under way lacks are asked of the aggregator.
//!
//! # Decisions
//!
//! * Each subscription folds its own trades, and only as fast as its reader takes bars. So a slow one holds nothing but
//!   its place in the ring.

use std::collections::{BTreeMap, VecDeque};

use super::front::{Front, Ticket, Unanswered};
use crate::client::Answer;
use crate::feed::Pattern;
use crate::limits;
use crate::parse::BarInterval;
use crate::question::Question;
use crate::render::live_bar_json;
use crate::subscription::{BackfillSearch, BarPattern, Event, LiveBars, Symbols, Unfound};
use crate::time::{Mono, Now};
use crate::wire::{Flags, Frame, Gap, GapReason, Kind, Seq, SnapshotEnd};

/// One backfill that is being asked for.
#[derive(Debug)]
struct Asking {
    search: BackfillSearch,
    until: Mono,
}

/// The bars of one subscription.
#[derive(Debug)]
pub(super) struct Bars {
    machine: LiveBars,
    waiting: VecDeque<Asking>,
    asked: BTreeMap<Ticket, Asking>,
    retry_at: Mono,
}

impl Bars {
    /// Bars of this length, and the patterns to subscribe to for them.
    pub(super) fn new(
        symbols: &[Pattern],
        interval: BarInterval,
    ) -> Result<(Bars, Vec<Pattern>), String> {
        let pattern =
            |pattern: &Pattern| BarPattern { pattern: *pattern, seconds: interval.seconds() };
        let patterns: Vec<BarPattern> = symbols.iter().map(pattern).collect();
        let wanted = LiveBars::subscription(&patterns).map_err(|error| error.to_string())?;
        let machine = LiveBars::new(patterns, None);
        let (waiting, asked) = (VecDeque::new(), BTreeMap::new());
        Ok((Bars { machine, waiting, asked, retry_at: Mono::default() }, wanted))
    }

    /// When a bar may be over that no frame ends.
    pub(super) fn deadline(&self) -> Option<Mono> {
        self.machine.deadline()
    }

    /// Takes a frame of the subscription.
    pub(super) fn handle_frame(&mut self, now: Now, frame: &Frame, symbols: &Symbols) {
        let lost = |reason, from_seq, to_seq, instrument| Event::Lost {
            reason,
            from_seq,
            to_seq,
            instrument,
            missed: None,
        };
        let event = if let Some(end) = frame.view::<SnapshotEnd>() {
            Event::Live { next_seq: Seq::or_first(end.next_seq.get()) }
        } else if let Some(gap) = frame.view::<Gap>() {
            let Some(reason) = GapReason::from_number(gap.reason) else { return };
            lost(reason, gap.from_seq.get(), gap.to_seq.get(), None)
        } else if frame.kind().is_some_and(Kind::is_data) {
            if frame.has(Flags::GAP_BEFORE) && !frame.has(Flags::SNAPSHOT) {
                let seq = frame.seq.get();
                let event = lost(GapReason::SourceLost, seq, seq, Some(frame.instrument()));
                self.machine.handle_event(now, &event, symbols);
            }
            Event::Data(*frame)
        } else {
            return;
        };
        self.machine.handle_event(now, &event, symbols);
    }

    /// Bars that are over, as lines.
    pub(super) fn write(&mut self, now: Now, symbols: &Symbols, mut each: impl FnMut(&str)) {
        self.machine.handle_timers(now);
        while let Some(bar) = self.machine.poll_bar() {
            if let Some(line) = live_bar_json(&bar, symbols) {
                each(&line);
            }
        }
    }

    /// Asks for what bars under way lack. Tickets of questions that were put.
    pub(super) fn ask(
        &mut self,
        now: Now,
        front: &mut Front,
        aggregator: Option<usize>,
    ) -> Vec<Ticket> {
        while let Some(backfill) = self.machine.poll_backfill() {
            let until = now.mono + limits::BACKFILL_GIVE_UP;
            self.waiting.push_back(Asking { search: BackfillSearch::new(backfill), until });
        }
        let mut tickets = Vec::new();
        if self.retry_at > now.mono {
            return tickets;
        }
        while self.asked.len() < limits::GATEWAY_BACKFILLS_AT_ONCE
            && let Some(asking) = self.waiting.pop_front()
        {
            let Some(query) = asking.search.query() else {
                self.hand_over(now, asking.search);
                continue;
            };
            let place = aggregator.ok_or(Unanswered::Away);
            let question = Question::new(&query).map_err(|_| Unanswered::Away);
            let deadline = limits::GATEWAY_DEADLINE_DEFAULT;
            match place.and_then(|place| front.ask(now, place, question?, deadline)) {
                Ok(ticket) => {
                    self.asked.insert(ticket, asking);
                    tickets.push(ticket);
                }
                Err(_) => {
                    self.put_off(now, asking);
                    break;
                }
            }
        }
        tickets
    }

    /// All is found.
    fn hand_over(&mut self, now: Now, search: BackfillSearch) {
        let backfill = *search.backfill();
        self.machine.handle_backfill(now, &backfill, Some(&search.into_rows()));
    }

    /// Asks again later, or gives up: the bar is incomplete then.
    fn put_off(&mut self, now: Now, asking: Asking) {
        let backfill = *asking.search.backfill();
        if now.mono >= asking.until {
            self.machine.handle_backfill(now, &backfill, None);
            return;
        }
        self.retry_at = now.mono + limits::BACKFILL_RETRY;
        self.waiting.push_back(Asking { search: BackfillSearch::new(backfill), ..asking });
    }

    /// An answer to one of its questions.
    pub(super) fn handle_answer(
        &mut self,
        now: Now,
        ticket: Ticket,
        answer: Result<Answer, Unanswered>,
    ) {
        let Some(mut asking) = self.asked.remove(&ticket) else { return };
        let Ok(answer) = answer else { return self.put_off(now, asking) };
        let code = answer.code();
        match asking.search.handle_answer(&answer.rows, answer.end.as_ref(), code) {
            Ok(()) if asking.search.query().is_none() => self.hand_over(now, asking.search),
            Ok(()) => self.waiting.push_front(asking),
            Err(Unfound::NotYet) => self.put_off(now, asking),
            Err(Unfound::TooMany) => {
                self.machine.handle_backfill(now, asking.search.backfill(), None);
            }
        }
    }
}
