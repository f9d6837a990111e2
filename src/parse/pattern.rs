//! What to subscribe to: `PETR4`, `PETR*`, `*`, and each behind a kind: `trade.PETR4`, `bar.1m.*`.
//!
//! Symbols may have dots themselves (`BRK.B`), so a prefix counts only when it is the name of a
//! kind that can be asked for, as the table of kinds says: `BRK.B` is a symbol, `quote.BRK.B` that symbol's quotes.

use std::fmt;
use std::str::FromStr;

use super::{BarInterval, IntervalError};
use crate::wire::{DataKind, Kind, Symbol};

/// Stands for one letter while the beginning of a symbol is checked as if it were a whole one.
const ANY_LETTER: &str = "X";

/// A checked pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    /// Sum of `1 << kind`; 0 = all.
    pub kinds: u16,
    /// The bars' length, when bars are asked for.
    pub bars: Option<BarInterval>,
    /// A symbol, the beginning of one with a `*` behind it, or `*`; at most 25 bytes. Of a longer name the symbol that stands
    /// for it.
    pub symbols: String,
}

/// Why a text is no pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum PatternError {
    #[error("a pattern is a name of 1 to 80 printable ASCII characters, PETR*, or *")]
    Symbol,
    #[error(
        "the beginning of a name has at most 24 characters before its *; give fewer, or the whole name"
    )]
    Long,
    #[error("a * stands only at the end of a pattern, as in PETR*")]
    Star,
    #[error("bars are asked for as bar.1m.PETR4, with a length from 1s to 1d")]
    Bars(#[from] IntervalError),
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Pattern, PatternError> {
        let known = text
            .split_once('.')
            .and_then(|(prefix, rest)| Some((DataKind::topic_mask(prefix)?, rest)));
        let Some((kinds, rest)) = known else {
            return Ok(Pattern { kinds: 0, bars: None, symbols: symbols(text)? });
        };
        if kinds & Kind::BarPrices.mask() == 0 {
            return Ok(Pattern { kinds, bars: None, symbols: symbols(rest)? });
        }
        let (interval, rest) = rest.split_once('.').ok_or(IntervalError)?;
        let interval: BarInterval = interval.parse()?;
        Ok(Pattern { kinds, bars: Some(interval), symbols: symbols(rest)? })
    }
}

fn symbols(text: &str) -> Result<String, PatternError> {
    match text.split_once('*') {
        None => {
            return Symbol::meant_by(text)
                .map(|it| it.to_string())
                .map_err(|_| PatternError::Symbol);
        }
        Some((beginning, "")) => {
            if beginning.len() > Symbol::BYTES_MAX {
                return Err(PatternError::Long);
            }
            // A beginning may end with a space, which a symbol may not; a full one has no room left.
            let whole = match beginning.ends_with(' ') {
                true => format!("{beginning}{ANY_LETTER}"),
                false => beginning.to_owned(),
            };
            if !beginning.is_empty() && whole.parse::<Symbol>().is_err() {
                return Err(PatternError::Symbol);
            }
        }
        Some(_) => return Err(PatternError::Star),
    }
    Ok(text.to_owned())
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(name) = DataKind::topic_name(self.kinds) {
            write!(f, "{name}.")?;
        }
        if let Some(interval) = self.bars {
            write!(f, "{interval}.")?;
        }
        f.write_str(&self.symbols)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_is_read_and_written_back() {
        let all_bars = (1 << 5) | (1 << 6) | (1 << 7);
        let longest = "X".repeat(24);
        let longest_star = format!("{longest}*");
        for (text, kinds, bars, symbols) in [
            ("PETR4", 0, None, "PETR4"),
            ("PETR*", 0, None, "PETR*"),
            ("*", 0, None, "*"),
            ("$sys.breaker", 0, None, "$sys.breaker"),
            ("BRK.B", 0, None, "BRK.B"),
            ("Trade.X", 0, None, "Trade.X"),
            ("trade.PETR4", 1 << 3, None, "PETR4"),
            ("quote.*", 1 << 2, None, "*"),
            ("quote.BRK.B", 1 << 2, None, "BRK.B"),
            ("cancel.trade.X", 1 << 4, None, "trade.X"),
            ("bar.1m.PETR*", all_bars, Some(60), "PETR*"),
            ("bar.1d.BRK.B", all_bars, Some(86_400), "BRK.B"),
            ("SPY  *", 0, None, "SPY  *"),
            (&longest, 0, None, &longest),
            (&longest_star, 0, None, &longest_star),
        ] {
            let pattern: Pattern = text.parse().unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!((pattern.kinds, pattern.symbols.as_str()), (kinds, symbols), "{text}");
            assert_eq!(pattern.bars.map(BarInterval::seconds), bars);
            assert_eq!(pattern.to_string(), text);
        }
    }

    #[test]
    fn a_longer_name_means_the_symbol_that_stands_for_it() {
        let name = "A-STRATEGY-OF-MORE-THAN-24-CHARACTERS";
        let symbol = Symbol::standing_for(name).to_string();
        for (text, shown) in [
            (name.to_owned(), symbol.clone()),
            (format!("trade.{name}"), format!("trade.{symbol}")),
            (format!("bar.1m.{name}"), format!("bar.1m.{symbol}")),
        ] {
            let pattern: Pattern = text.parse().unwrap();
            assert_eq!((pattern.symbols.as_str(), pattern.to_string()), (symbol.as_str(), shown));
        }
    }

    #[test]
    fn hostile_patterns_are_refused() {
        let (too_long, no_name) = (format!("{}*", "X".repeat(25)), "X".repeat(81));
        for (bad, error) in [
            ("", PatternError::Symbol),
            ("trade.", PatternError::Symbol),
            (" PETR4", PatternError::Symbol),
            (" *", PatternError::Symbol),
            ("PETR4 ", PatternError::Symbol),
            ("PÉTR*", PatternError::Symbol),
            ("a\nb", PatternError::Symbol),
            ("\u{1b}[31m*", PatternError::Symbol),
            (&too_long, PatternError::Long),
            (&no_name, PatternError::Symbol),
            ("*PETR", PatternError::Star),
            ("P*R", PatternError::Star),
            ("**", PatternError::Star),
            ("bar.PETR4", PatternError::Bars(IntervalError)),
            ("bar.", PatternError::Bars(IntervalError)),
            ("bar.BRK.B", PatternError::Bars(IntervalError)),
            ("bar.1m", PatternError::Bars(IntervalError)),
            ("bar.0s.X", PatternError::Bars(IntervalError)),
        ] {
            assert_eq!(bad.parse::<Pattern>(), Err(error), "{bad:?}");
        }
    }
}
