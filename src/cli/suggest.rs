//! What somebody may have meant who asked for a symbol that is not there.

use crate::wire::{Names, Symbol};

/// Kinds as people write them who mean one of the topics `trade.`, `quote.`, `cancel.` and `bar.`.
const PLURALS: [&str; 4] = ["trades.", "quotes.", "cancels.", "bars."];

/// A sentence about what may have been meant, or what there is instead.
#[must_use]
pub(super) fn suggestion(asked: &str, known: &[Names]) -> Option<String> {
    meant(asked, known).map(|meant| format!("did you mean {meant}?")).or_else(|| examples(known))
}

/// What may have been meant by one symbol or pattern.
pub(super) fn meant(asked: &str, known: &[Names]) -> Option<String> {
    if let Some(plural) = PLURALS.iter().find(|plural| asked.starts_with(**plural)) {
        let kind = plural.trim_end_matches("s.");
        return Some(format!("{kind}.{}", &asked[plural.len()..]));
    }
    let names: Vec<Symbol> = known.iter().flat_map(Names::iter).collect();
    let is_known = |text: &str| names.iter().any(|name| name.as_str() == text);
    if asked.contains(',') {
        let parts: Vec<&str> = asked.split(',').map(str::trim).collect();
        return parts.iter().all(|part| is_known(part)).then(|| parts.join(" "));
    }
    let same_letters = names.iter().find(|symbol| {
        let symbol = symbol.as_str();
        match asked.strip_suffix('*') {
            Some(prefix) => symbol
                .get(..prefix.len())
                .is_some_and(|start| !prefix.is_empty() && start.eq_ignore_ascii_case(prefix)),
            None => symbol.eq_ignore_ascii_case(asked),
        }
    });
    if let Some(symbol) = same_letters {
        let symbol = symbol.as_str();
        return Some(match asked.strip_suffix('*') {
            Some(prefix) => format!("'{}*'", &symbol[..prefix.len()]),
            None => symbol.to_owned(),
        });
    }
    let near = names.iter().find(|symbol| differs_by_one(asked, symbol.as_str()));
    near.map(|symbol| symbol.as_str().to_owned())
}

/// Some of what there is.
fn examples(known: &[Names]) -> Option<String> {
    const SHOWN: usize = 5;
    let shown: Vec<&str> = known.iter().take(SHOWN).map(|it| it.symbol().as_str()).collect();
    let more = if known.len() > SHOWN { ", …" } else { "" };
    let (count, noun) = (known.len(), if known.len() == 1 { "instrument" } else { "instruments" });
    (count > 0).then(|| format!("there are {count} {noun}: {}{more}", shown.join(", ")))
}

/// Whether one letter more, less or other makes the two equal, whatever the case.
fn differs_by_one(one: &str, other: &str) -> bool {
    const LETTERS_MIN: usize = 3;
    let (one, other) = (one.to_ascii_uppercase(), other.to_ascii_uppercase());
    let (one, other) = (one.as_bytes(), other.as_bytes());
    let (short, long) = if one.len() <= other.len() { (one, other) } else { (other, one) };
    if short.len() < LETTERS_MIN || long.len() - short.len() > 1 {
        return false;
    }
    let same = short.iter().zip(long).take_while(|(one, other)| one == other).count();
    let rest = if short.len() == long.len() { short.get(same + 1..) } else { short.get(same..) };
    rest.is_some() && rest == long.get(same + 1..)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> Vec<Names> {
        ["ITUB4", "PETR3", "PETR4", "VALE3"].map(|it| Names::of(it.parse().unwrap())).to_vec()
    }

    #[test]
    fn either_name_may_have_been_meant() {
        let known = [Names::at_venue("xnas:AMZN".parse().unwrap())];
        for (asked, want) in
            [("amzn", "AMZN"), ("XNAS:AMZN", "xnas:AMZN"), ("XNAS:*", "'xnas:*'"), ("am*", "'AM*'")]
        {
            assert_eq!(meant(asked, &known).as_deref(), Some(want), "{asked}");
        }
        assert_eq!(suggestion("X", &known).as_deref(), Some("there are 1 instrument: xnas:AMZN"));
    }

    #[test]
    fn usual_mistakes_are_understood() {
        for (asked, want) in [
            ("petr4", "PETR4"),
            ("PETR4,VALE3", "PETR4 VALE3"),
            ("PETR4, VALE3", "PETR4 VALE3"),
            ("trades.X", "trade.X"),
            ("bars.1m.X", "bar.1m.X"),
            ("petr*", "'PETR*'"),
            ("PETRR4", "PETR4"),
            ("VALE", "VALE3"),
            ("ITUB5", "ITUB4"),
        ] {
            assert_eq!(meant(asked, &known()).as_deref(), Some(want), "{asked}");
        }
        for asked in ["PETR4,NONE", "ABCD", "*", "X*", "", "P", "é4"] {
            assert_eq!(meant(asked, &known()), None, "{asked}");
        }
    }

    #[test]
    fn who_guessed_wrong_sees_what_there_is() {
        assert_eq!(suggestion("petr4", &known()).as_deref(), Some("did you mean PETR4?"));
        let there_are = "there are 4 instruments: ITUB4, PETR3, PETR4, VALE3";
        assert_eq!(suggestion("X*", &known()).as_deref(), Some(there_are));
        assert_eq!(suggestion("X", &[]), None);
    }
}
