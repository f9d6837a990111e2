//! Who asks for the present is not shown the past: a broker that was started again has to have what core had,
//! before anybody's subscription stands. The broker's own tests hold each step of it; here all of it comes over a
//! slow network, on one reactor and on several.

use pregao::wire::{Mode, Seq};

use crate::client::ClientConfig;
use crate::faults::Fault;
use crate::hosts::Spec;
use crate::net::Weather;
use crate::road::{MS, Options, Road, address};

/// A broker dies in a quiet market, and catches up while subscribers come.
pub(crate) fn a_broker_that_catches_up_shows_nobody_the_past() {
    for further_reactors in [0, 1] {
        let options = Options { further_reactors, ..Options::new(4) };
        let mut road = Road::new(&options);
        road.settle(0, 10_000);
        let journal = road.stored(road.core);
        let head = journal.last().map_or(0, |frame| frame.next_seq().get());
        road.world.weather =
            Weather { delay_grains_max: 400, buffer_bytes: (64, 128), ..Weather::FAIR };
        road.world.fault(Fault::Kill(road.broker, 50 * MS));
        let now_ns = road.world.now_ns();
        let late = [Mode::Lossless, Mode::Latest, Mode::Lossless, Mode::Latest].map(|mode| {
            let config = ClientConfig { mode, ..ClientConfig::good(vec![("*", 0)], 0) };
            road.world.add("late", address(1), Spec::Client(config))
        });
        road.world.run_until(now_ns + 60_000 * MS);
        for host in late {
            let client = road.world.client(host);
            road.world.hold(client.live_from >= Some(head), "the-present-is-the-present", || {
                format!("live from {:?}, and core was at {head}", client.live_from)
            });
            let old = client.frames.iter().find(|frame| frame.seq() < Seq::new(head));
            road.world.hold(old.is_none(), "the-present-is-the-present", || {
                format!("{old:?} as a new frame, and core was at {head}")
            });
        }
    }
}
