//! The journal of a history: what is kept of the old one, record by record, and behind it what the shards hold.

use std::collections::VecDeque;

use super::exchanges::{self, Decided, FeedPlaces, GoesOn};
use super::known::Known;
use super::merge::Merge;
use super::standing::{Plan, Standing};
use super::{RebuildError, append};
use crate::limits::INSPECT_CHUNK_BYTES;
use crate::log::append::NewEpoch;
use crate::log::backend::{Completion, Segment, Storage, StorageError};
use crate::log::config::{AppendError, LogConfig};
use crate::log::header::HEADER_BYTES;
use crate::log::inspect::{Files, Item, Outline, Reader};
use crate::log::lineage::{EpochEntry, LogEpoch};
use crate::log::mark::{Reason, Record, is_uncertain};
use crate::log::{Log, LogEntry};
use crate::planted::{Bug, is_planted};
use crate::time::Now;
use crate::wire::{ExchangeNumber, Frame, Gap, GapReason, Seq, as_frames};

/// What the exchange without a name is called where it is told with others.
const NAMELESS: &str = "exchange";

/// What was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rebuilt {
    /// The seq below which the old journal was kept.
    pub kept_below_seq: u64,
    /// Frames that came from the shards.
    pub frames: u64,
    /// Numbers that no shard has.
    pub lost: u64,
    /// The next seq.
    pub next_seq: u64,
    /// The epoch that begins there.
    pub epoch: u32,
    /// The feed of the exchange without a name, and the next number that is wanted of it.
    pub upstream: (u64, u64),
    /// The same of each exchange with a name, where the journal was rebuilt.
    pub exchanges: Vec<GoesOn>,
}

/// Writes the journal of this plan into an empty place, closed. `places` says where core goes on at the exchanges, and
/// `epoch_id` is the identity of the epoch that begins at the end: a random number.
///
/// # Errors
/// When something cannot be read or written, or the sources are not what the plan says.
pub fn rebuild_journal<F: Files, S: Storage>(
    mut storage: S,
    config: LogConfig,
    plan: &Plan,
    journal: Option<(F, &Outline)>,
    shards: Vec<(Standing, Reader<F>)>,
    (places, epoch_id): (&FeedPlaces, u64),
    now: Now,
) -> Result<Rebuilt, RebuildError> {
    let mut known = Known::with_names(places.named.keys().cloned());
    let has_kept = journal.is_some() && plan.keep_below_seq > 1;
    if let Some((mut files, outline)) = journal.filter(|_| has_kept) {
        copy_below(&mut files, outline, plan, &mut storage, &mut known)?;
    }
    let (mut log, recovery) = Log::open_journal(storage, config, plan.journal_id, now)?;
    log.require_checkpoints();
    let place = places.nameless.unwrap_or_default();
    if !has_kept {
        log.set_upstream(place.feed, 1, now)?;
    }
    let (before, least_seq) = log.upstream();
    if place.feed != 0 && place.feed != before && place.next_seq.is_none() {
        return Err(RebuildError::FeedChanged { before, now: place.feed });
    }
    // Where the journal rots, it counts what may be another exchange's.
    let is_whole = recovery.damaged.is_empty() && recovery.skipped_segments.is_empty();
    let is_behind = |next_seq: &u64| place.feed == before && before != 0 && *next_seq < least_seq;
    if let Some(next_seq) = place.next_seq.filter(is_behind).filter(|_| is_whole) {
        let name = NAMELESS.to_owned();
        return Err(RebuildError::PlaceBehind { name, next_seq, feed: before, least_seq });
    }
    if log.next_seq() != plan.keep_below_seq {
        let text = format!("it ends at seq {} and not at {}", log.next_seq(), plan.keep_below_seq);
        return Err(RebuildError::Check(text));
    }
    let mut rebuilt = Rebuilt { kept_below_seq: plan.keep_below_seq, ..Rebuilt::default() };
    let cut = u64::from(is_planted(Bug::MergeDropsLast));
    let until = |standing: &Standing| standing.next_seq.saturating_sub(cut).min(plan.end_seq);
    let readers = shards.into_iter().map(|(standing, reader)| {
        let until = until(&standing);
        (standing.name, reader, until)
    });
    let mut merge = Merge::new(readers.collect())?;
    let mut epochs: VecDeque<EpochEntry> = plan.epochs.iter().copied().collect();
    while let Some(frame) = merge.next_frame()? {
        for item in merge.take_beside() {
            let Item::Statement(stated) = item else { continue };
            // The frame that defined it may be gone from every log.
            let is_news =
                stated.is_naming() && !known.has_naming(&stated) && !is_uncertain(&stated);
            if is_news {
                append(&mut log, LogEntry::Statement(&stated), now, || known.statements())?;
            }
            known.note(&stated);
        }
        if frame.seq.get() < plan.keep_below_seq {
            known.note(&frame);
            continue;
        }
        let frame_seq = frame.seq.get();
        begin_epochs(&mut log, &mut epochs, frame_seq, &mut rebuilt, &mut known, now)?;
        pass_hole(&mut log, frame_seq, &mut rebuilt, &mut known, now)?;
        let is_local = known.is_local(&frame);
        // A definition does not say whose it is.
        let is_nameless = frame.has_exchange() && frame.exchange() == ExchangeNumber::FIRST;
        if is_nameless && !is_local && places.nameless.is_none() {
            return Err(RebuildError::FeedUnknown);
        }
        let entry = if is_local { LogEntry::LocalEvent(&frame) } else { LogEntry::Event(&frame) };
        append(&mut log, entry, now, || known.statements())?;
        // Behind that: a head that is written ahead of the frame must not count it, or who reads both counts it twice.
        known.note(&frame);
        rebuilt.frames += 1;
    }
    begin_epochs(&mut log, &mut epochs, plan.end_seq, &mut rebuilt, &mut known, now)?;
    pass_hole(&mut log, plan.end_seq, &mut rebuilt, &mut known, now)?;
    let decided = exchanges::decide(&known, &places.named)?;
    if rebuilt.lost > 0 {
        // So that core need not take each of the lost numbers for a definition that nobody states again.
        while let Err(error) = log.write_checkpoint(&known.statements()) {
            if error != AppendError::NotReady {
                return Err(error.into());
            }
            log.commit(now);
            log.wait(now)?;
        }
    }
    if let Some(next_seq) = place.next_seq {
        let feed = if place.feed == 0 { log.upstream().0 } else { place.feed };
        log.set_upstream(feed, next_seq, now)?;
    }
    finish(log, plan, epoch_id, (rebuilt, &mut known, decided), now)
}

/// Has followers give up what the journal in this place never had. `source`: a journal that cannot be opened because
/// its last segments are missing is copied first, as far as it goes.
///
/// # Errors
/// When something cannot be read or written.
pub fn follow_journal<F: Files, S: Storage>(
    mut storage: S,
    config: LogConfig,
    plan: &Plan,
    source: Option<(F, &Outline)>,
    epoch_id: u64,
    now: Now,
) -> Result<Rebuilt, RebuildError> {
    if let Some((mut files, outline)) = source {
        let mut known = Known::default();
        let all = Plan { keep_below_seq: u64::MAX, keep_epoch: u32::MAX, ..Plan::default() };
        copy_below(&mut files, outline, &all, &mut storage, &mut known)?;
    }
    let (log, _) = Log::open_journal(storage, config, plan.journal_id, now)?;
    let rebuilt = Rebuilt { kept_below_seq: log.next_seq(), ..Rebuilt::default() };
    finish(log, plan, epoch_id, (rebuilt, &mut Known::default(), Vec::new()), now)
}

/// Says what is given up, begins the epoch that an operator chose, says in it where exchanges go on, and closes.
fn finish<S: Storage>(
    mut log: Log<S>,
    plan: &Plan,
    epoch_id: u64,
    (mut rebuilt, known, decided): (Rebuilt, &mut Known, Vec<Decided>),
    now: Now,
) -> Result<Rebuilt, RebuildError> {
    for entry in &plan.given_up {
        log.give_up_epoch(*entry, now)?;
    }
    let new = NewEpoch { id: epoch_id, above: plan.epoch_max, is_chosen: true };
    rebuilt.epoch = log.begin_epoch(new, now)?;
    exchanges::say(&mut log, known, &decided, now)?;
    rebuilt.exchanges = exchanges::goes_on(decided);
    (rebuilt.next_seq, rebuilt.upstream) = (log.next_seq(), log.upstream());
    log.close(now)?;
    Ok(rebuilt)
}

/// Begins the epochs that began at or before this seq, each at its own.
fn begin_epochs<S: Storage>(
    log: &mut Log<S>,
    epochs: &mut VecDeque<EpochEntry>,
    seq: u64,
    rebuilt: &mut Rebuilt,
    known: &mut Known,
    now: Now,
) -> Result<(), RebuildError> {
    while let Some(entry) = epochs.front().copied().filter(|entry| entry.first_seq <= seq) {
        epochs.pop_front();
        pass_hole(log, entry.first_seq, rebuilt, known, now)?;
        let above = entry.epoch.saturating_sub(1);
        let (id, is_chosen) = (entry.epoch_id, entry.is_chosen);
        log.begin_epoch(NewEpoch { id, above, is_chosen }, now)?;
    }
    Ok(())
}

/// Notes what nobody has before this seq.
fn pass_hole<S: Storage>(
    log: &mut Log<S>,
    seq: u64,
    rebuilt: &mut Rebuilt,
    known: &mut Known,
    now: Now,
) -> Result<(), RebuildError> {
    let from = log.next_seq();
    if seq <= from {
        return Ok(());
    }
    let (first, last) = (Seq::or_first(from), Seq::or_first(seq - 1));
    let hole = Frame::seal(Gap::uncounted(GapReason::Corrupt, first, last));
    append(log, LogEntry::Hole(&hole), now, || known.statements())?;
    // Stated at the next head: what comes before it, a reader of this journal counts by itself.
    known.note_lost(seq - from);
    rebuilt.lost += seq - from;
    Ok(())
}

/// Copies the records of a log, as far as the plan keeps it, into an empty place. A
/// seal at the end is left out: what follows it is missing.
fn copy_below<F: Files, S: Storage>(
    files: &mut F,
    outline: &Outline,
    plan: &Plan,
    storage: &mut S,
    known: &mut Known,
) -> Result<(), RebuildError> {
    let mut until = outline.end;
    for place in &outline.places {
        if place.base >= until {
            break;
        }
        let page = read_page(files, place.segment)?;
        storage.start_prepare(
            place.segment,
            &page,
            crate::log::header::segment_bytes(place.records),
        );
        let Some(Completion::Prepared(made)) = storage.wait_completion() else {
            return Err(StorageError::Gone.into());
        };
        let mut segment = made?;
        let (mut position, mut chunk) = (place.base, vec![0; INSPECT_CHUNK_BYTES]);
        while position < place.end().min(until) {
            let wanted = usize::try_from(place.end().min(until) - position).unwrap_or(usize::MAX);
            let bytes = chunk.len().min(wanted.saturating_mul(crate::wire::FRAME_BYTES));
            let offset = place.offset_in_file(position);
            let read = files.read_at(place.segment, offset, &mut chunk[..bytes])?.unwrap_or(0);
            let frames = as_frames(&chunk[..read]).0;
            if frames.is_empty() {
                break;
            }
            for frame in frames {
                match Record::of_any_kind(frame) {
                    Some(Record::Mark(mark)) if mark.epoch.get() > plan.keep_epoch => {
                        until = position
                    }
                    Some(Record::Epoch(entry)) if is_own(entry, plan.keep_epoch) => {
                        until = position
                    }
                    Some(Record::Mark(mark)) if ends(outline, position, mark.is(Reason::Seal)) => {
                        until = position;
                    }
                    Some(Record::Data(frame)) if frame.seq.get() >= plan.keep_below_seq => {
                        until = position;
                    }
                    Some(Record::Data(frame) | Record::Statement(frame)) => known.note(frame),
                    Some(Record::Mark(mark)) => known.pass_mark(mark.seq.get()),
                    _ => {}
                }
                if position >= until {
                    break;
                }
                let at = usize::try_from(place.offset_in_file(position)).unwrap_or(HEADER_BYTES);
                segment.write(at, zerocopy::IntoBytes::as_bytes(frame));
                position += 1;
            }
        }
        storage.start_sync(&segment);
        match storage.wait_completion() {
            Some(Completion::Synced(done)) => done?,
            _ => return Err(StorageError::Gone.into()),
        }
    }
    let removed = outline.listing.removed_through;
    if removed > 0 {
        storage.set_removed_through(removed)?;
    }
    Ok(())
}

/// Whether a record of the lineage begins an epoch that is not kept.
fn is_own(entry: &LogEpoch, keep_epoch: u32) -> bool {
    entry.what & LogEpoch::GIVEN_UP == 0 && entry.epoch.get() > keep_epoch
}

/// Whether a seal at this position is the end of a log whose next segment is missing.
fn ends(outline: &Outline, position: u64, is_seal: bool) -> bool {
    let last = outline.places.iter().rfind(|place| place.base < outline.end);
    is_seal && outline.is_sealed && last.is_some_and(|last| position >= last.base)
}

fn read_page<F: Files>(files: &mut F, number: u64) -> Result<[u8; HEADER_BYTES], RebuildError> {
    let mut page = [0; HEADER_BYTES];
    files.read_at(number, 0, &mut page)?;
    Ok(page)
}
