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
