//! A record of a line becomes an event in the units of its instrument.

use super::{Instrument, ProduceError};
use crate::market::lines::{Record, RecordBody};
use crate::market::price::Price;
use crate::market::quantity::Quantity;
use crate::wire::{Cancel, Decimals, I64, Quote, Size, Trade, U16, U64};

/// What a line tells, as the frame that core is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordEvent {
    /// A quote.
    Quote(Quote),
    /// A trade.
    Trade(Trade),
    /// A withdrawn trade.
    Cancel(Cancel),
}

impl RecordEvent {
    /// Whether a size of the quote has more digits than its field keeps: the first eight.
    #[must_use]
    pub fn is_rounded(&self, record: &Record, instrument: &Instrument) -> bool {
        let (RecordEvent::Quote(quote), RecordBody::Quote { bid_qty, ask_qty, .. }) =
            (self, record.body)
        else {
            return false;
        };
        let decimals = instrument.decimals.quantity;
        let is_kept = |size: Size, quantity: Quantity| {
            Quantity::new(size.units(), decimals).reduced() == quantity.reduced()
        };
        !is_kept(quote.bid_qty, bid_qty) || !is_kept(quote.ask_qty, ask_qty)
    }
}

/// Decimals of a unit of quantities, where lines come one at a time, and nobody knows what the next one needs.
pub const QUANTITY_DECIMALS_DEFAULT: u8 = 8;
/// Fewest decimals that prices are shown with.
const PRICE_DECIMALS_MIN: u8 = 2;

/// How many decimals the prices and the quantities of a record need.
#[must_use]
pub fn decimals_of(record: &Record) -> Decimals {
    let (prices, quantities) = match record.body {
        RecordBody::Quote { bid, ask, bid_qty, ask_qty } => ([bid, ask], [bid_qty, ask_qty]),
        RecordBody::Trade { price, qty, .. } | RecordBody::Cancel { price, qty, .. } => {
            ([price; 2], [qty; 2])
        }
    };
    let of_price =
        |price: Price| if price == Price::UNDEFINED { 0 } else { price.decimals_needed() };
    let price = prices.map(of_price).into_iter().max().unwrap_or(0).max(PRICE_DECIMALS_MIN);
    let quantity = quantities.map(|it| it.reduced().decimals).into_iter().max().unwrap_or(0);
    Decimals { price, quantity }
}

/// The event that a record tells of an instrument.
///
/// # Errors
/// When a quantity is finer than a unit of the instrument, or too large in such units.
pub fn event_of(record: &Record, instrument: &Instrument) -> Result<RecordEvent, ProduceError> {
    let units = |quantity: Quantity| {
        let decimals = instrument.decimals.quantity;
        let reduced = quantity.reduced();
        let finer = decimals.checked_sub(reduced.decimals);
        let scaled = finer.and_then(|finer| {
            u64::try_from(reduced.units).ok()?.checked_mul(10_u64.checked_pow(finer.into())?)
        });
        scaled.ok_or(ProduceError::Quantity { symbol: record.symbol, quantity, decimals })
    };
    let flags = U16::new(record.flags);
    let (instrument, ts_event) = (instrument.id.into(), U64::new(record.ts_event));
    let price_of = |price: Price| I64::new(price.0);
    Ok(match record.body {
        RecordBody::Quote { bid, ask, bid_qty, ask_qty } => RecordEvent::Quote(Quote {
            flags,
            instrument,
            ts_event,
            bid: price_of(bid),
            ask: price_of(ask),
            bid_qty: Size::new(units(bid_qty)?),
            ask_qty: Size::new(units(ask_qty)?),
            ..Quote::default()
        }),
        RecordBody::Trade { price, qty, trade_id } => RecordEvent::Trade(Trade {
            flags,
            instrument,
            ts_event,
            price: price_of(price),
            qty: U64::new(units(qty)?),
            trade_id: U64::new(trade_id),
            ..Trade::default()
        }),
        RecordBody::Cancel { price, qty, trade_id } => RecordEvent::Cancel(Cancel {
            flags,
            instrument,
            ts_event,
            price: price_of(price),
            qty: U64::new(units(qty)?),
            trade_id: U64::new(trade_id),
            ..Cancel::default()
        }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::market::lines::{LineFormat, LineOptions, Lines};
    use crate::wire::{InstrumentId, InstrumentIndex};

    fn record(line: &str) -> Record {
        let mut lines = Lines::new(LineFormat::Ilp, LineOptions::default());
        lines.take(line.as_bytes()).unwrap().unwrap()
    }

    fn instrument(quantity: u8) -> Instrument {
        let id = InstrumentId::new(0, InstrumentIndex::FIRST);
        Instrument { id, decimals: Decimals { price: 2, quantity } }
    }

    #[test]
    fn quantities_are_scaled_to_the_units_of_the_instrument_or_refused_by_name() {
        let fine = record("trades,symbol=BTC price=39269.98,qty=0.00012345 5");
        assert_eq!(decimals_of(&fine), Decimals { price: 2, quantity: 8 });
        let RecordEvent::Trade(trade) = event_of(&fine, &instrument(8)).unwrap() else { panic!() };
        assert_eq!((trade.qty.get(), trade.price.get()), (12_345, 39_269_980_000_000));
        let RecordEvent::Trade(trade) = event_of(&fine, &instrument(10)).unwrap() else { panic!() };
        assert_eq!(trade.qty.get(), 1_234_500);
        let said = event_of(&fine, &instrument(7)).unwrap_err().to_string();
        assert_eq!(said, "0.00012345 of BTC does not fit 64 bits in units of 7 decimals");
        let huge = record("trades,symbol=PEPE price=1,qty=1250000000000.5 5");
        assert!(event_of(&huge, &instrument(8)).is_err());
        assert!(event_of(&huge, &instrument(1)).is_ok());
    }

    #[test]
    fn a_quote_has_one_side_and_a_halt_and_prices_show_as_many_decimals_as_they_need() {
        let one = record("quotes,symbol=X bid=1.23456,bid_qty=2.50,halted=true 5");
        assert_eq!(decimals_of(&one), Decimals { price: 5, quantity: 1 });
        let RecordEvent::Quote(quote) = event_of(&one, &instrument(1)).unwrap() else { panic!() };
        assert_eq!(quote.ask.get(), Price::UNDEFINED.0);
        assert_eq!((quote.bid_qty.units(), quote.ask_qty.units()), (25, 0));
        assert_eq!(quote.flags.get(), one.flags);
        assert!(!RecordEvent::Quote(quote).is_rounded(&one, &instrument(1)));
        let long = record("quotes,symbol=X bid=1,bid_qty=987654.321 5");
        for (decimals, is_rounded) in [(3, true), (4, true)] {
            let event = event_of(&long, &instrument(decimals)).unwrap();
            assert_eq!(event.is_rounded(&long, &instrument(decimals)), is_rounded);
        }
        let short = record("quotes,symbol=X bid=1,bid_qty=98765.432 5");
        assert!(!event_of(&short, &instrument(3)).unwrap().is_rounded(&short, &instrument(3)));
    }
}
