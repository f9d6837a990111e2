//! The machine behind a subscription: keeps the place in the sequence, notices every loss, and decides
//! whether the next frames come from the broker or from history.

use super::Symbols;
use crate::feed::Pattern;
use crate::planted::{Bug, is_planted};
use crate::time::Mono;
use crate::wire::{
    Flags, Frame, Gap, GapReason, Heartbeat, Kind, Mode, Op, Query, SnapshotEnd, Subscribe,
    Subscribed, U16, U32, U64, padded,
};

/// What a caller subscribes to.
#[derive(Clone, Debug)]
pub struct Request {
    /// The source; [`Request::MARKET`] for the market.
    pub source: u8,
    /// At least one.
    pub patterns: Vec<Pattern>,
    /// What happens when the caller is too slow.
    pub mode: Mode,
    /// For [`Mode::Conflate`], in milliseconds.
    pub conflate_ms: u32,
    /// First `seq` wanted; 0 = live, beginning with a snapshot.
    pub from_seq: u64,
}

impl Request {
    /// The source that core publishes as.
    pub const MARKET: u8 = 1;
}

/// What the caller is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A data frame. Its delivery flags say whether it is live, from a snapshot or from history.
    Data(Frame),
    /// The snapshot is complete; what follows is newer.
    Live,
    /// Frames that this subscription will not get, and why.
    Lost {
        /// Why.
        reason: GapReason,
        /// First missing.
        from_seq: u64,
        /// Last missing.
        to_seq: u64,
    },
}

/// What the machine wants its shell to read from next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// Frames of the broker, subscribed from this `seq` (0 = snapshot).
    Broker {
        /// To subscribe with after a reconnect.
        from_seq: u64,
    },
    /// Frames `from_seq..to_seq` of core's history, before any further frame of the broker.
    History {
        /// First.
        from_seq: u64,
        /// Behind the last.
        to_seq: u64,
    },
}

/// The machine.
#[derive(Debug)]
pub struct Follower {
    request: Request,
    symbols: Symbols,
    wants_system: bool,
    epoch: u32,
    epoch_start: u64,
    /// The broker goes on behind frames that a new epoch made void, and that have to come again.
    is_misplaced: bool,
    /// The next `seq` to deliver; 0 before it is known.
    next_seq: u64,
    history_to: Option<u64>,
    last_heard: Mono,
    is_raw: bool,
    matched: Option<u32>,
}

impl Follower {
    /// A follower of this request.
    #[must_use]
    pub fn new(request: Request) -> Follower {
        let wants_system = request.patterns.iter().any(|pattern| pattern.text().starts_with('$'));
        let is_raw = request.patterns.iter().any(Pattern::is_everything);
        Follower {
            next_seq: request.from_seq,
            request,
            symbols: Symbols::default(),
            wants_system,
            epoch: 0,
            epoch_start: 0,
            is_misplaced: false,
            history_to: None,
            last_heard: Mono::default(),
            is_raw,
            matched: None,
        }
    }

    /// Names of the instruments seen so far.
    #[must_use]
    pub fn symbols(&self) -> &Symbols {
        &self.symbols
    }

    /// How many instruments matched when the broker confirmed the subscription.
    #[must_use]
    pub fn matched(&self) -> Option<u32> {
        self.matched
    }

    /// The next `seq` to deliver: what to resume from.
    #[must_use]
    pub fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// What to read from next.
    #[must_use]
    pub fn want(&self) -> Want {
        match self.history_to {
            Some(to_seq) => Want::History { from_seq: self.next_seq, to_seq },
            // Only a lossless reader goes back; the others begin again with the present.
            None if self.request.mode == Mode::Lossless => Want::Broker { from_seq: self.next_seq },
            None => Want::Broker { from_seq: 0 },
        }
    }

    /// The frames that subscribe from `from_seq` on.
    #[must_use]
    pub fn subscribe_frames(&self, from_seq: u64) -> Vec<Subscribe> {
        let last = self.request.patterns.len().saturating_sub(1);
        let frame = |(index, pattern): (usize, &Pattern)| Subscribe {
            flags: U16::new(if index < last { Flags::MORE } else { 0 }),
            id: U32::new(1),
            source: self.request.source,
            mode: self.request.mode as u8,
            kinds: U16::new(if pattern.kinds() == u16::MAX { 0 } else { pattern.kinds() }),
            conflate_ms: U32::new(self.request.conflate_ms),
            from_seq: U64::new(from_seq),
            pattern: padded(&pattern.text()),
            ..Subscribe::default()
        };
        self.request.patterns.iter().enumerate().map(frame).collect()
    }

    /// The query for a piece of history. Several patterns are asked for as one `*` and sorted out here:
    /// a query has room for one.
    #[must_use]
    pub fn history_query(&self, from_seq: u64, to_seq: u64, deadline_us: u32) -> Query {
        let only = match self.request.patterns.as_slice() {
            [one] if one.text().len() <= 24 => Some(one),
            _ => None,
        };
        let kinds = only.map_or(0, Pattern::kinds);
        Query {
            id: U32::new(1),
            op: Op::Replay as u8,
            options: Query::PARTIAL,
            kinds: U16::new(if kinds == u16::MAX { 0 } else { kinds }),
            deadline_us: U32::new(deadline_us),
            limit: U32::new(u32::MAX),
            symbol: padded(&only.map_or("*".to_owned(), Pattern::text)),
            from: U64::new(from_seq),
            to: U64::new(to_seq),
            ..Query::default()
        }
    }

    /// A checked frame of the broker.
    pub fn handle_broker_frame(&mut self, frame: &Frame) -> Option<Event> {
        if let Some(subscribed) = frame.view::<Subscribed>() {
            return self.handle_subscribed(subscribed);
        }
        if let Some(end) = frame.view::<SnapshotEnd>() {
            let first = self.next_seq == 0 || self.request.mode != Mode::Lossless;
            let missed_from = std::mem::replace(&mut self.next_seq, end.next_seq.get());
            if missed_from != 0 && missed_from < end.next_seq.get() && first {
                let (from_seq, to_seq) = (missed_from, end.next_seq.get() - 1);
                return Some(Event::Lost { reason: GapReason::Skipped, from_seq, to_seq });
            }
            self.next_seq = self.next_seq.max(missed_from);
            return Some(Event::Live);
        }
        if let Some(gap) = frame.view::<Gap>() {
            return self.handle_gap(gap);
        }
        if let Some(beat) = frame.view::<Heartbeat>() {
            // The broker states where its next frame for us will be at the earliest.
            if self.next_seq != 0 {
                self.next_seq = self.next_seq.max(beat.next_seq.get());
            }
            return None;
        }
        if !frame.kind().is_some_and(Kind::is_data) {
            return None;
        }
        self.symbols.note(frame);
        if frame.has(Flags::SNAPSHOT) {
            return self.wants(frame).then_some(Event::Data(*frame));
        }
        self.handle_live(frame)
    }

    fn handle_live(&mut self, frame: &Frame) -> Option<Event> {
        let seq = frame.seq.get();
        if seq < self.next_seq {
            return None;
        }
        self.next_seq = if is_planted(Bug::ResumeFromSeq) { seq } else { seq.saturating_add(1) };
        self.wants(frame).then_some(Event::Data(*frame))
    }

    fn handle_subscribed(&mut self, subscribed: &Subscribed) -> Option<Event> {
        let (epoch, mut start) = (subscribed.epoch.get(), subscribed.epoch_start.get());
        self.matched = Some(subscribed.matched.get());
        let known = std::mem::replace(&mut self.epoch, epoch);
        let known_start = std::mem::replace(&mut self.epoch_start, start);
        if epoch.saturating_sub(known) > 1 {
            // Where a missed epoch began is not known, but it was not before the one known here.
            start = start.min(known_start);
        }
        if known == 0 || known == epoch || self.next_seq <= start {
            return None;
        }
        let to_seq = self.next_seq - 1;
        self.next_seq = start;
        self.is_misplaced = true;
        Some(Event::Lost { reason: GapReason::Void, from_seq: start, to_seq })
    }

    /// Whether the broker goes on at a place that this follower has just been taken back from: the
    /// shell then leaves this connection and subscribes again.
    #[must_use]
    pub fn must_subscribe_again(&self) -> bool {
        self.is_misplaced
    }

    fn handle_gap(&mut self, gap: &Gap) -> Option<Event> {
        let (from_seq, to_seq) = (gap.from_seq.get(), gap.to_seq.get());
        let reason = GapReason::from_number(gap.reason)?;
        match reason {
            GapReason::Lapped | GapReason::BeforeRing if self.request.mode == Mode::Lossless => {
                if to_seq >= self.next_seq && to_seq < u64::MAX {
                    self.history_to = Some(to_seq + 1);
                }
                None
            }
            // The values that stand for what was left out follow, with a `seq` inside the gap.
            GapReason::Skipped => Some(Event::Lost { reason, from_seq, to_seq }),
            GapReason::Void => {
                self.next_seq = self.next_seq.min(from_seq);
                Some(Event::Lost { reason, from_seq, to_seq })
            }
            _ => {
                self.next_seq = self.next_seq.max(to_seq.saturating_add(1));
                Some(Event::Lost { reason, from_seq, to_seq })
            }
        }
    }

    /// A checked data frame of core's history.
    pub fn handle_history_frame(&mut self, frame: &Frame) -> Option<Event> {
        self.symbols.note(frame);
        if frame.has(Flags::SNAPSHOT) {
            // Definitions ahead of the replay: names, not events of the asked span.
            return None;
        }
        if self.history_to.is_some_and(|to| frame.seq.get() >= to) {
            return None;
        }
        self.handle_live(frame)
    }

    /// Core has sent all that it has of the piece. What is still missing does not exist any more:
    /// `first_held` is the oldest `seq` that core still has.
    pub fn handle_history_end(&mut self, first_held: u64) -> Option<Event> {
        let to_seq = self.history_to.take()?;
        let from_seq = self.next_seq;
        self.next_seq = self.next_seq.max(to_seq);
        let lost_to = first_held.min(to_seq);
        (from_seq < lost_to).then(|| Event::Lost {
            reason: GapReason::SourceLost,
            from_seq,
            to_seq: lost_to - 1,
        })
    }

    /// The connection to the broker is gone: what was asked of history is asked again on the next one.
    pub fn handle_broker_lost(&mut self) {
        self.is_misplaced = false;
        self.history_to = None;
    }

    /// Core says that a piece of its history cannot be read.
    pub fn handle_history_gap(&mut self, gap: &Gap) -> Option<Event> {
        let (from_seq, to_seq) = (gap.from_seq.get(), gap.to_seq.get());
        if to_seq < self.next_seq || to_seq == u64::MAX {
            return None;
        }
        self.next_seq = to_seq + 1;
        Some(Event::Lost { reason: GapReason::from_number(gap.reason)?, from_seq, to_seq })
    }

    fn wants(&self, frame: &Frame) -> bool {
        let symbol = self.symbols.symbol(frame.instrument.get());
        let Some(symbol) = symbol else { return self.is_raw };
        if symbol.as_str().starts_with('$') && !self.wants_system {
            return false;
        }
        let bit = frame.kind().map_or(0, Kind::mask);
        let is_definition = frame.kind == Kind::Definition as u8;
        self.request
            .patterns
            .iter()
            .any(|pattern| pattern.matches(symbol) && (is_definition || pattern.kinds() & bit != 0))
    }

    /// Notes when the broker was last heard; [`Follower::is_silent`] compares with it.
    pub fn heard(&mut self, now: Mono) {
        self.last_heard = now;
    }

    /// Whether the broker has been silent for so long that it must be dead.
    #[must_use]
    pub fn is_silent(&self, now: Mono) -> bool {
        now.since(self.last_heard) > crate::limits::SILENCE_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Definition, Quote, Trade};

    fn follower(pattern: &str, kinds: u16, from_seq: u64) -> Follower {
        let patterns = vec![Pattern::new(pattern, kinds).unwrap()];
        let mut follower = Follower::new(Request {
            source: Request::MARKET,
            patterns,
            mode: Mode::Lossless,
            conflate_ms: 0,
            from_seq,
        });
        for (index, name) in [(1, "PETR4"), (2, "$sys.breaker")] {
            let definition = Definition::new(index, name.parse().unwrap(), 2);
            follower.handle_broker_frame(&Frame::seal(definition).delivered(Flags::SNAPSHOT));
        }
        follower
    }

    fn trade(seq: u64, index: u32) -> Frame {
        let (seq, instrument) = (U64::new(seq), U32::new(index));
        Frame::seal(Trade { seq, instrument, ..Trade::default() })
    }

    fn subscribed(epoch: u32, epoch_start: u64, next_seq: u64) -> Frame {
        Frame::seal(Subscribed {
            epoch: U32::new(epoch),
            epoch_start: U64::new(epoch_start),
            next_seq: U64::new(next_seq),
            ..Subscribed::default()
        })
    }

    fn gap(reason: GapReason, from_seq: u64, to_seq: u64) -> Frame {
        let (from_seq, to_seq) = (U64::new(from_seq), U64::new(to_seq));
        Frame::seal(Gap { reason: reason as u8, from_seq, to_seq, ..Gap::default() })
    }

    #[test]
    fn a_gap_is_filled_from_history_before_the_feed_goes_on() {
        let mut follower = follower("*", 0, 1);
        assert!(follower.handle_broker_frame(&gap(GapReason::BeforeRing, 1, 9)).is_none());
        assert_eq!(follower.want(), Want::History { from_seq: 1, to_seq: 10 });
        for seq in 1..10 {
            assert!(follower.handle_history_frame(&trade(seq, 1)).is_some());
        }
        assert!(follower.handle_history_frame(&trade(10, 1)).is_none(), "that one the broker has");
        assert_eq!(follower.handle_history_end(1), None);
        assert_eq!(follower.want(), Want::Broker { from_seq: 10 });
        assert_eq!(follower.handle_broker_frame(&trade(10, 1)), Some(Event::Data(trade(10, 1))));
    }

    #[test]
    fn what_history_does_not_have_is_announced() {
        let mut follower = follower("*", 0, 1);
        follower.handle_broker_frame(&gap(GapReason::BeforeRing, 1, 9));
        let lost = Event::Lost { reason: GapReason::SourceLost, from_seq: 1, to_seq: 4 };
        assert_eq!(follower.handle_history_end(5), Some(lost));
        assert_eq!(follower.next_seq(), 10);
    }

    #[test]
    fn values_behind_what_was_skipped_are_delivered() {
        for mode in [Mode::Conflate, Mode::Latest] {
            let mut follower = follower("*", 0, 0);
            follower.request.mode = mode;
            let end = SnapshotEnd { next_seq: U64::new(10), ..SnapshotEnd::default() };
            follower.handle_broker_frame(&Frame::seal(end));
            let lost = Event::Lost { reason: GapReason::Skipped, from_seq: 10, to_seq: 20 };
            let gap = gap(GapReason::Skipped, 10, 20);
            assert_eq!(follower.handle_broker_frame(&gap), Some(lost));
            for seq in [15, 18, 21] {
                assert!(follower.handle_broker_frame(&trade(seq, 1)).is_some(), "{mode:?} {seq}");
            }
            assert_eq!(follower.next_seq(), 22);
        }
    }

    #[test]
    fn a_frame_seen_before_the_break_is_not_told_twice() {
        let mut follower = follower("*", 0, 0);
        let end = SnapshotEnd { next_seq: U64::new(5), ..SnapshotEnd::default() };
        assert_eq!(follower.handle_broker_frame(&Frame::seal(end)), Some(Event::Live));
        assert!(follower.handle_broker_frame(&trade(5, 1)).is_some());
        follower.handle_broker_lost();
        assert_eq!(follower.want(), Want::Broker { from_seq: 6 });
        assert!(follower.handle_broker_frame(&trade(5, 1)).is_none());
        assert!(follower.handle_broker_frame(&trade(6, 1)).is_some());
    }

    #[test]
    fn a_new_epoch_voids_what_was_seen_beyond_its_start() {
        let mut follower = follower("*", 0, 1);
        follower.handle_broker_frame(&subscribed(1, 1, 20));
        for seq in 1..20 {
            follower.handle_broker_frame(&trade(seq, 1));
        }
        let void = Event::Lost { reason: GapReason::Void, from_seq: 15, to_seq: 19 };
        assert_eq!(follower.handle_broker_frame(&subscribed(2, 15, 18)), Some(void));
        assert!(follower.must_subscribe_again(), "the broker would go on at 20");
        follower.handle_broker_lost();
        assert_eq!(follower.want(), Want::Broker { from_seq: 15 });
        assert!(!follower.must_subscribe_again());
    }

    #[test]
    fn a_missed_epoch_may_have_begun_anywhere() {
        let mut follower = follower("*", 0, 1);
        follower.handle_broker_frame(&subscribed(4, 8, 9));
        for seq in 1..20 {
            follower.handle_broker_frame(&trade(seq, 1));
        }
        let void = Event::Lost { reason: GapReason::Void, from_seq: 8, to_seq: 19 };
        assert_eq!(follower.handle_broker_frame(&subscribed(6, 18, 18)), Some(void));
    }

    #[test]
    fn the_raw_feed_is_freed_of_what_nobody_asked_for() {
        let mut market = follower("*", 0, 1);
        assert!(market.handle_broker_frame(&trade(1, 2)).is_none(), "a system topic");
        assert_eq!(market.next_seq(), 2, "but its place in the sequence counts");
        let mut system = follower("$sys.*", 0, 1);
        assert!(system.handle_broker_frame(&trade(1, 2)).is_some());
        let mut quotes = follower("*", Kind::Quote.mask(), 1);
        assert!(quotes.handle_broker_frame(&trade(1, 1)).is_none());
        let quote = Quote { seq: U64::new(2), instrument: U32::new(1), ..Quote::default() };
        assert!(quotes.handle_broker_frame(&Frame::seal(quote)).is_some());
    }

    #[test]
    fn a_heartbeat_moves_the_place_over_frames_of_others() {
        let mut follower = follower("PETR4", 0, 5);
        let beat = Heartbeat { next_seq: U64::new(90), ..Heartbeat::default() };
        assert!(follower.handle_broker_frame(&Frame::seal(beat)).is_none());
        assert_eq!(follower.want(), Want::Broker { from_seq: 90 });
    }
}
