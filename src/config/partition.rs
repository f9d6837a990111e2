//! Section `[partition]`: which shard owns which symbols.

use serde::Deserialize;

use super::ConfigError;
use crate::market::partition::Partition;

/// How symbols are spread over the shards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PartitionBy {
    /// By a hash of the symbol: even, whatever the symbols are.
    #[default]
    Hash,
    /// By the beginning of the symbol, as `ranges` says.
    Range,
}

/// Section `[partition]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PartitionRule {
    /// `by`: `"hash"` (default) or `"range"`.
    pub by: PartitionBy,
    /// `ranges`: one range for each shard, both ends included, ascending, without overlap or gap. Used
    /// with `by = "range"`. Default `["A-H", "I-P", "Q-Z"]`.
    pub ranges: Vec<String>,
}

impl Default for PartitionRule {
    fn default() -> PartitionRule {
        let ranges = ["A-H", "I-P", "Q-Z"].map(str::to_owned).to_vec();
        PartitionRule { by: PartitionBy::Hash, ranges }
    }
}

impl PartitionRule {
    /// The function from symbol to shard.
    ///
    /// # Errors
    /// When the ranges do not divide all symbols among so many shards.
    pub fn partition(&self, shards: usize) -> Result<Partition, ConfigError> {
        let place = "[partition] ranges";
        let wrong = |problem: String| ConfigError::new(place, problem);
        if self.by == PartitionBy::Hash {
            let shards = u16::try_from(shards).unwrap_or(u16::MAX);
            return Partition::hash(shards).map_err(|error| wrong(error.to_string()));
        }
        if self.ranges.len() != shards {
            let problem = format!(
                "has {} ranges for {shards} shards; give one for each of [net] shards",
                self.ranges.len()
            );
            return Err(wrong(problem));
        }
        Partition::range(&self.ranges).map_err(|error| wrong(error.to_string()))
    }
}
