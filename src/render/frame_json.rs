//! Frames as JSON lines. What a data kind's fields are, the table of kinds says (`wire/kinds.rs`); today:
//!
//! | kind | fields behind the shared ones |
//! |---|---|
//! | `quote` | `bid ask bid_qty ask_qty` |
//! | `trade`, `cancel` | `price qty side trade_id` |
//! | `bar` | `start open high low close volume trades vwap interval_ns` |
//! | `gap` | `from_seq to_seq reason missed` |
//! | `breaker` | `name from to reason generation` |
//! | `definition` | `decimals qty_decimals` |
//! | `snapshot_end` | `frames next_seq` |
//!
//! Flags of a bar are `revised`, when it was shown before and has changed, and `incomplete`, when trades of
//! it are missing; both only in a live subscription.
//!
//! Behind `symbol` stands `full_name`, where the symbol only stands for a name that is no symbol.
//!
//! The shared ones are `kind symbol seq instrument_seq ts_event ts_recv flags`. A gap and the end
//! of a snapshot belong to no instrument and have no number of their own: there these are `null`. Only a gap that
//! says what one instrument missed of a loss has its `symbol`.
//!
//! The `missed` of a gap is `null` where the loss is reported before anybody can know what it cost: `seq` counts all
//! instruments, and a subscription of some learns its own part by the next frame of each, in a gap with its
//! `symbol`. An instrument of which nothing came before the loss has no number to count from, and no such line.

use serde::Serialize;

use super::bar::BarJson;
use super::column::Fields;
use super::{flag_names, gap_reason_name, json_line, live_bar_texts};
use crate::client::{LiveBar, Symbols};
use crate::market::bar::Bar;
use crate::wire::{DataKind, FeedStatus, Frame, Gap, SnapshotEnd, Symbol};

/// A frame as an object, in the order of its fields.
#[derive(Serialize)]
pub(super) struct FrameJson<'a> {
    kind: &'static str,
    symbol: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    full_name: Option<String>,
    seq: Option<u64>,
    instrument_seq: Option<u32>,
    ts_event: Option<u64>,
    ts_recv: Option<u64>,
    flags: Vec<&'static str>,
    #[serde(flatten)]
    body: Body<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Body<'a> {
    /// What the table of kinds says.
    Columns(Fields),
    Bar {
        #[serde(flatten)]
        bar: BarJson,
        interval_ns: u64,
    },
    Gap {
        from_seq: u64,
        to_seq: u64,
        reason: &'static str,
        missed: Option<u64>,
    },
    SnapshotEnd {
        frames: u32,
        next_seq: u64,
    },
    /// The kind says all, or all of one exchange.
    Word {
        #[serde(skip_serializing_if = "Option::is_none")]
        exchange: Option<&'a str>,
    },
}

/// A frame as a line of JSON, without its end; `None` for frames that are the connection's own
/// matter, and for the first two frames of a bar. `bar` is what the [`crate::market::bar::BarAssembler`] made
/// of this frame.
#[must_use]
pub fn frame_json(frame: &Frame, bar: Option<&Bar>, symbols: &Symbols) -> Option<String> {
    frame_object(frame, bar, symbols).map(|object| json_line(&object))
}

/// The part of a loss that one instrument missed, as a line of JSON.
#[must_use]
pub fn instrument_gap_json(gap: &Frame, symbol: &Symbol) -> Option<String> {
    let symbols = Symbols::default();
    let object = frame_object(gap, None, &symbols)?;
    Some(json_line(&FrameJson { symbol: Some(symbol.as_str()), ..object }))
}

/// What is known of the feed from now on, or of that of one exchange, as a line of JSON.
#[must_use]
pub fn feed_status_json(status: FeedStatus, exchange: Option<&str>) -> String {
    json_line(&unnumbered(status.name(), Body::Word { exchange }))
}

/// A live bar as a line of JSON: as a bar in frames, and its flags are `revised` and `incomplete`.
#[must_use]
pub fn live_bar_json(live: &LiveBar, symbols: &Symbols) -> Option<String> {
    let [_, _, last] = live.bar.frames(live.instrument);
    let object = frame_object(&last, Some(&live.bar), symbols)?;
    Some(json_line(&FrameJson { flags: live_bar_texts(live), ..object }))
}

pub(super) fn frame_object<'a>(
    frame: &Frame,
    bar: Option<&Bar>,
    symbols: &'a Symbols,
) -> Option<FrameJson<'a>> {
    let decimals = symbols.decimals(frame.instrument());
    if let Some(gap) = frame.view::<Gap>() {
        let missed = gap.missed.get();
        let body = Body::Gap {
            from_seq: gap.from_seq.get(),
            to_seq: gap.to_seq.get(),
            reason: gap_reason_name(gap.reason),
            missed: (missed != u64::MAX).then_some(missed),
        };
        return Some(unnumbered("gap", body));
    }
    if let Some(end) = frame.view::<SnapshotEnd>() {
        let body = Body::SnapshotEnd { frames: end.frames.get(), next_seq: end.next_seq.get() };
        return Some(unnumbered("snapshot_end", body));
    }
    let row = DataKind::of(frame)?;
    let body = if row.columns.is_empty() {
        // Only the last frame of a bar is shown, for all three.
        let bar = bar?;
        Body::Bar { bar: BarJson::new(bar, decimals), interval_ns: bar.interval_ns }
    } else {
        Body::Columns(Fields { frame: *frame, columns: row.columns, decimals })
    };
    Some(FrameJson {
        kind: row.name,
        symbol: symbols.symbol(frame.instrument()).map(Symbol::as_str),
        full_name: symbols.full_name(frame.instrument()).map(|name| name.to_string()),
        seq: Some(frame.seq.get()),
        instrument_seq: Some(frame.instrument_seq.get()),
        ts_event: Some(frame.ts_event.get()),
        ts_recv: Some(frame.ts_recv.get()),
        flags: flag_names(frame.named_flags()),
        body,
    })
}

/// A control frame: it has no header of data.
fn unnumbered<'a>(kind: &'static str, body: Body<'a>) -> FrameJson<'a> {
    FrameJson {
        kind,
        symbol: None,
        full_name: None,
        seq: None,
        instrument_seq: None,
        ts_event: None,
        ts_recv: None,
        flags: Vec::new(),
        body,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::market::bar::BarAssembler;
    use crate::render::bar::tests::bar_frames;
    use crate::wire::{
        BreakerChange, Cancel, Definition, Flags, GapReason, Heartbeat, I64, PRICE_UNDEFINED,
        Quote, Seq, Size, Trade, U16, U32, U64, padded,
    };

    pub(in super::super) const PETR4: U32 = U32::new(0x0100_0007);

    pub(in super::super) fn symbols() -> Symbols {
        let mut symbols = Symbols::default();
        symbols.note(&Frame::seal(Definition::new(PETR4.into(), "PETR4".parse().unwrap(), 2)));
        symbols
    }

    pub(in super::super) fn quote() -> Quote {
        Quote {
            flags: U16::new(Flags::LAST | Flags::STALE | Flags::SNAPSHOT),
            instrument: PETR4,
            seq: U64::new(42),
            instrument_seq: U32::new(5),
            ts_event: U64::new(1_340_285_400_123_456_789),
            ts_recv: U64::new(1_340_285_400_123_460_000),
            bid: I64::new(32_010_000_000),
            ask: I64::new(PRICE_UNDEFINED),
            bid_qty: Size::new(300),
            ..Quote::default()
        }
    }

    pub(in super::super) fn trade() -> Trade {
        Trade {
            flags: U16::new(Flags::LAST | Flags::SELL | Flags::REPLAY),
            instrument: PETR4,
            seq: U64::new(43),
            instrument_seq: U32::new(6),
            ts_event: U64::new(1_340_285_400_123_456_790),
            ts_recv: U64::new(1_340_285_400_123_460_001),
            price: I64::new(32_015_000_000),
            qty: U64::new(u64::MAX),
            trade_id: U64::new(77),
            ..Trade::default()
        }
    }

    fn json(frame: Frame) -> String {
        assert_eq!(frame.check(), Ok(()), "the test's frame is a valid one");
        frame_json(&frame, None, &symbols()).unwrap()
    }

    #[test]
    fn each_kind_is_the_documented_line() {
        assert_eq!(
            json(Frame::seal(quote())),
            r#"{"kind":"quote","symbol":"PETR4","seq":42,"seq_text":"42","instrument_seq":5,"ts_event":1340285400123456789,"ts_event_text":"2012-06-21T13:30:00.123456789Z","ts_recv":1340285400123460000,"ts_recv_text":"2012-06-21T13:30:00.123460000Z","flags":["last","stale","snapshot"],"bid":"32.01","ask":null,"bid_qty":300,"bid_qty_text":"300","ask_qty":0,"ask_qty_text":"0"}"#
        );
        assert_eq!(
            json(Frame::seal(trade())),
            r#"{"kind":"trade","symbol":"PETR4","seq":43,"seq_text":"43","instrument_seq":6,"ts_event":1340285400123456790,"ts_event_text":"2012-06-21T13:30:00.123456790Z","ts_recv":1340285400123460001,"ts_recv_text":"2012-06-21T13:30:00.123460001Z","flags":["last","sell","replay"],"price":"32.015","qty":18446744073709551615,"qty_text":"18446744073709551615","side":"sell","trade_id":77,"trade_id_text":"77"}"#
        );
        let cancel = Cancel { trade_id: U64::new(3), ..Cancel::default() };
        assert_eq!(
            json(Frame::seal(cancel)),
            r#"{"kind":"cancel","symbol":null,"seq":0,"seq_text":"0","instrument_seq":0,"ts_event":0,"ts_event_text":"1970-01-01T00:00:00Z","ts_recv":0,"ts_recv_text":"1970-01-01T00:00:00Z","flags":[],"price":"0.00","qty":0,"qty_text":"0","side":null,"trade_id":3,"trade_id_text":"3"}"#
        );
        let gap = Gap::uncounted(GapReason::Lapped, Seq::or_first(10), Seq::or_first(20));
        assert_eq!(
            json(Frame::seal(gap)),
            r#"{"kind":"gap","symbol":null,"seq":null,"seq_text":null,"instrument_seq":null,"ts_event":null,"ts_event_text":null,"ts_recv":null,"ts_recv_text":null,"flags":[],"from_seq":10,"from_seq_text":"10","to_seq":20,"to_seq_text":"20","reason":"lapped","missed":null,"missed_text":null}"#
        );
        let change = BreakerChange {
            from: 0,
            to: 1,
            reason: 3,
            generation: U16::new(4),
            name: padded("exchange"),
            ..BreakerChange::default()
        };
        assert_eq!(
            json(Frame::seal(change)),
            r#"{"kind":"breaker","symbol":null,"seq":0,"seq_text":"0","instrument_seq":0,"ts_event":0,"ts_event_text":"1970-01-01T00:00:00Z","ts_recv":0,"ts_recv_text":"1970-01-01T00:00:00Z","flags":[],"name":"exchange","from":"closed","to":"open","reason":"slow rate reached the threshold","generation":4}"#
        );
        let definition = Definition::new(PETR4.into(), "PETR4".parse().unwrap(), 9);
        assert_eq!(
            json(Frame::seal(definition)),
            r#"{"kind":"definition","symbol":"PETR4","seq":0,"seq_text":"0","instrument_seq":0,"ts_event":0,"ts_event_text":"1970-01-01T00:00:00Z","ts_recv":0,"ts_recv_text":"1970-01-01T00:00:00Z","flags":[],"decimals":9,"qty_decimals":0}"#
        );
        let end =
            SnapshotEnd { frames: U32::new(2), next_seq: U64::new(8), ..SnapshotEnd::default() };
        assert_eq!(
            json(Frame::seal(end)),
            r#"{"kind":"snapshot_end","symbol":null,"seq":null,"seq_text":null,"instrument_seq":null,"ts_event":null,"ts_event_text":null,"ts_recv":null,"ts_recv_text":null,"flags":[],"frames":2,"next_seq":8,"next_seq_text":"8"}"#
        );
    }

    #[test]
    fn a_bar_is_one_line_of_three_frames() {
        let mut assembler = BarAssembler::default();
        let lines: Vec<String> = bar_frames(PETR4.into(), 60)
            .iter()
            .filter_map(|frame| frame_json(frame, assembler.take(frame).as_ref(), &symbols()))
            .collect();
        assert_eq!(
            lines,
            [
                r#"{"kind":"bar","symbol":"PETR4","seq":9,"seq_text":"9","instrument_seq":0,"ts_event":60,"ts_event_text":"1970-01-01T00:00:00.000000060Z","ts_recv":0,"ts_recv_text":"1970-01-01T00:00:00Z","flags":[],"start":60,"start_text":"1970-01-01T00:00:00.000000060Z","open":"10.00","high":"12.00","low":"9.00","close":"11.00","volume":3,"volume_text":"3","trades":2,"vwap":"10.666666667","interval_ns":60000000000}"#
            ]
        );
    }

    #[test]
    fn a_live_bar_says_what_it_lacks() {
        let mut assembler = BarAssembler::default();
        let bar =
            bar_frames(PETR4.into(), 60).iter().find_map(|frame| assembler.take(frame)).unwrap();
        let live = LiveBar { instrument: PETR4.into(), bar, is_revised: true, is_incomplete: true };
        let line = live_bar_json(&live, &symbols()).unwrap();
        assert!(
            line.starts_with(r#"{"kind":"bar","symbol":"PETR4","seq":9,"seq_text":"9","#),
            "{line}"
        );
        assert!(line.contains(r#""flags":["revised","incomplete"],"start":60,"start_text":"1970-01-01T00:00:00.000000060Z","#), "{line}");
    }

    #[test]
    fn frames_of_the_connection_are_not_shown() {
        let symbols = symbols();
        assert_eq!(frame_json(&Frame::seal(Heartbeat::default()), None, &symbols), None);
        assert_eq!(frame_json(&Frame::ZERO, None, &symbols), None);
    }

    #[test]
    fn a_trade_with_both_sides_has_none() {
        let both = Trade { flags: U16::new(Flags::BUY | Flags::SELL), ..trade() };
        assert!(json(Frame::seal(both)).contains(r#""flags":["buy","sell"],"#));
        assert!(json(Frame::seal(both)).contains(r#""side":null"#));
    }
}
