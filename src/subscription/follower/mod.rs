//! The machine behind a subscription: keeps the place in the sequence, notices every loss, and decides
//! whether the next frames come from the broker or from history.
//!
//! # Decisions
//!
//! * A client checks what it receives. `seq` shows a follower of everything each hole. `instrument_seq`
//!   shows a watch list the holes of each instrument. An unannounced hole is asked of core's journal before
//!   the frame that showed it is delivered. What nobody has is reported with its size: by the broker's
//!   count, or, per instrument, with the next frame of that instrument.
//! * The end of a sequence has no next frame. There a follower of everything compares with the broker's
//!   heartbeat, which states the place. A watch list trusts that heartbeat. To check it, thousands of quiet
//!   readers would make core scan its journal again and again.

mod asking;
mod feed_state;
mod losses;
mod snapshot;
mod wanted;

use std::collections::VecDeque;

use self::feed_state::FeedState;
use self::losses::Losses;
use super::Symbols;
use crate::feed::Pattern;
use crate::planted::{Bug, is_planted};
use crate::wire::{
    Ended, ExchangeNumber, FeedStates, FeedStatus, Flags, Frame, Gap, GapReason, Heartbeat,
    InstrumentId, Kind, Mode, Seq, SnapshotEnd, Subscribed,
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
    /// First `seq` wanted; `None` = live, beginning with a snapshot.
    pub from_seq: Option<Seq>,
}

impl Request {
    /// The source that core publishes as.
    pub const MARKET: u8 = 1;

    /// These instruments and kinds of the market, live, beginning with a snapshot, and lossless.
    #[must_use]
    pub fn market(patterns: Vec<Pattern>) -> Request {
        let mode = Mode::Lossless;
        Request { source: Request::MARKET, patterns, mode, conflate_ms: 0, from_seq: None }
    }
}

/// The events of a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A data frame. Its delivery flags say whether it is live, from a snapshot or from history.
    Data(Frame),
    /// The snapshot, if one was asked for, is complete; what follows is newer.
    Live {
        /// Where the sequence begins, or goes on.
        next_seq: Seq,
    },
    /// What comes from now on may be late or may not come: the exchange, core, or a connection on the way from
    /// there is away. What was delivered stands, and is not known to be current any more.
    Stale,
    /// The feed has ended, as a tape does: nothing more comes. What was delivered stands, and its last values are
    /// the last that there are.
    Ended,
    /// The feed is current again, after [`Event::Stale`], or goes on, after [`Event::Ended`]. What is missing is not lost by that: it comes, or is
    /// reported.
    Current,
    /// The same of one exchange, where it differs from what is known of all of them together. A frame says which exchange
    /// sent it ([`Frame::exchange`]).
    Exchange {
        /// Which one.
        exchange: ExchangeNumber,
        /// What is known of its last values.
        status: FeedStatus,
    },
    /// Frames that this subscription will not get, and why.
    ///
    /// A loss is reported where it lies in the sequence, as soon as it is known. What it cost is often known
    /// only later, when the next frame of an instrument shows by its `instrument_seq` how many of its
    /// frames were missed: that part follows as a further loss that names the `instrument`. No frame
    /// is counted twice, so the sum of `missed` is what is known to be missing.
    Lost {
        /// Why. What a new epoch made void ([`GapReason::Void`]) is to be taken back, and comes again.
        reason: GapReason,
        /// First `seq` of the gap.
        from_seq: u64,
        /// Last `seq` of the gap.
        to_seq: u64,
        /// The one instrument whose part of a loss this is; `None` for the whole subscription.
        instrument: Option<InstrumentId>,
        /// Frames of this subscription in the gap that are missing; `None` when it is not known yet.
        missed: Option<u64>,
    },
}

/// A loss of the whole subscription.
fn lost(reason: GapReason, from_seq: u64, to_seq: u64, missed: Option<u64>) -> Event {
    Event::Lost { reason, from_seq, to_seq, instrument: None, missed }
}

/// A piece of history that is asked for.
#[derive(Clone, Copy, Debug)]
struct HistoryRange {
    from_seq: Seq,
    to_seq: Seq,
    /// The frame of the broker that showed the hole; it follows behind the piece.
    held: Option<Frame>,
    /// Frames whose absence the piece's own frames have shown, and which no reported loss explains.
    missed: u64,
}

/// What the machine wants its shell to read from next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextRead {
    /// Frames of the broker, subscribed from this `seq` (`None` = snapshot).
    Broker {
        /// To subscribe with after a reconnect.
        from_seq: Option<Seq>,
    },
    /// Frames `from_seq..to_seq` of core's history, before any further frame of the broker.
    History {
        /// First.
        from_seq: Seq,
        /// Behind the last.
        to_seq: Seq,
    },
}

/// The machine.
#[derive(Debug)]
pub struct Follower {
    request: Request,
    symbols: Symbols,
    wants_system: bool,
    /// The epoch, by identity, under which it has what is before its place; 0 = it was told none.
    feed: u64,
    epoch: u32,
    epoch_start: Option<Seq>,
    /// The broker goes on behind frames that a new epoch made void, and that have to come again.
    is_misplaced: bool,
    /// The next `seq` to deliver; `None` before it is known.
    next_seq: Option<Seq>,
    /// Behind the last frame that came, or that is known not to be ours: a hole begins here at the earliest.
    seen_seq: Option<Seq>,
    history_range: Option<HistoryRange>,
    /// Holes before this were looked up in history already.
    checked_seq: Option<Seq>,
    losses: Losses,
    /// Frames that a snapshot's values have stepped over.
    skipped: u64,
    /// The snapshot of this connection has come to its end.
    is_live: bool,
    is_raw: bool,
    matched: Option<u32>,
    freshness: FeedState,
    events: VecDeque<Event>,
}

impl Follower {
    /// A follower of this request.
    #[must_use]
    pub fn new(request: Request) -> Follower {
        let wants_system = request.patterns.iter().any(|pattern| pattern.text().starts_with('$'));
        let is_raw = request.patterns.iter().any(Pattern::is_everything);
        Follower {
            next_seq: request.from_seq,
            seen_seq: request.from_seq,
            request,
            symbols: Symbols::default(),
            wants_system,
            feed: 0,
            epoch: 0,
            epoch_start: None,
            is_misplaced: false,
            history_range: None,
            checked_seq: None,
            losses: Losses::default(),
            skipped: 0,
            is_live: false,
            is_raw,
            matched: None,
            freshness: FeedState::default(),
            events: VecDeque::new(),
        }
    }

    /// Whether the feed is known not to be current: the last that was said of it.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        self.freshness.states().all == FeedStatus::Stale
    }

    /// What is known of the last values of each exchange: the last that was said.
    #[must_use]
    pub fn states(&self) -> FeedStates {
        self.freshness.states()
    }

    /// The next event for the caller. To be emptied after each input: a frame makes a few events at most.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Whether there is an event.
    #[must_use]
    pub fn has_events(&self) -> bool {
        !self.events.is_empty()
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

    /// The next `seq` to deliver: what to resume from. `None` before it is known.
    #[must_use]
    pub fn next_seq(&self) -> Option<Seq> {
        self.next_seq
    }

    /// What it says in its sessions that it expects next. `None` until a subscription of it was confirmed: it has
    /// nothing before that.
    #[must_use]
    pub fn expected_seq(&self) -> Option<Seq> {
        self.next_seq.filter(|_| self.matched.is_some())
    }

    /// The epoch under which it has what is before its place, by identity and number: what it says in its
    /// sessions, so that nobody goes on with another sequence. 0, 0 before it was told.
    #[must_use]
    pub fn epoch(&self) -> (u64, u32) {
        (self.feed, self.epoch)
    }

    /// What to read from next.
    #[must_use]
    pub fn next_read(&self) -> NextRead {
        match self.history_range {
            Some(HistoryRange { from_seq, to_seq, .. }) => {
                NextRead::History { from_seq: self.next_seq.unwrap_or(from_seq), to_seq }
            }
            // Only a lossless reader goes back; the others begin again with the present.
            None if self.request.mode == Mode::Lossless => {
                NextRead::Broker { from_seq: self.next_seq }
            }
            None => NextRead::Broker { from_seq: None },
        }
    }

    /// A checked frame of the broker. Not to be called while history is wanted.
    pub fn handle_broker_frame(&mut self, frame: &Frame) {
        if let Some(subscribed) = frame.view::<Subscribed>() {
            self.handle_subscribed(subscribed);
        } else if let Some(end) = frame.view::<SnapshotEnd>() {
            self.handle_snapshot_end(Seq::or_first(end.next_seq.get()));
        } else if let Some(gap) = frame.view::<Gap>() {
            self.handle_gap(gap);
        } else if let Some(beat) = frame.view::<Heartbeat>() {
            self.handle_heartbeat(Seq::from_field(beat.next_seq));
            // Unasked and asking for nothing: the broker's word about the feed.
            if beat.token.get() == 0 && beat.flags.get() & Flags::MORE == 0 {
                self.freshness.note_broker(FeedStates::of(beat));
                self.events.extend(self.freshness.poll());
            }
        } else if frame.kind().is_some_and(Kind::is_data) {
            self.symbols.note(frame);
            if frame.has(Flags::SNAPSHOT) {
                self.handle_snapshot_value(frame);
            } else {
                self.handle_live(frame);
            }
        }
    }

    fn is_lossless(&self) -> bool {
        self.request.mode == Mode::Lossless
    }

    /// Whether it goes back to history. Only the market has one: core's journal has other frames under the numbers
    /// of another source.
    fn fills_gaps(&self) -> bool {
        self.is_lossless() && self.request.source == Request::MARKET
    }

    /// The broker states where its next frame for us will be at the earliest. For a watch list that is
    /// its word that the frames before were not ours. A follower of everything has had them all, or
    /// has lost the tail, and would not learn it before the next frame.
    fn handle_heartbeat(&mut self, stated: Option<Seq>) {
        let (Some(next_seq), Some(stated)) = (self.next_seq, stated) else { return };
        if stated <= next_seq {
            return;
        }
        if self.is_raw && self.fills_gaps() {
            self.look_up(next_seq, stated, None);
        } else {
            self.next_seq = Some(stated);
        }
    }

    /// Asks history for `from_seq..to_seq`; what `held` is comes behind it.
    fn look_up(&mut self, from_seq: Seq, to_seq: Seq, held: Option<Frame>) {
        self.next_seq = Some(from_seq);
        self.checked_seq = Some(to_seq);
        self.history_range = Some(HistoryRange { from_seq, to_seq, held, missed: 0 });
    }

    /// A frame of the sequence, from the broker.
    fn handle_live(&mut self, frame: &Frame) {
        let seq = Seq::from_field(frame.seq);
        if seq < self.next_seq {
            return;
        }
        let wanted = self.wants(frame);
        let hole = if wanted { self.losses.hole_before(frame) } else { None };
        if self.fills_gaps()
            && seq > self.checked_seq
            && let Some(to_seq) = seq
        {
            let torn_from = self.next_seq.filter(|&next| self.is_raw && next < to_seq);
            let unexplained = hole.filter(|hole| hole.reported.is_none());
            let hole_from = unexplained.and_then(|hole| self.seen_seq.max(Some(hole.from_seq)));
            let from_seq = torn_from.or(hole_from.filter(|&from| from < to_seq));
            if let Some(from_seq) = from_seq {
                self.look_up(from_seq, to_seq, Some(*frame));
                return;
            }
        }
        self.deliver(frame, wanted);
    }

    /// Delivers the next frame, and reports what is missing before it.
    fn deliver(&mut self, frame: &Frame, wanted: bool) {
        let seq = frame.seq.get();
        let is_wrong = is_planted(Bug::ResumeFromSeq);
        self.next_seq = if is_wrong { Seq::new(seq) } else { Some(Seq::behind(seq)) };
        self.seen_seq = self.next_seq;
        if !wanted {
            return;
        }
        self.hand_out(frame);
    }

    /// Tells the caller of a frame, and what of its instrument is missing before it.
    fn hand_out(&mut self, frame: &Frame) {
        if let Some(hole) = self.losses.hole_before(frame) {
            match (hole.reported, &mut self.history_range) {
                (Some(reported), _) if reported.is_counted => {}
                // Why is known only at the end of the piece.
                (None, Some(history_range)) => history_range.missed += hole.missed,
                (reported, _) => self.events.push_back(Event::Lost {
                    reason: reported.map_or(self.unexplained(), |reported| reported.reason),
                    from_seq: hole.from_seq.get(),
                    to_seq: hole.to_seq,
                    instrument: Some(frame.instrument()),
                    missed: Some(hole.missed),
                }),
            }
        }
        self.losses.note(frame);
        self.events.push_back(Event::Data(*frame));
    }

    /// What to call a hole that nobody announced and that history cannot fill.
    fn unexplained(&self) -> GapReason {
        if self.is_lossless() { GapReason::SourceLost } else { GapReason::Skipped }
    }

    fn handle_subscribed(&mut self, subscribed: &Subscribed) {
        let (epoch, mut start) = (subscribed.epoch.get(), Seq::from_field(subscribed.epoch_start));
        self.matched = Some(subscribed.matched.get());
        let known = std::mem::replace(&mut self.epoch, epoch);
        let known_start = std::mem::replace(&mut self.epoch_start, start);
        if epoch.saturating_sub(known) > 1 {
            // Where a missed epoch began is not known, but it was not before the one known here.
            start = start.min(known_start);
        }
        let known_feed = std::mem::replace(&mut self.feed, subscribed.feed.get());
        // A broker that was told our epoch has said what of it is void. Numbers alone could not.
        let was_told = known_feed != 0 && self.feed != 0;
        if known == 0 || known == epoch || was_told || self.next_seq <= start {
            return;
        }
        let to_seq = Seq::number(self.next_seq.and_then(Seq::previous));
        self.go_back_to(start);
        self.is_misplaced = true;
        self.events.push_back(lost(GapReason::Void, Seq::number(start), to_seq, None));
    }

    /// Everything from `seq` on is void, its numbers come again.
    fn go_back_to(&mut self, seq: Option<Seq>) {
        self.next_seq = self.next_seq.min(seq);
        self.seen_seq = self.seen_seq.min(seq);
        self.checked_seq = self.checked_seq.min(seq);
        self.losses.forget_from(Seq::number(seq));
    }

    /// Whether the broker goes on at a place that this follower has just been taken back from, or that
    /// core has taken back: the shell then leaves this connection and subscribes again.
    #[must_use]
    pub fn must_subscribe_again(&self) -> bool {
        self.is_misplaced
    }

    fn handle_gap(&mut self, gap: &Gap) {
        let (from_seq, to_seq) = (gap.from_seq.get(), gap.to_seq.get());
        let missed = Some(gap.missed.get()).filter(|&missed| missed != u64::MAX);
        let Some(reason) = GapReason::from_number(gap.reason) else { return };
        match reason {
            GapReason::Lapped | GapReason::BeforeRing if self.fills_gaps() => {
                // Who has no place yet was promised nothing from before the gap.
                let begin = self.next_seq.unwrap_or(Seq::or_first(from_seq));
                if to_seq >= begin.get() && to_seq < u64::MAX {
                    self.look_up(begin, Seq::behind(to_seq), None);
                }
                return;
            }
            // The values that stand for what was left out follow, with a `seq` inside the gap.
            GapReason::Skipped => {}
            GapReason::Void => {
                self.go_back_to(Seq::new(from_seq));
                self.events.push_back(lost(reason, from_seq, to_seq, None));
                return;
            }
            _ => {
                self.next_seq = self.next_seq.max(Some(Seq::behind(to_seq)));
                self.seen_seq = self.seen_seq.max(self.next_seq);
            }
        }
        self.losses.note_reported(reason, from_seq, to_seq, missed.is_some());
        self.events.push_back(lost(reason, from_seq, to_seq, missed));
    }

    /// Core states in which epoch it answers, and where that began. A later epoch than the broker's may have
    /// taken back a part of the piece, and with it whatever the broker has sent behind it. Core would
    /// then end before the piece does, or have other frames in it, and the rest would look lost. So the piece
    /// is not read: the shell subscribes again at the broker, which learns of the epoch too.
    pub fn handle_history_session(&mut self, epoch: u32, epoch_start: Option<Seq>) {
        self.freshness.note_history(false);
        self.events.extend(self.freshness.poll());
        let Some(history_range) = self.history_range else { return };
        if self.epoch == 0 || epoch <= self.epoch {
            return;
        }
        let is_next = epoch - self.epoch == 1;
        // Where a missed epoch began is not known, but it was not before the one known here.
        let start = if is_next { epoch_start } else { epoch_start.min(self.epoch_start) };
        self.is_misplaced |= start < Some(history_range.to_seq);
    }

    /// A checked data frame of core's history.
    pub fn handle_history_frame(&mut self, frame: &Frame) {
        let Some(history_range) = self.history_range else { return };
        let is_news = self.symbols.note(frame);
        let due = self.next_seq..Some(history_range.to_seq);
        // A definition ahead of the replay is a name, not an event of the asked span. Who does not know it is told: its own
        // place may be in what the journal has removed, and frames of the instrument follow.
        if frame.has(Flags::SNAPSHOT) && is_news && !self.is_misplaced && self.wants(frame) {
            self.events.push_back(Event::Data(*frame));
        }
        if !frame.has(Flags::SNAPSHOT) && due.contains(&Seq::from_field(frame.seq)) {
            self.deliver(frame, self.wants(frame));
        }
    }

    /// Core has sent all that it has of the piece. What is still missing does not exist any more: `covered_from` is
    /// the oldest `seq` that core still has.
    ///
    /// A journal that ends before the piece does (`as_of`) has no frames there yet, and whoever told of some did not
    /// have them from core. They are not lost: the follower goes on at the journal's end, and the shell subscribes
    /// again.
    pub fn handle_history_end(&mut self, end: &Ended) {
        let Some(history_range) = self.history_range.take() else { return };
        let (first_held, as_of) = (Seq::from_field(end.covered_from), Seq::from_field(end.as_of));
        let is_short = as_of.is_some_and(|as_of| as_of < history_range.to_seq)
            && !is_planted(Bug::TakeShortReplayForWhole);
        let to_seq = as_of.filter(|_| is_short).unwrap_or(history_range.to_seq);
        self.is_misplaced |= is_short;
        self.next_seq = self.next_seq.max(Some(to_seq));
        self.seen_seq = self.next_seq;
        let (from_seq, to_seq) = (history_range.from_seq.get(), to_seq.get());
        let lost_to = Seq::number(first_held).min(to_seq);
        let shown = Some(history_range.missed).filter(|&missed| missed > 0);
        if from_seq < lost_to {
            let missed = if self.is_whole() { Some(lost_to - from_seq) } else { shown };
            self.report_lost(GapReason::SourceLost, from_seq, lost_to - 1, missed);
        } else if shown.is_some() {
            // Core has the span, and not all frames that were numbered in it.
            self.report_lost(GapReason::SourceLost, from_seq, to_seq - 1, shown);
        }
        if let Some(held) = history_range.held.filter(|_| !is_short) {
            self.handle_live(&held);
        }
    }

    /// Whether every frame of the sequence is wanted, so that `seq` itself counts what is missing.
    fn is_whole(&self) -> bool {
        self.is_raw && self.wants_system
    }

    /// Reports frames that nobody has any more. What the count leaves out, each instrument adds later.
    fn report_lost(&mut self, reason: GapReason, from_seq: u64, to_seq: u64, missed: Option<u64>) {
        self.losses.note_reported(reason, from_seq, to_seq, self.is_whole());
        self.events.push_back(lost(reason, from_seq, to_seq, missed));
    }

    /// The connection to the broker is gone: what was asked of history is asked again on the next one.
    pub fn handle_broker_lost(&mut self) {
        self.freshness.note_history(false);
        self.freshness.note_broker(FeedStates::STALE);
        self.events.extend(self.freshness.poll());
        self.is_misplaced = false;
        self.history_range = None;
        self.checked_seq = None;
        (self.skipped, self.is_live) = (0, false);
        if self.next_seq.is_none() {
            // It begins with another snapshot. The numbers of this one, which did not come to its end, are
            // places in a sequence that was never followed from there.
            self.losses = Losses::default();
        }
    }

    /// The connection to core is gone before the end of the piece: the rest is asked for on the next one.
    pub fn handle_history_lost(&mut self) {
        self.freshness.note_history(self.history_range.is_some());
        self.events.extend(self.freshness.poll());
        if let Some(history_range) = &mut self.history_range {
            // What it had already shown to be missing stays known; the span that is asked again is the rest.
            let from_seq = history_range.from_seq;
            history_range.from_seq = self.next_seq.map_or(from_seq, |next| next.max(from_seq));
        }
    }

    /// Core says that a piece of its history cannot be read, or that its history begins later.
    pub fn handle_history_gap(&mut self, gap: &Gap) {
        let (from_seq, to_seq) = (gap.from_seq.get(), gap.to_seq.get());
        let Some(reason) = GapReason::from_number(gap.reason) else { return };
        if Seq::new(to_seq) < self.next_seq || to_seq == u64::MAX {
            return;
        }
        // A gap that ends before it begins is a mistake of the peer's: it is taken for its last place.
        let from_seq = from_seq.max(Seq::number(self.next_seq)).min(to_seq);
        let missed = self.is_whole().then(|| (to_seq - from_seq).saturating_add(1));
        let behind = Seq::behind(to_seq);
        self.next_seq = Some(behind);
        if let Some(history_range) = &mut self.history_range
            && from_seq <= history_range.from_seq.get()
        {
            // The end of the piece says so too; it is reported once.
            history_range.from_seq = behind;
        }
        self.seen_seq = self.next_seq;
        self.report_lost(reason, from_seq, to_seq, missed);
    }
}

#[cfg(test)]
mod tests;
