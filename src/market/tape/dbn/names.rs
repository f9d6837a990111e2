//! The symbol of each instrument id: by date from the metadata, and from a symbol-mapping record on where there is one.

use std::collections::BTreeMap;

use dbn::{InstrumentDefMsg, Metadata, RecordRef, SType, SymbolMappingMsg, v1, v2};

use crate::market::price::Price;
use crate::planted::{Bug, is_planted};
use crate::wire::{FullName, Symbol};

/// Nanoseconds of one day.
pub(super) const DAY_NS: u64 = 86_400_000_000_000;

/// The Julian day number of 1 January 1970.
const JULIAN_DAY_OF_EPOCH: i64 = 2_440_588;

/// The names of one file.
pub(super) struct Names {
    /// From the metadata.
    by_day: BTreeMap<u32, Vec<Dated>>,
    /// From records; each is valid from its place in the file on, and weighs more than the metadata.
    by_record: BTreeMap<u32, Name>,
    /// Decimals of prices, from definitions: those of the least step.
    decimals: BTreeMap<u32, u8>,
}

struct Dated {
    from_ns: u64,
    until_ns: u64,
    name: Name,
}

/// A name as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) symbol: Symbol,
    /// What the file has, where that is no symbol.
    pub(super) replaced: Option<String>,
    /// The same, as it can be told.
    pub(super) full: Option<FullName>,
}

impl Name {
    fn new(text: &str) -> Name {
        let symbol = Symbol::standing_for(text);
        let is_whole = symbol.as_str() == text;
        let full = text.parse().ok().filter(|_| !is_whole);
        Name { symbol, replaced: (!is_whole).then(|| text.to_owned()), full }
    }
}

impl Names {
    /// Mappings that do not name an instrument id are left out: the id itself is then the name.
    pub(super) fn new(metadata: &Metadata) -> Names {
        let id_is_key = metadata.stype_in == Some(SType::InstrumentId)
            && metadata.stype_out != SType::InstrumentId;
        let mut by_day: BTreeMap<u32, Vec<Dated>> = BTreeMap::new();
        for mapping in &metadata.mappings {
            for interval in &mapping.intervals {
                let (id, text) = if id_is_key {
                    (&mapping.raw_symbol, &interval.symbol)
                } else {
                    (&interval.symbol, &mapping.raw_symbol)
                };
                let Ok(id) = id.parse() else { continue };
                let from_ns = day_start_ns(interval.start_date.to_julian_day());
                let until_ns = day_start_ns(interval.end_date.to_julian_day());
                let name = Name::new(text);
                by_day.entry(id).or_default().push(Dated { from_ns, until_ns, name });
            }
        }
        by_day.values_mut().for_each(|names| names.sort_by_key(|it| it.from_ns));
        Names { by_day, by_record: BTreeMap::new(), decimals: BTreeMap::new() }
    }

    /// Takes the name from a symbol-mapping record: it is valid from here on.
    ///
    /// # Errors
    /// When the record is too short, or its symbols are no text.
    pub(super) fn take(&mut self, record: &RecordRef<'_>) -> Result<(), dbn::Error> {
        let id = record.header().instrument_id;
        let is_long = record.header().record_size() >= size_of::<SymbolMappingMsg>();
        let (asked, given) = if is_long {
            let mapping = record.try_get::<SymbolMappingMsg>()?;
            (mapping.stype_in_symbol()?, mapping.stype_out_symbol()?)
        } else {
            let mapping = record.try_get::<v1::SymbolMappingMsg>()?;
            (mapping.stype_in_symbol()?, mapping.stype_out_symbol()?)
        };
        // What was asked for may be a rule such as the front month; what was given is the contract, unless it is the id.
        let is_name = |text: &&str| !text.is_empty() && text.parse() != Ok(id);
        let is_kept = self.by_record.contains_key(&id) && is_planted(Bug::NameOfTheFirst);
        if let Some(text) = [given, asked].into_iter().find(is_name).filter(|_| !is_kept) {
            self.by_record.insert(id, Name::new(text));
        }
        Ok(())
    }

    /// Takes name and decimals from the definition of an instrument: they are valid from here on.
    ///
    /// # Errors
    /// When the record is too short, or its symbol is no text.
    pub(super) fn define(&mut self, record: &RecordRef<'_>) -> Result<(), dbn::Error> {
        let (id, bytes) = (record.header().instrument_id, record.header().record_size());
        let (text, step) = if bytes >= size_of::<InstrumentDefMsg>() {
            let it = record.try_get::<InstrumentDefMsg>()?;
            (it.raw_symbol()?, it.min_price_increment)
        } else if bytes >= size_of::<v2::InstrumentDefMsg>() {
            let it = record.try_get::<v2::InstrumentDefMsg>()?;
            (it.raw_symbol()?, it.min_price_increment)
        } else {
            let it = record.try_get::<v1::InstrumentDefMsg>()?;
            (it.raw_symbol()?, it.min_price_increment)
        };
        if !text.is_empty() {
            self.by_record.insert(id, Name::new(text));
        }
        self.decimals.insert(id, Price(step).decimals_needed());
        Ok(())
    }

    /// How many decimals the instrument's prices are shown with at least, as far as a definition says it.
    pub(super) fn decimals(&self, id: u32) -> u8 {
        self.decimals.get(&id).copied().unwrap_or(0)
    }

    /// The name at this time of the clock that the vendor's dates are of.
    pub(super) fn get(&self, id: u32, ts_recv: u64) -> Option<&Name> {
        let at_day = || {
            let names = self.by_day.get(&id)?;
            let begun = names.partition_point(|it| it.from_ns <= ts_recv);
            let newest = names.get(begun.checked_sub(1)?)?;
            (ts_recv < newest.until_ns).then_some(&newest.name)
        };
        self.by_record.get(&id).or_else(at_day)
    }
}

/// When a UTC day begins; days before the epoch begin at it.
fn day_start_ns(julian_day: i32) -> u64 {
    u64::try_from(i64::from(julian_day) - JULIAN_DAY_OF_EPOCH).unwrap_or(0).saturating_mul(DAY_NS)
}
