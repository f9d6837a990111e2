//! What people write: the configuration, and the values of flags.

use std::fmt::Display;
use std::str::FromStr;

use pregao::config::{Config, Speed};
use pregao::market::chaos::ChaosConfig;
use pregao::market::{DecimalMark, Price};
use pregao::parse::{BarInterval, DeliveryMode, Pattern, TimeNs, deadline};
use pregao::random::Random;
use pregao::{duration, feed, wire};

use crate::mutate::{below, cases, corpus, mutate, pick};

fn text(random: &mut Random, of: &[Vec<u8>]) -> String {
    let mut bytes = pick(random, of).clone();
    mutate(random, &mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

fn words() -> Vec<Vec<u8>> {
    let all = corpus("text").into_iter().find(|text| !text.starts_with(b"[net]")).unwrap();
    all.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect()
}

/// What a value prints must be read as the same value.
fn reads_what_it_prints<T: FromStr + Display + PartialEq>(text: &str) {
    if let Ok(value) = text.parse::<T>() {
        let printed = value.to_string();
        assert!(printed.parse::<T>().is_ok_and(|again| again == value), "{text:?}: {printed:?}");
    }
}

#[test]
fn no_word_panics_and_what_is_read_is_printed_as_itself() {
    let words = words();
    cases(40_000, |random| {
        let text = text(random, &words);
        reads_what_it_prints::<ChaosConfig>(&text);
        reads_what_it_prints::<Price>(&text);
        reads_what_it_prints::<Speed>(&text);
        reads_what_it_prints::<wire::Symbol>(&text);
        let _ = (text.parse::<Pattern>(), text.parse::<DeliveryMode>());
        let _ = (text.parse::<BarInterval>(), text.parse::<TimeNs>());
        let _ = (deadline(&text), Price::parse(&text, DecimalMark::Comma));
        if let Ok(pattern) = feed::Pattern::new(&text, 0) {
            let again = feed::Pattern::new(&pattern.text(), 0).unwrap();
            assert_eq!(again.text(), pattern.text());
        }
        if let Ok(time) = duration::parse(&text) {
            let shown = duration::show(time).to_string();
            assert_eq!(duration::parse(&shown), Ok(time), "{text:?}: {shown:?}");
        }
    });
}

#[test]
fn no_pattern_on_the_wire_panics() {
    cases(20_000, |random| {
        let len = below(random, 40);
        let field: Vec<u8> = (0..len).map(|_| random.next_u64() as u8 & 0x7F).collect();
        if let Ok(pattern) = feed::Pattern::from_field(&field, random.next_u64() as u16) {
            let symbol: wire::Symbol = "PETR4".parse().unwrap();
            let _ = pattern.matches(&symbol);
        }
    });
}

#[test]
fn no_configuration_panics_and_what_is_valid_has_all_its_nodes() {
    let files: Vec<Vec<u8>> =
        corpus("text").into_iter().filter(|text| text.starts_with(b"[net]")).collect();
    assert!(!files.is_empty());
    cases(4_000, |random| {
        let text = text(random, &files);
        if let Ok(config) = Config::from_toml(&text, "fuzz.toml")
            && config.validate().is_ok()
        {
            for node in config.nodes() {
                assert!(config.listen(node).is_some(), "{text}");
            }
        }
    });
}
