//! What goes wrong, and how it does: deaths of processes and machines, connections that break, stall
//! or hang half open, descriptors, disks and clocks. Not here: when (the plan says).

use std::collections::BTreeSet;

use pregao::log::memory::PageFate;
use pregao::wire::{BreakerAction, Frame, Op, Query, as_frames, padded};

use crate::net::EndState;
use crate::world::{Event, World};

/// What a fault does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Resets one connection of this host, whichever chance picks.
    Cut(usize),
    /// The process dies and starts again so many nanoseconds later.
    Kill(usize, u64),
    /// The same with the power; the peers may never hear of it.
    PowerLoss(usize, u64),
    /// The operator stops the process in good order and starts it again.
    Restart(usize, u64),
    /// The process stands still (SIGSTOP) and goes on later.
    Freeze(usize, u64),
    /// One thread of the process stands still, and the others go on.
    FreezeThread(usize, u64),
    /// A further reactor stands still in the middle of its next turn.
    FreezeMidTurn(usize, u64),
    /// Nothing arrives on one connection of this host, in one direction, for a while.
    Stall(usize, u64),
    /// Nothing passes between two hosts for a while.
    Partition(usize, usize, u64),
    /// The process has no descriptor for a while: none to accept or dial with, none for a segment.
    NoDescriptors(usize, u64),
    /// A crowd of idle peers takes all descriptors that this process gives away, for a while.
    Crowd(usize, u64),
    /// The directory of this log is moved away, and later back.
    Displace(usize, u64),
    /// The wall clock jumps by so many milliseconds.
    WallJump(i64),
    /// The disk is full for a while.
    DiskFull(usize, u64),
    /// A sync soon to come fails.
    SyncError(usize),
    /// The process dies; a sealed record rots before it starts again.
    Rot(usize, u64),
    /// The process dies, and its disk is replaced with an empty one before it starts again.
    EmptyDisk(usize, u64),
    /// An operator changes a breaker through this asker.
    Operator(usize, &'static str, BreakerAction),
}

impl World {
    pub(crate) fn plan_fault(&mut self, at_ns: u64, fault: Fault) {
        self.plan(at_ns, Event::Fault(fault));
    }

    pub(crate) fn fault(&mut self, fault: Fault) {
        self.trace(&format!("fault {fault:?}"));
        let now_ns = self.now_ns();
        match fault {
            Fault::Cut(host) => self.cut(host),
            Fault::Kill(host, down_ns) => {
                self.end(host, false);
                self.plan(now_ns + down_ns, Event::Start(host));
            }
            Fault::PowerLoss(host, down_ns) => {
                self.end(host, true);
                self.plan(now_ns + down_ns, Event::Start(host));
            }
            Fault::Restart(host, down_ns) => {
                self.stop(host);
                self.plan(now_ns + down_ns, Event::Start(host));
            }
            Fault::Freeze(host, wait_ns) => {
                for member in self.members(host) {
                    self.freeze(member, now_ns + wait_ns);
                }
            }
            Fault::FreezeThread(host, wait_ns) => self.freeze(host, now_ns + wait_ns),
            Fault::FreezeMidTurn(host, wait_ns) => self.break_turn(host, wait_ns),
            Fault::Stall(host, wait_ns) => {
                if let Some((number, side)) = self.pick_connection(host) {
                    let side = if self.streams.faults.below(2) == 0 { side } else { 1 - side };
                    let end = &mut self.tcps.get_mut(&number).unwrap().ends[side];
                    end.stalled_until = end.stalled_until.max(now_ns + wait_ns);
                }
            }
            Fault::Partition(a, b, wait_ns) => self.part(a, b, now_ns + wait_ns),
            Fault::NoDescriptors(..)
            | Fault::WallJump(_)
            | Fault::Crowd(..)
            | Fault::Displace(..) => self.trouble(&fault),
            Fault::DiskFull(host, wait_ns) => {
                if let Some(disk) = &self.hosts[host].disk {
                    disk.set_bytes_max(0);
                    self.plan(now_ns + wait_ns, Event::Space(host));
                }
            }
            Fault::SyncError(host) => {
                if let Some(disk) = &self.hosts[host].disk {
                    disk.fail_sync_after(0);
                }
            }
            Fault::Rot(host, down_ns) => {
                self.end(host, false);
                // What rots at core matters to a shard only where that shard has not been.
                let records = if self.is_core(host) { 6 } else { 1 };
                (0..records).for_each(|_| self.rot(host));
                self.plan(now_ns + down_ns, Event::Start(host));
            }
            Fault::EmptyDisk(host, down_ns) => {
                self.end(host, false);
                self.replace_disk(host);
                self.plan(now_ns + down_ns, Event::Start(host));
            }
            Fault::Operator(host, breaker, action) => {
                let query = Query {
                    op: Op::Breaker as u8,
                    limit: (action as u32).into(),
                    symbol: padded(breaker),
                    deadline_us: 1_000_000.into(),
                    ..Query::default()
                };
                if let Some(asker) = self.asker_mut(host) {
                    asker.ask(query, 0);
                    self.wake(host, now_ns);
                }
            }
        }
    }

    fn pick_connection(&mut self, host: usize) -> Option<(u64, usize)> {
        let conns: Vec<(u64, usize)> = self.hosts[host].conns.values().copied().collect();
        let pick = self.streams.faults.below(conns.len().max(1) as u64);
        conns.get(usize::try_from(pick).unwrap()).copied()
    }

    fn cut(&mut self, host: usize) {
        let Some((number, _)) = self.pick_connection(host) else { return };
        self.note(host, "cut", &[]);
        for side in 0..2 {
            let (now_ns, weather) = (self.now_ns(), self.weather);
            let Some(tcp) = self.tcps.get_mut(&number) else { return };
            if tcp.ends[side].state != EndState::Closed {
                let at = tcp.reset(side, now_ns, &weather);
                self.plan(at, Event::Arrive(number, side));
            }
        }
    }

    fn part(&mut self, a: usize, b: usize, until_ns: u64) {
        self.parted.push((a.min(b), a.max(b), until_ns));
        let process = |end: &crate::net::End| self.hosts[end.host].reactors.first;
        for tcp in self.tcps.values_mut() {
            let hosts = (process(&tcp.ends[0]), process(&tcp.ends[1]));
            if hosts == (a, b) || hosts == (b, a) {
                for end in &mut tcp.ends {
                    end.stalled_until = end.stalled_until.max(until_ns);
                }
            }
        }
    }

    pub(crate) fn is_parted(&self, a: usize, b: usize) -> bool {
        let pair = (a.min(b), a.max(b));
        self.parted.iter().any(|&(x, y, until)| (x, y) == pair && until > self.now_ns())
    }

    fn freeze(&mut self, host: usize, until_ns: u64) {
        let known = &mut self.hosts[host];
        known.frozen_until = known.frozen_until.max(until_ns);
    }

    /// Ends a host's process, with all its reactors. `is_power` decides what its disk keeps.
    pub(crate) fn end(&mut self, host: usize, is_power: bool) {
        for member in self.members(host) {
            self.finish_turn(member);
            self.end_reactor(member, is_power);
        }
    }

    fn end_reactor(&mut self, host: usize, is_power: bool) {
        let Some(node) = self.hosts[host].node.take() else { return };
        self.note(host, if is_power { "power" } else { "kill" }, &[]);
        if let Some(disk) = self.hosts[host].disk.take() {
            let before = self.hosts[host].read_disk(&disk, self.now());
            let random = &mut self.hosts[host].random;
            let jobs_done = usize::try_from(random.below(disk.jobs() as u64 + 1)).unwrap();
            let left = if is_power {
                let mood = random.below(3);
                disk.crash(jobs_done, |_, _| match (mood, random.below(4)) {
                    (0, _) | (2, 0) => PageFate::Old,
                    (1, _) | (2, 1) => PageFate::New,
                    (_, 2) => PageFate::TornFront,
                    _ => PageFate::TornBack,
                })
            } else if random.below(2) == 0 {
                disk.kill()
            } else {
                drop(node);
                disk.kill()
            };
            left.fail_sync_after(u32::MAX);
            let after = self.hosts[host].read_disk(&left, self.now());
            self.watch_from_outside(host, &left, &after);
            self.hosts[host].disk = Some(left);
            self.watch_crash(host, is_power, before, after);
        }
        self.hosts[host].is_dark = is_power;
        self.watch.had.remove(&host);
        self.log(host, "---- end");
        let known = &mut self.hosts[host];
        known.incarnation += 1;
        known.dialed.clear();
        known.backlog.clear();
        known.readable.clear();
        known.writable.clear();
        known.used_slots.clear();
        known.storage_is_due = false;
        known.storage_is_planned = false;
        known.wake_at = None;
        known.idle_turns = 0;
        known.reactors.forget();
        known.frozen_until = 0;
        let orphans = self.orphans_of(host);
        let conns = std::mem::take(&mut self.hosts[host].conns);
        for (number, side) in conns.into_values().chain(orphans) {
            self.watch_close(host, number);
            let vanishes = is_power && self.streams.faults.below(3) == 0;
            if vanishes {
                self.vanish(number, side);
            } else {
                let breaks = is_power || self.streams.faults.below(2) == 0;
                self.close_end(number, side, breaks);
            }
        }
    }

    /// Connections that wait to be accepted by this host.
    fn orphans_of(&self, host: usize) -> Vec<(u64, usize)> {
        let ends = self.tcps.iter().flat_map(|(&number, tcp)| {
            tcp.ends.iter().enumerate().map(move |(side, end)| (number, side, end))
        });
        ends.filter(|(_, _, end)| {
            end.host == host && !end.is_accepted() && end.state == EndState::Opening
        })
        .map(|(number, side, _)| (number, side))
        .collect()
    }

    fn vanish(&mut self, number: u64, side: usize) {
        let Some(tcp) = self.tcps.get_mut(&number) else { return };
        tcp.ends[side].state = EndState::Closed;
        tcp.ends[side].has_vanished = true;
        if tcp.ends[1 - side].state == EndState::Closed {
            self.tcps.remove(&number);
        }
    }

    /// The operator's way: the node says goodbye, closes its log, and ends.
    pub(crate) fn stop(&mut self, host: usize) {
        let now = self.now();
        for member in self.members(host) {
            self.finish_turn(member);
            let Some(mut node) = self.hosts[member].node.take() else { continue };
            if let Some(disk) = &self.hosts[member].disk {
                disk.pause_jobs(false);
            }
            pregao::node::Node::handle_stop(&mut node, now);
            self.finish(member, &mut node, now);
            self.hosts[member].node = Some(node);
        }
        self.end(host, false);
    }

    /// Flips a bit in a record of a host that is down, in a segment that the watermark covers whatever
    /// the marks say: all but the last two. What rots above the watermark looks like a torn tail, and no
    /// policy can tell.
    fn rot(&mut self, host: usize) {
        const HEADER: usize = pregao::log::HEADER_BYTES;
        let known = &mut self.hosts[host];
        let Some(disk) = known.disk.clone() else { return };
        let dirty: BTreeSet<u64> = disk.dirty_pages().into_iter().map(|(n, _)| n).collect();
        let is_used = |number: &u64| disk.bytes(*number)[HEADER..].iter().any(|byte| *byte != 0);
        let mut sealed: Vec<u64> = disk.numbers().into_iter().filter(is_used).collect();
        sealed.truncate(sealed.len().saturating_sub(2));
        sealed.retain(|number| !dirty.contains(number));
        let random = &mut known.random;
        let pick = usize::try_from(random.below(sealed.len().max(1) as u64)).unwrap();
        let Some(&number) = sealed.get(pick) else { return };
        let mut bytes = disk.bytes(number);
        let records = (bytes.len() - HEADER) / 64;
        let record = usize::try_from(random.below(records as u64)).unwrap();
        let at = HEADER + record * 64;
        let (frames, _) = as_frames(&bytes[at..at + 64]);
        let frame: Frame = frames[0];
        // A definition that rots takes its instrument along: that is not what is looked at here.
        let is_event = matches!(frame.kind, 2..=4) && pregao::log::is_event(&frame);
        if !is_event || frame.check().is_err() {
            return;
        }
        known.rotten.insert(frame.seq.get(), frame);
        let before = self.hosts[host].read_disk(&disk, self.now());
        let random = &mut self.hosts[host].random;
        let bit = usize::try_from(random.below(512)).unwrap();
        bytes[at + bit / 8] ^= 1 << (bit % 8);
        disk.put(number, bytes);
        self.log(host, &format!("---- record {record} of segment {number} rots"));
        let after = self.hosts[host].read_disk(&disk, self.now());
        self.watch_from_outside(host, &disk, &after);
        let (Some(mut before), Some(after)) = (before, after) else {
            self.broken("a-crashed-log-opens", "a sealed record rots, and the log is refused");
        };
        let parts = before.raw.iter().zip(&after.raw).position(|(was, is)| was != is);
        if before.raw.remove(parts.unwrap_or(before.raw.len() - 1)) != frame {
            self.broken("rot-takes-only-what-rots", "another frame is gone than the one that rots");
        }
        if after.raw != before.raw {
            let (is, was) = (after.raw.len(), before.raw.len());
            let text = format!("{is} frames are left, not {was}, when one record rots");
            self.broken("rot-takes-only-what-rots", &text);
        }
    }

    /// All faults are over, and every process runs.
    pub(crate) fn calm(&mut self) {
        self.trace("calm");
        self.weather = crate::net::Weather::FAIR;
        self.parted.clear();
        let now_ns = self.now_ns();
        let numbers: Vec<u64> = self.tcps.keys().copied().collect();
        for number in numbers {
            for side in 0..2 {
                self.tcps.get_mut(&number).unwrap().ends[side].stalled_until = 0;
                self.plan(now_ns, Event::Arrive(number, side));
            }
        }
        for host in 0..self.hosts.len() {
            let known = &mut self.hosts[host];
            known.frozen_until = 0;
            if let Some(disk) = &known.disk {
                disk.fail_sync_after(u32::MAX);
            }
            self.calm_machine(host);
            self.plan(now_ns, Event::Start(host));
            self.wake(host, now_ns);
        }
    }
}
