//! What the exchange plays is changed between two starts: another recording is not stored behind the first one, and a
//! longer one goes on where the first one ended.

use pregao::node::external::{ExternalConfig, FeedConfig};
use pregao::wire::{Frame, Kind};

use crate::faults::Fault;
use crate::hosts::Spec;
use crate::road::{MS, Options, Road, schedule};

/// The exchange starts again with another tape.
fn replay(road: &mut Road, events: u64, seed: u64) {
    let feed = schedule(events, 4 * MS, seed);
    let feed = FeedConfig::Tapes { schedule: feed, looped: false };
    let host = &mut road.world.hosts[road.exchange];
    if let Spec::External(config) = &host.spec {
        host.spec = Spec::External(ExternalConfig { feed, ..config.clone() });
    }
    road.world.fault(Fault::Kill(road.exchange, 50 * MS));
}

fn market(road: &Road) -> Vec<Frame> {
    let mut journal = road.stored(road.core);
    // The system's own topic is defined when there is something to say on it.
    let is_event = |kind: u8| kind != Kind::BreakerChange as u8 && kind != Kind::Definition as u8;
    journal.retain(|frame| is_event(frame.kind));
    journal
}

pub(crate) fn another_tape_is_refused_and_a_longer_one_continues() {
    for seed in 0..4 {
        let mut road = Road::new(&Options { events: 100, pace_ns: 4 * MS, ..Options::new(seed) });
        road.settle(0, 20_000);
        let before = market(&road);
        replay(&mut road, 100, seed + 1_000);
        let now_ms = road.world.now_ns() / MS;
        road.run_until_ms(now_ms + 8_000);
        let after = market(&road);
        road.world.hold(before == after, "a-journal-holds-one-recording", || {
            format!("{} frames, and {} before the other tape", after.len(), before.len())
        });
        replay(&mut road, 180, seed);
        road.schedule = schedule(180, 4 * MS, seed);
        let now_ms = road.world.now_ns() / MS;
        road.settle(now_ms, 60_000);
        let gaps =
            market(&road).iter().filter(|frame| frame.has(pregao::wire::Flags::GAP_BEFORE)).count();
        road.world.hold(gaps == 0, "a-longer-tape-has-no-gap", || format!("{gaps} gaps"));
        road.verify();
    }
}
