//! A synthetic market: B3 instruments whose quotes and trades follow from a seed. For load and for
//! demonstrations without a tape; it resembles a market where consumers would notice (ticks, lots,
//! spreads, bursts, a few instruments with most of the events) and predicts nothing.
//!
//! Every price is a whole number of ticks; no float is involved in anything, so that a seed gives
//! the same feed on every machine.

use std::ops::RangeInclusive;

use super::instrument::exchange_id;
use super::tape::RECORDED;
use crate::random::Random;
use crate::wire::{
    Definition, Flags, Frame, I64, InstrumentIndex, Quote, Size, Symbol, Trade, U16, U32, U64,
};

/// One cent in price units.
const CENT: i64 = 10_000_000;
/// One unit of currency (or one index point) in price units.
const UNIT: i64 = 1_000_000_000;

/// Bids stay within this share of the opening one, in either direction: a tenth.
const RANGE_DIVISOR: u64 = 10;
/// Widest spread in ticks.
const SPREAD_TICKS_MAX: u64 = 5;
/// Most a bid moves at once, in ticks.
const STEP_TICKS_MAX: u64 = 3;
/// Trades per million events.
const TRADE_MILLIONTHS: u32 = 300_000;
/// Trades inside the spread per million trades, where the spread has room for one.
const INSIDE_MILLIONTHS: u32 = 100_000;
/// Quotes per million that move the price and not only a size.
const MOVE_MILLIONTHS: u32 = 400_000;

/// How much faster events come in a burst.
const BURST_FACTOR: u64 = 10;
/// How long a burst lasts, and the calm before the next; 0.1 s and 8.9 s on average.
const BURST_NS: RangeInclusive<u64> = 50_000_000..=150_000_000;
/// See [`BURST_NS`].
const CALM_NS: RangeInclusive<u64> = 4_450_000_000..=13_350_000_000;
/// A ninetieth of the time is burst, so the average rate is 1 + 9/90 times the calm one: what the
/// calm rate is divided by, as a fraction.
const AVERAGE_PER_CALM: (u128, u128) = (11, 10);

/// Fractional bits of the clock: at millions of events a second, whole nanoseconds would round the
/// rate away.
const CLOCK_FRACTION_BITS: u32 = 32;

/// An instrument as it opens.
struct Listing {
    symbol: &'static str,
    tick: i64,
    open: i64,
    lot: u32,
}

const fn share(symbol: &'static str, open_cents: i64) -> Listing {
    Listing { symbol, tick: CENT, open: open_cents * CENT, lot: 100 }
}

const fn future(symbol: &'static str, tick: i64, open_units: i64) -> Listing {
    Listing { symbol, tick, open: open_units * UNIT, lot: 1 }
}

/// What is traded, the most popular first.
const LISTINGS: [Listing; 32] = [
    future("WINQ26", 5 * UNIT, 136_000),
    future("WDOQ26", UNIT / 2, 5_450),
    share("PETR4", 4_120),
    share("VALE3", 5_870),
    share("ITUB4", 4_339),
    share("BBDC4", 1_785),
    share("B3SA3", 1_342),
    share("BBAS3", 2_410),
    share("ABEV3", 1_405),
    share("ITSA4", 1_192),
    share("PETR3", 4_406),
    share("WEGE3", 4_033),
    share("PRIO3", 4_275),
    share("RENT3", 3_861),
    share("SUZB3", 5_218),
    share("ELET3", 4_790),
    share("BPAC11", 4_564),
    share("EQTL3", 3_627),
    share("RADL3", 1_688),
    share("GGBR4", 1_731),
    share("JBSS3", 3_914),
    share("VBBR3", 2_047),
    share("RAIL3", 1_773),
    share("SBSP3", 12_155),
    share("LREN3", 1_520),
    share("CSNA3", 836),
    share("VIVT3", 3_142),
    share("CMIG4", 1_108),
    share("MGLU3", 914),
    share("HAPV3", 271),
    future("INDQ26", 5 * UNIT, 136_000),
    future("DOLQ26", UNIT / 2, 5_450),
];

/// One instrument's book and counters.
#[derive(Clone, Debug)]
struct Book {
    tick: i64,
    lot: u32,
    /// Where the bid is drawn back to, in ticks.
    anchor_ticks: u64,
    bid_ticks: u64,
    /// At least 1.
    spread_ticks: u64,
    bid_qty: u32,
    ask_qty: u32,
    /// Whether a quote was published yet: trades need one to be at.
    is_quoted: bool,
    trades: u64,
    instrument_seq: u32,
}

/// The market. Numbers its frames like a [schedule](super::tape::Schedule): definitions are 1 to n
/// with an `instrument_seq` of 0, events go on from there.
#[derive(Clone, Debug)]
pub struct Synthetic {
    seed: u64,
    events_per_second: u64,
    start_wall_ns: u64,
    /// Time since the start, with [`CLOCK_FRACTION_BITS`].
    clock: u128,
    in_burst: bool,
    /// When the burst or the calm ends.
    regime_end_ns: u64,
    arrivals: Random,
    choices: Random,
    /// Sums of the popularities up to and including each instrument's.
    popularity_sums: Vec<u64>,
    books: Vec<Book>,
    seq: u64,
}

impl Synthetic {
    /// A market that opens at `start_wall_ns` (nanoseconds since the Unix epoch, UTC) and gives
    /// `events_per_second` on average over its bursts and calms. A rate of 0 gives no event.
    #[must_use]
    pub fn new(seed: u64, events_per_second: u64, start_wall_ns: u64) -> Synthetic {
        let root = Random::new(seed);
        let mut arrivals = root.fork(0);
        let mut popularity_sum = 0;
        // Zipf's law: the n-th has 1/n of the first one's share.
        let popularity_sums = (1..=LISTINGS.len() as u64).map(|rank| {
            popularity_sum += 1_000_000 / rank;
            popularity_sum
        });
        let popularity_sums = popularity_sums.collect();
        let mut choices = root.fork(1);
        Synthetic {
            seed,
            events_per_second,
            start_wall_ns,
            clock: 0,
            in_burst: false,
            regime_end_ns: arrivals.between(*CALM_NS.start(), *CALM_NS.end()),
            books: LISTINGS.iter().map(|listing| Book::open(listing, &mut choices)).collect(),
            arrivals,
            choices,
            popularity_sums,
            seq: LISTINGS.len() as u64,
        }
    }

    /// The frames that define the instruments; they come first.
    #[must_use]
    pub fn definitions(&self) -> Vec<Frame> {
        InstrumentIndex::until(InstrumentIndex::LAST)
            .zip(&LISTINGS)
            .map(|(index, listing)| {
                let decimals = if listing.tick % UNIT == 0 { 0 } else { 2 };
                Frame::seal(Definition {
                    seq: U64::new(u64::from(index.get()) + 1),
                    ts_event: U64::new(self.start_wall_ns),
                    ..Definition::new(exchange_id(index), symbol(listing), decimals)
                })
            })
            .collect()
    }

    /// A number that stands for the feed: markets of the same seed, rate and start have the same. It is no recording.
    #[must_use]
    pub fn identity(&self) -> u64 {
        let with = |so_far: u64, part| Random::new(so_far).fork(part).next_u64();
        let parts = [self.events_per_second, self.start_wall_ns];
        parts.into_iter().fold(self.seed, with) & !RECORDED
    }

    /// The next event and when it is due after the start; none when the rate is 0. The offsets
    /// never go back.
    pub fn next_event(&mut self) -> Option<(u64, Frame)> {
        if self.events_per_second == 0 {
            return None;
        }
        let offset_ns = self.next_arrival_ns();
        self.seq += 1;
        let total = self.popularity_sums.last().copied().unwrap_or(0);
        let draw = self.choices.below(total);
        let index = self.popularity_sums.partition_point(|&sum| sum <= draw);
        let place = Place {
            index: InstrumentIndex::at(index).unwrap_or_default(),
            seq: self.seq,
            ts_event: self.start_wall_ns.saturating_add(offset_ns),
        };
        let frame = self.books[index].next_frame(place, &mut self.choices);
        Some((offset_ns, frame))
    }

    /// Moves the clock by a gap that is exponential in shape: events come as if independent.
    fn next_arrival_ns(&mut self) -> u64 {
        loop {
            let regime_end = u128::from(self.regime_end_ns) << CLOCK_FRACTION_BITS;
            let next = self.clock.saturating_add(self.gap());
            if next < regime_end {
                self.clock = next;
                return whole_ns(next);
            }
            // Independent arrivals have no memory, so the rest of the gap is drawn anew at the
            // new rate. (That also keeps the average right when gaps are longer than bursts.)
            self.clock = regime_end;
            self.in_burst = !self.in_burst;
            let length = if self.in_burst { BURST_NS } else { CALM_NS };
            let length_ns = self.arrivals.between(*length.start(), *length.end());
            self.regime_end_ns = self.regime_end_ns.saturating_add(length_ns);
            if self.regime_end_ns == u64::MAX {
                // After 584 years the clock stands still rather than turning over.
                return u64::MAX;
            }
        }
    }

    /// A gap in clock units.
    ///
    /// The negative binary logarithm of a uniform number, with the logarithm drawn as straight
    /// lines between powers of two. Its mean is then exactly 3/2 (sum of (k + 1/2) / 2^(k+1)).
    fn gap(&mut self) -> u128 {
        let bits = self.arrivals.next_u64() | 1;
        let octave = u128::from(bits.leading_zeros());
        // The bits below the leading one say where in the octave; they are uniform.
        let below = (bits << bits.leading_zeros()) << 1;
        let within = u128::from(!below >> (64 - CLOCK_FRACTION_BITS));
        let draw = (octave << CLOCK_FRACTION_BITS) + within;
        let speed_up = u128::from(if self.in_burst { BURST_FACTOR } else { 1 });
        let (average, calm) = AVERAGE_PER_CALM;
        // draw / (3/2) × one second / calm rate / speed-up.
        let per_second = 3 * calm * u128::from(self.events_per_second) * speed_up;
        draw * 2 * average * 1_000_000_000 / per_second
    }
}

fn whole_ns(clock: u128) -> u64 {
    u64::try_from(clock >> CLOCK_FRACTION_BITS).unwrap_or(u64::MAX)
}

fn symbol(listing: &Listing) -> Symbol {
    listing.symbol.parse().expect("the listings are tested to be symbols")
}

/// The header of one event.
#[derive(Clone, Copy)]
struct Place {
    index: InstrumentIndex,
    seq: u64,
    ts_event: u64,
}

impl Book {
    fn open(listing: &Listing, random: &mut Random) -> Book {
        let anchor_ticks = (listing.open / listing.tick).unsigned_abs().max(1);
        let mut book = Book {
            tick: listing.tick,
            lot: listing.lot,
            anchor_ticks,
            bid_ticks: anchor_ticks,
            spread_ticks: 1,
            bid_qty: 0,
            ask_qty: 0,
            is_quoted: false,
            trades: 0,
            instrument_seq: 0,
        };
        book.bid_qty = book.draw_qty(random);
        book.ask_qty = book.draw_qty(random);
        book
    }

    fn next_frame(&mut self, place: Place, random: &mut Random) -> Frame {
        self.instrument_seq = self.instrument_seq.wrapping_add(1);
        if self.is_quoted && random.chance_millionths(TRADE_MILLIONTHS) {
            return self.trade(place, random);
        }
        self.requote(random);
        Frame::seal(Quote {
            flags: U16::new(Flags::LAST),
            instrument: exchange_id(place.index).into(),
            seq: U64::new(place.seq),
            ts_event: U64::new(place.ts_event),
            instrument_seq: U32::new(self.instrument_seq),
            bid: self.price(self.bid_ticks),
            ask: self.price(self.bid_ticks + self.spread_ticks),
            bid_qty: Size::new(self.bid_qty.into()),
            ask_qty: Size::new(self.ask_qty.into()),
            ..Quote::default()
        })
    }

    /// Moves the bid, the spread or only a size; something always changes after the first quote.
    fn requote(&mut self, random: &mut Random) {
        let before = (self.bid_ticks, self.spread_ticks, self.bid_qty, self.ask_qty);
        if random.chance_millionths(MOVE_MILLIONTHS) {
            self.step(random);
            // The smallest of three draws: narrow spreads are the rule.
            let mut spread = || random.between(1, SPREAD_TICKS_MAX);
            self.spread_ticks = spread().min(spread()).min(spread());
        }
        match random.below(3) {
            0 => self.bid_qty = self.draw_qty(random),
            1 => self.ask_qty = self.draw_qty(random),
            _ => {
                self.bid_qty = self.draw_qty(random);
                self.ask_qty = self.draw_qty(random);
            }
        }
        let after = (self.bid_ticks, self.spread_ticks, self.bid_qty, self.ask_qty);
        if self.is_quoted && before == after {
            self.bid_qty = self.bid_qty.saturating_add(self.lot);
        }
        self.is_quoted = true;
    }

    /// One step of a walk that is drawn back: the further the bid is from where it opened, the
    /// likelier it turns round, and at a tenth it always does.
    fn step(&mut self, random: &mut Random) {
        let range = (self.anchor_ticks / RANGE_DIVISOR).max(1);
        let lowest = self.anchor_ticks.saturating_sub(range).max(1);
        let highest = self.anchor_ticks.saturating_add(range);
        let size = random.between(1, STEP_TICKS_MAX);
        // Uniform over the range: the chance to go up is the share of it that lies above.
        let is_up = random.between(lowest, highest) > self.bid_ticks;
        let moved = if is_up {
            self.bid_ticks.saturating_add(size)
        } else {
            self.bid_ticks.saturating_sub(size)
        };
        self.bid_ticks = moved.clamp(lowest, highest);
    }

    fn trade(&mut self, place: Place, random: &mut Random) -> Frame {
        self.trades += 1;
        let ask_ticks = self.bid_ticks + self.spread_ticks;
        let has_room = self.spread_ticks > 1;
        let (ticks, side, available) = if has_room && random.chance_millionths(INSIDE_MILLIONTHS) {
            let inside = random.between(self.bid_ticks + 1, ask_ticks - 1);
            (inside, 0, self.bid_qty.min(self.ask_qty))
        } else if random.below(2) == 0 {
            (ask_ticks, Flags::BUY, self.ask_qty)
        } else {
            (self.bid_ticks, Flags::SELL, self.bid_qty)
        };
        let qty = self.draw_qty(random).min(available);
        Frame::seal(Trade {
            flags: U16::new(Flags::LAST | side),
            instrument: exchange_id(place.index).into(),
            seq: U64::new(place.seq),
            ts_event: U64::new(place.ts_event),
            instrument_seq: U32::new(self.instrument_seq),
            price: self.price(ticks),
            qty: U64::new(u64::from(qty)),
            // B3 numbers an instrument's trades in steps of ten.
            trade_id: U64::new(self.trades.saturating_mul(10)),
            ..Trade::default()
        })
    }

    /// Whole lots; small sizes are the rule (the product of two draws).
    fn draw_qty(&self, random: &mut Random) -> u32 {
        let lots = random.between(1, 12) * random.between(1, 12);
        u32::try_from(lots).unwrap_or(1).saturating_mul(self.lot)
    }

    /// Bounded by the walk: a tenth above the listing's opening price and a spread.
    fn price(&self, ticks: u64) -> I64 {
        I64::new(i64::try_from(ticks).unwrap_or(i64::MAX).saturating_mul(self.tick))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::market::price::Price;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    const START_NS: u64 = 1_784_034_000_000_000_000;

    fn events(seed: u64, rate: u64, count: usize) -> Vec<(u64, Frame)> {
        let mut market = Synthetic::new(seed, rate, START_NS);
        (0..count).map(|_| market.next_event().unwrap()).collect()
    }

    #[test]
    fn the_listings_are_distinct_symbols_on_their_grids() {
        let symbols: BTreeSet<Symbol> = LISTINGS.iter().map(symbol).collect();
        assert_eq!(symbols.len(), LISTINGS.len());
        for listing in &LISTINGS {
            assert_eq!(listing.open % listing.tick, 0, "{}", listing.symbol);
            assert!(listing.open > 0 && listing.tick > 0 && listing.lot > 0);
        }
        let definitions = Synthetic::new(1, 1, START_NS).definitions();
        assert_eq!(definitions.len(), LISTINGS.len());
        for (position, frame) in (1..).zip(&definitions) {
            assert_eq!(frame.check(), Ok(()));
            assert_eq!((frame.seq.get(), frame.instrument_seq.get()), (position, 0));
        }
    }

    #[test]
    fn a_seed_gives_one_feed() {
        assert_eq!(events(5, 1_000, 2_000), events(5, 1_000, 2_000));
        assert_ne!(events(5, 1_000, 50), events(6, 1_000, 50));
        let identity = |seed, rate, start| Synthetic::new(seed, rate, start).identity();
        assert_eq!(identity(1, 2, 3), identity(1, 2, 3));
        let all = [identity(1, 2, 3), identity(2, 2, 3), identity(1, 3, 3), identity(1, 3, 2)];
        assert_eq!(BTreeSet::from(all).len(), 4);
    }

    #[test]
    fn the_feed_of_a_seed_is_the_same_on_every_machine_and_version() {
        // Changing the market changes this number: a recorded run would no longer repeat.
        let hash = events(42, 5_000, 10_000).iter().fold(0_u64, |hash, (offset_ns, f)| {
            hash.rotate_left(5) ^ u64::from(f.crc.get()) ^ offset_ns.wrapping_mul(31)
        });
        assert_eq!(hash, 14_430_286_157_424_965_035);
    }

    #[test]
    fn no_rate_no_event() {
        assert_eq!(Synthetic::new(1, 0, START_NS).next_event(), None);
    }

    #[test]
    fn the_average_rate_is_the_one_asked_for() {
        // Over a hundred simulated seconds or more, with about eleven bursts in them.
        for (rate, count) in [(1, 4_000), (40, 40_000), (2_000, 400_000), (20_000_000, 200_000_u32)]
        {
            for seed in 0..3 {
                let mut market = Synthetic::new(seed, rate, START_NS);
                let mut end_ns = 0;
                for _ in 0..count {
                    (end_ns, _) = market.next_event().unwrap();
                }
                // Before its first burst a fast market shows the calm rate.
                let wanted = if rate > 1_000_000 { rate * 10 / 11 } else { rate };
                let got = u128::from(count) * 1_000_000_000_000 / u128::from(end_ns);
                let permille = got / u128::from(wanted);
                assert!((940..=1_060).contains(&permille), "rate {rate}: {permille} permille");
            }
        }
    }

    #[test]
    fn bursts_are_ten_times_as_fast() {
        let mut per_slot = vec![0_u32; 4_001];
        let mut market = Synthetic::new(3, 10_000, START_NS);
        while let Some((offset_ns, _)) = market.next_event() {
            let Some(slot) = per_slot.get_mut((offset_ns / 10_000_000) as usize) else { break };
            *slot += 1;
        }
        per_slot.pop();
        // Slots of 10 ms: 91 events when calm, 909 in a burst.
        let bursts = per_slot.iter().filter(|&&n| n > 800).count();
        let calm = per_slot.iter().filter(|&&n| n < 140).count();
        assert!((12..=90).contains(&bursts), "{bursts}");
        assert!(calm > 3_800, "{calm}");
    }

    #[test]
    fn a_few_instruments_have_most_of_the_events_and_all_have_some() {
        let mut counts = vec![0_u32; LISTINGS.len()];
        for (_, frame) in events(9, 1_000, 50_000) {
            counts[frame.instrument().index().place()] += 1;
        }
        assert!(counts[0] > 10_000 && counts[0] < 15_000, "{counts:?}");
        assert!(counts.iter().all(|&n| n > 200), "{counts:?}");
        assert!(counts[..5].iter().sum::<u32>() > 25_000, "{counts:?}");
    }

    #[test]
    fn the_cheapest_instrument_cannot_walk_below_one_tick_or_out_of_its_range() {
        let mut random = Random::new(1);
        let penny = Listing { symbol: "PENNY3", tick: CENT, open: 2 * CENT, lot: 100 };
        let mut book = Book::open(&penny, &mut random);
        let mut seen = BTreeSet::new();
        for _ in 0..1_000 {
            book.step(&mut random);
            seen.insert(book.bid_ticks);
        }
        assert_eq!(seen, BTreeSet::from([1, 2, 3]));
    }

    #[test]
    fn an_impossible_clock_stands_still() {
        let mut market = Synthetic::new(1, 1, u64::MAX - 5);
        market.clock = u128::from(u64::MAX - 10) << CLOCK_FRACTION_BITS;
        market.regime_end_ns = u64::MAX - 5;
        let (offset_ns, frame) = market.next_event().unwrap();
        assert!(offset_ns >= u64::MAX - 10);
        assert_eq!(frame.ts_event.get(), u64::MAX);
        market.next_event().unwrap();
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn the_market_is_never_crossed_off_its_grid_or_out_of_order(
            seed in any::<u64>(), rate in 1_u64..5_000_000,
        ) {
            let mut market = Synthetic::new(seed, rate, START_NS);
            let first = market.definitions().len() as u64 + 1;
            let mut offset_ns = 0;
            let mut last_quote = vec![None; LISTINGS.len()];
            let mut instrument_seq = vec![0; LISTINGS.len()];
            let mut trade_id = vec![0; LISTINGS.len()];
            for seq in first..first + 4_000 {
                let (due_ns, frame) = market.next_event().unwrap();
                prop_assert_eq!(frame.check(), Ok(()));
                prop_assert!(due_ns >= offset_ns);
                offset_ns = due_ns;
                prop_assert_eq!(frame.seq.get(), seq);
                prop_assert_eq!(frame.ts_event.get(), START_NS + due_ns);
                let index = frame.instrument().index().place();
                let listing = &LISTINGS[index];
                instrument_seq[index] += 1;
                prop_assert_eq!(frame.instrument_seq.get(), instrument_seq[index]);
                if let Some(quote) = frame.view::<Quote>() {
                    let (bid, ask) = (quote.bid.get(), quote.ask.get());
                    prop_assert!(0 < bid && bid < ask && ask < Price::UNDEFINED.0);
                    prop_assert_eq!((bid % listing.tick, ask % listing.tick), (0, 0));
                    prop_assert!(bid.abs_diff(listing.open) <= listing.open.unsigned_abs() / 10);
                    prop_assert!(quote.bid_qty.units() > 0 && quote.ask_qty.units() > 0);
                    let told = (bid, ask, quote.bid_qty.units(), quote.ask_qty.units());
                    prop_assert_ne!(last_quote[index], Some(told), "a quote repeats the last");
                    last_quote[index] = Some(told);
                } else {
                    let trade = frame.view::<Trade>().unwrap();
                    let (bid, ask, ..) = last_quote[index].expect("a quote comes first");
                    let price = trade.price.get();
                    prop_assert_eq!(price % listing.tick, 0);
                    match (frame.has(Flags::BUY), frame.has(Flags::SELL)) {
                        (true, false) => prop_assert_eq!(price, ask),
                        (false, true) => prop_assert_eq!(price, bid),
                        _ => prop_assert!(bid < price && price < ask),
                    }
                    prop_assert!(trade.qty.get() > 0);
                    prop_assert_eq!(trade.qty.get() % u64::from(listing.lot), 0);
                    prop_assert!(trade.trade_id.get() > trade_id[index]);
                    trade_id[index] = trade.trade_id.get();
                }
            }
        }
    }
}
