//! Publishes trades as a source of its own, beside the market of core.
//!
//! Start `pregao all` first, then `cargo run --example publish -- GOLD --source 7 --count 100`.

use std::error::Error;
use std::net::SocketAddr;
use std::time::Duration;

use clap::Parser;
use pregao::client::Publisher;
use pregao::market::price::Price;
use pregao::time::Clock;
use pregao::wire::{I64, Trade, U64};

/// Publishes trades of one symbol, each a cent above the last one.
#[derive(Debug, Parser)]
struct Arguments {
    /// The symbol.
    #[arg(default_value = "GOLD")]
    symbol: String,
    /// The source to publish as, 0 to 7. A running system publishes the market as source 1.
    #[arg(long, default_value_t = 7)]
    source: u8,
    /// Who distributes the feed.
    #[arg(long, default_value = "127.0.0.1:8081")]
    broker: SocketAddr,
    /// The first price.
    #[arg(long, default_value = "2650.50")]
    price: Price,
    /// Milliseconds from one trade to the next.
    #[arg(long, default_value_t = 10)]
    every_ms: u64,
    /// End after so many trades.
    #[arg(long, default_value_t = 100)]
    count: u64,
}

const CENT: i64 = 10_000_000;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    // Later than the epoch of the last run, whose frames nobody keeps.
    let epoch = u32::try_from(Clock::start().now().wall_ns / 1_000_000_000)?;
    let mut publisher = Publisher::open(arguments.broker, arguments.source, epoch)?;
    let instrument = publisher.define(&arguments.symbol, 2)?;
    println!("{} is instrument {instrument:#x}, epoch {epoch}", arguments.symbol);

    let clock = publisher.clock();
    let every = Duration::from_millis(arguments.every_ms);
    let (mut due, mut price) = (clock.now().mono, arguments.price.0);
    for _ in 0..arguments.count {
        let seq = publisher.publish(Trade {
            instrument: instrument.into(),
            ts_event: U64::new(clock.now().wall_ns),
            price: I64::new(price),
            qty: U64::new(1),
            ..Trade::default()
        })?;
        println!("seq {seq}: 1 at {}", Price(price).with_decimals(2));
        price += CENT;
        due = due + every;
        // Answers the broker while it waits.
        publisher.wait_until(due)?;
    }
    let has_all = publisher.wait_accepted(clock.now().mono + Duration::from_secs(5))?;
    let accepted = publisher.accepted_seq();
    if !has_all {
        return Err(format!("the broker accepted only what is before seq {accepted}").into());
    }
    println!("the broker accepted everything before seq {accepted}");
    Ok(())
}
