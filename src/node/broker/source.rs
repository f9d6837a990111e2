//! One publisher's sequence as its readers see it: the window on its ring, last values, interests.
//! Every reactor has its own, and notifies its own readers. What is *not* here: how frames come in (see
//! `intake` and `fanout`).
//!
//! # Decisions
//!
//! * A change between current, ended and stale is announced for the source, at most once a second, and each reader is
//!   told when it takes the next bytes. So the last state always arrives, a feed that flaps floods nobody, and
//!   a reader that does not read has no more waiting for it than before.

use std::collections::VecDeque;

use super::jumps::TakenBack;
use crate::feed::{InterestId, Interests, LastValues, RingView, Window};
use crate::limits;
use crate::log::{EpochEntry, Lineage};
use crate::node::ConnId;
use crate::time::Mono;
use crate::wire::{
    ExchangeSet, FeedStates, FeedStatus, Frame, Kind, Seq, Session, U32, U64, padded,
};

/// What is known of a source's publisher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PublisherState {
    pub(super) has_publisher: bool,
    /// What it has said of its last values; stale where it is silent.
    pub(super) states: FeedStates,
    /// It has not sent what it had when it came.
    pub(super) is_catching_up: bool,
}

/// What readers are told of the last values, and which word of that kind it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Announcement {
    pub(super) states: FeedStates,
    /// Another one for each change of what is said of single exchanges; 0 = nothing is said of them.
    version: u16,
}

/// Which announcement a reader was told, in two bytes: there are many readers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Told(u16);

impl Told {
    /// Before the first word a reader takes the feed for current.
    pub(super) const NOTHING: Told = Told(FeedStatus::Current as u16);
    /// That it waits for the feed: no announcement, so it is told how the feed is as soon as it has its snapshot.
    pub(super) const WAITS: Told = Told(u16::MAX);
}

impl Announcement {
    /// The next one.
    fn next(self, states: FeedStates) -> Announcement {
        const VERSIONS: u16 = 1 << 13;
        let is_of_all = states.stale.is_empty() && states.ended.is_empty();
        let is_same = (states.stale, states.ended) == (self.states.stale, self.states.ended);
        let version = match (is_of_all, is_same) {
            (true, _) => 0,
            (false, true) => self.version,
            (false, false) => (self.version + 1).checked_rem(VERSIONS).unwrap_or(0).max(1),
        };
        Announcement { states, version }
    }

    /// The same for a reader that has not been sent all of it: nothing has ended for it.
    pub(super) fn not_ended(mut self) -> Announcement {
        if self.states.all == FeedStatus::Ended {
            self.states.all = FeedStatus::Current;
        }
        self.states.ended = ExchangeSet::NONE;
        self
    }

    /// What a reader has been told that has been told this.
    #[inline]
    pub(super) fn told(&self) -> Told {
        let has_ended = u16::from(!self.states.ended.is_empty());
        Told(self.version << 3 | has_ended << 2 | self.states.all as u16)
    }
}

/// A source. It outlives its publisher's connections.
#[derive(Debug)]
pub(super) struct Source<W> {
    /// Under which epoch the newest frames are: its identity; 0 = the publisher says none.
    pub(super) feed: u64,
    /// The epochs that the publisher has told: what of a reader's frames still stands.
    pub(super) lineage: Lineage,
    pub(super) epoch: u32,
    pub(super) epoch_start: u64,
    /// Where the publisher's sequence ended when it came: nobody can rightly be beyond that and the window. 0: it does
    /// not say.
    pub(super) publisher_seq: u64,
    /// Where readers were led ahead, and what they passed over is not void.
    pub(super) taken_back: TakenBack,
    /// None before the publisher has ever said where its sequence begins.
    pub(super) window: Option<W>,
    pub(super) values: LastValues,
    pub(super) interests: Interests,
    /// In no order. Invariant: a subscriber in here knows its place, so that leaving is a swap.
    pub(super) readers: Vec<ConnId>,
    /// Who has said what it wants, in order, and whose patterns have not been looked up.
    pub(super) joining: VecDeque<ConnId>,
    /// The first of them, when its patterns are being looked up.
    pub(super) resolving: Option<(ConnId, InterestId)>,
    /// Where the next fan-out starts in `readers`.
    pub(super) turn_start: usize,
    pub(super) gaps_sent: u64,
    /// Who was overtaken is sent all names again.
    pub(super) names_behind_gaps: bool,
    /// What is known of the publisher's last values, while there is one.
    pub(super) states: FeedStates,
    pub(super) has_publisher: bool,
    /// The publisher has not sent what it had when it came: nothing here is the present yet.
    pub(super) is_catching_up: bool,
    /// Last values are missing that are about to come: no snapshot is begun meanwhile.
    pub(super) is_held: bool,
    /// It has now: who waits for the present is to be told.
    pub(super) has_caught_up: bool,
    /// The publisher has said where the sequence goes on; before, nobody can be served.
    pub(super) is_ready: bool,
    pub(super) has_updates: bool,
    /// What its readers are told of it; what they were told last, as soon as they take it.
    announced: Announcement,
    /// When that changed last.
    announced_at: Option<Mono>,
}

impl<W> Default for Source<W> {
    fn default() -> Source<W> {
        Source {
            feed: 0,
            lineage: Lineage::default(),
            epoch: 0,
            epoch_start: 0,
            publisher_seq: 0,
            taken_back: TakenBack::default(),
            window: None,
            values: LastValues::default(),
            interests: Interests::default(),
            readers: Vec::new(),
            joining: VecDeque::new(),
            resolving: None,
            turn_start: 0,
            gaps_sent: 0,
            names_behind_gaps: false,
            states: FeedStates::default(),
            has_publisher: false,
            is_catching_up: false,
            is_held: false,
            has_caught_up: false,
            is_ready: false,
            has_updates: false,
            // Before a publisher comes nothing is current.
            announced: Announcement { states: FeedStates::STALE, version: 0 },
            announced_at: None,
        }
    }
}

impl<W: Window> Source<W> {
    /// What a publisher is answered: where this source, of that number, stands.
    pub(super) fn session(&self, number: u8) -> Session {
        Session {
            source: number,
            name: padded("broker"),
            epoch: U32::new(self.epoch),
            epoch_start: U64::new(self.epoch_start),
            next_seq: Seq::field(self.wanted_seq()),
            feed: U64::new(self.feed),
            ..Session::default()
        }
    }

    /// What its readers can be served from, once they can be.
    pub(super) fn view(&self) -> Option<RingView<'_>> {
        self.window.as_ref().filter(|_| self.is_ready).map(Window::view)
    }

    /// `oldest_seq` and `next_seq`; none before there is a window.
    pub(super) fn bounds(&self) -> (Option<Seq>, Option<Seq>) {
        let Some(view) = self.window.as_ref().map(Window::view) else { return (None, None) };
        (Seq::new(view.oldest_seq()), Seq::new(view.next_seq()))
    }

    /// The next `seq` wanted from the publisher; `None`: nothing is known, begin with a snapshot.
    pub(super) fn wanted_seq(&self) -> Option<Seq> {
        self.view().and_then(|view| Seq::new(view.next_seq()))
    }
}

impl<W> Source<W> {
    /// The sequence goes on in this epoch, from this seq on; `is_new`: it is another sequence.
    pub(super) fn begin_epoch(&mut self, feed: u64, epoch: u32, first_seq: u64, is_new: bool) {
        let is_other = (self.feed, self.epoch) != (feed, epoch);
        (self.feed, self.epoch, self.epoch_start) = (feed, epoch, first_seq);
        if is_other && !is_new && !self.is_ready {
            // Values may be stated before there is a window. Those of the epoch before end where this one begins.
            self.void_from(first_seq);
        }
        if is_new {
            self.lineage = Lineage::default();
            self.taken_back = TakenBack::default();
        }
        if feed != 0 && epoch != 0 && self.lineage.id_of(epoch) != feed {
            let (epoch_id, is_chosen, is_given_up) = (feed, false, false);
            self.lineage.note(EpochEntry { epoch, epoch_id, first_seq, is_chosen, is_given_up });
        }
    }

    /// What is known of its last values. Those of a publisher that is away, or catches up, are not known to be current.
    fn states_now(&self) -> FeedStates {
        if self.has_publisher && !self.is_catching_up { self.states } else { FeedStates::STALE }
    }

    /// Takes note of the publisher: whether it is there, what it says of its last values, and whether it has sent
    /// what it had when it came. Whether that is news.
    pub(super) fn note_publisher(&mut self, state: PublisherState) -> bool {
        let before = self.publisher_state();
        self.has_caught_up |= before.is_catching_up && !state.is_catching_up;
        let PublisherState { has_publisher, states, is_catching_up } = state;
        (self.has_publisher, self.states) = (has_publisher, states);
        self.is_catching_up = is_catching_up;
        before != state
    }

    fn publisher_state(&self) -> PublisherState {
        PublisherState {
            has_publisher: self.has_publisher,
            states: self.states,
            is_catching_up: self.is_catching_up,
        }
    }

    /// Everything from `seq` on is void, definitions too: who comes now must not be told of instruments that are no
    /// part of the sequence.
    ///
    /// One look at all instruments in one turn: 65,536 at most, and only where a publisher takes something back.
    pub(super) fn void_from(&mut self, seq: u64) {
        // Where nothing of a sequence is left, what has no place in it goes too.
        let seq = if seq <= Seq::FIRST.get() { 0 } else { seq };
        for (index, names) in self.values.void_from(seq) {
            self.interests.note_void_definition(index, &names);
        }
    }

    /// What is known of last values in a snapshot.
    pub(super) fn snapshot_states(&self) -> FeedStates {
        self.states_now()
    }

    /// What its readers are told of it.
    pub(super) fn announced(&self) -> Announcement {
        self.announced
    }

    /// When its readers may be told of a change; `None`: there is none.
    pub(super) fn announcement_due(&self) -> Option<Mono> {
        let is_changed = self.announced.states != self.states_now();
        // Whoever was told that nothing more comes has to know before anything does.
        let (said, now) = (self.announced.states, self.states_now());
        let goes_on = |exchange| now.of_exchange(exchange) != FeedStatus::Ended;
        let is_limited = match said.all {
            FeedStatus::Ended => now.all == FeedStatus::Ended,
            _ => !said.ended.iter().any(goes_on),
        };
        let due = |at: Mono| at + limits::STALE_TOLD_EVERY;
        is_changed.then(|| self.announced_at.filter(|_| is_limited).map(due).unwrap_or_default())
    }

    /// Decides what its readers are told. Whether that is news.
    pub(super) fn announce(&mut self, now: Mono) -> bool {
        let is_due = self.announcement_due().is_some_and(|due| due <= now);
        if is_due {
            self.announced = self.announced.next(self.states_now());
            self.announced_at = Some(now);
        }
        is_due
    }

    /// Whether something waits for steps of a turn.
    pub(super) fn has_work(&self) -> bool {
        let joins = !self.joining.is_empty() || self.resolving.is_some();
        self.interests.has_work() || joins
    }

    /// Takes note of a frame's value. Whether it is news.
    pub(super) fn note(&mut self, frame: &Frame) -> bool {
        note(&mut self.values, &mut self.interests, frame)
    }

    /// What two reactors know otherwise of it.
    pub(super) fn differs_from<V>(&self, other: &Source<V>) -> Option<&'static str> {
        let epoch = (self.epoch, self.epoch_start, self.is_ready);
        if epoch != (other.epoch, other.epoch_start, other.is_ready) {
            return Some("epoch");
        }
        if self.feed != other.feed || self.lineage != other.lineage {
            return Some("lineage");
        }
        if self.taken_back != other.taken_back {
            return Some("jumps");
        }
        if self.publisher_state() != other.publisher_state() {
            return Some("publisher");
        }
        (self.values != other.values).then_some("last values")
    }

    /// Takes a reader away. The one that has its place now, when there is one, has to be changed.
    pub(super) fn leave(&mut self, place: usize, interest: InterestId) -> Option<ConnId> {
        self.interests.leave(interest);
        if place < self.readers.len() {
            self.readers.swap_remove(place);
        }
        self.readers.get(place).copied()
    }
}

/// The same for who holds the window at the same time.
pub(super) fn note(values: &mut LastValues, interests: &mut Interests, frame: &Frame) -> bool {
    if frame.kind != Kind::Definition as u8 {
        return values.note(frame);
    }
    let index = frame.instrument().index();
    let before = values.names(index);
    let is_news = values.note(frame);
    if is_news && let Some(names) = values.names(index) {
        interests.note_definition(index, &names, before);
    }
    is_news
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feed::Ring;
    use crate::wire::ExchangeNumber;

    #[test]
    fn an_exchange_that_has_ended_lets_no_other_one_be_told_without_a_limit() {
        let number = |number| ExchangeNumber::new(number).unwrap();
        let (at, later) = (Mono(1_000_000_000), Mono(1_000_000_000) + limits::STALE_TOLD_EVERY);
        let mut source = Source::<Ring> { has_publisher: true, ..Source::default() };
        source.states.ended.insert(number(1));
        assert!(source.announce(at));
        source.states.stale.insert(number(0));
        assert_eq!(source.announcement_due(), Some(later), "the other one flaps");
        // Whoever was told that nothing more comes has to know before anything does.
        source.states.ended = ExchangeSet::NONE;
        assert_eq!(source.announcement_due(), Some(Mono::default()));
    }

    #[test]
    fn a_reader_is_told_of_each_change_and_of_no_end_before_it_has_all() {
        let number = |number| ExchangeNumber::new(number).unwrap();
        let mut said = Announcement { states: FeedStates::default(), version: 0 };
        assert_eq!(said.told(), Told::NOTHING);
        let mut states = FeedStates::default();
        let mut before = said.told();
        for _ in 0..20_000 {
            states.stale.insert(number(2));
            said = said.next(states);
            assert!(said.told() != before && said.told() != Told::NOTHING);
            before = said.told();
            states.ended.insert(number(3));
            said = said.next(states);
            assert!(said.told() != before && said.not_ended().told() != said.told());
            before = said.told();
            states.ended = ExchangeSet::NONE;
        }
        assert_eq!(said.next(FeedStates::default()).told(), Told::NOTHING);
    }
}
