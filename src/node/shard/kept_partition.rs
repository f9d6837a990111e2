//! Which part of the symbols a shard keeps, on record beside its log: a shard that starts with another
//! partition would neither find what it has nor get what it lacks.
//!
//! # Decisions
//!
//! * The record is a line of text in a file of its own. So a refusal can say what the partition was, and an
//!   operator can read it.
//! * A log of an older program has no record. It is taken over when every symbol in it belongs to this shard.
//!   Symbols that moved elsewhere show another partition; symbols that should have come here do not.
//! * Core's partition is compared without a field in SESSION, which has none left: a definition of a symbol
//!   that belongs to another shard closes the feeder.

use super::ShardConfig;
use crate::limits;
use crate::log::{Log, Read, Storage};
use crate::market::partition::Partition;
use crate::planted::{Bug, is_planted};
use crate::wire::Definition;

/// The line that says which part of the symbols this shard keeps.
#[must_use]
pub fn partition_line(partition: &Partition, shard: u16) -> String {
    format!("shard {shard} of {partition}\n")
}

/// Refuses a log that was kept for another part of the symbols. Changes nothing.
///
/// # Errors
/// What was kept, what is wanted, and what to do.
pub fn check_partition<S: Storage>(config: &ShardConfig, storage: &mut S) -> Result<(), String> {
    let kept = storage.partition().map_err(|error| error.to_string())?;
    let wanted = partition_line(&config.partition, config.shard);
    match kept {
        Some(kept) if kept != wanted.as_bytes() && !is_planted(Bug::TakeAnyPartition) => {
            let text = String::from_utf8_lossy(&kept);
            let text: String = text.trim_end().chars().take(limits::PARTITION_SHOWN_MAX).collect();
            Err(refusal(config, &format!("its log was kept as \"{text}\"")))
        }
        _ => Ok(()),
    }
}

/// Puts the part on record, unless it is there. A log without a record is looked through first.
///
/// # Errors
/// When the log has a symbol of another shard, or the record cannot be written.
pub fn keep_partition<S: Storage>(config: &ShardConfig, log: &mut Log<S>) -> Result<(), String> {
    if log.partition().map_err(|error| error.to_string())?.is_some() {
        return Ok(());
    }
    let mut position = log.first_position();
    loop {
        match log.read(position, limits::FILL_FRAMES_MAX) {
            Read::End => break,
            Read::Damaged(range) => position = range.end,
            Read::Frames(frames) => {
                let definitions = frames.iter().filter_map(|frame| frame.view::<Definition>());
                let mut owners =
                    definitions.map(|it| (it.symbol, config.partition.owner_of(&it.names())));
                if let Some((symbol, owner)) = owners.find(|(_, owner)| *owner != config.shard)
                    && !is_planted(Bug::TakeAnyPartition)
                {
                    let why = format!("its log has {symbol}, which belongs to shard {owner} now");
                    return Err(refusal(config, &why));
                }
                position += frames.len() as u64;
            }
        }
    }
    let line = partition_line(&config.partition, config.shard);
    log.keep_partition(line.as_bytes()).map_err(|error| error.to_string())
}

fn refusal(config: &ShardConfig, why: &str) -> String {
    let wanted = partition_line(&config.partition, config.shard);
    format!(
        "{} cannot start with another partition: {why}, and the configuration says \"{}\". Put the old \
         [partition] and [net] shards back, or move the data with `pregao repartition`",
        config.name,
        wanted.trim_end(),
    )
}
