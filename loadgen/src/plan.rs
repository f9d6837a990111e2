//! What a run publishes and who listens to what: fixed by numbers and a seed before anything starts.

use pregao::random::Random;
use pregao::wire::{Frame, InstrumentId, InstrumentIndex, Trade, U32, U64};

use crate::check::{Continuity, Published};

/// Entries of the popularity table: how finely it follows Zipf's law.
const POPULARITY_SLOTS: u64 = 1 << 16;
/// A price for every message; what it is does not matter.
const PRICE: i64 = 35_120_000_000;

/// Instruments, their popularity, and the watch lists on them.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    source: u8,
    symbols: Vec<String>,
    /// Instrument index by slot; popular instruments have many slots.
    popularity: Vec<u32>,
    watch: usize,
    seed: u64,
}

impl Plan {
    /// `watch` instruments for each subscriber; 0 = everything.
    pub(crate) fn new(source: u8, instruments: u32, watch: usize, seed: u64) -> Plan {
        let instruments = instruments.max(1);
        let symbols = (0..instruments).map(|index| format!("LOAD{index:05}")).collect();
        let popularity = zipf_slots(instruments);
        let watch = watch.min(instruments as usize);
        Plan { source, symbols, popularity, watch, seed }
    }

    pub(crate) fn source(&self) -> u8 {
        self.source
    }

    pub(crate) fn symbols(&self) -> &[String] {
        &self.symbols
    }

    /// Whether subscribers take everything.
    pub(crate) fn is_full_feed(&self) -> bool {
        self.watch == 0
    }

    /// Indexes of what this subscriber watches, ascending; popular instruments are on more lists.
    pub(crate) fn watch_list(&self, subscriber: usize) -> Vec<u32> {
        let mut list = std::collections::BTreeSet::new();
        let instruments = u32::try_from(self.symbols.len()).unwrap_or(u32::MAX);
        if self.watch * 2 > self.symbols.len() {
            // Most of them: drawing until the rare ones turn up would take long.
            let first = u32::try_from(subscriber % self.symbols.len()).unwrap_or(0);
            list.extend((first..instruments).chain(0..first).take(self.watch));
        }
        let mut random = Random::new(self.seed).fork(subscriber as u64 + 1);
        while list.len() < self.watch {
            list.insert(self.draw(&mut random));
        }
        list.into_iter().collect()
    }

    /// What this subscriber expects.
    pub(crate) fn continuity(&self, watch_list: &[u32]) -> Continuity {
        if self.is_full_feed() {
            return Continuity::Feed(1);
        }
        let table = watch_list.iter().map(|&index| (self.instrument(index), 1));
        Continuity::Instruments(table.collect())
    }

    fn instrument(&self, index: u32) -> InstrumentId {
        InstrumentId::new(self.source, InstrumentIndex::new(index))
    }

    fn draw(&self, random: &mut Random) -> u32 {
        let slot = usize::try_from(random.below(self.popularity.len() as u64)).unwrap_or(0);
        self.popularity.get(slot).copied().unwrap_or(0)
    }

    /// The messages, in order.
    pub(crate) fn messages(&self) -> Messages<'_> {
        let published = Published { seq: 0, instrument_seqs: vec![0; self.symbols.len()] };
        Messages { plan: self, random: Random::new(self.seed).fork(0), published }
    }
}

/// Zipf's law with exponent 1, as slots: instrument k gets 1/k of what the first one gets, and at
/// least one slot.
fn zipf_slots(instruments: u32) -> Vec<u32> {
    const SCALE: u64 = 1 << 32;
    let weights = (1..=u64::from(instruments)).map(|rank| SCALE / rank);
    let sum: u64 = weights.clone().sum();
    let slots = (0..).zip(weights).flat_map(|(index, weight): (u32, u64)| {
        let share = (u128::from(weight) * u128::from(POPULARITY_SLOTS) / u128::from(sum)).max(1);
        std::iter::repeat_n(index, usize::try_from(share).unwrap_or(1))
    });
    slots.collect()
}

/// Makes the messages of a run.
#[derive(Debug)]
pub(crate) struct Messages<'a> {
    plan: &'a Plan,
    random: Random,
    published: Published,
}

impl<'a> Messages<'a> {
    /// The next message, intended for `intended` and sent at `sent` (stamps), and its topic.
    pub(crate) fn next(&mut self, intended: u64, sent: u64) -> (&'a str, Frame) {
        let index = self.plan.draw(&mut self.random);
        let place = index as usize;
        let instrument_seq = self.published.instrument_seqs.get_mut(place).map_or(0, |seq| {
            *seq = seq.saturating_add(1);
            *seq
        });
        self.published.seq += 1;
        let frame = Frame::seal(Trade {
            instrument: self.plan.instrument(index).into(),
            seq: U64::new(self.published.seq),
            ts_event: U64::new(intended),
            ts_recv: U64::new(sent),
            price: PRICE.into(),
            qty: U64::new(100),
            trade_id: U64::new(self.published.seq),
            instrument_seq: U32::new(instrument_seq),
            ..Trade::default()
        });
        let topic = if self.plan.is_full_feed() {
            crate::target::FULL_FEED
        } else {
            self.plan.symbols.get(place).map_or("", String::as_str)
        };
        (topic, frame)
    }

    /// What has been made.
    pub(crate) fn published(&self) -> &Published {
        &self.published
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Faults;

    #[test]
    fn watch_lists_have_their_length_and_differ() {
        for (instruments, watch) in [(500, 20), (20, 20), (3, 2), (1, 1), (21, 20)] {
            let plan = Plan::new(2, instruments, watch, 7);
            for subscriber in 0..50 {
                let list = plan.watch_list(subscriber);
                assert_eq!(list.len(), watch);
                assert!(
                    list.windows(2).all(|pair| pair[0] < pair[1]) && list[watch - 1] < instruments
                );
            }
        }
        let plan = Plan::new(2, 500, 20, 7);
        assert_ne!(plan.watch_list(0), plan.watch_list(1));
        assert_eq!(plan.watch_list(1), plan.watch_list(1), "a seed repeats itself");
    }

    #[test]
    fn popularity_follows_zipf() {
        let slots = zipf_slots(500);
        let count = |index| slots.iter().filter(|&&slot| slot == index).count();
        for rank in [2, 3, 10, 100] {
            let share = count(0) / rank as usize;
            assert!(count(rank - 1).abs_diff(share) <= 1, "rank {rank}: {}", count(rank - 1));
        }
        assert!(count(499) >= 1);
        assert!(zipf_slots(65_536).len() < 3 * 65_536);
    }

    #[test]
    fn what_is_published_is_what_a_subscriber_checks() {
        let plan = Plan::new(2, 50, 5, 1);
        let list = plan.watch_list(3);
        let (mut all, mut some) = (Continuity::Feed(1), plan.continuity(&list));
        let mut faults = Faults::default();
        let mut messages = plan.messages();
        let ids: Vec<_> = list.iter().map(|&index| plan.instrument(index)).collect();
        for _ in 0..1_000 {
            let (topic, frame) = messages.next(1, 2);
            assert!(all.note(&frame, &mut faults));
            if ids.contains(&frame.instrument()) {
                assert!(list.iter().any(|&index| plan.symbols()[index as usize] == topic));
                assert!(some.note(&frame, &mut faults));
            }
        }
        assert_eq!(faults, Faults::default());
        assert_eq!((all.missing(messages.published()), some.missing(messages.published())), (0, 0));
    }
}
