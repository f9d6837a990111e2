//! How places are shared: who counts as one peer, and how many of a node's places it may have.
//!
//! # Decisions
//!
//! * [`Principal`] is the one place that says who counts as one. Today it is the address. When peers have identities,
//!   it is the identity.
//! * On one machine everybody has the same address, which says nothing: `pregao all`, its clients and whoever else is on
//!   the machine are all 127.0.0.1. A share of the address would put the aggregator and each client into one. So a
//!   loopback peer is judged by its connection. Whoever can open connections on this machine can also open
//!   many; the address of another machine cannot be multiplied so.
//! * An IPv6 host has a network of its own, so 64 bits of its address count.
//! * Without contention nobody is held back: the first half of the places is for whoever comes first. Behind it a peer
//!   has at most an even share, with one share left for the next one to come. The last quarter is for those who have
//!   few. So a peer that asks for little finds a place however much the others ask for.
//! * A connection knows itself how many places it has, so only addresses stand in a table. Each question of a local
//!   peer would look it up several times.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Rejection;
use crate::limits;
use crate::node::ConnId;
use crate::planted::{Bug, is_planted};
use crate::wire::ErrorCode;

/// An address of another machine, as far as it counts: of IPv6 the network, since a host has one of its own.
/// Thousands of idle connections have one each, so it is small.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Address {
    V4([u8; 4]),
    V6([u8; 8]),
}

impl Address {
    /// `None`: it is this machine's.
    pub(crate) fn of(address: IpAddr) -> Option<Address> {
        match address.to_canonical() {
            address if address.is_loopback() => None,
            IpAddr::V4(address) => Some(Address::V4(address.octets())),
            IpAddr::V6(address) => {
                let [a, b, c, d, e, f, g, h, ..] = address.octets();
                Some(Address::V6([a, b, c, d, e, f, g, h]))
            }
        }
    }

    /// One that counts as the same.
    pub(crate) fn ip(self) -> IpAddr {
        match self {
            Address::V4(octets) => Ipv4Addr::from(octets).into(),
            Address::V6([a, b, c, d, e, f, g, h]) => {
                Ipv6Addr::from([a, b, c, d, e, f, g, h, 0, 0, 0, 0, 0, 0, 0, 0]).into()
            }
        }
    }

    /// What it is told apart by.
    pub(crate) fn octets(&self) -> &[u8] {
        match self {
            Address::V4(octets) => octets,
            Address::V6(octets) => octets,
        }
    }
}

/// Who counts as one peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Principal {
    /// All connections from one address.
    Address(Address),
    /// One connection of this machine.
    Connection(ConnId),
}

impl Principal {
    /// Who a connection from this address is.
    pub(crate) fn of(conn: ConnId, address: IpAddr) -> Principal {
        Address::of(address).map_or(Principal::Connection(conn), Principal::Address)
    }

    /// The address that counts as one, when it is no connection of this machine.
    pub(super) fn address(self) -> Option<Address> {
        match self {
            Principal::Address(address) => Some(address),
            Principal::Connection(_) => None,
        }
    }

    /// The start of a sentence about it.
    fn whose(self) -> &'static str {
        match self {
            Principal::Address(_) => "your address",
            Principal::Connection(_) => "your connection",
        }
    }
}

/// Why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoPlace {
    /// All are taken.
    All,
    /// This peer has its share.
    Share,
}

impl NoPlace {
    /// The refusal: `what` is what the places are for, such as `queries`.
    pub(crate) fn refusal(self, principal: Principal, what: &str) -> Rejection {
        let text = match self {
            NoPlace::All => format!("all places are taken here: {what}"),
            NoPlace::Share => format!("{} has its share of {what}", principal.whose()),
        };
        Rejection::new(ErrorCode::Limit, text)
    }
}

/// Whether somebody that has `own` of `total` places may have one more, of `capacity`, beside so many others that
/// hold one or more.
pub(crate) fn may_take(
    own: usize,
    total: usize,
    holders: usize,
    capacity: usize,
) -> Result<(), NoPlace> {
    if total >= capacity {
        return Err(NoPlace::All);
    }
    let is_contended = total >= capacity / 2;
    if !is_contended || own < limits::SMALL_SHARE || is_planted(Bug::NoShares) {
        return Ok(());
    }
    let is_last_quarter = total >= capacity - capacity / 4;
    if own >= capacity / (holders + 1) || is_last_quarter {
        return Err(NoPlace::Share);
    }
    Ok(())
}

/// Places of one kind at one node.
#[derive(Debug)]
pub(crate) struct Shares {
    /// What they are for, in refusals.
    what: &'static str,
    capacity: usize,
    total: usize,
    /// Connections that have any.
    connections: usize,
    /// Addresses that have any. Invariant: none has 0, so there are no more than places.
    addresses: BTreeMap<Address, usize>,
}

impl Shares {
    pub(crate) const fn new(what: &'static str, capacity: usize) -> Shares {
        Shares { what, capacity, total: 0, connections: 0, addresses: BTreeMap::new() }
    }

    /// Places that are taken.
    pub(crate) fn total(&self) -> usize {
        self.total
    }

    /// Whether a peer may take one more. `counted` is what the connection that asks for it has been counted with
    /// ([`Shares::change`]).
    ///
    /// # Errors
    /// The refusal, which says whose limit it is.
    pub(crate) fn check(&self, principal: Principal, counted: usize) -> Result<(), Rejection> {
        let own = match principal {
            Principal::Connection(_) => counted,
            Principal::Address(address) => self.addresses.get(&address).copied().unwrap_or(0),
        };
        may_take(own, self.total, self.connections + self.addresses.len(), self.capacity)
            .map_err(|why| why.refusal(principal, self.what))
    }

    /// A connection that had `before` places has `after` now.
    #[inline]
    pub(crate) fn change(&mut self, principal: Principal, before: usize, after: usize) {
        if before != after {
            self.change_places(principal, before, after);
        }
    }

    fn change_places(&mut self, principal: Principal, before: usize, after: usize) {
        match principal {
            Principal::Connection(_) => {
                let holds = |places: usize| usize::from(places > 0);
                self.connections = (self.connections + holds(after)).saturating_sub(holds(before));
            }
            Principal::Address(address) => self.change_address(address, before, after),
        }
        self.total = (self.total + after).saturating_sub(before);
    }

    fn change_address(&mut self, address: Address, before: usize, after: usize) {
        let held = self.addresses.entry(address).or_default();
        *held = (*held + after).saturating_sub(before);
        if *held == 0 {
            self.addresses.remove(&address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conn(slot: u32) -> ConnId {
        ConnId { generation: 1, slot }
    }

    fn local(slot: u32) -> Principal {
        Principal::of(conn(slot), IpAddr::from([127, 0, 0, 1]))
    }

    fn remote(slot: u32, host: u8) -> Principal {
        Principal::of(conn(slot), IpAddr::from([10, 0, 0, host]))
    }

    /// Takes places until there is none more; how many.
    fn take_all(shares: &mut Shares, who: Principal) -> usize {
        let mut taken = 0;
        while shares.check(who, taken).is_ok() {
            shares.change(who, taken, taken + 1);
            taken += 1;
        }
        taken
    }

    #[test]
    fn connections_of_one_address_are_one_and_those_of_this_machine_are_not() {
        assert_eq!(remote(1, 7), remote(2, 7));
        assert_ne!(remote(1, 7), remote(1, 8));
        assert_ne!(local(1), local(2));
        let v6 = |text: &str| Principal::of(conn(1), text.parse().unwrap());
        assert_eq!(v6("2001:db8::1"), v6("2001:db8::2"));
        assert_ne!(v6("2001:db8::1"), v6("2001:db8:0:1::1"));
        assert_eq!(v6("::ffff:10.0.0.7"), remote(1, 7));
        assert_eq!(v6("::1"), local(1));
        for text in ["2001:db8::1", "10.0.0.7", "::ffff:10.0.0.7", "::2", "::", "fe80::1"] {
            let address = Address::of(text.parse().unwrap()).expect("of another machine");
            assert_eq!(Address::of(address.ip()), Some(address), "{text}");
        }
    }

    #[test]
    fn one_alone_has_half_and_more_and_never_all() {
        let mut shares = Shares::new("queries", 1_000);
        assert_eq!(take_all(&mut shares, local(1)), 500);
        let refused = shares.check(local(1), 500).unwrap_err();
        assert_eq!(refused.text, "your connection has its share of queries");
        assert!(shares.check(local(2), 0).is_ok());
        let refused = NoPlace::Share.refusal(remote(1, 1), "queries");
        assert_eq!(refused.text, "your address has its share of queries");
    }

    #[test]
    fn nine_greedy_peers_leave_room_for_many_small_ones() {
        let mut shares = Shares::new("queries", 2_048);
        let greedy: Vec<usize> = (0..9).map(|slot| take_all(&mut shares, local(slot))).collect();
        assert!(shares.total() <= 2_048 - 512 + 9 * limits::SMALL_SHARE, "{greedy:?}");
        for slot in 100..200 {
            assert!(shares.check(local(slot), 0).is_ok(), "{slot}");
            shares.change(local(slot), 0, limits::SMALL_SHARE);
        }
        for slot in 100..200 {
            shares.change(local(slot), limits::SMALL_SHARE, 0);
        }
        for (slot, held) in greedy.into_iter().enumerate() {
            shares.change(local(u32::try_from(slot).unwrap()), held, 0);
        }
        assert_eq!((shares.total(), shares.connections), (0, 0));
    }

    #[test]
    fn connections_of_one_address_share_and_hold_as_one() {
        let mut shares = Shares::new("queries", 100);
        assert_eq!(take_all(&mut shares, remote(1, 7)), 50);
        assert!(shares.check(remote(2, 7), 0).is_err(), "another connection of the same address");
        assert!(shares.check(remote(3, 8), 0).is_ok());
        shares.change(remote(3, 8), 0, 2);
        shares.change(local(4), 0, 3);
        shares.change(local(4), 3, 1);
        assert_eq!((shares.connections, shares.addresses.len(), shares.total()), (1, 2, 53));
        shares.change(local(4), 1, 0);
        shares.change(remote(3, 8), 2, 0);
        shares.change(remote(1, 7), 50, 0);
        assert_eq!((shares.connections, shares.addresses.len(), shares.total()), (0, 0, 0));
    }
}
