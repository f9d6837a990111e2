//! The simulated network: byte streams between hosts, in pieces, with delay and a bound, and with an
//! end that arrives behind the bytes. Not here: hosts, turns and time (the world has those).

use std::collections::VecDeque;

use pregao::node::ConnId;
use pregao::random::Random;

/// The grain of simulated time: what happens within one grain happens in one turn of a host.
pub(crate) const GRAIN_NS: u64 = 20_000;

/// One end of a connection, as its host's kernel has it.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) host: usize,
    pub(crate) conn: ConnId,
    pub(crate) state: EndState,
    /// On their way here: when they arrive, and what.
    pub(crate) incoming: VecDeque<(u64, Vec<u8>)>,
    /// Arrived and not read.
    pub(crate) received: VecDeque<u8>,
    /// The beginning of a frame, as the reactor keeps it.
    pub(crate) carry: Vec<u8>,
    /// When the end of the stream arrives here, and whether it is a reset.
    pub(crate) end: Option<(u64, bool)>,
    /// A write from here was cut short.
    pub(crate) is_blocked: bool,
    /// On its host's ready list.
    pub(crate) is_ready: bool,
    last_arrival: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EndState {
    /// The handshake is under way.
    Opening,
    Open,
    /// Its node is done with it.
    Closed,
}

impl End {
    pub(crate) fn new(host: usize, conn: ConnId) -> End {
        End {
            host,
            conn,
            state: EndState::Opening,
            incoming: VecDeque::new(),
            received: VecDeque::new(),
            carry: Vec::new(),
            end: None,
            is_blocked: false,
            is_ready: false,
            last_arrival: 0,
        }
    }

    pub(crate) fn unread_bytes(&self) -> usize {
        self.incoming.iter().map(|(_, bytes)| bytes.len()).sum::<usize>() + self.received.len()
    }

    /// Moves what has arrived into the receive buffer.
    pub(crate) fn arrive(&mut self, now_ns: u64) {
        while self.incoming.front().is_some_and(|&(at, _)| at <= now_ns) {
            let (_, bytes) = self.incoming.pop_front().unwrap();
            self.received.extend(bytes);
        }
    }

    pub(crate) fn has_ended(&self, now_ns: u64) -> Option<bool> {
        let (at, is_reset) = self.end?;
        (at <= now_ns && self.incoming.is_empty() && self.received.is_empty()).then_some(is_reset)
    }

    /// The peer closes behind what it sent.
    pub(crate) fn finish(&mut self, now_ns: u64, random: &mut Random) -> u64 {
        let at = self.next_arrival(now_ns, random);
        self.end.get_or_insert((at, false));
        at
    }

    /// The stream breaks: any suffix of what is under way is lost.
    pub(crate) fn reset(&mut self, now_ns: u64, random: &mut Random) -> u64 {
        let under_way: usize = self.incoming.iter().map(|(_, bytes)| bytes.len()).sum();
        let mut kept = usize::try_from(random.below(under_way as u64 + 1)).unwrap();
        for (_, bytes) in &mut self.incoming {
            bytes.truncate(kept);
            kept -= bytes.len();
        }
        let at = self.next_arrival(now_ns, random);
        self.end = Some((at, true));
        at
    }

    fn next_arrival(&mut self, now_ns: u64, random: &mut Random) -> u64 {
        let delay = GRAIN_NS * random.between(1, 25);
        self.last_arrival = self.last_arrival.max(now_ns + delay);
        self.last_arrival
    }
}

/// A connection.
#[derive(Debug)]
pub(crate) struct Tcp {
    pub(crate) ends: [End; 2],
    /// What one direction holds at most.
    pub(crate) buffer_bytes: usize,
}

impl Tcp {
    /// Takes bytes from one side, as many as fit, and says when each piece arrives.
    pub(crate) fn write(
        &mut self,
        side: usize,
        mut bytes: &[u8],
        now_ns: u64,
        random: &mut Random,
    ) -> (usize, Vec<u64>) {
        let buffer_bytes = self.buffer_bytes;
        let to = &mut self.ends[1 - side];
        if to.state == EndState::Closed || to.end.is_some() {
            // The kernel takes it, and nobody will ever read it.
            return (bytes.len(), Vec::new());
        }
        let room = buffer_bytes.saturating_sub(to.unread_bytes());
        bytes = &bytes[..bytes.len().min(room)];
        let taken = bytes.len();
        let mut arrivals = Vec::new();
        while !bytes.is_empty() {
            let most = match random.below(8) {
                0 => 1,
                1 => 70,
                _ => 4096,
            };
            let piece = usize::try_from(random.between(1, most)).unwrap().min(bytes.len());
            let at = to.next_arrival(now_ns, random);
            to.incoming.push_back((at, bytes[..piece].to_vec()));
            arrivals.push(at);
            bytes = &bytes[piece..];
        }
        (taken, arrivals)
    }
}
