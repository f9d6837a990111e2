//! What the machine around the nodes does: clocks that step by days, descriptors that run out, directories that
//! are moved away; and what must hold then.

use std::collections::BTreeMap;

use pregao::log::HEADER_BYTES;
use pregao::random::Random;
use pregao::turn::{Room, room_for};
use pregao::wire::Frame;

use crate::faults::Fault;
use crate::hosts::Spec;
use crate::plan::Day;
use crate::road::MS;
use crate::world::{Event, Host, World};

/// Descriptors that a process may have while a crowd comes.
const DESCRIPTORS_MAX: u64 = 160;
/// Descriptors of a process besides its connections.
const DESCRIPTORS_OF_FILES: u64 = 8;
/// Within this time a node notices that its directory is gone.
const NOTICED_NS: u64 = 1_000 * MS;
/// A node that stood still has read its clock so long ago at most.
const READ_EVERY_NS: i64 = 2_500_000_000;
/// A clock that is behind by more at the start is not believed.
const STEP_MAX_NS: i64 = 10_000_000_000;
const DAY_MS: i64 = 86_400_000;
/// When every simulation begins, nanoseconds since the Unix epoch.
const WALL_START_NS: u64 = 1_700_000_000_000_000_000;

/// What the machine of one host is like.
#[derive(Debug, Default)]
pub(crate) struct Machine {
    /// There is no descriptor at all before this.
    pub(crate) no_descriptors_until: u64,
    /// A crowd of idle peers takes each descriptor that it is given, until this.
    crowd_until: u64,
    /// How many it has.
    crowd: u64,
    /// Since when the directory is gone.
    displaced_since: Option<u64>,
    /// Stores to the disk when that had to be known.
    writes_then: Option<u64>,
    /// When each segment of its log was left.
    left_at: BTreeMap<u64, u64>,
}

impl Machine {
    /// Its disk is an empty one.
    pub(crate) fn forget_log(&mut self) {
        self.left_at.clear();
    }
}

/// What is known of core's receive times.
#[derive(Debug, Default)]
pub(crate) struct ClockWatch {
    /// How far ahead of the truth receive times may be, and since when that is so.
    ahead_ns: i64,
    as_of_ns: u64,
    /// How far it was when core last started.
    started_ahead_ns: i64,
}

impl ClockWatch {
    /// While the clock is ahead, receive times go towards it, at double speed at most.
    fn go_on(&mut self, now_ns: u64, skew_ns: i64) {
        let elapsed = i64::try_from(now_ns - self.as_of_ns).unwrap();
        self.as_of_ns = now_ns;
        if skew_ns > self.ahead_ns {
            self.ahead_ns = skew_ns.min(self.ahead_ns + elapsed);
        }
    }
}

impl Host {
    fn descriptors(&self) -> u64 {
        DESCRIPTORS_OF_FILES + self.conns.len() as u64 + self.machine.crowd
    }

    /// Whether an accepted connection may keep its descriptor.
    pub(crate) fn room(&self, now_ns: u64) -> Room {
        let is_crowded = self.machine.crowd_until > now_ns;
        room_for(self.descriptors(), is_crowded.then_some(DESCRIPTORS_MAX))
    }

    /// Whether the crowd has left nothing, not even for the node itself.
    fn is_crowded_out(&self, now_ns: u64) -> bool {
        self.machine.crowd_until > now_ns && self.descriptors() >= DESCRIPTORS_MAX
    }
}

impl World {
    /// What a right wall clock says.
    pub(crate) fn true_wall_ns(&self) -> u64 {
        WALL_START_NS + self.now_ns()
    }

    /// Trouble with the machine of a host.
    pub(crate) fn trouble(&mut self, fault: &Fault) {
        let now_ns = self.now_ns();
        match *fault {
            Fault::NoDescriptors(host, wait_ns) => {
                self.hosts[host].machine.no_descriptors_until = now_ns + wait_ns;
                if let Some(disk) = &self.hosts[host].disk {
                    disk.set_lacking(true);
                    self.counts.lacking += 1;
                    self.plan(now_ns + wait_ns, Event::Space(host));
                }
            }
            Fault::Crowd(host, wait_ns) => {
                self.hosts[host].machine.crowd_until = now_ns + wait_ns;
                self.plan(now_ns + wait_ns, Event::Space(host));
                self.wake(host, now_ns);
            }
            Fault::Displace(host, wait_ns) => {
                if let Some(disk) = &self.hosts[host].disk {
                    disk.set_displaced(true);
                    self.counts.displaced += 1;
                    self.hosts[host].machine.displaced_since = Some(now_ns);
                    self.hosts[host].machine.writes_then = None;
                    self.plan(now_ns + wait_ns, Event::Space(host));
                }
            }
            Fault::WallJump(ms) => {
                let skew_ns = self.wall_skew_ns;
                self.watch.clock.go_on(now_ns, skew_ns);
                self.wall_skew_ns += ms * 1_000_000;
                let clock = &mut self.watch.clock;
                // It was behind when core started, and may be believed once it has come up.
                let was_behind = clock.started_ahead_ns + STEP_MAX_NS < clock.ahead_ns;
                let reach_ns = if was_behind { i64::MAX } else { clock.ahead_ns + READ_EVERY_NS };
                clock.ahead_ns = clock.ahead_ns.max(self.wall_skew_ns.min(reach_ns));
            }
            _ => {}
        }
    }

    /// The machine of this host is well again.
    pub(crate) fn heal_machine(&mut self, host: usize) {
        let now_ns = self.now_ns();
        let known = &mut self.hosts[host];
        if let Some(disk) = &known.disk {
            disk.set_bytes_max(usize::MAX);
            disk.set_lacking(false);
            disk.set_displaced(false);
        }
        known.machine.displaced_since = None;
        if known.machine.crowd_until <= now_ns {
            known.machine.crowd = 0;
        }
    }

    /// All trouble is over.
    pub(crate) fn calm_machine(&mut self, host: usize) {
        let machine = &mut self.hosts[host].machine;
        machine.no_descriptors_until = 0;
        machine.crowd_until = 0;
        self.heal_machine(host);
    }

    /// The crowd takes what it is given, before a turn.
    pub(crate) fn let_crowd_in(&mut self, host: usize) {
        let now_ns = self.now_ns();
        let known = &mut self.hosts[host];
        if known.machine.crowd_until <= now_ns {
            return;
        }
        while known.room(now_ns) == Room::Kept && known.descriptors() < DESCRIPTORS_MAX {
            known.machine.crowd += 1;
        }
        if let Some(disk) = known.disk.as_ref().filter(|_| known.is_crowded_out(now_ns)) {
            disk.set_lacking(true);
        }
    }

    /// Whether a dial of this host finds no descriptor.
    pub(crate) fn finds_no_descriptor(&self, host: usize) -> bool {
        let known = &self.hosts[host];
        let is_crowded_out = known.is_crowded_out(self.now_ns());
        self.hold(!is_crowded_out, "own-needs-find-a-descriptor", || {
            format!("{} cannot dial beside {} idle peers", known.name, known.machine.crowd)
        });
        known.machine.no_descriptors_until > self.now_ns()
    }

    /// A peer was accepted and has to be told that there is no descriptor.
    pub(crate) fn note_surplus(&mut self) {
        self.counts.surplus += 1;
    }

    /// A node says something about its log.
    pub(crate) fn watch_machine_log(&mut self, host: usize, text: &str) {
        let known = &self.hosts[host];
        let is_want = text.contains("too many open files");
        let is_of_crowd = is_want && known.is_crowded_out(self.now_ns());
        self.hold(!is_of_crowd, "own-needs-find-a-descriptor", || {
            format!("{} gets no segment beside {} idle peers", known.name, known.machine.crowd)
        });
    }

    /// A node has ended. Only a sync that failed may do that: everything else is waited for.
    pub(crate) fn watch_failure(&mut self, host: usize, text: &str) {
        let known = &self.hosts[host];
        // A gateway keeps nothing: it starts again where it cannot go on.
        if matches!(known.spec, Spec::Gateway(_)) && text.contains("start this gateway again") {
            return;
        }
        self.watch.failures += 1;
        let known = &self.hosts[host];
        let is_of_sync = known.disk.as_ref().is_some_and(|disk| disk.failed_syncs() > 0);
        let is_of_disk = text.contains("the journal failed") || text.contains("the log failed");
        self.hold(is_of_sync && is_of_disk, "only-failed-syncs-end-a-node", || {
            format!("{}: {text}", known.name)
        });
    }

    /// What must hold of a log behind every turn of its node.
    pub(crate) fn watch_log_files(&mut self, host: usize) {
        let now_ns = self.now_ns();
        let known = &mut self.hosts[host];
        let Some(disk) = &known.disk else { return };
        if let Some(since) = known.machine.displaced_since {
            let noticed_by = since.max(known.last_thaw) + NOTICED_NS;
            let writes = disk.writes();
            if now_ns > noticed_by {
                let writes_then = *known.machine.writes_then.get_or_insert(writes);
                let text = format!("{} stores without a directory", known.name);
                self.hold(writes == writes_then, "no-directory-no-stores", || text);
            }
        }
        self.watch_ages(host);
    }

    /// No segment goes by its age before half of that has passed, whatever the wall clock says: ages go on at
    /// double speed at most.
    fn watch_ages(&mut self, host: usize) {
        let now_ns = self.now_ns();
        let known = &mut self.hosts[host];
        let Some(retention) = known.spec.keeping().map(|keeping| keeping.retention) else { return };
        let (Some(age_max), None) = (retention.age_max, retention.bytes_max) else { return };
        let Some(disk) = &known.disk else { return };
        let numbers = disk.numbers();
        for pair in numbers.windows(2) {
            if known.machine.left_at.contains_key(&pair[0]) {
                continue;
            }
            let next = disk.bytes(pair[1]);
            if next[HEADER_BYTES..][..64].iter().any(|byte| *byte != 0) {
                known.machine.left_at.insert(pair[0], now_ns);
            }
        }
        let mut gone = Vec::new();
        known.machine.left_at.retain(|number, left_at| {
            let is_there = numbers.contains(number);
            if !is_there {
                gone.push((*number, now_ns - *left_at));
            }
            is_there
        });
        for (number, age_ns) in gone {
            self.counts.removed_by_age += 1;
            let is_old = u128::from(age_ns) * 2 >= age_max.as_nanos();
            self.hold(is_old, "nothing-goes-before-its-time", || {
                let name = &self.hosts[host].name;
                format!(
                    "{name} removed segment {number} {age_ns} ns after it was left, not {age_max:?}"
                )
            });
        }
    }

    /// A process starts. Its directory is where it looks for it. Core believes the wall clock.
    pub(crate) fn note_start(&mut self, host: usize) {
        self.hosts[host].machine.displaced_since = None;
        if !self.is_core(host) {
            return;
        }
        let (now_ns, skew_ns) = (self.now_ns(), self.wall_skew_ns);
        let clock = &mut self.watch.clock;
        clock.go_on(now_ns, skew_ns);
        clock.started_ahead_ns = skew_ns;
        clock.ahead_ns = clock.ahead_ns.max(skew_ns);
    }

    /// A frame of core that a follower has got behind one with this receive time.
    pub(crate) fn watch_receive_time(&mut self, before: u64, frame: &Frame) {
        let received = frame.ts_recv.get();
        self.hold(received >= before, "receive-times-never-fall", || {
            format!("seq {} came at {received}, the one before at {before}", frame.seq)
        });
        let (now_ns, skew_ns) = (self.now_ns(), self.wall_skew_ns);
        self.watch.clock.go_on(now_ns, skew_ns);
        let latest = self.true_wall_ns().saturating_add_signed(self.watch.clock.ahead_ns);
        self.hold(received <= latest, "receive-times-keep-to-the-clock", || {
            let ahead_s = (received - latest) / 1_000_000_000;
            format!("seq {} came {ahead_s} s later than core's clock can be", frame.seq)
        });
    }
}

/// Draws the trouble of a day: clocks that step by days (on a fourth of the days), crowds and directories that are
/// moved away (on a fourth each).
pub(crate) fn plan_trouble(day: &mut Day, draw: &mut Random) {
    let last = day.calm_at_ns / MS;
    let at = |draw: &mut Random| draw.between(1, last) * MS;
    let road = &day.road;
    let with_log: Vec<usize> = (0..road.world.hosts.len())
        .filter(|host| matches!(road.world.hosts[*host].spec, Spec::Core(..) | Spec::Shard(..)))
        .collect();
    // Not the broker: it may refuse for good whoever it has never had.
    let crowded = [road.core, road.core, road.aggregator, road.shards[0]];
    let pick = |draw: &mut Random, of: &[usize]| of[draw.below(of.len() as u64) as usize];
    let mut faults = Vec::new();
    if draw.below(4) == 0 {
        let sign = if draw.below(3) > 0 { 1 } else { -1 };
        let step_ms = sign * draw.between(1, 4) as i64 * DAY_MS;
        let (from, back) = (at(draw), at(draw));
        faults.push((from.min(back), Fault::WallJump(step_ms)));
        // Some node starts with the wrong clock, which is set right a little later or never.
        if draw.below(2) == 0 {
            let middle = draw.between(from.min(back) / MS, from.max(back) / MS) * MS;
            faults.push((middle, Fault::Restart(pick(draw, &with_log), draw.between(1, 60) * MS)));
        }
        if draw.below(4) > 0 {
            faults.push((from.max(back) + MS, Fault::WallJump(-step_ms)));
        }
    }
    if draw.below(4) == 0 {
        let host = pick(draw, &crowded);
        let (from, wait) = (draw.between(1, last / 2 + 1) * MS, draw.between(100, 1_500) * MS);
        faults.push((from, Fault::Crowd(host, wait)));
        faults.push((from + draw.between(1, wait / MS) * MS, Fault::Cut(host)));
    }
    if draw.below(4) == 0 {
        let (host, wait) = (pick(draw, &with_log), draw.between(100, 3_000) * MS);
        faults.push((draw.between(1, last / 2 + 1) * MS, Fault::Displace(host, wait)));
    }
    faults.retain(|(at, _)| *at < day.calm_at_ns);
    day.faults += faults.len();
    for (at, fault) in faults {
        day.road.world.plan_fault(at, fault);
    }
}
