//! Many clients on one thread: each a connection to the aggregator, queries in flight on all of them.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use mio::{Events, Interest, Poll, Token};
use pregao::time::{Clock, Mono, nanos};
use pregao::wire::{EndStatus, Ended, Frame, Refusal, Role, Session, U32, as_frames};
use zerocopy::IntoBytes;

use super::hops::Progress;
use super::http::{self, Next};
use super::shapes::Shapes;
use super::{Over, QueryFlags, Tally};
use crate::limits::{CONNECT_MAX, DRAIN_MAX, EVENTS_MAX, LEAD_IN, POLL_MAX, READ_BYTES};
use crate::pace::Pacer;

struct Client {
    over: Over,
    stream: mio::net::TcpStream,
    out: Vec<u8>,
    carry: Vec<u8>,
    next_id: u32,
    /// When each open query was to be sent.
    open: BTreeMap<u32, Mono>,
    is_broken: bool,
}

/// What a run does, and what it has seen.
struct Load<'a> {
    clients: Vec<Client>,
    address: SocketAddr,
    shapes: &'a Shapes,
    clock: Clock,
    from: Mono,
    to: Mono,
    number: u64,
    tally: Tally,
    /// Clients whose query has ended, for a run without a rate.
    idle: Vec<usize>,
}

/// Asks, and says meanwhile how far it is.
pub(super) fn run(
    flags: &QueryFlags,
    shapes: &Shapes,
    progress: &Progress,
) -> Result<Tally, String> {
    let failed = |error: io::Error| error.to_string();
    let mut poll = Poll::new().map_err(failed)?;
    let mut clients = Vec::new();
    let over = flags.over;
    let address = if over == Over::Http { flags.gateway } else { flags.addr };
    for token in 0..flags.clients as usize {
        let mut stream = TcpStream::connect_timeout(&address, CONNECT_MAX).map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        if over == Over::Frames {
            let hello = Session { role: Role::Querier as u8, ..Session::default() };
            stream.write_all(Frame::seal(hello).as_bytes()).map_err(failed)?;
        }
        stream.set_nonblocking(true).map_err(failed)?;
        let mut stream = mio::net::TcpStream::from_std(stream);
        let interest = Interest::READABLE | Interest::WRITABLE;
        poll.registry().register(&mut stream, Token(token), interest).map_err(failed)?;
        let (out, carry, open) = (Vec::new(), Vec::new(), BTreeMap::new());
        clients.push(Client { over, stream, out, carry, next_id: 0, open, is_broken: false });
    }
    let clock = Clock::start();
    let start = clock.now().mono + LEAD_IN;
    let from = start + flags.warm_up;
    let to = from + flags.duration;
    let idle = (0..clients.len()).collect();
    let tally = Tally::new();
    let mut load = Load { clients, address, shapes, clock, from, to, number: 0, tally, idle };
    let pacer = flags.rate.map(|rate| Pacer::new(start, rate, flags.warm_up + flags.duration));
    let mut events = Events::with_capacity(EVENTS_MAX);
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let now = clock.now().mono;
        if now >= to {
            progress.end();
        } else if now >= from {
            progress.begin();
        }
        load.send_due(now, start, pacer.as_ref());
        let is_over = now >= to && load.clients.iter().all(|it| it.open.is_empty());
        if is_over || now.since(to) >= flags.deadline.min(DRAIN_MAX) + Duration::from_secs(1) {
            break;
        }
        let wait = match &pacer {
            Some(pacer) if load.number < pacer.total() => pacer.due_at(load.number).since(now),
            _ => POLL_MAX,
        };
        // The kernel rounds up to a millisecond; a due query does not wait that long.
        let wait =
            if wait < Duration::from_millis(1) { Duration::ZERO } else { wait.min(POLL_MAX) };
        match poll.poll(&mut events, Some(wait)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            result => result.map_err(failed)?,
        }
        for event in &events {
            load.turn(event.token().0, &mut buffer);
        }
    }
    let unanswered: usize = load
        .clients
        .iter()
        .map(|client| client.open.values().filter(|due| **due >= from && **due < to).count())
        .sum();
    load.tally.lost += unanswered as u64;
    load.tally.span = flags.duration;
    Ok(load.tally)
}

impl Load<'_> {
    fn send_due(&mut self, now: Mono, start: Mono, pacer: Option<&Pacer>) {
        if let Some(pacer) = pacer {
            let due = pacer.due_by(now);
            while self.number < due {
                let count = self.clients.len() as u64;
                let client = usize::try_from(self.number % count).unwrap_or(0);
                self.send(client, pacer.due_at(self.number), now);
            }
        } else if now >= start && now < self.to {
            for client in std::mem::take(&mut self.idle) {
                self.send(client, now, now);
            }
        }
    }

    fn send(&mut self, index: usize, due: Mono, now: Mono) {
        let number = self.number;
        self.number += 1;
        if due >= self.from {
            self.tally.behind.saturating_record(nanos(now.since(due)).max(1));
        }
        let Some(client) = self.clients.get_mut(index) else { return };
        client.next_id += 1;
        client.open.insert(client.next_id, due);
        match client.over {
            Over::Frames => {
                let mut question = self.shapes.question(number);
                question.query.id = U32::new(client.next_id);
                client.out.extend_from_slice(question.frames().as_slice().as_bytes());
            }
            Over::Http => {
                client.out.extend(http::request(&self.shapes.path(number), self.address));
            }
        }
        client.flush();
    }

    fn turn(&mut self, index: usize, buffer: &mut [u8]) {
        let Some(client) = self.clients.get_mut(index) else { return };
        client.flush();
        loop {
            match client.stream.read(buffer) {
                Ok(0) => {
                    client.is_broken = true;
                    return;
                }
                Ok(count) => {
                    let done = self.clock.now().mono;
                    let answers = client.take(buffer.get(..count).unwrap_or_default());
                    for (due, status) in answers {
                        if due >= self.from && done <= self.to {
                            self.tally.note(status, done.since(due));
                        }
                        self.idle.push(index);
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => {
                    client.is_broken = true;
                    return;
                }
            }
        }
    }
}

impl Client {
    fn flush(&mut self) {
        while !self.out.is_empty() && !self.is_broken {
            match self.stream.write(&self.out) {
                Ok(count) => {
                    self.out.drain(..count);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => self.is_broken = true,
            }
        }
    }

    /// The queries that these bytes end, each with the time when it was to be sent.
    fn take(&mut self, bytes: &[u8]) -> Vec<(Mono, EndStatus)> {
        self.carry.extend_from_slice(bytes);
        if self.over == Over::Http {
            return self.take_http();
        }
        let (frames, rest) = as_frames(&self.carry);
        let rest = rest.len();
        let mut ended = Vec::new();
        for frame in frames {
            let (id, status) = if let Some(end) = frame.view::<Ended>() {
                (end.id, EndStatus::from_number(end.status).unwrap_or(EndStatus::Failed))
            } else if let Some(refusal) = frame.view::<Refusal>() {
                (refusal.id, EndStatus::Failed)
            } else {
                continue;
            };
            // A failed answer has both; the first of them counts.
            ended.extend(self.open.remove(&id.get()).map(|due| (due, status)));
        }
        self.carry.drain(..self.carry.len() - rest);
        ended
    }
    /// The same of HTTP, whose answers come in the order of the requests.
    fn take_http(&mut self) -> Vec<(Mono, EndStatus)> {
        let (mut at, mut ended) = (0, Vec::new());
        loop {
            match http::next_answer(&self.carry[at..]) {
                Next::More => break,
                Next::Answer { bytes, status } => {
                    at += bytes;
                    ended.extend(self.open.pop_first().map(|(_, due)| (due, status)));
                }
                Next::Wrong => {
                    self.is_broken = true;
                    break;
                }
            }
        }
        self.carry.drain(..at);
        ended
    }
}
