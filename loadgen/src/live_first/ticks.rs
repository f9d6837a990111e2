//! Ticks at a steady rate, from a thread of their own: to the broker as its publisher, or to core as its exchange.
//! Each says when it was to be sent (`ts_event`) and when it was (`trade_id`, which no node looks at).

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use pregao::time::Mono;
use pregao::wire::{
    Definition, FRAME_BYTES, Flags, Frame, Heartbeat, InstrumentId, InstrumentIndex, Refusal,
    Resume, Session, Trade, U32, U64, as_frames, unpadded,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use zerocopy::IntoBytes;

use crate::connect::Dialer;
use crate::limits::{self, TICKED_INSTRUMENTS};
use crate::pace::Pacer;
use crate::target::{Event, Target, Unwrapping};
use crate::timebase::Timebase;

/// The source that a publisher of the broker speaks for.
pub(super) const SOURCE: u8 = 2;
/// The identity of the exchange's feed.
const FEED: u64 = 0x00c0_ffee_0000_0001;

/// A thread that sends ticks until it is dropped.
pub(super) struct Ticks {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<(), String>>>,
    /// Where the kernel keeps the books of the thread.
    pub(super) books: PathBuf,
}

/// Where the kernel keeps the books of the calling thread.
pub(super) fn own_books() -> PathBuf {
    let thread = std::fs::read_link("/proc/thread-self").unwrap_or_default();
    PathBuf::from("/proc").join(thread).join("schedstat")
}

impl Ticks {
    /// Greets a broker as the publisher of so many instruments, and begins.
    ///
    /// # Errors
    /// A sentence, when the broker does not take the instruments.
    pub(super) fn to_broker(
        broker: SocketAddr,
        instruments: u32,
        rate: u64,
        timebase: Timebase,
    ) -> Result<Ticks, String> {
        let failed = |error: io::Error| format!("the broker took no publisher: {error}");
        let dialer = Dialer { target: Target::Pregao, address: broker };
        let mut stream = dialer.dial(0).map_err(|error| error.to_string())?;
        stream.set_read_timeout(Some(limits::CONFIRM_MAX)).map_err(failed)?;
        let symbols: Vec<String> = (0..instruments).map(symbol).collect();
        for bytes in
            [Target::Pregao.hello_publisher(SOURCE, 1), Target::Pregao.prepare(SOURCE, &symbols)]
        {
            stream.write_all(&bytes).map_err(failed)?;
            await_confirmed(&mut stream).map_err(failed)?;
        }
        let frames = Frames { source: SOURCE, definitions: 0, ahead: 0 };
        Ticks::start(stream, frames, rate, timebase)
    }

    /// Waits for core to dial, is its exchange, and sends as many frames as its journal is to have. Ticks follow.
    ///
    /// # Errors
    /// A sentence, when core does not come.
    pub(super) fn to_core(
        exchange: &TcpListener,
        journal_frames: u64,
        rate: u64,
        timebase: Timebase,
    ) -> Result<Ticks, String> {
        let failed = |error: io::Error| format!("core took no feed: {error}");
        let mut stream = accept(exchange, timebase).map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        stream.set_read_timeout(Some(limits::CONFIRM_MAX)).map_err(failed)?;
        let mut greeting = [0; FRAME_BYTES];
        stream.read_exact(&mut greeting).map_err(failed)?;
        let session = Session { feed: U64::new(FEED), next_seq: U64::new(1), ..Session::default() };
        stream.write_all(Frame::seal(session).as_bytes()).map_err(failed)?;
        let definitions = u64::from(TICKED_INSTRUMENTS);
        let ahead = journal_frames.max(definitions);
        Ticks::start(stream, Frames { source: 0, definitions, ahead }, rate, timebase)
    }

    fn start(
        stream: TcpStream,
        frames: Frames,
        rate: u64,
        timebase: Timebase,
    ) -> Result<Ticks, String> {
        stream.set_nonblocking(true).map_err(|error| error.to_string())?;
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, (say, said)) = (Arc::clone(&stop), mpsc::channel());
        let pacer = Pacer::new(timebase.mono(), rate, limits::TICKS_SPAN_MAX);
        let work = move || {
            drop(say.send(own_books()));
            let (held, unsent) = (Vec::new(), Vec::new());
            let mut sender = Sender { stream, frames, pacer, timebase, next: 1, held, unsent };
            sender.run(&stopped)
        };
        let thread = std::thread::Builder::new().name("ticks".to_owned()).spawn(work);
        let thread = thread.map_err(|error| format!("cannot start a thread: {error}"))?;
        let books = said.recv().unwrap_or_default();
        Ok(Ticks { stop, thread: Some(thread), books })
    }

    /// Ends the thread.
    ///
    /// # Errors
    /// A sentence, when it could not send all that was due.
    pub(super) fn finish(mut self) -> Result<(), String> {
        self.stop.store(true, Ordering::Relaxed);
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(result)) => result,
            _ => Err("the thread of the ticks ended badly".to_owned()),
        }
    }
}

impl Drop for Ticks {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// Names of instruments, as all of the generator's.
pub(super) fn symbol(index: u32) -> String {
    format!("LOAD{index:05}")
}

fn accept(listener: &TcpListener, timebase: Timebase) -> io::Result<TcpStream> {
    listener.set_nonblocking(true)?;
    let deadline = timebase.mono() + limits::CONFIRM_MAX;
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false)?;
                return Ok(stream);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let left = deadline.since(timebase.mono());
                if left.is_zero() {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                wait(listener, PollFlags::IN, left)?;
            }
            Err(error) => return Err(error),
        }
    }
}

fn wait(on: &impl std::os::fd::AsFd, flags: PollFlags, longest: Duration) -> io::Result<()> {
    let timeout = Timespec::try_from(longest).unwrap_or(Timespec { tv_sec: 0, tv_nsec: 0 });
    match poll(&mut [PollFd::new(on, flags)], Some(&timeout)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn await_confirmed(stream: &mut TcpStream) -> io::Result<()> {
    let (mut held, mut bytes, mut is_confirmed) = (Vec::new(), [0; 4_096], false);
    while !is_confirmed {
        let read = stream.read(&mut bytes)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        held.extend_from_slice(&bytes[..read]);
        let mut refused = None;
        let mut on = |event: Event<'_>| match event {
            Event::Confirmed => is_confirmed = true,
            Event::Refused(why) => refused = Some(why),
            _ => {}
        };
        let taken = Target::Pregao
            .parse(&mut Unwrapping::default(), &held, &mut on)
            .map_err(io::Error::other)?;
        held.drain(..taken);
        if let Some(why) = refused {
            return Err(io::Error::other(why));
        }
    }
    Ok(())
}

/// What is sent, by its place: definitions, then what only fills a journal, then ticks.
#[derive(Clone, Copy, Debug)]
struct Frames {
    source: u8,
    definitions: u64,
    /// Frames before the first tick, the definitions included.
    ahead: u64,
}

impl Frames {
    fn instrument(self, index: u64) -> InstrumentId {
        let index = u32::try_from(index).unwrap_or(0);
        InstrumentId::new(self.source, InstrumentIndex::new(index))
    }

    /// The number of the tick at this place, from 0.
    fn tick_number(self, seq: u64) -> Option<u64> {
        seq.checked_sub(self.ahead + 1)
    }

    /// The frame at this place. A tick was to be sent at `intended` and is sent at `sent`; in what is no tick both are 0.
    fn frame(self, seq: u64, intended: u64, sent: u64) -> Frame {
        let each = u64::from(TICKED_INSTRUMENTS);
        if seq <= self.definitions {
            let index = seq - 1;
            // Names of our own making are symbols.
            let symbol = symbol(u32::try_from(index).unwrap_or(0)).parse().unwrap_or_default();
            let definition = Definition::new(self.instrument(index), symbol, 2);
            return Frame::seal(Definition { seq: U64::new(seq), ..definition });
        }
        // Instruments in turn.
        let trade = seq - self.definitions - 1;
        let instrument_seq = u32::try_from(trade / each + 1).unwrap_or(u32::MAX);
        Frame::seal(Trade {
            instrument: self.instrument(trade % each).into(),
            seq: U64::new(seq),
            ts_event: U64::new(intended),
            ts_recv: U64::new(sent),
            price: 1_000_000_000.into(),
            qty: U64::new(100),
            trade_id: U64::new(sent),
            instrument_seq: U32::new(instrument_seq),
            ..Trade::default()
        })
    }
}

/// The thread's state.
struct Sender {
    stream: TcpStream,
    frames: Frames,
    pacer: Pacer,
    timebase: Timebase,
    /// The place of the next frame.
    next: u64,
    held: Vec<u8>,
    unsent: Vec<u8>,
}

impl Sender {
    fn run(&mut self, stopped: &AtomicBool) -> Result<(), String> {
        let failed = |error: io::Error| format!("the ticks cannot go on: {error}");
        while !stopped.load(Ordering::Relaxed) {
            self.make_due(self.timebase.mono());
            self.write().map_err(failed)?;
            let is_blocked = !self.unsent.is_empty();
            let flags = if is_blocked { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
            let longest = match self.frames.tick_number(self.next) {
                Some(number) if !is_blocked => {
                    self.pacer.due_at(number).since(self.timebase.mono()).min(limits::POLL_MAX)
                }
                None if !is_blocked => Duration::ZERO,
                _ => limits::POLL_MAX,
            };
            wait(&self.stream, flags, longest).map_err(failed)?;
            self.read()?;
        }
        Ok(())
    }

    /// Makes what is due, as far as there is room for it.
    fn make_due(&mut self, now: Mono) {
        let end = self.frames.ahead + self.pacer.due_by(now);
        let stamp = self.timebase.stamp(now);
        while self.next <= end && self.unsent.len() < limits::PUBLISH_PENDING_BYTES_MAX {
            let (intended, sent) = match self.frames.tick_number(self.next) {
                Some(number) => (self.timebase.stamp(self.pacer.due_at(number)), stamp),
                None => (0, 0),
            };
            let frame = self.frames.frame(self.next, intended, sent);
            self.unsent.extend_from_slice(frame.as_bytes());
            self.next += 1;
        }
    }

    fn write(&mut self) -> io::Result<()> {
        while !self.unsent.is_empty() {
            match self.stream.write(&self.unsent) {
                Ok(taken) => drop(self.unsent.drain(..taken)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Answers whether it lives, and goes back where core had no room.
    fn read(&mut self) -> Result<(), String> {
        let mut bytes = [0; 4_096];
        match self.stream.read(&mut bytes) {
            Ok(0) => return Err("the node closed the connection of the ticks".to_owned()),
            Ok(read) => self.held.extend_from_slice(&bytes[..read]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            Err(error) => return Err(format!("the ticks' connection broke: {error}")),
        }
        let (frames, rest) = as_frames(&self.held);
        for frame in frames {
            let token = if let Some(refusal) = frame.view::<Refusal>() {
                return Err(format!("the ticks are refused: {}", unpadded(&refusal.text)));
            } else if let Some(resume) = frame.view::<Resume>() {
                self.next = resume.next_seq.get();
                resume.id
            } else if let Some(beat) = frame.view::<Heartbeat>().filter(|_| frame.has(Flags::MORE))
            {
                beat.token
            } else {
                continue;
            };
            let (next_seq, sent_at) = (U64::new(self.next), U64::new(self.timebase.wall_ns()));
            let answer = Heartbeat { token, next_seq, sent_at, ..Heartbeat::default() };
            self.unsent.extend_from_slice(Frame::seal(answer).as_bytes());
        }
        self.held = rest.to_vec();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{Continuity, Faults};

    #[test]
    fn every_place_has_one_frame_and_the_numbers_are_whole() {
        let frames = Frames { source: SOURCE, definitions: 100, ahead: 150 };
        let instrument = frames.instrument(7);
        let (mut all, mut one) =
            (Continuity::Feed(1), Continuity::Instruments(vec![(instrument, 1)]));
        let mut faults = Faults::default();
        let mut trades = 0;
        for seq in 1..=600 {
            let frame = frames.frame(seq, seq, seq + 5);
            assert_eq!(frame.check(), Ok(()));
            assert!(all.note(&frame, &mut faults));
            let Some(trade) = frame.view::<Trade>() else { continue };
            trades += 1;
            assert_eq!((trade.ts_event.get(), trade.trade_id.get()), (seq, seq + 5));
            if frame.instrument() == instrument {
                assert!(one.note(&frame, &mut faults));
            }
        }
        assert_eq!((trades, faults), (500, Faults::default()));
        let numbers = [100, 150, 151, 152].map(|seq| frames.tick_number(seq));
        assert_eq!(numbers, [None, None, Some(0), Some(1)]);
    }
}
