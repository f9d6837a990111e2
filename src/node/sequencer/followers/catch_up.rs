//! Followers and what the journal has no more: what of it shards still need before it is trimmed, and what
//! one gets that wants what was trimmed, or what rotted.
//!
//! # Decisions
//!
//! * A broker and a replica do not keep the journal from being trimmed. One whose place was trimmed or
//!   rotted receives definitions and last values before the stream continues. Otherwise it would send old
//!   values as current ones. A snapshot covers all that came before it, so many holes cost one snapshot.
//!   Subscribers of the broker ask history, and a replay states, before its first row, where the journal
//!   begins.
//! * A hole in the journal is not the beginning of history. A shard receives a GAP of reason Corrupt,
//!   exactly from the last good frame to the next one.

use super::{Follower, Followers, Hole, Stream};
use crate::limits;
use crate::log::{Log, Mark, Read, Storage, is_event};
use crate::node::sequencer::market::Market;
use crate::planted::{Bug, is_planted};
use crate::wire::{Flags, Frame, Gap, GapReason, InstrumentIndex, Seq};

impl Followers {
    /// All frames below this seq are durable at every shard that is configured, as far as they have
    /// said so since core started; and which shard it is that holds the least.
    pub(in crate::node::sequencer) fn needed_by_shards(&self) -> Option<(Option<Seq>, &str)> {
        let shards = self.all.iter().filter(|follower| follower.config.shard.is_some());
        let held = shards.map(|follower| (follower.durable_seq, follower.config.name.as_str()));
        held.min_by_key(|(seq, _)| *seq)
    }
}

impl Follower {
    /// A broker or a replica that is slow does not keep the journal from being trimmed. One that was
    /// overtaken so gets definitions and last values before it goes on, as one gets that comes back too
    /// late: without them it would not know instruments that were defined meanwhile, and would hand old
    /// values out as current ones.
    pub(super) fn note_overtaken<S: Storage>(&mut self, journal: &Log<S>) {
        if let Stream::Frames { position } = self.stream
            && self.must_have_snapshot(position < journal.first_position())
        {
            let wanted_seq = Some(self.passed_seq);
            self.stream = Stream::Snapshot { next_index: InstrumentIndex::FIRST, wanted_seq };
        }
    }

    /// Whether it hands last values out, and the journal was trimmed beyond its place.
    pub(super) fn must_have_snapshot(&self, is_trimmed: bool) -> bool {
        self.config.shard.is_none() && is_trimmed && !is_planted(Bug::StreamPastTrimmed)
    }

    /// The journal was trimmed beyond what this shard wants. It gets what the frames depend on, and is
    /// sent a GAP of what it will not get.
    pub(super) fn fill_definitions<S: Storage>(
        &mut self,
        mut next_index: InstrumentIndex,
        wanted_seq: Seq,
        journal: &Log<S>,
        market: &Market,
        out: &mut Vec<Frame>,
    ) {
        let values = market.values();
        let (end, (_, end_seq)) = (values.index_end(), self.end(journal));
        while next_index < end && out.len() < limits::FILL_FRAMES_MAX {
            let is_theirs = market.owner(next_index) == self.config.shard;
            let naming = values.naming(next_index).filter(|_| is_theirs);
            // What core could still lose, the frames bring when it cannot any more.
            let naming = naming.filter(|frame| frame.seq.get() < end_seq);
            out.extend(naming.map(|frame| frame.delivered(Flags::SNAPSHOT)));
            next_index = next_index.next();
        }
        self.stream = Stream::CatchingUp { next_index, wanted_seq };
        if next_index < end {
            return;
        }
        // Only now: the journal may have been trimmed further meanwhile.
        let position = journal.position_of_seq(wanted_seq.get());
        let first_seq = first_seq_from(journal, position).unwrap_or(Seq::or_first(end_seq));
        if let Some(lost_to) = first_seq.previous().filter(|lost_to| *lost_to >= wanted_seq) {
            let gap = Gap::uncounted(GapReason::SourceLost, wanted_seq, lost_to);
            out.push(Frame::seal(gap));
            self.passed_seq = self.passed_seq.max(first_seq);
        }
        self.stream = Stream::Frames { position };
    }

    /// What the journal lost between what this shard has been sent and this record, which it can read. The
    /// journal's numbers have no holes of their own, and a mark says which number comes next, so both ends
    /// are exact wherever the damage lies. To one that has been given all definitions and last values since,
    /// a hole from before that is none.
    pub(super) fn hole_before(
        &self,
        frame: &Frame,
        mark: Option<&Mark>,
        position: u64,
    ) -> Option<Hole> {
        let is_planted = match self.config.shard {
            Some(_) => is_planted(Bug::SkipDamageSilently),
            None => is_planted(Bug::StreamPastTrimmed),
        };
        if is_planted {
            return None;
        }
        let seq = match mark {
            Some(mark) => mark.seq.get(),
            None if is_event(frame) => frame.seq.get(),
            None => return None,
        };
        let from_seq = self.passed_seq.max(self.snapshot_seq);
        if seq <= from_seq.get() {
            return None;
        }
        let to_seq = Seq::new(seq - 1)?;
        Some(Hole { from_seq, to_seq, position })
    }

    /// What one gets that comes to a hole. Whoever gets everything sees it in the numbers; but what stood
    /// there, core knows from statements, or had it before it rotted, and journals no known definition
    /// again: it gets names and last values, as one does that was overtaken.
    pub(super) fn at_hole(&self, hole: Hole) -> Stream {
        match self.config.shard {
            Some(_) => Stream::PassingHole { next_index: InstrumentIndex::FIRST, hole },
            None => Stream::Snapshot {
                next_index: InstrumentIndex::FIRST,
                wanted_seq: Some(hole.to_seq.next()),
            },
        }
    }

    /// What is lost is sent as a GAP, behind the definitions that stood there: core knows those from statements,
    /// and what comes behind the hole stands on them.
    pub(super) fn fill_hole(
        &mut self,
        mut next_index: InstrumentIndex,
        hole: Hole,
        market: &Market,
        out: &mut Vec<Frame>,
    ) {
        let values = market.values();
        let end = values.index_end();
        let lost = hole.from_seq..=hole.to_seq;
        while next_index < end && out.len() < limits::FILL_FRAMES_MAX {
            let is_theirs = market.owner(next_index) == self.config.shard;
            let naming = values.naming(next_index).filter(|_| is_theirs);
            let is_lost = |frame: &&Frame| frame.seq().is_some_and(|seq| lost.contains(&seq));
            out.extend(naming.filter(is_lost).map(|frame| frame.delivered(Flags::SNAPSHOT)));
            next_index = next_index.next();
        }
        if next_index < end {
            self.stream = Stream::PassingHole { next_index, hole };
            return;
        }
        let gap = Gap::uncounted(GapReason::Corrupt, hole.from_seq, hole.to_seq);
        out.push(Frame::seal(gap));
        self.passed_seq = hole.to_seq.next();
        self.stream = Stream::Frames { position: hole.position };
    }
}

/// The `seq` of the first data frame at or behind a position.
pub(in crate::node::sequencer) fn first_seq_from<S: Storage>(
    journal: &Log<S>,
    mut position: u64,
) -> Option<Seq> {
    loop {
        match journal.read(position, limits::FILL_FRAMES_MAX) {
            Read::End => return None,
            Read::Damaged(range) => position = range.end,
            Read::Frames(frames) => {
                if let Some(frame) = frames.iter().find(|frame| is_event(frame)) {
                    return frame.seq();
                }
                position += frames.len() as u64;
            }
        }
    }
}
