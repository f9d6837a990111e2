//! The first look at a file: whether each line can be read, what identity its feed has, and what decimals its instruments need.
//! So nothing of a file that is wrong somewhere is published.

use std::collections::BTreeMap;
use std::fmt;

use super::source::Source;
use crate::cli::exit::Failure;
use crate::limits::INSTRUMENTS_MAX;
use crate::market::lines::{Record, RecordBody};
use crate::market::quantity::Quantity;
use crate::producer::decimals_of;
use crate::wire::{Decimals, FNV_BASIS, FullName, QUANTITY_DECIMALS_MAX, Symbol, fnv1a_64};

/// What a file has.
#[derive(Debug)]
pub(super) struct Survey {
    /// A hash of all events: what they say, however it is written.
    pub(super) content: u64,
    pub(super) bytes: u64,
    pub(super) counts: Counts,
    instruments: BTreeMap<Symbol, Needs>,
    /// Names that are longer than their symbols.
    full_names: BTreeMap<Symbol, FullName>,
}

/// Events by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) quotes: u64,
    pub(super) trades: u64,
    pub(super) cancels: u64,
}

impl Counts {
    /// Counts a record.
    pub(super) fn note(&mut self, record: &Record) {
        match record.body {
            RecordBody::Quote { .. } => self.quotes += 1,
            RecordBody::Trade { .. } => self.trades += 1,
            RecordBody::Cancel { .. } => self.cancels += 1,
        }
    }

    /// All of them.
    pub(super) fn events(&self) -> u64 {
        self.quotes + self.trades + self.cancels
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts { quotes, trades, cancels } = self;
        let events = self.events();
        write!(f, "events: {events} (quotes: {quotes}, trades: {trades}, cancels: {cancels})")
    }
}

/// What an instrument needs.
#[derive(Clone, Copy, Debug)]
struct Needs {
    decimals: Decimals,
    /// The largest quantity, in units of the finest decimals that there are.
    largest: u128,
}

impl Survey {
    /// Reads all of it. `progress` is told how many bytes were read.
    ///
    /// # Errors
    /// Names the first line that is wrong, or the instrument that cannot be told exactly.
    pub(super) fn of(
        source: &mut Source,
        mut progress: impl FnMut(u64),
    ) -> Result<Survey, Failure> {
        let (content, counts, instruments) = (FNV_BASIS, Counts::default(), BTreeMap::new());
        let full_names = BTreeMap::new();
        let mut survey = Survey { content, bytes: 0, counts, instruments, full_names };
        while let Some(record) = source.next_record()? {
            survey.content = hashed(survey.content, &record);
            survey.counts.note(&record);
            survey.take(source, &record)?;
            progress(source.bytes());
        }
        survey.bytes = source.bytes();
        survey.full_names.clone_from(source.lines().full_names());
        for (symbol, needs) in &survey.instruments {
            let decimals = needs.decimals.quantity;
            if !survey.fits(symbol, decimals) {
                return Err(source.wrong(&format!(
                    "the quantities of {symbol} do not fit 64 bits in units of {decimals} decimals; publish the finest \
                     or the largest as another symbol"
                )));
            }
        }
        Ok(survey)
    }

    fn take(&mut self, source: &Source, record: &Record) -> Result<(), Failure> {
        if self.instruments.len() >= INSTRUMENTS_MAX
            && !self.instruments.contains_key(&record.symbol)
        {
            let what = format!("more than {INSTRUMENTS_MAX} instruments; publish it in parts");
            return Err(source.wrong(&what));
        }
        let needed = decimals_of(record);
        let first = Needs { decimals: needed, largest: 0 };
        let needs = self.instruments.entry(record.symbol).or_insert(first);
        let decimals = &mut needs.decimals;
        decimals.price = decimals.price.max(needed.price);
        decimals.quantity = decimals.quantity.max(needed.quantity);
        for quantity in quantities_of(record) {
            let finer = QUANTITY_DECIMALS_MAX.saturating_sub(quantity.decimals);
            let scaled = quantity.units.saturating_mul(10_u128.pow(finer.into()));
            needs.largest = needs.largest.max(scaled);
        }
        Ok(())
    }

    /// Whether all quantities of an instrument fit 64 bits in units of so many decimals.
    pub(super) fn fits(&self, symbol: &Symbol, decimals: u8) -> bool {
        let unit = 10_u128.pow(u32::from(QUANTITY_DECIMALS_MAX.saturating_sub(decimals)));
        let needs = self.instruments.get(symbol);
        needs.is_none_or(|needs| needs.largest / unit <= u128::from(u64::MAX))
    }

    /// The name of an instrument.
    pub(super) fn name(&self, symbol: &Symbol) -> String {
        self.full_names.get(symbol).map_or(symbol.to_string(), ToString::to_string)
    }

    /// Each instrument with the decimals that it needs, by symbol.
    pub(super) fn instruments(&self) -> impl Iterator<Item = (Symbol, Decimals)> {
        self.instruments.iter().map(|(symbol, needs)| (*symbol, needs.decimals))
    }
}

/// The hash of a sequence of events, and of this one behind them.
pub(super) fn hashed(hash: u64, record: &Record) -> u64 {
    let hash = fnv1a_64(hash, record.symbol.as_str().as_bytes());
    let (kind, prices, trade_id) = match record.body {
        RecordBody::Quote { bid, ask, .. } => (0, [bid, ask], 0),
        RecordBody::Trade { price, trade_id, .. } => (1, [price; 2], trade_id),
        RecordBody::Cancel { price, trade_id, .. } => (2, [price; 2], trade_id),
    };
    let hash = fnv1a_64(hash, &[kind, u8::from(record.is_snapshot)]);
    let hash = fnv1a_64(hash, &record.flags.to_le_bytes());
    let hash =
        [record.ts_event, trade_id].iter().fold(hash, |it, n| fnv1a_64(it, &n.to_le_bytes()));
    let hash = prices.iter().fold(hash, |it, price| fnv1a_64(it, &price.0.to_le_bytes()));
    quantities_of(record).map(Quantity::reduced).iter().fold(hash, |it, quantity| {
        fnv1a_64(fnv1a_64(it, &quantity.units.to_le_bytes()), &[quantity.decimals])
    })
}

fn quantities_of(record: &Record) -> [Quantity; 2] {
    match record.body {
        RecordBody::Quote { bid_qty, ask_qty, .. } => [bid_qty, ask_qty],
        RecordBody::Trade { qty, .. } | RecordBody::Cancel { qty, .. } => [qty; 2],
    }
}
