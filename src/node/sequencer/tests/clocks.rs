//! Receive times under a wall clock that is wrong.

use super::*;

#[test]
fn receive_times_never_go_back_whatever_the_clock_does() {
    let mut bench = Bench::new();
    let conn = bench.market();
    bench.deliver(conn, &[quote(3, 0)]);
    bench.now.wall_ns -= 500_000;
    bench.deliver(conn, &[quote(4, 0)]);
    let mut bench = bench.restart();
    bench.now.wall_ns = 3;
    let conn = bench.exchange(FEED, 5, &[ahead(0, "PETR4")]);
    bench.deliver(conn, &[quote(5, 0)]);
    bench.now.wall_ns = 2_000_000;
    bench.now.mono = bench.now.mono + Duration::from_millis(10);
    bench.deliver(conn, &[quote(6, 0)]);
    // A step of three days, and back: both are followed, slowly.
    let second = Duration::from_secs(1);
    for (seq, step_ns) in [(7, 3 * 86_400_000_000_000), (8, -3 * 86_400_000_000_000)] {
        bench.now.wall_ns = (bench.now.wall_ns + 1_000_000_000).saturating_add_signed(step_ns);
        bench.now.mono = bench.now.mono + second;
        bench.deliver(conn, &[quote(seq, 0)]);
        bench.turn();
    }
    let times: Vec<u64> = bench.journaled().iter().map(|f| f.ts_recv.get()).collect();
    assert!(times.is_sorted(), "{times:?}");
    assert_eq!(times[times.len() - 3..], [2_000_000, 2_002_000_000, 2_064_500_000]);
}

#[test]
fn a_clock_behind_the_journal_is_said_and_believed_once_it_is_set() {
    let mut bench = Bench::new();
    bench.now.wall_ns = 90_000_000_000;
    let mut bench = bench.restart();
    let conn = bench.market();
    bench.deliver(conn, &[quote(3, 0)]);
    bench.now.wall_ns = 7;
    let mut bench = bench.restart();
    bench.turn();
    let says = |bench: &Bench, text: &str| {
        let logged =
            |action: &Action| matches!(action, Action::Log(_, line) if line.contains(text));
        bench.actions.iter().any(logged)
    };
    assert!(says(&bench, "receive times: the wall clock is 89 s behind"), "{:?}", bench.actions);
    bench.now.wall_ns = 100_000_000_000;
    bench.turn();
    assert!(says(&bench, "is believed"), "{:?}", bench.actions);
}
