//! One turn of a host, in the reactor's order (`src/reactor/mod.rs`).

use pregao::breaker::LocalFault;
use pregao::log::memory::MemoryDisk;
use pregao::node::{Action, CloseReason, ConnId, Node, Origin};
use pregao::time::{Now, nanos};
use pregao::wire::as_frames;

use crate::hosts::AnyNode;
use crate::net::{EndState, GRAIN_NS};
use crate::world::{Event, RESTART_NS, World};

/// Turns with nothing done and a deadline that has passed already: more of them in a row is a node
/// that burns its processor.
const IDLE_TURNS_MAX: u32 = 50;
/// How often a process without descriptors tries to accept again.
const ACCEPT_RETRY_NS: u64 = 50_000_000;

impl World {
    pub(crate) fn turn(&mut self, host: usize) {
        let frozen_until = self.hosts[host].frozen_until;
        if frozen_until > self.now_ns() {
            self.hosts[host].last_thaw = frozen_until;
            self.wake(host, frozen_until);
            return;
        }
        let Some(mut node) = self.hosts[host].node.take() else { return };
        let now = self.now();
        self.turns += 1;
        let known = &mut self.hosts[host];
        let mut is_busy = std::mem::take(&mut known.storage_is_due);
        if let Some(disk) = known.disk.as_ref().filter(|_| is_busy) {
            disk.hold_jobs(false);
        }
        node.handle_storage(now);
        if let Some(disk) = &known.disk {
            disk.hold_jobs(true);
        }
        is_busy |= self.accept(host, &mut node, now);
        let known = &mut self.hosts[host];
        for (conn, origin) in std::mem::take(&mut known.opens) {
            is_busy = true;
            if let Some(&(number, side)) = known.conns.get(&conn) {
                self.tcps.get_mut(&number).unwrap().ends[side].state = EndState::Open;
            }
            node.handle_open(now, conn, origin);
        }
        for (dial, failure) in std::mem::take(&mut known.dial_failures) {
            is_busy = true;
            node.handle_dial_failed(now, dial, failure);
        }
        is_busy |= self.read(host, &mut node, now);
        if node.sends_before_timers() {
            is_busy |= self.flush(host, &mut node, now);
        }
        node.handle_timers(now);
        node.commit(now);
        is_busy |= self.flush(host, &mut node, now);
        is_busy |= self.act(host, &mut node, now);
        self.watch_turn(host);
        if let Some(failure) = node.failure() {
            // It dies loudly, and is started again.
            let text = format!("---- failed: {failure}");
            self.hosts[host].node = Some(node);
            self.watch_failure(host, &text);
            self.log(host, &text);
            self.end(host, false);
            self.plan(self.now_ns() + RESTART_NS, Event::Start(host));
            return;
        }
        self.plan_next(host, &node, is_busy);
        self.hosts[host].node = Some(node);
    }

    fn plan_next(&mut self, host: usize, node: &AnyNode, is_busy: bool) {
        let now_ns = self.now_ns();
        let known = &mut self.hosts[host];
        let deadline = node.next_deadline().map(|at| at.0);
        let has_passed = deadline.is_some_and(|at| at <= now_ns);
        known.idle_turns = if has_passed && !is_busy { known.idle_turns + 1 } else { 0 };
        if known.idle_turns > IDLE_TURNS_MAX {
            let name = known.name.clone();
            self.broken("no-node-spins", &format!("{name} spins"));
        }
        let known = &mut self.hosts[host];
        let jobs = known.disk.as_ref().map_or(0, MemoryDisk::jobs);
        if jobs > 0 && !known.storage_is_planned {
            known.storage_is_planned = true;
            let incarnation = known.incarnation;
            let random = &mut known.random;
            let wait_us = match random.below(20) {
                0 if self.weather.slow_disk => random.between(10_000, 200_000),
                _ => random.between(100, 5_000),
            };
            self.plan(now_ns + wait_us * 1_000, Event::Storage(host, incarnation));
        }
        let known = &self.hosts[host];
        let can_read = known.readable.iter().any(|&conn| node.wants_frames(conn));
        if can_read || !known.writable.is_empty() || !known.opens.is_empty() {
            self.wake(host, now_ns);
        } else if !known.backlog.is_empty() {
            let at = known.no_descriptors_until.min(now_ns + ACCEPT_RETRY_NS);
            self.wake(host, deadline.map_or(at, |deadline| deadline.min(at)));
        } else if let Some(at) = deadline {
            self.wake(host, at);
        }
    }

    fn accept(&mut self, host: usize, node: &mut AnyNode, now: Now) -> bool {
        if self.hosts[host].backlog.is_empty() {
            return false;
        }
        if self.hosts[host].no_descriptors_until > now.mono.0 {
            node.handle_local_fault(now, LocalFault::ProcessDescriptors);
            return true;
        }
        while let Some((number, side)) = self.hosts[host].backlog.pop_front() {
            if !self.tcps.contains_key(&number) {
                continue;
            }
            let conn = self.new_conn(host, number, side);
            self.hosts[host].opens.push((conn, Origin::Accepted));
            let end = &mut self.tcps.get_mut(&number).unwrap().ends[side];
            end.is_ready = true;
            self.hosts[host].readable.push_back(conn);
        }
        true
    }

    fn read(&mut self, host: usize, node: &mut AnyNode, now: Now) -> bool {
        let mut is_busy = false;
        let weather = self.weather;
        for _ in 0..self.hosts[host].readable.len() {
            let Some(conn) = self.hosts[host].readable.pop_front() else { break };
            let Some(&(number, side)) = self.hosts[host].conns.get(&conn) else { continue };
            if !node.wants_frames(conn) {
                self.hosts[host].readable.push_back(conn);
                continue;
            }
            is_busy = true;
            let tcp = self.tcps.get_mut(&number).unwrap();
            let bound = tcp.read_bytes_max(&weather);
            let end = &mut tcp.ends[side];
            let taken = end.received.len().min(bound);
            let mut bytes = std::mem::take(&mut end.carry);
            bytes.extend(end.received.drain(..taken));
            let (frames, rest) = as_frames(&bytes);
            end.carry = rest.to_vec();
            let ended = end.has_ended(now.mono.0);
            end.is_ready = !end.received.is_empty();
            if end.is_ready {
                self.hosts[host].readable.push_back(conn);
            }
            let is_mid_frame = !end.carry.is_empty();
            let writer = &mut tcp.ends[1 - side];
            let writer_host = writer.host;
            if taken > 0 && writer.is_blocked && writer.state == EndState::Open {
                let at = now.mono.0 + GRAIN_NS * tcp.random.between(1, 10);
                self.plan(at, Event::Writable(number, 1 - side));
            }
            if taken > 0 {
                self.note(host, "read", &bytes);
            }
            if !frames.is_empty() {
                self.watch_read(host, writer_host, number, frames);
                node.handle_frames(now, conn, frames);
            }
            if let Some(is_reset) = ended {
                self.forget_conn(host, conn);
                self.close_end(number, side, false);
                let reason = match (is_reset, is_mid_frame) {
                    (true, _) => CloseReason::Reset,
                    (false, true) => CloseReason::MidFrame,
                    (false, false) => CloseReason::PeerClosed,
                };
                node.handle_close(now, conn, reason);
            }
        }
        is_busy
    }

    fn forget_conn(&mut self, host: usize, conn: ConnId) -> Option<(u64, usize)> {
        let known = &mut self.hosts[host];
        known.used_slots.insert(conn.slot, conn);
        let place = known.conns.remove(&conn);
        if let Some((number, _)) = place {
            self.watch_close(host, number);
        }
        place
    }

    /// The last flush of a process that ends in good order.
    pub(crate) fn flush_for(&mut self, host: usize, node: &mut AnyNode, now: Now) {
        self.flush(host, node, now);
        self.act(host, node, now);
    }

    fn flush(&mut self, host: usize, node: &mut AnyNode, now: Now) -> bool {
        let mut is_busy = false;
        for _ in 0..self.hosts[host].writable.len() {
            let Some(conn) = self.hosts[host].writable.pop_front() else { break };
            is_busy |= self.flush_one(host, node, now, conn);
        }
        while let Some(conn) = node.poll_dirty() {
            is_busy |= self.flush_one(host, node, now, conn);
        }
        is_busy
    }

    fn flush_one(&mut self, host: usize, node: &mut AnyNode, now: Now, conn: ConnId) -> bool {
        let Some(&(number, side)) = self.hosts[host].conns.get(&conn) else { return false };
        let mut is_busy = false;
        let weather = self.weather;
        loop {
            let tcp = self.tcps.get_mut(&number).unwrap();
            let end = &mut tcp.ends[side];
            if end.is_blocked {
                end.blocked_at = now.mono.0;
            }
            if end.state != EndState::Open || end.is_blocked {
                return is_busy;
            }
            let outgoing = node.outgoing(now, conn);
            if outgoing.is_empty() {
                return is_busy;
            }
            let offered = outgoing.len();
            let mut bytes = outgoing.head.to_vec();
            bytes.extend_from_slice(outgoing.tail);
            self.watch_memory(host, offered);
            self.probe_closed(host, node, now, conn);
            let tcp = self.tcps.get_mut(&number).unwrap();
            let (taken, arrivals) = tcp.write(side, &bytes, now.mono.0, &weather);
            if taken < offered {
                tcp.ends[side].is_blocked = true;
                tcp.ends[side].blocked_at = now.mono.0;
            }
            let other = &tcp.ends[1 - side];
            if other.has_vanished && self.hosts[other.host].node.is_some() {
                // A machine that is back knows nothing of this connection.
                let at = tcp.reset(side, now.mono.0, &weather);
                self.plan(at, Event::Arrive(number, side));
            }
            for at in arrivals {
                self.plan(at, Event::Arrive(number, 1 - side));
            }
            if taken > 0 {
                is_busy = true;
                self.watch_sent(host, number, side, &bytes[..taken]);
                node.handle_sent(now, conn, taken);
            }
        }
    }

    /// A connection that is gone has nothing to send, whoever has its slot now.
    fn probe_closed(&mut self, host: usize, node: &mut AnyNode, now: Now, conn: ConnId) {
        let Some(&gone) = self.hosts[host].used_slots.get(&conn.slot) else { return };
        if gone != conn && !node.outgoing(now, gone).is_empty() {
            let name = self.hosts[host].name.clone();
            let text = format!("{name} has bytes for {gone:?}, which is closed");
            self.broken("nothing-for-closed-connections", &text);
        }
    }

    fn act(&mut self, host: usize, node: &mut AnyNode, now: Now) -> bool {
        let mut is_busy = false;
        while let Some(action) = node.poll_action() {
            is_busy = true;
            match action {
                Action::Dial { dial, to, within } => {
                    self.watch_dial(host, to);
                    self.dial(host, dial, to, nanos(within));
                }
                Action::Close(conn) => {
                    self.flush_one(host, node, now, conn);
                    if let Some((number, side)) = self.forget_conn(host, conn) {
                        self.close_end(number, side, false);
                        node.handle_close(now, conn, CloseReason::Ours);
                    }
                }
                Action::HandOver { .. } => unreachable!("every node here has one reactor"),
                Action::Log(level, text) => {
                    self.note(host, "log", text.as_bytes());
                    self.watch_log(host, &text);
                    self.log(host, &format!("{level:?} {text}"));
                }
            }
        }
        is_busy
    }
}
