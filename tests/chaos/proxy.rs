//! A proxy in user space that stands between a client and a node, and delays, cuts and garbles what
//! passes, as its seed has it.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crossbeam::channel::{self, Sender};
use pregao::random::Random;

/// How long a direction waits for bytes before it looks whether all is over.
const LOOK: Duration = Duration::from_millis(200);

/// What is shared with the threads that pass bytes on.
struct State {
    target: SocketAddr,
    is_calm: AtomicBool,
    is_over: AtomicBool,
    cuts: AtomicU64,
    garbled: AtomicU64,
}

/// A running proxy. Dropping it ends its threads.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    state: Arc<State>,
    /// Never sent on: a wait on the other end that ends when the proxy does.
    _ends: Sender<()>,
}

impl Proxy {
    /// Listens on a free port and passes everything on to `target`.
    pub(crate) fn start(target: SocketAddr, seed: u64) -> Proxy {
        let listener = TcpListener::bind((target.ip(), 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            target,
            is_calm: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
            cuts: AtomicU64::new(0),
            garbled: AtomicU64::new(0),
        });
        let (ends, end) = channel::bounded(0);
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            let random = Random::new(seed);
            for (number, client) in listener.incoming().enumerate() {
                if shared.is_over.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(client) = client else { continue };
                // A client whose node is away sees its connection closed.
                let Ok(node) = TcpStream::connect(shared.target) else { continue };
                let number = number as u64 * 2;
                for (from, to, stream) in [(&client, &node, number), (&node, &client, number + 1)] {
                    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    let (state, random) = (Arc::clone(&shared), random.fork(stream));
                    let end = end.clone();
                    thread::spawn(move || pass(&state, random, from, to, &end));
                }
            }
        });
        Proxy { address, state, _ends: ends }
    }

    /// From now on everything passes as it is.
    pub(crate) fn calm(&self) {
        self.state.is_calm.store(true, Ordering::Relaxed);
    }

    /// How often it cut a connection, and how often it changed a byte.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let count = |of: &AtomicU64| of.load(Ordering::Relaxed);
        (count(&self.state.cuts), count(&self.state.garbled))
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.state.is_over.store(true, Ordering::Relaxed);
        // Wakes the accepting thread.
        let _ = TcpStream::connect(self.address);
    }
}

/// Passes one direction on until either side ends, or the proxy has it end.
fn pass(
    state: &State,
    mut random: Random,
    mut from: TcpStream,
    mut to: TcpStream,
    end: &channel::Receiver<()>,
) {
    from.set_read_timeout(Some(LOOK)).unwrap();
    let mut buffer = [0; 16 * 1024];
    while !state.is_over.load(Ordering::Relaxed) {
        let length = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
            Err(_) => break,
        };
        let mut bytes = &mut buffer[..length];
        let mut is_cut = false;
        if !state.is_calm.load(Ordering::Relaxed) {
            if random.chance_millionths(5_000) {
                let wait = Duration::from_millis(random.between(1, 300));
                // A wait that the end of the proxy cuts short.
                let _ = end.recv_timeout(wait);
            }
            if random.chance_millionths(2_000) {
                let place = usize::try_from(random.below(length as u64)).unwrap();
                bytes[place] ^= 1 << random.below(8);
                state.garbled.fetch_add(1, Ordering::Relaxed);
            }
            if random.chance_millionths(2_000) {
                let kept = usize::try_from(random.below(length as u64)).unwrap();
                bytes = &mut bytes[..kept];
                state.cuts.fetch_add(1, Ordering::Relaxed);
                is_cut = true;
            }
        }
        if to.write_all(bytes).is_err() || is_cut {
            break;
        }
    }
    for stream in [from, to] {
        let _ = stream.shutdown(Shutdown::Both);
    }
}
