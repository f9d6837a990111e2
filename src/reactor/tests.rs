//! Hazards of real sockets. Each test says which one it covers.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};

use zerocopy::IntoBytes;

use super::sockets::{connection_of, token_of};
use super::*;
use crate::node::codec::{Codec, Frames};
use crate::node::{Action, CloseReason, ConnId, DialFailure, DialId, LocalFault, Origin, Outgoing};
use crate::wire::{ErrorCode, Frame, Refusal, Run, as_frames};

type Connections = crate::node::Connections<()>;

/// Echoes good frames, refuses bad ones, and writes down what it was sent.
#[derive(Default)]
struct Echo {
    connections: Connections,
    opened: Vec<(ConnId, Origin)>,
    closed: Vec<CloseReason>,
    failed: Vec<DialFailure>,
    frames: usize,
    is_paused: bool,
    is_stopped: bool,
    /// Gives whoever speaks to the next reactor.
    hands_on: bool,
    panics: bool,
    sends_before_timers: bool,
    /// Bytes that had left when the timers were last looked at.
    sent_before_timers: usize,
    sent: usize,
}

impl Timed for Echo {
    fn handle_turn_end(&mut self, _now: Now, length: Duration) {
        self.connections.note_turn(length);
    }
}

impl Node for Echo {
    fn handle_open(&mut self, now: Now, conn: ConnId, origin: Origin) {
        assert!(!self.panics, "this node panics on purpose");
        self.connections.insert(now, conn);
        self.opened.push((conn, origin));
    }
    fn handle_dial_failed(&mut self, _now: Now, _dial: DialId, failure: DialFailure) {
        self.failed.push(failure);
    }
    fn handle_bytes(&mut self, _now: Now, conn: ConnId, bytes: &[u8]) -> usize {
        let (frames, consumed) = Frames::split(bytes);
        if self.hands_on {
            self.connections.hand_over(conn, 1);
            return 0;
        }
        for frame in frames {
            match frame.check() {
                Ok(()) => self.connections.send_frame(conn, frame),
                Err(error) => {
                    self.connections.refuse(conn, ErrorCode::BadFrame, &error.to_string())
                }
            }
        }
        self.frames += frames.len();
        consumed
    }
    fn handle_close(&mut self, _now: Now, conn: ConnId, reason: CloseReason) {
        self.connections.remove(conn);
        self.closed.push(reason);
    }
    fn handle_local_fault(&mut self, _now: Now, _fault: LocalFault) {}
    fn handle_storage(&mut self, _now: Now) {}
    fn handle_mail(&mut self, _now: Now) {}
    fn commit(&mut self, _now: Now) {}

    fn proceed(&mut self, _now: Now) {}
    fn failure(&self) -> Option<&str> {
        None
    }
    fn poll_wake(&mut self) -> Option<usize> {
        None
    }
    fn sends_before_timers(&self) -> bool {
        self.sends_before_timers
    }
    fn handle_timers(&mut self, _now: Now) {
        self.sent_before_timers = self.sent;
    }
    fn handle_stop(&mut self, _now: Now) {
        self.connections.refuse_all(ErrorCode::Stopping, "stopping");
        self.is_stopped = true;
    }
    fn is_stopped(&self) -> bool {
        self.is_stopped
    }
    fn next_deadline(&self) -> Option<Mono> {
        None
    }
    fn poll_action(&mut self) -> Option<Action> {
        self.connections.poll_action()
    }
    fn poll_dirty(&mut self) -> Option<ConnId> {
        self.connections.poll_dirty()
    }
    fn poll_bulk(&mut self) -> Option<ConnId> {
        None
    }
    fn has_bulk(&self) -> bool {
        false
    }
    fn put_off(&mut self, _conn: ConnId) -> bool {
        false
    }
    fn is_source(&self, _conn: ConnId) -> bool {
        true
    }
    fn outgoing(&mut self, _now: Now, conn: ConnId) -> Outgoing<'_> {
        Outgoing::one(self.connections.outbox(conn))
    }
    fn handle_sent(&mut self, now: Now, conn: ConnId, bytes: usize) -> bool {
        self.connections.sent(now, conn, bytes);
        self.sent += bytes;
        true
    }
    fn wants_bytes(&self, _conn: ConnId) -> bool {
        !self.is_paused
    }
}

struct Bench {
    reactor: Reactor,
    node: Echo,
    address: SocketAddr,
}

impl Bench {
    fn new() -> Bench {
        Bench::with(SocketOptions::default())
    }

    fn with(accepted: SocketOptions) -> Bench {
        let address = "127.0.0.1:0".parse().unwrap();
        let listen = vec![Listen { sockets: accepted, ..Listen::frames(address) }];
        let reactor = Reactor::new(Options { listen, is_punctual: false }).unwrap();
        let address = reactor.local_addr().unwrap();
        Bench { reactor, node: Echo::default(), address }
    }

    fn peer(&self) -> TcpStream {
        let peer = TcpStream::connect(self.address).unwrap();
        peer.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        peer
    }

    /// Turns until it is so. Each turn ends by an event or a deadline; a test that waits for what
    /// never comes fails after half a minute.
    fn turn_until(&mut self, mut is_so: impl FnMut(&Bench) -> bool) {
        let by = self.reactor.clock.now().mono + Duration::from_secs(30);
        while !is_so(self) {
            let now = self.reactor.turn(&mut self.node, Some(by)).unwrap();
            assert!(now.mono < by, "it never came");
        }
    }

    fn dial(&mut self, to: SocketAddr, within: Duration) {
        self.node.connections.dial(DialId(1), to, within);
        self.finish();
    }

    /// Does what the node wants, without waiting for an event.
    fn finish(&mut self) {
        let now = self.reactor.clock.now();
        self.reactor.turn.finish(&mut self.reactor.sockets, &mut self.node, now);
    }
}

fn frame() -> Frame {
    Frame::seal(Run::default())
}

#[test]
fn frames_arrive_whole_however_the_stream_is_cut() {
    let mut bench = Bench::new();
    let mut peer = bench.peer();
    peer.set_nodelay(true).unwrap();
    for (sent, byte) in frame().as_bytes().iter().chain(frame().as_bytes()).enumerate() {
        peer.write_all(&[*byte]).unwrap();
        let frames = (sent + 1) / 64;
        let turns_needed = frames > bench.node.frames;
        if turns_needed {
            bench.turn_until(|bench| bench.node.frames == frames);
        }
    }
    let mut echoed = [0; 128];
    bench.turn_until(|bench| {
        bench.node.connections.iter().all(|connection| connection.outbox_bytes() == 0)
    });
    peer.read_exact(&mut echoed).unwrap();
    assert_eq!(as_frames(&echoed).0, [frame(), frame()]);
}

#[test]
fn what_a_node_that_commits_nothing_sends_does_not_wait_for_its_timers() {
    for sends_before_timers in [false, true] {
        let mut bench = Bench::new();
        bench.node.sends_before_timers = sends_before_timers;
        let mut peer = bench.peer();
        peer.write_all(frame().as_bytes()).unwrap();
        bench.turn_until(|bench| bench.node.frames == 1);
        let expected = if sends_before_timers { 64 } else { 0 };
        assert_eq!((bench.node.sent, bench.node.sent_before_timers), (64, expected));
    }
}

#[test]
fn a_peer_that_leaves_inside_a_frame_is_distinguished() {
    let mut bench = Bench::new();
    let mut peer = bench.peer();
    peer.write_all(&frame().as_bytes()[..10]).unwrap();
    peer.shutdown(Shutdown::Write).unwrap();
    bench.turn_until(|bench| bench.node.closed == [CloseReason::MidMessage]);
    drop(bench.peer());
    bench.turn_until(|bench| bench.node.closed.get(1) == Some(&CloseReason::PeerClosed));
}

#[test]
fn the_reason_of_a_refusal_outruns_the_reset_of_unread_bytes() {
    let mut bench = Bench::new();
    let mut peer = bench.peer();
    // More than one turn reads: the rest is unread when the node has had enough.
    let garbage = vec![0xA5; 4 * limits::READ_BYTES_PER_TURN_MAX];
    let writer = std::thread::spawn({
        let mut peer = peer.try_clone().unwrap();
        // The node may close before the last byte is out.
        move || drop(peer.write_all(&garbage))
    });
    bench.turn_until(|bench| bench.node.closed == [CloseReason::Ours]);
    let reader = std::thread::spawn(move || {
        let mut answer = Vec::new();
        drop(peer.read_to_end(&mut answer));
        answer
    });
    bench.turn_until(|bench| bench.reactor.sockets.connections.is_empty());
    writer.join().unwrap();
    let answer = reader.join().unwrap();
    let refusal = as_frames(&answer).0[0];
    assert_eq!(refusal.view::<Refusal>().unwrap().code.get(), ErrorCode::BadFrame as u16);
}

#[test]
fn the_kernel_keeps_nothing_for_a_closed_peer_that_does_not_read() {
    let small = SocketOptions { send_buffer_bytes: Some(4096), ..SocketOptions::default() };
    let mut bench = Bench::with(small);
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&bench.address.into()).unwrap();
    let mut peer = TcpStream::from(socket);
    peer.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let frames = [frame(); 4096];
    peer.write_all(frames.as_bytes()).unwrap();
    bench.turn_until(|bench| bench.node.frames == frames.len());
    let conn = bench.node.opened[0].0;
    assert!(bench.reactor.sockets.get(conn).unwrap().is_blocked);
    bench.node.connections.refuse(conn, ErrorCode::Limit, "you read nothing");
    bench.finish();
    assert_eq!(bench.node.closed, [CloseReason::Ours]);
    bench.turn_until(|bench| bench.reactor.sockets.connections.is_empty());
    // What it had taken is there, and nothing that the kernel held for it comes behind.
    let mut echoed = Vec::new();
    let end = peer.read_to_end(&mut echoed).unwrap_err();
    assert_eq!(end.kind(), io::ErrorKind::ConnectionReset);
    assert!(echoed.len() <= bench.node.sent, "{}", echoed.len());
}

#[test]
fn peers_that_connect_and_leave_leave_no_slot_behind() {
    let mut bench = Bench::new();
    for _ in 0..300 {
        drop(bench.peer());
    }
    bench.turn_until(|bench| {
        bench.node.closed.len() == 300 && bench.reactor.sockets.connections.is_empty()
    });
    assert_eq!(bench.node.opened.len(), 300);
    assert!(bench.node.connections.is_empty());
    assert!(bench.reactor.sockets.ready_to_write.len() + bench.reactor.sockets.timed.len() < 300);
}

#[test]
fn a_flood_of_peers_without_a_place_does_not_hold_a_turn() {
    let mut bench = Bench::new();
    bench.reactor.sockets.connections_max = 0;
    let waiting = limits::ACCEPTS_PER_TURN_MAX + 44;
    let peers: Vec<TcpStream> = (0..waiting).map(|_| bench.peer()).collect();
    let mut is_closed = |mut peer: &TcpStream| {
        peer.set_nonblocking(true).unwrap();
        let read = peer.read(&mut [0]);
        !matches!(read, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    };
    // All wait in the kernel; one turn turns away no more than its bound.
    let by = bench.reactor.clock.now().mono + Duration::from_secs(30);
    bench.reactor.turn(&mut bench.node, Some(by)).unwrap();
    let closed = peers.iter().filter(|&peer| is_closed(peer)).count();
    assert!(closed <= limits::ACCEPTS_PER_TURN_MAX, "{closed} in one turn");
    bench.turn_until(|_| peers.iter().all(&mut is_closed));
    assert!(bench.node.opened.is_empty());
}

#[test]
fn peers_that_all_leave_at_once_are_freed_over_several_turns() {
    let mut bench = Bench::new();
    let count = 5 * limits::REAPS_PER_TURN_MAX;
    let peers: Vec<TcpStream> = (0..count).map(|_| bench.peer()).collect();
    bench.turn_until(|bench| bench.node.opened.len() == count);
    drop(peers);
    let by = bench.reactor.clock.now().mono + Duration::from_secs(30);
    let mut left = count;
    while left > 0 {
        bench.reactor.turn(&mut bench.node, Some(by)).unwrap();
        let now = bench.reactor.sockets.connections.len();
        assert!(left - now <= limits::REAPS_PER_TURN_MAX, "{left} to {now} in one turn");
        // What is left over needs no other event.
        assert!(bench.reactor.turn.is_urgent() || bench.node.closed.len() < count || now == 0);
        left = now;
    }
    assert_eq!(bench.node.closed.len(), count);
}

#[test]
fn a_stale_token_meets_nobody_after_its_slot_is_used_again() {
    let mut bench = Bench::new();
    drop(bench.peer());
    bench.turn_until(|bench| bench.node.closed.len() == 1);
    let _second = bench.peer();
    bench.turn_until(|bench| bench.node.opened.len() == 2);
    let [(first, _), (second, _)] = bench.node.opened[..] else { panic!("two were opened") };
    assert_eq!(first.slot, second.slot, "slab gives the slot away at once");
    assert_ne!(token_of(first), token_of(second));
    assert!(
        bench.reactor.sockets.get(first).is_none() && bench.reactor.sockets.get(second).is_some()
    );
    assert_eq!(connection_of(token_of(second)), second);
}

#[test]
fn a_paused_peer_is_read_when_the_node_wants_it_again() {
    let mut bench = Bench::new();
    bench.node.is_paused = true;
    let mut peer = bench.peer();
    bench.turn_until(|bench| bench.node.opened.len() == 1);
    peer.write_all(frame().as_bytes()).unwrap();
    bench.turn_until(|bench| !bench.reactor.sockets.ready_to_read.is_empty());
    assert_eq!(bench.node.frames, 0);
    // The edge is gone: only the ready list knows.
    bench.node.is_paused = false;
    bench.turn_until(|bench| bench.node.frames == 1);
}

#[test]
fn more_than_the_kernel_takes_is_sent_when_it_has_room() {
    let mut bench = Bench::new();
    let mut peer = bench.peer();
    let sent = vec![frame(); 60_000];
    let writer = std::thread::spawn({
        let (mut peer, sent) = (peer.try_clone().unwrap(), sent.clone());
        move || {
            for piece in sent.chunks(1000) {
                peer.write_all(piece.as_bytes()).unwrap();
            }
        }
    });
    let reader = std::thread::spawn(move || {
        let mut echoed = vec![0; 60_000 * 64];
        peer.read_exact(&mut echoed).unwrap();
        as_frames(&echoed).0 == sent
    });
    bench.turn_until(|bench| {
        bench.node.frames == 60_000
            && bench.node.connections.iter().all(|connection| connection.outbox_bytes() == 0)
    });
    writer.join().unwrap();
    assert!(reader.join().unwrap(), "everything came back, in order");
}

#[test]
fn a_full_kernel_that_has_room_again_is_reason_enough_to_go_on_sending() {
    let send_buffer_bytes = Some(32 * 1024);
    let mut bench = Bench::with(SocketOptions { send_buffer_bytes, ..SocketOptions::default() });
    let mut peer = bench.peer();
    socket2::SockRef::from(&peer).set_recv_buffer_size(32 * 1024).unwrap();
    let sent = vec![frame(); 8_000];
    let mut writer = peer.try_clone().unwrap();
    let written = sent.clone();
    let writer = std::thread::spawn(move || writer.write_all(written.as_bytes()).unwrap());
    bench.turn_until(|bench| bench.node.frames == sent.len());
    writer.join().unwrap();
    let waits = |bench: &Bench| {
        bench.node.connections.iter().any(|connection| connection.outbox_bytes() > 0)
    };
    assert!(waits(&bench), "nobody has read yet");
    // From here on the node hears nothing that could remind it.
    let reader = std::thread::spawn(move || {
        let mut echoed = vec![0; sent.len() * 64];
        peer.read_exact(&mut echoed).unwrap();
        as_frames(&echoed).0 == sent
    });
    bench.turn_until(|bench| !waits(bench));
    assert!(reader.join().unwrap(), "everything came back, in order");
}

#[test]
fn a_dial_to_a_port_that_nobody_listens_on_is_refused() {
    let mut bench = Bench::new();
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    bench.dial(gone, Duration::from_secs(20));
    bench.turn_until(|bench| !bench.node.failed.is_empty());
    assert_eq!(bench.node.failed, [DialFailure::Refused]);
    assert!(bench.reactor.sockets.connections.is_empty());
}

#[test]
fn a_dial_that_nobody_answers_ends_at_our_deadline_not_at_the_kernels() {
    let mut bench = Bench::new();
    // A listener whose queue is full drops further handshakes.
    let full = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    full.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    full.listen(0).unwrap();
    let address = full.local_addr().unwrap().as_socket().unwrap();
    let mut queued = Vec::new();
    while let Ok(peer) = TcpStream::connect_timeout(&address, Duration::from_millis(100)) {
        queued.push(peer);
        assert!(queued.len() < 100, "the queue never fills");
    }
    bench.dial(address, Duration::from_millis(50));
    bench.turn_until(|bench| !bench.node.failed.is_empty());
    assert_eq!(bench.node.failed, [DialFailure::Deadline]);
    assert!(bench.reactor.sockets.connections.is_empty() && bench.reactor.sockets.timed.is_empty());
}

/// A turn that follows at once ends with the next reading of the clock, any other one with the wait.
#[test]
fn every_turn_is_counted_once() {
    let mut bench = Bench::new();
    let mut peer = bench.peer();
    let mut looks = 0;
    for frames in 1..=5 {
        peer.write_all(Frame::seal(Run::default()).as_bytes()).unwrap();
        bench.turn_until(|bench| {
            looks += 1;
            bench.node.frames == frames
        });
    }
    let mut status = crate::node::session::Status::default();
    bench.node.connections.describe(&mut status);
    let told = status.told();
    // A turn stands before each look but the first of its loop, and the last turn has not ended.
    let ended = looks - 5 - 1;
    assert!(told.contains(&format!("turn_us.count {ended}")), "{ended}: {told:?}");
    assert!(told.contains(&"sent_bytes 320".to_owned()), "{told:?}");
}

#[test]
fn a_stop_refuses_every_peer_and_ends_the_run() {
    let mut bench = Bench::new();
    let (signal, stop) = std::os::unix::net::UnixStream::pair().unwrap();
    bench.reactor.stop_on(stop).unwrap();
    let mut peer = bench.peer();
    bench.turn_until(|bench| bench.node.opened.len() == 1);
    (&signal).write_all(&[1]).unwrap();
    bench.reactor.run(&mut bench.node).unwrap();
    let mut answer = [0; 64];
    peer.read_exact(&mut answer).unwrap();
    let refusal = as_frames(&answer).0[0];
    assert_eq!(refusal.view::<Refusal>().unwrap().code.get(), ErrorCode::Stopping as u16);
}

/// A first reactor that hands everybody on to a further one, and a peer that can also stop them; what
/// the run ended with.
fn with_two_reactors(panics: bool, peer: impl FnOnce(TcpStream, &dyn Fn())) -> io::Result<()> {
    let mut bench = Bench::new();
    bench.node.hands_on = true;
    let further = Echo { panics, ..Echo::default() };
    let others = vec![(Reactor::new(Options::default()).unwrap(), further)];
    let (signal, stop) = std::os::unix::net::UnixStream::pair().unwrap();
    bench.reactor.stop_on(stop).unwrap();
    let stream = bench.peer();
    std::thread::scope(|scope| {
        let Bench { mut reactor, mut node, .. } = bench;
        let run = scope.spawn(move || run_together(&mut reactor, &mut node, others));
        peer(stream, &|| (&signal).write_all(&[1]).unwrap());
        run.join().unwrap()
    })
}

#[test]
fn a_handed_over_connection_loses_no_byte_and_learns_of_the_stop() {
    let result = with_two_reactors(false, |mut peer, stop| {
        peer.set_nodelay(true).unwrap();
        let sent: Vec<Frame> = vec![frame(); 100];
        // The first piece ends inside a frame: its beginning has to come along.
        for piece in sent.as_bytes().chunks(100) {
            peer.write_all(piece).unwrap();
        }
        let mut echoed = vec![0; 100 * 64];
        peer.read_exact(&mut echoed).unwrap();
        assert_eq!(as_frames(&echoed).0, sent);
        stop();
        let mut answer = [0; 64];
        peer.read_exact(&mut answer).unwrap();
        let refusal = as_frames(&answer).0[0];
        assert_eq!(refusal.view::<Refusal>().unwrap().code.get(), ErrorCode::Stopping as u16);
    });
    assert!(result.is_ok(), "{result:?}");
}

#[test]
fn a_panic_of_a_further_reactor_ends_the_whole() {
    let result = with_two_reactors(true, |mut peer, _| {
        peer.write_all(frame().as_bytes()).unwrap();
        let mut rest = Vec::new();
        // Reset or closed: either way it is over.
        drop(peer.read_to_end(&mut rest));
    });
    let error = result.unwrap_err().to_string();
    assert!(error.contains("reactor 1 panicked"), "{error}");
}

/// How late the best of many deadlines in so much time is kept. A poll that counts in milliseconds is never less
/// than this late; a busy machine is late often, and not each time.
fn lateness_min(bench: &mut Bench, wait: Duration) -> Duration {
    let mut late = (0..5_000).map(|_| {
        let due = bench.reactor.clock.now().mono + wait;
        while bench.reactor.turn(&mut bench.node, Some(due)).unwrap().mono < due {}
        bench.reactor.clock.now().mono.since(due)
    });
    late.find(|late| *late < LATE_MAX).unwrap_or(LATE_MAX)
}

const LATE_MAX: Duration = Duration::from_micros(600);

#[test]
fn a_deadline_below_a_millisecond_is_not_slept_past() {
    let options = Options { is_punctual: true, ..Options::default() };
    let mut bench = Bench::new();
    bench.reactor = Reactor::new(options).unwrap();
    for wait_us in [200, 1_200, 300] {
        let late = lateness_min(&mut bench, Duration::from_micros(wait_us));
        assert!(late < LATE_MAX, "{wait_us} us: {late:?} late");
    }
    // An earlier deadline than the one that the timer was set for.
    let now = bench.reactor.clock.now().mono;
    bench.reactor.punctual.as_mut().unwrap().arm(now, now + Duration::from_millis(9));
    let late = lateness_min(&mut bench, Duration::from_micros(200));
    assert!(late < LATE_MAX, "{late:?} late");
}
