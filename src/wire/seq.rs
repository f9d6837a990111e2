//! A place in a sequence. In a frame it is 64 bits, and 0 stands for "none"; nobody but this file knows that.
//!
//! A [`Seq`] is never 0, so that a place that may be missing is an `Option<Seq>`, takes no more room, and
//! cannot be mistaken for one that is there. `None` is less than every place, as 0 is on the wire.
//! Arithmetic stops at the ends: what a peer sent never wraps.

use std::fmt;
use std::num::NonZeroU64;

use super::U64;

/// A place in a sequence: the `seq` of a frame, or that of the next one. From 1 on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(NonZeroU64);

impl Seq {
    /// Where every sequence begins.
    pub const FIRST: Seq = Seq(NonZeroU64::MIN);
    /// The last one. No frame has it, since nothing could come next.
    pub const LAST: Seq = Seq(NonZeroU64::MAX);

    /// The place with this number; none for 0.
    #[inline]
    #[must_use]
    pub const fn new(number: u64) -> Option<Seq> {
        match NonZeroU64::new(number) {
            Some(number) => Some(Seq(number)),
            None => None,
        }
    }

    /// The place with this number; the first one for 0.
    #[inline]
    #[must_use]
    pub fn or_first(number: u64) -> Seq {
        Seq::new(number).unwrap_or(Seq::FIRST)
    }

    /// The place behind the one with this number; the first one behind 0, the last one behind itself.
    #[inline]
    #[must_use]
    pub const fn behind(number: u64) -> Seq {
        Seq(NonZeroU64::MIN.saturating_add(number))
    }

    /// As it stands in a frame.
    #[inline]
    #[must_use]
    pub const fn from_field(field: U64) -> Option<Seq> {
        Seq::new(field.get())
    }

    /// How it stands in a frame.
    #[inline]
    #[must_use]
    pub fn field(place: Option<Seq>) -> U64 {
        U64::new(Seq::number(place))
    }

    /// The number, 0 for none: for logs and figures.
    #[inline]
    #[must_use]
    pub fn number(place: Option<Seq>) -> u64 {
        place.map_or(0, Seq::get)
    }

    /// Its number.
    #[inline]
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0.get()
    }

    /// The place behind it; the last one has itself.
    #[inline]
    #[must_use]
    pub const fn next(self) -> Seq {
        Seq::behind(self.0.get())
    }

    /// The place ahead of it; none ahead of the first.
    #[inline]
    #[must_use]
    pub const fn previous(self) -> Option<Seq> {
        Seq::new(self.0.get() - 1)
    }

    /// So many places ahead of it, or the first one.
    #[inline]
    #[must_use]
    pub fn back(self, places: u64) -> Seq {
        Seq::new(self.0.get().saturating_sub(places)).unwrap_or(Seq::FIRST)
    }
}

/// The `instrument_seq` behind this one. Behind the last number comes the first: 0 says that there is none.
#[inline]
#[must_use]
pub const fn next_instrument_seq(number: u32) -> u32 {
    if number == u32::MAX { 1 } else { number + 1 }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

const _: () = assert!(size_of::<Option<Seq>>() == size_of::<u64>());

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn none_is_zero_on_the_wire_and_less_than_every_place() {
        assert_eq!(Seq::from_field(U64::ZERO), None);
        assert_eq!((Seq::field(None), Seq::field(Seq::new(7))), (U64::ZERO, U64::new(7)));
        assert!(None < Some(Seq::FIRST) && Seq::new(8) < Seq::new(9));
    }

    #[test]
    fn arithmetic_stops_at_the_ends() {
        assert_eq!(Seq::LAST.next(), Seq::LAST);
        assert_eq!(Seq::FIRST.previous(), None);
        assert_eq!((Seq::behind(0), Seq::behind(u64::MAX)), (Seq::FIRST, Seq::LAST));
        assert_eq!(Seq::LAST.back(u64::MAX), Seq::FIRST);
        assert_eq!((Seq::FIRST.next().get(), Seq::FIRST.next().previous()), (2, Some(Seq::FIRST)));
    }
}
