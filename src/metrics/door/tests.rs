use std::net::{IpAddr, Ipv4Addr};

use super::*;
use crate::node::FrameInput as _;
use crate::node::broker::{Broker, BrokerConfig};
use crate::wire::{Frame, Role, Session, padded};

const NOW: Now = Now { mono: Mono(1_000_000_000), wall_ns: 1_000_000_000 };
const HERE: Origin = Origin::Accepted(ListenerId(1), IpAddr::V4(Ipv4Addr::LOCALHOST));

fn conn(slot: u32) -> ConnId {
    ConnId { generation: 1, slot }
}

/// Runs the test on a broker that tells its figures at this address.
fn with_broker(address: &str, test: impl FnOnce(&mut WithMetrics<'_, Broker>)) {
    let mut broker = Broker::new(BrokerConfig::new(1 << 10, 8));
    let address = address.parse().unwrap();
    test(&mut WithMetrics::new(&mut broker, "broker".to_owned(), address));
}

/// All that a connection is sent, in pieces of at most `most` bytes.
fn sent(node: &mut WithMetrics<'_, Broker>, conn: ConnId, most: usize) -> String {
    let mut text = Vec::new();
    loop {
        let outgoing = node.outgoing(NOW, conn);
        let taken = outgoing.head.len().min(most);
        if taken == 0 {
            return String::from_utf8(text).unwrap();
        }
        text.extend_from_slice(&outgoing.head[..taken]);
        node.handle_sent(NOW, conn, taken);
    }
}

fn get(path: &str, host: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n")
}

#[test]
fn figures_are_told_beside_the_frames_of_the_node() {
    with_broker("127.0.0.1:9100", |node| {
        node.handle_open(NOW, conn(0), Origin::LOCAL);
        node.handle_open(NOW, conn(1), HERE);
        let request = get("/metrics", "127.0.0.1:9100");
        assert_eq!(node.handle_bytes(NOW, conn(1), request.as_bytes()), request.len());
        assert_eq!(node.poll_dirty(), Some(conn(1)));
        let answer = sent(node, conn(1), 100);
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.contains("Content-Type: text/plain; version=0.0.4"), "{answer}");
        // The connection that asks is none of the node's.
        assert!(answer.contains("pregao_connections{node=\"broker\",copy=\"0\"} 1\n"), "{answer}");
        assert!(answer.contains("\npregao_metrics_left_out 0\n"), "{answer}");
        // And the node goes on with its own protocol.
        let session = Session {
            role: Role::Querier as u8,
            source: 1,
            name: padded("test"),
            ..Session::default()
        };
        assert_eq!(node.handle_frames(NOW, conn(0), &[Frame::seal(session)]), 1);
        assert_eq!(node.poll_dirty(), Some(conn(0)));
        node.handle_close(NOW, conn(1), CloseReason::PeerClosed);
        assert_eq!((node.doors.len(), node.due()), (0, None));
    });
}

#[test]
fn requests_in_any_pieces_are_answered_one_behind_the_other() {
    let requests = get("/healthz", "localhost:9100")
        + &get("/nothing", "localhost:9100")
        + &get("/healthz", "elsewhere.example:9100")
        + "POST /metrics HTTP/1.1\r\nHost: localhost:9100\r\nContent-Length: 2\r\n\r\nab";
    for piece in [1, 7, 33, 90, requests.len()] {
        with_broker("127.0.0.1:9100", |node| {
            node.handle_open(NOW, conn(3), HERE);
            let (mut at, mut said) = (0, String::new());
            for _ in 0..10_000 {
                if at < requests.len() && node.wants_bytes(conn(3)) {
                    let end = requests.len().min(at + piece);
                    at += node.handle_bytes(NOW, conn(3), &requests.as_bytes()[at..end]);
                }
                said.push_str(&sent(node, conn(3), 50));
                // What is due now has to have happened behind this.
                while node.due() <= Some(NOW.mono) && node.due().is_some() {
                    node.handle_timers(NOW);
                    said.push_str(&sent(node, conn(3), 50));
                }
                if at == requests.len() {
                    break;
                }
            }
            let statuses: Vec<&str> = said.split("HTTP/1.1 ").skip(1).map(|it| &it[..3]).collect();
            assert_eq!(statuses, ["200", "404", "421", "405"], "{piece}: {said}");
        });
    }
}

#[test]
fn who_is_one_too_many_is_told_so_and_closed() {
    with_broker("0.0.0.0:9100", |node| {
        for slot in 0..=METRICS_CONNECTIONS_MAX {
            node.handle_open(NOW, conn(u32::try_from(slot).unwrap()), HERE);
        }
        let last = conn(u32::try_from(METRICS_CONNECTIONS_MAX).unwrap());
        assert_eq!(node.poll_action(), Some(Action::Close(last)));
        assert!(sent(node, last, 20).starts_with("HTTP/1.1 503 "), "it is told");
        assert!(sent(node, conn(0), 20).is_empty());
        // A peer for which no descriptor is left is told the same.
        node.handle_open(NOW, conn(99), Origin::Surplus(ListenerId(1)));
        let actions: Vec<Action> = std::iter::from_fn(|| node.poll_action()).collect();
        assert!(actions.contains(&Action::Close(conn(99))), "{actions:?}");
        assert!(sent(node, conn(99), 500).contains("come back later"));
        // At an address for other machines any name may stand.
        let request = get("/healthz", "broker.example");
        node.handle_bytes(NOW, conn(0), request.as_bytes());
        assert!(sent(node, conn(0), 500).starts_with("HTTP/1.1 200 "));
    });
}

#[test]
fn who_says_nothing_or_only_a_part_is_ended() {
    with_broker("127.0.0.1:9100", |node| {
        node.handle_open(NOW, conn(0), HERE);
        node.handle_open(NOW, conn(1), HERE);
        node.handle_bytes(NOW, conn(1), b"GET /metr");
        let mut now = NOW;
        let mut closed = Vec::new();
        for _ in 0..10 {
            now.mono = node.due().unwrap_or(now.mono).max(now.mono);
            node.look_after(now);
            let answer = sent(node, conn(1), 1_000);
            assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408 "), "{answer}");
            while let Some(action) = node.poll_action() {
                let Action::Close(conn) = action else { continue };
                node.handle_close(now, conn, CloseReason::Ours);
                closed.push(conn);
            }
        }
        closed.sort();
        assert_eq!((closed, node.doors.len()), (vec![conn(0), conn(1)], 0));
    });
}
