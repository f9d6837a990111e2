//! What followers are told besides frames: how far their stream has come, whether last values are current, and that
//! core lives.

use super::{Follower, Followers, Probe, Stream};
use crate::limits;
use crate::log::{Log, Storage};
use crate::node::ConnId;
use crate::planted::{Bug, is_planted};
use crate::time::Now;
use crate::wire::{FeedStates, Frame, Heartbeat, Seq, U32, U64};

impl Followers {
    /// The answer to one that wants a sign of life: what it was last told of the last values still holds. A shard
    /// hands none out.
    pub(in crate::node::sequencer) fn sign_of_life(&self, now: Now, index: usize) -> Heartbeat {
        let hands_out = |follower: &&Follower| follower.config.shard.is_none();
        let reported = self.all.get(index).filter(hands_out).map(Follower::reported_states);
        let (token, sent_at) = (U32::new(Heartbeat::LIFE_TOKEN), U64::new(now.wall_ns));
        reported.unwrap_or_default().said_by(Heartbeat { token, sent_at, ..Heartbeat::default() })
    }

    /// A follower asks whether it has all. Of several questions the last is answered.
    pub(in crate::node::sequencer) fn note_probe(
        &mut self,
        index: usize,
        token: U32,
        position: u64,
    ) {
        if let Some(follower) = self.all.get_mut(index) {
            follower.probe = Some(Probe { token, position });
        }
    }

    /// Once a second a follower gets a heartbeat of how far its stream has come, when it has moved: a shard that
    /// owns nothing of what happened would otherwise ask for all of it again after a restart.
    pub(in crate::node::sequencer) fn heartbeats_due<S: Storage>(
        &mut self,
        now: Now,
        journal: &Log<S>,
        states: FeedStates,
    ) -> Vec<(ConnId, Frame)> {
        let heartbeat = |follower: &mut Follower| {
            // A broker hands last values out: it must know at once whether they are current.
            let hands_out =
                matches!(follower.stream, Stream::Frames { .. } | Stream::Snapshot { .. });
            let Some(conn) = follower.uplink.ready().filter(|_| hands_out) else {
                follower.reported = None;
                return None;
            };
            // Stale at once; live only when it has been sent all that makes it so.
            let has_all = journal.committed_seq() == journal.next_seq()
                && follower.position() == Some(journal.committed_position());
            let before = follower.reported_states();
            let said = match has_all {
                true => Some(states),
                false if states.is_worse_than(before) => Some(before.worsened_by(states)),
                false => None,
            };
            let hands_out = follower.config.shard.is_none();
            if let Some(said) = said.filter(|said| hands_out && follower.reported != Some(*said)) {
                follower.reported = Some(said);
                return Some((conn, Frame::seal(said.said_by(Heartbeat::default()))));
            }
            let position = follower.position()?;
            if now.mono < follower.next_heartbeat {
                return None;
            }
            follower.next_heartbeat = now.mono + limits::PROGRESS_HEARTBEAT_EVERY;
            let (end, end_seq) = follower.end(journal);
            if position == end {
                // What is appended in this turn has not been streamed: it is not committed yet.
                follower.passed_seq = follower.passed_seq.max(Seq::or_first(end_seq));
            }
            if follower.announced_seq >= Some(follower.passed_seq) {
                return None;
            }
            follower.announced_seq = Some(follower.passed_seq);
            let next_seq = Seq::field(follower.announced_seq);
            let sent_at = U64::new(now.wall_ns);
            let heartbeat = Heartbeat { next_seq, sent_at, ..Heartbeat::default() };
            Some((conn, Frame::seal(follower.reported_states().said_by(heartbeat))))
        };
        self.all.iter_mut().filter_map(heartbeat).collect()
    }
}

impl Follower {
    /// What it was last told of the last values; before that nothing is known of them.
    pub(super) fn reported_states(&self) -> FeedStates {
        self.reported.unwrap_or(FeedStates::STALE)
    }

    /// The answer to its question, once its stream has passed all that there was when it asked. It says what was
    /// last said of the last values, in the place of the stream where that is true.
    pub(super) fn answer_probe(&mut self, now: Now) -> Option<Frame> {
        let position = self.position()?;
        let is_due =
            |probe: &mut Probe| position >= probe.position || is_planted(Bug::AnswerProbeAhead);
        let Probe { token, .. } = self.probe.take_if(is_due)?;
        let sent_at = U64::new(now.wall_ns);
        // A shard also notes how far its part is whole.
        let passed_seq = self.config.shard.map(|_| self.passed_seq);
        self.announced_seq = self.announced_seq.max(passed_seq);
        let next_seq = Seq::field(passed_seq);
        let answer = Heartbeat { token, next_seq, sent_at, ..Heartbeat::default() };
        Some(Frame::seal(self.reported_states().said_by(answer)))
    }
}
