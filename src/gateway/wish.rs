//! What a browser asks for: commands of a WebSocket, and the query of an event stream.

use serde::Deserialize;

use super::start::Start;
use crate::feed::Pattern;
use crate::limits;
use crate::parse::{BarInterval, DeliveryMode};
use crate::wire::{DataKind, Mode};

/// What a subscription asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wish {
    /// At least one.
    pub(super) patterns: Vec<Pattern>,
    pub(super) mode: Mode,
    pub(super) conflate_ms: u32,
    /// The first frame wanted; `None`: a snapshot, and what follows it.
    pub(super) from: Option<Start>,
}

/// One command of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Command {
    /// A subscription begins under this id.
    Subscribe { id: u32, wish: Wish, mode: DeliveryMode },
    /// Live bars of this length, under this id.
    Bars { id: u32, symbols: Vec<Pattern>, interval: BarInterval },
    /// The subscription of this id ends.
    Unsubscribe { id: u32 },
}

/// Why a command is refused: about which id, and in words.
pub(super) type Objection = (Option<u32>, String);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    subscribe: Option<u32>,
    unsubscribe: Option<u32>,
    #[serde(default)]
    symbols: Option<Vec<String>>,
    #[serde(default)]
    kinds: Option<Vec<String>>,
    mode: Option<String>,
    from: Option<serde_json::Value>,
    bars: Option<String>,
}

impl Command {
    /// Reads a command. `default_mode` is what a subscription has that says none.
    pub(super) fn read(text: &str, default_mode: DeliveryMode) -> Result<Command, Objection> {
        let raw: Raw = serde_json::from_str(text)
            .map_err(|error| (None, format!("a command is one object of JSON: {error}")))?;
        let id = match (raw.subscribe, raw.unsubscribe) {
            (Some(id), None) | (None, Some(id)) if id > 0 => id,
            (Some(0), None) | (None, Some(0)) => {
                return Err((None, "an id is 1 or more".to_owned()));
            }
            _ => {
                return Err((
                    None,
                    "a command has one of `subscribe` and `unsubscribe`".to_owned(),
                ));
            }
        };
        if raw.unsubscribe.is_some() {
            return Ok(Command::Unsubscribe { id });
        }
        let about = |text: String| (Some(id), text);
        let symbols = raw.symbols.unwrap_or_else(|| vec!["*".to_owned()]);
        if let Some(bars) = raw.bars {
            let interval = bars.parse().map_err(|error| about(format!("bars: {error}")))?;
            if raw.kinds.is_some() || raw.mode.is_some() || raw.from.is_some() {
                let text = "`kinds`, `mode` and `from` do not go with `bars`";
                return Err(about(text.to_owned()));
            }
            let wish = wish_of(&symbols, &[], DeliveryMode::Lossless, None).map_err(about)?;
            return Ok(Command::Bars { id, symbols: wish.patterns, interval });
        }
        let mode = mode_of(raw.mode.as_deref(), default_mode).map_err(about)?;
        let kinds = raw.kinds.unwrap_or_default();
        let from = raw.from.as_ref().map(Start::of_json).transpose();
        let from = from.map_err(|error| about(format!("`from`: {error}")))?;
        let wish = wish_of(&symbols, &kinds, mode, from).map_err(about)?;
        Ok(Command::Subscribe { id, wish, mode })
    }
}

/// A mode as people write it, or the default.
pub(super) fn mode_of(text: Option<&str>, default: DeliveryMode) -> Result<DeliveryMode, String> {
    match text {
        None => Ok(default),
        Some(text) => text.parse().map_err(|error| format!("mode: {error}")),
    }
}

/// What JSON has where nobody says otherwise.
pub(super) const JSON_MODE: DeliveryMode =
    DeliveryMode::Conflate { interval_ms: limits::GATEWAY_CONFLATE_DEFAULT_MS };

/// A mode as it is said.
pub(super) fn mode_text(mode: DeliveryMode) -> String {
    match mode {
        DeliveryMode::Lossless => "lossless".to_owned(),
        DeliveryMode::Latest => "latest".to_owned(),
        DeliveryMode::Conflate { interval_ms } => format!("conflate={interval_ms}ms"),
    }
}

/// A subscription of these symbols and kinds.
pub(super) fn wish_of(
    symbols: &[String],
    kinds: &[String],
    mode: DeliveryMode,
    from: Option<Start>,
) -> Result<Wish, String> {
    if symbols.is_empty() || symbols.len() > limits::GATEWAY_PATTERNS_MAX {
        return Err(format!("`symbols` has 1 to {} patterns", limits::GATEWAY_PATTERNS_MAX));
    }
    let mut mask = 0;
    for kind in kinds {
        let known = DataKind::topic_mask(kind);
        mask |= known.ok_or_else(|| format!("`kinds`: no kind is called {kind:?}"))?;
    }
    if mask & crate::wire::Kind::BarPrices.mask() != 0 {
        return Err("bars are asked for with `bars`".to_owned());
    }
    let mut patterns = Vec::with_capacity(symbols.len());
    for text in symbols {
        let read: crate::parse::Pattern =
            text.parse().map_err(|error| format!("`symbols`: {text:?}: {error}"))?;
        if read.bars.is_some() {
            return Err(format!("`symbols`: {text:?}: bars are asked for with `bars`"));
        }
        let kinds = if read.kinds == 0 { mask } else { read.kinds };
        let pattern = Pattern::new(&read.symbols, kinds);
        patterns.push(pattern.map_err(|error| format!("`symbols`: {text:?}: {error}"))?);
    }
    Ok(Wish { patterns, mode: mode.wire_mode(), conflate_ms: mode.conflate_ms(), from })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Seq;

    fn read(text: &str) -> Result<Command, Objection> {
        Command::read(text, DeliveryMode::Lossless)
    }

    #[test]
    fn commands_are_read_and_what_is_unknown_is_named() {
        let Ok(Command::Subscribe { id, wish, mode }) = read(
            r#"{"subscribe":7,"symbols":["PETR*","trade.VALE3"],"kinds":["quote"],"mode":"conflate=1s","from":5}"#,
        ) else {
            panic!("it is a subscription")
        };
        assert_eq!((id, wish.mode, wish.conflate_ms), (7, Mode::Conflate, 1000));
        assert_eq!(wish.from, Some(Start { epoch_id: 0, seq: Seq::or_first(5) }));
        let under = read(r#"{"subscribe":7,"from":"00c0ffee:5"}"#);
        let start = Start { epoch_id: 0x00c0_ffee, seq: Seq::or_first(5) };
        assert!(matches!(under, Ok(Command::Subscribe { wish, .. }) if wish.from == Some(start)));
        assert_eq!(mode_text(mode), "conflate=1000ms");
        let of = |place: usize| (wish.patterns[place].text(), wish.patterns[place].kinds());
        assert_eq!(of(0), ("PETR*".to_owned(), 1 << 2));
        assert_eq!(of(1), ("VALE3".to_owned(), 1 << 3));
        assert_eq!(read(r#"{"unsubscribe":7}"#), Ok(Command::Unsubscribe { id: 7 }));
        let wrong = [
            (r#"{"subscribe":1,"symbol":"A"}"#, None, "unknown field `symbol`"),
            (r#"{"subscribe":0}"#, None, "1 or more"),
            (r#"{"subscribe":1,"unsubscribe":1}"#, None, "one of"),
            (r#"{"subscribe":1,"symbols":[]}"#, Some(1), "1 to 512"),
            (r#"{"subscribe":1,"symbols":["A*B"]}"#, Some(1), "only at the end"),
            (r#"{"subscribe":1,"kinds":["tick"]}"#, Some(1), "no kind is called"),
            (r#"{"subscribe":1,"mode":"fast"}"#, Some(1), "a mode is"),
            (r#"{"subscribe":1,"from":0}"#, Some(1), "1 or more"),
            (r#"{"subscribe":1,"from":"5:x"}"#, Some(1), "1 or more"),
            (r#"{"subscribe":1,"from":[1]}"#, Some(1), "1 or more"),
            (r#"{"subscribe":1,"bars":"7w"}"#, Some(1), "bars"),
            (r#"{"subscribe":1,"bars":"1m","from":1}"#, Some(1), "do not go"),
            ("[]", None, "one object"),
            ("", None, "one object"),
        ];
        for (text, about, says) in wrong {
            let (id, said) = read(text).unwrap_err();
            assert_eq!(id, about, "{text}");
            assert!(said.contains(says), "{text}: {said}");
        }
    }
}
