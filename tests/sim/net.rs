//! The simulated network: byte streams between hosts, in pieces, with delay and a bound, and with an
//! end that arrives behind the bytes. Each connection has its own stream of random numbers, so that
//! what one does changes nothing for another. Not here: hosts, turns and time (the world has those).

use std::collections::VecDeque;

use pregao::node::ConnId;
use pregao::random::Random;

/// The grain of simulated time: what happens within one grain happens in one turn of a host.
pub(crate) const GRAIN_NS: u64 = 20_000;

/// What a connection's end is called before its host has accepted it.
pub(crate) const NOBODY: ConnId = ConnId { generation: 0, slot: u32::MAX };

/// What the network and the disks may do at present. A seed leaves some of it out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Weather {
    /// Pieces of one byte, and reads that stop early.
    pub(crate) pieces: bool,
    /// Longest delay of a piece, in grains.
    pub(crate) delay_grains_max: u64,
    /// What a direction of a connection holds at least and at most.
    pub(crate) buffer_bytes: (u64, u64),
    /// Of a million dials: refused, lost on their way, late, failed on the dialing machine itself.
    pub(crate) refused: u32,
    pub(crate) lost: u32,
    pub(crate) late: u32,
    pub(crate) local: u32,
    /// Of a million accepts: left waiting in the kernel for a while.
    pub(crate) late_accept: u32,
    /// Disks that take up to 200 ms now and then, instead of up to 5.
    pub(crate) slow_disk: bool,
}

impl Weather {
    /// Nothing fails; streams still come in pieces.
    pub(crate) const FAIR: Weather = Weather {
        pieces: true,
        delay_grains_max: 25,
        buffer_bytes: (512, 16 * 1024),
        refused: 0,
        lost: 0,
        late: 0,
        local: 0,
        late_accept: 0,
        slow_disk: true,
    };
}

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
    /// The beginning of a frame that this end has sent so far.
    pub(crate) sent: Vec<u8>,
    /// When the end of the stream arrives here, and whether it is a reset.
    pub(crate) end: Option<(u64, bool)>,
    /// Nothing arrives here before this.
    pub(crate) stalled_until: u64,
    /// A write from here was cut short.
    pub(crate) is_blocked: bool,
    /// When bytes last waited for room.
    pub(crate) blocked_at: u64,
    /// On its host's ready list.
    pub(crate) is_ready: bool,
    /// Its machine lost power without a word: the peer does not know.
    pub(crate) has_vanished: bool,
    last_arrival: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EndState {
    /// The handshake is under way, or nobody has accepted yet.
    Opening,
    Open,
    /// Its node is done with it.
    Closed,
}

impl End {
    pub(crate) fn new(host: usize) -> End {
        End {
            host,
            conn: NOBODY,
            state: EndState::Opening,
            incoming: VecDeque::new(),
            received: VecDeque::new(),
            carry: Vec::new(),
            sent: Vec::new(),
            end: None,
            stalled_until: 0,
            is_blocked: false,
            blocked_at: 0,
            is_ready: false,
            has_vanished: false,
            last_arrival: 0,
        }
    }

    pub(crate) fn is_accepted(&self) -> bool {
        self.conn != NOBODY
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

    fn next_arrival(&mut self, now_ns: u64, weather: &Weather, random: &mut Random) -> u64 {
        let delay = GRAIN_NS * random.between(1, weather.delay_grains_max);
        self.last_arrival = self.last_arrival.max(now_ns + delay).max(self.stalled_until);
        self.last_arrival
    }
}

/// A connection.
#[derive(Debug)]
pub(crate) struct Tcp {
    pub(crate) ends: [End; 2],
    /// What one direction holds at most.
    pub(crate) buffer_bytes: usize,
    pub(crate) random: Random,
}

impl Tcp {
    pub(crate) fn new(hosts: [usize; 2], weather: &Weather, mut random: Random) -> Tcp {
        let (least, most) = weather.buffer_bytes;
        let buffer_bytes = usize::try_from(random.between(least, most)).unwrap();
        Tcp { ends: hosts.map(End::new), buffer_bytes, random }
    }

    /// Takes bytes from one side, as many as fit, and says when each piece arrives.
    pub(crate) fn write(
        &mut self,
        side: usize,
        mut bytes: &[u8],
        now_ns: u64,
        weather: &Weather,
    ) -> (usize, Vec<u64>) {
        let Tcp { ends, buffer_bytes, random } = self;
        let to = &mut ends[1 - side];
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
                0 if weather.pieces => 1,
                1 if weather.pieces => 70,
                _ => 4096,
            };
            let piece = usize::try_from(random.between(1, most)).unwrap().min(bytes.len());
            let at = to.next_arrival(now_ns, weather, random);
            to.incoming.push_back((at, bytes[..piece].to_vec()));
            arrivals.push(at);
            bytes = &bytes[piece..];
        }
        (taken, arrivals)
    }

    /// This side's peer closes behind what it sent. Returns when that arrives.
    pub(crate) fn finish(&mut self, side: usize, now_ns: u64, weather: &Weather) -> u64 {
        let at = self.ends[side].next_arrival(now_ns, weather, &mut self.random);
        self.ends[side].end.get_or_insert((at, false));
        at
    }

    /// The stream to this side breaks: any suffix of what is under way is lost.
    pub(crate) fn reset(&mut self, side: usize, now_ns: u64, weather: &Weather) -> u64 {
        let end = &mut self.ends[side];
        let under_way: usize = end.incoming.iter().map(|(_, bytes)| bytes.len()).sum();
        let mut kept = usize::try_from(self.random.below(under_way as u64 + 1)).unwrap();
        for (_, bytes) in &mut end.incoming {
            bytes.truncate(kept);
            kept -= bytes.len();
        }
        let at = end.next_arrival(now_ns, weather, &mut self.random);
        end.end = Some((at, true));
        at
    }

    /// How much of what has arrived one read takes.
    pub(crate) fn read_bytes_max(&mut self, weather: &Weather) -> usize {
        match self.random.below(8) {
            0 if weather.pieces => usize::try_from(self.random.between(1, 200)).unwrap(),
            _ => usize::MAX,
        }
    }
}
