//! The plain way to ask: for each query a thread and a new connection for each node, core and every
//! shard, and the one that asks waits for all of them.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pregao::question::Question;
use pregao::time::{Clock, Mono, nanos};
use pregao::wire::{
    EndStatus, Ended, FRAME_BYTES, Frame, Op, Refusal, Role, Session, U32, as_frames,
};
use zerocopy::IntoBytes;

use super::shapes::Shapes;
use super::{QueryFlags, Tally};
use crate::limits::{CONNECT_MAX, LEAD_IN};
use crate::pace::Pacer;

/// How long an answer is waited for beyond all deadlines.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// A blocking connection for one query at a time.
pub(super) struct NodeConnection {
    stream: TcpStream,
    next_id: u32,
    read: Vec<u8>,
}

impl NodeConnection {
    pub(super) fn open(address: SocketAddr) -> Result<NodeConnection, String> {
        let failed = |error: std::io::Error| format!("{address}: {error}");
        let mut stream = TcpStream::connect_timeout(&address, CONNECT_MAX).map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        stream.set_read_timeout(Some(ANSWER_MAX)).map_err(failed)?;
        let role = Role::Querier as u8;
        let hello = Frame::seal(Session { role, ..Session::default() });
        stream.write_all(hello.as_bytes()).map_err(failed)?;
        Ok(NodeConnection { stream, next_id: 0, read: vec![0; 64 * 1024] })
    }

    /// Asks and reads to the end of the answer.
    pub(super) fn ask(&mut self, question: &Question) -> Result<EndStatus, String> {
        self.next_id += 1;
        let mut question = question.clone();
        question.query.id = U32::new(self.next_id);
        let frames = question.frames();
        let failed = |error: std::io::Error| error.to_string();
        self.stream.write_all(frames.as_slice().as_bytes()).map_err(failed)?;
        let mut held = 0;
        let mut is_refused = false;
        loop {
            let count = self.stream.read(&mut self.read[held..]).map_err(failed)?;
            if count == 0 {
                return Err("the node closed the connection".to_owned());
            }
            held += count;
            let (frames, rest) = as_frames(&self.read[..held]);
            let rest = rest.len();
            for frame in frames {
                if let Some(end) = frame.view::<Ended>().filter(|it| it.id.get() == self.next_id) {
                    return Ok(EndStatus::from_number(end.status).unwrap_or(EndStatus::Failed));
                }
                let refusal = frame.view::<Refusal>();
                is_refused |= refusal.is_some_and(|it| it.id.get() == self.next_id);
            }
            if is_refused {
                return Ok(EndStatus::Failed);
            }
            self.read.copy_within(held - rest..held, 0);
            held = rest;
            debug_assert!(held < FRAME_BYTES);
        }
    }
}

/// As many threads ask as there are clients; each query of each starts its own threads.
pub(super) fn run(flags: &QueryFlags, shapes: &Shapes) -> Result<Tally, String> {
    let clock = Clock::start();
    let start = clock.now().mono + LEAD_IN;
    let (from, to) = (start + flags.warm_up, start + flags.warm_up + flags.duration);
    let pacer = flags.rate.map(|rate| Pacer::new(start, rate, flags.warm_up + flags.duration));
    let next = AtomicU64::new(0);
    let ask = || {
        let mut tally = Tally::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let due = match &pacer {
                Some(pacer) if number >= pacer.total() => return tally,
                Some(pacer) => pacer.due_at(number),
                None => clock.now().mono.max(start),
            };
            if due >= to {
                return tally;
            }
            loop {
                let wait = due.since(clock.now().mono);
                if wait.is_zero() {
                    break;
                }
                std::thread::park_timeout(wait);
            }
            let sent = clock.now().mono;
            let ended = gather(flags, &shapes.question(number));
            let done = clock.now().mono;
            note(&mut tally, (from, to), due, sent, done, ended);
        }
    };
    let mut sum = Tally::new();
    std::thread::scope(|scope| -> Result<(), String> {
        let mut threads = Vec::new();
        for _ in 0..flags.clients {
            let thread = std::thread::Builder::new().stack_size(128 * 1024);
            threads.push(thread.spawn_scoped(scope, ask).map_err(|error| error.to_string())?);
        }
        for thread in threads {
            if let Ok(tally) = thread.join() {
                sum.add(&tally);
            }
        }
        Ok(())
    })?;
    sum.span = flags.duration;
    Ok(sum)
}

fn note(
    tally: &mut Tally,
    (from, to): (Mono, Mono),
    due: Mono,
    sent: Mono,
    done: Mono,
    ended: Option<EndStatus>,
) {
    if due < from || done > to {
        return;
    }
    tally.behind.saturating_record(nanos(sent.since(due)).max(1));
    match ended {
        Some(status) => tally.note(status, done.since(due)),
        None => tally.lost += 1,
    }
}

/// One query: a thread and a connection for core, if a quote is wanted, and for every shard, if history
/// is. A shard that does not own the symbol says so, which is no failure of the query.
fn gather(flags: &QueryFlags, question: &Question) -> Option<EndStatus> {
    let is_quote = question.op() == Some(Op::Quote);
    let with_quote = is_quote || question.query.options != 0;
    let mut leaves = Vec::new();
    if with_quote {
        let mut quote = question.clone();
        quote.query.op = Op::Quote as u8;
        quote.query.options = 0;
        leaves.push((flags.core, quote));
    }
    if !is_quote {
        let mut history = question.clone();
        history.query.options = 0;
        leaves.extend(flags.shards.iter().map(|shard| (*shard, history.clone())));
    }
    let ask = |(address, question): &(SocketAddr, Question)| {
        let mut connection = NodeConnection::open(*address).ok()?;
        connection.ask(question).ok()
    };
    std::thread::scope(|scope| {
        let mut threads = Vec::new();
        for leaf in &leaves {
            let thread = std::thread::Builder::new().stack_size(128 * 1024);
            threads.push(thread.spawn_scoped(scope, move || ask(leaf)).ok()?);
        }
        let mut some = false;
        for thread in threads {
            some |= thread.join().ok()?? != EndStatus::Failed;
        }
        Some(if some { EndStatus::Complete } else { EndStatus::Failed })
    })
}
