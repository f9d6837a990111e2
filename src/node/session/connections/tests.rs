//! Connections that end, refuse and do not read.

use super::*;
use crate::wire::{Run, as_frames};

fn now(seconds: u64) -> Now {
    Now { mono: Mono(seconds * 1_000_000_000), wall_ns: 0 }
}

fn conn(generation: u32) -> ConnId {
    ConnId { generation, slot: 0 }
}

#[test]
fn a_late_event_of_a_reused_slot_reaches_nobody() {
    let mut connections = Connections::<()>::default();
    connections.insert(now(0), conn(1));
    connections.greet(conn(1), false, ());
    assert_eq!(connections.remove(conn(1)), Some(()));
    connections.insert(now(0), conn(2));
    connections.send(conn(1), Run::default());
    assert!(connections.outbox(conn(2)).is_empty());
    assert!(connections.remove(conn(1)).is_none());
    assert_eq!(connections.len(), 1);
}

#[test]
fn a_peer_that_never_reads_is_refused_at_the_bound() {
    let mut connections = Connections::<()>::default();
    connections.insert(now(0), conn(1));
    for _ in 0..limits::UNREAD_BYTES_MAX / 32 {
        connections.send(conn(1), Run::default());
    }
    assert!(connections.outbox(conn(1)).len() <= limits::UNREAD_BYTES_MAX + 64);
    assert!(connections.get(conn(1)).is_none(), "it is closing");
}

#[test]
fn the_reason_of_a_refusal_follows_a_half_sent_frame() {
    let mut connections = Connections::<()>::default();
    connections.insert(now(0), conn(1));
    connections.send(conn(1), Run::default());
    connections.send(conn(1), Run::default());
    connections.sent(now(0), conn(1), 40);
    connections.refuse(conn(1), ErrorCode::Limit, "enough");
    let bytes = connections.outbox(conn(1)).to_vec();
    assert_eq!(bytes.len(), 24 + 64, "the rest of the first frame, then the reason");
    let (frames, _) = as_frames(&bytes[24..]);
    assert!(frames[0].view::<Refusal>().is_some());
}

fn from(slot: u32, host: u8) -> (ConnId, IpAddr) {
    (ConnId { generation: 1, slot }, IpAddr::from([10, 0, 0, host]))
}

/// Connections from an address until one is refused; how many there are.
fn fill_from(connections: &mut Connections<()>, first: u32, host: u8) -> u32 {
    for count in 0..=u32::try_from(limits::CONNECTIONS_MAX).unwrap() {
        let (id, address) = from(first + count, host);
        connections.insert_from(now(0), id, address);
        if connections.get(id).is_none() {
            let (frames, _) = as_frames(connections.outbox(id));
            let refusal = frames[0].view::<Refusal>().unwrap();
            assert_eq!(refusal.code.get(), ErrorCode::Limit as u16);
            connections.remove(id);
            return count;
        }
    }
    unreachable!()
}

#[test]
fn an_address_has_its_share_of_connections_and_gets_it_back() {
    let mut connections = Connections::<()>::default();
    let most = fill_from(&mut connections, 0, 1);
    assert_eq!(most as usize, limits::CONNECTIONS_MAX / 2, "the rest is for others");
    let (other, address) = from(most, 2);
    connections.insert_from(now(0), other, address);
    assert!(connections.get(other).is_some());
    connections.remove(other);
    for slot in 0..most {
        connections.remove(from(slot, 1).0);
    }
    assert_eq!(fill_from(&mut connections, 0, 1), most);
}
