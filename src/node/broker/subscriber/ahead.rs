//! What a subscriber is sent ahead of the live feed: what became void while it was away, the confirmation, the
//! snapshot, and the state of the feed.

use super::*;

impl Subscriber {
    /// What stands ahead of the live feed: the confirmation, the snapshot, and the word that the feed is stale or
    /// current again. `None`: nothing of that.
    #[inline(never)]
    pub(super) fn fill_ahead<W: Window>(
        &mut self,
        source: &Source<W>,
        out: &mut Vec<Frame>,
        piece: &mut Piece,
    ) -> Option<Next> {
        if matches!(self.state, SubscriberState::Live { .. }) {
            let announced = self.announced_here(source);
            if announced.told() != self.told {
                self.tell(announced, out);
            }
            return (!out.is_empty()).then(|| Next::gathered(out, self.is_bulk));
        }
        let nothing = Some(Next::Nothing);
        let Some(view) = source.view() else { return Some(self.wait(out)) };
        let Some(interest) = self.interest.and_then(|id| source.interests.get(id)) else {
            return nothing;
        };
        if !source.interests.is_settled() {
            // Whether a new instrument is meant is not known, and so not whether its last values are.
            return nothing;
        }
        if let SubscriberState::Waiting(standing) = self.state {
            if !self.wants_history && (source.is_catching_up || source.is_held) {
                // Its snapshot would be of the past, and what comes behind it no news.
                return Some(self.wait(out));
            }
            self.resume(source, standing, view.next_seq(), out);
        }
        if matches!(self.state, SubscriberState::Waiting(_)) {
            self.confirm(source, view, interest, out);
        }
        if matches!(self.state, SubscriberState::Snapshot { .. }) {
            self.fill_snapshot(source, interest, out, piece);
        }
        if matches!(self.state, SubscriberState::Foreign) {
            return Some(Next::Foreign);
        }
        let is_ahead = !matches!(self.state, SubscriberState::Live { .. }) || !out.is_empty();
        is_ahead.then(|| Next::gathered(out, true))
    }

    /// Says, once, to one that has asked and cannot be confirmed that it waits: nothing is known to be current.
    fn wait(&mut self, out: &mut Vec<Frame>) -> Next {
        if matches!(self.state, SubscriberState::Waiting(_)) && self.told != Told::WAITS {
            self.told = Told::WAITS;
            out.push(Frame::seal(FeedStates::STALE.said_by(Heartbeat::default())));
        }
        Next::gathered(out, false)
    }

    /// What of the frames before its place still stands, when it says under which epoch it has them.
    fn resume<W>(
        &mut self,
        source: &Source<W>,
        standing: Standing,
        next_seq: u64,
        out: &mut Vec<Frame>,
    ) {
        let Standing { feed, expects_seq } = standing;
        let place = if self.wants_history { self.cursor } else { expects_seq };
        // It was sent what the publisher never had, and was away when that was taken back.
        let end = source.publisher_seq.max(next_seq);
        let is_same = feed == 0 || feed == source.feed;
        if is_same && source.publisher_seq != 0 && place > end {
            // Whoever has something, and does not say under which epoch, may have all of it from somebody else.
            let is_nobodys = feed == 0 && source.feed != 0 && expects_seq != 0;
            let end =
                if is_nobodys { Seq::FIRST.get() } else { source.taken_back.end_for(place, end) };
            out.push(Frame::seal(gap(GapReason::Void, end, place - 1, u64::MAX)));
            self.cursor = self.cursor.min(end);
            return;
        }
        let says_nothing = feed == 0 || source.feed == 0 || place == 0;
        if says_nothing || feed == source.feed || is_planted(Bug::ResumeWithoutLineage) {
            return;
        }
        let Some(end) = source.lineage.end_of(feed) else {
            self.state = SubscriberState::Foreign;
            return;
        };
        if let Some(end) = end.seq.filter(|end| place > *end) {
            let end = source.taken_back.end_for(place, end);
            out.push(Frame::seal(gap(GapReason::Void, end, place - 1, u64::MAX)));
            self.cursor = self.cursor.min(end);
        }
    }

    /// What this subscriber may be told of the feed: it has not ended for who has not been sent all of it.
    fn announced_here<W: Window>(&self, source: &Source<W>) -> Announcement {
        let is_behind = source.view().is_some_and(|view| self.cursor < view.next_seq());
        let announced = source.announced();
        if is_behind { announced.not_ended() } else { announced }
    }

    /// Says whether the feed is current, and as every heartbeat where this subscriber is.
    fn tell(&mut self, announced: Announcement, out: &mut Vec<Frame>) {
        self.told = announced.told();
        let is_stale = announced.states.all == FeedStatus::Stale;
        if is_planted(if is_stale { Bug::StaleNotTold } else { Bug::LiveAgainNotTold }) {
            return;
        }
        let beat = Heartbeat { next_seq: U64::new(self.cursor), ..Heartbeat::default() };
        out.push(Frame::seal(announced.states.said_by(beat)));
    }

    fn confirm<W: Window>(
        &mut self,
        source: &Source<W>,
        view: RingView<'_>,
        interest: &Interest,
        out: &mut Vec<Frame>,
    ) {
        let (oldest, next) = (view.oldest_seq(), view.next_seq());
        out.push(Frame::seal(self.subscribed(source, interest)));
        let mut live_from = next;
        if self.wants_history {
            live_from = self.cursor;
            if self.cursor < oldest {
                let reason = self.loss(GapReason::BeforeRing);
                out.push(Frame::seal(gap(reason, self.cursor, oldest - 1, u64::MAX)));
                live_from = oldest;
            }
        }
        let (next_index, repeats, frames) = (InstrumentIndex::FIRST, Repeats::Nothing, 0);
        self.state = SubscriberState::Snapshot { next_index, repeats, frames, live_from };
    }

    /// Why frames are missing that the ring no longer has, or never had. Only the market has a history: what is
    /// missing of another source is lost for good.
    pub(super) fn loss(&self, reason: GapReason) -> GapReason {
        if self.source == MARKET_SOURCE { reason } else { GapReason::SourceLost }
    }

    /// Sends definitions and, to who did not ask for history, last values. Repeated, the definitions only, but to who
    /// may lack values.
    ///
    /// A snapshot may take several turns while the feed goes on. Values that are newer than its start
    /// are left out: the ring delivers them, in order, from `live_from` on.
    fn fill_snapshot<W>(
        &mut self,
        source: &Source<W>,
        interest: &Interest,
        out: &mut Vec<Frame>,
        piece: &mut Piece,
    ) {
        let (values, states) = (&source.values, source.snapshot_states());
        let SubscriberState::Snapshot { mut next_index, repeats, mut frames, live_from } =
            self.state
        else {
            return;
        };
        let has_values = match repeats {
            Repeats::Nothing => !self.wants_history,
            Repeats::Definitions => false,
            Repeats::Values => true,
        };
        let end = values.index_end();
        while next_index < end {
            piece.looked += 1;
            if out.len() >= piece.room || piece.looked > piece.look_max {
                self.state = SubscriberState::Snapshot { next_index, repeats, frames, live_from };
                return;
            }
            let is_wanted = interest.kinds_of(next_index) != 0;
            // The ring brings the system's frames to who asked for everything: they need names, or
            // nobody could distinguish them.
            if is_wanted || interest.is_everything() {
                let before = out.len();
                let naming = values.naming(next_index);
                let naming = naming.take(if is_planted(Bug::NameLeftOut) { 1 } else { usize::MAX });
                out.extend(naming.map(|frame| frame.delivered(SNAPSHOT)));
                if is_wanted && has_values {
                    let wanted = values
                        .values(next_index)
                        .into_iter()
                        .flatten()
                        .filter(|frame| frame.seq.get() < live_from && interest.wants(frame));
                    let flags = |frame: &Frame| SNAPSHOT | states.of_value(frame).flags();
                    out.extend(wanted.map(|frame| frame.delivered(flags(frame))));
                }
                frames += u32::try_from(out.len() - before).unwrap_or(0);
            }
            next_index = next_index.next();
        }
        if repeats == Repeats::Nothing {
            out.push(Frame::seal(SnapshotEnd {
                id: U32::new(self.id),
                frames: U32::new(frames),
                next_seq: U64::new(live_from),
                ..SnapshotEnd::default()
            }));
        }
        self.cursor = live_from;
        self.state = SubscriberState::Live { lacks_values: false };
    }
}
