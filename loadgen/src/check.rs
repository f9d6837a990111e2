//! What one subscriber has seen, checked: nothing lost, nothing twice, nothing out of order.

use pregao::wire::{Frame, InstrumentId, Kind};

use crate::limits::CHECKSUM_EVERY;

/// What went wrong at one subscriber, or at all of them together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Faults {
    /// Messages that never came.
    pub(crate) lost: u64,
    /// Messages that came twice or late.
    pub(crate) out_of_order: u64,
    /// Messages whose checksum is wrong, of those whose was computed.
    pub(crate) corrupt: u64,
    /// Losses that the target itself admitted.
    pub(crate) gaps_told: u64,
}

impl Faults {
    pub(crate) fn add(&mut self, other: Faults) {
        self.lost += other.lost;
        self.out_of_order += other.out_of_order;
        self.corrupt += other.corrupt;
        self.gaps_told += other.gaps_told;
    }
}

/// Which numbers must be contiguous.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Continuity {
    /// Full feed: `seq`. The next one expected; 0 = begins with whatever comes first.
    Feed(u64),
    /// Watch list: `instrument_seq` of each watched instrument (of one kind: a run publishes trades).
    /// Sorted by instrument; the next one expected, 0 = begins with whatever comes first.
    Instruments(Vec<(InstrumentId, u32)>),
}

impl Continuity {
    /// Begins anew: the subscriber has reconnected.
    pub(crate) fn restart(&mut self) {
        match self {
            Continuity::Feed(expected) => *expected = 0,
            Continuity::Instruments(table) => table.iter_mut().for_each(|(_, next)| *next = 0),
        }
    }

    /// Checks a run of a full feed at once, which is what comes as long as nothing goes wrong: whether
    /// each frame is the next one. Then all of them are noted; else none is, and [`Continuity::note`]
    /// finds out what is wrong. The checksums are computed of the same frames either way.
    #[inline]
    pub(crate) fn note_run(&mut self, frames: &[Frame], faults: &mut Faults) -> bool {
        let Continuity::Feed(expected) = self else { return false };
        let first = *expected;
        let is_contiguous = (first..).zip(frames).all(|(seq, frame)| frame.seq.get() == seq);
        if !is_contiguous || first == 0 {
            return false;
        }
        *expected = first.saturating_add(frames.len() as u64);
        for frame in every(frames, first, CHECKSUM_EVERY) {
            faults.corrupt += u64::from(frame.check().is_err());
        }
        true
    }

    /// Checks one delivery. `false` when it is not one: a duplicate, or a kind that is not counted.
    #[inline]
    pub(crate) fn note(&mut self, frame: &Frame, faults: &mut Faults) -> bool {
        let seq = frame.seq.get();
        if seq & (CHECKSUM_EVERY - 1) == 0 && frame.check().is_err() {
            faults.corrupt += 1;
        }
        match self {
            Continuity::Feed(expected) => {
                let missed = seq.wrapping_sub(*expected);
                if missed == 0 || *expected == 0 {
                    *expected = seq.saturating_add(1);
                    return true;
                }
                if seq < *expected {
                    faults.out_of_order += 1;
                    return false;
                }
                faults.lost += missed;
                *expected = seq.saturating_add(1);
                true
            }
            Continuity::Instruments(table) => {
                if frame.kind != Kind::Trade as u8 {
                    return false;
                }
                let instrument = frame.instrument();
                let Ok(place) = table.binary_search_by_key(&instrument, |&(known, _)| known) else {
                    // Nobody asked for it.
                    faults.out_of_order += 1;
                    return false;
                };
                let expected = &mut table[place].1;
                let seq = frame.instrument_seq.get();
                if *expected != 0 && seq < *expected {
                    faults.out_of_order += 1;
                    return false;
                }
                if *expected != 0 {
                    faults.lost += u64::from(seq - *expected);
                }
                *expected = seq.saturating_add(1);
                true
            }
        }
    }

    /// How many messages are still to come, given what the publisher has sent. Who begins with
    /// whatever comes first owes nothing before it has begun.
    pub(crate) fn missing(&self, last: &Published) -> u64 {
        match self {
            Continuity::Feed(0) => 0,
            Continuity::Feed(expected) => (last.seq + 1).saturating_sub(*expected),
            Continuity::Instruments(table) => table
                .iter()
                .filter(|(_, expected)| *expected != 0)
                .map(|&(instrument, expected)| {
                    let index = instrument.index();
                    let sent = last.instrument_seqs.get(index.place()).copied().unwrap_or(0);
                    u64::from((sent + 1).saturating_sub(expected))
                })
                .sum(),
        }
    }
}

/// The frames of a contiguous run that begins at `first` whose `seq` is a multiple of `stride`, a power
/// of two.
#[inline]
pub(crate) fn every(frames: &[Frame], first: u64, stride: u64) -> impl Iterator<Item = &Frame> {
    let stride = stride.max(1);
    let skip = first.checked_next_multiple_of(stride).map_or(u64::MAX, |next| next - first);
    let skip = usize::try_from(skip).unwrap_or(usize::MAX);
    frames.iter().skip(skip).step_by(usize::try_from(stride).unwrap_or(usize::MAX))
}

/// What a publisher has sent when it is done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Published {
    /// The last `seq`.
    pub(crate) seq: u64,
    /// The last `instrument_seq`, by instrument index.
    pub(crate) instrument_seqs: Vec<u32>,
}

#[cfg(test)]
mod tests {
    use pregao::wire::{Quote, Trade, U32, U64};

    use super::*;

    fn id(index: u32) -> InstrumentId {
        U32::new(index).into()
    }

    fn trade(seq: u64, instrument: u32, instrument_seq: u32) -> Frame {
        Frame::seal(Trade {
            seq: U64::new(seq),
            instrument: U32::new(instrument),
            instrument_seq: U32::new(instrument_seq),
            ..Trade::default()
        })
    }

    fn feed(from: u64, seqs: &[u64]) -> (u64, Faults, Continuity) {
        let (mut continuity, mut faults) = (Continuity::Feed(from), Faults::default());
        let notes = seqs.iter().map(|&seq| continuity.note(&trade(seq, 0, 0), &mut faults));
        let counted = notes.filter(|&counted| counted).count() as u64;
        (counted, faults, continuity)
    }

    #[test]
    fn a_hole_a_repeat_and_a_missing_beginning_are_all_noticed() {
        assert_eq!(feed(1, &[1, 2, 3]).1, Faults::default());
        assert_eq!(feed(1, &[1, 2, 6]).1, Faults { lost: 3, ..Faults::default() });
        assert_eq!(feed(1, &[3]).1.lost, 2, "the beginning is missing");
        let (counted, faults, _) = feed(1, &[1, 2, 2, 1, 3]);
        assert_eq!((counted, faults.out_of_order, faults.lost), (3, 2, 0));
        assert_eq!(feed(0, &[900, 901]).1, Faults::default(), "begins with what comes first");
    }

    #[test]
    fn a_missing_tail_is_owed() {
        let last = Published { seq: 5, instrument_seqs: vec![4, 9] };
        assert_eq!(feed(1, &[1, 2, 3]).2.missing(&last), 2);
        assert_eq!(feed(1, &[]).2.missing(&last), 5);
        assert_eq!(feed(0, &[]).2.missing(&last), 0);
        let watch = Continuity::Instruments(vec![(id(0), 1), (id(1), 10)]);
        assert_eq!(watch.missing(&last), 4);
    }

    #[test]
    fn each_watched_instrument_has_its_own_sequence() {
        let mut continuity = Continuity::Instruments(vec![(id(3), 1), (id(7), 1)]);
        let mut faults = Faults::default();
        for (instrument, seq) in [(3, 1), (7, 1), (3, 2), (7, 4), (3, 3)] {
            assert!(continuity.note(&trade(1, instrument, seq), &mut faults));
        }
        assert_eq!(faults, Faults { lost: 2, ..Faults::default() });
        assert!(!continuity.note(&trade(1, 7, 4), &mut faults), "twice");
        assert!(!continuity.note(&trade(1, 5, 1), &mut faults), "nobody asked");
        assert_eq!(faults.out_of_order, 2);
        assert!(!continuity.note(&Frame::seal(Quote::default()), &mut faults));
        continuity.restart();
        assert!(continuity.note(&trade(1, 7, 99), &mut faults));
        assert_eq!(faults.lost, 2, "who comes back begins anew");
    }

    #[test]
    fn a_run_is_noted_whole_or_not_at_all() {
        let run = |seqs: &[u64]| -> Vec<Frame> { seqs.iter().map(|&s| trade(s, 0, 0)).collect() };
        let mut faults = Faults::default();
        let mut continuity = Continuity::Feed(5);
        assert!(continuity.note_run(&run(&[5, 6, 7]), &mut faults));
        assert_eq!(continuity, Continuity::Feed(8));
        for wrong in [[9, 10, 11], [8, 10, 11], [8, 9, 9], [7, 8, 9]] {
            assert!(!continuity.note_run(&run(&wrong), &mut faults), "{wrong:?}");
            assert_eq!(continuity, Continuity::Feed(8));
        }
        assert!(!Continuity::Feed(0).note_run(&run(&[0, 1]), &mut faults), "it has not begun");
        let mut list = Continuity::Instruments(vec![(id(0), 1)]);
        assert!(!list.note_run(&run(&[1, 2]), &mut faults), "a watch list has holes in its seqs");
        assert_eq!(faults, Faults::default());
    }

    #[test]
    fn a_run_has_the_same_checksums_computed_as_its_frames_one_by_one() {
        for (first, count, at) in [(1, 200, 64), (1, 200, 128), (64, 1, 64), (65, 64, 128)] {
            let mut frames: Vec<Frame> = (first..first + count).map(|s| trade(s, 0, 0)).collect();
            let place = usize::try_from(at - first).unwrap();
            frames[place].ts_event = U64::new(1);
            let (mut whole, mut single) = (Faults::default(), Faults::default());
            assert!(Continuity::Feed(first).note_run(&frames, &mut whole));
            let mut continuity = Continuity::Feed(first);
            frames.iter().for_each(|frame| assert!(continuity.note(frame, &mut single)));
            assert_eq!((whole.corrupt, single.corrupt), (1, 1), "{first} {count} {at}");
        }
        let frames: Vec<Frame> = (3..20).map(|seq| trade(seq, 0, 0)).collect();
        let seqs: Vec<u64> = every(&frames, 3, 4).map(|frame| frame.seq.get()).collect();
        assert_eq!(seqs, [4, 8, 12, 16]);
        assert_eq!(every(&frames[..1], 3, 64).count(), 0);
    }

    #[test]
    fn a_wrong_checksum_is_noticed_where_it_is_computed() {
        let mut faults = Faults::default();
        let mut bad = trade(CHECKSUM_EVERY, 0, 0);
        bad.ts_event = U64::new(1);
        Continuity::Feed(0).note(&bad, &mut faults);
        assert_eq!(faults.corrupt, 1);
    }
}
