//! Which shard owns which symbol.
//!
//! Every node that computes an owner must compute the same one, on every machine and in every version:
//! history lies where the owner was. So both ways are written out here and pinned by worked values in
//! the tests. Not a directory of shards: it knows numbers from 0, not addresses.
//!
//! # Decisions
//!
//! * The venue of a symbol does not count. A range means symbols as people sort them, and a question for the symbol of every
//!   venue goes to one shard. The price: a text alone does not say whether it begins with a venue, so a question for a
//!   whole name may have to go to two.

use std::fmt;

use crate::wire::{Names, Symbol};

/// Most shards of one partition.
pub use crate::limits::PARTITIONS_MAX;

/// How symbols are divided among shards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Partition {
    /// Evenly, by a hash of the symbol. Going from n to n + 1 shards moves one symbol in n + 1.
    Hash {
        /// How many, at least 1.
        shards: u16,
    },
    /// By the beginning of the symbol; the shard's number is the range's place in the list.
    Range(Vec<SymbolRange>),
}

/// Symbols whose beginning lies between two prefixes, both included: `A-M` holds every symbol that
/// starts with a letter from A to M, `PA-PETR` everything from `PA` up to and with `PETR4`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SymbolRange {
    first: String,
    last: String,
}

/// One shard, or two of which either may own an instrument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owners {
    whole: u16,
    short: u16,
}

impl Owners {
    /// Whether this shard is one of them.
    #[must_use]
    pub fn contains(self, shard: u16) -> bool {
        shard == self.whole || shard == self.short
    }

    /// Whether it is one shard.
    #[must_use]
    pub fn is_one(self) -> bool {
        self.whole == self.short
    }
}

/// What is wrong with a partition. Whoever configured it is to blame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum PartitionError {
    #[error("a partition needs 1 to {PARTITIONS_MAX} shards, not {0}")]
    Shards(usize),
    #[error("the range {0:?} is not of the form FIRST-LAST, such as A-M")]
    Form(String),
    #[error("the range {0:?} ends before it begins; swap its ends")]
    Backwards(String),
    #[error("the ranges {before} and {after} are not in order; list them from A to Z")]
    Order { before: SymbolRange, after: SymbolRange },
    #[error("the ranges {before} and {after} both hold symbols that start with {shared:?}")]
    Overlap { before: SymbolRange, after: SymbolRange, shared: String },
    #[error(
        "no range holds symbols that start with {homeless:?}, between {before} and {after}; \
         widen one of the two"
    )]
    Gap { before: SymbolRange, after: SymbolRange, homeless: String },
}

impl Partition {
    /// An even division among so many shards.
    ///
    /// # Errors
    /// When there are none, or too many.
    pub fn hash(shards: u16) -> Result<Partition, PartitionError> {
        check_shards(usize::from(shards))?;
        Ok(Partition::Hash { shards })
    }

    /// A division by beginnings, one text such as `A-M` for each shard, in order. So that no symbol
    /// is homeless, the first range also holds everything before it and the last everything after it.
    ///
    /// # Errors
    /// When a text is no range, or the ranges are out of order, overlap, or leave a gap.
    pub fn range<T: AsRef<str>>(ranges: &[T]) -> Result<Partition, PartitionError> {
        check_shards(ranges.len())?;
        let ranges: Vec<SymbolRange> =
            ranges.iter().map(|text| text.as_ref().parse()).collect::<Result<_, _>>()?;
        for pair in ranges.windows(2) {
            if let [before, after] = pair {
                check_neighbours(before, after)?;
            }
        }
        Ok(Partition::Range(ranges))
    }

    /// How many shards there are.
    #[must_use]
    pub fn shards(&self) -> u16 {
        match self {
            Partition::Hash { shards } => *shards,
            Partition::Range(ranges) => u16::try_from(ranges.len()).unwrap_or(u16::MAX),
        }
    }

    /// The number, from 0, of the shard that owns an instrument with these names: that of its short form, so that a symbol
    /// of several venues lies in one shard, and a range means symbols and not venues.
    #[must_use]
    pub fn owner_of(&self, names: &Names) -> u16 {
        self.owner(&names.shortest())
    }

    /// The shards that may own an instrument of this name. A text that may begin with a venue is a symbol without one to
    /// one shard, and a symbol at that venue to the other.
    #[must_use]
    pub fn owners_of_name(&self, name: &Symbol) -> Owners {
        let whole = self.owner(name);
        let short = name.behind_venue().map_or(whole, |short| self.owner(&short));
        Owners { whole, short }
    }

    /// The number, from 0, of the shard that owns what goes by this: an instrument's symbol without its venue.
    #[must_use]
    pub fn owner(&self, symbol: &Symbol) -> u16 {
        match self {
            Partition::Hash { shards } => jump(fnv1a(symbol.as_str().as_bytes()), *shards),
            Partition::Range(ranges) => {
                let text = symbol.as_str();
                // Ranges are gapless, so the owner is the last one that begins at or before the symbol.
                let later = ranges.iter().skip(1).filter(|range| range.first.as_str() <= text);
                u16::try_from(later.count()).unwrap_or(u16::MAX)
            }
        }
    }
}

/// `hash over 3 shards`, `ranges A-H I-P Q-Z`: all that decides about owners, in one line.
impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Partition::Hash { shards } => write!(f, "hash over {shards} shards"),
            Partition::Range(ranges) => {
                f.write_str("ranges")?;
                ranges.iter().try_for_each(|range| write!(f, " {range}"))
            }
        }
    }
}

fn check_shards(shards: usize) -> Result<(), PartitionError> {
    if shards == 0 || shards > usize::from(PARTITIONS_MAX) {
        return Err(PartitionError::Shards(shards));
    }
    Ok(())
}

/// Checks that `after` begins right behind the end of `before`.
fn check_neighbours(before: &SymbolRange, after: &SymbolRange) -> Result<(), PartitionError> {
    if after.first < before.first {
        return Err(PartitionError::Order { before: before.clone(), after: after.clone() });
    }
    if after.first <= before.last || after.first.starts_with(&before.last) {
        return Err(PartitionError::Overlap {
            before: before.clone(),
            after: after.clone(),
            shared: after.first.clone(),
        });
    }
    // The first prefix behind all that begins with `before.last`.
    let next = successor(&before.last);
    if next.as_deref() != Some(after.first.as_str()) {
        return Err(PartitionError::Gap {
            before: before.clone(),
            after: after.clone(),
            homeless: next.unwrap_or_default(),
        });
    }
    Ok(())
}

/// The shortest text behind every text that begins with `prefix`; `None` behind all of ASCII.
fn successor(prefix: &str) -> Option<String> {
    let mut bytes = prefix.as_bytes().to_vec();
    while let Some(last) = bytes.pop() {
        if last < b'~' {
            bytes.push(last + 1);
            return String::from_utf8(bytes).ok();
        }
    }
    None
}

impl std::str::FromStr for SymbolRange {
    type Err = PartitionError;

    fn from_str(text: &str) -> Result<SymbolRange, PartitionError> {
        let form = || PartitionError::Form(text.to_owned());
        let (first, last) = text.split_once('-').ok_or_else(form)?;
        // A prefix of a symbol is itself a symbol, and a second '-' would be ambiguous.
        for end in [first, last] {
            if end.contains('-') || end.parse::<Symbol>().is_err() {
                return Err(form());
            }
        }
        if last < first && !first.starts_with(last) {
            return Err(PartitionError::Backwards(text.to_owned()));
        }
        Ok(SymbolRange { first: first.to_owned(), last: last.to_owned() })
    }
}

impl fmt::Display for SymbolRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

/// FNV-1a, 64 bits: Fowler, Noll and Vo; constants from draft-eastlake-fnv.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xCBF2_9CE4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01B3)
    })
}

/// Jump consistent hash: Lamping and Veach, "A Fast, Minimal Memory, Consistent Hash Algorithm",
/// 2014. Follows a key through the growing numbers of shards at which it moves; the last shard that it
/// moves to is its owner. The quotient is computed in `f64` as in the paper: IEEE 754 makes
/// the same of it on every machine.
fn jump(mut key: u64, shards: u16) -> u16 {
    let mut owner = 0;
    let mut next = 0;
    while next < i64::from(shards) {
        owner = next;
        key = key.wrapping_mul(2_862_933_555_777_941_757).wrapping_add(1);
        #[allow(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            reason = "31 and at most 17 bits are exact in 53, and `as` saturates"
        )]
        {
            let draw = ((key >> 33) + 1) as f64;
            next = ((owner + 1) as f64 * ((1_u64 << 31) as f64 / draw)) as i64;
        }
    }
    u16::try_from(owner).expect("owner is below shards, which is a u16")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn symbol(text: &str) -> Symbol {
        text.parse().unwrap()
    }

    #[test]
    fn fnv1a_gives_the_published_values() {
        assert_eq!(fnv1a(b""), 0xCBF2_9CE4_8422_2325);
        assert_eq!(fnv1a(b"a"), 0xAF63_DC4C_8601_EC8C);
        assert_eq!(fnv1a(b"foobar"), 0x8594_4171_F739_67E8);
    }

    #[test]
    fn jump_gives_the_values_that_other_implementations_are_tested_with() {
        for (key, shards, owner) in
            [(1, 1, 0), (42, 57, 43), (0xDEAD_10CC, 666, 361), (256, 1024, 520)]
        {
            assert_eq!(jump(key, shards), owner, "{key:#x} of {shards}");
        }
    }

    #[test]
    fn owners_never_change_between_machines_or_versions() {
        let table: [(&str, [u16; 5]); 8] = [
            ("PETR4", [0, 1, 2, 4, 5]),
            ("VALE3", [0, 1, 1, 4, 7]),
            ("ITUB4", [0, 1, 1, 1, 1]),
            ("BBDC4", [0, 0, 2, 4, 8]),
            ("ABEV3", [0, 0, 0, 4, 7]),
            ("WINZ26", [0, 1, 1, 1, 8]),
            ("BRK.B", [0, 0, 0, 0, 0]),
            ("SPY   240621C00500000", [0, 1, 2, 4, 7]),
        ];
        for (text, owners) in table {
            for (shards, want) in [1, 2, 3, 5, 16].into_iter().zip(owners) {
                let got = Partition::hash(shards).unwrap().owner(&symbol(text));
                assert_eq!(got, want, "{text} of {shards} shards");
            }
        }
    }

    #[test]
    fn a_further_shard_only_takes_and_takes_its_share() {
        let symbols: Vec<Symbol> = (0..3_000).map(|n| symbol(&format!("SYM{n}"))).collect();
        for shards in 1..20 {
            let before = Partition::hash(shards).unwrap();
            let after = Partition::hash(shards + 1).unwrap();
            let moved: Vec<u16> = symbols
                .iter()
                .filter(|s| before.owner(s) != after.owner(s))
                .map(|s| after.owner(s))
                .collect();
            assert!(moved.iter().all(|owner| *owner == shards), "moved elsewhere at {shards}");
            let share = 3_000 / (usize::from(shards) + 1);
            assert!((share * 7 / 10..share * 13 / 10).contains(&moved.len()), "{}", moved.len());
        }
    }

    #[test]
    fn no_symbol_is_homeless() {
        let letters = Partition::range(&["A-M", "N-Z"]).unwrap();
        assert_eq!(letters.shards(), 2);
        for (text, owner) in
            [("A", 0), ("MZZZ9", 0), ("N", 1), ("ZZZZ", 1), ("$sys", 0), ("5Y", 0), ("abc", 1)]
        {
            assert_eq!(letters.owner(&symbol(text)), owner, "{text}");
        }
        let prefixes = Partition::range(&["A-PETR", "PETS-V", "W-Z"]).unwrap();
        for (text, owner) in [("PETR4", 0), ("PETS", 1), ("PF", 1), ("VALE3", 1), ("WEGE3", 2)] {
            assert_eq!(prefixes.owner(&symbol(text)), owner, "{text}");
        }
        assert_eq!(Partition::range(&["M-M"]).unwrap().owner(&symbol("ABEV3")), 0);
    }

    #[test]
    fn a_venue_does_not_decide_about_the_owner() {
        let letters = Partition::range(&["A-M", "N-Z"]).unwrap();
        for partition in [letters.clone(), Partition::hash(7).unwrap()] {
            let owner = partition.owner(&symbol("AMZN"));
            for text in ["xnas:AMZN", "arcx:AMZN", "AMZN"] {
                assert_eq!(partition.owner_of(&Names::at_venue(symbol(text))), owner, "{text}");
                assert!(partition.owners_of_name(&symbol(text)).contains(owner), "{text}");
                // Without a venue the text is all of the name.
                let whole = partition.owner(&symbol(text));
                assert_eq!(partition.owner_of(&Names::of(symbol(text))), whole);
                assert!(partition.owners_of_name(&symbol(text)).contains(whole));
            }
        }
        let of = |text: &str| letters.owners_of_name(&symbol(text));
        assert!(of("xnas:VALE3").is_one() && !of("xnas:VALE3").contains(0));
        assert!(!of("xnas:AMZN").is_one() && of("AMZN").is_one());
        assert!(of("xnas:$sys.breaker").is_one(), "the system's own have no venue");
        assert!(of("NOEXCHANGE:AMZN").is_one(), "no venue is so long");
    }

    #[test]
    fn each_mistake_in_ranges_is_named() {
        let error = |ranges: &[&str]| Partition::range(ranges).unwrap_err().to_string();
        assert!(error(&[]).contains("not 0"));
        assert_eq!(Partition::hash(0), Err(PartitionError::Shards(0)));
        for bad in ["", "A", "A-", "-Z", "A-B-C", "A*-Z", "Á-Z"] {
            assert!(error(&[bad]).contains("FIRST-LAST"), "{bad:?}");
        }
        assert!(error(&["M-A"]).contains("ends before it begins"));
        assert!(error(&["N-Z", "A-M"]).contains("not in order"));
        assert!(error(&["A-N", "M-Z"]).contains("start with \"M\""));
        assert!(error(&["A-N", "N-Z"]).contains("start with \"N\""));
        assert!(error(&["A-P", "PETR-Z"]).contains("start with \"PETR\""));
        let gap = error(&["A-K", "N-Z"]);
        assert!(gap.contains("start with \"L\", between A-K and N-Z"), "{gap}");
        assert!(error(&["A-PETR", "PF-Z"]).contains("start with \"PETS\""));
    }
}
