//! What exchanges are called, as far as frames show it: by the venue of an instrument that one of them sent.

use std::collections::BTreeMap;

use crate::subscription::Symbols;
use crate::wire::{ExchangeNumber, Frame};

/// Names of exchanges by their numbers.
#[derive(Debug, Default)]
pub struct Venues {
    names: BTreeMap<ExchangeNumber, String>,
}

impl Venues {
    /// Learns from a frame; to be shown every frame.
    pub fn note(&mut self, frame: &Frame, symbols: &Symbols) {
        let exchange = frame.exchange();
        if exchange == ExchangeNumber::FIRST || self.names.contains_key(&exchange) {
            return;
        }
        let symbol = symbols.symbol(frame.instrument());
        let venue = symbol.and_then(|symbol| symbol.as_str().split_once(':'));
        self.names.extend(venue.map(|(venue, _)| (exchange, venue.to_owned())));
    }

    /// What to call it: by its number, when nothing of it was seen.
    pub fn name(&self, exchange: ExchangeNumber) -> String {
        match self.names.get(&exchange) {
            Some(name) => name.clone(),
            None if exchange == ExchangeNumber::FIRST => "exchange".to_owned(),
            None => format!("exchange {exchange}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Definition, Quote, U16, U32};

    #[test]
    fn an_exchange_has_the_name_of_the_venue_of_what_it_sends() {
        let mut symbols = Symbols::default();
        let symbol = "xnas:AMZN".parse().unwrap();
        symbols.note(&Frame::seal(Definition::new(U32::new(7).into(), symbol, 2).at_venue()));
        let number = ExchangeNumber::new(3).unwrap();
        let flags = U16::new(number.flags());
        let mut venues = Venues::default();
        assert_eq!(venues.name(number), "exchange 3");
        let frame = Frame::seal(Quote { flags, instrument: U32::new(7), ..Quote::default() });
        venues.note(&frame, &symbols);
        assert_eq!(venues.name(number), "xnas");
        assert_eq!(venues.name(ExchangeNumber::FIRST), "exchange");
    }
}
