//! Places of subscribers: how many each address has, over all reactors.
//!
//! # Decisions
//!
//! * A subscriber ends on the reactor that serves it, and the first one admits the next. What they share is a
//!   table of counters that never grows: addresses are spread over its places. Two that meet in one place are judged
//!   as one, and only when half of the broker's places are taken.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::node::session::{Principal, Rejection, may_take};

/// Places of the table.
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
pub(super) fn bucket(principal: Principal) -> Option<u8> {
    let Principal::Address(address) = principal else { return None };
    let mix = |hash: u8, byte: &u8| (hash ^ byte).wrapping_mul(167).rotate_left(3);
    Some(match address {
        IpAddr::V4(address) => address.octets().iter().fold(0, mix),
        IpAddr::V6(address) => address.octets().iter().fold(0, mix),
    })
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
        let own = bucket(principal).and_then(|bucket| self.0.get(usize::from(bucket)));
        let holders = self.0.iter().filter(|it| count(it) > 0).count();
        may_take(own.map_or(0, count), total, holders, capacity)
            .map_err(|why| why.refusal(principal, "subscribers"))
    }

    pub(super) fn enter(&self, bucket: Option<u8>) {
        if let Some(count) = bucket.and_then(|bucket| self.0.get(usize::from(bucket))) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn leave(&self, bucket: Option<u8>) {
        if let Some(count) = bucket.and_then(|bucket| self.0.get(usize::from(bucket))) {
            count.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
