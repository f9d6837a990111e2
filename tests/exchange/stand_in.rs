//! Exchanges that the test holds in its hand: a healthy one, and those that a process can be.

use std::io::Write;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use pregao::wire::{Definition, Flags, Frame, Heartbeat, Kind, Quote, Session, U16, U32, U64};
use socket2::SockRef;
use zerocopy::IntoBytes;

use crate::harness::Wire;
use crate::support::process::PATIENCE;

/// What the exchange does with a connection that it has accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Manner {
    /// Greets, defines PETR4, quotes it once, and answers every request.
    Well = 0,
    /// Says nothing.
    Silent = 1,
    /// Breaks off in the middle of its first frame.
    ResetMidFrame = 2,
    /// Answers the greeting with bytes that are no frame.
    Garbage = 3,
    /// Greets well, and talks nonsense afterwards.
    GarbageLater = 4,
    /// Sends its greeting one byte a second.
    OneByteASecond = 5,
}

const MANNERS: [Manner; 6] = [
    Manner::Well,
    Manner::Silent,
    Manner::ResetMidFrame,
    Manner::Garbage,
    Manner::GarbageLater,
    Manner::OneByteASecond,
];

/// An exchange that accepts.
#[derive(Clone)]
pub(crate) struct StandIn {
    manner: Arc<AtomicU8>,
    accepts: Arc<AtomicU32>,
    /// Held so that who says nothing does not hang up either.
    held: Arc<Mutex<Vec<TcpStream>>>,
}

impl StandIn {
    pub(crate) fn start(listener: TcpListener, manner: Manner) -> StandIn {
        let stand_in = StandIn {
            manner: Arc::new(AtomicU8::new(manner as u8)),
            accepts: Arc::default(),
            held: Arc::default(),
        };
        let served = stand_in.clone();
        // Ends with the process: it holds nothing that outlives it.
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                served.accepts.fetch_add(1, Ordering::SeqCst);
                let manner = MANNERS[usize::from(served.manner.load(Ordering::SeqCst))];
                let held = Arc::clone(&served.held);
                std::thread::spawn(move || serve(stream, manner, &held));
            }
        });
        stand_in
    }

    pub(crate) fn be(&self, manner: Manner) {
        self.manner.store(manner as u8, Ordering::SeqCst);
    }

    /// Ends every connection.
    pub(crate) fn hang_up(&self) {
        for stream in self.held.lock().unwrap().drain(..) {
            // Whoever left before has nothing to be told.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    pub(crate) fn accepts(&self) -> i64 {
        self.accepts.load(Ordering::SeqCst).into()
    }
}

fn serve(stream: TcpStream, manner: Manner, held: &Mutex<Vec<TcpStream>>) {
    let mut wire = Wire::new(stream);
    if matches!(manner, Manner::Well | Manner::Silent) {
        held.lock().unwrap().push(wire.stream().try_clone().unwrap());
    }
    let Some(hello) = wire.read(PATIENCE) else { return };
    let answer = Session { feed: U64::new(9), next_seq: U64::new(1), ..Session::default() };
    let greeting = Frame::seal(answer);
    match manner {
        Manner::Well => serve_well(wire, &hello),
        Manner::Silent => {}
        Manner::ResetMidFrame => {
            let _ = wire.stream().write_all(&greeting.as_bytes()[..20]);
            SockRef::from(wire.stream()).set_linger(Some(Duration::ZERO)).unwrap();
        }
        Manner::Garbage => {
            let _ = wire.stream().write_all(&[0xA5; 64]);
            let _ = wire.read(PATIENCE);
        }
        Manner::GarbageLater => {
            let _ = wire.send_frame(&greeting) && wire.stream().write_all(&[0xA5; 64]).is_ok();
            let _ = wire.read(PATIENCE);
        }
        Manner::OneByteASecond => {
            let (_never, pace) = mpsc::channel::<()>();
            for byte in greeting.as_bytes() {
                if wire.stream().write_all(&[*byte]).is_err() {
                    return;
                }
                let _ = pace.recv_timeout(Duration::from_secs(1));
            }
        }
    }
}

fn serve_well(mut wire: Wire, hello: &Frame) {
    let wanted = hello.view::<Session>().expect("core greets first").next_seq.get().max(1);
    let session = Session { feed: U64::new(9), next_seq: U64::new(wanted), ..Session::default() };
    let definition = Frame::seal(Definition::new(U32::new(5).into(), "PETR4".parse().unwrap(), 2));
    let mut is_well = wire.send(session) && wire.send_frame(&definition.delivered(Flags::SNAPSHOT));
    if wanted == 1 {
        let (instrument, seq) = (U32::new(5), U64::new(1));
        is_well &= wire.send(Quote { instrument, seq, ..Quote::default() });
    }
    while is_well {
        let Some(frame) = wire.read(PATIENCE) else { return };
        if frame.kind() == Some(Kind::Heartbeat) {
            let beat = *frame.view::<Heartbeat>().unwrap();
            is_well = wire.send(Heartbeat { flags: U16::ZERO, ..beat });
        }
    }
}
