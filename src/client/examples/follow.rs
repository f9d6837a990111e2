//! Follows instruments: quotes and trades as they come, in order, and every loss.
//!
//! Start `pregao all` first, then `cargo run --example follow -- 'PETR*' --count 20`.

use std::error::Error;
use std::net::SocketAddr;

use clap::Parser;
use pregao::client::{Event, Request, Subscription, Symbols};
use pregao::feed::Pattern;
use pregao::market::{Price, Quantity};
use pregao::wire::{Flags, Frame, Quote, Trade};

/// Follows instruments and prints their quotes and trades.
#[derive(Debug, Parser)]
struct Arguments {
    /// Symbols; a star at the end stands for any ending.
    #[arg(default_value = "*")]
    symbols: Vec<String>,
    /// Who distributes the feed.
    #[arg(long, default_value = "127.0.0.1:8081")]
    broker: SocketAddr,
    /// Who has the history that fills gaps.
    #[arg(long, default_value = "127.0.0.1:8082")]
    core: SocketAddr,
    /// End after so many quotes and trades.
    #[arg(long, default_value_t = 20)]
    count: u64,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let patterns: Result<_, _> = arguments.symbols.iter().map(|it| Pattern::new(it, 0)).collect();
    let request = Request::market(patterns?);
    let mut subscription = Subscription::open(arguments.broker, arguments.core, request)?;
    let mut left = arguments.count;
    while left > 0 {
        // The iterator ends only when the broker refuses, and then this is the reason.
        let Some(event) = subscription.next() else { break };
        match event? {
            Event::Data(frame) => {
                if let Some(line) = line(&frame, subscription.symbols()) {
                    println!("{line}");
                    left -= 1;
                }
            }
            Event::Stale => println!("stale: the feed is not known to be current"),
            Event::Ended => println!("the feed has ended: nothing more comes"),
            Event::Current => println!("current again"),
            Event::Exchange { exchange, status } => println!("exchange {exchange}: {status:?}"),
            Event::Live { next_seq } => println!("live from seq {next_seq} on"),
            Event::Lost { reason, from_seq, to_seq, missed, .. } => {
                println!("lost: seq {from_seq} to {to_seq} ({reason:?}), {missed:?} of ours");
            }
        }
    }
    Ok(())
}

/// What a quote or a trade says. Other kinds have no line.
fn line(frame: &Frame, symbols: &Symbols) -> Option<String> {
    let instrument = frame.instrument();
    let symbol = symbols.symbol(instrument)?;
    let decimals = symbols.decimals(instrument);
    let quantity = |units: u128| Quantity::new(units, decimals.quantity);
    let price = |price: i64| Price(price).with_decimals(decimals.price);
    let text = if let Some(trade) = frame.view::<Trade>() {
        format!("trade {} at {}", quantity(trade.qty.get().into()), price(trade.price.get()))
    } else {
        let quote = frame.view::<Quote>()?;
        let (bid, ask) = (price(quote.bid.get()), price(quote.ask.get()));
        let (bid_qty, ask_qty) = (quantity(quote.bid_qty.units()), quantity(quote.ask_qty.units()));
        format!("quote {bid_qty} at {bid}, {ask_qty} at {ask}")
    };
    let origin = if frame.has(Flags::SNAPSHOT) { ", last value" } else { "" };
    Some(format!("{symbol} {text} (seq {}{origin})", frame.seq.get()))
}
