//! Stands between the aggregator and one of its nodes, and spoils what the node says, as it is told to.
//! The node behind it is a real one, so what is whole is right.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crossbeam::channel::{self, Receiver, Sender};
use pregao::time::{Clock, Mono};
use socket2::{Domain, SockRef, Socket, Type};

/// What becomes of a node's answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Manner {
    /// They pass.
    Well = 0,
    /// Nobody listens, and who was connected is not any more.
    Refused = 1,
    /// They never come.
    Silent = 2,
    /// Bytes that are no frame come instead.
    Garbage = 3,
    /// They come when the deadline is over.
    Late = 4,
    /// Half of one comes, and the end of the connection behind it.
    HalfAndClosed = 5,
    /// Half of one comes, and nothing more ever.
    HalfAndSilent = 6,
    /// They come a tenth of a second later.
    Slow = 7,
}

/// All that a node may have done to it, but for being slow.
pub(crate) const FAILURES: [Manner; 6] = [
    Manner::Refused,
    Manner::Silent,
    Manner::Garbage,
    Manner::Late,
    Manner::HalfAndClosed,
    Manner::HalfAndSilent,
];

const MANNERS: [Manner; 8] = [
    Manner::Well,
    Manner::Refused,
    Manner::Silent,
    Manner::Garbage,
    Manner::Late,
    Manner::HalfAndClosed,
    Manner::HalfAndSilent,
    Manner::Slow,
];

/// How much later a late answer is, beyond every deadline of these tests.
pub(crate) const LATE: Duration = Duration::from_millis(1_500);
/// How much later a slow one is.
pub(crate) const SLOW: Duration = Duration::from_millis(100);

/// A frame and a half: never a whole answer, even where the first of many begins.
const HALF_BYTES: usize = 96;

struct State {
    target: SocketAddr,
    clock: Clock,
    manner: AtomicU8,
    listener: Mutex<Option<TcpListener>>,
    streams: Mutex<Vec<TcpStream>>,
}

/// One that stands between. Dropping it hangs up.
pub(crate) struct Between {
    pub(crate) address: SocketAddr,
    state: Arc<State>,
    /// Keeps the port while nobody listens on it.
    _port: Socket,
}

impl Between {
    pub(crate) fn start(target: SocketAddr) -> Between {
        let port = Socket::new(Domain::for_address(target), Type::STREAM, None).unwrap();
        port.set_reuse_address(true).unwrap();
        port.bind(&SocketAddr::new(target.ip(), 0).into()).unwrap();
        let address = port.local_addr().unwrap().as_socket().unwrap();
        let state = Arc::new(State {
            target,
            clock: Clock::start(),
            manner: AtomicU8::new(Manner::Well as u8),
            listener: Mutex::default(),
            streams: Mutex::default(),
        });
        let between = Between { address, state, _port: port };
        between.listen();
        between
    }

    fn listen(&self) {
        let socket = Socket::new(Domain::for_address(self.address), Type::STREAM, None).unwrap();
        socket.set_reuse_address(true).unwrap();
        socket.bind(&self.address.into()).unwrap();
        socket.listen(64).unwrap();
        let listener: TcpListener = socket.into();
        let held = listener.try_clone().unwrap();
        *self.state.listener.lock().unwrap() = Some(held);
        let state = Arc::clone(&self.state);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                // A client whose node is away sees its connection closed.
                let Ok(node) = TcpStream::connect(state.target) else { continue };
                pass(&state, &client, &node);
            }
        });
    }

    /// From now on. Who is well again begins anew: what was swallowed does not come any more.
    pub(crate) fn be(&self, manner: Manner) {
        let before = self.state.manner.swap(manner as u8, Ordering::SeqCst);
        if manner == Manner::Refused {
            self.close();
        } else if before == Manner::Refused as u8 {
            self.listen();
        } else if manner == Manner::Well {
            self.state.hang_up();
        }
    }

    fn close(&self) {
        let listener = self.state.listener.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(listener) = listener {
            // Ends the wait for the next one, too.
            let _ = SockRef::from(&listener).shutdown(Shutdown::Both);
        }
        self.state.hang_up();
    }
}

impl Drop for Between {
    fn drop(&mut self) {
        self.close();
    }
}

impl State {
    fn manner(&self) -> Manner {
        MANNERS[usize::from(self.manner.load(Ordering::SeqCst))]
    }

    fn hang_up(&self) {
        for stream in self.streams.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            // Whoever left before has nothing to be told.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

/// Passes both directions on, each in a thread of its own: questions as they are, answers as the
/// manner has it.
fn pass(state: &Arc<State>, client: &TcpStream, node: &TcpStream) {
    for stream in [client, node] {
        stream.set_nodelay(true).unwrap();
        state.streams.lock().unwrap().push(stream.try_clone().unwrap());
    }
    let [mut questions, mut to_client] = [client, client].map(|it| it.try_clone().unwrap());
    let [mut to_node, mut answers] = [node, node].map(|it| it.try_clone().unwrap());
    thread::spawn(move || {
        let _ = std::io::copy(&mut questions, &mut to_node);
        let _ = to_node.shutdown(Shutdown::Both);
    });
    let (sender, receiver): (Sender<(Mono, Vec<u8>)>, _) = channel::unbounded();
    let clock = state.clock;
    thread::spawn(move || {
        while let Ok((due, bytes)) = receiver.recv() {
            wait_until(clock, due);
            if to_client.write_all(&bytes).is_err() {
                break;
            }
        }
        let _ = to_client.shutdown(Shutdown::Both);
    });
    let state = Arc::clone(state);
    thread::spawn(move || spoil(&state, &mut answers, &sender));
}

/// Ends when the node's side has ended, or when nothing more is to come.
fn spoil(state: &State, answers: &mut TcpStream, passed: &Sender<(Mono, Vec<u8>)>) {
    let mut buffer = vec![0; 1 << 16];
    let mut is_silent = false;
    while let Ok(count @ 1..) = answers.read(&mut buffer) {
        if is_silent {
            continue;
        }
        let now = state.clock.now().mono;
        let (due, bytes) = match state.manner() {
            Manner::Well => (now, buffer[..count].to_vec()),
            Manner::Slow => (now + SLOW, buffer[..count].to_vec()),
            Manner::Late => (now + LATE, buffer[..count].to_vec()),
            Manner::Garbage => (now, vec![0xA5; 64]),
            Manner::Silent | Manner::Refused => continue,
            Manner::HalfAndClosed | Manner::HalfAndSilent => {
                (now, buffer[..(count / 2).min(HALF_BYTES)].to_vec())
            }
        };
        if passed.send((due, bytes)).is_err() || state.manner() == Manner::HalfAndClosed {
            break;
        }
        is_silent = state.manner() == Manner::HalfAndSilent;
    }
    let _ = answers.shutdown(Shutdown::Both);
}

fn wait_until(clock: Clock, due: Mono) {
    let (_never, wait): (Sender<()>, Receiver<()>) = channel::bounded(0);
    let left = due.since(clock.now().mono);
    if !left.is_zero() {
        let _ = wait.recv_timeout(left);
    }
}
