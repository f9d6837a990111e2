//! Whether what a follower has is part of this journal: the judgement that stands between two histories that
//! count alike.
//!
//! # Decisions
//!
//! * Each follower says under which epoch it received its newest frames, by the epoch's identity. The journal's
//!   lineage says up to which seq that epoch is part of what the journal has. Numbers decide nothing, except for
//!   followers of older programs, which know no identity.
//! * What a shard holds is never taken back because core lost its tail. A shard is sent only what is durable in
//!   the journal, so no crash makes it hold more: a directory was restored, or lost. Core refuses it, and an
//!   operator decides, with `pregao recover`. A broker and a replica hold nothing for good: they take back what
//!   this journal never had, and say so.
//! * A follower that is refused is asked again every ten seconds. Its breaker hears nothing of it: there is
//!   nothing wrong with the connection.

use super::{Follower, own_session};
use crate::log::{Log, Storage};
use crate::node::sequencer::market::Market;
use crate::planted::{Bug, is_planted};
use crate::wire::{Role, Session, U16, U64};

/// What core makes of the place that a follower says it is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Continuity {
    /// It stands in core's own epoch.
    Same,
    /// What it has below `end` stands. `gives_up`: the rest does not, and an operator decided so.
    Continues { end: u64, gives_up: bool },
    /// It is not to be fed.
    Foreign(Foreign),
}

/// Why a follower is not fed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::node::sequencer) enum Foreign {
    /// It stands in an epoch that the journal does not know.
    UnknownEpoch { feed: u64, epoch: u32, next_seq: u64 },
    /// It is a shard, and holds more of an epoch than the journal has.
    LostTail { end: u64, next_seq: u64 },
    /// It stands in core's own epoch, and holds more of it than the journal has.
    Beyond { own_next_seq: u64, next_seq: u64 },
}

impl Foreign {
    /// What the follower is sent: at most 48 bytes.
    pub(in crate::node::sequencer) fn refusal(self) -> &'static str {
        match self {
            Foreign::UnknownEpoch { .. } => "this journal does not continue what you hold",
            Foreign::LostTail { .. } | Foreign::Beyond { .. } => {
                "this journal lacks frames that you hold"
            }
        }
    }

    /// What status says beside the follower.
    pub(super) fn word(self) -> &'static str {
        match self {
            Foreign::UnknownEpoch { .. } => "refused: holds another history",
            Foreign::LostTail { .. } | Foreign::Beyond { .. } => {
                "refused: holds more than the journal"
            }
        }
    }
}

impl Follower {
    /// What the place means that a follower says it is at.
    pub(super) fn continuity<S: Storage>(
        &self,
        session: &Session,
        journal: &Log<S>,
        market: &Market,
    ) -> Continuity {
        let (feed, epoch) = (session.feed.get(), session.epoch.get());
        let next_seq = session.next_seq.get();
        let is_shard = self.config.shard.is_some();
        let own_next_seq = journal.next_seq();
        let is_same = feed == journal.epoch_id() || (feed == 0 && epoch == journal.epoch());
        // Who has nothing yet is in whatever epoch it is told.
        let holds_nothing = feed == 0 && epoch == 0 && next_seq <= u64::from(is_shard);
        if is_same || holds_nothing {
            return match next_seq > own_next_seq {
                true => Continuity::Foreign(Foreign::Beyond { own_next_seq, next_seq }),
                false => Continuity::Same,
            };
        }
        let found = match feed {
            0 => market.end_of_epoch(epoch).map(|end| (end, false)),
            _ => journal.lineage().end_of(feed).and_then(|end| Some((end.seq?, end.is_chosen))),
        };
        let unknown = Foreign::UnknownEpoch { feed, epoch, next_seq };
        match found {
            None if is_planted(Bug::AcceptUnknownFeed) => {
                Continuity::Continues { end: next_seq.min(own_next_seq).max(1), gives_up: false }
            }
            None => Continuity::Foreign(unknown),
            Some((end, is_chosen)) => {
                let is_beyond = is_shard && next_seq > end;
                let may_give_up = is_chosen || is_planted(Bug::SkipLineageLookup);
                match is_beyond && !may_give_up {
                    true => Continuity::Foreign(Foreign::LostTail { end, next_seq }),
                    false => Continuity::Continues { end, gives_up: is_beyond },
                }
            }
        }
    }

    /// Core's second SESSION to a follower that stands in an earlier epoch.
    pub(super) fn continued_session<S: Storage>(
        &self,
        journal: &Log<S>,
        end: u64,
        gives_up: bool,
    ) -> Session {
        let role = if self.config.shard.is_some() { Role::Feeder } else { Role::Publisher };
        let give_up = if gives_up { Session::GIVE_UP } else { 0 };
        let options = U16::new(Session::CONTINUES | give_up);
        Session { options, epoch_start: U64::new(end), ..own_session(role, journal) }
    }

    /// What core's log says when a follower is refused: what is wrong, that nothing was changed, and what to do.
    pub(super) fn explain(&self, foreign: Foreign) -> String {
        let name = &self.config.name;
        let what = match foreign {
            Foreign::UnknownEpoch { feed, epoch, next_seq } => format!(
                "{name} holds frames up to seq {} of epoch {epoch} ({feed:016x}), which this journal does \
                 not know: one of the two data directories was restored from a copy, lost or exchanged",
                next_seq.saturating_sub(1),
            ),
            Foreign::LostTail { end, next_seq } => format!(
                "{name} holds frames up to seq {}, and this journal has its epoch only up to seq {}: the \
                 journal was restored from an older copy, or lost its end",
                next_seq.saturating_sub(1),
                end.saturating_sub(1),
            ),
            Foreign::Beyond { own_next_seq, next_seq } => format!(
                "{name} wants to go on at seq {next_seq}, and this journal's next seq is {own_next_seq}: the \
                 journal was restored from an older copy, or lost its end"
            ),
        };
        let remedy = match self.config.shard {
            Some(_) => {
                "Put the directory that belongs to the others back, or stop the system and run `pregao \
                 recover`: it refills the journal from the shards, or has them give up what the journal \
                 never had"
            }
            None => "It keeps nothing on disk: restart it",
        };
        format!("refused: {what}. Nothing was changed. {remedy}")
    }
}
