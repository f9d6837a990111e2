//! What the broker measures of its deliveries.

use std::time::Duration;

use super::*;
use crate::node::Timed as _;

fn told(bench: &Bench) -> Vec<String> {
    Service::status(&bench.broker, bench.now).told()
}

fn received_at(seq: u64, ts_recv: u64) -> Frame {
    let trade = Trade { ts_recv: U64::new(ts_recv), ..Trade::default() };
    Frame::seal(Trade { seq: U64::new(seq), instrument: instrument(0).into(), ..trade })
}

#[test]
fn the_first_frame_of_a_turn_is_measured_to_its_end_and_only_for_subscribers() {
    let mut bench = Bench::new(16);
    bench.now.wall_ns = 1_000_000_000;
    let publisher = bench.market();
    let length = Duration::from_micros(40);
    bench.broker.handle_turn_end(bench.now, length);
    bench.deliver(publisher, &[received_at(3, 999_990_000)]);
    bench.broker.handle_turn_end(bench.now, length);
    assert!(told(&bench).contains(&"delivery_us.count 0".to_owned()), "nobody was sent it");

    bench.subscribe("*", Mode::Lossless, 0);
    bench.deliver(publisher, &[received_at(4, 999_950_000), received_at(5, 999_999_000)]);
    bench.broker.handle_turn_end(bench.now, length);
    // A turn without frames says nothing, and a clock of core that goes ahead counts as no time.
    bench.broker.handle_turn_end(bench.now, length);
    bench.deliver(publisher, &[received_at(6, 2_000_000_000)]);
    bench.broker.handle_turn_end(bench.now, length);
    let told = told(&bench);
    for figure in [
        "delivery_us.count 2",
        "delivery_us.sum 130",
        "delivery_us.le_30 0",
        "delivery_us.le_100 2",
        "subscribers.lossless 1",
        "subscribers.conflate 0",
    ] {
        assert!(told.contains(&figure.to_owned()), "{figure}: {told:?}");
    }
}

#[test]
fn who_leaves_is_counted_in_no_mode() {
    let mut bench = Bench::new(16);
    bench.market();
    let subscriber = bench.subscribe("*", Mode::Conflate, 0);
    assert!(told(&bench).contains(&"subscribers.conflate 1".to_owned()), "{:?}", told(&bench));
    bench.broker.handle_close(bench.now, subscriber, CloseReason::PeerClosed);
    assert!(told(&bench).contains(&"subscribers.conflate 0".to_owned()), "{:?}", told(&bench));
}
