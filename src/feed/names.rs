//! Instruments by all their names, for whoever looks for what a question is about. What is *not* here: the interests of
//! subscriptions, which are also looked for by name.

use std::collections::{BTreeMap, BTreeSet};

use super::Pattern;
use crate::wire::{Names, Symbol};

/// Instruments by symbol and by short form. A symbol is one instrument's, a short form may be that of several.
#[derive(Clone, Debug)]
pub struct NameTable<T> {
    /// By name, and by the symbol of who has it. A symbol is a name of its own.
    named: BTreeMap<(Symbol, Symbol), T>,
}

/// Where a look-up goes on: a name, and the symbol of who has it.
pub type NamePlace = (Symbol, Symbol);

impl<T> Default for NameTable<T> {
    fn default() -> NameTable<T> {
        NameTable { named: BTreeMap::new() }
    }
}

impl<T: Copy + Ord> NameTable<T> {
    /// Takes an instrument in. One that had the symbol before has it no more.
    pub fn insert(&mut self, names: &Names, instrument: T) {
        for name in names.iter() {
            self.named.insert((name, *names.symbol()), instrument);
        }
    }

    /// The instrument with this symbol. Its short form finds nothing here.
    #[must_use]
    pub fn of_symbol(&self, symbol: &Symbol) -> Option<T> {
        self.named.get(&(*symbol, *symbol)).copied()
    }

    /// The instruments that one of the patterns means: each once, by symbol.
    #[must_use]
    pub fn matching(&self, patterns: &[Pattern]) -> Vec<T> {
        let mut found: Vec<(Symbol, T)> = Vec::new();
        for (number, pattern) in patterns.iter().enumerate() {
            // A pattern within another finds nothing new, and 256 times `*` would be a lot of work.
            let is_within = patterns.iter().enumerate().any(|(other_number, other)| {
                other_number != number
                    && other.contains(pattern)
                    && (other_number < number || !pattern.contains(other))
            });
            if !is_within {
                let mut place = NameTable::<T>::first(pattern);
                self.look_up(pattern, &mut place, usize::MAX, |symbol, it| {
                    found.push((*symbol, it));
                });
            }
        }
        if found.len() > 1 {
            found.sort_unstable();
            // One may have two names that are meant, and one that got another symbol has both.
            let mut seen = BTreeSet::new();
            found.retain(|(_, it)| seen.insert(*it));
        }
        found.into_iter().map(|(_, it)| it).collect()
    }

    /// Where a look-up begins; `None` when nothing can match.
    #[must_use]
    pub fn first(pattern: &Pattern) -> Option<NamePlace> {
        pattern.key().map(|name| (name, Symbol::default()))
    }

    /// Finds the instruments that a pattern means, with the symbol of each, from a place on. It looks at so many names at
    /// most and leaves the place to go on at, `None` at the end. How many it looked at.
    ///
    /// Who has two names that the pattern matches is found twice.
    pub fn look_up(
        &self,
        pattern: &Pattern,
        place: &mut Option<NamePlace>,
        looks_max: usize,
        mut found: impl FnMut(&Symbol, T),
    ) -> usize {
        let Some(from) = place.take() else { return 0 };
        let mut looks = 0;
        for ((name, symbol), instrument) in self.named.range(from..) {
            let is_meant = pattern.matches(name);
            let is_within = is_meant || pattern.is_prefix() && pattern.begins(name);
            if !is_within {
                break;
            }
            if looks >= looks_max {
                *place = Some((*name, *symbol));
                break;
            }
            looks += 1;
            if is_meant {
                found(symbol, *instrument);
            }
        }
        looks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at_venue(text: &str) -> Names {
        Names::at_venue(text.parse().unwrap())
    }

    fn patterns(texts: &[&str]) -> Vec<Pattern> {
        texts.iter().map(|text| Pattern::new(text, 0).unwrap()).collect()
    }

    fn table() -> NameTable<u32> {
        let mut table = NameTable::default();
        let plain = |text: &str| Names::of(text.parse().unwrap());
        let all = [
            at_venue("xnas:AMZN"),
            plain("VALE3"),
            at_venue("arcx:AMZN"),
            plain("AMZN"),
            plain("$sys.breaker"),
            plain("PETR4"),
            at_venue("xnas:AMD"),
            plain("PETR3"),
        ];
        (0..).zip(all).for_each(|(number, names)| table.insert(&names, number));
        table
    }

    #[test]
    fn each_is_found_once_by_symbol_and_no_system_topic() {
        let table = table();
        for (asked, found) in [
            (&["PETR4", "PETR*", "PETR4"][..], &[7, 5][..]),
            (&["*", "*", "AMZN"], &[3, 7, 5, 1, 2, 6, 0]),
            (&["$*"], &[4]),
            (&["PETR*", "X", "VALE3"], &[7, 5, 1]),
            (&["AMZN"], &[3, 2, 0]),
            (&["AMZN*", "xnas:AMZN"], &[3, 2, 0]),
            (&["xnas:AMZN", "AMD"], &[6, 0]),
            (&["xnas*", "AM*"], &[3, 2, 6, 0]),
            (&["sys*"], &[]),
        ] {
            assert_eq!(table.matching(&patterns(asked)), found, "{asked:?}");
        }
    }

    #[test]
    fn a_symbol_is_one_instruments_and_a_short_form_finds_none() {
        let mut table = table();
        let symbol = |text: &str| text.parse::<Symbol>().unwrap();
        assert_eq!(table.of_symbol(&symbol("AMZN")), Some(3));
        assert_eq!((table.of_symbol(&symbol("AMD")), table.of_symbol(&symbol("X"))), (None, None));
        // Another one has the symbol now.
        table.insert(&at_venue("xnas:AMD"), 9);
        assert_eq!(table.of_symbol(&symbol("xnas:AMD")), Some(9));
        assert_eq!(
            table.matching(&patterns(&["AMD"])),
            [9],
            "the one before is not found any more"
        );
        // And it has another symbol, and keeps the one before.
        table.insert(&at_venue("arcx:AMD"), 9);
        assert_eq!(table.matching(&patterns(&["AMD"])), [9], "once");
        assert_eq!(table.matching(&patterns(&["xnas:AMD"])), [9]);
    }

    #[test]
    fn a_look_goes_on_where_it_stopped() {
        let table = table();
        for asked in ["*", "AM*", "AMZN", "xnas*", "X"] {
            let pattern = Pattern::new(asked, 0).unwrap();
            let (mut whole, mut pieces) = (Vec::new(), Vec::new());
            let mut place = NameTable::<u32>::first(&pattern);
            table.look_up(&pattern, &mut place, usize::MAX, |_, it| whole.push(it));
            assert_eq!(place, None);
            let mut place = NameTable::<u32>::first(&pattern);
            while place.is_some() {
                let looks = table.look_up(&pattern, &mut place, 1, |_, it| pieces.push(it));
                assert!(looks <= 1);
            }
            assert_eq!(whole, pieces, "{asked}");
        }
    }
}
