//! The instruments of tapes: a symbol at a venue. Two venues may have the same symbol, and stay two instruments.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use ::dbn::Publisher;

use super::Tape;
use super::schedule::ScheduleError;
use crate::feed::Pattern;
use crate::limits::INSTRUMENTS_MAX;
use crate::market::instrument::{Instruments, TableFull};
use crate::wire::{FullName, InstrumentIndex, Names, Symbol};

/// Where an instrument is traded, as its tape says it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Venue {
    /// The tape does not say.
    #[default]
    Unnamed,
    /// B3, by its market identifier code.
    B3,
    /// Databento's number of a publisher: a venue as one dataset shows it.
    Publisher(u16),
}

impl fmt::Display for Venue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Venue::Unnamed => f.write_str("TAPE"),
            Venue::B3 => f.write_str("BVMF"),
            Venue::Publisher(number) => match Publisher::try_from(number) {
                Ok(publisher) => f.write_str(publisher.venue().as_str()),
                Err(_) => write!(f, "P{number}"),
            },
        }
    }
}

/// One instrument of a tape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TapeInstrument {
    /// Where it is traded.
    pub venue: Venue,
    /// Its name there.
    pub symbol: Symbol,
    /// What the symbol stands for, where that is another name.
    pub full_name: Option<FullName>,
    /// How many decimals its prices are shown with at least.
    pub decimals: u8,
    /// How many decimals a unit of its quantities has.
    pub quantity_decimals: u8,
    /// Whether its symbol begins with its venue, as in a journal.
    pub is_at_venue: bool,
}

impl TapeInstrument {
    /// Whether the pattern means it. The venue may stand ahead of the symbol in the pattern too, but for that its `:` must
    /// be there: `X*` means what begins with X, and not all of XNAS.
    #[must_use]
    pub fn is_meant_by(&self, pattern: &Pattern) -> bool {
        let names = match self.is_at_venue {
            true => Names::at_venue(self.symbol),
            false => Names::of(self.symbol),
        };
        let is_at = || {
            let (name, _) = Symbol::at_venue(&self.venue.to_string(), &self.symbol);
            pattern.text().contains(':') && pattern.matches(&name)
        };
        pattern.means(&names) || is_at()
    }
}

/// The instruments of one tape, numbered from 0 in the order in which they came.
#[derive(Clone, Debug, Default)]
pub struct TapeInstruments {
    rows: Vec<TapeInstrument>,
    by_name: BTreeMap<(Venue, Symbol), InstrumentIndex>,
}

impl TapeInstruments {
    /// The index of `symbol` at `venue`, which gets the next free one when it is new.
    ///
    /// # Errors
    /// When it is new and there are [`INSTRUMENTS_MAX`].
    pub fn insert(
        &mut self,
        venue: Venue,
        symbol: Symbol,
        decimals: u8,
    ) -> Result<InstrumentIndex, TableFull> {
        if let Some(&index) = self.by_name.get(&(venue, symbol)) {
            self.raise_decimals(index, decimals);
            return Ok(index);
        }
        if self.rows.len() >= INSTRUMENTS_MAX {
            return Err(TableFull);
        }
        let index = InstrumentIndex::at(self.rows.len()).ok_or(TableFull)?;
        self.rows.push(TapeInstrument {
            venue,
            symbol,
            full_name: None,
            decimals,
            quantity_decimals: 0,
            is_at_venue: false,
        });
        self.by_name.insert((venue, symbol), index);
        Ok(index)
    }

    /// Makes the instrument show at least this many decimals.
    pub fn raise_decimals(&mut self, index: InstrumentIndex, decimals: u8) {
        if let Some(row) = self.rows.get_mut(index.place()) {
            row.decimals = row.decimals.max(decimals);
        }
    }

    /// States how many decimals a unit of the instrument's quantities has. Without a word they are whole numbers.
    pub fn set_quantity_decimals(&mut self, index: InstrumentIndex, decimals: u8) {
        if let Some(row) = self.rows.get_mut(index.place()) {
            row.quantity_decimals = decimals;
        }
    }

    /// States the name that the instrument's symbol stands for.
    ///
    /// # Errors
    /// The other name that it stands for already.
    pub fn set_full_name(
        &mut self,
        index: InstrumentIndex,
        name: FullName,
    ) -> Result<(), FullName> {
        let Some(row) = self.rows.get_mut(index.place()) else { return Ok(()) };
        match row.full_name {
            Some(other) if other != name => Err(other),
            _ => {
                row.full_name = Some(name);
                Ok(())
            }
        }
    }

    /// States that the instrument's symbol begins with its venue.
    pub fn set_at_venue(&mut self, index: InstrumentIndex) {
        if let Some(row) = self.rows.get_mut(index.place()) {
            row.is_at_venue = true;
        }
    }

    /// All of them; a row's position is its index.
    #[must_use]
    pub fn rows(&self) -> &[TapeInstrument] {
        &self.rows
    }
}

/// One table for all tapes, for each tape its own indexes in that table, and what has to be said about the names.
pub(super) struct Merged {
    pub(super) instruments: Instruments,
    pub(super) indexes: Vec<Vec<InstrumentIndex>>,
    /// Symbols of several venues.
    pub(super) shared: Vec<Symbol>,
}

/// Instruments of the same venue and symbol become one. A symbol that several venues have is written with its venue, as in
/// `XNAS:QQQ`, and `QQQ` means all of them; of a symbol that one venue has the venue is left away.
pub(super) fn merge(tapes: &[Tape]) -> Result<Merged, ScheduleError> {
    // Of an instrument without an event nothing is told, so it is nobody's namesake.
    let told = |tape: &Tape| {
        let mut told = vec![false; tape.instruments.rows().len()];
        tape.events.iter().for_each(|event| told[event.instrument.place()] = true);
        told
    };
    let told: Vec<Vec<bool>> = tapes.iter().map(told).collect();
    let mut venues: BTreeMap<Symbol, BTreeSet<Venue>> = BTreeMap::new();
    for (tape, told) in tapes.iter().zip(&told) {
        for (row, _) in tape.instruments.rows().iter().zip(told).filter(|(_, told)| **told) {
            venues.entry(row.symbol).or_default().insert(row.venue);
        }
    }
    let mut merged = Merged {
        instruments: Instruments::new(),
        indexes: Vec::with_capacity(tapes.len()),
        shared: venues.iter().filter(|(_, at)| at.len() > 1).map(|(symbol, _)| *symbol).collect(),
    };
    let mut names: BTreeMap<(Venue, Symbol), Symbol> = BTreeMap::new();
    let mut taken: BTreeSet<Symbol> = venues.keys().copied().collect();
    for (tape, told) in tapes.iter().zip(&told) {
        let mut own = Vec::with_capacity(tape.instruments.rows().len());
        for (row, is_told) in tape.instruments.rows().iter().zip(told) {
            if !is_told {
                own.push(InstrumentIndex::FIRST);
                continue;
            }
            let at = &venues[&row.symbol];
            let name = *names.entry((row.venue, row.symbol)).or_insert_with(|| {
                if at.len() == 1 {
                    return row.symbol;
                }
                let name = qualified(row.venue, &row.symbol, at, &taken);
                taken.insert(name);
                name
            });
            let is_new = merged.instruments.index_of(&name).is_none();
            let index = merged.instruments.insert(name, row.decimals)?;
            let text = row.full_name.map_or(row.symbol.to_string(), |name| name.to_string());
            let full = if at.len() > 1 { format!("{}:{text}", row.venue) } else { text };
            // A name with a number behind it stands for nothing.
            if let Ok(full) = full.parse::<FullName>()
                && full.as_str() != name.as_str()
                && full.symbol() == name
            {
                merged.instruments.set_full_name(index, full);
            }
            if is_new {
                merged.instruments.set_quantity_decimals(index, row.quantity_decimals);
            }
            if at.len() > 1 || row.is_at_venue {
                merged.instruments.set_at_venue(index);
            }
            let known = merged.instruments.get(index).map(|known| known.quantity_decimals);
            if known != Some(row.quantity_decimals) {
                return Err(ScheduleError::QuantityDecimals(name));
            }
            own.push(index);
        }
        merged.indexes.push(own);
    }
    Ok(merged)
}

/// A name for `symbol` at `venue` that nothing else has. Two publishers of one venue are told apart by their numbers.
fn qualified(
    venue: Venue,
    symbol: &Symbol,
    at: &BTreeSet<Venue>,
    taken: &BTreeSet<Symbol>,
) -> Symbol {
    let namesakes = at.iter().filter(|other| other.to_string() == venue.to_string()).count();
    let venue = match venue {
        Venue::Publisher(number) if namesakes > 1 => format!("P{number}"),
        venue => venue.to_string(),
    };
    let whole = format!("{venue}:{symbol}");
    let free = |name: &Symbol| !taken.contains(name);
    let numbered = (2_u32..).map(|number| Symbol::fitted(&whole, &format!("~{number}")));
    let first = Symbol::at_venue(&venue, symbol).0;
    std::iter::once(first).chain(numbered).find(free).unwrap_or(*symbol)
}

#[cfg(test)]
mod tests {
    use super::super::{TapeBody, TapeEvent};
    use super::*;

    fn tape(rows: &[(Venue, &str)]) -> Tape {
        let mut tape = Tape::default();
        for (venue, symbol) in rows {
            let index = tape.instruments.insert(*venue, symbol.parse().unwrap(), 2).unwrap();
            let body = TapeBody::Halt { is_halted: true };
            tape.events.push(TapeEvent::new(1, index, body));
        }
        tape
    }

    fn names(merged: &Merged) -> Vec<Vec<&str>> {
        let name = |index: &InstrumentIndex| {
            let row = merged.instruments.rows().get(index.place());
            row.map_or("", |row| row.symbol.as_str())
        };
        merged.indexes.iter().map(|own| own.iter().map(name).collect()).collect()
    }

    #[test]
    fn a_venue_is_named_where_two_have_the_symbol() {
        // Numbers of publishers: <https://databento.com/docs/standards-and-conventions>.
        let (xnas, other, basic) =
            (Venue::Publisher(2), Venue::Publisher(60), Venue::Publisher(81));
        assert_eq!((xnas.to_string(), basic.to_string()), ("XNAS".into(), "XNAS".into()));
        let merged = merge(&[
            tape(&[(xnas, "QQQ"), (xnas, "AMZN"), (other, "QQQ")]),
            tape(&[(Venue::B3, "PETR4"), (xnas, "QQQ")]),
        ]);
        let merged = merged.unwrap();
        let there = format!("{other}:QQQ");
        let want = [vec!["XNAS:QQQ", "AMZN", there.as_str()], vec!["PETR4", "XNAS:QQQ"]];
        assert_eq!(names(&merged), want);
        assert_eq!(merged.shared, ["QQQ".parse().unwrap()]);
        let at_venue = merged.instruments.rows().iter().filter(|row| row.is_at_venue);
        let at_venue: Vec<&str> = at_venue.map(|row| row.symbol.as_str()).collect();
        assert_eq!(
            at_venue,
            ["XNAS:QQQ", there.as_str()],
            "QQQ means both, and AMZN is no venue's"
        );
        let merged = merge(&[tape(&[(xnas, "Q"), (basic, "Q"), (Venue::Publisher(9_999), "Q")])]);
        assert_eq!(names(&merged.unwrap()), [["P2:Q", "P81:Q", "P9999:Q"]]);
    }

    #[test]
    fn a_pattern_may_name_the_venue_with_its_colon() {
        let row = |venue, symbol: &str, is_at_venue| TapeInstrument {
            venue,
            symbol: symbol.parse().unwrap(),
            full_name: None,
            decimals: 2,
            quantity_decimals: 0,
            is_at_venue,
        };
        let rows = [
            row(Venue::Publisher(2), "QQQ", false),
            row(Venue::B3, "QQQ", false),
            row(Venue::Unnamed, "xnas:QQQ", true),
            row(Venue::Unnamed, "xnas:QQQ", false),
        ];
        for (text, want) in [
            ("QQQ", [true, true, true, false]),
            ("XNAS:QQQ", [true, false, false, false]),
            ("XNAS:*", [true, false, false, false]),
            ("X*", [false; 4]),
            ("xnas:*", [false, false, true, true]),
            ("xnas*", [false, false, true, true]),
            ("Q*", [true, true, true, false]),
            ("*", [true; 4]),
        ] {
            let pattern = Pattern::new(text, 0).unwrap();
            assert_eq!(rows.map(|row| row.is_meant_by(&pattern)), want, "{text}");
        }
    }

    #[test]
    fn a_name_with_its_venue_is_nobody_elses() {
        let (xnas, b3) = (Venue::Publisher(2), Venue::B3);
        let long = "A-SYMBOL-OF-TWENTY-TWO";
        let merged =
            merge(&[tape(&[(xnas, "Q"), (b3, "Q"), (b3, "XNAS:Q"), (xnas, long), (b3, long)])]);
        let at = |venue: &str| Symbol::standing_for(&format!("{venue}:{long}")).to_string();
        let want = ["XNAS:Q~2", "BVMF:Q", "XNAS:Q", &at("XNAS"), &at("BVMF")];
        let merged = merged.unwrap();
        assert_eq!(names(&merged), [want]);
    }
}
