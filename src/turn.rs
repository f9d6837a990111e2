//! One turn of a node: the order in which everything happens, for real sockets and for simulated ones.
//!
//! A [`Shell`] owns what a node may not touch: connections, their readiness, a way to write log lines.
//! [`Turn::run`] drives a node through one pass over them. The reactor and the simulator run this same
//! code, so the order and the bounds that production has are the ones that simulated days test. Time is
//! passed in. Not here: waiting for events, and reading the clock, which the shell does before a turn.
//!
//! The steps are numbered as the reactor numbers them; its steps 1 and 2 come before [`Turn::run`]:
//!
//! 3. **storage completions**, and what other reactors of the process have left;
//! 4. **ended dials**, **bounded accepts**, connections from other reactors;
//! 5. **bounded reads**: first of all who brings what is live, then a part of the others; what a node that commits nothing makes of them is flushed here already (see
//!    [`Node::sends_before_timers`]);
//! 6. **timers**: deadlines of dials, then the node's;
//! 7. **commit**, so that what was read becomes visible before anybody is sent it, and a wake for the
//!    reactors that have to know;
//! 8. **bounded flush** of connections with something to send: what is live; then a bounded part of what can
//!    wait, which is looking patterns up and sending bulk;
//! 9. **dials, closes** and log lines that the node asked for;
//! 10. **bounded reap** of closed slots, last, so that nothing above meets a slot that is gone.
//!
//! Invariant: a dial or close that ends in steps 8 or 9 forces an immediate turn. A dial over a bad route fails
//! before it begins, and a close of our own ends at once. The node's timers and its commit were before that, so
//! its reaction would otherwise wait for the next deadline.
//!
//! Invariant: a connection that the bound of a flush left out is flushed in the next turn, which follows
//! at once. So does one that frees the closed slots that are left.
//!
//! # Decisions
//!
//! * A node never writes. It marks a connection as dirty, and the turn asks for its bytes until the kernel or the
//!   bound ends that. A long source (a snapshot, a replay) produces a piece when it is asked, into an outbox
//!   that is empty unless the peer is slow. So back-pressure needs no code of its own.
//! * A flush is bounded, so that a newcomer does not wait for thousands of others.
//! * Accepted connections leave some descriptors free. The kernel gives the lowest number that is free, so a socket
//!   with a high number says that all below it are in use, whatever they are used for: no book is kept of them.
//!   Segments of a log, and connections that the node dials, may have any number.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::limits;
use crate::node::{
    Action, CloseReason, ConnId, DialFailure, DialId, Level, ListenerId, LocalFault, Node, Origin,
    Outgoing,
};
use crate::planted::{Bug, is_planted};
use crate::time::{Mono, Now};

/// How a dial ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialed {
    /// The connection stands.
    Open(ConnId, DialId),
    /// There is none.
    Failed(DialId, DialFailure),
}

/// What became of one peer that waited to be accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// It is connected, through this listener, from this address.
    Open(ConnId, ListenerId, IpAddr),
    /// It is connected, and there is no descriptor for it: the node only tells it so.
    Surplus(ConnId, ListenerId),
    /// It was closed at once: there is no place for it.
    Dropped,
    /// It could not be accepted.
    Failed(LocalFault),
}

/// Whether an accepted connection may keep its descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// It may.
    Kept,
    /// It may not, and can be told so.
    Refused,
    /// It may not, and not even that can be said.
    Closed,
}

/// Descriptors that accepted connections leave free, under this limit of the process.
#[must_use]
pub fn reserved_descriptors(limit: u64) -> u64 {
    (limit / limits::DESCRIPTORS_RESERVED_PART).min(limits::DESCRIPTORS_RESERVED)
}

/// Whether an accepted connection may keep a descriptor of this number, under this limit of the process.
#[must_use]
pub fn room_for(descriptor: u64, limit: Option<u64>) -> Room {
    let Some(limit) = limit.filter(|_| !is_planted(Bug::NoDescriptorReserve)) else {
        return Room::Kept;
    };
    let reserved = reserved_descriptors(limit);
    let kept_below = limit.saturating_sub(reserved);
    if descriptor < kept_below {
        Room::Kept
    } else if descriptor < kept_below + reserved / limits::DESCRIPTORS_REFUSING_PART {
        Room::Refused
    } else {
        Room::Closed
    }
}

/// A connection that another reactor of the process has handed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Its id here.
    pub conn: ConnId,
    /// What was read of it there and not consumed.
    pub bytes: Vec<u8>,
    /// It could not be registered and is closed already.
    pub is_lost: bool,
    /// Where its peer is.
    pub peer: IpAddr,
}

/// How a read ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadEnd {
    /// There is nothing more for now, or nobody to read from. Readiness will be reported anew.
    Drained,
    /// The bound of one read was reached first: read again in the next turn.
    More,
    /// The connection that the node knows has ended.
    Ended(CloseReason),
}

/// How a write ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// So many bytes were taken. Fewer than were offered: there is no room for more.
    Bytes(usize),
    /// There is no room. Readiness will be reported anew.
    Blocked,
    /// The connection is over.
    Broken,
}

/// Why a flush of one connection ended before the node had sent all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CutShort {
    /// There is no room for more.
    Blocked,
    /// The bound of one turn was reached first: flush again in the next turn.
    Bounded,
    /// The connection is over.
    Broken,
}

/// What a turn needs of whoever drives a node.
///
/// Invariant: a connection that stops being readable or writable before it is drained stays on its ready
/// list. Readiness is reported once (epoll is edge-triggered), so nobody would come back to it.
pub trait Shell {
    /// The next dial that has ended since the last turn.
    fn poll_dialed(&mut self) -> Option<Dialed>;

    /// Accepts the next peer that waits.
    fn poll_accepted(&mut self, now: Mono) -> Option<Accepted>;

    /// The next connection that another reactor has handed over. [`Shell::keep`] is called with what the
    /// node does not consume of its bytes.
    fn poll_handed_over(&mut self) -> Option<Arrival>;

    /// Keeps bytes that the node did not consume, to be offered again with what comes behind them.
    fn keep(&mut self, conn: ConnId, bytes: &[u8]);

    /// How many connections are on the ready list for reading.
    fn readable_count(&self) -> usize;

    /// Takes the next one off the ready list.
    fn pop_readable(&mut self) -> Option<ConnId>;

    /// Puts one back, behind the others.
    fn push_readable(&mut self, conn: ConnId);

    /// Whether the node knows the connection: not while it is dialed, and not while it lingers behind a
    /// close.
    fn is_open(&self, conn: ConnId) -> bool;

    /// Reads once, at most so many bytes. Gives `take` all that the node has not consumed; `take`
    /// says how much of that it consumed now.
    fn read(
        &mut self,
        now: Mono,
        conn: ConnId,
        bytes_max: usize,
        take: impl FnOnce(&[u8]) -> usize,
    ) -> ReadEnd;

    /// The next dial or lingering close whose time is over. A dial is given up; a close is reported to nobody.
    fn poll_expired(&mut self, now: Mono) -> Option<Option<DialId>>;

    /// Ends the sleep of another reactor of the process.
    fn wake(&mut self, reactor: usize);

    /// How many connections are on the ready list for writing.
    fn writable_count(&self) -> usize;

    /// Takes the next one off the ready list.
    fn pop_writable(&mut self) -> Option<ConnId>;

    /// Whether bytes of the node can be written to the connection now.
    fn can_write(&self, conn: ConnId) -> bool;

    /// Writes once.
    fn write(&mut self, now: Mono, conn: ConnId, outgoing: Outgoing<'_>) -> Written;

    /// A flush of the connection has ended before the node had sent all.
    fn note_cut_short(&mut self, conn: ConnId, end: CutShort);

    /// Begins a connect.
    ///
    /// # Errors
    /// When it failed before it began.
    fn dial(
        &mut self,
        now: Mono,
        dial: DialId,
        to: SocketAddr,
        within: Duration,
    ) -> Result<(), DialFailure>;

    /// Closes for the node. Whether the node knew the connection.
    fn close(&mut self, now: Mono, conn: ConnId) -> bool;

    /// Gives a connection, with what was not consumed of it, to another reactor.
    fn hand_over(&mut self, conn: ConnId, reactor: usize);

    /// Writes a log line.
    fn log(&mut self, level: Level, text: String);

    /// Frees closed slots, at most so many. Whether some are left.
    fn reap(&mut self, count_max: usize) -> bool;
}

/// The bounds of a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Connections accepted.
    pub accepts_max: usize,
    /// Connections flushed before what has come in meanwhile is looked at.
    pub flushes_max: usize,
    /// Connections read, besides those that bring what is live.
    pub reads_max: usize,
    /// Bytes read of those.
    pub read_bytes_max: usize,
    /// Closed connections freed.
    pub reaps_max: usize,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds {
            accepts_max: limits::ACCEPTS_PER_TURN_MAX,
            flushes_max: limits::FLUSHES_PER_TURN_MAX,
            reads_max: limits::READS_PER_TURN_MAX,
            read_bytes_max: limits::READ_BYTES_OF_OTHERS_PER_TURN_MAX,
            reaps_max: limits::REAPS_PER_TURN_MAX,
        }
    }
}

/// What one turn leaves to the next.
#[derive(Debug, Default)]
pub struct Turn {
    bounds: Bounds,
    /// A dial or a close ended in step 8 or 9.
    has_late_input: bool,
    /// The node may have connections to flush that the bound left out.
    has_unflushed: bool,
    /// The bound left closed slots to the next turn.
    has_unreaped: bool,
    /// How often the bound of a flush left connections to the next turn.
    bounded_flushes: u64,
    /// Connections to read again in the next turn, behind those that the bound left out; kept to save the
    /// allocation.
    again: Vec<ConnId>,
}

impl Turn {
    /// Turns with these bounds.
    #[must_use]
    pub fn new(bounds: Bounds) -> Turn {
        Turn { bounds, ..Turn::default() }
    }

    /// Whether the next turn must follow at once, without a wait for events.
    #[must_use]
    pub fn is_urgent(&self) -> bool {
        self.has_late_input || self.has_unflushed || self.has_unreaped
    }

    /// How often the bound of a flush left connections to the next turn.
    #[must_use]
    pub fn bounded_flushes(&self) -> u64 {
        self.bounded_flushes
    }

    /// Runs one turn at this moment.
    pub fn run<N: Node, S: Shell>(&mut self, shell: &mut S, node: &mut N, now: Now) {
        self.has_late_input = false;
        node.handle_storage(now);
        node.handle_mail(now);
        conclude_dials(shell, node, now);
        self.accept(shell, node, now);
        self.take_handed_over(shell, node, now);
        self.read(shell, node, now);
        if node.sends_before_timers() {
            let left = self.flush(shell, node, now, self.bounds.flushes_max);
            self.flush_bulk(shell, node, now, left);
        }
        expire(shell, node, now);
        node.handle_timers(now);
        node.commit(now);
        while let Some(reactor) = node.poll_wake() {
            shell.wake(reactor);
        }
        let left = self.flush(shell, node, now, self.bounds.flushes_max);
        node.proceed(now);
        self.flush_bulk(shell, node, now, left);
        self.act(shell, node, now);
        self.has_unreaped = shell.reap(self.bounds.reaps_max);
    }

    /// Sends all that the node has, without a bound, and does what it asks for: a node that stops has no
    /// next turn.
    pub fn finish<N: Node, S: Shell>(&mut self, shell: &mut S, node: &mut N, now: Now) {
        let left = self.flush(shell, node, now, usize::MAX);
        self.flush_bulk(shell, node, now, left);
        self.act(shell, node, now);
        self.has_unreaped = shell.reap(usize::MAX);
    }

    fn accept<N: Node, S: Shell>(&self, shell: &mut S, node: &mut N, now: Now) {
        for _ in 0..self.bounds.accepts_max {
            match shell.poll_accepted(now.mono) {
                Some(Accepted::Open(conn, listener, peer)) => {
                    node.handle_open(now, conn, Origin::Accepted(listener, peer));
                }
                Some(Accepted::Surplus(conn, listener)) => {
                    node.handle_local_fault(now, LocalFault::ProcessDescriptors);
                    node.handle_open(now, conn, Origin::Surplus(listener));
                }
                // It counts: a flood of peers without a place may not hold the turn.
                Some(Accepted::Dropped) => {
                    node.handle_local_fault(now, LocalFault::ProcessDescriptors);
                }
                Some(Accepted::Failed(fault)) => {
                    node.handle_local_fault(now, fault);
                    return;
                }
                None => return,
            }
        }
    }

    fn take_handed_over<N: Node, S: Shell>(&self, shell: &mut S, node: &mut N, now: Now) {
        for _ in 0..self.bounds.accepts_max {
            let Some(Arrival { conn, bytes, is_lost, peer }) = shell.poll_handed_over() else {
                return;
            };
            node.handle_open(now, conn, Origin::HandedOver(peer));
            if is_lost {
                node.handle_close(now, conn, CloseReason::Reset);
                continue;
            }
            let consumed = node.handle_bytes(now, conn, &bytes);
            shell.keep(conn, bytes.get(consumed..).unwrap_or_default());
        }
    }

    /// Reads who brings what is live, and of others as much as the bounds allow. Others take turns: who was left
    /// out stands ahead of who was read.
    fn read<N: Node, S: Shell>(&mut self, shell: &mut S, node: &mut N, now: Now) {
        let (mut reads_left, mut bytes_left) = (self.bounds.reads_max, self.bounds.read_bytes_max);
        for _ in 0..shell.readable_count() {
            let Some(conn) = shell.pop_readable() else { break };
            let is_open = shell.is_open(conn);
            let is_other = is_open && !node.is_source(conn);
            let is_out = is_other && (reads_left == 0 || bytes_left == 0);
            if is_out || is_open && !node.wants_bytes(conn) {
                shell.push_readable(conn);
                continue;
            }
            let bytes_max = if is_other { bytes_left } else { limits::READ_BYTES_PER_TURN_MAX };
            let mut bytes_read = 0;
            let end = shell.read(now.mono, conn, bytes_max, |bytes| {
                bytes_read = bytes.len();
                node.handle_bytes(now, conn, bytes)
            });
            if is_other {
                reads_left -= 1;
                bytes_left = bytes_left.saturating_sub(bytes_read);
            }
            match end {
                ReadEnd::Drained => {}
                ReadEnd::More => self.again.push(conn),
                ReadEnd::Ended(reason) => node.handle_close(now, conn, reason),
            }
        }
        for conn in self.again.drain(..) {
            shell.push_readable(conn);
        }
    }

    /// Sends what is live. How many more connections may be flushed.
    #[inline(never)]
    fn flush<N: Node, S: Shell>(
        &mut self,
        shell: &mut S,
        node: &mut N,
        now: Now,
        flushes_max: usize,
    ) -> usize {
        for _ in 0..shell.writable_count().min(flushes_max) {
            let Some(conn) = shell.pop_writable() else { break };
            if !node.put_off(conn) {
                flush_one(shell, node, now, conn);
            }
        }
        self.has_unflushed = false;
        self.flush_live(shell, node, now, flushes_max)
    }

    /// Called several times in a turn, most of the time for nobody: so it is a part of its callers.
    #[inline(always)]
    fn flush_live<N: Node, S: Shell>(
        &mut self,
        shell: &mut S,
        node: &mut N,
        now: Now,
        mut left: usize,
    ) -> usize {
        if left == 0 {
            return 0;
        }
        while let Some(conn) = node.poll_dirty() {
            flush_one(shell, node, now, conn);
            left -= 1;
            if left == 0 {
                self.bounded_flushes += 1;
                self.has_unflushed = !is_planted(Bug::ForgetUnflushed);
                break;
            }
        }
        left
    }

    /// Sends what can wait, behind what is live: in each turn something of it. Those that became live meanwhile
    /// are ahead of it.
    #[inline(always)]
    fn flush_bulk<N: Node, S: Shell>(
        &mut self,
        shell: &mut S,
        node: &mut N,
        now: Now,
        flushes_left: usize,
    ) {
        self.flush_live(shell, node, now, flushes_left);
        while let Some(conn) = node.poll_bulk() {
            flush_one(shell, node, now, conn);
        }
        self.has_unflushed |= node.has_bulk() && !is_planted(Bug::ForgetUnflushed);
    }

    fn act<N: Node, S: Shell>(&mut self, shell: &mut S, node: &mut N, now: Now) {
        while let Some(action) = node.poll_action() {
            match action {
                Action::Dial { dial, to, within } => {
                    // Most dials that meet a bad route fail before they begin.
                    if let Err(failure) = shell.dial(now.mono, dial, to, within) {
                        self.note_late_input();
                        node.handle_dial_failed(now, dial, failure);
                    }
                }
                Action::Close(conn) => {
                    flush_one(shell, node, now, conn);
                    if shell.close(now.mono, conn) {
                        self.note_late_input();
                        node.handle_close(now, conn, CloseReason::Ours);
                    }
                }
                Action::HandOver { conn, reactor } => shell.hand_over(conn, reactor),
                Action::Log(level, text) => shell.log(level, text),
            }
        }
    }

    fn note_late_input(&mut self) {
        self.has_late_input = !is_planted(Bug::ForgetLateInput);
    }
}

fn conclude_dials<N: Node, S: Shell>(shell: &mut S, node: &mut N, now: Now) {
    while let Some(dialed) = shell.poll_dialed() {
        match dialed {
            Dialed::Open(conn, dial) => node.handle_open(now, conn, Origin::Dialed(dial)),
            Dialed::Failed(dial, failure) => node.handle_dial_failed(now, dial, failure),
        }
    }
}

fn expire<N: Node, S: Shell>(shell: &mut S, node: &mut N, now: Now) {
    while let Some(expired) = shell.poll_expired(now.mono) {
        if let Some(dial) = expired {
            node.handle_dial_failed(now, dial, DialFailure::Deadline);
        }
    }
}

/// Writes what the node has for one connection, until one of the three has had enough.
fn flush_one<N: Node, S: Shell>(shell: &mut S, node: &mut N, now: Now, conn: ConnId) {
    if !shell.can_write(conn) {
        return;
    }
    let mut written = 0;
    let end = loop {
        let outgoing = node.outgoing(now, conn);
        let offered = outgoing.len();
        if offered == 0 {
            return;
        }
        if written >= limits::WRITE_BYTES_PER_TURN_MAX {
            break CutShort::Bounded;
        }
        match shell.write(now.mono, conn, outgoing) {
            Written::Bytes(bytes) => {
                let has_more = node.handle_sent(now, conn, bytes);
                written += bytes;
                if bytes < offered {
                    break CutShort::Blocked;
                }
                if !has_more {
                    return;
                }
            }
            Written::Blocked => break CutShort::Blocked,
            Written::Broken => break CutShort::Broken,
        }
    };
    shell.note_cut_short(conn, end);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepted_connections_leave_descriptors_free_and_some_to_say_so() {
        let count = |limit: u64, room| {
            (0..limit).filter(|number| room_for(*number, Some(limit)) == room).count() as u64
        };
        for limit in [16, 64, 1_024, 20_000, 1 << 20] {
            let own = count(limit, Room::Closed);
            assert!(own >= (limit / 8 * 3 / 4).min(100), "{limit} leaves {own}");
            assert!(count(limit, Room::Kept) >= limit / 8 * 7);
            assert_eq!(count(limit, Room::Refused), reserved_descriptors(limit) / 4);
        }
        assert_eq!(room_for(u64::MAX, None), Room::Kept);
        assert_eq!(room_for(0, Some(0)), Room::Closed);
    }
}
