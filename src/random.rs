//! Random numbers from a seed, so that a seed reproduces a run. Not for secrets.
//!
//! The generator is SplitMix64 (G. Steele, D. Lea, C. Flood, "Fast Splittable Pseudorandom Number
//! Generators", OOPSLA 2014), with the constants of S. Vigna's public-domain reference
//! implementation (<https://prng.di.unimi.it/splitmix64.c>), whose first outputs the tests hold.

/// One in a million: the unit of [`Random::chance_millionths`].
pub const MILLION: u32 = 1_000_000;

/// The step of SplitMix64: the odd number nearest to 2^64 divided by the golden ratio.
const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

/// A stream of random numbers that its seed determines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Random {
    state: u64,
}

impl Random {
    /// The stream of this seed. Every seed is as good as any other.
    #[must_use]
    pub const fn new(seed: u64) -> Random {
        Random { state: seed }
    }

    /// The next 64 random bits.
    pub const fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(STEP);
        mix(self.state)
    }

    /// A number from 0 to `bound` - 1; 0 when `bound` is 0.
    ///
    /// Multiplies instead of dividing (D. Lemire, "Fast Random Integer Generation in an Interval",
    /// 2019) without the rejection step: the bias is below `bound` / 2^64, which no use here sees.
    #[allow(clippy::cast_possible_truncation, reason = "the upper half of a product of two u64")]
    pub const fn below(&mut self, bound: u64) -> u64 {
        ((self.next_u64() as u128 * bound as u128) >> 64) as u64
    }

    /// A number from `low` to `high`, both included; `low` when the range is empty.
    pub const fn between(&mut self, low: u64, high: u64) -> u64 {
        if high <= low {
            return low;
        }
        match (high - low).checked_add(1) {
            Some(count) => low + self.below(count),
            None => self.next_u64(),
        }
    }

    /// Whether an event of `millionths` in a million happens this time.
    pub const fn chance_millionths(&mut self, millionths: u32) -> bool {
        self.below(MILLION as u64) < millionths as u64
    }

    /// An independent stream for one purpose. The same `stream` of an equal state is the same
    /// stream, and taking it does not disturb this one.
    #[must_use]
    pub const fn fork(&self, stream: u64) -> Random {
        Random { state: mix(self.state ^ mix(stream.wrapping_add(STEP))) }
    }
}

/// SplitMix64's output function (variant 13 of D. Stafford's mixers).
const fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_match_the_reference_implementation() {
        let mut random = Random::new(1_234_567);
        let got: Vec<u64> = (0..5).map(|_| random.next_u64()).collect();
        assert_eq!(
            got,
            [
                6_457_827_717_110_365_317,
                3_203_168_211_198_807_973,
                9_817_491_932_198_370_423,
                4_593_380_528_125_082_431,
                16_408_922_859_458_223_821
            ]
        );
    }

    #[test]
    fn below_stays_below_and_reaches_every_number() {
        let mut random = Random::new(7);
        let mut seen = [0_u32; 6];
        for _ in 0..6_000 {
            seen[usize::try_from(random.below(6)).unwrap()] += 1;
        }
        assert!(seen.iter().all(|&n| (850..1_150).contains(&n)), "{seen:?}");
        assert_eq!(random.below(0), 0);
        assert_eq!(random.below(1), 0);
    }

    #[test]
    fn between_includes_both_ends_and_survives_the_whole_range() {
        let mut random = Random::new(3);
        let drawn: Vec<u64> = (0..200).map(|_| random.between(5, 7)).collect();
        assert!([5, 6, 7].iter().all(|wanted| drawn.contains(wanted)));
        assert!(drawn.iter().all(|n| (5..=7).contains(n)));
        assert_eq!(random.between(9, 2), 9);
        random.between(0, u64::MAX);
    }

    #[test]
    fn never_and_always_are_exact() {
        let mut random = Random::new(11);
        assert!((0..1_000).all(|_| !random.chance_millionths(0)));
        assert!((0..1_000).all(|_| random.chance_millionths(MILLION)));
        let hits = (0..100_000).filter(|_| random.chance_millionths(200_000)).count();
        assert!((19_000..21_000).contains(&hits), "{hits}");
    }

    #[test]
    fn forks_differ_from_each_other_and_from_their_parent() {
        let parent = Random::new(0);
        let mut streams = [parent.clone(), parent.fork(0), parent.fork(1)];
        let first: Vec<u64> = streams.iter_mut().map(Random::next_u64).collect();
        assert!(first[0] != first[1] && first[1] != first[2] && first[0] != first[2]);
        assert_eq!(parent.fork(1), parent.fork(1));
    }
}
