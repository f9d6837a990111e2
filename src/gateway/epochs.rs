//! What the inner broker is told of epochs: which one the frames are of, where it begins, and what is void. What is *not*
//! here: the frames.

use super::feed::Feed;
use super::inner::NOBODY;
use crate::node::{ConnId, FrameInput, Origin};
use crate::planted::{Bug, is_planted};
use crate::subscription::Request;
use crate::time::Now;
use crate::wire::{
    FeedStates, Flags, Frame, Heartbeat, Role, Seq, Session, Subscribed, U16, U32, U64, padded,
    unpadded,
};

impl Feed {
    /// The broker has confirmed the subscription: the inner broker learns in which epoch, and how far there is something.
    pub(super) fn begin_session(&mut self, now: Now, subscribed: &Subscribed) {
        self.publish(now);
        // Another session lets go of what waits, and nobody sends it again.
        self.broker.take_in_all();
        if let Some(before) = self.publisher.take() {
            self.close(now, before);
        }
        let conn = self.open(now, Origin::LOCAL, NOBODY);
        let session = Session {
            role: Role::Publisher as u8,
            source: Request::MARKET,
            name: padded("gateway"),
            epoch: subscribed.epoch,
            epoch_start: match is_planted(Bug::GatewayForgetsVoid) {
                true => U64::new(self.next_seq.max(1)),
                false => U64::new(self.epoch_start(subscribed)),
            },
            next_seq: subscribed.next_seq,
            feed: subscribed.feed,
            ..Session::default()
        };
        let is_begun_anew = std::mem::take(&mut self.is_begun_anew);
        // A snapshot that has begun goes on in another epoch: what came of it stands.
        let goes_on = self.epoch.0 != 0 && !is_begun_anew;
        let options = U16::new(if goes_on { Session::CONTINUES } else { 0 });
        self.publisher = Some(conn);
        self.epoch = (subscribed.feed.get(), subscribed.epoch.get());
        self.broker.handle_frames(now, conn, &[Frame::seal(Session { options, ..session })]);
        // Another epoch: the follower was told what of the one before is void, so this one continues it.
        if self.answer(now, conn).is_some_and(|answer| answer.feed != session.feed) {
            if is_begun_anew {
                let text = "the broker has another sequence now; start this gateway again";
                self.failure = Some(text.to_owned());
                return;
            }
            let options = U16::new(Session::CONTINUES);
            self.broker.handle_frames(now, conn, &[Frame::seal(Session { options, ..session })]);
            self.answer(now, conn);
        }
        self.told = None;
    }

    /// What follows is read from core. Under an epoch that says nothing of itself nobody would know it for core's, and the
    /// broker's word of core's epoch would make it void.
    pub(super) fn note_core(&mut self, now: Now, session: &Session) {
        if self.publisher.is_some() && self.epoch.0 == 0 && session.feed.get() != 0 {
            let Session { epoch, epoch_start, next_seq, feed, .. } = *session;
            let it = Subscribed { epoch, epoch_start, next_seq, feed, ..Subscribed::default() };
            self.begin_session(now, &it);
        }
    }

    /// Where the epoch begins for the inner broker: not behind what that has.
    ///
    /// Whoever was away while several epochs began is told where the last one did, and what of its own frames is void. So an
    /// epoch that is known here may have ended before the new one began.
    fn epoch_start(&self, subscribed: &Subscribed) -> u64 {
        let start = subscribed.epoch_start.get();
        match self.next_seq {
            0 => start,
            next => start.min(next),
        }
    }

    /// Reads what the inner broker has for its publisher. The SESSION among it.
    pub(super) fn answer(&mut self, now: Now, conn: ConnId) -> Option<Session> {
        let mut session = None;
        for frame in self.frames_of(now, conn, usize::MAX) {
            if let Some(answer) = frame.view::<Session>() {
                session = Some(*answer);
                self.next_seq = answer.next_seq.get();
            } else if let Some(refusal) = frame.view::<crate::wire::Refusal>() {
                let text = unpadded(&refusal.text);
                self.failure = Some(format!("the inner broker refused the feed: {text}"));
            } else if let Some(beat) = frame.view::<Heartbeat>()
                && beat.flags.get() & Flags::MORE != 0
            {
                let (token, next_seq) = (beat.token, Seq::field(Seq::new(self.next_seq)));
                let states = self.told.unwrap_or(FeedStates::STALE);
                let answer = states.said_by(Heartbeat { token, next_seq, ..Heartbeat::default() });
                self.broker.handle_frames(now, conn, &[Frame::seal(answer)]);
            }
        }
        session
    }

    /// Everything from `seq` on never was; its numbers come again.
    pub(super) fn void(&mut self, now: Now, seq: u64) {
        self.publish(now);
        // Another session lets go of what waits, and nobody sends it again.
        self.broker.take_in_all();
        let is_ours = seq < self.next_seq && !is_planted(Bug::GatewayForgetsVoid);
        let Some(conn) = self.publisher.filter(|_| is_ours) else { return };
        let (feed, epoch) = self.epoch;
        let session = Session {
            role: Role::Publisher as u8,
            source: Request::MARKET,
            epoch: U32::new(epoch),
            feed: U64::new(feed),
            next_seq: U64::new(seq),
            ..Session::default()
        };
        self.broker.handle_frames(now, conn, &[Frame::seal(session)]);
        self.answer(now, conn);
        self.make_ready(now, seq);
    }
}
