//! What a feeder may say, and what of it is believed. A shard cannot know whether its feeder is core, so a
//! number of a feeder is checked against what is known, and whatever one feeder said wrongly the next one mends.
//!
//! # Decisions
//!
//! * A shard asks for what comes behind the last frame that it holds, and not from where a HEARTBEAT has led it:
//!   whoever said that may have been wrong, and what it skipped would be lost in silence. Core reads that part of
//!   its journal again and finds nothing of this shard in it, when the HEARTBEAT was right.
//! * What a shard has acknowledged must not be taken back, so it acknowledges nothing until the present feeder has
//!   come as far as the one before it.
//! * A place beyond everything that the feeder has is nobody's: it is given up, and told.
//! * A sequence does not grow faster than any market could be. What goes beyond that is refused, so that
//!   no number of a confused peer comes near the end of all numbers.

use super::{Level, Shard};
use crate::limits;
use crate::log::Storage;
use crate::node::session::{Rejection, Seat};
use crate::planted::{Bug, is_planted};
use crate::time::{Mono, Now};
use crate::wire::{ErrorCode, Frame, Seq, Session};

/// The present feeder.
#[derive(Debug)]
pub(super) struct Feed {
    pub(super) seat: Seat,
    /// It has brought this shard's part of everything before this seq.
    passed_seq: Seq,
    /// What was acknowledged to those before it does not go beyond this.
    acked_seq: Seq,
    /// What it says may grow from here,
    base_seq: Seq,
    /// since then.
    since: Mono,
    /// What was last found to be possible. Time only adds to it.
    possible_seq: Seq,
    /// It has said what no core can say.
    is_refuted: bool,
    /// It has, or one before it, and none has come as far as that one since: where it led this shard may be wrong.
    is_doubtful: bool,
}

impl Default for Feed {
    fn default() -> Feed {
        let (passed_seq, base_seq) = (Seq::FIRST, Seq::FIRST);
        let (seat, acked_seq, since) = (Seat::default(), Seq::FIRST, Mono::default());
        Feed {
            seat,
            passed_seq,
            acked_seq,
            base_seq,
            since,
            possible_seq: Seq::FIRST,
            is_refuted: false,
            is_doubtful: false,
        }
    }
}

impl Feed {
    /// A feeder begins behind `passed_seq`, and says that its sequence goes as far as `base_seq`.
    fn begin(&mut self, now: Now, passed_seq: Seq, acked_seq: Seq, base_seq: Seq) {
        (self.passed_seq, self.acked_seq) = (passed_seq, acked_seq);
        (self.base_seq, self.since) = (base_seq, now.mono);
        (self.possible_seq, self.is_refuted) = (base_seq, false);
    }

    /// The feeder says that everything before `next_seq` has been sent.
    ///
    /// # Errors
    /// When no sequence can have come so far.
    fn check(&mut self, now: Now, next_seq: Seq) -> Result<(), Rejection> {
        let seconds = now.mono.since(self.since).as_secs().saturating_add(1);
        let growth = seconds.saturating_mul(limits::RATE_EVENTS_PER_S_MAX);
        self.possible_seq = Seq::or_first(self.base_seq.get().saturating_add(growth));
        if next_seq > self.possible_seq {
            let text = "no sequence has come so far by now";
            return Err(Rejection::new(ErrorCode::Unexpected, text));
        }
        Ok(())
    }

    /// The feeder has come so far.
    pub(super) fn pass(&mut self, next_seq: Seq) {
        self.passed_seq = self.passed_seq.max(next_seq);
    }

    /// Whether it has come as far as this shard was before.
    pub(super) fn has_caught_up(&mut self) -> bool {
        let has_come = self.passed_seq >= self.acked_seq;
        self.is_doubtful &= !has_come || self.is_refuted;
        has_come || is_planted(Bug::TrustHeartbeatsForGood)
    }
}

impl<S: Storage> Shard<S> {
    /// Whether this can be a feeder of this shard at all, before anything is changed for it.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn check_feeder(&mut self, now: Now, session: &Session) -> Result<(), Rejection> {
        let text = "another feeder lives; come back later";
        self.feed.seat.check(now, &mut self.connections, text)?;
        let epoch_max = self.log.epoch().saturating_add(limits::EPOCH_JUMP_MAX);
        if session.epoch.get() > epoch_max && !is_planted(Bug::FollowAnyEpoch) {
            let text = "that epoch is too far from this shard's";
            return Err(Rejection::new(ErrorCode::Unexpected, text));
        }
        let ahead = session.next_seq.get().saturating_sub(self.wanted().get());
        if ahead > limits::FEED_AHEAD_MAX {
            let text = "that sequence is too far ahead of this shard's";
            return Err(Rejection::new(ErrorCode::Unexpected, text));
        }
        Ok(())
    }

    /// A feeder has been let in, and its epoch is this shard's.
    pub(super) fn begin_feed(&mut self, now: Now, session: &Session) -> Result<(), Rejection> {
        let (wanted, asked) = (self.wanted(), self.asked_seq());
        let feeders = session.next_seq();
        if feeders.is_some_and(|feeders| wanted > feeders && asked <= feeders) {
            let text = "the log cannot note its place now";
            let text =
                self.log.fall_back_upstream(asked.get(), now).map(|()| text).map_err(|_| text);
            text.map_err(|text| Rejection::new(ErrorCode::Storage, text))?;
            self.has_updates = true;
            self.freshness.forget();
            let text = format!(
                "this shard was told of everything before seq {wanted}, and its feeder is at {} only: it goes \
                 on behind its last frame, from seq {asked}",
                Seq::number(feeders)
            );
            self.connections.log(Level::Error, text);
        }
        let acked = feeders.map_or(wanted, |feeders| wanted.min(feeders));
        let base = self.wanted().max(Seq::or_first(session.next_seq.get()));
        self.feed.begin(now, asked, acked, base);
        Ok(())
    }

    /// Behind the last frame that this shard holds: what it asks a feeder for.
    pub(super) fn asked_seq(&self) -> Seq {
        if is_planted(Bug::TrustHeartbeatsForGood) {
            return self.wanted();
        }
        Seq::or_first(self.log.next_seq()).min(self.wanted())
    }

    /// A frame of the sequence from the feeder.
    ///
    /// # Errors
    /// When no sequence can have come so far.
    #[inline(always)]
    pub(super) fn pass_frame(&mut self, now: Now, frame: &Frame) -> Result<(), Rejection> {
        let next_seq = frame.next_seq();
        self.check_place(now, next_seq)?;
        self.feed.pass(next_seq);
        Ok(())
    }

    /// As [`Feed::check`].
    ///
    /// # Errors
    /// When no sequence can have come so far. Whoever said that is not core, and so it was no word of core's either
    /// that this shard has all.
    #[inline(always)]
    pub(super) fn check_place(&mut self, now: Now, next_seq: Seq) -> Result<(), Rejection> {
        if next_seq <= self.feed.possible_seq {
            return Ok(());
        }
        self.check_growth(now, next_seq)
    }

    #[cold]
    fn check_growth(&mut self, now: Now, next_seq: Seq) -> Result<(), Rejection> {
        let checked = self.feed.check(now, next_seq);
        if checked.is_err() {
            self.refute_feeder();
        }
        checked
    }

    /// The feeder has said what core cannot have said, so nothing that it said was core's word.
    pub(super) fn refute_feeder(&mut self) {
        self.freshness.forget();
        (self.feed.is_refuted, self.feed.is_doubtful) = (true, true);
    }

    /// From where on a hole of core's is one of this shard's too. Before that, all is here that is its own; but where
    /// a HEARTBEAT may have been wrong, that is so only up to the last frame that is here.
    pub(super) fn holes_count_from(&self) -> Seq {
        if self.feed.is_doubtful { self.asked_seq() } else { self.wanted() }
    }
}
