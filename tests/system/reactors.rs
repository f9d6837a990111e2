//! A broker of several reactors, from outside: it is one broker, for its subscribers, for who asks for its
//! status, and for who stops it.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use pregao::client::Request;
use pregao::wire::{
    FRAME_BYTES, Flags, Frame, Gap, Heartbeat, Kind, Mode, Role, Session, SnapshotEnd, Subscribe,
    as_frames, padded,
};
use serde_json::Value;
use zerocopy::IntoBytes;

use super::process::PATIENCE;
use super::system::System;

const SUBSCRIBERS: usize = 300;
const THREADS: usize = 6;
/// Live frames that each subscriber checks.
const FRAMES: u64 = 3_000;

struct Subscriber {
    stream: TcpStream,
    carry: Vec<u8>,
    next_seq: Option<u64>,
    frames: u64,
}

impl Subscriber {
    fn open(address: SocketAddr) -> Subscriber {
        let mut stream = TcpStream::connect_timeout(&address, PATIENCE).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        let session = Session { role: Role::Subscriber as u8, ..Session::default() };
        let subscribe = Subscribe {
            source: Request::MARKET,
            mode: Mode::Lossless as u8,
            pattern: padded("*"),
            ..Subscribe::default()
        };
        let words = [Frame::seal(session), Frame::seal(subscribe)];
        // In pieces that are no frames: what was read before the hand-over has to come along.
        for piece in words.as_bytes().chunks(48) {
            stream.write_all(piece).unwrap();
        }
        Subscriber { stream, carry: Vec::new(), next_seq: None, frames: 0 }
    }

    /// Reads once. Every frame is the next one.
    fn read(&mut self) {
        let mut buffer = vec![0; 64 * 1024];
        let bytes = self.stream.read(&mut buffer).unwrap();
        assert!(bytes > 0, "the broker hung up after {} frames", self.frames);
        self.carry.extend_from_slice(&buffer[..bytes]);
        let whole = self.carry.len() / FRAME_BYTES * FRAME_BYTES;
        let rest = self.carry.split_off(whole);
        let whole = std::mem::replace(&mut self.carry, rest);
        for frame in as_frames(&whole).0 {
            assert_eq!(frame.check(), Ok(()));
            assert!(frame.view::<Gap>().is_none(), "a gap after {} frames", self.frames);
            if let Some(end) = frame.view::<SnapshotEnd>() {
                self.next_seq = Some(end.next_seq.get());
            } else if frame.kind().is_some_and(Kind::is_data) && !frame.has(Flags::SNAPSHOT) {
                assert_eq!(Some(frame.seq.get()), self.next_seq);
                self.next_seq = Some(frame.seq.get() + 1);
                self.frames += 1;
                if self.frames.is_multiple_of(256) {
                    // A slow machine may need longer than a peer may be silent.
                    self.stream.write_all(Frame::seal(Heartbeat::default()).as_bytes()).unwrap();
                }
            }
        }
    }
}

fn metric(system: &System, name: &str) -> Option<i64> {
    system.status().get("broker")?["figures"][name].as_i64()
}

fn wait_metric(system: &System, name: &str, wanted: usize) {
    system.retry(name, || match metric(system, name) {
        Some(it) if it == i64::try_from(wanted).unwrap() => Ok(()),
        other => Err(format!("{other:?} instead of {wanted}")),
    });
}

fn threads_of(pid: i32) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let name =
        |task: fs::DirEntry| fs::read_to_string(task.path().join("comm")).unwrap_or_default();
    tasks.map(|task| name(task.unwrap()).trim().to_owned()).collect()
}

#[test]
fn subscribers_of_three_reactors_see_one_sequence() {
    let system = System::start(&["--reactors", "3", "--rate", "3000", "--chaos", "off"]);
    let address = system.place.address("broker");
    let threads = threads_of(system.pid("broker"));
    for name in ["reactor-1", "reactor-2"] {
        assert!(threads.iter().any(|it| it == name), "{threads:?}");
    }
    let subscribers = std::thread::scope(|scope| {
        let open = || -> Vec<Subscriber> {
            let mut own: Vec<Subscriber> =
                (0..SUBSCRIBERS / THREADS).map(|_| Subscriber::open(address)).collect();
            while own.iter().any(|it| it.frames < FRAMES) {
                own.iter_mut().for_each(Subscriber::read);
            }
            own
        };
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(open)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    assert_eq!(subscribers.len(), SUBSCRIBERS);
    // The gateway is one too.
    wait_metric(&system, "subscribers", SUBSCRIBERS + 1);
    wait_metric(&system, "reactors", 3);
    let broker: Value = system.status()["broker"].clone();
    assert!(broker["figures"]["memory_bytes_bound"].as_i64().unwrap() > 0, "{broker}");
    assert_eq!(broker["figures"]["source.1.gaps_told"].as_i64(), Some(0), "{broker}");
    let left = subscribers.into_iter().step_by(2).collect::<Vec<_>>();
    wait_metric(&system, "subscribers", left.len() + 1);
    assert_eq!(system.pids("broker").len(), 1, "it was not restarted");
    system.stop();
}
