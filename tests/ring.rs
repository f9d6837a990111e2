//! The two halves of the ring on real threads: what the model beside it cannot show is what the compiler
//! and the processor make of the atomics.

use pregao::feed::{Ring, Window};
use pregao::wire::{Frame, U64};

/// What cannot be in two frames at once.
fn stamped(seq: u64) -> Frame {
    let number = U64::new(seq);
    Frame { seq: number, ts_event: number, ts_recv: number, ..Frame::ZERO }
}

#[test]
fn threads_never_see_a_torn_or_a_missing_frame() {
    // Miri takes a millisecond a step, and finds in hundreds what a processor may not show in millions.
    const FRAMES: u64 = if cfg!(miri) { 200 } else { 300_000 };
    const SLOTS: usize = if cfg!(miri) { 8 } else { 64 };
    let (mut ring, readers) = Ring::shared(SLOTS, 1, 2);
    std::thread::scope(|scope| {
        for mut reader in readers {
            scope.spawn(move || {
                let mut next = 1;
                while next <= FRAMES {
                    let before = next;
                    reader.advance(u64::MAX, |frame| {
                        assert!(*frame == stamped(next), "{next}");
                        next += 1;
                    });
                    // As subscribers do: everything in the window, again.
                    let view = reader.view();
                    let (head, tail) = view.slices(0, usize::MAX);
                    let is_right = |(seq, frame): (u64, &Frame)| *frame == stamped(seq);
                    assert!((view.oldest_seq()..).zip(head.iter().chain(tail)).all(is_right));
                    if next == before {
                        std::thread::yield_now();
                    }
                }
            });
        }
        for seq in 1..=FRAMES {
            while !ring.push(&stamped(seq)) {
                std::thread::yield_now();
            }
        }
    });
}
