//! Where identities come from: of journals, of epochs, of a publisher's sequence.

use std::hash::{BuildHasher, RandomState};

use crate::log::UNKNOWN_EPOCH_ID;

/// A random number that nobody else has: of the operating system's random numbers, by way of the keys that the
/// standard library asks it for. Neither 0 nor [`UNKNOWN_EPOCH_ID`], which mean something else.
#[must_use]
pub fn random_id() -> u64 {
    loop {
        // New keys for each; what is hashed does not matter.
        let id = RandomState::new().hash_one(std::process::id());
        if id != 0 && id != UNKNOWN_EPOCH_ID {
            return id;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_identities_are_equal() {
        let mut ids: Vec<u64> = (0..1_000).map(|_| random_id()).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 1_000);
    }
}
