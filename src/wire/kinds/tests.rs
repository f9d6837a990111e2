//! That the table says what the messages are, and what the checks do with it.

use super::super::{FrameError, Sample, padded};
use super::*;

#[test]
fn every_data_kind_has_a_row_and_every_row_its_number() {
    let data: Vec<Kind> = Kind::ALL.into_iter().filter(|kind| kind.is_data()).collect();
    assert_eq!(data.len(), DATA_KINDS.len());
    for kind in data {
        assert_eq!(DataKind::by_number(kind as u8).map(|row| row.kind), Some(kind));
        let frame = Frame { kind: kind as u8, ..Frame::ZERO };
        assert_eq!(DataKind::of(&frame).map(|row| row.kind), Some(kind));
    }
    for number in (12..15).chain(16..=u8::MAX) {
        let frame = Frame { kind: number, ..Frame::ZERO };
        assert!(DataKind::of(&frame).is_none() && DataKind::last_value_slot(number).is_none());
    }
}

#[test]
fn columns_lie_in_the_body_one_behind_the_other() {
    for row in DATA_KINDS {
        let body = row.columns.iter().filter(|column| column.offset >= 32);
        let mut places: Vec<(usize, usize)> =
            body.map(|column| (column.offset, column.offset + column.width())).collect();
        places.sort_unstable();
        assert!(places.iter().all(|(_, end)| *end <= 56), "{}", row.name);
        assert!(places.windows(2).all(|pair| pair[0].1 <= pair[1].0), "{}", row.name);
    }
}

#[test]
fn columns_of_one_name_hold_the_same() {
    let columns = || DATA_KINDS.iter().flat_map(|row| row.columns).chain(&SHARED_COLUMNS);
    for (one, other) in columns().flat_map(|one| columns().map(move |other| (one, other))) {
        assert!(one.name != other.name || one.holds == other.holds, "{one:?} {other:?}");
    }
}

#[test]
fn a_value_is_read_where_the_message_has_it() {
    let change = BreakerChange {
        from: 1,
        to: 2,
        reason: 3,
        generation: U16::new(0x0405),
        name: padded("aggregator.shard-A"),
        ..BreakerChange::default()
    };
    let frame = Frame::seal(change);
    let row = DataKind::of(&frame).unwrap();
    let numbers: Vec<u64> = row.columns[1..].iter().map(|it| it.number(&frame)).collect();
    assert_eq!(numbers, [1, 2, 3, 0x0405]);
    assert_eq!(row.columns[0].bytes(&frame), b"aggregator.shard-A");
    let quote = Frame::seal(Quote { ask: I64::new(-7), ..Quote::default() });
    assert_eq!(ASK.number(&quote).cast_signed(), -7);
    let named = Frame::seal(Definition::new(U32::new(1).into(), "X".parse().unwrap(), 9));
    assert_eq!(DataKind::of(&named).unwrap().columns[0].number(&named), 9);
}

#[test]
fn a_row_says_what_passes_the_checks() {
    let sample = Sample { reserved: 1, ..Sample::default() };
    let frame = Frame::seal(sample);
    assert_eq!(frame.check(), Err(FrameError::Reserved(Kind::Sample as u8)), "the body's check");
    let flagged = |flags| {
        let flags = U16::new(flags);
        Frame::seal(Sample { flags, ..Sample::default() }).check()
    };
    assert_eq!(flagged(Flags::LAST | Flags::GAP_BEFORE | Flags::DELIVERY), Ok(()));
    assert_eq!(flagged(Flags::BUY), Err(FrameError::Reserved(Kind::Sample as u8)));
}
