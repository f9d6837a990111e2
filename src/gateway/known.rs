//! What the inner broker knows of the instruments: names and last values. What is *not* here: how that came.

use super::feed::Feed;
use crate::feed::Pattern;
use crate::subscription::Request;
use crate::wire::{Definition, Frame, InstrumentIndex, Kind, Quote, Trade};

impl Feed {
    /// The definitions of all instruments that are known now.
    pub(super) fn definitions(&self) -> Vec<Frame> {
        let Some(values) = self.broker.last_values(Request::MARKET) else { return Vec::new() };
        InstrumentIndex::until(values.index_end())
            .filter_map(|index| values.definition(index).copied())
            .collect()
    }

    /// The definition of an instrument, its last quote and its last trade.
    pub(super) fn last_of(
        &self,
        symbol: &str,
    ) -> Option<(Definition, Option<Quote>, Option<Trade>)> {
        let pattern = Pattern::new(symbol, 0).ok()?;
        let values = self.broker.last_values(Request::MARKET)?;
        let defined = |index| values.definition(index).and_then(Frame::view::<Definition>);
        let is_it =
            |index: &InstrumentIndex| defined(*index).is_some_and(|it| pattern.means(&it.names()));
        let index = InstrumentIndex::until(values.index_end()).find(is_it)?;
        let known = values.known(index).into_iter().flatten();
        let quote = known.clone().find_map(|frame| frame.view::<Quote>()).copied();
        let trade = known.into_iter().find_map(|frame| frame.view::<Trade>()).copied();
        Some((*defined(index)?, quote, trade))
    }

    /// When the newest trade of an instrument was, by its own clock.
    pub(super) fn last_trade_ns(&self, pattern: &Pattern) -> Option<u64> {
        let values = self.broker.last_values(Request::MARKET)?;
        let named = |index: &InstrumentIndex| {
            values.definition(*index).and_then(Frame::view::<Definition>).map(Definition::names)
        };
        let all = || InstrumentIndex::until(values.index_end());
        // Who is called so in full is meant, whoever else is called so in short.
        let text = pattern.text();
        let is_it =
            |index: &InstrumentIndex| named(index).is_some_and(|it| it.symbol().as_str() == text);
        let may_be = |index: &InstrumentIndex| named(index).is_some_and(|it| pattern.means(&it));
        let index = all().find(is_it).or_else(|| all().find(may_be))?;
        let trades = values.known(index).into_iter().flatten();
        trades.filter(|frame| frame.kind == Kind::Trade as u8).map(|it| it.ts_event.get()).max()
    }
}
