//! Brings core trades of one's own, as an exchange, and stores each once: run it again, also after `kill -9`, and it goes on.
//!
//! Start `pregao all` first, then `cargo run --example produce -- GOLD --count 100`.

use std::error::Error;
use std::net::SocketAddr;
use std::time::Duration;

use clap::Parser;
use pregao::client::{FeedId, Producer};
use pregao::market::price::Price;
use pregao::time::Mono;
use pregao::wire::{Decimals, I64, Trade, U64};

/// Produces trades of one symbol, each a cent above the last one.
#[derive(Debug, Parser)]
struct Arguments {
    /// The symbol.
    #[arg(default_value = "GOLD")]
    symbol: String,
    /// The exchange, which becomes the venue of the symbol.
    #[arg(long, default_value = "own")]
    exchange: String,
    /// By which core knows the feed again. The same number must mean the same trades.
    #[arg(long, default_value_t = 20_261_128)]
    feed: u64,
    /// Who journals it.
    #[arg(long, default_value = "127.0.0.1:8082")]
    core: SocketAddr,
    /// The first price.
    #[arg(long, default_value = "2650.50")]
    price: Price,
    /// Milliseconds from one trade to the next.
    #[arg(long, default_value_t = 10)]
    every_ms: u64,
    /// All trades that there are.
    #[arg(long, default_value_t = 100)]
    count: u64,
}

const CENT: i64 = 10_000_000;
/// When the first trade was, and how far trades are apart: a trade is the same in each run.
const BEGIN_NS: u64 = 1_784_034_439_000_000_000;
const STEP_NS: u64 = 1_000_000;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let feed = FeedId::new(&arguments.exchange, arguments.feed)?.behind_others();
    let mut producer = Producer::open(arguments.core, feed, Duration::from_secs(30))?;
    let instrument = producer.define(&arguments.symbol, Decimals { price: 2, quantity: 0 })?;
    let first = producer.next_seq();
    println!("core has {} trades of this feed", first - 1);

    let every = Duration::from_millis(arguments.every_ms);
    let mut due = producer.clock().now().mono;
    for number in first..=arguments.count {
        let cents = i64::try_from(number - 1)? * CENT;
        producer.produce(Trade {
            instrument: instrument.id.into(),
            ts_event: U64::new(BEGIN_NS + number * STEP_NS),
            price: I64::new(arguments.price.0 + cents),
            qty: U64::new(1),
            ..Trade::default()
        })?;
        due = due + every;
        // Sends it, and answers core while it waits.
        producer.wait_until(due)?;
    }
    producer.end(Mono(u64::MAX))?;
    println!("all {} trades are durable", producer.durable_seq() - 1);
    Ok(())
}
