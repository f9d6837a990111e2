//! Several tapes as one: in which order their events come and when, and which of them were told twice.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use super::{Tape, TapeBody, TapeEvent};
use crate::planted::{Bug, is_planted};
use crate::wire::{Flags, InstrumentIndex};

/// The longest silence where no tape is under way.
pub(super) const PAUSE_NS: u64 = 1_000_000_000;

/// How several tapes lie beside each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Align {
    /// By their recording clocks: what was recorded later comes later. Time between two tapes, in which none was
    /// recorded, is cut down to a second.
    #[default]
    Clock,
    /// All begin together, each at its own first event.
    Start,
}

/// One event in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Placed {
    /// After the start of the replay.
    pub(super) offset_ns: u64,
    pub(super) tape: usize,
    /// Of the tape's events.
    pub(super) event: usize,
}

/// Every event in the order of replay. Events of the same time stay in the order of the tapes, and those of a tape in
/// the order of its records, whatever its clock says.
pub(super) fn in_order(tapes: &[Tape], align: Align) -> Vec<Placed> {
    let mut placed = Vec::with_capacity(tapes.iter().map(|tape| tape.events.len()).sum());
    let clock_ns = |event: &TapeEvent| match is_planted(Bug::PaceByEventTime) {
        false => event.ts_recv,
        true => event.ts_event,
    };
    let base_ns = |tape: &Tape| match align {
        Align::Clock if !is_planted(Bug::DaysSideBySide) => 0,
        Align::Clock | Align::Start => tape.events.first().map_or(0, clock_ns),
    };
    // The next event of each tape. The tape's number breaks ties.
    let mut next: BinaryHeap<Reverse<(u64, usize, usize)>> = BinaryHeap::new();
    for (number, tape) in tapes.iter().enumerate() {
        if let Some(first) = tape.events.first() {
            next.push(Reverse((clock_ns(first).saturating_sub(base_ns(tape)), number, 0)));
        }
    }
    let (mut offset_ns, mut before_ns) = (0_u64, None);
    let mut under_way = 0_usize;
    while let Some(Reverse((time_ns, number, event))) = next.pop() {
        let passed_ns = time_ns - before_ns.unwrap_or(time_ns);
        before_ns = Some(time_ns);
        let is_between = under_way == 0;
        offset_ns =
            offset_ns.saturating_add(if is_between { passed_ns.min(PAUSE_NS) } else { passed_ns });
        placed.push(Placed { offset_ns, tape: number, event });
        under_way += usize::from(event == 0);
        let tape = &tapes[number];
        match tape.events.get(event + 1) {
            Some(following) => {
                let due_ns = clock_ns(following).saturating_sub(base_ns(tape));
                next.push(Reverse((due_ns.max(time_ns), number, event + 1)));
            }
            None => under_way -= 1,
        }
    }
    placed
}

/// What makes an event the same event: the instrument with its venue, the venue's number, and all that it says.
type Told = (InstrumentIndex, u64, u64, [u64; 5]);

/// All that an event says of itself, as numbers.
fn words(body: &TapeBody) -> [u64; 5] {
    match *body {
        TapeBody::Quote { bid, ask, bid_qty, ask_qty } => {
            [0, bid.0.cast_unsigned(), ask.0.cast_unsigned(), bid_qty, ask_qty]
        }
        TapeBody::Trade { price, qty, trade_id } => [1, price.0.cast_unsigned(), qty, trade_id, 0],
        TapeBody::Cancel { price, qty, trade_id } => [2, price.0.cast_unsigned(), qty, trade_id, 0],
        TapeBody::Halt { is_halted } => [3, is_halted.into(), 0, 0, 0],
    }
}

/// Leaves out what was told twice: an event that another stream has told already, and a quote without a number that
/// changes nothing where several streams tell of an instrument. How many trades and cancellations that were.
///
/// A stream tells each of its events once, and several may look the same. So of events that look the same there are as
/// many as the stream says that tells most of them. Trades without a number are all kept. So are those of parts of one
/// file: they are one stream.
pub(super) fn leave_out_repeats(
    placed: &mut Vec<Placed>,
    tapes: &[Tape],
    indexes: &[Vec<InstrumentIndex>],
    instruments: usize,
) -> u64 {
    // A stream of all tapes, by number.
    let stream = |at: &Placed| (at.tape, tapes[at.tape].events[at.event].stream);
    let instrument =
        |at: &Placed| indexes[at.tape][tapes[at.tape].events[at.event].instrument.place()];
    let mut first_stream = vec![None; instruments];
    let mut has_several = vec![false; instruments];
    for at in placed.iter() {
        // Only its own stream halts an instrument: nothing of it is told twice.
        if matches!(tapes[at.tape].events[at.event].body, TapeBody::Halt { .. }) {
            continue;
        }
        let place = instrument(at).place();
        let first = *first_stream[place].get_or_insert(stream(at));
        has_several[place] |= first != stream(at);
    }
    if !has_several.contains(&true) || is_planted(Bug::PrintsToldTwice) {
        return 0;
    }
    let mut repeats = 0;
    let mut told: BTreeMap<(Told, (usize, u8)), u32> = BTreeMap::new();
    let mut quotes: Vec<Option<(TapeBody, u16)>> = vec![None; instruments];
    placed.retain(|at| {
        let index = instrument(at);
        if !has_several[index.place()] {
            return true;
        }
        let event = &tapes[at.tape].events[at.event];
        let is_quote = matches!(event.body, TapeBody::Quote { .. });
        if event.sequence == 0 {
            let says = (event.body, event.flags & Flags::HALTED);
            return !is_quote || quotes[index.place()].replace(says) != Some(says);
        }
        let what = (index, event.sequence, event.ts_event, words(&event.body));
        let own = told.entry((what, stream(at))).or_default();
        *own += 1;
        let own = *own;
        let all = told.range((what, (0, 0))..=(what, (usize::MAX, u8::MAX)));
        let others = all.filter(|((_, other), _)| *other != stream(at));
        let is_repeat = others.map(|(_, count)| *count).max().is_some_and(|most| own <= most);
        repeats += u64::from(is_repeat && !is_quote);
        !is_repeat
    });
    repeats
}

#[cfg(test)]
mod tests {
    use super::super::{TapeEvent, Venue};
    use super::*;
    use crate::market::price::Price;

    /// Trades of one instrument: recording time, number, quantity and stream.
    fn tape(rows: &[(u64, u64, u64, u8)]) -> Tape {
        let mut tape = Tape::default();
        let symbol = "A".parse().unwrap();
        let instrument = tape.instruments.insert(Venue::Unnamed, symbol, 2).unwrap();
        for &(ts_recv, sequence, qty, stream) in rows {
            let body = TapeBody::Trade { price: Price(5), qty, trade_id: 0 };
            let event = TapeEvent::new(7, instrument, body);
            tape.events.push(TapeEvent { ts_recv, sequence, stream, ..event });
        }
        tape
    }

    fn offsets(tapes: &[Tape], align: Align) -> Vec<(u64, usize)> {
        in_order(tapes, align).iter().map(|it| (it.offset_ns, it.tape)).collect()
    }

    const S: u64 = 1_000_000_000;

    #[test]
    fn days_follow_each_other_and_the_night_between_is_short() {
        let days = [
            tape(&[(900 * S, 0, 1, 0), (940 * S, 0, 1, 0)]),
            tape(&[(100 * S, 0, 1, 0), (160 * S, 0, 1, 0)]),
        ];
        assert_eq!(offsets(&days, Align::Clock), [(0, 1), (60 * S, 1), (61 * S, 0), (101 * S, 0)]);
        assert_eq!(offsets(&days, Align::Start), [(0, 0), (0, 1), (40 * S, 0), (60 * S, 1)]);
        // A silence within a tape is a part of the recording, also beside another one.
        let during = tape(&[(130 * S, 0, 1, 0)]);
        let days = [during, days.into_iter().nth(1).unwrap()];
        assert_eq!(offsets(&days, Align::Clock), [(0, 1), (30 * S, 0), (60 * S, 1)]);
    }

    #[test]
    fn a_clock_that_goes_back_moves_nothing_back() {
        let tape = tape(&[(50, 0, 1, 0), (60, 0, 1, 0), (10, 0, 1, 0), (61, 0, 1, 0)]);
        assert_eq!(offsets(&[tape], Align::Clock), [(0, 0), (10, 0), (10, 0), (11, 0)]);
    }

    /// The quantities that are left, and how many prints were told twice.
    fn told_once(tapes: &[Tape]) -> (Vec<u64>, u64) {
        let mut placed = in_order(tapes, Align::Clock);
        let indexes = vec![vec![InstrumentIndex::FIRST]; tapes.len()];
        let repeats = leave_out_repeats(&mut placed, tapes, &indexes, 1);
        let qty = |at: &Placed| match tapes[at.tape].events[at.event].body {
            TapeBody::Trade { qty, .. } => qty,
            _ => 0,
        };
        (placed.iter().map(qty).collect(), repeats)
    }

    #[test]
    fn a_print_that_two_streams_tell_is_one_print() {
        let capture = tape(&[(1, 50, 1, 0), (1, 50, 1, 1), (2, 51, 2, 1), (3, 51, 2, 0)]);
        assert_eq!(told_once(&[capture]), (vec![1, 2], 2));
        let both = [tape(&[(1, 50, 1, 0), (2, 51, 2, 0)]), tape(&[(1, 50, 1, 0), (2, 52, 3, 0)])];
        assert_eq!(told_once(&both), (vec![1, 2, 3], 1));
    }

    #[test]
    fn prints_that_look_the_same_in_one_stream_are_several() {
        let one = tape(&[(1, 50, 1, 0), (1, 50, 1, 0), (1, 50, 1, 0)]);
        assert_eq!(told_once(&[one]), (vec![1; 3], 0));
        // The second stream tells two of the three before the first one has told all.
        let rows = [(1, 50, 1, 0), (1, 50, 1, 1), (1, 50, 1, 1), (1, 50, 1, 0), (1, 50, 1, 0)];
        assert_eq!(told_once(&[tape(&rows)]), (vec![1; 3], 2));
        // Without a number nobody knows.
        assert_eq!(told_once(&[tape(&[(1, 0, 1, 0), (1, 0, 1, 1)])]), (vec![1; 2], 0));
    }

    #[test]
    fn a_quote_that_two_streams_tell_changes_nothing_the_second_time() {
        let quote =
            |bid| TapeBody::Quote { bid: Price(bid), ask: Price(9), bid_qty: 1, ask_qty: 1 };
        let mut day = tape(&[]);
        for (bid, stream) in [(1, 0), (1, 1), (2, 1), (2, 0), (1, 0)] {
            let event = TapeEvent::new(7, InstrumentIndex::FIRST, quote(bid));
            day.events.push(TapeEvent { stream, ..event });
        }
        let mut placed = in_order(std::slice::from_ref(&day), Align::Clock);
        let indexes = [vec![InstrumentIndex::FIRST]];
        assert_eq!(leave_out_repeats(&mut placed, &[day], &indexes, 1), 0);
        let kept: Vec<usize> = placed.iter().map(|at| at.event).collect();
        assert_eq!(kept, [0, 2, 4]);
    }
}
