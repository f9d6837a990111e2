//! Section `[partition]`: which shard owns which symbols.
//!
//! This file reads and checks the rule. The function that applies it to a symbol is not here.

use serde::Deserialize;
use serde::de::{Deserializer, Error as _};

use super::ConfigError;

/// How symbols are spread over the shards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PartitionBy {
    /// By a hash of the symbol: even, whatever the symbols are.
    #[default]
    Hash,
    /// By the symbol's first character, as `ranges` says.
    Range,
}

/// One shard's share of the first characters, both ends included: `A-H`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SymbolRange {
    /// First character owned.
    pub first: u8,
    /// Last character owned.
    pub last: u8,
}

impl<'de> Deserialize<'de> for SymbolRange {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<SymbolRange, D::Error> {
        let text = String::deserialize(from)?;
        match text.as_bytes() {
            [first, b'-', last] if first.is_ascii_graphic() && first <= last && *last <= b'~' => {
                Ok(SymbolRange { first: *first, last: *last })
            }
            _ => Err(D::Error::custom(format!(
                "{text:?} is no range; write the first and the last character, as in \"A-H\""
            ))),
        }
    }
}

/// Section `[partition]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PartitionRule {
    /// `by`: `"hash"` (default) or `"range"`.
    pub by: PartitionBy,
    /// `ranges`: one range of first characters for each shard, ascending, without overlap. Used
    /// with `by = "range"`. Default `["A-H", "I-P", "Q-Z"]`.
    pub ranges: Vec<SymbolRange>,
}

impl Default for PartitionRule {
    fn default() -> PartitionRule {
        let ranges = [(b'A', b'H'), (b'I', b'P'), (b'Q', b'Z')];
        PartitionRule {
            by: PartitionBy::Hash,
            ranges: ranges.map(|(first, last)| SymbolRange { first, last }).to_vec(),
        }
    }
}

impl PartitionRule {
    pub(super) fn validate(&self, shards: usize) -> Result<(), ConfigError> {
        if self.by == PartitionBy::Hash {
            return Ok(());
        }
        if self.ranges.len() != shards {
            let problem = format!(
                "has {} ranges for {shards} shards; give one for each of [net] shards",
                self.ranges.len()
            );
            return Err(ConfigError::new("[partition] ranges", problem));
        }
        if !self.ranges.is_sorted_by(|one, next| one.last < next.first) {
            let problem = "overlaps or is out of order; write the ranges ascending, each beginning \
                           behind the one before";
            return Err(ConfigError::new("[partition] ranges", problem));
        }
        Ok(())
    }
}
