//! A node that runs out of descriptors while peers wait to be accepted. A test binary of its own,
//! because the limit it lowers holds for the whole process.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use pregao::node::broker::{Broker, BrokerConfig};
use pregao::reactor::{Options, Reactor};
use pregao::turn::reserved_descriptors;
use pregao::wire::{ErrorCode, FRAME_BYTES, Op, Query, Refusal, as_frames};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, Socket, Type};

const PATIENCE: Duration = Duration::from_secs(30);
/// Descriptors below the reserve that are free when the peers come.
const FREE: u8 = 4;

#[test]
fn peers_without_a_descriptor_are_told_so_or_turned_away_and_it_heals() {
    let listen = "127.0.0.1:0".parse().unwrap();
    let mut reactor = Reactor::new(Options::listening(listen)).unwrap();
    let address: SocketAddr = reactor.local_addr().unwrap();
    let (mut signal, stop) = std::os::unix::net::UnixStream::pair().unwrap();
    reactor.stop_on(stop).unwrap();

    // The peers' sockets exist before the limit falls: from then on only the broker needs more.
    let mut peers: Vec<Socket> =
        (0..80).map(|_| Socket::new(Domain::IPV4, Type::STREAM, None).unwrap()).collect();
    let before = getrlimit(Resource::Nofile);
    let used = std::fs::read_dir("/proc/self/fd").unwrap().count() as u64;
    let lowered =
        (used..).find(|limit| limit - reserved_descriptors(*limit) >= used + u64::from(FREE));
    let lowered = lowered.unwrap();
    setrlimit(Resource::Nofile, Rlimit { current: Some(lowered), ..before }).unwrap();
    let broker = std::thread::spawn(move || {
        let mut node = Broker::new(BrokerConfig::new(64, 100));
        reactor.run(&mut node).unwrap();
    });
    for peer in &peers {
        peer.connect(&address.into()).unwrap();
        peer.set_read_timeout(Some(PATIENCE)).unwrap();
    }
    // Those behind the first are told why, as far as there are descriptors for that; all others are closed at
    // once, not left hanging until the broker would have missed their greeting.
    let mut told = 0;
    for peer in peers.drain(usize::from(FREE)..) {
        let mut bytes = Vec::new();
        let mut stream = TcpStream::from(peer);
        let _ = stream.read_to_end(&mut bytes);
        let refusal =
            as_frames(&bytes).0.first().and_then(|frame| frame.view::<Refusal>().copied());
        // The first of them may have been accepted, and are missed because they say nothing.
        if refusal.is_some_and(|refusal| refusal.code.get() == ErrorCode::Limit as u16) {
            assert_eq!(bytes.len(), FRAME_BYTES);
            told += 1;
        }
    }
    assert!(told > 0, "nobody was told");

    drop(peers);
    setrlimit(Resource::Nofile, before).unwrap();
    let mut query_client = pregao::client::QueryClient::open("broker", address, PATIENCE).unwrap();
    let query = Query { op: Op::Status as u8, ..Query::default() };
    let answer = query_client.ask(&[query], PATIENCE).unwrap().remove(0);
    let faults = answer.metrics.iter().find(|(name, _)| name == "local_faults");
    assert!(faults.is_some_and(|(_, count)| *count > 0), "{:?}", answer.metrics);
    signal.write_all(&[1]).unwrap();
    broker.join().unwrap();
}
