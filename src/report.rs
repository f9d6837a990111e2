//! What is asked about instruments, and what the answer says of each: reports and figures, for `pregao report` and for
//! the gateway. No connection and no text is made here.

use std::collections::BTreeMap;

use crate::client::{Answer, Symbols};
use crate::feed::Pattern;
use crate::limits::BAR_SECONDS_MAX;
use crate::market::bar::BarAssembler;
use crate::market::summary::{Quoted, average, movers, spreads};
use crate::parse::BarInterval;
use crate::render::{Figure, NodeShare, QuoteSource, Report, Rows, Value};
use crate::wire::{
    Definition, EndStatus, ErrorCode, FeedStatus, Flags, Frame, InstrumentId, Kind, Names,
    NodeAnswer, NodeStatus, Op, Query, Quote, Seq, Symbol, U32, U64, padded, unpadded,
};

/// What is asked about each symbol, besides its quote. Times are nanoseconds since the epoch,
/// `from` included, `to` not; 0 and `u64::MAX` are open ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// The last so many trades.
    Last(u32),
    /// Trades of this time; at most [`crate::limits::REPORT_ROWS_MAX`].
    Range {
        /// First included.
        from: u64,
        /// First excluded.
        to: u64,
    },
    /// Bars of this time.
    Bars {
        /// Their length.
        interval: BarInterval,
        /// First included.
        from: u64,
        /// First excluded.
        to: u64,
    },
    /// The average of the current prices.
    Average,
    /// Least, median, mean and largest spread of the live quotes.
    Spread,
    /// Who moved most in this time.
    Movers {
        /// How many of them.
        count: u32,
        /// First included.
        from: u64,
        /// First excluded.
        to: u64,
    },
}

/// What to report on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// At least one symbol or pattern.
    pub symbols: Vec<Pattern>,
    /// The same for each.
    pub question: Question,
    /// Whether the answer may miss a part.
    pub partial_allowed: bool,
    /// Rows with a `seq` below this; `None`: all, [`crate::gather::NEWEST_COMMON_CUT`]: a cut that all nodes have.
    pub as_of: Option<Seq>,
    /// Whether to say when and why each node was asked.
    pub explain: bool,
}

/// A symbol without a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Which symbol or pattern.
    pub asked: String,
    /// Why, and what to do.
    pub reason: String,
}

impl Asked {
    /// The question that brings all of it.
    pub(crate) fn question(&self) -> Option<crate::question::Question> {
        let first = self.symbols.first()?;
        let question = crate::question::Question::new(&self.query(&first.text())).ok()?;
        let fields = self.symbols.iter().map(|symbol| padded(&symbol.text()));
        Some(question.about(fields)?.cut_at(self.as_of))
    }

    pub(crate) fn query(&self, symbol: &str) -> Query {
        let partial = if self.partial_allowed { Query::PARTIAL } else { 0 };
        let explain = if self.explain { Query::EXPLAIN } else { 0 };
        let (op, limit, from, to) = match self.question {
            Question::Last(0) | Question::Average | Question::Spread => (Op::Quote, 0, 0, u64::MAX),
            Question::Last(rows) => (Op::Last, rows, 0, u64::MAX),
            Question::Range { from, to } => (Op::Range, 0, from, to),
            Question::Bars { interval, from, to } => (Op::Bars, interval.seconds(), from, to),
            Question::Movers { from, to, .. } => (Op::Bars, BAR_SECONDS_MAX, from, to),
        };
        let with_quote = match self.question {
            Question::Movers { .. } => 0,
            _ => Query::WITH_QUOTE,
        };
        Query {
            op: op as u8,
            options: partial | with_quote | explain,
            limit: U32::new(limit),
            symbol: padded(symbol),
            from: U64::new(from),
            to: U64::new(to),
            ..Query::default()
        }
    }

    /// The one symbol that is asked about, when it is one and no pattern.
    pub(crate) fn only_symbol(&self) -> Option<Symbol> {
        match self.symbols.as_slice() {
            [only] => only.text().parse().ok(),
            _ => None,
        }
    }

    /// The instruments of a complete answer without a single row besides the quote.
    pub(crate) fn empty(&self, answer: &Answer) -> Vec<Symbol> {
        if answer.status() != EndStatus::Complete {
            return Vec::new();
        }
        let is_empty = |rows: &[Frame]| rows.iter().all(|it| it.kind == Kind::Quote as u8);
        let groups = grouped(answer).into_iter().filter(|(_, rows)| is_empty(rows));
        groups.map(|(definition, _)| definition.symbol).collect()
    }

    pub(crate) fn is_figure(&self) -> bool {
        matches!(self.question, Question::Average | Question::Spread | Question::Movers { .. })
    }

    /// One report for each instrument of the answer, by name; refused for a symbol that an incomplete answer lacks.
    pub(crate) fn reports(
        &self,
        answer: &Answer,
        symbols: &Symbols,
        wall_ns: u64,
    ) -> Vec<Result<Report, Refused>> {
        let groups = grouped(answer);
        let known: Vec<Names> = groups.iter().map(|(definition, _)| definition.names()).collect();
        let mut reports: Vec<Result<Report, Refused>> = groups
            .into_iter()
            .map(|(definition, rows)| {
                let answer = Answer { rows, ..answer.head() };
                let shown = symbols.shown(definition.instrument());
                let names = (definition.symbol, shown.copied().unwrap_or(definition.symbol));
                let full_name = symbols.full_name(definition.instrument());
                let report = self.report(names, &answer, symbols, wall_ns);
                report.map(|report| Report { full_name, ..report })
            })
            .collect();
        if answer.status() == EndStatus::Complete {
            return reports;
        }
        let named = self.symbols.iter().filter(|it| !it.is_prefix());
        let missing = named.filter(|it| !known.iter().any(|names| it.means(names)));
        reports.extend(missing.map(|pattern| {
            let reason = "unknown to the nodes that answered; see `pregao status`".to_owned();
            Err(Refused { asked: pattern.text(), reason })
        }));
        reports
    }

    pub(crate) fn figure(&self, answer: &Answer, symbols: &Symbols) -> Figure {
        let quoted = || -> Vec<Quoted> {
            let of_group = |(definition, rows): (Definition, Vec<Frame>)| {
                let frame = rows.first();
                let is_live = frame.is_some_and(|frame| !frame.has(Flags::STALE));
                let quote = frame.and_then(Frame::view::<Quote>).copied();
                match quote {
                    Some(quote) => Quoted::new(&quote, definition.decimals().price, is_live),
                    None => {
                        let decimals = definition.decimals().price;
                        Quoted { bid: None, ask: None, decimals, is_live: false }
                    }
                }
            };
            grouped(answer).into_iter().map(of_group).collect()
        };
        let value = match self.question {
            Question::Spread => Value::Spread(spreads(&quoted())),
            Question::Movers { count, .. } => {
                let traded = |(definition, rows): (Definition, Vec<Frame>)| {
                    let mut assembler = BarAssembler::default();
                    let bars = rows.iter().filter_map(|it| assembler.take(it)).collect();
                    (definition.symbol, definition.decimals().price, bars)
                };
                let traded = grouped(answer).into_iter().map(traded);
                Value::Movers(movers(traded, usize::try_from(count).unwrap_or(usize::MAX)))
            }
            _ => Value::Average(average(&quoted())),
        };
        let shown = |definition: &Definition| {
            Some((definition.symbol, *symbols.shown(definition.instrument())?))
        };
        let definitions = answer.definitions.iter().filter_map(Frame::view::<Definition>);
        Figure {
            value,
            shown: definitions.filter_map(shown).collect(),
            instruments: answer.definitions.len(),
            complete: answer.status() == EndStatus::Complete,
            nodes: answer.nodes.iter().map(node_share).collect(),
        }
    }

    /// The answer about one symbol, which people know by the other name; refused when there is none at all.
    pub(crate) fn report(
        &self,
        (symbol, shown): (Symbol, Symbol),
        answer: &Answer,
        symbols: &Symbols,
        wall_ns: u64,
    ) -> Result<Report, Refused> {
        if answer.status() == EndStatus::Failed {
            let asked = symbol.to_string();
            return Err(Refused { asked, reason: refusal_reason(answer) });
        }
        let is_quote = |frame: &&Frame| frame.kind == Kind::Quote as u8;
        let quote = answer.rows.iter().find(is_quote).copied();
        let instrument = answer.rows.first().map_or_else(InstrumentId::default, Frame::instrument);
        let rows: Vec<Frame> =
            answer.rows.iter().filter(|frame| !is_quote(frame)).copied().collect();
        let rows = match self.question {
            Question::Bars { .. } => {
                let mut bars = BarAssembler::default();
                Rows::Bars(rows.iter().filter_map(|frame| bars.take(frame)).collect())
            }
            _ => Rows::History(rows),
        };
        let age = |quote: Frame| wall_ns.saturating_sub(quote.ts_recv.get()) / 1_000_000;
        Ok(Report {
            symbol,
            shown,
            full_name: None,
            decimals: symbols.decimals(instrument),
            quote,
            quote_source: match quote {
                None => QuoteSource::None,
                Some(quote) => QuoteSource::of(FeedStatus::of(quote.flags.get())),
            },
            age_ms: quote.map(age),
            rows,
            asked: match self.question {
                Question::Bars { from, to, .. } => from..to,
                _ => 0..u64::MAX,
            },
            complete: answer.status() == EndStatus::Complete,
            nodes: answer.nodes.iter().map(node_share).collect(),
        })
    }
}

/// The rows of an answer by instrument, in the order of its definitions. Rows of an instrument that nobody
/// named are left out; a node that sends such has broken the protocol.
pub(crate) fn grouped(answer: &Answer) -> Vec<(Definition, Vec<Frame>)> {
    let mut rows: BTreeMap<InstrumentId, Vec<Frame>> = BTreeMap::new();
    for row in &answer.rows {
        rows.entry(row.instrument()).or_default().push(*row);
    }
    let definitions = answer.definitions.iter().filter_map(Frame::view::<Definition>);
    let group = |definition: &Definition| {
        (*definition, rows.remove(&definition.instrument()).unwrap_or_default())
    };
    definitions.map(group).collect()
}

pub(crate) fn node_share(node: &NodeAnswer) -> NodeShare {
    NodeShare {
        node: unpadded(&node.name),
        status: NodeStatus::from_number(node.status).unwrap_or(NodeStatus::Failed),
        rows: node.rows.get(),
        elapsed_us: node.elapsed_us.get(),
        behind_s: node.behind_s.get(),
    }
}

/// Why there is no answer, and which nodes are missing.
pub(crate) fn refusal_reason(answer: &Answer) -> String {
    let is_limit = answer.code() == Some(ErrorCode::Limit);
    let missing: Vec<String> = answer
        .nodes
        .iter()
        .map(node_share)
        .filter(|share| {
            // Who was still answering when another's limit ended the question was not too slow.
            let is_ended = share.status == NodeStatus::Timeout && is_limit;
            let is_there =
                matches!(share.status, NodeStatus::Ok | NodeStatus::Pruned | NodeStatus::Spare);
            !is_there && !is_ended
        })
        .map(|share| format!("{} {}", share.node, share.what()))
        .collect();
    let said = answer.refusal.as_ref().map_or("no answer", |(_, text)| text.as_str());
    if answer.code() == Some(ErrorCode::UnknownSymbol) || missing.is_empty() {
        return said.to_owned();
    }
    format!("{said} ({})", missing.join(", "))
}

/// The same for who typed a command, with what to do.
pub(crate) fn refusal_advice(answer: &Answer) -> String {
    let advice = match answer.code() {
        Some(ErrorCode::UnknownSymbol) => "; `pregao subscribe '*' --count 5` shows what trades",
        Some(ErrorCode::Deadline) => "; allow more time with --deadline",
        Some(ErrorCode::Incomplete) => "; see `pregao status`",
        Some(ErrorCode::Limit) => {
            "; ask for fewer: a shorter time with --from and --to, longer bars, or fewer symbols"
        }
        Some(ErrorCode::Behind) => {
            "; see `pregao status`, or take what there is with --partial allow"
        }
        _ => "",
    };
    format!("{}{advice}", refusal_reason(answer))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Ended;

    /// A shard that was still answering when the aggregator's bound was reached was not too slow.
    #[test]
    fn a_refusal_says_whose_limit_it_was() {
        let node = |name: &str, status: NodeStatus| NodeAnswer {
            name: padded(name),
            status: status as u8,
            ..NodeAnswer::default()
        };
        let refused = |code: ErrorCode, text: &str| {
            let end = Ended {
                status: EndStatus::Failed as u8,
                code: (code as u16).into(),
                ..Ended::default()
            };
            refusal_advice(&Answer {
                end: Some(end),
                refusal: Some((Some(code), text.to_owned())),
                nodes: vec![node("shard-A", NodeStatus::Timeout), node("core", NodeStatus::Ok)],
                ..Answer::default()
            })
        };
        let limit = refused(ErrorCode::Limit, "more rows than the aggregator may answer");
        assert!(limit.starts_with("more rows than the aggregator may answer; ask"), "{limit}");
        let late = refused(ErrorCode::Deadline, "not all nodes answered in time");
        assert!(late.contains("(shard-A timeout)"), "{late}");
    }

    #[test]
    fn a_stale_quote_is_never_reported_as_live() {
        let asked = Asked {
            symbols: Vec::new(),
            question: Question::Last(0),
            partial_allowed: true,
            as_of: None,
            explain: false,
        };
        let quote = Quote { ts_recv: U64::new(5_000_000_000), ..Quote::default() };
        let report = |delivery: Option<u16>, wall_ns: u64| {
            let end = Some(Ended { status: EndStatus::Complete as u8, ..Ended::default() });
            let rows = delivery.map(|flags| Frame::seal(quote).delivered(flags));
            let answer = Answer { end, rows: rows.into_iter().collect(), ..Answer::default() };
            let symbol = "PETR4".parse().unwrap();
            let report =
                asked.report((symbol, symbol), &answer, &Symbols::default(), wall_ns).unwrap();
            (report.quote_source, report.age_ms)
        };
        assert_eq!(report(Some(0), 5_250_000_000), (QuoteSource::Live, Some(250)));
        assert_eq!(report(Some(Flags::STALE), 65_000_000_000), (QuoteSource::Stale, Some(60_000)));
        let ended = report(Some(Flags::ENDED), 65_000_000_000);
        assert_eq!(ended, (QuoteSource::Ended, Some(60_000)), "neither live nor sick");
        // This machine's clock went back: the age is not known to be anything, and never negative.
        assert_eq!(report(Some(Flags::STALE), 0), (QuoteSource::Stale, Some(0)));
        assert_eq!(report(None, 0), (QuoteSource::None, None));
    }
}
