//! Random numbers for machines, from a seed that is passed in, so that a run can be repeated.
//!
//! `SplitMix64`: Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014,
//! with the constants of Vigna's public-domain version. Good for jitter and for tests; not for secrets.

/// A source of 64-bit numbers with 64 bits of state; any seed is a good one.
#[derive(Clone, Debug)]
pub struct SplitMix64(u64);

impl SplitMix64 {
    /// The sequence that belongs to this seed.
    #[must_use]
    pub fn new(seed: u64) -> SplitMix64 {
        SplitMix64(seed)
    }

    /// The next number, uniform over all of `u64`.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number in `low..=high`; `low` when the interval is empty. The bias of at most
    /// `(high - low) / 2^64` does not matter for what this is used for.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        let span = u128::from(high.saturating_sub(low)) + 1;
        let offset = (u128::from(self.next_u64()) * span) >> 64;
        low.saturating_add(u64::try_from(offset).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sequence_is_the_published_one() {
        let mut random = SplitMix64::new(1_234_567);
        let first: [u64; 3] = std::array::from_fn(|_| random.next_u64());
        let published =
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423];
        assert_eq!(first, published);
    }

    #[test]
    fn between_stays_inside_and_reaches_both_ends() {
        let mut random = SplitMix64::new(7);
        let drawn: Vec<u64> = (0..200).map(|_| random.between(10, 13)).collect();
        assert!(drawn.iter().all(|n| (10..=13).contains(n)));
        assert!(drawn.contains(&10) && drawn.contains(&13));
        assert_eq!(random.between(5, 5), 5);
        assert_eq!(random.between(5, 4), 5);
        assert_ne!(random.between(0, u64::MAX), random.between(0, u64::MAX));
    }
}
