//! Who is asked what: the one place that knows which node owns which part of a query. Not here:
//! whether that node can be asked.

use crate::market::partition::Partition;
use crate::wire::{Op, Query, Symbol};

/// The question for a leaf, or `None` when it owns nothing of the query. Core owns the current quote,
/// the symbol's shard its history; id and deadline are filled in by the gather.
pub(super) fn question(
    query: &Query,
    symbol: &Symbol,
    partition: &Partition,
    shard: Option<u16>,
) -> Option<Query> {
    let is_quote = query.op == Op::Quote as u8;
    match shard {
        None if is_quote => Some(*query),
        None if query.options & Query::WITH_QUOTE != 0 => {
            Some(Query { op: Op::Quote as u8, symbol: query.symbol, ..Query::default() })
        }
        Some(shard) if !is_quote && partition.owner(symbol) == shard => {
            // The quote is core's; the shard has nothing to do with it.
            Some(Query { options: query.options & !Query::WITH_QUOTE, ..*query })
        }
        _ => None,
    }
}
