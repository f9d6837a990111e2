//! Prints bars as they end, folded out of the live trades.
//!
//! Start `pregao all` first, then `cargo run --example bars -- 'PETR*' --seconds 5 --count 10`.

use std::error::Error;
use std::net::SocketAddr;

use clap::Parser;
use pregao::client::{BarEvent, BarPattern, BarSubscription};
use pregao::feed::Pattern;
use pregao::market::price::Price;
use pregao::time::Mono;

/// Prints bars as they end.
#[derive(Debug, Parser)]
struct Arguments {
    /// Symbol; a star at the end stands for any ending.
    #[arg(default_value = "*")]
    symbol: String,
    /// Length of a bar.
    #[arg(long, default_value_t = 5)]
    seconds: u32,
    /// Who distributes the feed.
    #[arg(long, default_value = "127.0.0.1:8081")]
    broker: SocketAddr,
    /// Who has the history that fills gaps.
    #[arg(long, default_value = "127.0.0.1:8082")]
    core: SocketAddr,
    /// Who has the beginning of the bars that are under way.
    #[arg(long, default_value = "127.0.0.1:8000")]
    aggregator: SocketAddr,
    /// End after so many bars.
    #[arg(long, default_value_t = 10)]
    count: u64,
}

fn main() -> Result<(), Box<dyn Error>> {
    let Arguments { symbol, seconds, broker, core, aggregator, count } = Arguments::parse();
    let patterns = vec![BarPattern { pattern: Pattern::new(&symbol, 0)?, seconds }];
    let mut bars = BarSubscription::open(broker, core, aggregator, patterns, None)?;
    let mut left = count;
    while left > 0 {
        // However long it takes.
        match bars.next_before(Mono(u64::MAX))? {
            Some(BarEvent::Bar(live)) => {
                let decimals = bars.symbols().decimals(live.instrument).price;
                let price = |price: i64| Price(price).with_decimals(decimals);
                let symbol = bars.symbols().symbol(live.instrument);
                let symbol = symbol.map_or("?", |symbol| symbol.as_str());
                let bar = live.bar;
                println!(
                    "{symbol} from second {}: open {} high {} low {} close {}, {} trades{}{}",
                    bar.start / 1_000_000_000,
                    price(bar.open),
                    price(bar.high),
                    price(bar.low),
                    price(bar.close),
                    bar.trades,
                    if live.is_revised { ", revised" } else { "" },
                    if live.is_incomplete { ", incomplete" } else { "" },
                );
                left -= 1;
            }
            Some(BarEvent::Lost(loss)) => println!("lost: {loss:?}"),
            Some(BarEvent::Stale) => println!("stale: bars may be late"),
            Some(BarEvent::Ended) => println!("the feed has ended: no more bars come"),
            Some(BarEvent::Current) => println!("current again"),
            Some(BarEvent::Exchange { exchange, status }) => {
                println!("exchange {exchange}: {status:?}");
            }
            None => break,
        }
    }
    Ok(())
}
