//! A tape that was fetched again and is longer.

use super::*;

#[test]
fn a_longer_tape_takes_up_who_followed_the_shorter_one() {
    let before = schedule(&[0, 40]).identity();
    let session = |feed, wanted| {
        let mut bench = Bench::new(tapes(&[0, 40, 50], false), Speed::Max);
        let conn = bench.connect(feed, wanted);
        let frames = bench.read(conn);
        (*frames[0].view::<Session>().unwrap(), seqs(&frames))
    };
    let feed = schedule(&[0, 40, 50]).identity();
    for place in [4, 5, 1] {
        let (session, seqs) = session(before, place);
        assert_eq!((session.feed.get(), session.next_seq.get()), (feed, place));
        assert!(session.has(Session::CONTINUES));
        assert_eq!((session.epoch_start.get(), seqs.last()), (place, Some(&5)));
    }
    for (other, wanted) in [(before, 6), (before ^ 2, 4), (feed, 4), (0, 1)] {
        let (session, _) = session(other, wanted);
        assert!(!session.has(Session::CONTINUES), "{other:x} from {wanted}");
    }
}
