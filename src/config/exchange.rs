//! The list `[[exchange]]`: who feeds core, when it is not the one exchange of `[external]`.
//!
//! # Decisions
//!
//! * What an entry leaves out is as in `[net] external`, `[external]` and `[breaker]`. So these three are what they are
//!   without a list, and a list of one entry changes nothing but the name.
//! * Tapes are not taken over: an event that two exchanges tell is two events.
//! * Two synthetic markets with one seed would be one market with two names. So each entry adds its place to the seed.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::Deserialize;
use serde::de::value::SeqAccessDeserializer;
use serde::de::{Deserializer, Error as _, SeqAccess, Visitor};

use super::{
    Align, Config, ConfigError, External, LinesSettings, LinesTimeUnit, Listen, NodeId, Speed,
};
use crate::breaker;
use crate::limits::{EXCHANGE_NAME_BYTES_MAX, EXCHANGES_MAX};
use crate::market::lines::MappingError;
use crate::market::venue::{ExchangeNameError, check_exchange_name};
use crate::node::sequencer::ExchangeConfig;
use crate::wire::{QUANTITY_DECIMALS_MAX, padded, unpadded};

/// The name of an exchange, which is the venue of its instruments: 1 to [`EXCHANGE_NAME_BYTES_MAX`] letters, digits, `-`
/// and `_`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExchangeName([u8; EXCHANGE_NAME_BYTES_MAX]);

impl ExchangeName {
    /// The name of the exchange whose instruments have no venue.
    #[must_use]
    pub fn nameless() -> ExchangeName {
        ExchangeName(padded(ExchangeConfig::NAMELESS))
    }

    /// The node that plays this exchange.
    #[must_use]
    pub fn node(self) -> NodeId {
        if self == ExchangeName::nameless() { NodeId::External } else { NodeId::Exchange(self) }
    }
}

impl FromStr for ExchangeName {
    type Err = ExchangeNameError;

    fn from_str(text: &str) -> Result<ExchangeName, ExchangeNameError> {
        check_exchange_name(text)?;
        Ok(ExchangeName(padded(text)))
    }
}

impl fmt::Display for ExchangeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&unpadded(&self.0))
    }
}

impl fmt::Debug for ExchangeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<'de> Deserialize<'de> for ExchangeName {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<ExchangeName, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

/// How an exchange comes to core.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ExchangeKind {
    /// Core dials a node that plays it.
    #[default]
    Played,
    /// A program brings it to core, such as `pregao publish`.
    Producer,
    /// Programs write lines to a node, which brings them to core.
    Lines,
}

/// One entry of `[[exchange]]`. Every key but `name` may be left out.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExchangeEntry {
    /// `name`: the venue of its instruments. `exchange` means that they have none.
    pub name: ExchangeName,
    /// `kind`: `"played"` (default) by a node that core dials; `"producer"`: a program brings it to core; or `"lines"`:
    /// programs write line protocol to a node of it.
    #[serde(default)]
    pub kind: ExchangeKind,
    /// `address`: where it listens. Default: `[net] external`, 100 ports above it for the second entry, and so on.
    pub address: Option<Listen>,
    /// `metrics`: where its node also tells its own figures. Default: nowhere.
    pub metrics: Option<Listen>,
    /// `run`: whether it is a process of ours. Default true. With false somebody else runs it.
    #[serde(default = "yes")]
    pub run: bool,
    /// `breaker`: for its session and its requests. What it leaves out is as in `[breaker]`.
    pub breaker: Option<breaker::Config>,
    /// `tapes`: as in `[external]`. Default none: a synthetic market.
    pub tapes: Option<Vec<PathBuf>>,
    /// `align`: default as in `[external]`.
    pub align: Option<Align>,
    /// `allow_torn`: default as in `[external]`.
    pub allow_torn: Option<bool>,
    /// `speed`: default as in `[external]`.
    pub speed: Option<Speed>,
    /// `loop`: default as in `[external]`.
    #[serde(rename = "loop")]
    pub looped: Option<bool>,
    /// `rate`: default as in `[external]`. Not together with `tapes`.
    pub rate: Option<u64>,
    /// `seed`: default that of `[external]`, one more for the second entry, and so on.
    pub seed: Option<u64>,
    /// `chaos`: default as in `[external]`.
    pub chaos: Option<String>,
    /// `map`: other names of fields and measurements, as `"price=last,qty=amount"`. Of lines only.
    pub map: Option<String>,
    /// `time_unit`: what a time without a unit counts: `"ns"` (default), `"us"`, `"ms"` or `"s"`. Of lines only.
    pub time_unit: Option<LinesTimeUnit>,
    /// `quantity_decimals`: decimals of a unit of quantities, of instruments that core does not have. Default 8. Of lines
    /// only.
    pub quantity_decimals: Option<u8>,
}

fn yes() -> bool {
    true
}

/// Reads the list. Whoever writes `[exchange]` is told how it is written.
pub(super) fn deserialize_list<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<Vec<ExchangeEntry>, D::Error> {
    struct ListVisitor;

    impl<'de> Visitor<'de> for ListVisitor {
        type Value = Vec<ExchangeEntry>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list; write [[exchange]] above each exchange")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Vec<ExchangeEntry>, A::Error> {
            Deserialize::deserialize(SeqAccessDeserializer::new(list))
        }
    }

    from.deserialize_seq(ListVisitor)
}

impl ExchangeEntry {
    /// What messages call its place.
    pub(super) fn section(&self) -> String {
        format!("[[exchange]] {}", self.name)
    }

    /// How its lines are read.
    fn lines(&self) -> Result<LinesSettings, MappingError> {
        LinesSettings::new(self.map.as_deref(), self.time_unit, self.quantity_decimals)
    }

    /// A key that says how lines are read.
    fn lines_key(&self) -> Option<&'static str> {
        let keys = [
            ("map", self.map.is_some()),
            ("time_unit", self.time_unit.is_some()),
            ("quantity_decimals", self.quantity_decimals.is_some()),
        ];
        keys.into_iter().find(|(_, is_given)| *is_given).map(|(key, _)| key)
    }

    /// What is wrong with an entry that core does not dial: the key, and why.
    fn problem_of_kind(&self) -> Option<(&'static str, String)> {
        let key = self.lines_key().filter(|_| self.kind != ExchangeKind::Lines);
        if let Some(key) = key {
            let problem = "belongs to an exchange of lines; leave it out, or say kind = \"lines\"";
            return Some((key, problem.to_owned()));
        }
        if self.kind == ExchangeKind::Played {
            return None;
        }
        if self.name == ExchangeName::nameless() {
            let problem = "means that instruments have no venue; give it a name of its own";
            return Some(("name", problem.to_owned()));
        }
        let is_producer = self.kind == ExchangeKind::Producer;
        let address = (is_producer && self.address.is_some()).then_some("address");
        let run = (is_producer && !self.run).then_some("run");
        let metrics = (is_producer && self.metrics.is_some()).then_some("metrics");
        if let Some(key) = self.played_key().or(address).or(run).or(metrics) {
            let problem = "belongs to an exchange that core dials; leave it out for this kind";
            return Some((key, problem.to_owned()));
        }
        if let Err(error) = self.lines() {
            return Some(("map", error.to_string()));
        }
        let is_too_fine = self.quantity_decimals.is_some_and(|it| it > QUANTITY_DECIMALS_MAX);
        is_too_fine.then(|| ("quantity_decimals", format!("is at most {QUANTITY_DECIMALS_MAX}")))
    }

    /// How it is played; `place` counts the entries from 0.
    fn played(&self, place: usize, default: &External) -> External {
        let tapes = self.tapes.clone().unwrap_or_default();
        let rate = default.rate.filter(|_| tapes.is_empty());
        External {
            align: self.align.unwrap_or(default.align),
            allow_torn: self.allow_torn.unwrap_or(default.allow_torn),
            selection: default.selection.clone(),
            speed: self.speed.unwrap_or(default.speed),
            looped: self.looped.unwrap_or(default.looped),
            rate: self.rate.or(rate),
            seed: self.seed.unwrap_or(default.seed.wrapping_add(place as u64)),
            chaos: self.chaos.as_ref().unwrap_or(&default.chaos).clone(),
            tapes,
        }
    }

    /// A key that says how it is played.
    fn played_key(&self) -> Option<&'static str> {
        let keys = [
            ("tapes", self.tapes.is_some()),
            ("align", self.align.is_some()),
            ("allow_torn", self.allow_torn.is_some()),
            ("speed", self.speed.is_some()),
            ("loop", self.looped.is_some()),
            ("rate", self.rate.is_some()),
            ("seed", self.seed.is_some()),
            ("chaos", self.chaos.is_some()),
        ];
        keys.into_iter().find(|(_, is_given)| *is_given).map(|(key, _)| key)
    }
}

/// An exchange that feeds core, with all that its entry leaves out.
#[derive(Clone, Debug, PartialEq)]
pub struct Exchange {
    /// Its name.
    pub name: ExchangeName,
    /// How it comes to core.
    pub kind: ExchangeKind,
    /// Whether it is a process of ours.
    pub run: bool,
    /// How it is played, if it is.
    pub played: External,
    /// How its lines are read, if it has some.
    pub lines: LinesSettings,
    /// For its session and its requests.
    pub breaker: breaker::Config,
}

impl Exchange {
    /// The node that plays it.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.name.node()
    }
}

impl Config {
    /// Every exchange that feeds core: those of `[[exchange]]`, or the one of `[external]` where none is listed.
    #[must_use]
    pub fn exchanges(&self) -> Vec<Exchange> {
        if self.exchange.is_empty() {
            let (played, breaker) = (self.external.clone(), self.breaker.clone());
            let (name, kind) = (ExchangeName::nameless(), ExchangeKind::Played);
            let lines = LinesSettings::default();
            return vec![Exchange { name, kind, run: true, played, lines, breaker }];
        }
        let exchange = |(place, entry): (usize, &ExchangeEntry)| Exchange {
            name: entry.name,
            kind: entry.kind,
            run: entry.run && entry.kind != ExchangeKind::Producer,
            lines: entry.lines().unwrap_or_default(),
            played: entry.played(place, &self.external),
            breaker: entry.breaker.as_ref().unwrap_or(&self.breaker).clone(),
        };
        self.exchange.iter().enumerate().map(exchange).collect()
    }

    /// The exchanges that are processes of ours.
    #[must_use]
    pub fn own_exchanges(&self) -> Vec<Exchange> {
        self.exchanges().into_iter().filter(|exchange| exchange.run).collect()
    }

    /// Fills the breaker of each entry up with what `[breaker]` of the same text says. A parsed [`breaker::Config`] does
    /// not know which of its keys were left out.
    pub(super) fn complete_breakers(&mut self, text: &str) -> Result<(), toml::de::Error> {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Tables {
            breaker: toml::Table,
            exchange: Vec<Entry>,
        }
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Entry {
            breaker: Option<toml::Table>,
        }
        let tables: Tables = toml::from_str(text)?;
        for (entry, own) in self.exchange.iter_mut().zip(tables.exchange) {
            let Some(own) = own.breaker else { continue };
            let mut table = tables.breaker.clone();
            table.extend(own);
            entry.breaker = Some(table.try_into()?);
        }
        Ok(())
    }

    pub(super) fn validate_exchanges(&self) -> Result<(), ConfigError> {
        if self.exchange.is_empty() {
            return Ok(());
        }
        // One number is kept for the exchange without a name, whether there is one or not.
        let nameless = ExchangeName::nameless();
        let named = self.exchange.iter().filter(|entry| entry.name != nameless).count();
        if named >= EXCHANGES_MAX {
            let problem = format!("lists {named} with names; list at most {}", EXCHANGES_MAX - 1);
            return Err(ConfigError::new("[[exchange]]", problem));
        }
        if !self.external.tapes.is_empty() {
            let problem = "would be played by none of [[exchange]]; write tapes in the [[exchange]] \
                           that plays them";
            return Err(ConfigError::new("[external] tapes", problem));
        }
        for (place, entry) in self.exchange.iter().enumerate() {
            let wrong = |key: &str, problem: String| {
                Err(ConfigError::new(format!("{} {key}", entry.section()), problem))
            };
            let name = entry.name.to_string();
            let is_same = |it: &&ExchangeEntry| it.name.to_string().eq_ignore_ascii_case(&name);
            if let Some(other) = self.exchange[..place].iter().find(is_same) {
                let problem = format!("{} is there before; give each its own name", other.name);
                return wrong("name", problem);
            }
            if let Some((key, problem)) = entry.problem_of_kind() {
                return wrong(key, problem);
            }
            if let Some(key) = entry.played_key().filter(|_| !entry.run) {
                let problem = "belongs to an exchange that runs here; leave it out, or run = false";
                return wrong(key, problem.to_owned());
            }
            if !entry.run && entry.address.is_none() {
                let problem = "is missing; with run = false only you know where it listens";
                return wrong("address", problem.to_owned());
            }
            if let Some(breaker) = &entry.breaker
                && let Err(error) = breaker.validate()
            {
                return wrong("breaker", error.to_string());
            }
            entry.played(place, &self.external).validate(&entry.section())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
