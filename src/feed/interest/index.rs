//! Which interests want a symbol: all patterns of all interests, by what they are looked up with. An exact
//! pattern is found by the symbol, a prefix by the symbol's own beginnings. What is *not* here: what an
//! interest is.
//!
//! # Decisions
//!
//! * Both are ordered maps and not hash tables. Subscribers choose the keys. Against a hasher without secrets
//!   they could choose keys that all fall into one bucket, and a machine may not have a random one.
//! * A look-up of prefixes visits what is stored, not each length that a stem may have. The greatest stem up to
//!   the symbol shares a beginning with it, and every stem that the symbol begins with is within that beginning.

use std::collections::BTreeMap;

use crate::feed::Pattern;
use crate::planted::{Bug, is_planted};
use crate::wire::Symbol;

/// One pattern of one interest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Key in the table of interests.
    pub(super) interest: u32,
    /// Place among the patterns of the interest.
    pub(super) pattern: u16,
    pub(super) kinds: u16,
}

/// All patterns.
#[derive(Debug, Default)]
pub(super) struct PatternIndex {
    exact: BTreeMap<Symbol, Vec<Entry>>,
    /// By stem.
    prefixes: BTreeMap<Symbol, Vec<Entry>>,
}

/// How far a walk over all entries that want one symbol has come.
///
/// Invariant: a list is walked from its end to its beginning. Entries that leave between two pieces move the
/// last one into their place, which is behind what is left to walk or was there already.
#[derive(Clone, Debug)]
pub(super) struct Walk {
    symbol: Symbol,
    place: Place,
    /// The list in which the walk stands, and how many of its entries are left.
    left: Option<(Symbol, usize)>,
}

#[derive(Clone, Copy, Debug)]
enum Place {
    Exact,
    /// Stems up to this one.
    Prefix(Symbol),
    Over,
}

impl Walk {
    pub(super) fn of(symbol: Symbol) -> Walk {
        Walk { symbol, place: Place::Exact, left: None }
    }
}

impl PatternIndex {
    /// Adds a pattern; its place in its list. `None`: no symbol can match it.
    pub(super) fn insert(&mut self, pattern: &Pattern, entry: Entry) -> Option<u32> {
        let list = self.table(pattern).entry(pattern.key()?).or_default();
        let place = u32::try_from(list.len()).ok()?;
        if list.is_empty() {
            // Most lists have one entry.
            list.reserve_exact(1);
        }
        list.push(entry);
        Some(place)
    }

    /// Takes a pattern out. The entry that has its place now, when there is one, has to be told.
    pub(super) fn remove(&mut self, pattern: &Pattern, place: u32) -> Option<Entry> {
        let (key, place) = (pattern.key()?, place as usize);
        let table = self.table(pattern);
        let list = table.get_mut(&key)?;
        if place < list.len() {
            list.swap_remove(place);
        }
        let moved = list.get(place).copied();
        if list.is_empty() {
            table.remove(&key);
        }
        moved
    }

    fn table(&mut self, pattern: &Pattern) -> &mut BTreeMap<Symbol, Vec<Entry>> {
        if pattern.is_prefix() { &mut self.prefixes } else { &mut self.exact }
    }

    /// The next entries that want the symbol, at most so many; `None` behind the last. Each call is one look-up
    /// or two.
    pub(super) fn next(&self, walk: &mut Walk, count_max: usize) -> Option<&[Entry]> {
        loop {
            let (key, list, next) = match walk.place {
                Place::Over => return None,
                Place::Exact => {
                    (walk.symbol, self.exact.get(&walk.symbol), Place::Prefix(walk.symbol))
                }
                Place::Prefix(until) => {
                    let Some((stem, list)) = self.prefixes.range(..=until).next_back() else {
                        walk.place = Place::Over;
                        continue;
                    };
                    let (text, wanted) = (stem.text_bytes(), until.text_bytes());
                    let common = text.iter().zip(wanted).take_while(|(a, b)| a == b).count();
                    if common < text.len() {
                        // A neighbour. What the symbol begins with is within what both begin with.
                        let within = Symbol::least_of(wanted.get(..common).unwrap_or_default());
                        walk.place = Place::Prefix(within);
                        if is_planted(Bug::PrefixIndexMissesNeighbour) {
                            walk.place = Place::Over;
                        }
                        continue;
                    }
                    let shorter = text.split_last().map(|(_, shorter)| shorter);
                    let next = shorter
                        .map_or(Place::Over, |shorter| Place::Prefix(Symbol::least_of(shorter)));
                    // The market does not contain the system.
                    let is_meant = !text.is_empty() || !walk.symbol.text_bytes().starts_with(b"$");
                    (*stem, Some(list).filter(|_| is_meant), next)
                }
            };
            let list = list.map(Vec::as_slice).unwrap_or_default();
            let left = walk.left.filter(|(of, _)| *of == key).map_or(list.len(), |(_, left)| left);
            // Entries may have left since.
            let end = left.min(list.len());
            let start = end.saturating_sub(count_max.max(1));
            if start == 0 {
                (walk.place, walk.left) = (next, None);
            } else {
                walk.left = Some((key, start));
            }
            let found = list.get(start..end).unwrap_or_default();
            if !found.is_empty() {
                return Some(found);
            }
        }
    }

    /// Whether there is no pattern at all.
    pub(super) fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.prefixes.is_empty()
    }
}
