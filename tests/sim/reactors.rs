//! The reactors of one process: each is a host of its own here, because each takes turns of its own. They
//! start and end together, the first hands connections to the others and wakes them, and any of their
//! threads may be slow alone, also in the middle of a turn. Not here: what their nodes share.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use pregao::limits;
use pregao::node::broker::Fanout;
use pregao::node::{ConnId, Node};
use pregao::planted::{Bug, is_planted, on_preemption, plant};
use pregao::time::Now;
use pregao::turn::Arrival;

use crate::hosts::AnyNode;
use crate::net::{EndState, NOBODY};
use crate::world::{Event, Host, World};

/// A host's place among the reactors of its process.
pub(crate) struct Reactors {
    /// The host of the first.
    pub(crate) first: usize,
    /// The hosts of the further ones, in their order; known to the first only.
    further: Vec<usize>,
    /// Connections that were handed over to it and that it has not taken, with their side.
    pub(crate) arrivals: VecDeque<(u64, usize)>,
    /// Its next turn stands still in the middle, for so long.
    break_ns: Option<u64>,
    mid_turn: Option<MidTurn>,
    /// Figures of its node, as it last said.
    full_rounds_seen: u64,
    letters_seen: u64,
    pub(crate) full_seen: (u64, u64),
}

impl Reactors {
    /// The only reactor of its process.
    pub(crate) fn alone(host: usize) -> Reactors {
        Reactors {
            first: host,
            further: Vec::new(),
            arrivals: VecDeque::new(),
            break_ns: None,
            mid_turn: None,
            full_rounds_seen: 0,
            letters_seen: 0,
            full_seen: (0, 0),
        }
    }

    /// Its process has ended.
    pub(crate) fn forget(&mut self) {
        let (first, further) = (self.first, std::mem::take(&mut self.further));
        *self = Reactors { first, further, ..Reactors::alone(first) };
    }
}

/// A turn that stands still in the middle. Its stack is that of a thread, which runs only while the world
/// waits for it: who runs when is decided by the seed here too.
struct MidTurn {
    until_ns: u64,
    go_on: Sender<()>,
    thread: JoinHandle<Box<Fanout>>,
}

thread_local! {
    /// How the thread says that it stands, and how it learns that it may go on.
    static STAND: RefCell<Option<(Sender<()>, Receiver<()>)>> = const { RefCell::new(None) };
}

/// Stands still, the first time.
fn stand() {
    if let Some((stands, may_go_on)) = STAND.with(|it| it.borrow_mut().take()) {
        // If nobody listens, the world is gone.
        let _ = stands.send(());
        let _ = may_go_on.recv();
    }
}

/// Begins to take in the mail of a reactor. The turn that stands in the middle of it, or the node when it
/// never came there.
fn begin(mut node: Box<Fanout>, now: Now, until_ns: u64) -> Result<MidTurn, Box<Fanout>> {
    let bug = Bug::ALL.into_iter().find(|bug| is_planted(*bug));
    let (stands, has_stood) = channel();
    let (go_on, may_go_on) = channel();
    let thread = std::thread::spawn(move || {
        plant(bug);
        STAND.with(|it| *it.borrow_mut() = Some((stands, may_go_on)));
        on_preemption(Some(stand));
        node.handle_mail(now);
        STAND.with(|it| it.borrow_mut().take());
        node
    });
    let turn = MidTurn { until_ns, go_on, thread };
    // An error: the thread is through, and has let go of its end.
    if has_stood.recv().is_ok() { Ok(turn) } else { Err(turn.finish()) }
}

impl MidTurn {
    fn finish(self) -> Box<Fanout> {
        // An error: it has gone on already.
        let _ = self.go_on.send(());
        self.thread.join().expect("a reactor panicked in the middle of a turn")
    }
}

impl Host {
    /// Whether its process runs.
    pub(crate) fn is_up(&self) -> bool {
        self.node.is_some() || self.reactors.mid_turn.is_some()
    }
}

impl World {
    /// Makes this host a further reactor of the process whose first one is there.
    pub(crate) fn join(&mut self, first: usize, host: usize) {
        self.hosts[host].reactors.first = first;
        self.hosts[first].reactors.further.push(host);
    }

    /// All reactors of a host's process.
    pub(crate) fn members(&self, host: usize) -> Vec<usize> {
        let first = self.hosts[host].reactors.first;
        let further = self.hosts[first].reactors.further.iter().copied();
        std::iter::once(first).chain(further).collect()
    }

    /// The process has started.
    pub(crate) fn start_further(&mut self, first: usize, fanouts: Vec<Fanout>) {
        for (host, fanout) in self.hosts[first].reactors.further.clone().into_iter().zip(fanouts) {
            self.hosts[host].node =
                Some(AnyNode::Fanout(Box::new(self.bounds.of_fanout(fanout)), false));
            self.wake(host, self.now_ns());
        }
    }

    /// Ends the sleep of another reactor of this process.
    pub(crate) fn wake_reactor(&mut self, host: usize, reactor: usize) {
        if let Some(&other) = self.members(host).get(reactor) {
            self.wake(other, self.now_ns());
        }
    }

    /// Gives a connection's end, with what was read of it and not consumed, to another reactor.
    pub(crate) fn hand_over(&mut self, host: usize, conn: ConnId, reactor: usize) {
        let other = self.members(host)[reactor];
        let known = &mut self.hosts[host];
        let Some((number, side)) = known.conns.remove(&conn) else { return };
        known.used_slots.insert(conn.slot, conn);
        let end = &mut self.tcps.get_mut(&number).unwrap().ends[side];
        (end.host, end.conn, end.state) = (other, NOBODY, EndState::Opening);
        // Where it is registered next, everything is said anew.
        (end.is_ready, end.is_blocked) = (false, false);
        self.note(host, "hand over", &[]);
        let arrivals = &mut self.hosts[other].reactors.arrivals;
        arrivals.push_back((number, side));
        let is_bounded = arrivals.len() <= limits::REACTOR_ARRIVALS_MAX;
        self.hold(is_bounded, "arrivals-are-bounded", || "a reactor is given too many".to_owned());
        self.counts.handed_over += 1;
        self.wake(other, self.now_ns());
    }

    /// Registers the next connection that was handed over to this reactor; now and then that fails.
    pub(crate) fn take_arrival(&mut self, host: usize) -> Option<Arrival> {
        let (number, side) = self.hosts[host].reactors.arrivals.pop_front()?;
        let local = self.weather.local;
        let tcp = self.tcps.get_mut(&number).expect("an end that is open");
        let is_lost = local > 0 && tcp.random.chance_millionths(local);
        let end = &mut tcp.ends[side];
        end.state = EndState::Open;
        let bytes = std::mem::take(&mut end.carry);
        let conn = self.new_conn(host, number, side);
        if is_lost {
            self.hosts[host].conns.remove(&conn);
            self.close_end(number, side, true);
        } else {
            self.plan(self.now_ns(), Event::Arrive(number, side));
        }
        let peer = self.peer_address(number, side);
        Some(Arrival { conn, bytes, is_lost, peer })
    }

    /// Where the other side of a connection is.
    pub(crate) fn peer_address(&self, number: u64, side: usize) -> std::net::IpAddr {
        let peer = self.tcps.get(&number).map(|tcp| tcp.ends[1 - side].host);
        peer.map_or(std::net::Ipv4Addr::LOCALHOST.into(), |host| self.hosts[host].address.ip())
    }

    /// The next turn of a further reactor stands still in the middle.
    pub(crate) fn break_turn(&mut self, host: usize, wait_ns: u64) {
        self.hosts[host].reactors.break_ns = Some(wait_ns);
        self.wake(host, self.now_ns());
    }

    /// Whether this reactor stands in the middle of a turn, and begins to if it is told to.
    pub(crate) fn stands_mid_turn(&mut self, host: usize) -> bool {
        let (now, now_ns) = (self.now(), self.now_ns());
        let known = &mut self.hosts[host];
        if let Some(turn) = &known.reactors.mid_turn {
            if turn.until_ns > now_ns {
                let until_ns = turn.until_ns;
                self.wake(host, until_ns);
                return true;
            }
            self.finish_turn(host);
            return false;
        }
        let Some(wait_ns) = known.reactors.break_ns.take() else { return false };
        let node = match known.node.take() {
            Some(AnyNode::Fanout(node, _)) => node,
            other => {
                known.node = other;
                return false;
            }
        };
        match begin(node, now, now_ns + wait_ns) {
            Ok(turn) => {
                known.reactors.mid_turn = Some(turn);
                self.counts.broken_turns += 1;
                self.wake(host, now_ns + wait_ns);
                true
            }
            Err(node) => {
                // It never came to the place: perhaps the next one does.
                known.node = Some(AnyNode::Fanout(node, true));
                known.reactors.break_ns = Some(wait_ns);
                false
            }
        }
    }

    /// A turn that stands in the middle goes on: it has taken in its mail.
    pub(crate) fn finish_turn(&mut self, host: usize) {
        let known = &mut self.hosts[host];
        if let Some(turn) = known.reactors.mid_turn.take() {
            known.node = Some(AnyNode::Fanout(turn.finish(), true));
        }
    }

    /// What must hold of a reactor of the broker behind each of its turns, and what it counts.
    pub(crate) fn watch_reactor(&mut self, host: usize, node: &AnyNode) {
        match node {
            AnyNode::Broker(broker) => {
                let round = broker.round();
                self.hold(round.overfull_reads() == 0, "a-round-takes-in-only-so-much", || {
                    format!("{} read a publisher in a round that was full", self.hosts[host].name)
                });
                let seen = &mut self.hosts[host].reactors.full_rounds_seen;
                self.counts.full_rounds += round.full_rounds() - *seen;
                *seen = round.full_rounds();
            }
            AnyNode::Fanout(fanout, _) => {
                let seen = &mut self.hosts[host].reactors.letters_seen;
                self.counts.messages += fanout.messages_taken() - *seen;
                *seen = fanout.messages_taken();
                let first = self.hosts[host].reactors.first;
                let Some(AnyNode::Broker(broker)) = &self.hosts[first].node else { return };
                let difference = fanout.differs_from(broker);
                self.hold(difference.is_none(), "reactors-know-the-same", || {
                    format!("{} has another {difference:?}", self.hosts[host].name)
                });
            }
            _ => {}
        }
    }
}
