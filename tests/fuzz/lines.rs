//! Lines of text that people bring: CSV, JSON and InfluxDB's line protocol.

use pregao::limits::LINE_NAMES_MAX;
use pregao::market::Price;
use pregao::market::lines::{LineFormat, LineOptions, Lines, Mapping, Record, RecordBody};
use pregao::node::lines::{Lines as LinesNode, LinesConfig};
use pregao::node::{CloseReason, ConnId, DialId, FrameInput, Node, Origin};
use pregao::time::{Mono, Now};
use pregao::wire::{
    Flags, Frame, QUANTITY_DECIMALS_MAX, Session, SnapshotEnd, U32, U64, as_frames,
};

use crate::mutate::{cases, corpus, mutate, pick};

const FORMATS: [LineFormat; 3] = [LineFormat::Csv, LineFormat::Json, LineFormat::Ilp];

fn files() -> Vec<Vec<u8>> {
    let of_text = |text: &Vec<u8>| LineFormat::recognized(text).is_some();
    let files: Vec<Vec<u8>> = corpus("tapes").into_iter().filter(of_text).collect();
    assert_eq!(files.len(), FORMATS.len());
    files
}

/// The record as a line of the protocol, from which it must be read again.
fn written(record: &Record) -> String {
    let name = record.symbol.as_str().replace('"', "\\\"");
    // A backslash before a quotation mark takes its meaning in a text, and before any other letter none.
    let name = if name.contains('\\') { return String::new() } else { name };
    let words = [
        (Flags::LAST, "last"),
        (Flags::BUY, "buy"),
        (Flags::SELL, "sell"),
        (Flags::AFTER_MARKET, "after_market"),
        (Flags::HALTED, "halted"),
    ];
    let words = words.iter().filter(|(flag, _)| record.flags & flag != 0);
    let mut words: Vec<&str> = words.map(|(_, word)| *word).collect();
    if record.is_snapshot {
        words.push("snapshot");
    }
    let price = |name: &str, price: Price| match price.is_defined() {
        true => format!("{name}={price},"),
        false => String::new(),
    };
    let (table, body) = match record.body {
        RecordBody::Quote { bid, ask, bid_qty, ask_qty } => {
            let prices = format!("{}{}", price("bid", bid), price("ask", ask));
            ("quotes", format!("{prices}bid_qty={bid_qty},ask_qty={ask_qty}"))
        }
        RecordBody::Trade { price, qty, trade_id } => {
            ("trades", format!("price={price},qty={qty},id={trade_id}i"))
        }
        RecordBody::Cancel { price, qty, trade_id } => {
            ("cancels", format!("price={price},qty={qty},id={trade_id}i"))
        }
    };
    let (flags, at) = (words.join(" "), record.ts_event);
    format!("{table} symbol=\"{name}\",flags=\"{flags}\",{body} {at}\n")
}

/// The record with quantities that have no decimals for nothing.
fn reduced(mut record: Record) -> Record {
    match &mut record.body {
        RecordBody::Quote { bid_qty, ask_qty, .. } => {
            (*bid_qty, *ask_qty) = (bid_qty.reduced(), ask_qty.reduced());
        }
        RecordBody::Trade { qty, .. } | RecordBody::Cancel { qty, .. } => *qty = qty.reduced(),
    }
    record
}

/// Mutated lines and noise, in pieces, over several connections of the node that takes them.
#[test]
fn no_line_confuses_the_node_that_takes_them() {
    let files = files();
    cases(2_000, |random| {
        let config = LinesConfig::new("own", ([127, 0, 0, 1], 1).into(), 1);
        let now = Now { mono: Mono(1), wall_ns: 1 };
        let mut node = LinesNode::new(config).unwrap();
        let core = ConnId { generation: 1, slot: 99 };
        node.handle_open(now, core, Origin::Dialed(DialId(0)));
        let hello = as_frames(node.outgoing(now, core).head).0[0];
        let feed = hello.view::<Session>().unwrap().feed;
        let next_seq = U64::new(1);
        let greeting = Session { next_seq, feed, ..Session::default() };
        let told = [
            Frame::seal(greeting),
            Frame::seal(SnapshotEnd { id: U32::new(9), ..SnapshotEnd::default() }),
        ];
        node.handle_frames(now, core, &told);
        let mut kept: [Vec<u8>; 2] = [Vec::new(), Vec::new()];
        let conns = [0, 1].map(|slot| ConnId { generation: 1, slot });
        conns.iter().for_each(|conn| node.handle_open(now, *conn, Origin::LOCAL));
        for _ in 0..6 {
            let side = usize::try_from(random.below(2)).unwrap();
            let mut bytes = pick(random, &files).clone();
            mutate(random, &mut bytes);
            for piece in bytes.chunks(1 + usize::try_from(random.below(200)).unwrap()) {
                kept[side].extend_from_slice(piece);
                let consumed = node.handle_bytes(now, conns[side], &kept[side]);
                kept[side].drain(..consumed);
                assert!(!kept[side].contains(&b'\n') || kept[side].len() < 64);
            }
            node.handle_timers(now);
            let _ = node.outgoing(now, conns[side]).len();
            while node.poll_action().is_some() {}
        }
        conns.iter().for_each(|conn| node.handle_close(now, *conn, CloseReason::MidMessage));
        let sent = node.outgoing(now, core).head.to_vec();
        assert!(as_frames(&sent).0.iter().all(|frame| frame.check().is_ok()));
    });
}

#[test]
fn no_line_panics_and_what_is_read_is_written_and_read_as_itself() {
    let files = files();
    cases(20_000, |random| {
        let mut bytes = pick(random, &files).clone();
        mutate(random, &mut bytes);
        let recognized = LineFormat::recognized(&bytes);
        let format = recognized.unwrap_or(*pick(random, &FORMATS));
        let mut lines = Lines::new(format, LineOptions::default());
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            let Ok(Some(record)) = lines.take(line) else { continue };
            assert!(!record.symbol.is_reserved() && record.symbol.is_valid());
            let sizes = match record.body {
                RecordBody::Quote { bid_qty, ask_qty, .. } => [bid_qty, ask_qty],
                RecordBody::Trade { qty, .. } | RecordBody::Cancel { qty, .. } => [qty, qty],
            };
            for quantity in sizes {
                assert!(quantity.decimals <= QUANTITY_DECIMALS_MAX);
                assert!(quantity.units <= u64::MAX.into());
            }
            let text = written(&record);
            if !text.is_empty() {
                let mut again = Lines::new(LineFormat::Ilp, LineOptions::default());
                let read = again.take(text.as_bytes()).map(|read| read.map(reduced));
                assert_eq!(read, Ok(Some(reduced(record))), "{text}");
            }
        }
        assert!(lines.skipped().len() <= LINE_NAMES_MAX + 1);
        assert!(lines.unread().len() <= LINE_NAMES_MAX + 1);
    });
}

#[test]
fn no_mapping_panics() {
    let words = [b"price=last,quantity=amount,symbol=pair,trades=fills,id=".to_vec()];
    cases(5_000, |random| {
        let mut bytes = pick(random, &words).clone();
        mutate(random, &mut bytes);
        let _ = String::from_utf8_lossy(&bytes).parse::<Mapping>();
    });
}
