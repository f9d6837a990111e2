//! What the exchange plays is changed between two starts: another recording is not stored behind the first one, and a
//! longer one goes on where the first one ended.

use pregao::market::tape::Schedule;
use pregao::node::external::{ExternalConfig, FeedConfig};
use pregao::wire::Frame;

use crate::faults::Fault;
use crate::hosts::Spec;
use crate::road::{FRACTIONS, MS, Options, Road, schedule, schedule_in};

/// The exchange starts again with another tape.
fn replay(road: &mut Road, events: u64, seed: u64) {
    play(road, schedule(events, 4 * MS, seed));
}

fn play(road: &mut Road, schedule: Schedule) {
    let feed = FeedConfig::Tapes { schedule, looped: false };
    let host = &mut road.world.hosts[road.exchange];
    if let Spec::External(config) = &host.spec {
        host.spec = Spec::External(ExternalConfig { feed, ..config.clone() });
    }
    road.world.fault(Fault::Kill(road.exchange, 50 * MS));
}

fn market(road: &Road) -> Vec<Frame> {
    let mut journal = road.stored(road.core);
    // The system's own topics are defined when there is something to say on them.
    journal.retain(Frame::has_exchange);
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
        let (kept, events) = (market(&road).len(), road.schedule.frames().len());
        let events = events - road.schedule.definitions();
        road.world
            .hold(kept == events, "a-longer-tape-goes-on", || format!("{kept} events of {events}"));
        let gaps =
            market(&road).iter().filter(|frame| frame.has(pregao::wire::Flags::GAP_BEFORE)).count();
        road.world.hold(gaps == 0, "a-longer-tape-has-no-gap", || format!("{gaps} gaps"));
        road.verify();
    }
}

/// Core is to take another tape, and does not take one that counts an instrument's quantities in other units.
pub(crate) fn an_instrument_keeps_the_units_of_its_quantities() {
    for seed in 0..3 {
        let mut road = Road::new(&Options { events: 100, pace_ns: 4 * MS, ..Options::new(seed) });
        road.settle(0, 20_000);
        let host = &mut road.world.hosts[road.core];
        if let Spec::Core(config, _) = &mut host.spec {
            config.appends = true;
        }
        road.world.fault(Fault::Kill(road.core, 50 * MS));
        let now_ms = road.world.now_ns() / MS;
        road.run_until_ms(now_ms + 2_000);
        let before = market(&road);
        play(&mut road, schedule_in(FRACTIONS - 2, 100, 4 * MS, seed + 1_000));
        let now_ms = road.world.now_ns() / MS;
        road.run_until_ms(now_ms + 8_000);
        let after = market(&road);
        road.world.hold(before == after, "an-instrument-keeps-its-units", || {
            format!("{} frames, and {} before the tape in other units", after.len(), before.len())
        });
        // In its own units it is taken: that it is another tape is no reason here.
        replay(&mut road, 100, seed + 1_000);
        let now_ms = road.world.now_ns() / MS;
        road.run_until_ms(now_ms + 8_000);
        let taken = market(&road).len();
        road.world
            .hold(taken > before.len(), "another-tape-is-appended", || format!("{taken} frames"));
    }
}
