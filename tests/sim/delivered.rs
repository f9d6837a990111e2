//! What a subscriber was told, kept as an honest caller would keep it: what is void is taken back, and
//! whatever comes out of its order is noted. Not here: how it came.

use std::collections::BTreeSet;

use pregao::client::Event;
use pregao::wire::{ExchangeNumber, FeedStatus, Flags, Frame, Gap, GapReason, Kind, Subscribed};

use crate::client::ClientConfig;

/// What the broker has said on one connection with a subscriber.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Said {
    epoch: Option<u32>,
    last_seq: u64,
}

impl Said {
    /// An epoch is announced ahead of its frames, and behind the word that takes back what it voids. The
    /// announcement that comes too late.
    pub(crate) fn note(&mut self, frame: &Frame) -> Option<String> {
        if let Some(standing) = frame.view::<Subscribed>() {
            let (epoch, start) = (standing.epoch.get(), standing.epoch_start.get());
            let before = self.epoch.replace(epoch);
            let is_late = before.is_some_and(|before| before != epoch) && self.last_seq >= start;
            return is_late
                .then(|| format!("seq {} and then epoch {epoch} from {start}", self.last_seq));
        }
        if let Some(gap) = frame.view::<Gap>() {
            if gap.reason == GapReason::Void as u8 {
                self.last_seq = self.last_seq.min(gap.from_seq.get().saturating_sub(1));
            }
        } else if frame.kind().is_some_and(Kind::is_data) && !frame.has(Flags::SNAPSHOT) {
            self.last_seq = self.last_seq.max(frame.seq.get());
        }
        None
    }
}

/// What one subscriber has.
#[derive(Debug)]
pub(crate) struct Delivered {
    pub(crate) config: ClientConfig,
    /// What was delivered and still stands, in the order of delivery; snapshots apart.
    pub(crate) frames: Vec<Frame>,
    pub(crate) snapshot: Vec<Frame>,
    /// Losses that were told, void ones apart.
    pub(crate) lost: Vec<(GapReason, u64, u64)>,
    pub(crate) voids: Vec<(u64, u64)>,
    pub(crate) refusals: Vec<String>,
    /// The newest data frame that was delivered and still stands.
    pub(crate) last_seq: u64,
    /// Where it went live for the first time.
    pub(crate) live_from: Option<u64>,
    /// The next `seq` that it expects.
    pub(crate) next_seq: u64,
    /// What was delivered out of its order.
    pub(crate) disorder: Option<String>,
    /// It knows that the feed is not known to be current.
    pub(crate) is_stale: bool,
    /// It knows that nothing more comes.
    pub(crate) has_ended: bool,
    /// Exchanges of which it was told otherwise than of all together.
    pub(crate) stale_exchanges: BTreeSet<ExchangeNumber>,
    pub(crate) ended_exchanges: BTreeSet<ExchangeNumber>,
    /// What the market sent behind the word that nothing more comes.
    pub(crate) behind_end: Option<u64>,
}

impl Delivered {
    pub(crate) fn new(config: ClientConfig) -> Delivered {
        Delivered {
            config,
            frames: Vec::new(),
            snapshot: Vec::new(),
            lost: Vec::new(),
            voids: Vec::new(),
            refusals: Vec::new(),
            last_seq: 0,
            live_from: None,
            next_seq: 0,
            disorder: None,
            is_stale: false,
            has_ended: false,
            stale_exchanges: BTreeSet::new(),
            ended_exchanges: BTreeSet::new(),
            behind_end: None,
        }
    }

    pub(crate) fn note(&mut self, event: &Event) {
        match *event {
            Event::Data(frame) if frame.has(Flags::SNAPSHOT) => self.snapshot.push(frame),
            Event::Data(frame) => {
                let seq = frame.seq.get();
                if seq <= self.last_seq {
                    let text = format!("seq {seq} behind {}", self.last_seq);
                    self.disorder.get_or_insert(text);
                }
                self.last_seq = seq;
                let is_markets = matches!(frame.kind(), Some(Kind::Quote | Kind::Trade));
                let has_ended = self.has_ended || self.ended_exchanges.contains(&frame.exchange());
                if has_ended && is_markets && !frame.has(Flags::REPLAY) {
                    self.behind_end.get_or_insert(seq);
                }
                self.frames.push(frame);
            }
            Event::Lost { reason: GapReason::Void, from_seq, to_seq, .. } => {
                self.voids.push((from_seq, to_seq));
                self.frames.retain(|frame| frame.seq.get() < from_seq);
                self.snapshot.retain(|frame| frame.is_naming() || frame.seq.get() < from_seq);
                self.last_seq = self.last_seq.min(from_seq.saturating_sub(1));
            }
            Event::Lost { reason, from_seq, to_seq, .. } => {
                self.lost.push((reason, from_seq, to_seq));
            }
            Event::Live { next_seq } => {
                self.live_from.get_or_insert(next_seq.get());
            }
            // What has ended is as current as it will ever be.
            Event::Stale | Event::Ended | Event::Current => {
                self.is_stale = *event == Event::Stale;
                self.has_ended = *event == Event::Ended;
                (self.stale_exchanges, self.ended_exchanges) = Default::default();
            }
            Event::Exchange { exchange, status } => {
                let is = |wanted: FeedStatus| status == wanted;
                for (set, is_in) in [
                    (&mut self.stale_exchanges, is(FeedStatus::Stale)),
                    (&mut self.ended_exchanges, is(FeedStatus::Ended)),
                ] {
                    if is_in {
                        set.insert(exchange);
                    } else {
                        set.remove(&exchange);
                    }
                }
            }
        }
    }
}
