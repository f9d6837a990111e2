//! A time that a wrong wall clock cannot move: it never falls, and it never runs far ahead.
//!
//! Receive times and the ages of a log come from here. The wall clock decides where such a time begins. From
//! then on the monotonic clock moves it, towards the wall clock, slowly.
//!
//! Invariant: between two readings the time goes on by at least a sixteenth and at most twice what the
//! monotonic clock goes on. The one exception is a [`Follow::Receipts`] time when the clock is believed.
//!
//! # Decisions
//!
//! * **Receive times follow every clock, and never jump.** After a step ahead that stood for some time they are
//!   ahead by no more than that time. They are true again after 16/15 of it, once the step is taken back. A clock
//!   that was three days ahead at the start and is set right is followed for 16/15 of three days. A step ahead that
//!   was right is made up for in as much time as it was long.
//! * **Ages refuse a step** of more than `step_max` while the process runs, ahead or back, however long it stands.
//!   Nobody here can know whether the clock was wrong before the step or is wrong after it, and what was removed
//!   does not come back. Ages need no right clock, only a steady one. The next start accepts the clock.
//! * **A clock that is behind at the start is not believed.** What was written last proves that it is wrong, or
//!   that it was wrong then. The time goes on from there at a sixteenth of its speed. The first reading that is
//!   not behind any more is believed. So receive times follow an NTP client at once that sets a clock of 1970
//!   right a minute after the start.
//! * **A clock that is ahead at the start is believed by receive times**, because the node may have been down
//!   for so long: every Monday is such a start. Start the system behind `time-sync.target`.
//! * **Ages do not jump at a start.** Time in which the node was down is made up for at double speed. So whatever
//!   the clock says, a minute of running makes nothing older by more than two minutes, and there is time to see
//!   that the clock is wrong.
//! * Time in which the machine slept is a step of the wall clock like any other.

use std::fmt;
use std::time::Duration;

use super::{Mono, Now, nanos};

/// At the fastest, the time goes on so many times as fast as the monotonic clock.
const FASTEST: u64 = 2;
/// At the slowest, by this part of it.
const SLOWEST: u64 = 16;

/// What a time is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follow {
    /// Receive times: they begin at the wall clock and go wherever it goes.
    Receipts,
    /// Ages: they begin where they were, and do not go where a step leads.
    Ages,
}

/// What the wall clock has done that somebody has to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClockChange {
    /// At the start it was so far behind what was written last. It is not believed.
    Behind(Duration),
    /// At the start it was so far ahead of what was written last. It is believed.
    Ahead(Duration),
    /// It has come up to the time again, or was set. It is believed.
    Believed,
    /// It has stepped. In all it is refused that it is so far ahead.
    RefusedAhead(Duration),
    /// It has stepped. In all it is refused that it is so far behind.
    RefusedBehind(Duration),
    /// The refused steps have been taken back.
    TakenBack,
}

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct SteadyTime {
    follow: Follow,
    step_max_ns: u64,
    /// Nanoseconds since the Unix epoch.
    time_ns: u64,
    read_at: Mono,
    /// The wall clock as it was read last.
    wall_ns: u64,
    /// How far refused steps have put the wall clock ahead.
    refused_ns: i64,
    /// The wall clock was behind at the start and is not believed yet.
    is_behind: bool,
    change: Option<ClockChange>,
}

impl SteadyTime {
    /// A time that begins now and not before `floor_ns`, which was written last; `None` when nothing was. A step
    /// of the wall clock of more than `step_max` is refused.
    #[must_use]
    pub fn start(
        follow: Follow,
        floor_ns: Option<u64>,
        step_max: Duration,
        now: Now,
    ) -> SteadyTime {
        let step_max_ns = nanos(step_max);
        let floor = floor_ns.unwrap_or(now.wall_ns);
        let is_behind = is_behind(now.wall_ns, floor, step_max_ns);
        let time_ns = match follow {
            Follow::Receipts if !is_behind => floor.max(now.wall_ns),
            _ => floor,
        };
        let change = if is_behind {
            Some(ClockChange::Behind(Duration::from_nanos(floor - now.wall_ns)))
        } else {
            let ahead_ns = now.wall_ns.saturating_sub(floor);
            let is_said = ahead_ns > step_max_ns;
            is_said.then_some(ClockChange::Ahead(Duration::from_nanos(ahead_ns)))
        };
        SteadyTime {
            follow,
            step_max_ns,
            time_ns,
            read_at: now.mono,
            wall_ns: now.wall_ns,
            refused_ns: 0,
            is_behind,
            change,
        }
    }

    /// From now on, steps of more than this are refused.
    pub fn set_step_max(&mut self, step_max: Duration) {
        self.step_max_ns = nanos(step_max);
    }

    /// Nanoseconds since the Unix epoch, as of the last reading.
    #[inline]
    #[must_use]
    pub fn time_ns(&self) -> u64 {
        self.time_ns
    }

    /// The wall clock, as of the last reading.
    #[must_use]
    pub fn wall_ns(&self) -> u64 {
        self.wall_ns
    }

    /// When the clocks were read last.
    #[must_use]
    pub fn read_at(&self) -> Mono {
        self.read_at
    }

    /// Takes the clocks of this turn in, and returns the time. It has to be called once a minute or so: it knows
    /// a step by the difference to the reading before.
    #[inline]
    pub fn read(&mut self, now: Now) -> u64 {
        // Many frames of one turn ask.
        if now.mono != self.read_at || now.wall_ns != self.wall_ns {
            self.go_on(now);
        }
        self.time_ns
    }

    fn go_on(&mut self, now: Now) {
        let elapsed = now.mono.0.saturating_sub(self.read_at.0);
        let expected = self.wall_ns.saturating_add(elapsed);
        self.read_at = self.read_at.max(now.mono);
        self.wall_ns = now.wall_ns;
        if self.is_behind {
            self.wait_for_the_clock(elapsed);
            return;
        }
        if now.wall_ns.abs_diff(expected) > self.step_max_ns {
            self.refuse_step(difference(now.wall_ns, expected));
        }
        let slowest = self.time_ns.saturating_add(elapsed / SLOWEST);
        let fastest = self.time_ns.saturating_add(elapsed.saturating_mul(FASTEST));
        self.time_ns = self.target_ns().clamp(slowest, fastest);
    }

    /// Where the time goes: to the wall clock, and as an age to where that was without the steps.
    fn target_ns(&self) -> u64 {
        match self.follow {
            Follow::Receipts => self.wall_ns,
            Follow::Ages => self.wall_ns.saturating_add_signed(self.refused_ns.saturating_neg()),
        }
    }

    #[cold]
    fn wait_for_the_clock(&mut self, elapsed: u64) {
        self.time_ns = self.time_ns.saturating_add(elapsed / SLOWEST);
        if is_behind(self.wall_ns, self.time_ns, self.step_max_ns) {
            return;
        }
        self.is_behind = false;
        self.change = Some(ClockChange::Believed);
        if self.follow == Follow::Receipts {
            self.time_ns = self.time_ns.max(self.wall_ns);
        }
    }

    #[cold]
    fn refuse_step(&mut self, step_ns: i64) {
        self.refused_ns = self.refused_ns.saturating_add(step_ns);
        let refused = Duration::from_nanos(self.refused_ns.unsigned_abs());
        self.change = Some(if nanos(refused) <= self.step_max_ns {
            // What is left of it is made up for like any small difference.
            self.refused_ns = 0;
            ClockChange::TakenBack
        } else if self.refused_ns > 0 {
            ClockChange::RefusedAhead(refused)
        } else {
            ClockChange::RefusedBehind(refused)
        });
    }

    /// What the wall clock has done since this was asked last. Of several changes, the last one.
    pub fn take_change(&mut self) -> Option<ClockChange> {
        self.change.take()
    }

    /// What is held against the wall clock at present.
    #[must_use]
    pub fn objection(&self) -> Option<ClockChange> {
        let refused = Duration::from_nanos(self.refused_ns.unsigned_abs());
        if self.is_behind {
            let behind_ns = self.time_ns.saturating_sub(self.wall_ns);
            Some(ClockChange::Behind(Duration::from_nanos(behind_ns)))
        } else if self.refused_ns > 0 {
            Some(ClockChange::RefusedAhead(refused))
        } else {
            (self.refused_ns < 0).then_some(ClockChange::RefusedBehind(refused))
        }
    }
}

/// Whether a clock is further behind a time than a step may go.
fn is_behind(wall_ns: u64, time_ns: u64, step_max_ns: u64) -> bool {
    wall_ns.saturating_add(step_max_ns) < time_ns
}

fn difference(a: u64, b: u64) -> i64 {
    let size = i64::try_from(a.abs_diff(b)).unwrap_or(i64::MAX);
    if a < b { -size } else { size }
}

impl ClockChange {
    /// Whether the wall clock is contradicted by what this process knows.
    #[must_use]
    pub fn is_objection(&self) -> bool {
        use ClockChange::{Behind, RefusedAhead, RefusedBehind};
        matches!(self, Behind(_) | RefusedAhead(_) | RefusedBehind(_))
    }
}

impl fmt::Display for ClockChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClockChange::Behind(by) => write!(
                f,
                "the wall clock is {} s behind what was written here last: it is not believed before it has \
                 come up to that or is set; set it, if it is wrong",
                by.as_secs()
            ),
            ClockChange::Ahead(by) => write!(
                f,
                "the wall clock is {} s ahead of what was written here last: taken for time without this node; \
                 ages make up for it at double speed",
                by.as_secs()
            ),
            ClockChange::Believed => f.write_str("the wall clock has come up, and is believed"),
            ClockChange::RefusedAhead(by) => refused(f, "ahead of", by.as_secs()),
            ClockChange::RefusedBehind(by) => refused(f, "behind", by.as_secs()),
            ClockChange::TakenBack => f.write_str("the step of the wall clock was taken back"),
        }
    }
}

fn refused(f: &mut fmt::Formatter<'_>, place: &str, seconds: u64) -> fmt::Result {
    write!(
        f,
        "the wall clock has stepped and is {seconds} s {place} the time since the start: refused, ages do not \
         follow it, and receive times only slowly; set the clock back if it is wrong, restart this node if it is \
         right now"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;
    const DAY: u64 = 86_400 * SECOND;
    const BEGIN: u64 = 1_700_000_000 * SECOND;
    const STEP_MAX: Duration = Duration::from_secs(10);

    /// So long after the start, with the wall clock so far from the truth.
    fn at(seconds: u64, skew_ns: i64) -> Now {
        let mono = Mono(seconds * SECOND);
        Now { mono, wall_ns: (BEGIN + mono.0).saturating_add_signed(skew_ns) }
    }

    fn days(count: i64) -> i64 {
        count * DAY as i64
    }

    fn started(follow: Follow) -> SteadyTime {
        SteadyTime::start(follow, None, STEP_MAX, at(0, 0))
    }

    #[test]
    fn ages_refuse_a_step_of_days_and_forget_it_when_it_is_taken_back() {
        for step in [3, -3] {
            let mut time = started(Follow::Ages);
            for second in 1..100 {
                assert_eq!(time.read(at(second, 0)), BEGIN + second * SECOND);
            }
            assert_eq!((time.take_change(), time.objection()), (None, None));
            for second in 100..200 {
                assert_eq!(time.read(at(second, days(step))), BEGIN + second * SECOND);
            }
            let by = Duration::from_nanos(3 * DAY);
            let refused = if step > 0 {
                ClockChange::RefusedAhead(by)
            } else {
                ClockChange::RefusedBehind(by)
            };
            assert_eq!((time.take_change(), time.objection()), (Some(refused), Some(refused)));
            assert_eq!(time.read(at(200, 0)), BEGIN + 200 * SECOND);
            assert_eq!(time.take_change(), Some(ClockChange::TakenBack));
            assert_eq!(time.objection(), None);
        }
    }

    #[test]
    fn receive_times_are_ahead_for_as_long_as_a_step_stood_and_come_back() {
        let mut time = started(Follow::Receipts);
        for second in 1..=60 {
            let read = time.read(at(second, days(3)));
            assert_eq!(read, BEGIN + 2 * second * SECOND, "ahead by no more than it stood");
        }
        let mut last = time.time_ns();
        for second in 61..=124 {
            let read = time.read(at(second, 0));
            assert!(read > last, "it never falls");
            last = read;
        }
        // 64 s are 16/15 of the minute that it stood.
        assert_eq!(last, BEGIN + 124 * SECOND);
        // A step back that is wrong costs no more than it stood either.
        for second in 125..=184 {
            time.read(at(second, days(-3)));
        }
        assert_eq!(time.read(at(244, 0)), BEGIN + 244 * SECOND);
    }

    #[test]
    fn a_clock_that_was_days_ahead_at_the_start_is_followed_back() {
        let start = at(0, days(3));
        let mut time = SteadyTime::start(Follow::Receipts, Some(BEGIN), STEP_MAX, start);
        let mut seconds = 0;
        while time.time_ns() > BEGIN + seconds * SECOND {
            seconds += 60;
            time.read(at(seconds, 0));
        }
        assert!(seconds * SECOND <= 3 * DAY / 15 * 16 + 60 * SECOND, "{seconds}");
        assert_eq!(time.read(at(seconds + 60, 0)), BEGIN + (seconds + 60) * SECOND);
    }

    #[test]
    fn a_small_step_is_made_up_for_within_sixteen_fifteenths_of_it() {
        let mut time = started(Follow::Receipts);
        time.read(at(100, 8 * SECOND as i64));
        assert_eq!(time.read(at(109, 8 * SECOND as i64)), BEGIN + 117 * SECOND, "it ran ahead");
        let mut last = time.time_ns();
        for tenth in 0..86 {
            let now = at(109, 0);
            let elapsed = tenth * SECOND / 10;
            let now = Now { mono: Mono(now.mono.0 + elapsed), wall_ns: now.wall_ns + elapsed };
            let read = time.read(now);
            assert!(read >= last && read >= now.wall_ns, "it never falls");
            last = read;
        }
        // 16/15 of 8 s are over.
        assert_eq!(time.read(at(118, 0)), BEGIN + 118 * SECOND);
        assert_eq!(time.take_change(), None);
    }

    #[test]
    fn many_small_steps_move_no_time_faster_than_double() {
        let mut time = started(Follow::Receipts);
        for second in 1..=1_000 {
            let read = time.read(at(second, second as i64 * 9 * SECOND as i64));
            assert!(read <= BEGIN + 2 * second * SECOND);
        }
    }

    #[test]
    fn time_without_the_node_is_believed_at_once_or_made_up_for_slowly() {
        let floor = Some(BEGIN - 3 * DAY);
        let mut receive = SteadyTime::start(Follow::Receipts, floor, STEP_MAX, at(0, 0));
        assert_eq!(receive.read(at(1, 0)), BEGIN + SECOND);
        assert_eq!(receive.take_change(), Some(ClockChange::Ahead(Duration::from_nanos(3 * DAY))));
        let mut age = SteadyTime::start(Follow::Ages, floor, STEP_MAX, at(0, 0));
        assert_eq!(age.read(at(60, 0)), BEGIN - 3 * DAY + 120 * SECOND);
        // It was wrong, and NTP takes it back a minute later.
        assert_eq!(age.read(at(61, days(-3))), BEGIN - 3 * DAY + 122 * SECOND);
        assert!(age.read(at(600, days(-3))) <= BEGIN - 3 * DAY + 1_200 * SECOND);
    }

    #[test]
    fn a_clock_that_is_behind_at_the_start_is_believed_once_it_is_set() {
        let mut time = SteadyTime::start(
            Follow::Receipts,
            Some(BEGIN),
            STEP_MAX,
            Now { mono: Mono(0), wall_ns: 7 },
        );
        assert!(matches!(time.take_change(), Some(ClockChange::Behind(_))));
        let read = time.read(Now { mono: Mono(60 * SECOND), wall_ns: 7 + 60 * SECOND });
        assert_eq!(read, BEGIN + 60 * SECOND / 16);
        assert_eq!(time.read(at(61, days(2))), BEGIN + 61 * SECOND + 2 * DAY);
        assert_eq!((time.take_change(), time.objection()), (Some(ClockChange::Believed), None));
    }

    #[test]
    fn times_that_were_days_ahead_are_true_again_after_sixteen_fifteenths_of_that() {
        let mut time =
            SteadyTime::start(Follow::Receipts, Some(BEGIN + 3 * DAY), STEP_MAX, at(0, 0));
        let mut last = BEGIN + 3 * DAY;
        let mut seconds = 0;
        while time.objection().is_some() {
            seconds += 10;
            let read = time.read(at(seconds, 0));
            assert!(read >= last);
            last = read;
            assert!(seconds * SECOND <= 3 * DAY / 15 * 16);
        }
        let read = time.read(at(seconds + 20, 0));
        assert_eq!(read, BEGIN + (seconds + 20) * SECOND);
    }

    #[test]
    fn no_clock_overflows_anything() {
        for wall_ns in [0, 1, u64::MAX / 2, u64::MAX] {
            for floor in [None, Some(0), Some(u64::MAX)] {
                let mut time = SteadyTime::start(
                    Follow::Receipts,
                    floor,
                    STEP_MAX,
                    Now { mono: Mono(5), wall_ns },
                );
                for (mono, wall_ns) in [(u64::MAX, 0), (3, u64::MAX), (u64::MAX, u64::MAX / 2)] {
                    let before = time.time_ns();
                    assert!(time.read(Now { mono: Mono(mono), wall_ns }) >= before);
                    assert!(time.objection().is_none_or(|it| !it.to_string().is_empty()));
                }
            }
        }
    }
}
