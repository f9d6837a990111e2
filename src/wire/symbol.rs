//! Instrument names: up to 24 printable ASCII characters, padded with zeros.

use std::fmt;
use std::str::FromStr;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Longest symbol in bytes.
const SYMBOL_BYTES_MAX: usize = 24;

/// An instrument's name as it stands in frames: 1 to 24 printable ASCII characters without `*`,
/// not starting or ending with a space, padded with zero bytes.
#[derive(
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
    Unaligned,
)]
#[repr(transparent)]
pub struct Symbol([u8; SYMBOL_BYTES_MAX]);

/// Why a text is no symbol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a symbol is 1 to 24 printable ASCII characters without '*', and neither starts nor ends with a space"
)]
pub struct SymbolError;

impl Symbol {
    /// Bytes of the longest symbol.
    pub const BYTES_MAX: usize = SYMBOL_BYTES_MAX;
    /// Bytes of the longest venue that a symbol may begin with.
    pub const VENUE_BYTES_MAX: usize = 8;

    /// The symbol as text. Bytes that are no symbol (see [`Symbol::is_valid`]) read as empty.
    #[must_use]
    pub fn as_str(&self) -> &str {
        let end = self.0.iter().position(|&b| b == 0).unwrap_or(SYMBOL_BYTES_MAX);
        std::str::from_utf8(&self.0[..end]).unwrap_or("")
    }

    /// The least value that a symbol beginning with this text can have, to search in an order of symbols.
    /// What does not fit is left away.
    #[must_use]
    pub fn least(text: &str) -> Symbol {
        Symbol::least_of(text.as_bytes())
    }

    /// The same of bytes.
    #[must_use]
    pub(crate) fn least_of(text: &[u8]) -> Symbol {
        let mut bytes = [0; SYMBOL_BYTES_MAX];
        for (place, byte) in bytes.iter_mut().zip(text) {
            *place = *byte;
        }
        Symbol(bytes)
    }

    /// Its text as bytes, without the padding.
    #[must_use]
    pub(crate) fn text_bytes(&self) -> &[u8] {
        let end = self.0.iter().position(|&b| b == 0).unwrap_or(SYMBOL_BYTES_MAX);
        self.0.get(..end).unwrap_or_default()
    }

    /// Whether it is one of the system's own: those begin with `$`, and nobody outside defines one.
    #[must_use]
    pub fn is_reserved(&self) -> bool {
        self.0[0] == b'$'
    }

    /// What stands behind the first `:`, where a venue of 1 to 8 characters may stand before it. Whether one does
    /// stand there says only the definition of the instrument. The system's own symbols have no venue.
    #[must_use]
    pub fn behind_venue(&self) -> Option<Symbol> {
        let (venue, short) = self.as_str().split_once(':')?;
        let is_venue = (1..=Symbol::VENUE_BYTES_MAX).contains(&venue.len()) && !self.is_reserved();
        short.parse().ok().filter(|short: &Symbol| is_venue && !short.is_reserved())
    }

    /// Whether bytes that came from a peer are a symbol.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        let end = self.0.iter().position(|&b| b == 0).unwrap_or(SYMBOL_BYTES_MAX);
        let (text, padding) = self.0.split_at(end);
        let printable = text.iter().all(|&b| (b' '..=b'~').contains(&b) && b != b'*');
        let ends = [text.first(), text.last()];
        printable
            && ends.iter().all(|b| b.is_some_and(|&b| b != b' '))
            && padding.iter().all(|&b| b == 0)
    }
}

impl FromStr for Symbol {
    type Err = SymbolError;

    fn from_str(text: &str) -> Result<Symbol, SymbolError> {
        let mut bytes = [0; SYMBOL_BYTES_MAX];
        bytes.get_mut(..text.len()).ok_or(SymbolError)?.copy_from_slice(text.as_bytes());
        let symbol = Symbol(bytes);
        if symbol.is_valid() { Ok(symbol) } else { Err(SymbolError) }
    }
}

impl fmt::Display for Symbol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for Symbol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbols_are_checked_on_the_way_in() {
        let longest = "X".repeat(24);
        for good in ["PETR4", "BRK.B", "SPY   240621C00500000", "$sys.breaker", &longest] {
            assert_eq!(good.parse::<Symbol>().unwrap().as_str(), good);
        }
        let too_long = "X".repeat(25);
        for bad in ["", " PETR4", "PETR4 ", "PETR*", "PÉTR4", "a\nb", "a\0b", &too_long] {
            assert_eq!(bad.parse::<Symbol>(), Err(SymbolError), "{bad:?}");
        }
    }

    #[test]
    fn bytes_after_the_padding_began_are_refused() {
        let mut bytes = [0; SYMBOL_BYTES_MAX];
        bytes[0] = b'A';
        bytes[2] = b'B';
        assert!(!Symbol(bytes).is_valid());
    }
}
