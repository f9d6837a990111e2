//! The ring alone, and its two halves against each other.

use super::*;
use crate::wire::{Quote, U64};

fn frame(seq: u64) -> Frame {
    Frame::seal(Quote { seq: U64::new(seq), ..Quote::default() })
}

fn seqs(slices: (&[Frame], &[Frame])) -> Vec<u64> {
    slices.0.iter().chain(slices.1).map(|f| f.seq.get()).collect()
}

#[test]
fn every_window_across_the_wrap_is_whole_and_in_order() {
    let mut ring = Ring::new(8, 100);
    for seq in 100..150 {
        assert!(ring.push(&frame(seq)));
        for from in 90..=seq + 1 {
            let expected: Vec<u64> = (from.max(ring.oldest_seq())..=seq).collect();
            assert_eq!(seqs(ring.view().slices(from, usize::MAX)), expected);
            let three: Vec<u64> = expected.iter().copied().take(3).collect();
            assert_eq!(seqs(ring.view().slices(from, 3)), three);
        }
    }
    assert_eq!(ring.oldest_seq(), 142);
    assert!(ring.view().get(141).is_none() && ring.view().get(150).is_none());
    assert_eq!(ring.view().get(142).map(|f| f.seq.get()), Some(142));
}

#[test]
fn a_void_tail_is_forgotten_and_written_again() {
    let mut ring = Ring::new(8, 1);
    (1..=5).for_each(|seq| assert!(ring.push(&frame(seq))));
    assert!(ring.restart_at(3).is_empty());
    assert_eq!((ring.oldest_seq(), ring.next_seq()), (1, 3));
    assert!(ring.push(&frame(3)));
    assert_eq!(seqs(ring.view().slices(1, 9)), [1, 2, 3]);
}

#[test]
fn a_jump_forward_leaves_nothing_old() {
    let mut ring = Ring::new(8, 1);
    (1..=5).for_each(|seq| assert!(ring.push(&frame(seq))));
    assert!(ring.restart_at(40).is_empty());
    assert_eq!((ring.oldest_seq(), ring.next_seq()), (40, 40));
    assert!(seqs(ring.view().slices(1, 9)).is_empty());
}

#[test]
fn a_writer_waits_for_the_last_reader_and_for_nothing_else() {
    let (mut ring, mut readers) = Ring::shared(8, 100, 2);
    let push = |ring: &mut Ring| {
        let seq = ring.next_seq();
        ring.push(&frame(seq))
    };
    assert_eq!((0..20).filter(|_| push(&mut ring)).count(), 8, "the gates stand at the start");
    assert!(readers[0].advance(u64::MAX, |_| {}));
    assert!(!push(&mut ring), "the other one has not moved");
    assert!(readers[1].advance(106, |_| {}));
    assert_eq!((0..20).filter(|_| push(&mut ring)).count(), 2, "106 keeps 102 and on");
    assert_eq!(seqs(readers[1].view().slices(0, 9)), [102, 103, 104, 105]);
    drop(readers.pop());
    assert_eq!((0..20).filter(|_| push(&mut ring)).count(), 2, "108 keeps 104 and on");
}

#[test]
fn a_reader_sees_each_frame_once_and_nothing_that_it_has_not_taken_in() {
    let (mut ring, mut readers) = Ring::shared(8, 1, 1);
    let reader = &mut readers[0];
    let mut seen = Vec::new();
    for seq in 1..=40 {
        assert!(ring.push(&frame(seq)));
        assert_eq!(reader.view().next_seq(), seen.len() as u64 + 1);
        if seq % 3 == 0 {
            reader.advance(u64::MAX, |frame| seen.push(frame.seq.get()));
        }
        let held = seqs(reader.view().slices(0, 9));
        assert_eq!(
            held,
            (reader.view().oldest_seq()..reader.view().next_seq()).collect::<Vec<_>>()
        );
    }
    assert_eq!(seen, (1..=39).collect::<Vec<_>>());
}

#[test]
fn a_restart_leaves_readers_what_they_look_at_until_they_let_go() {
    let (mut ring, mut readers) = Ring::shared(8, 1, 1);
    for seq in 1..=6 {
        assert!(ring.push(&frame(seq)));
    }
    let mut old = readers.remove(0);
    old.advance(u64::MAX, |_| {});
    let mut new = ring.restart_at(4).remove(0);
    assert!(!ring.has_room(), "or there would be ever more rings");
    assert!(!ring.push(&frame(4)));
    assert_eq!(seqs(old.view().slices(0, 9)), [3, 4, 5, 6], "what became void is still whole");
    drop(old);
    assert!(ring.push(&frame(4)));
    let mut seen = Vec::new();
    new.advance(u64::MAX, |frame| seen.push(frame.seq.get()));
    assert_eq!(seen, [4]);
    assert_eq!(seqs(new.view().slices(0, 9)), [1, 2, 3, 4], "what is not void came along");
    assert_eq!(seqs(ring.view().slices(0, 9)), [1, 2, 3, 4]);
}
