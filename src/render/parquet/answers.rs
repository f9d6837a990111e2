//! The rows of answers as columns and cells of Parquet: the names and the values of the lines of CSV.

use super::{Cell, DIGITS_MAX, Field, QUANTITY_DIGITS, SIZE_DIGITS, Scale, Stored};
use crate::market::bar::Bar;
use crate::render::rows::venue_of;
use crate::render::{Report, side_name};
use crate::wire::{Cancel, Decimals, Definition, Frame, Quote, Trade};

/// Columns in which each row has a value, and others.
fn always(name: &'static str, stored: Stored) -> Field {
    Field { name, stored, is_optional: false }
}

fn maybe(name: &'static str, stored: Stored) -> Field {
    Field { name, stored, is_optional: true }
}

/// A quantity of an instrument in units of the file.
fn quantity(units: u128, decimals: u8, scale: Scale) -> Cell {
    scale.units(units, decimals).map_or(Cell::Missing, Cell::Quantity)
}

fn text(text: &str) -> Cell {
    Cell::Text(text.to_owned().into())
}

/// The columns of quotes, and the scale of their quantities, which is one for all instruments: the finest.
pub(crate) fn quote_fields(reports: &[Report]) -> Option<(Vec<Field>, Scale)> {
    let units = reports.iter().flat_map(|report| {
        let quote = report.quote.as_ref().and_then(Frame::view::<Quote>);
        let sides = quote.map_or([0, 0], |it| [it.bid_qty.units(), it.ask_qty.units()]);
        sides.map(|units| (units, report.decimals.quantity))
    });
    let scale = Scale::holding(units, SIZE_DIGITS)?;
    let fields = vec![
        always("symbol", Stored::Text),
        always("quote_source", Stored::Text),
        maybe("age_ms", Stored::Number),
        maybe("ts_event", Stored::Time),
        maybe("ts_recv", Stored::Time),
        maybe("seq", Stored::Number),
        maybe("bid", Stored::Price),
        maybe("bid_qty", Stored::Quantity(scale)),
        maybe("ask", Stored::Price),
        maybe("ask_qty", Stored::Quantity(scale)),
    ];
    Some((fields, scale))
}

/// The current quote of a report.
pub(crate) fn quote_cells(report: &Report, scale: Scale) -> Vec<Cell> {
    let source = report.quote_source.name();
    let mut cells = vec![
        text(report.symbol.as_str()),
        Cell::Text(source.into()),
        report.age_ms.map_or(Cell::Missing, Cell::Number),
    ];
    match report.quote.as_ref().and_then(Frame::view::<Quote>) {
        Some(quote) => cells.extend([
            Cell::Number(quote.ts_event.get()),
            Cell::Number(quote.ts_recv.get()),
            Cell::Number(quote.seq.get()),
            Cell::Price(quote.bid.get()),
            quantity(quote.bid_qty.units(), report.decimals.quantity, scale),
            Cell::Price(quote.ask.get()),
            quantity(quote.ask_qty.units(), report.decimals.quantity, scale),
        ]),
        None => cells.extend([const { Cell::Missing }; 7]),
    }
    cells
}

/// The columns of trades and cancellations of one instrument.
pub(crate) fn trade_fields(decimals: Decimals) -> Option<(Vec<Field>, Scale)> {
    let most = u128::from(u64::MAX);
    let scale = Scale::holding(std::iter::once((most, decimals.quantity)), QUANTITY_DIGITS)?;
    let fields = vec![
        always("kind", Stored::Text),
        always("symbol", Stored::Text),
        maybe("ts_event", Stored::Time),
        maybe("ts_recv", Stored::Time),
        always("seq", Stored::Number),
        maybe("price", Stored::Price),
        always("qty", Stored::Quantity(scale)),
        maybe("side", Stored::Text),
        always("trade_id", Stored::Number),
    ];
    Some((fields, scale))
}

/// A trade or a cancellation; nothing for another frame.
pub(crate) fn trade_cells(frame: &Frame, report: &Report, scale: Scale) -> Option<Vec<Cell>> {
    let (kind, price, qty, trade_id) = match (frame.view::<Trade>(), frame.view::<Cancel>()) {
        (Some(it), _) => ("trade", it.price.get(), it.qty.get(), it.trade_id.get()),
        (_, Some(it)) => ("cancel", it.price.get(), it.qty.get(), it.trade_id.get()),
        _ => return None,
    };
    Some(vec![
        Cell::Text(kind.into()),
        text(report.symbol.as_str()),
        Cell::Number(frame.ts_event.get()),
        Cell::Number(frame.ts_recv.get()),
        Cell::Number(frame.seq.get()),
        Cell::Price(price),
        quantity(qty.into(), report.decimals.quantity, scale),
        side_name(frame.named_flags()).map_or(Cell::Missing, |side| Cell::Text(side.into())),
        Cell::Number(trade_id),
    ])
}

/// The columns of bars of one instrument.
pub(crate) fn bar_fields(bars: &[Bar], decimals: Decimals) -> Option<(Vec<Field>, Scale)> {
    let volumes = bars.iter().map(|bar| bar.volume).chain([0]);
    let volumes = volumes.map(|volume| (volume, decimals.quantity));
    let scale = Scale::holding(volumes, DIGITS_MAX)?;
    let fields = vec![
        always("symbol", Stored::Text),
        maybe("start", Stored::Time),
        maybe("open", Stored::Price),
        maybe("high", Stored::Price),
        maybe("low", Stored::Price),
        maybe("close", Stored::Price),
        always("volume", Stored::Quantity(scale)),
        always("trades", Stored::Number),
        maybe("vwap", Stored::Price),
        always("cut", Stored::Flag),
    ];
    Some((fields, scale))
}

/// One bar, and whether the question cut it.
pub(crate) fn bar_cells(
    symbol: &str,
    bar: &Bar,
    decimals: Decimals,
    cut: bool,
    scale: Scale,
) -> Vec<Cell> {
    // An average lies between the lowest and the highest price, so it has 64 bits as they have.
    let vwap = bar.vwap().and_then(|vwap| i64::try_from(vwap).ok());
    vec![
        text(symbol),
        Cell::Number(bar.start),
        Cell::Price(bar.open),
        Cell::Price(bar.high),
        Cell::Price(bar.low),
        Cell::Price(bar.close),
        quantity(bar.volume, decimals.quantity, scale),
        Cell::Number(bar.trades),
        vwap.map_or(Cell::Missing, Cell::Price),
        Cell::Flag(cut),
    ]
}

/// The columns of instruments.
pub(crate) fn instrument_fields() -> Vec<Field> {
    vec![
        always("symbol", Stored::Text),
        maybe("venue", Stored::Text),
        always("decimals", Stored::Small),
        always("qty_decimals", Stored::Small),
    ]
}

/// An instrument.
pub(crate) fn instrument_cells(definition: &Definition) -> Vec<Cell> {
    let Decimals { price, quantity } = definition.decimals();
    vec![
        text(definition.symbol.as_str()),
        venue_of(definition).map_or(Cell::Missing, text),
        Cell::Number(price.into()),
        Cell::Number(quantity.into()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::{BAR_CSV, INSTRUMENT_CSV, QUOTE_CSV, TRADE_CSV};

    #[test]
    fn the_columns_are_those_of_csv() {
        let decimals = Decimals { price: 2, quantity: 0 };
        let of = |fields: &[Field]| fields.iter().map(|it| it.name).collect::<Vec<_>>().join(",");
        assert_eq!(of(&quote_fields(&[]).unwrap().0), QUOTE_CSV);
        assert_eq!(of(&trade_fields(decimals).unwrap().0), TRADE_CSV);
        assert_eq!(of(&bar_fields(&[], decimals).unwrap().0), BAR_CSV);
        assert_eq!(of(&instrument_fields()), INSTRUMENT_CSV);
    }

    #[test]
    fn a_scale_holds_every_digit_or_there_is_none() {
        let holding = |all: &[(u128, u8)], digits| Scale::holding(all.iter().copied(), digits);
        let decimals = |digits, decimals| Some(Scale::Decimals { digits, decimals });
        assert_eq!(holding(&[], SIZE_DIGITS), Some(Scale::Whole));
        assert_eq!(holding(&[(u64::MAX.into(), 0)], SIZE_DIGITS), Some(Scale::Whole));
        assert_eq!(holding(&[(u128::from(u64::MAX) + 1, 0)], SIZE_DIGITS), decimals(24, 0));
        assert_eq!(holding(&[(5, 0), (5, 14)], SIZE_DIGITS), decimals(38, 14));
        assert_eq!(holding(&[(1, 8)], QUANTITY_DIGITS), decimals(28, 8));
        let most = 10_u128.pow(38) - 1;
        assert_eq!(holding(&[(most, 8)], DIGITS_MAX), decimals(38, 8));
        assert_eq!(holding(&[(most + 1, 8)], DIGITS_MAX), None);
        assert_eq!(holding(&[(most, 0), (0, 1)], DIGITS_MAX), None, "ten times as many");
        assert_eq!(holding(&[(u128::MAX, 0)], DIGITS_MAX), None);
        let fine = Scale::Decimals { digits: 38, decimals: 14 };
        assert_eq!(fine.units(3, 12), Some(300));
        assert_eq!(Scale::Whole.units(3, 1), None, "coarser than the quantity");
    }
}
