//! Recorded markets: DBN, compressed or not, B3's trades, and lines of text.

use std::io::BufReader;

use pregao::market::tape::{Align, Reading, Schedule, Tape};

use crate::mutate::{cases, corpus, mutate, pick};

#[test]
fn every_file_of_the_corpus_is_a_tape() {
    for bytes in corpus("tapes") {
        assert!(
            !Tape::read(BufReader::new(bytes.as_slice()), &Reading::default())
                .unwrap()
                .events
                .is_empty()
        );
    }
}

#[test]
fn no_tape_panics_and_what_is_read_can_be_played() {
    let files = corpus("tapes");
    cases(6_000, |random| {
        let mut bytes = pick(random, &files).clone();
        mutate(random, &mut bytes);
        let Ok(tape) = Tape::read(BufReader::new(bytes.as_slice()), &Reading::default()) else {
            return;
        };
        let Ok(schedule) = Schedule::new(&[tape], Align::Clock) else { return };
        for (seq, frame) in (1..).zip(schedule.frames()) {
            assert_eq!(frame.check(), Ok(()));
            assert_eq!(frame.seq.get(), seq);
        }
        assert!(schedule.offsets_ns().is_sorted());
        let behind = schedule.frames().len() as u64 + 1;
        assert!(schedule.frame_at(behind, false).is_none());
        assert!(schedule.frame_at(behind, true).is_some_and(|(frame, _)| frame.check().is_ok()));
    });
}
