//! Exchanges by number. Core numbers those that it has ever known; a frame says by its flags which one sent it.

use std::fmt;

use super::{Flags, U32};

/// The number of an exchange, 0 to 31. Number 0 is the exchange that is called `exchange`, whose instruments have no venue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExchangeNumber(u8);

/// Some exchanges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExchangeSet(u32);

impl ExchangeNumber {
    /// The one that is called `exchange`.
    pub const FIRST: ExchangeNumber = ExchangeNumber(0);
    /// How many there can be.
    pub const COUNT: usize = 32;

    /// All that there can be.
    pub fn all() -> impl Iterator<Item = ExchangeNumber> + Clone {
        (0..32).map(ExchangeNumber)
    }

    /// The exchange with this number; `None` when there can be none.
    #[must_use]
    pub fn new(number: u16) -> Option<ExchangeNumber> {
        let is_one = usize::from(number) < ExchangeNumber::COUNT;
        u8::try_from(number).ok().filter(|_| is_one).map(ExchangeNumber)
    }

    /// What the flags of a quote, a trade or a cancellation say.
    #[inline]
    #[must_use]
    #[allow(clippy::cast_possible_truncation, reason = "five bits")]
    pub(super) const fn of_flags(flags: u16) -> ExchangeNumber {
        ExchangeNumber(((flags & Flags::EXCHANGE) >> Flags::EXCHANGE_SHIFT) as u8)
    }

    /// The flags that say this.
    #[inline]
    #[must_use]
    pub const fn flags(self) -> u16 {
        (self.0 as u16) << Flags::EXCHANGE_SHIFT
    }

    /// Its place in a table of [`ExchangeNumber::COUNT`].
    #[inline]
    #[must_use]
    pub const fn place(self) -> usize {
        self.0 as usize
    }

    /// As a number.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0
    }
}

impl fmt::Display for ExchangeNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl ExchangeSet {
    /// None.
    pub const NONE: ExchangeSet = ExchangeSet(0);

    /// Whether this one is among them.
    #[inline]
    #[must_use]
    pub const fn has(self, exchange: ExchangeNumber) -> bool {
        self.0 & (1 << exchange.0) != 0
    }

    /// Adds one.
    pub fn insert(&mut self, exchange: ExchangeNumber) {
        self.0 |= 1 << exchange.0;
    }

    /// All of them, by number.
    pub fn iter(self) -> impl Iterator<Item = ExchangeNumber> {
        ExchangeNumber::all().filter(move |number| self.has(*number))
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// As it stands in a frame.
    #[must_use]
    pub fn of(field: U32) -> ExchangeSet {
        ExchangeSet(field.get())
    }

    /// As it stands in a frame.
    #[must_use]
    pub fn field(self) -> U32 {
        U32::new(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Cancel, Definition, Frame, Quote, Silence, Trade, U16};
    use super::*;

    #[test]
    fn a_number_stands_in_the_flags_of_what_exchanges_send_and_nowhere_else() {
        for number in 0..32 {
            let exchange = ExchangeNumber::new(number).unwrap();
            let flags = U16::new(Flags::LAST | exchange.flags());
            for frame in [
                Frame::seal(Quote { flags, ..Quote::default() }),
                Frame::seal(Trade { flags, ..Trade::default() }),
                Frame::seal(Cancel { flags, ..Cancel::default() }),
            ] {
                assert_eq!(frame.check(), Ok(()));
                assert_eq!((frame.exchange(), frame.named_flags()), (exchange, Flags::LAST));
            }
            let mut set = ExchangeSet::NONE;
            set.insert(exchange);
            assert!(set.iter().eq([exchange]) && ExchangeSet::of(set.field()) == set);
        }
        assert_eq!(ExchangeNumber::new(32), None);
        let definition = Definition::new(U32::ZERO.into(), "A".parse().unwrap(), 9);
        assert_eq!(Frame::seal(definition).exchange(), ExchangeNumber::FIRST);
    }

    #[test]
    fn a_name_has_a_short_form_only_where_the_definition_says_so() {
        let of = |text: &str| Definition::new(U32::ZERO.into(), text.parse().unwrap(), 2);
        let names =
            |it: &Definition| it.names().iter().map(|name| name.to_string()).collect::<Vec<_>>();
        assert_eq!(names(&of("xnas:AMZN").at_venue()), ["xnas:AMZN", "AMZN"]);
        assert_eq!(names(&of("UD:1V: GN 1")), ["UD:1V: GN 1"]);
        assert_eq!(names(&of("xcme:UD:1V: GN").at_venue()), ["xcme:UD:1V: GN", "UD:1V: GN"]);
    }

    #[test]
    fn what_is_usual_is_said_as_a_power_of_two() {
        for (usual, said) in [(0, 1), (1, 1), (3, 4), (1_000, 1_024), (u64::MAX, 1 << 31)] {
            let flags = U16::new(Silence::usual_flags(usual));
            let frame =
                Frame::seal(Silence { flags, who: "A".parse().unwrap(), ..Silence::default() });
            assert_eq!(
                (frame.check(), frame.view::<Silence>().unwrap().usual_ms()),
                (Ok(()), said)
            );
        }
    }
}
