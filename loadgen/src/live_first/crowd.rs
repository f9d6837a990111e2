//! Those who can wait: subscribers with long lists that join, or clients that read replays again and again. Their
//! thread runs at a low priority, because on a machine of their own they would take nothing from the ticks.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;

use mio::{Events, Interest as Readiness, Poll, Token};
use pregao::wire::{
    FRAME_BYTES, Frame, Kind, Op, Query, Refusal, Role, Session, U32, U64, as_frames, padded,
    unpadded,
};
use zerocopy::IntoBytes;

use super::ticks::{SOURCE, own_books, symbol};
use crate::connect::Dialer;
use crate::limits::{self, TICKED_INSTRUMENTS};
use crate::target::{Interest, Target};

/// How much lower than any other thread's the priority is. At the lowest of all the crowd would starve beside
/// whatever else runs on the machine, and nodes hang up on who says nothing.
const NICE: i32 = 10;

/// What a member of the crowd does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// Subscribes to so many patterns over so many instruments, once.
    Join { patterns: usize, instruments: u32 },
    /// Asks for the first so many frames of the journal, again and again.
    Replay { frames: u64 },
}

/// What all have done so far.
#[derive(Debug, Default)]
struct Progress {
    /// Members that have joined, or whose replay has begun.
    served: AtomicUsize,
    /// Frames read.
    frames: AtomicU64,
}

/// A crowd at work. It leaves when it is dropped.
pub(super) struct Crowd {
    stop: Arc<AtomicBool>,
    begin: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<(), String>>>,
    progress: Arc<Progress>,
    /// Where the kernel keeps the books of the thread.
    pub(super) books: PathBuf,
}

impl Crowd {
    /// Prepares what they will say. They come with [`Crowd::begin`].
    ///
    /// # Errors
    /// A sentence, when there is no thread.
    pub(super) fn start(address: SocketAddr, count: usize, work: Work) -> Result<Crowd, String> {
        let (stop, begin) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let progress = Arc::new(Progress::default());
        let (stopped, begun, shared) =
            (Arc::clone(&stop), Arc::clone(&begin), Arc::clone(&progress));
        let (say, said) = mpsc::channel();
        let run = move || {
            // Whoever has no right to be nice is measured as it is.
            let _ = rustix::process::nice(NICE);
            let greetings: Vec<Vec<u8>> = (0..count).map(|number| work.greeting(number)).collect();
            drop(say.send(own_books()));
            while !begun.load(Ordering::Relaxed) && !stopped.load(Ordering::Relaxed) {
                std::thread::park();
            }
            let members = Members { work, poll: new_poll()?, members: Vec::new(), shared };
            members.run(address, greetings, &stopped)
        };
        let thread = std::thread::Builder::new().name("crowd".to_owned()).spawn(run);
        let thread = thread.map_err(|error| format!("cannot start a thread: {error}"))?;
        // It has prepared all that it will say.
        let books = said.recv().unwrap_or_default();
        Ok(Crowd { stop, begin, thread: Some(thread), progress, books })
    }

    /// They come.
    pub(super) fn begin(&self) {
        self.begin.store(true, Ordering::Relaxed);
        self.wake();
    }

    fn wake(&self) {
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }

    /// Frames that they have read.
    pub(super) fn frames(&self) -> u64 {
        self.progress.frames.load(Ordering::Relaxed)
    }

    /// Whether so many have joined, or read their replays.
    ///
    /// # Errors
    /// A sentence, when somebody was refused.
    pub(super) fn are_served(&mut self, count: usize) -> Result<bool, String> {
        if self.thread.as_ref().is_some_and(JoinHandle::is_finished) {
            self.finish()?;
        }
        Ok(self.progress.served.load(Ordering::Relaxed) >= count)
    }

    /// All leave.
    ///
    /// # Errors
    /// A sentence, when somebody was refused.
    pub(super) fn finish(&mut self) -> Result<(), String> {
        self.stop.store(true, Ordering::Relaxed);
        self.wake();
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(result)) => result,
            Some(Err(_)) => Err("the crowd's thread ended badly".to_owned()),
            None => Ok(()),
        }
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        drop(self.finish());
    }
}

fn new_poll() -> Result<Poll, String> {
    Poll::new().map_err(|error| format!("the crowd cannot poll: {error}"))
}

impl Work {
    fn greeting(self, number: usize) -> Vec<u8> {
        match self {
            Work::Join { patterns, instruments } => {
                let topics = patterns_of(number, patterns, instruments);
                Target::Pregao.hello_subscriber(Interest { source: SOURCE, topics: &topics })
            }
            Work::Replay { frames } => {
                let session = Session { role: Role::Querier as u8, ..Session::default() };
                [Frame::seal(session).as_bytes(), &question(frames)].concat()
            }
        }
    }

    /// The frame behind which an answer is whole.
    fn last_kind(self) -> Kind {
        match self {
            Work::Join { .. } => Kind::SnapshotEnd,
            Work::Replay { .. } => Kind::End,
        }
    }
}

fn question(frames: u64) -> Vec<u8> {
    let query = Query {
        id: U32::new(1),
        op: Op::Replay as u8,
        symbol: padded("*"),
        from: U64::new(1),
        to: U64::new(frames),
        ..Query::default()
    };
    Frame::seal(query).as_bytes().to_vec()
}

/// A list: half of it exists, and one in 16 is a prefix of ten instruments. No list has an instrument that ticks, so
/// that joining is measured and not the delivery of more ticks.
fn patterns_of(number: usize, patterns: usize, instruments: u32) -> Vec<String> {
    let untouched = usize::try_from(instruments.saturating_sub(TICKED_INSTRUMENTS)).unwrap_or(1);
    let index = |place: usize, list_step: usize, of: usize, first: u32| {
        let drawn = (place + number * list_step) % of.max(1);
        first + u32::try_from(drawn).unwrap_or(0)
    };
    let tens = TICKED_INSTRUMENTS / 10;
    let pattern = |place: usize| match place % 16 {
        0 => format!("LOAD{:04}*", index(place * 31, 7, untouched / 10, tens)),
        place if place % 2 == 0 => format!("NONE{number}-{place}"),
        _ => symbol(index(place * 61, 17, untouched, TICKED_INSTRUMENTS)),
    };
    (0..patterns).map(pattern).collect()
}

struct Member {
    stream: mio::net::TcpStream,
    unsent: Vec<u8>,
    sent: usize,
    /// The beginning of a frame whose end has not come.
    held: Vec<u8>,
    is_served: bool,
}

/// The thread's state.
struct Members {
    work: Work,
    poll: Poll,
    members: Vec<Member>,
    shared: Arc<Progress>,
}

impl Members {
    fn run(
        mut self,
        address: SocketAddr,
        greetings: Vec<Vec<u8>>,
        stopped: &AtomicBool,
    ) -> Result<(), String> {
        let failed = |error: io::Error| format!("the crowd cannot go on: {error}");
        let dialer = Dialer { target: Target::Pregao, address };
        let mut events = Events::with_capacity(limits::EVENTS_MAX);
        let mut buffer = vec![0; limits::READ_BYTES];
        let mut greetings = greetings.into_iter().enumerate().peekable();
        while !stopped.load(Ordering::Relaxed) {
            for (number, greeting) in greetings.by_ref().take(limits::DIALS_PER_TURN_MAX) {
                let stream = dialer.dial(number).map_err(|error| error.to_string())?;
                self.add(stream, greeting).map_err(failed)?;
            }
            let longest = greetings.peek().map_or(limits::POLL_MAX, |_| std::time::Duration::ZERO);
            match self.poll.poll(&mut events, Some(longest)) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other.map_err(failed)?,
            }
            for event in &events {
                let place = event.token().0;
                if event.is_writable() {
                    self.write(place).map_err(failed)?;
                }
                if event.is_readable() {
                    self.read(place, &mut buffer)?;
                }
            }
        }
        Ok(())
    }

    fn add(&mut self, stream: std::net::TcpStream, greeting: Vec<u8>) -> io::Result<()> {
        stream.set_nonblocking(true)?;
        let mut stream = mio::net::TcpStream::from_std(stream);
        let readiness = Readiness::READABLE | Readiness::WRITABLE;
        self.poll.registry().register(&mut stream, Token(self.members.len()), readiness)?;
        let held = Vec::new();
        self.members.push(Member { stream, unsent: greeting, sent: 0, held, is_served: false });
        self.write(self.members.len() - 1)
    }

    fn write(&mut self, place: usize) -> io::Result<()> {
        let member = &mut self.members[place];
        while member.sent < member.unsent.len() {
            match member.stream.write(&member.unsent[member.sent..]) {
                Ok(bytes) => member.sent += bytes,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        member.unsent = Vec::new();
        member.sent = 0;
        Ok(())
    }

    fn read(&mut self, place: usize, buffer: &mut [u8]) -> Result<(), String> {
        loop {
            let member = &mut self.members[place];
            // What is left of a frame goes in front.
            let kept = member.held.len();
            buffer[..kept].copy_from_slice(&member.held);
            let bytes = match member.stream.read(&mut buffer[kept..]) {
                Ok(0) => return Err("somebody of the crowd was closed".to_owned()),
                Ok(bytes) => kept + bytes,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(format!("somebody of the crowd was cut off: {error}")),
            };
            let whole = bytes / FRAME_BYTES * FRAME_BYTES;
            member.held.clear();
            member.held.extend_from_slice(&buffer[whole..bytes]);
            let ends = count_ends(&buffer[..whole], self.work.last_kind())?;
            let read = (whole / FRAME_BYTES) as u64;
            self.shared.frames.fetch_add(read, Ordering::Relaxed);
            // The first frame of all is the greeting.
            let is_replaying = matches!(self.work, Work::Replay { .. }) && read > 1;
            if (ends > 0 || is_replaying) && !std::mem::replace(&mut member.is_served, true) {
                self.shared.served.fetch_add(1, Ordering::Relaxed);
            }
            if let (Work::Replay { frames }, true) = (self.work, ends > 0) {
                member.unsent = question(frames);
                self.write(place).map_err(|error| format!("the crowd cannot ask: {error}"))?;
            }
        }
    }
}

/// How many answers end within these frames. Looks at nothing else, so that the crowd costs little.
///
/// # Errors
/// What a refusal says.
fn count_ends(bytes: &[u8], last: Kind) -> Result<u64, String> {
    let mut ends = 0;
    for frame in as_frames(bytes).0 {
        if frame.kind == last as u8 {
            ends += 1;
        } else if let Some(refusal) = frame.view::<Refusal>() {
            return Err(format!("somebody of the crowd is refused: {}", unpadded(&refusal.text)));
        }
    }
    Ok(ends)
}

#[cfg(test)]
mod tests {
    use pregao::wire::{Ended, ErrorCode, Trade};

    use super::*;

    #[test]
    fn lists_are_long_and_different_and_no_ticking_instrument_is_on_them() {
        for instruments in [TICKED_INSTRUMENTS * 2, 65_536] {
            let lists: Vec<Vec<String>> =
                (0..50).map(|number| patterns_of(number, 1_024, instruments)).collect();
            for list in &lists {
                assert_eq!(list.len(), 1_024);
                assert!(list.iter().all(|pattern| pattern.len() <= 16 && pattern.is_ascii()));
                assert_eq!(list.iter().filter(|it| it.ends_with('*')).count(), 64);
                assert_eq!(list.iter().filter(|it| it.starts_with("NONE")).count(), 448);
            }
            assert_ne!(lists[0], lists[1]);
            for ticking in (0..TICKED_INSTRUMENTS).map(symbol) {
                let is_on = |pattern: &String| match pattern.strip_suffix('*') {
                    Some(prefix) => ticking.starts_with(prefix),
                    None => *pattern == ticking,
                };
                assert!(!lists.iter().flatten().any(is_on), "{ticking}");
            }
        }
    }

    #[test]
    fn an_answer_ends_once_and_a_refusal_is_told() {
        let bytes = |frames: &[Frame]| frames.as_bytes().to_vec();
        let (trade, end) = (Frame::seal(Trade::default()), Frame::seal(Ended::default()));
        assert_eq!(count_ends(&bytes(&[trade, end, trade]), Kind::End), Ok(1));
        assert_eq!(count_ends(&bytes(&[trade, end]), Kind::SnapshotEnd), Ok(0));
        let refusal = Frame::seal(Refusal::new(ErrorCode::Limit, 0, "no place"));
        assert!(count_ends(&bytes(&[refusal]), Kind::End).is_err_and(|it| it.contains("no place")));
    }
}
