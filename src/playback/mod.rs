//! Playback: a feed as it is released by the market's clock, read by as many cursors as there are
//! consumers. Not here: consumers, and what is done wrong on the way to them.

mod clock;

use crate::feed::{Ring, Window};
use crate::limits;
use crate::market::synthetic::Synthetic;
use crate::market::tape::Schedule;
use crate::time::{Mono, nanos};
use crate::wire::{Frame, U64};

pub(crate) use clock::MarketClock;
pub use clock::Speed;

/// What is played.
#[derive(Clone, Debug)]
pub enum FeedConfig {
    /// Recorded tapes.
    Tapes {
        /// The tapes, merged.
        schedule: Schedule,
        /// Begins again after the end.
        looped: bool,
    },
    /// A synthetic market.
    Synthetic {
        /// What its events follow from.
        seed: u64,
        /// Their average rate at its own pace.
        events_per_second: u64,
        /// When it opened, nanoseconds since the Unix epoch.
        start_wall_ns: u64,
    },
}

/// What the exchange plays.
#[derive(Debug)]
pub(crate) enum Playback {
    Tape(Box<TapePlayback>),
    Synthetic(Box<SyntheticPlayback>),
}

impl Playback {
    pub(crate) fn new(feed: FeedConfig, clock: MarketClock, now: Mono) -> Playback {
        match feed {
            FeedConfig::Tapes { schedule, looped } => {
                let mut tape =
                    TapePlayback { schedule, looped, clock, next_seq: 1, later_laps: Vec::new() };
                tape.begin(now);
                Playback::Tape(Box::new(tape))
            }
            FeedConfig::Synthetic { seed, events_per_second, start_wall_ns } => {
                let market = Synthetic::new(seed, events_per_second, start_wall_ns);
                Playback::Synthetic(Box::new(SyntheticPlayback::new(
                    market,
                    events_per_second,
                    clock,
                )))
            }
        }
    }

    /// What it is, as a name.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Playback::Tape(_) => "tape",
            Playback::Synthetic(_) => "synthetic",
        }
    }

    /// Two feeds with one identity are the same feed.
    pub(crate) fn identity(&self) -> u64 {
        match self {
            Playback::Tape(tape) => tape.schedule.identity(),
            Playback::Synthetic(synthetic) => synthetic.identity,
        }
    }

    /// Where a consumer goes on that wants `next_seq` of this feed; `None` if it is none of which this one is more.
    pub(crate) fn continued(&self, feed: u64, next_seq: u64) -> Option<u64> {
        match self {
            Playback::Tape(tape) => tape.schedule.continued(feed, next_seq),
            Playback::Synthetic(_) => None,
        }
    }

    /// Frames 1 to n, which name the instruments.
    pub(crate) fn definitions(&self) -> &[Frame] {
        match self {
            Playback::Tape(tape) => &tape.schedule.frames()[..tape.schedule.definitions()],
            Playback::Synthetic(synthetic) => &synthetic.definitions,
        }
    }

    /// What of their names is too long for a definition. It has no place in the feed.
    pub(crate) fn names(&self) -> Vec<Frame> {
        match self {
            Playback::Tape(tape) => tape.schedule.names(),
            Playback::Synthetic(_) => Vec::new(),
        }
    }

    /// Frames of one lap; none for a feed without an end.
    pub(crate) fn total_frames(&self) -> Option<usize> {
        match self {
            Playback::Tape(tape) => Some(tape.schedule.frames().len()),
            Playback::Synthetic(_) => None,
        }
    }

    /// Whether all that there will ever be is released.
    pub(crate) fn has_ended(&self) -> bool {
        let total = self.total_frames().map(|frames| frames as u64);
        !self.is_looped() && total.is_some_and(|total| self.next_seq() > total)
    }

    fn is_looped(&self) -> bool {
        matches!(self, Playback::Tape(tape) if tape.looped)
    }

    /// The oldest `seq` still held.
    pub(crate) fn oldest_seq(&self) -> u64 {
        match self {
            Playback::Tape(_) => 1,
            Playback::Synthetic(synthetic) => synthetic.ring.oldest_seq(),
        }
    }

    /// The first `seq` that is not released yet; `u64::MAX` where all of an endless feed is.
    pub(crate) fn next_seq(&self) -> u64 {
        match self {
            Playback::Tape(tape) => tape.next_seq,
            Playback::Synthetic(synthetic) => synthetic.ring.next_seq(),
        }
    }

    /// Releases what is due, in bounded work. Whether there may be something new to read.
    pub(crate) fn advance(&mut self, now: Mono) -> bool {
        match self {
            Playback::Tape(tape) => tape.advance(now),
            Playback::Synthetic(synthetic) => synthetic.advance(now),
        }
    }

    /// Where a consumer that wants `wanted` will be served from.
    ///
    /// Wanting a frame that is not due yet says that the exchange was started again in the middle
    /// of a feed: the market's clock jumps, so that this frame is the next and nobody waits for what
    /// the consumer already has. Wanting the very next frame is what every consumer does, and moves
    /// nothing.
    pub(crate) fn seek(&mut self, now: Mono, wanted: u64) -> u64 {
        match self {
            Playback::Tape(tape) => tape.seek(now, wanted),
            Playback::Synthetic(synthetic) => synthetic.seek(now, wanted),
        }
    }

    /// When [`Playback::advance`] will release the next frame.
    pub(crate) fn next_due(&self) -> Option<Mono> {
        match self {
            Playback::Tape(tape) => tape.clock.due(tape.offset_ns(tape.next_seq)?),
            Playback::Synthetic(synthetic) => synthetic.next_due(),
        }
    }

    /// Released frames of `from_seq..`, at most `frames_max`, as one slice or two. A synthetic
    /// market without a pace makes them when nobody has read as far yet.
    pub(crate) fn read(&mut self, from_seq: u64, frames_max: usize) -> (&[Frame], &[Frame]) {
        match self {
            Playback::Tape(tape) => (tape.read(from_seq, frames_max), &[]),
            Playback::Synthetic(synthetic) => synthetic.read(from_seq, frames_max),
        }
    }
}

/// A tape, once or for ever. All of it is held, so a cursor may go back to its beginning.
#[derive(Debug)]
pub(crate) struct TapePlayback {
    schedule: Schedule,
    looped: bool,
    clock: MarketClock,
    next_seq: u64,
    /// Frames just read that no memory holds: those of the second lap and later.
    later_laps: Vec<Frame>,
}

impl TapePlayback {
    fn begin(&mut self, now: Mono) {
        let frames = self.schedule.frames().len() as u64;
        if self.clock.is_standing() {
            self.next_seq = self.schedule.definitions() as u64 + 1;
        } else if self.clock.is_max() {
            self.next_seq = if self.looped { u64::MAX } else { frames + 1 };
        } else {
            self.advance(now);
        }
    }

    fn offset_ns(&self, seq: u64) -> Option<u64> {
        let position = usize::try_from(seq.checked_sub(1)?).ok();
        match position.and_then(|at| self.schedule.offsets_ns().get(at)) {
            Some(&offset_ns) => Some(offset_ns),
            None => self.schedule.frame_at(seq, self.looped).map(|(_, offset_ns)| offset_ns),
        }
    }

    /// Gallops: a turn usually releases a few frames, a jump of the clock millions.
    fn advance(&mut self, now: Mono) -> bool {
        if self.clock.is_standing() || self.clock.is_max() {
            return false;
        }
        let time_ns = self.clock.time_ns(now);
        let is_due = |seq| self.offset_ns(seq).is_some_and(|offset_ns| offset_ns <= time_ns);
        if !is_due(self.next_seq) {
            return false;
        }
        let (mut due, mut step) = (self.next_seq, 1_u64);
        let mut not_due = loop {
            let probe = due.saturating_add(step);
            if probe == due || !is_due(probe) {
                break probe;
            }
            due = probe;
            step = step.saturating_mul(2);
        };
        while not_due - due > 1 {
            let middle = due + (not_due - due) / 2;
            if is_due(middle) {
                due = middle;
            } else {
                not_due = middle;
            }
        }
        self.next_seq = not_due;
        true
    }

    fn seek(&mut self, now: Mono, wanted: u64) -> u64 {
        self.advance(now);
        let wanted = wanted.max(1);
        if wanted <= self.next_seq || self.clock.is_standing() {
            return wanted;
        }
        if self.looped && wanted - self.next_seq > limits::EXCHANGE_FORWARD_FRAMES_MAX {
            return self.next_seq;
        }
        let end_ns = self.schedule.offsets_ns().last().copied();
        if let Some(offset_ns) = self.offset_ns(wanted).or(end_ns) {
            self.clock.jump_to(now, offset_ns);
        }
        self.advance(now);
        wanted
    }

    fn read(&mut self, from_seq: u64, frames_max: usize) -> &[Frame] {
        let released = self.next_seq.saturating_sub(from_seq);
        let count = usize::try_from(released).unwrap_or(usize::MAX).min(frames_max);
        let start = usize::try_from(from_seq.saturating_sub(1)).unwrap_or(usize::MAX);
        if let Some(lap) = self.schedule.frames().get(start..).filter(|lap| !lap.is_empty()) {
            return &lap[..count.min(lap.len())];
        }
        let seqs = (from_seq..).take(count);
        let frames = seqs.map_while(|seq| self.schedule.frame_at(seq, self.looped));
        self.later_laps.clear();
        self.later_laps.extend(frames.map(|(frame, _)| frame));
        &self.later_laps
    }
}

/// A synthetic market, of which a window is held.
///
/// It is made as its clock goes, but only while somebody is there to see it. What falls due
/// meanwhile is made when a consumer comes back, up to about half a window (or a second, when that
/// is more), so that a short absence costs nothing. A longer absence, of the consumers or of the
/// whole process, did not happen for this market: its events go on where they stood, with later
/// times, and no `seq` is missing.
#[derive(Debug)]
pub(crate) struct SyntheticPlayback {
    market: Synthetic,
    identity: u64,
    definitions: Vec<Frame>,
    clock: MarketClock,
    ring: Ring,
    /// The next event and its own offset; none when the market has no events.
    coming: Option<(u64, Frame)>,
    /// What the market slept through: added to every offset and time.
    slept_ns: u64,
    /// The market is made without its pace up to here.
    forward_to_seq: u64,
    lag_ns_max: u64,
}

impl SyntheticPlayback {
    fn new(mut market: Synthetic, events_per_second: u64, clock: MarketClock) -> SyntheticPlayback {
        let definitions = market.definitions();
        let mut ring = Ring::new(limits::EXCHANGE_WINDOW_FRAMES, 1);
        let are_held = definitions.iter().all(|definition| ring.push(definition));
        debug_assert!(are_held, "a ring without readers always has room");
        let half_ns = limits::EXCHANGE_WINDOW_FRAMES as u64 / 2 * 1_000_000_000;
        let half_ns = half_ns.checked_div(events_per_second).unwrap_or(u64::MAX);
        SyntheticPlayback {
            identity: market.identity(),
            definitions,
            clock,
            ring,
            coming: market.next_event(),
            market,
            slept_ns: 0,
            forward_to_seq: 0,
            lag_ns_max: half_ns.max(nanos(limits::EXCHANGE_LAG_MIN)),
        }
    }

    fn coming_ns(&self) -> Option<u64> {
        self.coming.map(|(offset_ns, _)| offset_ns.saturating_add(self.slept_ns))
    }

    /// Puts the coming event into the window, and makes the one after it.
    fn release(&mut self) -> bool {
        let Some((_, mut frame)) = self.coming else { return false };
        if self.slept_ns > 0 {
            frame.ts_event = U64::new(frame.ts_event.get().saturating_add(self.slept_ns));
            frame.renew_crc();
        }
        let is_held = self.ring.push(&frame);
        debug_assert!(is_held, "a ring without readers always has room");
        self.coming = self.market.next_event();
        true
    }

    fn is_forwarding(&self) -> bool {
        self.ring.next_seq() < self.forward_to_seq
    }

    fn advance(&mut self, now: Mono) -> bool {
        if self.clock.is_standing() {
            return false;
        }
        let before = self.ring.next_seq();
        let mut left = limits::EXCHANGE_EVENTS_PER_TURN_MAX;
        if self.is_forwarding() {
            while left > 0 && self.is_forwarding() && self.release() {
                left -= 1;
            }
            if let Some(due_ns) = self.coming_ns() {
                self.clock.jump_to(now, due_ns);
            }
        }
        if !self.clock.is_max() && !self.is_forwarding() {
            let time_ns = self.clock.time_ns(now);
            let lag_ns = time_ns.saturating_sub(self.coming_ns().unwrap_or(time_ns));
            self.slept_ns = self.slept_ns.saturating_add(lag_ns.saturating_sub(self.lag_ns_max));
            while left > 0 && self.coming_ns().is_some_and(|due_ns| due_ns <= time_ns) {
                self.release();
                left -= 1;
            }
        }
        self.ring.next_seq() != before
    }

    fn seek(&mut self, now: Mono, wanted: u64) -> u64 {
        self.advance(now);
        let next_seq = self.ring.next_seq();
        if wanted > next_seq && self.coming.is_some() && !self.clock.is_standing() {
            if wanted - next_seq > limits::EXCHANGE_FORWARD_FRAMES_MAX {
                return next_seq;
            }
            self.forward_to_seq = self.forward_to_seq.max(wanted);
            self.advance(now);
        }
        wanted.max(self.ring.oldest_seq())
    }

    fn next_due(&self) -> Option<Mono> {
        if self.is_forwarding() {
            return Some(Mono::default());
        }
        self.clock.due(self.coming_ns()?)
    }

    fn read(&mut self, from_seq: u64, frames_max: usize) -> (&[Frame], &[Frame]) {
        if self.clock.is_max() && from_seq == self.ring.next_seq() && !self.is_forwarding() {
            let mut left = frames_max;
            while left > 0 && self.release() {
                left -= 1;
            }
        }
        self.ring.view().slices(from_seq, frames_max)
    }
}
