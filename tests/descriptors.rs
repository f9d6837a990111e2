//! A node that runs out of descriptors while peers wait to be accepted. A test binary of its own,
//! because the limit it lowers holds for the whole process.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use pregao::node::broker::{Broker, BrokerConfig};
use pregao::reactor::{Options, Reactor};
use pregao::wire::{Op, Query};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, Socket, Type};

const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn emfile_on_accept_turns_peers_away_and_heals_when_descriptors_are_free() {
    let listen = "127.0.0.1:0".parse().unwrap();
    let mut reactor = Reactor::new(Options::listening(listen)).unwrap();
    let address: SocketAddr = reactor.local_addr().unwrap();
    let (mut signal, stop) = std::os::unix::net::UnixStream::pair().unwrap();
    reactor.stop_on(stop).unwrap();

    // The peers' sockets exist before the limit falls: from then on only the broker needs more.
    let mut peers: Vec<Socket> =
        (0..12).map(|_| Socket::new(Domain::IPV4, Type::STREAM, None).unwrap()).collect();
    let before = getrlimit(Resource::Nofile);
    let used = std::fs::read_dir("/proc/self/fd").unwrap().count() as u64;
    setrlimit(Resource::Nofile, Rlimit { current: Some(used + 4), ..before }).unwrap();
    let broker = std::thread::spawn(move || {
        let mut node = Broker::new(BrokerConfig::new(64, 100));
        reactor.run(&mut node).unwrap();
    });
    for peer in &peers {
        peer.connect(&address.into()).unwrap();
        peer.set_read_timeout(Some(PATIENCE)).unwrap();
    }
    // The last ones found no descriptor. They are closed at once, not left hanging until the broker
    // would have missed their greeting and told them so.
    let mut last = TcpStream::from(peers.pop().unwrap());
    assert!(matches!(last.read(&mut [0; 64]), Ok(0) | Err(_)), "it was turned away");

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
