//! Places of subscribers: how many each address has, over all reactors.
//!
//! # Decisions
//!
//! * A subscriber ends on the reactor that serves it, and the first one admits the next. What they share is a
//!   table of counters that never grows: addresses are spread over its places. Two that meet in one place are judged
//!   as one, and only when half of the broker's places are taken.

use std::num::NonZeroU8;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::node::session::{Principal, Rejection, may_take};

/// Places of the table. Nobody has the first one, so that to have none takes no byte of a subscriber.
const BUCKETS: usize = 256;

/// Subscribers of other machines, by address. Every reactor has the same one.
#[derive(Clone, Debug)]
pub(super) struct SubscriberPlaces(Arc<[AtomicU32; BUCKETS]>);

impl Default for SubscriberPlaces {
    fn default() -> SubscriberPlaces {
        SubscriberPlaces(Arc::new(std::array::from_fn(|_| AtomicU32::new(0))))
    }
}

/// Where a peer of another machine is counted; one of this machine is not, see `session/shares.rs`.
pub(super) fn bucket(principal: Principal) -> Option<NonZeroU8> {
    let Principal::Address(address) = principal else { return None };
    let mix = |hash: u8, byte: &u8| (hash ^ byte).wrapping_mul(167).rotate_left(3);
    Some(NonZeroU8::new(address.octets().iter().fold(0, mix)).unwrap_or(NonZeroU8::MAX))
}

impl SubscriberPlaces {
    /// Whether a peer may have one place more, where so many of `capacity` are taken.
    ///
    /// # Errors
    /// The refusal.
    pub(super) fn check(
        &self,
        principal: Principal,
        total: usize,
        capacity: usize,
    ) -> Result<(), Rejection> {
        let count = |count: &AtomicU32| count.load(Ordering::Relaxed) as usize;
        let own = bucket(principal).and_then(|bucket| self.0.get(usize::from(bucket.get())));
        let holders = self.0.iter().filter(|it| count(it) > 0).count();
        may_take(own.map_or(0, count), total, holders, capacity)
            .map_err(|why| why.refusal(principal, "subscribers"))
    }

    pub(super) fn enter(&self, bucket: Option<NonZeroU8>) {
        if let Some(count) = bucket.and_then(|bucket| self.0.get(usize::from(bucket.get()))) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn leave(&self, bucket: Option<NonZeroU8>) {
        if let Some(count) = bucket.and_then(|bucket| self.0.get(usize::from(bucket.get()))) {
            count.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::ConnId;

    fn from(host: [u8; 4]) -> Principal {
        Principal::of(ConnId { generation: 1, slot: 1 }, host.into())
    }

    #[test]
    fn one_address_leaves_room_for_the_others_and_this_machine_is_no_address() {
        let places = SubscriberPlaces::default();
        let (greedy, other, local) =
            (from([10, 0, 0, 7]), from([10, 0, 0, 8]), from([127, 0, 0, 1]));
        assert_ne!(bucket(greedy), bucket(other));
        assert_eq!(bucket(local), None);
        let mut total = 0;
        while places.check(greedy, total, 100).is_ok() {
            places.enter(bucket(greedy));
            total += 1;
        }
        assert_eq!(total, 50);
        let refusal = places.check(greedy, total, 100).unwrap_err();
        assert_eq!(refusal.text, "your address has its share of subscribers");
        assert!(places.check(other, total, 100).is_ok());
        // Thousands of one machine: each connection is one, up to the last place.
        assert!(places.check(local, 99, 100).is_ok());
        assert!(places.check(local, 100, 100).is_err());
        for _ in 0..total {
            places.leave(bucket(greedy));
        }
        assert!(places.check(greedy, 99, 100).is_ok());
    }
}
