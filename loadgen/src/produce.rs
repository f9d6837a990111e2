//! `loadgen produce`: a producer that makes events as fast as core takes them, and how long that takes.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Args;
use pregao::client::{FeedId, Producer, random_id};
use pregao::time::{Mono, Now};
use pregao::wire::{Decimals, I64, Trade, U64};
use serde_json::json;

/// How long core may be away.
const PATIENCE: Duration = Duration::from_secs(10);
/// Instruments that the events are of.
const SYMBOLS: [&str; 4] = ["BTC-USD", "ETH-USD", "PETR4", "VALE3"];

/// What is produced, and where.
#[derive(Clone, Debug, Args)]
pub(crate) struct ProduceFlags {
    /// Core
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:8082")]
    core: SocketAddr,
    /// The exchange that the events are of
    #[arg(long, value_name = "NAME", default_value = "load")]
    exchange: String,
    /// Events to produce
    #[arg(long, value_name = "N", default_value = "5000000",
          value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    count: u64,
}

/// Produces, and prints one line of JSON.
///
/// # Errors
/// When core is not there, or refuses.
pub(crate) fn produce(flags: &ProduceFlags) -> Result<String, String> {
    let told = |error: &dyn std::fmt::Display| error.to_string();
    let feed = FeedId::new(&flags.exchange, random_id()).map_err(|error| told(&error))?;
    let producer = Producer::open(flags.core, feed.behind_others(), PATIENCE);
    let mut producer = producer.map_err(|error| told(&error))?;
    let mut instruments = Vec::new();
    for symbol in SYMBOLS {
        let decimals = Decimals { price: 2, quantity: 8 };
        let instrument = producer.define(symbol, decimals).map_err(|error| told(&error))?;
        instruments.push(instrument.id);
    }
    let clock = producer.clock();
    let Now { mono: begun, wall_ns } = clock.now();
    for (number, instrument) in (0..flags.count).zip(instruments.iter().cycle()) {
        let trade = Trade {
            instrument: (*instrument).into(),
            ts_event: U64::new(wall_ns + number),
            price: I64::new(2_650_500_000_000),
            qty: U64::new(12_345),
            trade_id: U64::new(number),
            ..Trade::default()
        };
        producer.produce(trade).map_err(|error| told(&error))?;
    }
    producer.end(Mono(u64::MAX)).map_err(|error| told(&error))?;
    let seconds = clock.now().mono.since(begun).as_secs_f64();
    Ok(json!({ "events": flags.count, "durable_s": seconds }).to_string())
}
