//! PROTOCOL.md against the code: the tables' offsets, sizes, numbers and masks are the crate's own.
//!
//! The examples are checked by the document's own doctest; this is about the tables, which somebody
//! who writes a client in another language works from.

use std::mem::{offset_of, size_of};

use pregao::breaker::{Reason, State};
use pregao::limits;
use pregao::wire::*;

const TEXT: &str = include_str!("../src/wire/PROTOCOL.md");

/// The rows of the table behind the first line that `starts` says, without head and rule.
fn rows(starts: impl Fn(&str) -> bool) -> Vec<Vec<&'static str>> {
    let table = TEXT.lines().skip_while(|line| !starts(line)).skip_while(|l| !l.starts_with('|'));
    let cells = |line: &'static str| line.trim_matches('|').split('|').map(str::trim).collect();
    table.take_while(|line| line.starts_with('|')).skip(2).map(cells).collect()
}

/// Offset, size and name of every field under a message's heading.
fn fields(message: &str) -> Vec<(usize, usize, &'static str)> {
    let heading = format!("#### {message}");
    let number = |cell: &str| cell.parse().expect("a number");
    let field = |row: Vec<&'static str>| (number(row[0]), number(row[1]), row[2]);
    rows(|line| line == heading).into_iter().map(field).collect()
}

/// Compares a message's table with its type: every field in order, without a hole, up to the end.
macro_rules! same_layout {
    ($end:expr, $start:expr, $($message:ident { $($field:ident),* })*) => {$(
        let sample = $message::default();
        let own = vec![$((
            offset_of!($message, $field),
            {
                fn size<T>(_: &T) -> usize { size_of::<T>() }
                size(&sample.$field)
            },
            stringify!($field),
        )),*];
        assert_eq!(fields(stringify!($message)), own);
        let mut next = $start;
        for (offset, size, name) in own {
            assert_eq!(offset, next, "{} {name}", stringify!($message));
            next += size;
        }
        assert_eq!(next, $end, "{}", stringify!($message));
    )*};
}

#[test]
fn control_layouts_are_as_written() {
    same_layout! { 60, 4,
        Session { role, source, options, epoch, epoch_start, next_seq, durable_seq, feed, name }
        Refusal { code, reserved, id, text }
        Heartbeat { token, next_seq, sent_at, stale_exchanges, ended_exchanges, reserved }
        Ack { epoch, accepted_seq, durable_seq, reserved }
        Subscribe { id, source, mode, kinds, conflate_ms, from_seq, pattern }
        Subscribed { id, matched, epoch, reserved, epoch_start, next_seq, oldest_seq, feed, reserved_too }
        SnapshotEnd { id, frames, next_seq, reserved }
        Gap { reason, reserved, from_seq, to_seq, missed, reserved_too }
        Resume { id, next_seq, reserved }
        Query { id, op, options, kinds, deadline_us, limit, symbol, from, to }
        Run { id, reserved }
        NodeAnswer { id, status, reserved, behind_s, rows, elapsed_us, covered_from, covered_to, as_of, name }
        Ended {
            id, status, reserved, code, rows, behind_ms, covered_from, covered_to, as_of,
            durable_seq, reserved_last
        }
        Metric { id, reserved, value, name }
        Text { id, name, text }
        QueryMore { id, symbol, as_of, after_seq, reserved }
        Counted { id, instrument, trades, cancelled, first, last, reserved }
        NodeExplain { id, what, copy, part, asked_us, answered_us, frames, bytes, reserved, name }
        Lineage { source, what, reserved, epoch, first_seq, epoch_id, reserved_too }
    }
}

#[test]
fn data_layouts_are_as_written() {
    same_layout! { 56, 32,
        Definition { symbol }
        Quote { bid, ask, bid_qty, ask_qty }
        Trade { price, qty, trade_id }
        Cancel { price, qty, trade_id }
        BarPrices { open, high, low }
        BarTotals { close, volume }
        BarNotional { notional, interval_s, trades }
        BreakerChange { from, to, reason, reserved, generation, name }
        ExchangePlace { feed, next_seq, exchange, reserved }
        Silence { who }
        InstrumentName { text }
    }
    let header = rows(|line| line == "### Data frames: the shared header");
    let names: Vec<(&str, &str)> = header.iter().map(|row| (row[0], row[2])).collect();
    let own = [
        (offset_of!(Frame, kind), "kind"),
        (offset_of!(Frame, version), "version"),
        (offset_of!(Frame, flags), "flags"),
        (offset_of!(Frame, instrument), "instrument"),
        (offset_of!(Frame, seq), "seq"),
        (offset_of!(Frame, ts_event), "ts_event"),
        (offset_of!(Frame, ts_recv), "ts_recv"),
        (offset_of!(Frame, body), "body"),
        (offset_of!(Frame, instrument_seq), "instrument_seq"),
        (offset_of!(Frame, crc), "crc"),
    ];
    let own: Vec<(String, &str)> = own.iter().map(|(at, name)| (at.to_string(), *name)).collect();
    let own: Vec<(&str, &str)> = own.iter().map(|(at, name)| (at.as_str(), *name)).collect();
    assert_eq!(names, own);
}

/// Compares an enumeration's table with all numbers that the code knows.
macro_rules! same_numbers {
    ($($name:ident: $int:ty,)*) => {$({
        let head = concat!("| number | ", stringify!($name), " |");
        let table = rows(|line| line.starts_with(head));
        let written: Vec<(String, String)> =
            table.iter().map(|row| (row[0].to_owned(), row[1].to_owned())).collect();
        let known = (0..=<$int>::MAX).filter_map(|n| Some((n, $name::from_number(n)?)));
        let known: Vec<_> = known.map(|(n, value)| (n.to_string(), format!("{value:?}"))).collect();
        assert_eq!(written, known, "{}", stringify!($name));
    })*};
}

#[test]
fn numbers_are_as_written() {
    same_numbers! {
        Role: u8, ErrorCode: u16, GapReason: u8, Op: u8, BreakerAction: u8, ChaosAction: u8, NodeStatus: u8,
        EndStatus: u8,        State: u8, Reason: u8,
    }
    let modes = rows(|line| line.starts_with("| number | Mode |"));
    let modes: Vec<(&str, &str)> = modes.iter().map(|row| (row[0], row[1])).collect();
    assert_eq!(modes, [("0", "Lossless"), ("1", "Latest"), ("2", "Conflate")]);
    assert!(Mode::from_number(2) == Some(Mode::Conflate) && Mode::from_number(3).is_none());
}

#[test]
fn kinds_and_masks_are_as_written() {
    let table = rows(|line| line.starts_with("## 3. Kinds"));
    let written: Vec<[&str; 3]> = table.iter().map(|row| [row[0], row[1], row[3]]).collect();
    let own = Kind::ALL.map(|kind| {
        let mask = if kind.is_data() { format!("0x{:04x}", kind.mask()) } else { String::new() };
        [(kind as u8).to_string(), format!("{kind:?}"), mask]
    });
    assert_eq!(written, own);
}

#[test]
fn every_flag_is_allowed_exactly_where_the_table_says() {
    let table = rows(|line| line.starts_with("## 4. Flags"));
    let flags = table.iter().map(|row| {
        let mask = u16::from_str_radix(row[1].trim_start_matches("0x"), 16).expect("a mask");
        (mask, row[3].split(", ").collect::<Vec<&str>>())
    });
    let flags: Vec<(u16, Vec<&str>)> = flags.collect();
    let allowed_on = |kind: Kind| {
        let name = format!("{kind:?}");
        let is_allowed =
            |on: &[&str]| on.contains(&name.as_str()) || (on.contains(&"data") && kind.is_data());
        let masks = flags.iter().filter(|(_, on)| is_allowed(on)).map(|(mask, _)| mask);
        masks.fold(0, |all, mask| all | mask)
    };
    for (bit, kind) in (0..16).flat_map(|bit| Kind::ALL.map(|kind| (bit, kind))) {
        let flags = U16::new(1 << bit);
        let frame = Frame { kind: kind as u8, version: VERSION, flags, ..Frame::ZERO };
        let is_allowed = allowed_on(kind) & (1 << bit) != 0;
        assert_eq!(frame.check_header().is_ok(), is_allowed, "bit {bit} on {kind:?}");
    }
    let seen = flags.iter().fold(0, |all, (mask, _)| all | mask);
    assert_eq!(seen, u16::MAX, "each bit means something somewhere");
}

#[test]
fn limits_are_as_written() {
    let table = rows(|line| line.starts_with("Limits that a peer meets"));
    let value = |name: &str| {
        let row = table.iter().find(|row| row[0].starts_with(name)).expect(name);
        row[1].replace(',', "")
    };
    assert_eq!(value("time to send SESSION"), format!("{} s", limits::GREETING_MAX.as_secs()));
    assert_eq!(value("silence of a peer"), format!("{} s", limits::SILENCE_MAX.as_secs()));
    assert_eq!(value("a node's own silence"), format!("{} s", limits::HEARTBEAT_EVERY.as_secs()));
    assert_eq!(value("answers waiting"), format!("{} bytes", limits::UNREAD_BYTES_MAX));
    assert_eq!(value("patterns per"), limits::PATTERNS_MAX.to_string());
    assert_eq!(value("symbols and patterns"), limits::QUERY_SYMBOLS_MAX.to_string());
    assert_eq!(value("sources of"), format!("numbers 0 to {}", limits::SOURCES_MAX - 1));
    assert_eq!(value("instruments of"), format!("index 0 to {}", limits::INSTRUMENTS_MAX - 1));
    assert!(value("subscribers of").ends_with(&limits::SUBSCRIBERS_MAX.to_string()));
    assert_eq!(value("queries under way in one aggregator"), limits::GATHERS_MAX.to_string());
    for (name, bound) in [
        ("queries under way on one connection", limits::LEAF_QUERIES_MAX as u64),
        ("queries under way in one shard", limits::SHARD_QUERIES_MAX as u64),
        ("of these, queries about", limits::GATHERS_AHEAD_MAX as u64),
        ("instruments in all answers", limits::SCAN_INSTRUMENTS_TOTAL_MAX as u64),
        ("trades that one query", limits::SCAN_TRADES_MAX),
        ("rows of one shard's answer", limits::SCAN_ROWS_MAX),
        ("rows of each instrument", limits::ANSWER_ROWS_MAX as u64),
    ] {
        assert_eq!(value(name), bound.to_string());
    }
    let of_one = |all: usize, one: usize| format!("{all}; {one} of one connection");
    let quotes = of_one(limits::QUOTE_QUERIES_MAX, limits::LEAF_QUERIES_MAX);
    assert_eq!(value("queries for quotes"), quotes);
    let (all, one) = (limits::WAITING_QUERIES_MAX, limits::WAITING_QUERIES_PER_CONNECTION_MAX);
    assert_eq!(value("queries of core, one shard or"), of_one(all, one));
    let longest = format!("{} characters", Symbol::BYTES_MAX);
    assert!(value("length of a pattern").starts_with(&longest));
    let wait = format!("{} s;", limits::CUT_AHEAD_WAIT_MAX.as_secs());
    assert!(value("time that a query waits").starts_with(&wait));
    let wait = format!("{} s by default", limits::UNREAD_WAIT_DEFAULT.as_secs());
    assert!(value("time that a subscriber takes").contains(&wait));
    let wait = format!("within {} s", limits::SIGN_OF_LIFE_WAIT.as_secs());
    assert!(value("feeders of one shard").contains(&wait));
    assert_eq!(value("frames of one gathered"), limits::GATHER_FRAMES_MAX.to_string());
    let seconds = limits::GATHER_DEADLINE_US_MAX / 1_000_000;
    assert!(value("time that one gathered").starts_with(&format!("{seconds} s;")));
    let (least, most) = (limits::CONFLATE_MIN.as_millis(), limits::CONFLATE_MAX.as_secs());
    assert!(value("interval of").starts_with(&format!("{least} ms to {most} s;")));
}

#[test]
fn the_checksum_is_the_one_described() {
    assert_eq!(crc32c_of(b"123456789"), 0xE306_9283);
    let frame = Frame::seal(Quote { seq: U64::new(7), ..Quote::default() });
    let bytes = zerocopy::IntoBytes::as_bytes(&frame);
    assert_eq!(crc32c_of(&bytes[..60]), frame.crc.get());
}

/// The checksum bit by bit from its description in section 2.
fn crc32c_of(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| (crc >> 1) ^ if crc & 1 == 1 { 0x82F6_3B78 } else { 0 };
    !bytes.iter().fold(u32::MAX, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}
