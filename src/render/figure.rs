//! `pregao report --average`, `--spread` and `--movers`: one figure over many instruments, as one line of
//! JSON or as text.

use std::collections::BTreeMap;

use serde::Serialize;

use super::report::{NodeShareJson, nodes_table, table};
use super::{NodeShare, json_line, price};
use crate::market::price::decimal;
use crate::market::summary::{Average, LeftOut, Move, Movers, Spread, Spreads};
use crate::wire::Symbol;

/// The figure itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// The average of the current prices.
    Average(Average),
    /// Spreads.
    Spread(Spreads),
    /// Who moved most.
    Movers(Movers),
}

/// A figure and what it is made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Figure {
    /// What was computed.
    pub value: Value,
    /// By symbol: the names for people of the instruments in the answer.
    pub shown: BTreeMap<Symbol, Symbol>,
    /// Instruments in the answer.
    pub instruments: usize,
    /// Whether nothing is missing.
    pub complete: bool,
    /// Every node that was asked, or left out on purpose.
    pub nodes: Vec<NodeShare>,
}

#[derive(Serialize)]
struct FigureJson<'a> {
    figure: &'static str,
    #[serde(flatten)]
    value: ValueJson,
    left_out: &'a [LeftOut],
    instruments: usize,
    complete: bool,
    nodes: Vec<NodeShareJson<'a>>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum ValueJson {
    Average {
        price: Option<String>,
        priced: usize,
        stale: usize,
        unpriced: usize,
    },
    Spread {
        quotes: usize,
        crossed: usize,
        locked: usize,
        ticks: Option<SpreadJson>,
        bps: Option<SpreadJson>,
    },
    Movers {
        movers: Vec<MoveJson>,
    },
}

#[derive(Serialize)]
struct SpreadJson {
    min: String,
    median: String,
    mean: String,
    max: String,
}

#[derive(Serialize)]
struct MoveJson {
    symbol: String,
    open: Option<String>,
    close: Option<String>,
    change_bps: String,
}

/// A number in thousandths, exact.
fn thousandths(number: i128) -> String {
    decimal(number.saturating_mul(1_000_000), 3)
}

impl SpreadJson {
    fn new(spread: &Spread) -> SpreadJson {
        let [min, median, mean, max] =
            [spread.min, spread.median, spread.mean, spread.max].map(thousandths);
        SpreadJson { min, median, mean, max }
    }
}

impl Value {
    /// Instruments that are not in it.
    fn left_out(&self) -> &[LeftOut] {
        match self {
            Value::Average(it) => it.left_out.as_slice(),
            Value::Spread(it) => &it.left_out,
            Value::Movers(it) => &it.left_out,
        }
    }
}

impl Figure {
    /// As one line of JSON, without its end.
    #[must_use]
    pub fn json(&self) -> String {
        let (figure, value) = match &self.value {
            Value::Average(it) => {
                let price = it.price.map(|units| decimal(units, 0));
                let (priced, stale, unpriced) = (it.priced, it.stale, it.unpriced);
                ("average", ValueJson::Average { price, priced, stale, unpriced })
            }
            Value::Spread(it) => {
                let (quotes, crossed, locked) = (it.count, it.crossed, it.locked);
                let [ticks, bps] = [it.ticks, it.bps].map(|it| it.as_ref().map(SpreadJson::new));
                ("spread", ValueJson::Spread { quotes, crossed, locked, ticks, bps })
            }
            Value::Movers(it) => {
                let movers = it.moves.iter().map(|it| MoveJson {
                    symbol: it.symbol.to_string(),
                    open: price(it.open, it.decimals),
                    close: price(it.close, it.decimals),
                    change_bps: thousandths(it.change()),
                });
                ("movers", ValueJson::Movers { movers: movers.collect() })
            }
        };
        let nodes = self.nodes.iter().map(NodeShareJson::new).collect();
        let (instruments, complete) = (self.instruments, self.complete);
        let left_out = self.value.left_out();
        json_line(&FigureJson { figure, value, left_out, instruments, complete, nodes })
    }

    /// As text, without the last line's end.
    #[must_use]
    pub fn table(&self) -> String {
        let mut text = match &self.value {
            Value::Average(it) => {
                let price = it.price.map_or_else(|| "-".to_owned(), |units| decimal(units, 0));
                format!(
                    "average price {price} over {} of {} instruments ({} stale)",
                    it.priced, self.instruments, it.stale
                )
            }
            Value::Spread(it) if it.count == 0 => "no live quote has both sides".to_owned(),
            Value::Spread(it) => {
                let row = |name: &str, spread: &Spread| {
                    let figures = [spread.min, spread.median, spread.mean, spread.max];
                    [name.to_owned()].into_iter().chain(figures.map(thousandths)).collect()
                };
                let ticks = it.ticks.iter().map(|ticks| row("ticks", ticks));
                let rows = ticks.chain(it.bps.iter().map(|bps| row("bps", bps))).collect();
                let shown = table(&["SPREAD", "MIN", "MEDIAN", "MEAN", "MAX"], 1, rows);
                let live = format!(
                    "over {} live quotes, {} of them crossed, {} locked",
                    it.count, it.crossed, it.locked
                );
                format!("{}\n{live}", shown.unwrap_or_default())
            }
            Value::Movers(it) => {
                let row = |it: &Move| {
                    let shown = |units| price(units, it.decimals).unwrap_or_else(|| "-".to_owned());
                    let change = thousandths(it.change());
                    let name = self.shown.get(&it.symbol).unwrap_or(&it.symbol);
                    vec![name.to_string(), shown(it.open), shown(it.close), change]
                };
                let rows = it.moves.iter().map(row).collect();
                let shown = table(&["SYMBOL", "FIRST", "LAST", "CHANGE bps"], 1, rows);
                shown.unwrap_or_else(|| "nothing traded".to_owned())
            }
        };
        for LeftOut { reason, count } in self.value.left_out() {
            text.push_str(&format!("\nleft out: {count}, {reason}"));
        }
        if let Some(nodes) = nodes_table(&self.nodes) {
            text.push_str("\n\n");
            text.push_str(&nodes);
        }
        if !self.complete {
            text.push_str("\n\nincomplete: the nodes above say what is missing");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(value: Value) -> Figure {
        let shown = BTreeMap::from([("xnas:AMZN".parse().unwrap(), "AMZN".parse().unwrap())]);
        Figure { value, shown, instruments: 3, complete: true, nodes: Vec::new() }
    }

    #[test]
    fn json_has_exactly_the_documented_fields() {
        let left_out = vec![LeftOut { reason: "it did not trade", count: 1 }];
        let average = Average {
            price: Some(1_168_333_333),
            priced: 2,
            stale: 1,
            unpriced: 1,
            left_out: left_out.clone(),
        };
        let same = Some(Spread { min: 1_000, median: 1_500, mean: 1_667, max: -4_000 });
        let left = left_out.clone();
        let spreads =
            Spreads { ticks: same, bps: same, count: 2, crossed: 1, locked: 0, left_out: left };
        let moved = Move {
            symbol: "PETR4".parse().unwrap(),
            open: 10_000_000_000,
            close: 8_000_000_000,
            decimals: 2,
        };
        let rest = r#""left_out":[{"reason":"it did not trade","count":1}],"instruments":3,"complete":true,"nodes":[]}"#;
        for (value, want) in [
            (
                Value::Average(average),
                r#"{"figure":"average","price":"1.168333333","priced":2,"stale":1,"unpriced":1,"#,
            ),
            (
                Value::Spread(spreads),
                r#"{"figure":"spread","quotes":2,"crossed":1,"locked":0,"ticks":{"min":"1.000","median":"1.500","mean":"1.667","max":"-4.000"},"bps":{"min":"1.000","median":"1.500","mean":"1.667","max":"-4.000"},"#,
            ),
            (
                Value::Movers(Movers { moves: vec![moved], left_out }),
                r#"{"figure":"movers","movers":[{"symbol":"PETR4","open":"10.00","close":"8.00","change_bps":"-2000.000"}],"#,
            ),
        ] {
            assert_eq!(figure(value.clone()).json(), format!("{want}{rest}"));
            let table = figure(value).table();
            assert!(table.lines().all(|line| line.len() <= 80));
            assert!(table.ends_with("left out: 1, it did not trade"), "{table}");
        }
        let moved = Move { symbol: "xnas:AMZN".parse().unwrap(), ..moved };
        let movers = figure(Value::Movers(Movers { moves: vec![moved], left_out: Vec::new() }));
        assert!(movers.json().contains(r#""symbol":"xnas:AMZN""#), "{}", movers.json());
        assert!(movers.table().contains("\nAMZN "), "{}", movers.table());
    }
}
