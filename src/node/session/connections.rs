//! The connections of one node: who they are, what waits to be sent to them, and when they were last
//! heard. Every node keeps its connections in a [`Connections`]; what a connection is *for* is the node's
//! own type `P`, unknown until it is greeted. Not here: what a frame means to a node.

mod bulk;
mod exposure;
mod liveness;
mod traffic;

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use zerocopy::IntoBytes;

use exposure::Exposure;
use traffic::Traffic;

use super::round::Round;
use super::shares::{Address, Principal, Shares};
use super::work::Work;
use crate::limits;
use crate::node::{Action, ConnId, DialId, Level, LocalFault};
use crate::planted::{Bug, is_planted};
use crate::question::Questions;
use crate::time::{Mono, Now};
use crate::wire::{ErrorCode, Frame, Message, Refusal, unpadded};

/// One connection.
#[derive(Debug)]
pub struct Connection<P> {
    peer: Option<P>,
    /// The question that it is in the middle of.
    pub(super) questions: Questions,
    id: ConnId,
    outbox: BytesMut,
    last_heard: Mono,
    last_sent: Mono,
    /// Since when something has waited and nothing was taken, as far as the looks at it show; or [`NEVER`].
    unread_since: Mono,
    is_dirty: bool,
    is_closing: bool,
    /// This node dialed it, and is greeted rather than greets.
    is_dialed: bool,
    /// Its peer may ask questions.
    asks: bool,
    /// What the node has next for it can wait.
    is_bulk: bool,
    /// It brings what is live: it is read ahead of others.
    is_source: bool,
    /// What it counts as, on another machine.
    address: Option<Address>,
}

/// Of no moment.
const NEVER: Mono = Mono(u64::MAX);

impl<P> Connection<P> {
    /// What it is for, once it is greeted.
    #[must_use]
    pub fn peer(&self) -> Option<&P> {
        self.peer.as_ref()
    }

    /// The same, to change it.
    #[must_use]
    pub fn peer_mut(&mut self) -> Option<&mut P> {
        self.peer.as_mut()
    }

    pub(super) fn is_greeted(&self) -> bool {
        self.peer.is_some()
    }

    pub(super) fn asks(&self) -> bool {
        self.asks
    }

    /// When its peer was last heard.
    pub(super) fn last_heard(&self) -> Mono {
        self.last_heard
    }

    /// The connection's id.
    #[must_use]
    pub fn id(&self) -> ConnId {
        self.id
    }

    /// Bytes that wait to be sent.
    #[must_use]
    pub fn outbox_bytes(&self) -> usize {
        self.outbox.len()
    }

    /// Whether it has been refused and only waits for its last frame to leave.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        self.is_closing
    }
}

/// All connections of a node, and the node's wishes to its shell.
#[derive(Debug)]
pub struct Connections<P> {
    slots: Vec<Option<Connection<P>>>,
    open: usize,
    dirty: VecDeque<ConnId>,
    /// The same of bulk, behind those.
    bulk: VecDeque<ConnId>,
    work: Work,
    actions: VecDeque<Action>,
    next_tick: Mono,
    /// From this slot on, connections wait to be looked at for heartbeats.
    beats_from: Option<usize>,
    refused: u64,
    /// Refusals since the last tick: a flood of bad peers must not become a flood of log lines.
    refused_lately: u64,
    round: Round,
    local_faults: u64,
    local_fault_logged: Option<Mono>,
    is_stopped: bool,
    /// Connections from other machines.
    by_principal: Shares,
    /// How long a peer may take nothing of what waits for it, where that is bounded.
    unread_max: Option<Duration>,
    unread_closed: u64,
    traffic: Traffic,
    /// Other machines reach the node.
    exposure: Option<Exposure>,
}

/// Where bytes were that have left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// In the outbox.
    Outbox,
    /// In the memory of the node.
    Elsewhere,
}

impl<P> Default for Connections<P> {
    fn default() -> Self {
        Connections {
            slots: Vec::new(),
            open: 0,
            dirty: VecDeque::new(),
            bulk: VecDeque::new(),
            work: Work::default(),
            actions: VecDeque::new(),
            next_tick: Mono::default(),
            beats_from: None,
            refused: 0,
            refused_lately: 0,
            round: Round::default(),
            local_faults: 0,
            local_fault_logged: None,
            is_stopped: false,
            by_principal: Shares::new("connections", limits::CONNECTIONS_MAX),
            unread_max: None,
            unread_closed: 0,
            traffic: Traffic::default(),
            exposure: None,
        }
    }
}

impl<P> Connections<P> {
    /// Makes the table as long as for so many connections, so that it need not grow.
    pub(crate) fn reserve(&mut self, count: usize) {
        self.slots.reserve_exact(count.min(limits::CONNECTIONS_MAX));
    }

    /// Takes in a connection whose peer has not said what it wants.
    pub fn insert(&mut self, now: Now, id: ConnId) {
        self.insert_from(now, id, IpAddr::V4(Ipv4Addr::LOCALHOST));
    }

    /// The same, from this address. It is refused when that has its share of connections.
    pub fn insert_from(&mut self, now: Now, id: ConnId, address: IpAddr) {
        let principal = Principal::of(id, address);
        let checked = self.by_principal.check(principal, 0);
        self.take_in(now, id, false, principal);
        if let Err(rejection) = checked {
            self.refuse(id, rejection.code, &rejection.text);
        }
    }

    /// Takes in a connection that this node dialed.
    pub fn insert_dialed(&mut self, now: Now, id: ConnId) {
        self.take_in(now, id, true, Principal::Connection(id));
    }

    fn take_in(&mut self, now: Now, id: ConnId, is_dialed: bool, principal: Principal) {
        let slot = id.slot as usize;
        if self.slots.len() <= slot {
            self.slots.resize_with(slot + 1, || None);
        }
        self.open += usize::from(self.slots[slot].is_none());
        self.slots[slot] = Some(Connection {
            peer: None,
            questions: Questions::default(),
            id,
            outbox: BytesMut::new(),
            last_heard: now.mono,
            last_sent: now.mono,
            unread_since: NEVER,
            is_dirty: false,
            is_closing: false,
            is_dialed,
            asks: false,
            is_bulk: false,
            is_source: is_dialed,
            address: principal.address(),
        });
        if matches!(principal, Principal::Address(_)) {
            self.by_principal.change(principal, 0, 1);
        }
    }

    /// Who a connection counts as.
    pub(crate) fn principal(&self, id: ConnId) -> Principal {
        let address = self.get(id).and_then(|connection| connection.address);
        address.map_or(Principal::Connection(id), Principal::Address)
    }

    /// Forgets a connection that has ended. What it was for, if that was known.
    pub fn remove(&mut self, id: ConnId) -> Option<P> {
        let slot = self.slots.get_mut(id.slot as usize)?;
        if slot.as_ref()?.id != id {
            return None;
        }
        self.open -= 1;
        let connection = slot.take()?;
        if let Some(address) = connection.address {
            self.by_principal.change(Principal::Address(address), 1, 0);
        }
        connection.peer
    }

    /// The connection, unless it has ended or is being closed: to a closing one nobody speaks.
    #[must_use]
    #[inline]
    pub fn get(&self, id: ConnId) -> Option<&Connection<P>> {
        self.slots
            .get(id.slot as usize)?
            .as_ref()
            .filter(|connection| connection.id == id && !connection.is_closing)
    }

    /// The same, to change it.
    #[must_use]
    #[inline]
    pub fn get_mut(&mut self, id: ConnId) -> Option<&mut Connection<P>> {
        self.slots
            .get_mut(id.slot as usize)?
            .as_mut()
            .filter(|connection| connection.id == id && !connection.is_closing)
    }

    /// What a greeted connection is for.
    #[must_use]
    pub fn peer(&self, id: ConnId) -> Option<&P> {
        self.get(id)?.peer.as_ref()
    }

    /// The same, to change it.
    #[must_use]
    pub fn peer_mut(&mut self, id: ConnId) -> Option<&mut P> {
        self.get_mut(id)?.peer.as_mut()
    }

    /// The same, closing ones included: for a node's own bookkeeping.
    #[must_use]
    pub fn any_peer_mut(&mut self, id: ConnId) -> Option<&mut P> {
        let connection =
            self.slots.get_mut(id.slot as usize)?.as_mut().filter(|connection| connection.id == id);
        connection?.peer.as_mut()
    }

    /// Greeted connections that are not closing, and what each is for.
    pub fn peers(&self) -> impl Iterator<Item = (ConnId, &P)> {
        self.iter().filter_map(|connection| Some((connection.id, connection.peer.as_ref()?)))
    }

    /// The same, to change them.
    pub fn peers_mut(&mut self) -> impl Iterator<Item = (ConnId, &mut P)> {
        let open = self.slots.iter_mut().flatten().filter(|connection| !connection.is_closing);
        open.filter_map(|connection| Some((connection.id, connection.peer.as_mut()?)))
    }

    /// Marks the connections dirty whose peer is one of these.
    pub fn mark_dirty_where(&mut self, is_meant: impl Fn(&P) -> bool) {
        for slot in 0..self.slots.len() {
            let Some(connection) = self.at_slot(slot) else { continue };
            let id = connection.id;
            if connection.peer.as_ref().is_some_and(&is_meant) {
                self.mark_dirty(id);
            }
        }
    }

    /// Open connections, closing ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.open
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.open == 0
    }

    /// Peers refused so far.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// All connections that are not closing.
    pub fn iter(&self) -> impl Iterator<Item = &Connection<P>> {
        self.slots.iter().flatten().filter(|connection| !connection.is_closing)
    }

    /// Things that this machine ran out of, so far.
    #[must_use]
    pub fn local_faults(&self) -> u64 {
        self.local_faults
    }

    /// This machine ran out of something: counted, and logged once a second while it lasts, since it
    /// is tried again many times a second.
    pub(super) fn note_local_fault(&mut self, now: Now, what: &str, fault: LocalFault) {
        self.local_faults += 1;
        let is_due = |at: Mono| now.mono.since(at) >= limits::LOG_LOCAL_FAULT_EVERY;
        if self.local_fault_logged.is_none_or(is_due) {
            self.local_fault_logged = Some(now.mono);
            self.log(Level::Warn, format!("cannot {what}: {}", fault.as_str()));
        }
    }

    /// Whether the node has ended.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.is_stopped
    }

    pub(super) fn stop(&mut self) {
        self.is_stopped = true;
    }

    /// A turn begins: nothing of it has made anybody dirty yet.
    pub(super) fn begin_turn(&mut self) {
        self.work.begin_turn();
        self.round.begin_turn(self.dirty.len());
    }

    /// The connection in a slot, for walks that also mark dirty.
    fn at_slot(&mut self, slot: usize) -> Option<&mut Connection<P>> {
        self.slots.get_mut(slot)?.as_mut().filter(|connection| !connection.is_closing)
    }

    /// Queues a message.
    pub fn send<M: Message>(&mut self, id: ConnId, message: M) {
        self.send_frame(id, &Frame::seal(message));
    }

    /// Queues a frame as it is. A peer that lets more than the outbox's bound pile up is refused.
    pub fn send_frame(&mut self, id: ConnId, frame: &Frame) {
        let Some(connection) = self.get_mut(id) else { return };
        if connection.outbox.len() >= limits::UNREAD_BYTES_MAX {
            self.refuse(id, ErrorCode::Limit, "you do not read your answers");
            return;
        }
        connection.outbox.extend_from_slice(frame.as_bytes());
        self.mark_dirty(id);
    }

    /// Bytes still free in the outbox; sources that produce long runs fill no more than this.
    #[must_use]
    pub fn room(&self, id: ConnId) -> usize {
        self.get(id).map_or(0, |connection| {
            limits::OUTBOX_BYTES_MAX.saturating_sub(connection.outbox.len())
        })
    }

    /// Whether a peer reads what it is sent, so that it may be given more to answer.
    #[must_use]
    pub fn wants_frames(&self, id: ConnId) -> bool {
        self.get(id).is_none_or(|connection| connection.outbox.len() < limits::OUTBOX_BYTES_MAX / 2)
    }

    /// Notes that a connection has something to send.
    pub fn mark_dirty(&mut self, id: ConnId) {
        if let Some(connection) = self.slots.get_mut(id.slot as usize).and_then(Option::as_mut)
            && connection.id == id
            && !connection.is_dirty
        {
            connection.is_dirty = true;
            let is_bulk = connection.is_bulk && !is_planted(Bug::ReplayBeforeLive);
            let line = if is_bulk { &mut self.bulk } else { &mut self.dirty };
            line.push_back(id);
        }
    }

    /// The same as [`Connections::mark_dirty`], for what is live only.
    pub fn mark_dirty_if_live(&mut self, id: ConnId) {
        if let Some(connection) = self.slots.get_mut(id.slot as usize).and_then(Option::as_mut)
            && connection.id == id
            && !(connection.is_dirty | connection.is_bulk)
        {
            connection.is_dirty = true;
            self.dirty.push_back(id);
        }
    }

    /// How many wait to be asked for what there is to send.
    #[must_use]
    pub fn dirty_len(&self) -> usize {
        self.dirty.len()
    }

    /// The same as [`Connections::mark_dirty`], ahead of all others: for who has not had anything yet.
    pub fn mark_dirty_first(&mut self, id: ConnId) {
        let queued = (self.dirty.len(), self.bulk.len());
        self.mark_dirty(id);
        let line = if self.dirty.len() > queued.0 {
            &mut self.dirty
        } else if self.bulk.len() > queued.1 {
            &mut self.bulk
        } else {
            return;
        };
        if let Some(id) = line.pop_back() {
            line.push_front(id);
        }
    }

    /// Gives a connection to another reactor, with what was read of it and not consumed.
    pub fn hand_over(&mut self, id: ConnId, reactor: usize) {
        if self.get(id).is_some() {
            self.remove(id);
            self.actions.push_back(Action::HandOver { conn: id, reactor });
        }
    }

    /// Sends a peer the reason, and closes behind it.
    pub fn refuse(&mut self, id: ConnId, code: ErrorCode, text: &str) {
        let Some(connection) = self.get_mut(id) else { return };
        // What waits before it could hold the reason back for ever; a half-sent frame must be ended.
        let half = connection.outbox.len() % crate::wire::FRAME_BYTES;
        connection.outbox.truncate(half);
        connection.outbox.extend_from_slice(Frame::seal(Refusal::new(code, 0, text)).as_bytes());
        self.refused += 1;
        self.refused_lately += 1;
        if self.refused_lately <= limits::REFUSALS_LOGGED_PER_TICK_MAX {
            self.log(Level::Warn, format!("closed a connection: {text}"));
        }
        self.close_after_flush(id);
    }

    /// Refuses a connection for a frame that has no place. One that refuses us is closed without a word: its sender
    /// reads no more.
    pub fn refuse_frame(&mut self, id: ConnId, frame: &Frame, text: &str) {
        match frame.view::<Refusal>() {
            Some(refusal) => {
                self.log(Level::Info, format!("{text}: {}", unpadded(&refusal.text)));
                self.close_after_flush(id);
            }
            None => self.refuse(id, ErrorCode::Unexpected, text),
        }
    }

    /// Refuses everybody: the node stops.
    pub fn refuse_all(&mut self, code: ErrorCode, text: &str) {
        for slot in 0..self.slots.len() {
            if let Some(id) = self.at_slot(slot).map(|connection| connection.id) {
                self.refused_lately = limits::REFUSALS_LOGGED_PER_TICK_MAX;
                self.refuse(id, code, text);
            }
        }
    }

    /// The peer has said what it wants: from here on it may be silent for longer. It is flushed ahead of
    /// those who have had something already.
    pub(super) fn greet(&mut self, id: ConnId, asks: bool, peer: P) {
        if let Some(connection) = self.get_mut(id) {
            connection.asks = asks;
            connection.peer = Some(peer);
            self.mark_dirty_first(id);
        }
    }

    /// Says what a connection is for that this node dialed.
    pub fn dialed(&mut self, id: ConnId, peer: P) {
        if let Some(connection) = self.get_mut(id) {
            connection.peer = Some(peer);
        }
    }

    /// Closes once the outbox has been handed to the kernel (or cannot be).
    pub fn close_after_flush(&mut self, id: ConnId) {
        if let Some(connection) = self.get_mut(id) {
            connection.is_closing = true;
            self.actions.push_back(Action::Close(id));
        }
    }

    /// Asks the shell to connect.
    pub fn dial(&mut self, dial: DialId, to: std::net::SocketAddr, within: Duration) {
        self.actions.push_back(Action::Dial { dial, to, within });
    }

    /// Asks the shell to write a log line.
    pub fn log(&mut self, level: Level, text: String) {
        if self.actions.len() < limits::ACTIONS_MAX {
            self.actions.push_back(Action::Log(level, text));
        }
    }

    /// The next wish to the shell.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// The next connection with something to send; see [`super::Node::poll_dirty`].
    #[inline]
    pub fn poll_dirty(&mut self) -> Option<ConnId> {
        while let Some(id) = self.dirty.pop_front() {
            self.round.note_flushed(true);
            if let Some(Some(connection)) = self.slots.get_mut(id.slot as usize)
                && connection.id == id
            {
                if connection.is_bulk && !is_planted(Bug::ReplayBeforeLive) {
                    // It stands in the other line since.
                    continue;
                }
                connection.is_dirty = false;
            }
            return Some(id);
        }
        self.round.note_flushed(false);
        None
    }

    /// The outbox of a connection, closing ones included.
    #[must_use]
    #[inline]
    pub fn outbox(&self, id: ConnId) -> &[u8] {
        match self.slots.get(id.slot as usize) {
            Some(Some(connection)) if connection.id == id => &connection.outbox,
            Some(Some(connection)) if is_planted(Bug::SlotWithoutGeneration) => &connection.outbox,
            _ => &[],
        }
    }

    /// Appends bytes to the outbox without marking it dirty: for sources that fill it while the
    /// shell is already asking.
    pub fn fill(&mut self, id: ConnId, bytes: &[u8]) {
        if let Some(connection) = self.get_mut(id) {
            connection.outbox.extend_from_slice(bytes);
        }
    }

    /// Bytes have left: of the outbox, unless it is empty.
    #[inline]
    pub fn sent(&mut self, now: Now, id: ConnId, bytes: usize) -> Sent {
        let Some(Some(connection)) = self.slots.get_mut(id.slot as usize) else {
            return Sent::Outbox;
        };
        if connection.id != id {
            return Sent::Outbox;
        }
        self.traffic.note_sent(bytes);
        connection.last_sent = now.mono;
        if connection.unread_since < now.mono {
            connection.unread_since = NEVER;
        }
        if connection.outbox.is_empty() {
            return Sent::Elsewhere;
        }
        connection.outbox.advance(bytes.min(connection.outbox.len()));
        if connection.outbox.is_empty() {
            // An idle connection keeps no buffer.
            connection.outbox = BytesMut::new();
        }
        Sent::Outbox
    }
}

#[cfg(test)]
mod tests;
