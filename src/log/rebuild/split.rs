//! The logs of another partition: each frame of the old shards' logs in the log of the shard that owns its symbol now.
//!
//! # Decisions
//!
//! * The new logs end where the old shard that is least far stands: core feeds all of them from there on, and a
//!   shard takes no frame from behind its end. What the other old logs had behind it, core has as well.
//! * What one old log has lost is lost in each new one: nobody knows whose frames stood there.

use std::collections::BTreeMap;

use super::merge::Merge;
use super::standing::{PlanError, Standing, common_history};
use super::{RebuildError, append};
use crate::limits;
use crate::log::backend::Storage;
use crate::log::config::LogConfig;
use crate::log::inspect::{Files, Item, Outline, Reader};
use crate::log::{Log, LogEntry, is_uncertain};
use crate::market::partition::Partition;
use crate::time::Now;
use crate::wire::{Definition, Frame, Gap, GapReason, InstrumentId, NameParts, Seq};

/// One old shard's log.
#[derive(Debug)]
pub struct SplitSource<F> {
    /// Where it stands.
    pub standing: Standing,
    /// From this seq on its history is whole.
    pub whole_from: u64,
    /// Its records.
    pub reader: Reader<F>,
}

impl<F: Files> SplitSource<F> {
    /// The log of this outline.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn new(name: &str, files: F, outline: &Outline) -> Result<SplitSource<F>, RebuildError> {
        let first_seq = outline.first_seq();
        Ok(SplitSource {
            standing: Standing::of(name, outline),
            whole_from: outline.counters.upstream_feed.max(first_seq),
            reader: Reader::new(files, outline)?,
        })
    }
}

/// What the new logs hold together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Splitting {
    /// The seq that each new log wants next.
    pub next_seq: u64,
    /// From this seq on each new log's history is whole.
    pub whole_from: u64,
    /// Frames of old logs from `next_seq` on, which core sends again.
    pub beyond: u64,
    /// Numbers that an old log has lost.
    pub lost: u64,
    /// The new logs.
    pub parts: Vec<Part>,
}

/// What one new log holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// Its data frames.
    pub frames: u64,
    /// By instrument: how many frames, and a checksum of all of them in their order.
    pub instruments: BTreeMap<InstrumentId, (u64, u32)>,
}

impl Part {
    fn note(&mut self, frame: &Frame) {
        self.frames += 1;
        let (count, sum) = self.instruments.entry(frame.instrument()).or_default();
        *count += 1;
        // Of the frames' own CRCs: over a frame with its CRC behind it, any sum is the same for all frames.
        *sum = crc32c::crc32c_append(*sum, zerocopy::IntoBytes::as_bytes(&frame.crc));
    }
}

struct Target<S: Storage> {
    log: Log<S>,
    definitions: BTreeMap<InstrumentId, Frame>,
    full_names: BTreeMap<InstrumentId, NameParts>,
    holes: Vec<(u64, u64)>,
    part: Part,
}

impl<S: Storage> Target<S> {
    fn append(&mut self, entry: LogEntry<'_>, now: Now) -> Result<(), RebuildError> {
        let (definitions, names, holes) = (&self.definitions, &self.full_names, &self.holes);
        let statements = || {
            let holes = holes.iter().map(|(from, to)| hole(*from, *to));
            let naming = |(instrument, definition): (&InstrumentId, &Frame)| {
                let parts = names.get(instrument).into_iter().flat_map(NameParts::frames);
                std::iter::once(*definition).chain(parts.copied()).collect::<Vec<_>>()
            };
            definitions.iter().flat_map(naming).chain(holes).collect()
        };
        append(&mut self.log, entry, now, statements)?;
        Ok(())
    }

    /// A part of a name that the head of a segment states, unless it is here.
    fn state_name(&mut self, frame: &Frame, now: Now) -> Result<(), RebuildError> {
        let known = self.full_names.entry(frame.instrument()).or_default();
        if known.frames().any(|part| part.body == frame.body) {
            return Ok(());
        }
        known.note(frame);
        self.append(LogEntry::Statement(frame), now)
    }
}

/// Writes the logs of this partition into empty places, one for each shard in the order of their numbers, closed.
/// `lines` say which part each keeps.
///
/// # Errors
/// When the old logs are not of one history, or something cannot be read or written.
pub fn split<F: Files, S: Storage>(
    sources: Vec<SplitSource<F>>,
    partition: &Partition,
    places: Vec<(S, LogConfig, String)>,
    now: Now,
) -> Result<Splitting, RebuildError> {
    let standings: Vec<&Standing> = sources.iter().map(|source| &source.standing).collect();
    let (history, others) = common_history(&standings);
    if let Some(lead) = standings.first().filter(|_| !others.is_empty()) {
        let error = PlanError::TwoHistories { lead: lead.name.clone(), others };
        return Err(RebuildError::Check(error.to_string()));
    }
    let next_seq = standings.iter().map(|standing| standing.next_seq).min().unwrap_or(1);
    let whole_from = sources.iter().map(|source| source.whole_from).max().unwrap_or(0);
    let mut targets = Vec::with_capacity(places.len());
    for (mut storage, config, line) in places {
        storage.set_partition(line.as_bytes())?;
        let (mut log, _) = Log::open(storage, config, now)?;
        log.require_checkpoints();
        for entry in &history {
            log.follow_epoch((entry.epoch, entry.epoch_id), entry.first_seq, now)?;
        }
        let (definitions, full_names) = (BTreeMap::new(), BTreeMap::new());
        let (holes, part) = (Vec::new(), Part::default());
        targets.push(Target { log, definitions, full_names, holes, part });
    }
    let mut splitting = Splitting { next_seq, whole_from, ..Splitting::default() };
    let mut owners: BTreeMap<InstrumentId, u16> = BTreeMap::new();
    let readers = sources.into_iter().map(|source| (source.standing.name, source.reader, u64::MAX));
    let mut merge = Merge::new(readers.collect())?;
    loop {
        let frame = merge.next_frame()?;
        for item in merge.take_beside() {
            beside(&item, partition, &mut owners, &mut targets, &mut splitting, now)?;
        }
        let Some(frame) = frame else { break };
        let seq = frame.seq.get();
        if seq >= next_seq {
            splitting.beyond += 1;
            continue;
        }
        if let Some(definition) = frame.view::<Definition>()
            && owners.len() < limits::INSTRUMENTS_MAX
        {
            owners.insert(frame.instrument(), partition.owner_of(&definition.names()));
        }
        let owner = owners.get(&frame.instrument());
        let target = owner.and_then(|owner| targets.get_mut(usize::from(*owner)));
        let Some(target) = target else {
            // Whose it is was lost: then it is lost too, and that is told.
            note_lost(seq, seq, &mut targets, &mut splitting, now)?;
            continue;
        };
        if frame.view::<Definition>().is_some() {
            target.definitions.insert(frame.instrument(), frame);
        } else if frame.is_naming() {
            target.full_names.entry(frame.instrument()).or_default().note(&frame);
        }
        target.append(LogEntry::Event(&frame), now)?;
        target.part.note(&frame);
    }
    for mut target in targets {
        target.log.set_upstream(if whole_from > 1 { whole_from } else { 0 }, next_seq, now)?;
        target.log.close(now)?;
        splitting.parts.push(target.part);
    }
    Ok(splitting)
}

/// Takes in what stands beside the frames.
fn beside<S: Storage>(
    item: &Item,
    partition: &Partition,
    owners: &mut BTreeMap<InstrumentId, u16>,
    targets: &mut [Target<S>],
    splitting: &mut Splitting,
    now: Now,
) -> Result<(), RebuildError> {
    match item {
        Item::Statement(frame) => {
            if is_uncertain(frame) {
                return Ok(());
            }
            let Some(definition) = frame.view::<Definition>() else {
                let owner = owners.get(&frame.instrument());
                let target = owner.and_then(|owner| targets.get_mut(usize::from(*owner)));
                return match target {
                    Some(target) if frame.is_naming() => target.state_name(frame, now),
                    _ => Ok(()),
                };
            };
            let owner = partition.owner_of(&definition.names());
            if owners.len() < limits::INSTRUMENTS_MAX {
                owners.insert(frame.instrument(), owner);
            }
            let Some(target) = targets.get_mut(usize::from(owner)) else { return Ok(()) };
            if !target.definitions.contains_key(&frame.instrument()) {
                target.append(LogEntry::Statement(frame), now)?;
                target.definitions.insert(frame.instrument(), *frame);
            }
            Ok(())
        }
        Item::Hole(from, to) => note_hole(*from, *to, targets, splitting.next_seq, now),
        Item::Lost { from_seq, to_seq, .. } => {
            note_lost(*from_seq, *to_seq, targets, splitting, now)
        }
        Item::Data(_) | Item::Epoch(..) | Item::Mark(..) => Ok(()),
    }
}

/// These numbers were in an old log and cannot be read any more.
fn note_lost<S: Storage>(
    from: u64,
    to: u64,
    targets: &mut [Target<S>],
    splitting: &mut Splitting,
    now: Now,
) -> Result<(), RebuildError> {
    if from <= to {
        splitting.lost = splitting.lost.saturating_add((to - from).saturating_add(1));
    }
    note_hole(from, to, targets, splitting.next_seq, now)
}

fn note_hole<S: Storage>(
    from: u64,
    to: u64,
    targets: &mut [Target<S>],
    next_seq: u64,
    now: Now,
) -> Result<(), RebuildError> {
    let (from, to) = (from.max(1), to.min(next_seq.saturating_sub(1)));
    if from > to {
        return Ok(());
    }
    for target in targets {
        if target.holes.iter().any(|(first, last)| *first <= from && to <= *last) {
            continue;
        }
        target.append(LogEntry::Hole(&hole(from, to)), now)?;
        target.holes.push((from, to));
        if target.holes.len() > limits::HOLES_MAX {
            // Too much is said rather than too little.
            let first = target.holes.iter().map(|(first, _)| *first).min().unwrap_or(from);
            let last = target.holes.iter().map(|(_, last)| *last).max().unwrap_or(to);
            target.holes = vec![(first, last)];
        }
    }
    Ok(())
}

fn hole(from: u64, to: u64) -> Frame {
    Frame::seal(Gap::uncounted(GapReason::Corrupt, Seq::or_first(from), Seq::or_first(to)))
}

/// Reads a new log again, and compares it with what was to be written.
///
/// # Errors
/// When it is not the same, or cannot be read.
pub fn check_split<F: Files>(part: &Part, mut reader: Reader<F>) -> Result<(), RebuildError> {
    let mut found = Part::default();
    while let Some(item) = reader.next_item()? {
        match item {
            Item::Data(frame) => found.note(&frame),
            Item::Lost { from_position, .. } => {
                let text = format!("the record at position {from_position} cannot be read");
                return Err(RebuildError::Check(text));
            }
            Item::Statement(_) | Item::Hole(..) | Item::Epoch(..) | Item::Mark(..) => {}
        }
    }
    if found == *part {
        return Ok(());
    }
    let text = format!("it has {} frames instead of {}, or other ones", found.frames, part.frames);
    Err(RebuildError::Check(text))
}
