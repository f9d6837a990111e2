//! Asks for the quote and the last trades of a symbol, and says which nodes answered.
//!
//! Start `pregao all` first, then `cargo run --example ask -- PETR4 --last 5`.

use std::error::Error;
use std::net::SocketAddr;
use std::time::Duration;

use clap::Parser;
use pregao::client::{Answer, QueryClient, Symbols};
use pregao::limits::CLIENT_CONNECT_MAX;
use pregao::market::{Price, Quantity};
use pregao::wire::{NodeStatus, Op, Query, Quote, Trade, U32, padded, unpadded};

/// Asks for the quote and the last trades of a symbol.
#[derive(Debug, Parser)]
struct Arguments {
    /// The symbol.
    symbol: String,
    /// Who gathers the answers.
    #[arg(long, default_value = "127.0.0.1:8000")]
    aggregator: SocketAddr,
    /// So many trades.
    #[arg(long, default_value_t = 5)]
    last: u32,
    /// Milliseconds that the answers may take.
    #[arg(long, default_value_t = 500)]
    deadline_ms: u64,
    /// Ask so many times on one connection.
    #[arg(long, default_value_t = 1)]
    count: u64,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let mut query_client =
        QueryClient::open("aggregator", arguments.aggregator, CLIENT_CONNECT_MAX)?;
    // A part of the answer is better than none: who is missing is printed.
    let ask =
        Query { symbol: padded(&arguments.symbol), options: Query::PARTIAL, ..Query::default() };
    let quote = Query { op: Op::Quote as u8, ..ask };
    let trades = Query { op: Op::Last as u8, limit: U32::new(arguments.last), ..ask };
    let deadline = Duration::from_millis(arguments.deadline_ms);
    for _ in 0..arguments.count {
        // Both are under way at once.
        let answers = query_client.ask(&[quote, trades], deadline)?;
        for (answer, what) in answers.iter().zip(["quote", "trades"]) {
            print(answer, query_client.symbols());
            println!("{what}: {}", outcome(answer));
        }
    }
    Ok(())
}

fn print(answer: &Answer, symbols: &Symbols) {
    for row in &answer.rows {
        let decimals = symbols.decimals(row.instrument());
        let price = |price: i64| Price(price).with_decimals(decimals.price);
        let quantity = |units: u128| Quantity::new(units, decimals.quantity);
        if let Some(trade) = row.view::<Trade>() {
            let (qty, price) = (quantity(trade.qty.get().into()), price(trade.price.get()));
            println!("  {qty} at {price} (seq {})", trade.seq.get());
        } else if let Some(quote) = row.view::<Quote>() {
            let (bid, ask) = (price(quote.bid.get()), price(quote.ask.get()));
            let sizes = [quote.bid_qty, quote.ask_qty].map(|size| quantity(size.units()));
            println!("  bid {bid} for {}, ask {ask} for {}", sizes[0], sizes[1]);
        }
    }
}

/// How it ended, and what each node that had to be asked contributed.
fn outcome(answer: &Answer) -> String {
    let asked = answer.nodes.iter().filter(|node| node.status != NodeStatus::Pruned as u8);
    let nodes = asked.map(|node| {
        let status = NodeStatus::from_number(node.status);
        let status = status.map_or("unknown".to_owned(), |status| format!("{status:?}"));
        format!("{} {status} in {} µs", unpadded(&node.name), node.elapsed_us)
    });
    let nodes: Vec<String> = nodes.collect();
    let reason = answer.refusal.as_ref().map(|(_, text)| format!(", {text}")).unwrap_or_default();
    format!("{:?}{reason}; {}", answer.status(), nodes.join(", "))
}
