//! The questions of a query load: kinds by weight, symbols by chance, both from a seed.

use std::str::FromStr;
use std::time::Duration;

use pregao::question::Question;
use pregao::random::Random;
use pregao::wire::{Op, Query, U32, U64, padded};

/// A kind of question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Quote,
    Last,
    List,
    Bars,
    All,
}

/// How many of each kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mix(Vec<(Kind, u64)>);

impl FromStr for Mix {
    type Err = String;

    fn from_str(text: &str) -> Result<Mix, String> {
        let one = |part: &str| {
            let (kind, weight) = part.split_once('=')?;
            let kind = match kind {
                "quote" => Kind::Quote,
                "last" => Kind::Last,
                "list" => Kind::List,
                "bars" => Kind::Bars,
                "all" => Kind::All,
                _ => return None,
            };
            let weight = weight.parse().ok().filter(|weight| (1..=1_000).contains(weight))?;
            Some((kind, weight))
        };
        let parts: Option<Vec<(Kind, u64)>> = text.split(',').map(one).collect();
        parts.map(Mix).ok_or_else(|| "a mix is like quote=4,last=4,list=1,bars=1,all=1".to_owned())
    }
}

impl Mix {
    /// Whether HTTP has a path for each kind that asks the same.
    pub(crate) fn has_paths(&self) -> bool {
        let has_path = |kind: &Kind| matches!(kind, Kind::Quote | Kind::Bars | Kind::All);
        self.0.iter().all(|(kind, _)| has_path(kind))
    }
}

/// Makes the questions.
#[derive(Clone, Debug)]
pub(crate) struct Shapes {
    symbols: Vec<String>,
    mix: Mix,
    deadline_us: u32,
    seed: u64,
}

impl Shapes {
    /// `symbols` are not empty.
    pub(crate) fn new(symbols: Vec<String>, mix: Mix, deadline: Duration, seed: u64) -> Shapes {
        let deadline_us = u32::try_from(deadline.as_micros()).unwrap_or(u32::MAX);
        Shapes { symbols, mix, deadline_us, seed }
    }

    /// Question number `number` of the run, without an id.
    pub(crate) fn question(&self, number: u64) -> Question {
        let mut random = Random::new(self.seed).fork(number);
        let kind = self.kind(&mut random);
        self.of_kind(kind, &mut random)
    }

    /// The same as a path of HTTP. Bars are the last 60, which are all of a system's first hour.
    pub(crate) fn path(&self, number: u64) -> String {
        let mut random = Random::new(self.seed).fork(number);
        let kind = self.kind(&mut random);
        let index = usize::try_from(random.below(self.symbols.len() as u64)).unwrap_or(0);
        let symbol = self.symbols.get(index).map_or("*", String::as_str);
        match kind {
            Kind::Bars => format!("/v1/bars/{symbol}?interval=1m&last=60"),
            Kind::All => "/v1/quotes?symbols=*".to_owned(),
            _ => format!("/v1/quotes?symbols={symbol}"),
        }
    }

    fn kind(&self, random: &mut Random) -> Kind {
        let all: u64 = self.mix.0.iter().map(|(_, weight)| weight).sum();
        let mut chosen = random.below(all);
        let mut kind = Kind::Quote;
        for (candidate, weight) in &self.mix.0 {
            kind = *candidate;
            match chosen.checked_sub(*weight) {
                Some(left) => chosen = left,
                None => break,
            }
        }
        kind
    }

    /// The last trades of one symbol with its quote.
    pub(crate) fn last(&self) -> Question {
        self.of_kind(Kind::Last, &mut Random::new(self.seed))
    }

    fn of_kind(&self, kind: Kind, random: &mut Random) -> Question {
        let mut symbol = || {
            let index = usize::try_from(random.below(self.symbols.len() as u64)).unwrap_or(0);
            self.symbols.get(index).map_or("*", String::as_str)
        };
        let (op, limit, options) = match kind {
            Kind::Quote | Kind::All => (Op::Quote, 0, 0),
            Kind::Last => (Op::Last, 10, Query::WITH_QUOTE),
            Kind::List => (Op::Last, 5, Query::WITH_QUOTE),
            Kind::Bars => (Op::Bars, 60, 0),
        };
        let names: Vec<&str> = match kind {
            Kind::All => vec!["*"],
            Kind::List => (0..10).map(|_| symbol()).collect(),
            _ => vec![symbol()],
        };
        let query = Query {
            op: op as u8,
            options,
            limit: U32::new(limit),
            deadline_us: U32::new(self.deadline_us),
            symbol: padded(names.first().copied().unwrap_or("*")),
            to: U64::new(u64::MAX),
            ..Query::default()
        };
        let single = Question::new(&query);
        let question = single.ok().and_then(|it| it.about(names.iter().map(|name| padded(name))));
        question.expect("names of instruments are symbols, and ten of them fit a query")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mix_of(text: &str) -> Mix {
        text.parse().unwrap()
    }

    #[test]
    fn a_mix_is_what_it_says_and_the_same_seed_asks_the_same() {
        let mix: Mix = "quote=1,list=3".parse().unwrap();
        let symbols = (0..50).map(|n| format!("S{n}")).collect();
        let shapes = Shapes::new(symbols, mix, Duration::from_secs(1), 7);
        let asked: Vec<Question> = (0..400).map(|number| shapes.question(number)).collect();
        let lists = asked.iter().filter(|question| question.patterns().len() == 10).count();
        assert!((250..350).contains(&lists), "{lists}");
        assert_eq!(asked[17], shapes.question(17));
        assert!(!mix_of("quote=1,list=3").has_paths() && mix_of("bars=1,quote=2").has_paths());
        let bars = Shapes::new(vec!["PETR4".to_owned()], mix_of("bars=1"), Duration::ZERO, 7);
        assert_eq!(bars.path(3), "/v1/bars/PETR4?interval=1m&last=60");
        for bad in ["", "quote", "quote=0", "quote=1,", "tick=1"] {
            assert!(bad.parse::<Mix>().is_err(), "{bad:?}");
        }
    }
}
