//! What a turn works on here: simulated sockets, under the same [`pregao::turn`] that the reactor runs; and
//! what must hold behind every turn.

use std::net::SocketAddr;
use std::time::Duration;

use pregao::breaker::LocalFault;
use pregao::log::memory::MemoryDisk;
use pregao::node::{CloseReason, ConnId, DialFailure, DialId, Level, ListenerId, Node, Outgoing};
use pregao::time::{Mono, Now, nanos};
use pregao::turn::{Accepted, Arrival, CutShort, Dialed, ReadEnd, Room, Shell, Turn, Written};
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
        if self.stands_mid_turn(host) {
            return;
        }
        let Some(mut node) = self.hosts[host].node.take() else { return };
        self.let_crowd_in(host);
        let now = self.now();
        self.turns += 1;
        let known = &mut self.hosts[host];
        let is_storage_due = std::mem::take(&mut known.storage_is_due);
        if let Some(disk) = known.disk.as_ref().filter(|_| is_storage_due) {
            disk.pause_jobs(false);
        }
        let mut turn = std::mem::take(&mut known.turn);
        let bounded_before = turn.bounded_flushes();
        let mut sockets =
            Sockets { world: self, host, is_busy: is_storage_due, has_late_input: false };
        turn.run(&mut sockets, &mut node, now);
        let Sockets { is_busy, has_late_input, .. } = sockets;
        self.counts.bounded_flushes += turn.bounded_flushes() - bounded_before;
        if let Some(disk) = &self.hosts[host].disk {
            disk.pause_jobs(true);
        }
        self.watch_turn(host);
        self.watch_log_files(host);
        if let Some(failure) = node.failure() {
            // It dies loudly, and is started again.
            let text = format!("---- failed: {failure}");
            self.hosts[host].node = Some(node);
            self.watch_failure(host, &text);
            self.log(host, &text);
            self.end(host, false);
            // Whatever ends one of its reactors ends the process.
            let first = self.hosts[host].reactors.first;
            self.plan(self.now_ns() + RESTART_NS, Event::Start(first));
            return;
        }
        self.watch_what_waits(host, &mut node, &turn, has_late_input);
        self.watch_browser(host, &mut node);
        self.probe_closed(host, &mut node, now);
        let is_busy = self.watch_work(host, &node) || is_busy;
        self.plan_next(host, &node, &turn, is_busy);
        self.hosts[host].turn = turn;
        self.hosts[host].node = Some(node);
    }

    /// What a turn leaves undone is done by the next one, at once.
    fn watch_what_waits(
        &mut self,
        host: usize,
        node: &mut AnyNode,
        turn: &Turn,
        has_late_input: bool,
    ) {
        let name = self.hosts[host].name.clone();
        self.hold(!has_late_input || turn.is_urgent(), "late-input-gets-a-turn-at-once", || {
            format!("{name} was called behind its timers and may sleep")
        });
        let is_forgotten = !turn.is_urgent() && (node.poll_dirty().is_some() || node.has_bulk());
        self.hold(!is_forgotten, "who-has-something-to-send-is-flushed", || {
            format!("{name} may sleep with something to send")
        });
        self.watch_reactor(host, node);
    }

    /// A connection that is gone has nothing to send, whoever has its slot now.
    fn probe_closed(&mut self, host: usize, node: &mut AnyNode, now: Now) {
        for gone in self.hosts[host].used_slots.values() {
            let is_used = self.hosts[host].conns.keys().any(|conn| conn.slot == gone.slot);
            if is_used && !node.outgoing(now, *gone).is_empty() {
                let name = self.hosts[host].name.clone();
                let text = format!("{name} has bytes for {gone:?}, which is closed");
                self.broken("nothing-for-closed-connections", &text);
            }
        }
    }

    fn plan_next(&mut self, host: usize, node: &AnyNode, turn: &Turn, is_busy: bool) {
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
        let can_read = known.readable.iter().any(|&conn| node.wants_bytes(conn));
        let has_arrivals = !known.reactors.arrivals.is_empty();
        let is_ready =
            can_read || has_arrivals || !known.writable.is_empty() || !known.dialed.is_empty();
        if turn.is_urgent() || is_ready {
            self.wake(host, now_ns);
        } else if !known.backlog.is_empty() {
            let at = known.machine.no_descriptors_until.min(now_ns + ACCEPT_RETRY_NS);
            self.wake(host, deadline.map_or(at, |deadline| deadline.min(at)));
        } else if let Some(at) = deadline {
            self.wake(host, at);
        }
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
    pub(crate) fn finish(&mut self, host: usize, node: &mut AnyNode, now: Now) {
        let mut turn = Turn::default();
        let mut sockets = Sockets { world: self, host, is_busy: false, has_late_input: false };
        turn.finish(&mut sockets, node, now);
    }
}

/// The sockets of one host, during a turn.
struct Sockets<'a> {
    world: &'a mut World,
    host: usize,
    is_busy: bool,
    /// The node was called in the last steps of the turn.
    has_late_input: bool,
}

impl Sockets<'_> {
    fn place(&self, conn: ConnId) -> Option<(u64, usize)> {
        self.world.hosts[self.host].conns.get(&conn).copied()
    }
}

impl Shell for Sockets<'_> {
    fn poll_dialed(&mut self) -> Option<Dialed> {
        let dialed = self.world.hosts[self.host].dialed.pop_front()?;
        self.is_busy = true;
        if let Dialed::Open(conn, _) = dialed
            && let Some((number, side)) = self.place(conn)
        {
            self.world.tcps.get_mut(&number).unwrap().ends[side].state = EndState::Open;
        }
        Some(dialed)
    }

    fn poll_accepted(&mut self, now: Mono) -> Option<Accepted> {
        let known = &mut self.world.hosts[self.host];
        if known.backlog.is_empty() {
            return None;
        }
        self.is_busy = true;
        if known.machine.no_descriptors_until > now.0 {
            return Some(Accepted::Failed(LocalFault::ProcessDescriptors));
        }
        while let Some((number, side)) = self.world.hosts[self.host].backlog.pop_front() {
            if !self.world.tcps.contains_key(&number) {
                continue;
            }
            let room = self.world.hosts[self.host].room(now.0);
            if room == Room::Closed {
                self.world.close_end(number, side, true);
                return Some(Accepted::Dropped);
            }
            let conn = self.world.new_conn(self.host, number, side);
            let end = &mut self.world.tcps.get_mut(&number).unwrap().ends[side];
            end.state = EndState::Open;
            end.is_ready = true;
            self.world.hosts[self.host].readable.push_back(conn);
            if room == Room::Refused {
                self.world.note_surplus();
                return Some(Accepted::Surplus(conn, ListenerId(0)));
            }
            let peer = self.world.peer_address(number, side);
            return Some(Accepted::Open(conn, ListenerId(0), peer));
        }
        None
    }

    fn poll_handed_over(&mut self) -> Option<Arrival> {
        let arrival = self.world.take_arrival(self.host)?;
        self.is_busy = true;
        Some(arrival)
    }

    fn keep(&mut self, conn: ConnId, bytes: &[u8]) {
        if let Some((number, side)) = self.place(conn) {
            self.world.tcps.get_mut(&number).unwrap().ends[side].carry = bytes.to_vec();
        }
    }

    fn readable_count(&self) -> usize {
        self.world.hosts[self.host].readable.len()
    }

    fn pop_readable(&mut self) -> Option<ConnId> {
        self.world.hosts[self.host].readable.pop_front()
    }

    fn push_readable(&mut self, conn: ConnId) {
        self.world.hosts[self.host].readable.push_back(conn);
    }

    fn is_open(&self, conn: ConnId) -> bool {
        self.place(conn).is_some()
    }

    fn read(
        &mut self,
        now: Mono,
        conn: ConnId,
        bytes_max: usize,
        take: impl FnOnce(&[u8]) -> usize,
    ) -> ReadEnd {
        let Some((number, side)) = self.place(conn) else { return ReadEnd::Drained };
        self.is_busy = true;
        let (world, host) = (&mut *self.world, self.host);
        let weather = world.weather;
        let tcp = world.tcps.get_mut(&number).unwrap();
        let bound = tcp.read_bytes_max(&weather).min(bytes_max.max(1));
        let end = &mut tcp.ends[side];
        let taken = end.received.len().min(bound);
        let mut bytes = std::mem::take(&mut end.carry);
        bytes.extend(end.received.drain(..taken));
        let ended = end.has_ended(now.0);
        end.is_ready = !end.received.is_empty();
        let has_more = end.is_ready;
        let writer = &mut tcp.ends[1 - side];
        let writer_host = writer.host;
        if taken > 0 && writer.is_blocked && writer.state == EndState::Open {
            let at = now.0 + GRAIN_NS * tcp.random.between(1, 10);
            world.plan(at, Event::Writable(number, 1 - side));
        }
        let mut consumed = 0;
        if taken > 0 {
            world.note(host, "read", &bytes);
            consumed = take(&bytes);
            world.watch_read(host, writer_host, number, as_frames(&bytes[..consumed]).0);
        }
        let rest = bytes.split_off(consumed);
        let is_mid_message = !rest.is_empty();
        self.keep(conn, &rest);
        let Some(is_reset) = ended else {
            return if has_more { ReadEnd::More } else { ReadEnd::Drained };
        };
        self.world.forget_conn(host, conn);
        self.world.close_end(number, side, false);
        ReadEnd::Ended(match (is_reset, is_mid_message) {
            (true, _) => CloseReason::Reset,
            (false, true) => CloseReason::MidMessage,
            (false, false) => CloseReason::PeerClosed,
        })
    }

    /// The network plans the deadline of a dial with the dial.
    fn poll_expired(&mut self, _now: Mono) -> Option<Option<DialId>> {
        None
    }

    fn wake(&mut self, reactor: usize) {
        self.world.wake_reactor(self.host, reactor);
    }

    fn writable_count(&self) -> usize {
        self.world.hosts[self.host].writable.len()
    }

    fn pop_writable(&mut self) -> Option<ConnId> {
        self.world.hosts[self.host].writable.pop_front()
    }

    fn can_write(&self, conn: ConnId) -> bool {
        let Some((number, side)) = self.place(conn) else { return false };
        let end = &self.world.tcps[&number].ends[side];
        end.state == EndState::Open && !end.is_blocked
    }

    fn write(&mut self, now: Mono, conn: ConnId, outgoing: Outgoing<'_>) -> Written {
        let Some((number, side)) = self.place(conn) else { return Written::Broken };
        let bytes = [outgoing.front, outgoing.head, outgoing.tail].concat();
        let (world, host) = (&mut *self.world, self.host);
        world.watch_memory(host, bytes.len());
        let weather = world.weather;
        let tcp = world.tcps.get_mut(&number).unwrap();
        let (taken, arrivals) = tcp.write(side, &bytes, now.0, &weather);
        let other = &tcp.ends[1 - side];
        if other.has_vanished && world.hosts[other.host].is_up() {
            // A machine that is back knows nothing of this connection.
            let at = tcp.reset(side, now.0, &weather);
            world.plan(at, Event::Arrive(number, side));
        }
        for at in arrivals {
            world.plan(at, Event::Arrive(number, 1 - side));
        }
        if taken == 0 {
            return Written::Blocked;
        }
        self.is_busy = true;
        world.watch_sent(host, number, side, &bytes[..taken]);
        Written::Bytes(taken)
    }

    fn note_cut_short(&mut self, conn: ConnId, end: CutShort) {
        let Some((number, side)) = self.place(conn) else { return };
        match end {
            CutShort::Broken => {}
            CutShort::Bounded => self.world.hosts[self.host].writable.push_back(conn),
            CutShort::Blocked => {
                self.world.tcps.get_mut(&number).unwrap().ends[side].is_blocked = true;
            }
        }
    }

    fn dial(
        &mut self,
        _now: Mono,
        dial: DialId,
        to: SocketAddr,
        within: Duration,
    ) -> Result<(), DialFailure> {
        self.is_busy = true;
        self.world.watch_dial(self.host, to);
        let result = match self.world.finds_no_descriptor(self.host) {
            true => Err(DialFailure::Local(LocalFault::ProcessDescriptors)),
            false => self.world.dial(self.host, dial, to, nanos(within)),
        };
        self.has_late_input |= result.is_err();
        result
    }

    fn close(&mut self, _now: Mono, conn: ConnId) -> bool {
        self.is_busy = true;
        let Some((number, side)) = self.world.forget_conn(self.host, conn) else { return false };
        self.world.close_end(number, side, false);
        self.has_late_input = true;
        true
    }

    fn hand_over(&mut self, conn: ConnId, reactor: usize) {
        self.is_busy = true;
        self.world.hand_over(self.host, conn, reactor);
    }

    fn log(&mut self, level: Level, text: String) {
        self.is_busy = true;
        self.world.note(self.host, "log", text.as_bytes());
        self.world.watch_log(self.host, &text);
        self.world.log(self.host, &format!("{level:?} {text}"));
    }

    fn reap(&mut self, _count_max: usize) -> bool {
        false
    }
}
