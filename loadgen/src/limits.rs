//! Bounds of the load generator, decided before anything is built on them.

use pregao::wire::InstrumentIndex;
use std::time::Duration;

/// Bytes that one read asks the kernel for. Shared by all subscribers of a thread.
pub(crate) const READ_BYTES: usize = 256 * 1024;
/// Reads of one subscriber before its neighbours get their turn.
pub(crate) const READS_PER_TURN_MAX: usize = 4;
/// Longest incomplete message that a subscriber may leave behind: payload, topic and headers of the
/// most talkative protocol have room in it many times over.
pub(crate) const CARRY_BYTES_MAX: usize = 16 * 1024;
/// Readiness events taken at once.
pub(crate) const EVENTS_MAX: usize = 4096;
/// Connects between two waits for confirmations: below every target's accept backlog.
pub(crate) const CONNECTS_AT_ONCE: usize = 200;
/// How long a target may take to accept and confirm one batch of subscribers.
pub(crate) const CONFIRM_MAX: Duration = Duration::from_secs(15);
/// How long all subscribers together may take in `compare`: a target that takes longer is given up.
pub(crate) const CONNECT_ALL_MAX: Duration = Duration::from_secs(45);
/// The same in a single run, where nobody waits behind it.
pub(crate) const CONNECT_LONGEST: Duration = Duration::from_secs(600);
/// How long one connect may take.
pub(crate) const CONNECT_MAX: Duration = Duration::from_secs(5);
/// Subscribers that never read fall silent; all others say this often that they live.
pub(crate) const HEARTBEAT_EVERY: Duration = Duration::from_secs(10);
/// Longest sleep of a receiving thread: how soon it sees that the run is over.
pub(crate) const POLL_MAX: Duration = Duration::from_millis(20);
/// How often slow subscribers get what they may read.
pub(crate) const SLOW_TICK: Duration = Duration::from_millis(10);

/// Bytes that the publisher keeps for a socket that does not take them; it encodes no more.
pub(crate) const PUBLISH_PENDING_BYTES_MAX: usize = 256 * 1024;
/// Messages that the publisher encodes before it writes.
pub(crate) const PUBLISH_BATCH_MAX: u64 = 2_048;
/// Time between the last preparation and the first message.
pub(crate) const LEAD_IN: Duration = Duration::from_millis(50);
/// A run whose messages left this much after their time (99th percentile) did not offer its rate.
pub(crate) const BEHIND_MAX: Duration = Duration::from_millis(50);
/// A receiving thread that is busy or waits for a CPU for more than this share is saturated.
pub(crate) const BUSY_PERCENT_MAX: f64 = 90.0;

/// After the last message: how long deliveries may pause before the rest counts as lost.
pub(crate) const DRAIN_QUIET_MAX: Duration = Duration::from_millis(700);
/// After the last message: how long the run waits at all.
pub(crate) const DRAIN_MAX: Duration = Duration::from_secs(10);

/// The same for one trial of a search: what comes later than this was not sustained.
pub(crate) const TRIAL_DRAIN_MAX: Duration = Duration::from_secs(2);

/// One frame in so many has its checksum computed; the generator shares the CPUs with the target.
pub(crate) const CHECKSUM_EVERY: u64 = 64;
/// Messages of which the first and the last delivery are noted, spread over the run.
pub(crate) const SKEW_MESSAGES_MAX: u64 = 1 << 13;
/// Longest latency that the histograms hold; longer ones count as this.
pub(crate) const LATENCY_NS_MAX: u64 = 60_000_000_000;
/// Intervals of the time line; longer runs get longer intervals.
pub(crate) const INTERVALS_MAX: u32 = 600;

/// Instruments that a run may drive.
pub(crate) const INSTRUMENTS_MAX: u32 = 65_536;
/// Connections of one source address: the usual ephemeral range holds 28,232.
pub(crate) const CONNECTIONS_PER_ADDRESS: usize = 20_000;
/// Descriptors kept for everything that is no subscriber.
pub(crate) const DESCRIPTORS_SPARE: u64 = 64;

/// 99th percentile that `compare` calls sustained.
pub(crate) const SUSTAINED_P99_MAX: Duration = Duration::from_millis(250);
/// Trials of one search.
pub(crate) const TRIALS_MAX: u32 = 10;
/// Lower rates that are tried when the best one of a search does not hold again.
pub(crate) const CONFIRM_STEPS_MAX: u32 = 3;
/// The broker's ring in the hardship scenario: a stalled subscriber's sockets and this are full before
/// the run is over, and those of one that reads at half speed are not.
pub(crate) const HARDSHIP_RING_FRAMES: u32 = 4_096;
/// Shortest span of the scenarios about our broker alone.
pub(crate) const HARDSHIP_SPAN_MIN: Duration = Duration::from_secs(8);
/// Subscribers of the largest scenario; 20,000 descriptors are a common hard limit.
pub(crate) const MANY_SUBSCRIBERS: usize = 19_000;
/// Events a second of the market under the restart scenario.
pub(crate) const RESTART_RATE: u64 = 200;
/// How long subscribers may take to come back after a restart.
pub(crate) const RESTART_MAX: Duration = Duration::from_secs(30);
/// Dials in one turn of the restart scenario.
pub(crate) const DIALS_PER_TURN_MAX: usize = 200;
/// Ticks a second of the scenarios about those who can wait.
pub(crate) const TICKS_RATE: u64 = 1_000;
/// Instruments that tick there: no list of a joiner has one of them.
pub(crate) const TICKED_INSTRUMENTS: u32 = 100;
/// Longest that such a scenario can take; its ticks go on for as long as it does.
pub(crate) const TICKS_SPAN_MAX: Duration = Duration::from_hours(24);
/// Subscribers with long lists that join at once.
pub(crate) const JOINS: usize = 1_000;
/// Clients that read replays.
pub(crate) const REPLAY_READERS: [usize; 2] = [300, 1_000];
/// Frames of the journal that they read.
pub(crate) const JOURNAL_FRAMES: u64 = 200_000;
/// Rounds of such a scenario.
pub(crate) const ROUNDS: u16 = 5;
/// Shortest span of one of its phases: its 99th percentile has 40 ticks above it.
pub(crate) const PHASE_MIN: Duration = Duration::from_secs(4);
/// Time between two phases, in which a node closes those that have left.
pub(crate) const PHASE_REST: Duration = Duration::from_secs(1);
/// How long a peer may take to listen.
pub(crate) const PEER_START_MAX: Duration = Duration::from_secs(5);
/// How long a peer may take to stop before it is ended.
pub(crate) const PEER_STOP_MAX: Duration = Duration::from_secs(2);

const _: () = {
    assert!(CARRY_BYTES_MAX * 4 <= READ_BYTES);
    assert!(SKEW_MESSAGES_MAX.is_power_of_two() && CHECKSUM_EVERY.is_power_of_two());
    assert!(TICKED_INSTRUMENTS.is_multiple_of(10), "the prefixes of a list cover ten each");
    assert!(INSTRUMENTS_MAX <= InstrumentIndex::LAST.get(), "an instrument's index has 24 bits");
};
