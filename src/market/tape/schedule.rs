//! The schedule: several tapes merged into one feed, as sealed frames that can be replayed once or for ever. It says what comes when; whoever replays owns the clock.

use zerocopy::IntoBytes;

use super::halts::{self, Halts};
use super::instruments::{self, Merged};
use super::merge::{Align, PAUSE_NS, Placed, in_order, leave_out_repeats};
use super::{TIMES_APART_NS, Tape, TapeBody, TapeEvent};
use crate::limits::{INSTRUMENTS_MAX, TAPE_EVENTS_MAX, TAPES_MAX};
use crate::market::instrument::{Instruments, TableFull, exchange_id};
use crate::planted::{Bug, is_planted};
use crate::wire::{
    Cancel, Definition, FNV_BASIS, Flags, Frame, I64, InstrumentIndex, Quote, Size, Symbol, Trade,
    U16, U32, U64, fnv1a_64,
};

/// The bit of an identity that says that the feed is a recording: it has a beginning, and comes again as it was.
pub const RECORDED: u64 = 1;

/// Symbols of several venues that are told one by one.
const SHARED_TOLD: usize = 20;

/// Nanoseconds of one day.
const DAY_NS: u64 = 86_400_000_000_000;

/// Why tapes make no schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// Nothing to replay.
    #[error("the tapes hold no quote and no trade; give at least one that does")]
    Empty,
    /// Too many tapes.
    #[error("more than {TAPES_MAX} tapes; replay fewer at once")]
    TooManyTapes,
    /// Too many events in all tapes together.
    #[error("the tapes have more than {TAPE_EVENTS_MAX} events together; replay fewer at once")]
    TooManyEvents,
    /// One instrument has quantities in different units.
    #[error("the tapes state quantities of {0} in different units; replay them one by one")]
    QuantityDecimals(Symbol),
    /// Too many instruments in all tapes together.
    #[error(
        "the tapes have more than {INSTRUMENTS_MAX} instruments together; replay fewer at once"
    )]
    TooManyInstruments,
}

impl From<TableFull> for ScheduleError {
    fn from(_: TableFull) -> ScheduleError {
        ScheduleError::TooManyInstruments
    }
}

/// Tapes merged into one feed.
///
/// Frame 1 to [`Schedule::definitions`] define the instruments, in the order of their indexes; then
/// come the events. `seq` is a frame's position, counted from 1. `instrument_seq` counts an
/// instrument's events from 1; definitions have 0. `ts_event` is the tape's own time (a
/// definition's is that of its instrument's first event), `ts_recv` is 0, the source is 0.
///
/// Invariant: offsets never go back, even where a tape's times do.
#[derive(Clone, Debug)]
pub struct Schedule {
    instruments: Instruments,
    frames: Vec<Frame>,
    offset_ns: Vec<u64>,
    /// Events of each instrument in one lap.
    events_per_lap: Vec<u32>,
    lap_offset_ns: u64,
    lap_ts_event_ns: u64,
    /// What the identity would be if the tape ended behind each event.
    identities: Vec<u64>,
    /// For each instrument the place of its first event.
    first_events: Vec<usize>,
    /// Prints that were told before, and are left out.
    repeats: u64,
    /// Symbols that several venues have.
    shared: Vec<Symbol>,
}

impl Schedule {
    /// Merges tapes as `align` says. Events of the same time stay in the order of the tapes, and within a tape in the
    /// order of its records. Instruments of the same venue and symbol become one, and so does a print that two
    /// streams told.
    ///
    /// # Errors
    /// When there is nothing to replay, or a bound is exceeded.
    pub fn new(tapes: &[Tape], align: Align) -> Result<Schedule, ScheduleError> {
        if tapes.len() > TAPES_MAX {
            return Err(ScheduleError::TooManyTapes);
        }
        let events: usize = tapes.iter().map(|tape| tape.events.len()).sum();
        if events > TAPE_EVENTS_MAX {
            return Err(ScheduleError::TooManyEvents);
        }
        if events == tapes.iter().map(|tape| tape.opening).sum::<usize>() {
            return Err(ScheduleError::Empty);
        }
        let Merged { instruments, mut indexes, shared } = instruments::merge(tapes)?;
        let mut placed = in_order(tapes, align);
        let repeats = leave_out_repeats(&mut placed, tapes, &indexes, instruments.len());
        halts::leave_out_unchanged(&mut placed, tapes, &indexes, instruments.len());
        if placed.is_empty() {
            return Err(ScheduleError::Empty);
        }
        let instruments = by_first_event(&instruments, &placed, tapes, &mut indexes)?;
        let frames_max = instruments.len() + placed.len();
        let mut schedule = Schedule {
            frames: Vec::with_capacity(frames_max),
            offset_ns: Vec::with_capacity(frames_max),
            events_per_lap: vec![0; instruments.len()],
            lap_offset_ns: 0,
            lap_ts_event_ns: lap_ts_event_ns(tapes, &indexes, instruments.len()),
            identities: Vec::with_capacity(placed.len()),
            first_events: Vec::with_capacity(instruments.len()),
            repeats,
            shared,
            instruments,
        };
        schedule.push_definitions(&placed, tapes, &indexes);
        let mut hash = FNV_BASIS;
        let mut halts = Halts::new(schedule.instruments.len());
        for &Placed { offset_ns, tape, event } in &placed {
            let event = &tapes[tape].events[event];
            let index = indexes[tape][event.instrument.place()];
            let event = &halts.told(event, index);
            let count = &mut schedule.events_per_lap[index.place()];
            *count += 1;
            if *count == 1 {
                schedule.first_events.push(schedule.identities.len());
            }
            let frame = sealed(event, index, schedule.frames.len() as u64 + 1, *count);
            let row = &schedule.instruments.rows()[index.place()];
            hash = fnv1a_64(hash, row.symbol.as_bytes());
            if row.quantity_decimals > 0 {
                hash = fnv1a_64(hash, &[row.quantity_decimals]);
            }
            hash = fnv1a_64(hash, &[frame.kind]);
            // Whether it is the last of its exchange event may be known only from what follows.
            hash = fnv1a_64(hash, &(event.flags & !Flags::LAST).to_le_bytes());
            hash = fnv1a_64(hash, frame.ts_event.as_bytes());
            hash = hash_body(hash, event, &frame);
            schedule.identities.push(hash | RECORDED);
            schedule.frames.push(frame);
            schedule.offset_ns.push(offset_ns);
        }
        let span_ns = schedule.offset_ns.last().copied().unwrap_or(0);
        schedule.lap_offset_ns = span_ns.saturating_add(PAUSE_NS);
        Ok(schedule)
    }

    /// What is to be said of the tapes together.
    #[must_use]
    pub fn remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        if self.repeats > 0 {
            remarks.push(format!(
                "prints told again, in another schema or tape: {}. Each counts once",
                self.repeats
            ));
        }
        for symbol in self.shared.iter().take(SHARED_TOLD) {
            remarks.push(format!("several venues have {symbol}: it is shown as VENUE:{symbol}"));
        }
        let more = self.shared.len().saturating_sub(SHARED_TOLD);
        if more > 0 {
            remarks.push(format!("the same of {more} more symbols"));
        }
        remarks
    }

    /// The instruments; an instrument's row is its index in the frames.
    #[must_use]
    pub fn instruments(&self) -> &Instruments {
        &self.instruments
    }

    /// How many frames at the start are definitions.
    #[must_use]
    pub fn definitions(&self) -> usize {
        self.instruments.len()
    }

    /// The parts of the full names of instruments that have another symbol. They have no place in the feed.
    #[must_use]
    pub fn names(&self) -> Vec<Frame> {
        let indexes = InstrumentIndex::until(InstrumentIndex::LAST);
        indexes
            .zip(self.instruments.rows())
            .flat_map(|(index, row)| row.name_parts(index))
            .collect()
    }

    /// The frames of the first lap; a frame's position is its `seq` - 1.
    #[must_use]
    pub fn frames(&self) -> &[Frame] {
        &self.frames
    }

    /// For each of [`Schedule::frames`], when it is due after the start of the replay.
    #[must_use]
    pub fn offsets_ns(&self) -> &[u64] {
        &self.offset_ns
    }

    /// A number that stands for the content: FNV-1a (64 bits, <http://isthe.com/chongo/tech/comp/fnv/>) over symbol, decimals
    /// of quantities unless they are whole, kind,
    /// flags, event time and body of all events of the first lap, in order. Its lowest bit says that it is a recording.
    /// Processes that replay the same tapes in the same way offer the same feed and the same identity.
    #[must_use]
    pub fn identity(&self) -> u64 {
        self.identities.last().copied().unwrap_or(RECORDED)
    }

    /// Where a consumer goes on that wants `next_seq` of another feed, if this one begins with all of that: the same
    /// tape, fetched again and longer. Numbers shift, because more instruments may be defined ahead of the events.
    #[must_use]
    pub fn continued(&self, feed: u64, next_seq: u64) -> Option<u64> {
        let events = self.identities.iter().position(|identity| *identity == feed)? as u64 + 1;
        if is_planted(Bug::LongerFeedIsOther) && feed != self.identity() {
            return None;
        }
        let had_defined = self.first_events.partition_point(|first| (*first as u64) < events);
        let definitions = |count: usize| count as u64;
        let Some(had) = next_seq.checked_sub(definitions(had_defined) + 1) else { return Some(1) };
        (had <= events).then_some(definitions(self.definitions()) + had + 1)
    }

    /// The frame with this `seq` and when it is due after the start of the replay; none for 0,
    /// and, unless `looped`, none after the last.
    ///
    /// A looped schedule has no end: lap `k` repeats the events (not the definitions), with `seq`
    /// and `instrument_seq` going on, offsets later by `k` times the span and a second, and
    /// `ts_event` later by `k` times the first number of whole days that is longer than any tape,
    /// so that a lap's exchange times come after those of the lap before.
    #[must_use]
    pub fn frame_at(&self, seq: u64, looped: bool) -> Option<(Frame, u64)> {
        let position = seq.checked_sub(1)?;
        let within = usize::try_from(position).ok().filter(|&at| at < self.frames.len());
        if let Some(at) = within {
            return Some((self.frames[at], self.offset_ns[at]));
        }
        if !looped {
            return None;
        }
        let definitions = self.definitions();
        // Not zero: a schedule has at least one event.
        let events = (self.frames.len() - definitions) as u64;
        let event = position - definitions as u64;
        let (lap, at) = (event / events, usize::try_from(event % events).ok()? + definitions);
        let mut frame = self.frames[at];
        frame.seq = U64::new(seq);
        let later = lap.saturating_mul(self.lap_ts_event_ns);
        frame.ts_event = U64::new(frame.ts_event.get().saturating_add(later));
        let per_lap = self.events_per_lap.get(frame.instrument().index().place())?;
        // The field has 32 bits and wraps; the remainder fits them.
        let before = lap.wrapping_mul(u64::from(*per_lap)) & u64::from(u32::MAX);
        let before = u32::try_from(before).unwrap_or(0);
        frame.instrument_seq = U32::new(frame.instrument_seq.get().wrapping_add(before));
        frame.renew_crc();
        let pause = lap.saturating_mul(self.lap_offset_ns);
        Some((frame, self.offset_ns[at].saturating_add(pause)))
    }

    fn push_definitions(
        &mut self,
        placed: &[Placed],
        tapes: &[Tape],
        indexes: &[Vec<InstrumentIndex>],
    ) {
        let mut first_ts_event = vec![None; self.instruments.len()];
        for &Placed { tape, event, .. } in placed {
            let event = &tapes[tape].events[event];
            let index = indexes[tape][event.instrument.place()];
            first_ts_event[index.place()].get_or_insert(event.ts_event);
        }
        for (index, (row, ts_event)) in InstrumentIndex::until(InstrumentIndex::LAST)
            .zip(self.instruments.rows().iter().zip(first_ts_event))
        {
            self.frames.push(Frame::seal(Definition {
                seq: U64::new(u64::from(index.get()) + 1),
                ts_event: U64::new(ts_event.unwrap_or(0)),
                ..row.definition(index)
            }));
            self.offset_ns.push(0);
        }
    }
}

/// The body of an event's frame, with the sizes of a quote as the tape has them: how a frame packs them is no matter of the
/// tape. In 32 bits, as long as they fit.
fn hash_body(hash: u64, event: &TapeEvent, frame: &Frame) -> u64 {
    let TapeBody::Quote { bid_qty, ask_qty, .. } = event.body else {
        return fnv1a_64(hash, &frame.body);
    };
    let prices = frame.body.get(..2 * size_of::<I64>()).unwrap_or_default();
    [bid_qty, ask_qty].into_iter().fold(fnv1a_64(hash, prices), |hash, size| {
        match u32::try_from(size) {
            Ok(size) => fnv1a_64(hash, &size.to_le_bytes()),
            Err(_) => fnv1a_64(hash, &size.to_le_bytes()),
        }
    })
}

/// The first number of whole days that is longer than the times of any instrument are apart, in all tapes. An event
/// time that is far from the recording clock is no measure.
fn lap_ts_event_ns(tapes: &[Tape], indexes: &[Vec<InstrumentIndex>], instruments: usize) -> u64 {
    let mut spans: Vec<Option<(u64, u64)>> = vec![None; instruments];
    for (tape, own) in tapes.iter().zip(indexes) {
        for event in &tape.events {
            let span = &mut spans[own[event.instrument.place()].place()];
            let is_apart = event.ts_event.abs_diff(event.ts_recv) > TIMES_APART_NS;
            let at = if is_apart { event.ts_recv } else { event.ts_event };
            let (earliest, latest) = span.unwrap_or((at, at));
            *span = Some((earliest.min(at), latest.max(at)));
        }
    }
    let longest = spans.iter().flatten().map(|(earliest, latest)| latest - earliest).max();
    (longest.unwrap_or(0) / DAY_NS + 1).saturating_mul(DAY_NS)
}

fn sealed(event: &TapeEvent, index: InstrumentIndex, seq: u64, instrument_seq: u32) -> Frame {
    let (flags, instrument) = (U16::new(event.flags), U32::from(exchange_id(index)));
    let (seq, ts_event) = (U64::new(seq), U64::new(event.ts_event));
    let instrument_seq = U32::new(instrument_seq);
    match event.body {
        TapeBody::Quote { bid, ask, bid_qty, ask_qty } => Frame::seal(Quote {
            flags,
            instrument,
            seq,
            ts_event,
            instrument_seq,
            bid: I64::new(bid.0),
            ask: I64::new(ask.0),
            bid_qty: Size::new(bid_qty),
            ask_qty: Size::new(ask_qty),
            ..Quote::default()
        }),
        TapeBody::Trade { price, qty, trade_id } => Frame::seal(Trade {
            flags,
            instrument,
            seq,
            ts_event,
            instrument_seq,
            price: I64::new(price.0),
            qty: U64::new(qty),
            trade_id: U64::new(trade_id),
            ..Trade::default()
        }),
        // What a quote tells; see `Halts`.
        TapeBody::Halt { .. } => Frame::ZERO,
        TapeBody::Cancel { price, qty, trade_id } => Frame::seal(Cancel {
            flags,
            instrument,
            seq,
            ts_event,
            instrument_seq,
            price: I64::new(price.0),
            qty: U64::new(qty),
            trade_id: U64::new(trade_id),
            ..Cancel::default()
        }),
    }
}

/// The instruments in the order of their first events, so that a longer tape gives those that it had before the same
/// numbers. What has no event is left out.
fn by_first_event(
    all: &Instruments,
    placed: &[Placed],
    tapes: &[Tape],
    indexes: &mut [Vec<InstrumentIndex>],
) -> Result<Instruments, TableFull> {
    let mut table = Instruments::new();
    let mut renumbered: Vec<Option<InstrumentIndex>> = vec![None; all.len()];
    for &Placed { tape, event, .. } in placed {
        let index = indexes[tape][tapes[tape].events[event].instrument.place()];
        if renumbered[index.place()].is_none()
            && let Some(row) = all.get(index)
        {
            renumbered[index.place()] = Some(table.insert_row(row)?);
        }
    }
    for index in indexes.iter_mut().flatten() {
        *index = renumbered[index.place()].unwrap_or(InstrumentIndex::FIRST);
    }
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::super::Venue;
    use super::*;
    use crate::market::price::Price;
    use crate::wire::Kind;
    use proptest::prelude::*;

    /// A tape of trades at these times, of instruments by name.
    fn tape(rows: &[(u64, &str, &str)]) -> Tape {
        let mut tape = Tape::default();
        for &(ts_event, symbol, price) in rows {
            let venue = Venue::Unnamed;
            let instrument = tape.instrument(venue, symbol.parse().unwrap()).unwrap();
            let price: Price = price.parse().unwrap();
            let body = TapeBody::Trade { price, qty: 1, trade_id: 0 };
            tape.push(TapeEvent::new(ts_event, instrument, body)).unwrap();
        }
        tape
    }

    fn numbers(frames: &[Frame]) -> Vec<(u64, u32, u32, u64)> {
        let row =
            |f: &Frame| (f.seq.get(), f.instrument.get(), f.instrument_seq.get(), f.ts_event.get());
        frames.iter().map(row).collect()
    }

    #[test]
    fn quantities_of_fractions_are_defined_and_told_in_their_units() {
        let in_units = |decimals| {
            let mut tape = tape(&[(5, "WHOLE", "1"), (6, "BTC", "1")]);
            tape.instruments.set_quantity_decimals(InstrumentIndex::new(1), decimals);
            for event in &mut tape.events {
                let (price, qty) = (Price(1), 12_345);
                event.body = TapeBody::Trade { price, qty, trade_id: 0 };
            }
            tape
        };
        let schedule = Schedule::new(&[in_units(8)], Align::Clock).unwrap();
        let units = schedule.frames().iter().filter_map(Frame::view::<Definition>);
        let units: Vec<u8> = units.map(|it| it.decimals().quantity).collect();
        assert_eq!(units, [0, 8]);
        let traded = schedule.frames().iter().filter_map(Frame::view::<Trade>);
        assert!(traded.map(|trade| trade.qty.get()).eq([12_345, 12_345]));
        // In other units the same numbers are another feed, and no part of this one.
        let other = Schedule::new(&[in_units(6)], Align::Clock).unwrap();
        assert_ne!(schedule.identity(), other.identity());
        let refused = Schedule::new(&[in_units(8), in_units(6)], Align::Clock).unwrap_err();
        assert_eq!(refused, ScheduleError::QuantityDecimals("BTC".parse().unwrap()));
    }

    #[test]
    fn tapes_merge_by_their_own_clocks_and_ties_keep_their_order() {
        let first = tape(&[(1_000, "A", "1"), (1_005, "B", "1.125"), (1_005, "A", "2")]);
        let second = tape(&[(70, "B", "1"), (75, "C", "1"), (76, "A", "3.5")]);
        let schedule = Schedule::new(&[first, second], Align::Start).unwrap();
        assert_eq!(schedule.offsets_ns(), [0, 0, 0, 0, 0, 5, 5, 5, 6]);
        assert_eq!(
            numbers(schedule.frames()),
            [
                (1, 0, 0, 1_000),
                (2, 1, 0, 70),
                (3, 2, 0, 75),
                (4, 0, 1, 1_000),
                (5, 1, 1, 70),
                (6, 1, 2, 1_005),
                (7, 0, 2, 1_005),
                (8, 2, 1, 75),
                (9, 0, 3, 76),
            ]
        );
        let definition = schedule.frames()[1].view::<Definition>().unwrap();
        assert_eq!((definition.symbol.as_str(), definition.decimals().price), ("B", 2));
        assert!(schedule.frames().iter().all(|frame| frame.check().is_ok()));
    }

    #[test]
    fn times_that_go_back_keep_their_stamp_and_never_move_the_offset_back() {
        let schedule = Schedule::new(
            &[tape(&[(50, "A", "1"), (60, "A", "1"), (10, "A", "1"), (61, "A", "1")])],
            Align::Clock,
        )
        .unwrap();
        assert_eq!(schedule.offsets_ns(), [0, 0, 10, 10, 11]);
        assert_eq!(schedule.frames()[3].ts_event.get(), 10);
    }

    #[test]
    fn the_loop_goes_on_where_the_lap_ended() {
        let schedule = Schedule::new(
            &[tape(&[(100, "A", "1"), (150, "B", "1"), (190, "A", "1")])],
            Align::Clock,
        )
        .unwrap();
        assert_eq!(schedule.frame_at(0, true), None);
        assert_eq!(schedule.frame_at(5, true), Some((schedule.frames()[4], 90)));
        assert_eq!(schedule.frame_at(6, false), None);
        let mut seen = vec![];
        for seq in 6..=11 {
            let (frame, offset_ns) = schedule.frame_at(seq, true).unwrap();
            assert_eq!(frame.check(), Ok(()));
            assert_eq!(frame.kind(), Some(Kind::Trade));
            seen.push((numbers(&[frame])[0], offset_ns));
        }
        let lap = 90 + PAUSE_NS;
        assert_eq!(
            seen,
            [
                ((6, 0, 3, DAY_NS + 100), lap),
                ((7, 1, 2, DAY_NS + 150), lap + 50),
                ((8, 0, 4, DAY_NS + 190), lap + 90),
                ((9, 0, 5, 2 * DAY_NS + 100), 2 * lap),
                ((10, 1, 3, 2 * DAY_NS + 150), 2 * lap + 50),
                ((11, 0, 6, 2 * DAY_NS + 190), 2 * lap + 90),
            ]
        );
        // The very last number is still a frame and no overflow.
        assert_eq!(schedule.frame_at(u64::MAX, true).unwrap().0.check(), Ok(()));
    }

    #[test]
    fn a_lap_of_exactly_a_day_does_not_meet_the_next() {
        let schedule =
            Schedule::new(&[tape(&[(7, "A", "1"), (7 + DAY_NS, "A", "1")])], Align::Clock).unwrap();
        let time = |seq| schedule.frame_at(seq, true).unwrap().0.ts_event.get();
        assert!(time(4) > time(3), "the second lap begins after the first one's end");
    }

    #[test]
    fn nothing_to_replay_is_an_error() {
        assert_eq!(Schedule::new(&[], Align::Clock).unwrap_err(), ScheduleError::Empty);
        assert_eq!(
            Schedule::new(&[Tape::default()], Align::Clock).unwrap_err(),
            ScheduleError::Empty
        );
        let many: Vec<Tape> = (0..=TAPES_MAX).map(|_| Tape::default()).collect();
        assert_eq!(Schedule::new(&many, Align::Clock).unwrap_err(), ScheduleError::TooManyTapes);
    }

    #[test]
    fn the_identity_is_stable_and_distinguishes_tapes() {
        let identity =
            |price| Schedule::new(&[tape(&[(5, "A", price)])], Align::Clock).unwrap().identity();
        assert_eq!(identity("1"), identity("1.0"));
        assert_ne!(identity("1"), identity("1.01"));
    }

    #[test]
    fn a_longer_tape_goes_on_where_the_shorter_one_ended() {
        let rows = [(5, "A", "1"), (6, "B", "1"), (7, "A", "1.125"), (8, "C", "2"), (9, "A", "3")];
        let of = |count: usize| Schedule::new(&[tape(&rows[..count])], Align::Clock).unwrap();
        let whole = of(5);
        for count in 1..=5 {
            let before = of(count);
            let definitions = before.definitions() as u64;
            assert_eq!(before.identity() & RECORDED, RECORDED);
            for had in 0..=count as u64 {
                let place = whole.continued(before.identity(), definitions + had + 1);
                assert_eq!(place, Some(3 + had + 1), "{had} of {count}");
            }
            // What was missing of the definitions is stated again.
            assert_eq!(whole.continued(before.identity(), 1), Some(1));
            let beyond = definitions + count as u64 + 2;
            assert_eq!(whole.continued(before.identity(), beyond), None, "a lap of {count}");
        }
        assert_eq!(of(4).continued(whole.identity(), 1), None, "a shorter tape continues nothing");
        assert_eq!(whole.continued(77, 1), None);
    }

    proptest! {
        #[test]
        fn numbers_are_contiguous_for_ever(
            rows in proptest::collection::vec(
                proptest::collection::vec((0_u64..50, 0_usize..4), 0..20), 1..4),
            laps in 1_u64..5,
        ) {
            let names = ["A", "B", "C", "D"];
            let tapes: Vec<Tape> = rows
                .iter()
                .map(|rows| {
                    let rows: Vec<_> = rows.iter().map(|&(t, i)| (t, names[i], "1.5")).collect();
                    tape(&rows)
                })
                .collect();
            let Ok(schedule) = Schedule::new(&tapes, Align::Start) else { return Ok(()) };
            let end = schedule.frames().len() as u64 * laps;
            let mut instrument_seq = vec![0; schedule.definitions()];
            let mut offset_ns = 0;
            for seq in 1..=end {
                let (frame, due_ns) = schedule.frame_at(seq, true).unwrap();
                prop_assert_eq!(frame.seq.get(), seq);
                prop_assert!(due_ns >= offset_ns);
                offset_ns = due_ns;
                let last: &mut u32 = &mut instrument_seq[frame.instrument().index().place()];
                if frame.kind() == Some(Kind::Definition) {
                    prop_assert_eq!(frame.instrument_seq.get(), 0);
                } else {
                    *last += 1;
                    prop_assert_eq!(frame.instrument_seq.get(), *last);
                }
            }
        }
    }
}
