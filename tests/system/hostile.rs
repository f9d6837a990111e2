//! Strangers at the ports: what makes no sense is answered by a reason and a closed connection, what
//! comes in masses leaves nothing behind, and who uses the system properly notices neither.

use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use pregao::wire::{
    ErrorCode, FRAME_BYTES, Frame, Refusal, Role, Session, VERSION, as_frames, padded,
};
use socket2::SockRef;
use zerocopy::IntoBytes;

use super::market::check_trades;
use super::process::PATIENCE;
use super::system::{NODES, System};

/// Connections that come and go on each port.
const VISITS: usize = 10_000;

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&address, PATIENCE).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Reads to the end of the connection, which has to come, and gives the frames.
fn read_out(mut stream: TcpStream, what: &str) -> Vec<Frame> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap_or_else(|error| panic!("{what}: {error}"));
    let (frames, rest) = as_frames(&bytes);
    assert!(rest.is_empty(), "{what}: half a frame: {rest:?}");
    for frame in frames {
        assert_eq!(frame.check(), Ok(()), "{what}");
    }
    frames.to_vec()
}

/// The reason in the last frame, which is about the connection.
fn reason(frames: &[Frame], what: &str) -> (ErrorCode, String) {
    let last = frames.last().unwrap_or_else(|| panic!("{what}: closed without a word"));
    let refusal = last.view::<Refusal>().unwrap_or_else(|| panic!("{what}: {last:?}"));
    assert_eq!(refusal.id.get(), 0, "{what}");
    let text = pregao::wire::unpadded(&refusal.text);
    assert!(!text.is_empty(), "{what}: no sentence");
    (ErrorCode::from_number(refusal.code.get()).unwrap(), text)
}

fn hello() -> Frame {
    Frame::seal(Session {
        role: Role::Querier as u8,
        name: padded("stranger"),
        ..Session::default()
    })
}

/// What a stranger may send first, and a part of the sentence that it is answered with.
fn nonsense() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let of_version = |version| {
        let mut frame = Frame { version, ..hello() };
        frame.renew_crc();
        frame.as_bytes().to_vec()
    };
    let mut kind = Frame { kind: 99, ..hello() };
    kind.renew_crc();
    let mut crc = hello();
    crc.crc.set(crc.crc.get() ^ 1);
    let mut late = hello().as_bytes().to_vec();
    late.extend_from_slice(crc.as_bytes());
    // Any bytes will do, as long as they are the same each time.
    let byte = |index: usize| u8::try_from((index * 7 + index / 64 * 13 + 5) % 251).unwrap();
    let garbage = |length: usize| (0..length).map(byte).collect();
    vec![
        ("garbage", garbage(FRAME_BYTES), "version"),
        ("much garbage", garbage(FRAME_BYTES * 5000), "version"),
        ("http", [&b"GET / HTTP/1.1\r\nHost: localhost\r\n"[..], &[b'\r'; 64]].concat(), "version"),
        ("zeros", vec![0; FRAME_BYTES], "version"),
        ("an earlier version", of_version(VERSION - 1), "version 1; this node speaks version 2"),
        ("a later version", of_version(VERSION + 1), "version 3; this node speaks version 2"),
        ("an unknown kind", kind.as_bytes().to_vec(), "kind 99"),
        ("a bad checksum", crc.as_bytes().to_vec(), "checksum"),
        ("a bad checksum after a proper start", late, "checksum"),
    ]
}

#[test]
fn nonsense_is_answered_by_a_reason_on_every_port() {
    let system = System::start(&["--rate", "3000", "--chaos", "off"]);
    let flags = ["trade.*", "--from", "1", "--format", "json"];
    let subscriber = system.place.start("subscribe", &flags);
    for node in NODES {
        if node == "gateway" {
            // What is no frame is a request there.
            nonsense_to_the_gateway(&system);
            continue;
        }
        for (name, bytes, words) in nonsense() {
            let what = format!("{name} to {node}");
            let mut stream = connect(system.place.address(node));
            match stream.write_all(&bytes) {
                // The node need not take all of it to know.
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::BrokenPipe | ErrorKind::ConnectionReset
                    ) => {}
                result => result.unwrap(),
            }
            let (code, text) = reason(&read_out(stream, &what), &what);
            assert_eq!(code, ErrorCode::BadFrame, "{what}: {text}");
            assert!(text.contains(words), "{what}: {text}");
        }
        // A frame that is in order, but not in place.
        let what = format!("a query before the session to {node}");
        let mut stream = connect(system.place.address(node));
        let query = pregao::wire::Query { op: 1, ..Default::default() };
        stream.write_all(Frame::seal(query).as_bytes()).unwrap();
        let (code, text) = reason(&read_out(stream, &what), &what);
        assert_eq!(
            (code, &*text),
            (ErrorCode::Unexpected, "the first frame must be a SESSION"),
            "{what}"
        );
    }
    half_a_frame(&system);
    system.wait_well();
    subscriber.stdout.wait_len(subscriber.stdout.len() + 500);
    assert!(subscriber.stderr.all().is_empty(), "{:?}", subscriber.stderr.all());
    check_trades(&subscriber.end());
}

/// What begins as a frame is answered as everywhere, and anything else as a wrong request.
fn nonsense_to_the_gateway(system: &System) {
    for (name, bytes, words) in nonsense() {
        let what = format!("{name} to the gateway");
        let mut stream = connect(system.place.address("gateway"));
        let _ = stream.write_all(&bytes);
        if bytes[0] == hello().kind && bytes[1] == VERSION {
            let (code, text) = reason(&read_out(stream, &what), &what);
            assert_eq!(code, ErrorCode::BadFrame, "{what}: {text}");
            assert!(text.contains(words), "{what}: {text}");
            continue;
        }
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.starts_with("HTTP/1.1 4") || answer.is_empty(), "{what}: {answer}");
    }
}

/// Half a frame, followed by nothing and by the end.
fn half_a_frame(system: &System) {
    let whole = hello();
    let half = &whole.as_bytes()[..FRAME_BYTES / 2];
    let send = |node: &str| {
        let mut stream = connect(system.place.address(node));
        stream.write_all(half).unwrap();
        stream
    };
    // All at once, since a node waits some seconds for the rest.
    let waiting = NODES.map(|node| (node, send(node)));
    for node in NODES {
        let stream = send(node);
        stream.shutdown(Shutdown::Write).unwrap();
        let frames = read_out(stream, &format!("half a frame and the end to {node}"));
        assert!(frames.len() <= 1, "{node}: {frames:?}");
    }
    for (node, stream) in waiting {
        let what = format!("half a frame to {node}");
        let (code, text) = reason(&read_out(stream, &what), &what);
        assert_eq!(code, ErrorCode::Silent, "{what}: {text}");
    }
}

fn descriptors(system: &System) -> BTreeMap<&'static str, usize> {
    let count =
        |node: &str| fs::read_dir(format!("/proc/{}/fd", system.pid(node))).unwrap().count();
    NODES.into_iter().map(|node| (node, count(node))).collect()
}

#[test]
fn ten_thousand_visitors_leave_nothing_behind() {
    // A market that stands still: all links are up, and none comes or goes by itself.
    let system = System::start(&["--speed", "0", "--chaos", "off"]);
    system.wait_well();
    let before = descriptors(&system);
    let subscriber = system.place.start("subscribe", &["--for", "1s", "--format", "json"]);
    std::thread::scope(|scope| {
        for node in NODES {
            let address = system.place.address(node);
            scope.spawn(move || {
                for visit in 0..VISITS {
                    let mut stream = connect(address);
                    // Some say nothing, some half a word, some a whole one; some hang up, some vanish.
                    let words = [0, 17, FRAME_BYTES][visit % 3];
                    stream.write_all(&hello().as_bytes()[..words]).unwrap();
                    if visit % 2 == 0 {
                        SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
                    }
                }
            });
        }
    });
    subscriber.finish().expect(0);
    system.wait_well();
    system.retry("as many descriptors as before", || {
        let after = descriptors(&system);
        // One link of the system's own may have come up since; thousands of visitors have not.
        let is_same = after.iter().all(|(node, count)| *count <= before[node] + 1);
        if is_same { Ok(()) } else { Err(format!("{after:?} instead of {before:?}")) }
    });
    for node in NODES {
        assert_eq!(system.pids(node).len(), 1, "{node} was restarted");
    }
}
