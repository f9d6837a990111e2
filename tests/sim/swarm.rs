//! Many seeds: days without end, the planted bugs, and the seeds that once failed.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use pregao::planted::{Bug, plant};
use pregao::wire::Frame;

use crate::counts::{Counts, FILLERS};
use crate::fresh;
use crate::plan::{Day, Wish};
use crate::road::plain;
use crate::run::{Report, finish, live, run};

/// Days of a plain test run.
const SEEDS: u64 = 500;
/// No planted bug may hide for longer.
const SEEDS_PER_BUG_MAX: u64 = 1_000;
/// Failures that a long run collects before it gives up.
const FAILURES_MAX: usize = 20;

/// Seeds that once failed, by what they showed. What a seed means changes with the plan and with the
/// machines; what these found is also held by tests of the machines themselves.
pub(crate) const REGRESSIONS: [(&str, u64); 8] = [
    ("a_hole_before_the_place_of_a_wrong_heartbeat_is_not_told", 8_632),
    ("a_rogue_feeder_makes_a_shard_fresh", 9_570),
    ("an_empty_snapshot_of_a_rogue_is_kept_for_the_markets", 1_894),
    ("a_common_cut_from_before_a_node_came_back_is_taken_for_new", 2_118),
    ("a_log_that_cannot_note_its_place_is_taken_for_fresh", 2_885),
    ("core_asks_itself_for_a_mark_that_is_not_committed", 10_662),
    ("a_value_that_a_void_one_stood_for_is_not_sent", 36_653),
    ("a_shard_that_forgot_an_epoch_voids_what_others_have", 37_135),
];

/// The same of a time when days had no further reactors and no rogues. They run without.
pub(crate) const OLD_REGRESSIONS: [(&str, u64); 8] = [
    ("a_conflated_batch_hides_a_loss_behind_values_from_ahead_of_the_ring", 5),
    ("a_full_feed_takes_system_frames_for_the_markets_after_a_replay", 26),
    ("a_broker_overtaken_by_the_trimming_does_not_know_a_new_instrument", 301),
    ("a_replay_that_breaks_off_does_not_say_where_it_began", 3_000_911),
    ("a_first_snapshot_that_broke_off_is_counted_from", 3_002_586),
    ("a_broker_behind_a_hole_hands_out_an_old_quote_as_current", 10_105_491),
    ("a_broker_behind_a_hole_hands_out_an_old_trade_as_current", 10_110_448),
    ("a_conflated_value_that_core_stated_again_comes_as_of_a_snapshot", 30_148_517),
];

thread_local! {
    static PANIC_TEXT: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Keeps what a panic says for whoever catches it, and out of the way of everybody else.
pub(crate) fn catch_panics() {
    std::panic::set_hook(Box::new(|info| {
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        let payload = info.payload();
        let text = payload
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| payload.downcast_ref::<&str>().copied())
            .unwrap_or("a panic without words");
        let text =
            if text.starts_with('[') { text.to_owned() } else { format!("{text} ({place})") };
        PANIC_TEXT.with(|said| *said.borrow_mut() = text);
    }));
}

/// Runs something that may panic; what it said then.
pub(crate) fn attempt<T>(what: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(what)).map_err(|_| PANIC_TEXT.with(|said| said.borrow().clone()))
}

/// Calls `each` with all numbers below `count`, in several threads.
fn spread(count: u64, jobs: usize, each: impl Fn(u64) + Sync) {
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return;
                    }
                    each(number);
                }
            });
        }
    });
}

/// What many days came to.
#[derive(Default)]
struct Sum {
    days: u64,
    virtual_ns: u64,
    turns: u64,
    faults: u64,
    voids: u64,
    answers: u64,
    failures: u64,
    counts: Counts,
}

impl Sum {
    fn add(&mut self, report: &Report) {
        self.days += 1;
        self.virtual_ns += report.virtual_ns;
        self.turns += report.turns;
        self.faults += report.faults;
        self.voids += report.voids;
        self.answers += report.answers;
        self.failures += report.failures;
        self.counts.add(&report.counts);
    }
}

/// How to see a failure again.
pub(crate) fn replay(seed: u64, bug: Option<Bug>) -> String {
    let bug = bug.map_or(String::new(), |bug| format!(" --bug {bug:?}"));
    format!("cargo sim -- --seed {seed} --log{bug}")
}

/// Runs days from `first` on. `false` when one of them showed a violation.
pub(crate) fn days(first: u64, count: u64, jobs: usize) -> bool {
    run_days(first, count, jobs).is_some()
}

/// The same, and what was counted when none did.
fn run_days(first: u64, count: u64, jobs: usize) -> Option<Counts> {
    let begun = Instant::now();
    let sum = Mutex::new(Sum::default());
    let failed = AtomicUsize::new(0);
    spread(count, jobs, |number| {
        if failed.load(Ordering::Relaxed) >= FAILURES_MAX {
            return;
        }
        let seed = first + number;
        match attempt(|| run(seed, Wish::default())) {
            Ok(report) => sum.lock().unwrap().add(&report),
            Err(text) => {
                failed.fetch_add(1, Ordering::Relaxed);
                println!("seed {seed}: {text}\n    {}", replay(seed, None));
            }
        }
    });
    let sum = sum.into_inner().unwrap();
    let seconds = begun.elapsed().as_secs_f64();
    let failed = failed.into_inner();
    println!(
        "{} days of {}, {failed} failed; {:.1} simulated hours, {} turns, {} faults, {} voids, {} \
         answers, {} failed disks; {seconds:.1} s, {:.1} days a second",
        sum.days,
        count,
        sum.virtual_ns as f64 / 3.6e12,
        sum.turns,
        sum.faults,
        sum.voids,
        sum.answers,
        sum.failures,
        count as f64 / seconds,
    );
    println!("{}", sum.counts);
    (failed == 0).then_some(sum.counts)
}

/// The days of a plain test run.
pub(crate) fn bad_days(jobs: usize) {
    let counts = run_days(0, SEEDS, jobs).expect("a day showed a violation");
    // What never has an effect is not tested by these days.
    for (name, count) in counts.by_name() {
        // Only frames that are lent by the ring can be overtaken in the middle of a message. What a browser gets when it comes
        // back is copied since it may come from the journal, and live messages are too short in these days. The gateway's own
        // tests overtake one.
        assert!(count > 0 || name == FILLERS, "{SEEDS} days without {name}");
    }
}

/// The scenario that has what a bug needs, and days have not.
fn scenario_for(bug: Bug) -> Option<fn()> {
    use crate::{rogues, tapes};
    match bug {
        Bug::ConflateOnePiece => Some(crate::many::a_conflated_batch_of_thousands_is_whole),
        Bug::TakeSealForEnd => Some(crate::operators::a_journal_without_its_end_is_refused),
        Bug::TakeAnyPartition => Some(crate::operators::another_partition_is_refused_or_moved),
        Bug::MergeDropsLast => Some(crate::operators::a_lost_journal_comes_back_from_the_shards),
        // Days find it too, but only one in hundreds.
        Bug::SyncOneFound => {
            Some(crate::reopen::what_an_open_takes_for_durable_survives_a_loss_of_power)
        }
        Bug::PrefixIndexMissesNeighbour | Bug::JoinInOneTurn => {
            Some(crate::patterns::thousands_of_patterns_meet_thousands_of_instruments)
        }
        Bug::FreshWithoutFeeder | Bug::TrustWhoIsBehind => {
            Some(fresh::no_answer_of_a_node_that_nobody_feeds_is_complete)
        }
        Bug::AnswerProbeAhead => Some(fresh::a_shard_that_catches_up_is_behind),
        Bug::TakeAnyFeed | Bug::LongerFeedIsOther => {
            Some(crate::feeds::another_tape_is_refused_and_a_longer_one_continues)
        }
        Bug::UnitsMayChange => Some(crate::feeds::an_instrument_keeps_the_units_of_its_quantities),
        Bug::SickExchangeNotTold => {
            Some(crate::exchanges::one_sick_exchange_makes_only_its_own_quotes_stale)
        }
        // Days find them too, but only one in hundreds.
        Bug::ForgetAccepted | Bug::AckBeforeSync => {
            Some(crate::lines::lines_are_journaled_once_though_core_dies)
        }
        Bug::ForgetLeftFeed => Some(crate::exchanges::feeds_of_one_exchange_take_turns),
        Bug::SilenceNotTold => Some(crate::exchanges::who_is_silent_for_longer_than_usual_is_told),
        Bug::NameOfTheFirst | Bug::NameByEventTime | Bug::PublisherForgotten => {
            Some(tapes::names_are_those_of_the_file_at_that_time)
        }
        Bug::PrintsToldTwice => Some(tapes::a_print_that_two_files_tell_is_journaled_once),
        Bug::PaceByEventTime | Bug::DaysSideBySide => {
            Some(tapes::a_replay_takes_as_long_as_the_recording)
        }
        Bug::FirstMemberOnly => Some(tapes::a_container_of_several_members_is_read_to_its_end),
        Bug::TakeReservedNames => Some(tapes::nobody_outside_defines_the_names_of_the_system),
        Bug::CancelNewest | Bug::LateBarSplit | Bug::LateTradeNotTold | Bug::BarsBeginWhole => {
            Some(crate::bars::live_bars_and_those_of_history_are_one)
        }
        Bug::LeftOutInSilence => Some(crate::bars::a_figure_says_what_it_leaves_out),
        Bug::ConfirmWhileCatchingUp => {
            Some(crate::present::a_broker_that_catches_up_shows_nobody_the_past)
        }
        Bug::StaleNotTold | Bug::LiveAgainNotTold => {
            Some(fresh::a_dead_feed_is_told_and_so_is_its_return)
        }
        Bug::DisplaceTheLiving => Some(rogues::a_living_feeder_keeps_its_seat),
        Bug::BelieveAnyAck => Some(rogues::a_rogue_follower_makes_core_forget_nothing),
        Bug::TrustHeartbeatsForGood | Bug::FollowAnyEpoch => {
            Some(rogues::a_rogue_feeder_takes_nothing_away)
        }
        Bug::TakeShortReplayForWhole => Some(rogues::nobody_goes_live_where_core_never_was),
        Bug::JumpWithoutNotice => Some(rogues::a_rogue_publisher_is_forgotten),
        Bug::KeepWhatNobodySent => Some(rogues::a_rogue_publisher_that_announces_is_forgotten),
        Bug::TakeEveryReport => Some(rogues::a_flood_of_reports_is_bounded),
        Bug::WaitingTakesAll => Some(rogues::questions_about_the_future_end_soon),
        Bug::NoShares => Some(rogues::greedy_peers_leave_room_for_others),
        Bug::KeepTheUnread => Some(rogues::who_reads_nothing_is_closed),
        _ => None,
    }
}

/// The days that have what a bug needs: on most of them all directories are the right ones.
fn day_for(bug: Bug) -> fn(u64) {
    match bug {
        Bug::AcceptUnknownFeed | Bug::SkipLineageLookup | Bug::ReuseEpochId => crate::identity::run,
        _ => |seed| {
            let _ = run(seed, Wish::default());
        },
    }
}

/// A planted bug is found, and by an invariant, not by luck.
pub(crate) fn is_found(bug: Bug) {
    plant(Some(bug));
    let (found, within) = if let Some(scenario) = scenario_for(bug) {
        let found = attempt(scenario).err();
        (found.map(|text| ("in a scenario of its own".to_owned(), text)), "its scenario".to_owned())
    } else {
        let day = day_for(bug);
        let found = (0..SEEDS_PER_BUG_MAX)
            .find_map(|seed| attempt(|| day(seed)).err().map(|text| (seed, text)));
        let found = found.map(|(seed, text)| (format!("after {} seeds", seed + 1), text));
        (found, format!("{SEEDS_PER_BUG_MAX} seeds"))
    };
    plant(None);
    let Some((place, text)) = found else {
        panic!("planted {bug:?}: NOT found in {within}");
    };
    let text: String = text.chars().take(90).collect();
    println!("planted {bug:?}: found {place} by {text}");
    assert!(text.starts_with('['), "no invariant found {bug:?}, but: {text}");
}

/// Whatever happens is decided by the seed.
pub(crate) fn the_same_seed_is_the_same_day() {
    let seeds = 0..20;
    let run = |seed| attempt(|| run(seed, Wish::default()));
    let first: Vec<_> = seeds.clone().map(run).collect();
    let second: Vec<_> = seeds.map(run).collect();
    assert_eq!(first, second);
    let mut hashes: Vec<u64> = first.iter().flatten().map(|report| report.hash).collect();
    hashes.sort_unstable();
    hashes.dedup();
    assert_eq!(hashes.len(), first.len(), "two seeds are the same day");
}

/// A frame but for how it was handed out and the moment of its receipt: core may have been busy with
/// somebody else's question then.
fn content(frame: &Frame) -> Frame {
    let mut content = plain(frame);
    content.ts_recv = 0.into();
    content.crc = 0.into();
    content
}

/// The last frame of each instrument and kind.
fn last_of_each(frames: &[Frame]) -> Vec<Frame> {
    let key = |frame: &Frame| (frame.instrument.get(), frame.kind);
    let last: BTreeMap<(u32, u8), Frame> = frames.iter().map(|it| (key(it), *it)).collect();
    last.into_values().collect()
}

/// A subscriber that does not read changes no frame that anybody else gets. Who conflates gets the same last values: when
/// a batch goes out depends on what else can wait in that turn.
pub(crate) fn a_stalled_subscriber_changes_nobody_else() {
    for seed in 0..25 {
        let delivered = |no_stall| {
            let wish = Wish { no_stall, no_faults: true, ..Wish::default() };
            let mut day = Day::new(seed, wish);
            live(&mut day);
            let world = &day.road.world;
            let others =
                day.clients.iter().filter(|&&host| !world.hosts[host].name.starts_with("stalled"));
            let frames: Vec<_> = others
                .map(|&host| {
                    let client = world.client(host);
                    let frames: Vec<Frame> = client.frames.iter().map(content).collect();
                    let name = world.hosts[host].name.clone();
                    match name.contains("conflating") {
                        true => (name, last_of_each(&frames)),
                        false => (name, frames),
                    }
                })
                .collect();
            finish(&mut day);
            frames
        };
        let (stalled, read) = (delivered(false), delivered(true));
        for ((name, with), (_, without)) in stalled.iter().zip(&read) {
            assert!(
                with == without,
                "[a-stall-is-nobody-elses] seed {seed}: {name} got {} frames beside a stalled \
                 subscriber and {} beside one that reads",
                with.len(),
                without.len()
            );
        }
        assert_eq!(stalled.len(), read.len());
    }
}
