//! What `compare` measures, as numbers: who subscribes to what at which rate, and where a search begins.

use std::time::Duration;

use crate::options::Scenario;
use crate::target::Target;

/// At what rate a shape is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Offer {
    /// At this many messages a second.
    Fixed(u64),
    /// At the highest that is sustained.
    Search,
}

/// One line of the comparison for each target.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// The scenario's name in results.
    pub(crate) name: &'static str,
    pub(crate) subscribers: usize,
    pub(crate) instruments: u32,
    /// Instruments on each list; 0 = everything.
    pub(crate) watch: usize,
    pub(crate) offer: Offer,
    /// Whether the bare loop is measured too: only where nothing ever waits.
    pub(crate) with_bare: bool,
    /// How long it is measured at least, to have enough messages.
    pub(crate) duration_min: Duration,
}

impl Shape {
    /// What it is, in words.
    pub(crate) fn title(&self) -> String {
        let who = match self.subscribers {
            1 => "one subscriber".to_owned(),
            count => format!("{count} subscribers"),
        };
        let what = match self.watch {
            0 => String::new(),
            watch => format!(" of {watch} in {}", self.instruments),
        };
        let rate = match self.offer {
            Offer::Fixed(rate) => format!("{rate} messages/s"),
            Offer::Search => "most with p99 up to 250 ms".to_owned(),
        };
        format!("{}: {who}{what}, {rate}", self.name)
    }

    /// Where the search for a target's highest rate begins: near what it sustained on the machine of
    /// PERF.md. A wrong guess costs trials and nothing else, since a search goes either way.
    pub(crate) fn first_guess(&self, target: Target) -> u64 {
        let deliveries = match (target, self.watch) {
            (Target::Pregao, 0) => 25_000_000,
            (Target::Pregao, _) => 9_000_000,
            (Target::Redis, 0) => 1_250_000,
            (Target::Redis, _) => 450_000,
            (Target::Nats, 0) => 420_000,
            (Target::Nats, _) => 200_000,
            (Target::PregaoWs, 0) => 20_000_000,
            (Target::PregaoWs, _) => 5_000_000,
            (Target::NatsWs, 0) => 400_000,
            (Target::NatsWs, _) => 200_000,
            (Target::Mqtt | Target::Bare, _) => 150_000,
        };
        if self.subscribers == 1 {
            return match target {
                Target::Pregao | Target::PregaoWs => 5_000_000,
                Target::Redis | Target::Nats | Target::NatsWs => 1_500_000,
                Target::Mqtt | Target::Bare => 200_000,
            };
        }
        // Of the messages a list sees its share, and popular instruments are on more lists: together
        // about a third of all for 20 of 500.
        let share = if self.watch == 0 { 1 } else { 3 };
        (deliveries * share / self.subscribers.max(1) as u64).max(1)
    }
}

/// The shapes of the scenarios that are measured beside peers; none for those on our broker alone.
pub(crate) fn shapes(scenario: Scenario, subscribers: usize) -> Vec<Shape> {
    let full = Shape {
        name: "full-feed",
        subscribers,
        instruments: 100,
        watch: 0,
        offer: Offer::Search,
        with_bare: false,
        duration_min: Duration::ZERO,
    };
    let light = Shape { name: "light-load", duration_min: Duration::from_secs(4), ..full };
    let one = Shape { name: "one-to-one", subscribers: 1, ..full };
    let fixed = |shape, rate| Shape { offer: Offer::Fixed(rate), ..shape };
    match scenario {
        Scenario::FullFeed => vec![full],
        Scenario::WatchList => {
            vec![Shape { name: "watch-list", instruments: 500, watch: 20, ..full }]
        }
        Scenario::LightLoad => {
            vec![Shape { with_bare: true, ..fixed(light, 20) }, fixed(light, 100)]
        }
        Scenario::OneToOne => {
            vec![Shape { duration_min: Duration::from_secs(4), ..fixed(one, 20_000) }, one]
        }
        Scenario::Hardship
        | Scenario::LateJoin
        | Scenario::Restart
        | Scenario::Joins
        | Scenario::Replays
        | Scenario::Many
        | Scenario::Churn => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn light_load_has_both_rates_and_one_to_one_both_offers() {
        let offers = |scenario| -> Vec<Offer> {
            shapes(scenario, 5_000).iter().map(|shape| shape.offer).collect()
        };
        assert_eq!(offers(Scenario::LightLoad), [Offer::Fixed(20), Offer::Fixed(100)]);
        assert_eq!(offers(Scenario::OneToOne), [Offer::Fixed(20_000), Offer::Search]);
        assert!(shapes(Scenario::OneToOne, 5_000).iter().all(|shape| shape.subscribers == 1));
    }

    #[test]
    fn every_guess_is_a_rate_and_every_title_fits() {
        for scenario in [Scenario::FullFeed, Scenario::WatchList, Scenario::OneToOne] {
            for shape in shapes(scenario, 1_000_000) {
                assert!(Target::ALL.iter().all(|&target| shape.first_guess(target) > 0));
                assert!(shape.title().len() <= 80, "{}", shape.title());
            }
        }
    }
}
