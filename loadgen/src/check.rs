//! What one subscriber has seen, checked: nothing lost, nothing twice, nothing out of order.

use pregao::wire::{Frame, Kind};

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
    Instruments(Vec<(u32, u32)>),
}

impl Continuity {
    /// Begins anew: the subscriber has reconnected.
    pub(crate) fn restart(&mut self) {
        match self {
            Continuity::Feed(expected) => *expected = 0,
            Continuity::Instruments(table) => table.iter_mut().for_each(|(_, next)| *next = 0),
        }
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
                    *expected = seq + 1;
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
                let instrument = frame.instrument.get();
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
                    let index = (instrument & 0x00FF_FFFF) as usize;
                    let sent = last.instrument_seqs.get(index).copied().unwrap_or(0);
                    u64::from((sent + 1).saturating_sub(expected))
                })
                .sum(),
        }
    }
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
        let watch = Continuity::Instruments(vec![(0, 1), (1, 10)]);
        assert_eq!(watch.missing(&last), 4);
    }

    #[test]
    fn each_watched_instrument_has_its_own_sequence() {
        let mut continuity = Continuity::Instruments(vec![(3, 1), (7, 1)]);
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
    fn a_wrong_checksum_is_noticed_where_it_is_computed() {
        let mut faults = Faults::default();
        let mut bad = trade(CHECKSUM_EVERY, 0, 0);
        bad.ts_event = U64::new(1);
        Continuity::Feed(0).note(&bad, &mut faults);
        assert_eq!(faults.corrupt, 1);
    }
}
