//! What the road through the aggregator costs: one client, one question at a time, the answer through the
//! aggregator beside each node asked by itself, beside an echo, and beside the least that any aggregator
//! could be: a thread that hands one frame to two echoes and waits for both. To a system that does
//! nothing else, and to one that answers a load meanwhile.
//!
//! All of them are asked in turns, so that they meet the same processors in the same mood: who is asked
//! alone, again and again, soon has a processor that never sleeps, which no answer that needs three
//! processes can have.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use hdrhistogram::Histogram;
use pregao::question::Question;
use pregao::time::{Clock, nanos};
use pregao::wire::{EndStatus, FRAME_BYTES, Op};
use serde::Serialize;

use super::QueryFlags;
use super::naive::NodeConnection;
use super::shapes::Shapes;
use crate::limits::CONNECT_MAX;
use crate::measure::histogram;
use crate::timebase::micros;

/// Rounds in which each way is asked once, of a system that does nothing else.
const ROUNDS: u64 = 500;

/// A pause before each question, long enough for a processor to fall asleep.
const REST: Duration = Duration::from_millis(2);

/// Medians of one client that asks one question at a time.
#[derive(Serialize)]
pub(super) struct Hops {
    way: &'static str,
    /// How long this client asked nothing before each question.
    rest_us: u64,
    rounds: u64,
    /// Answers of the aggregator and of core that were not complete.
    incomplete: u64,
    echo_p50_us: f64,
    /// One frame to two echoes and back through one thread.
    bare_scatter_p50_us: f64,
    slowest_leaf_p50_us: f64,
    answer_p50_us: f64,
    answer_p99_us: f64,
    /// At most 1 when an answer takes no more than its slowest leaf and one and a half echoes.
    of_goal: f64,
    /// The answer beside the bare scatter, which knows nothing and checks nothing.
    of_bare: f64,
}

impl Hops {
    pub(super) fn text(&self) -> String {
        let when = match (self.way, self.rest_us) {
            ("idle", 0) => "idle, at once",
            ("idle", _) => "idle, rested",
            _ => "under this load",
        };
        let mut text = format!(
            "{when}: p50 of an echo {:.0} us, slowest leaf {:.0}, answer {:.0} (p99 {:.0})\n  \
             {:.2} x the goal (leaf + 1.5 echoes), {:.2} x a bare scatter of {:.0} us",
            self.echo_p50_us,
            self.slowest_leaf_p50_us,
            self.answer_p50_us,
            self.answer_p99_us,
            self.of_goal,
            self.of_bare,
            self.bare_scatter_p50_us,
        );
        if let Some(objection) = self.objection() {
            text.push_str(&format!("\n  not valid: {objection}"));
        }
        text
    }

    /// Why the figures are not what they seem, if they are not.
    pub(super) fn objection(&self) -> Option<String> {
        let asked = self.rounds * 2;
        (self.incomplete > 0)
            .then(|| format!("{} of {asked} answers are not complete", self.incomplete))
    }
}

/// Where a load stands, for who takes the time of hops beside it.
#[derive(Default)]
pub(super) struct Progress(AtomicU8);

const BEFORE: u8 = 0;
const MEASURED: u8 = 1;
const OVER: u8 = 2;

impl Progress {
    /// The warm-up is over.
    pub(super) fn begin(&self) {
        self.0.fetch_max(MEASURED, Ordering::Relaxed);
    }

    /// The last measured moment is over, or there will be none.
    pub(super) fn end(&self) {
        self.0.fetch_max(OVER, Ordering::Relaxed);
    }

    fn is(&self, phase: u8) -> bool {
        self.0.load(Ordering::Relaxed) == phase
    }
}

/// Somebody who can be asked.
enum Way {
    Node(NodeConnection, Question),
    Frames(TcpStream),
}

impl Way {
    fn ask(&mut self) -> Result<EndStatus, String> {
        match self {
            Way::Node(link, question) => link.ask(question),
            Way::Frames(stream) => {
                let mut frame = [7; FRAME_BYTES];
                let asked = stream.write_all(&frame).and_then(|()| stream.read_exact(&mut frame));
                asked.map(|()| EndStatus::Complete).map_err(|error| error.to_string())
            }
        }
    }
}

/// Core's place among the ways; the shards stand behind it.
const CORE: usize = 3;

/// An echo, a bare scatter, the aggregator, and then every leaf.
pub(super) struct Ways(Vec<Way>);

impl Ways {
    pub(super) fn open(flags: &QueryFlags, shapes: &Shapes) -> Result<Ways, String> {
        let failed = |error: io::Error| error.to_string();
        let question = shapes.last();
        let mut quote = question.clone();
        quote.query.op = Op::Quote as u8;
        quote.query.options = 0;
        let mut history = question.clone();
        history.query.options = 0;
        let echoes = vec![relay(Vec::new()).map_err(failed)?, relay(Vec::new()).map_err(failed)?];
        let mut ways = vec![
            Way::Frames(relay(Vec::new()).map_err(failed)?),
            Way::Frames(relay(echoes).map_err(failed)?),
            Way::Node(NodeConnection::open(flags.addr)?, question),
            Way::Node(NodeConnection::open(flags.core)?, quote),
        ];
        // The owner of the symbol answers with rows; the others refuse, which is quick.
        for shard in &flags.shards {
            ways.push(Way::Node(NodeConnection::open(*shard)?, history.clone()));
        }
        Ok(Ways(ways))
    }

    /// Asks a system that does nothing else, without a pause between questions and with one.
    pub(super) fn ask_idle(&mut self) -> Result<[Hops; 2], String> {
        let mut ask = |rest| self.rounds("idle", rest, |rounds| rounds < ROUNDS);
        Ok([ask(Duration::ZERO)?, ask(REST)?])
    }

    /// Asks now and then while the load is measured. The pauses keep these questions a small part of it.
    pub(super) fn ask_under_load(&mut self, load: &Progress) -> Result<Hops, String> {
        self.rounds("under load", REST, |_| load.is(MEASURED))
    }

    fn rounds(
        &mut self,
        way: &'static str,
        rest: Duration,
        goes_on: impl Fn(u64) -> bool,
    ) -> Result<Hops, String> {
        let clock = Clock::start();
        let mut times: Vec<Histogram<u64>> = self.0.iter().map(|_| histogram()).collect();
        let (mut rounds, mut incomplete) = (0, 0);
        while goes_on(rounds) {
            for (place, (way, times)) in self.0.iter_mut().zip(&mut times).enumerate() {
                if !rest.is_zero() {
                    std::thread::park_timeout(rest);
                }
                let begun = clock.now().mono;
                let status = way.ask()?;
                // All shards but the owner say no.
                let is_whole = status == EndStatus::Complete || place > CORE;
                incomplete += u64::from(!is_whole);
                times.saturating_record(nanos(clock.now().mono.since(begun)).max(1));
            }
            rounds += 1;
        }
        if rounds == 0 {
            return Err("the load was over too soon to time the hops".to_owned());
        }
        let p50 = |times: &Histogram<u64>| micros(times.value_at_quantile(0.5));
        let [echo, scatter, answer, leaves @ ..] = &times[..] else {
            return Err("nobody was asked".to_owned());
        };
        let slowest = leaves.iter().map(p50).fold(0.0, f64::max);
        let (echo, scatter) = (p50(echo), p50(scatter));
        Ok(Hops {
            way,
            rest_us: u64::try_from(rest.as_micros()).unwrap_or(u64::MAX),
            rounds,
            incomplete,
            echo_p50_us: echo,
            bare_scatter_p50_us: scatter,
            slowest_leaf_p50_us: slowest,
            answer_p50_us: p50(answer),
            answer_p99_us: micros(answer.value_at_quantile(0.99)),
            of_goal: p50(answer) / (slowest + 1.5 * echo).max(f64::MIN_POSITIVE),
            of_bare: p50(answer) / scatter.max(f64::MIN_POSITIVE),
        })
    }
}

/// Takes the time of the hops beside a load. Its connections are opened when the warm-up is over: they would
/// be closed for their silence.
pub(super) fn beside(load: &Progress, flags: &QueryFlags, shapes: &Shapes) -> Result<Hops, String> {
    while load.is(BEFORE) {
        std::thread::park_timeout(REST);
    }
    Ways::open(flags, shapes)?.ask_under_load(load)
}

/// A thread that hands each frame to these others and gives one back when all of them have answered; an
/// echo, when there are none. It ends with the connection that is returned.
fn relay(mut others: Vec<TcpStream>) -> io::Result<TcpStream> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let stream = TcpStream::connect_timeout(&listener.local_addr()?, CONNECT_MAX)?;
    stream.set_nodelay(true)?;
    let (mut query_client, _) = listener.accept()?;
    query_client.set_nodelay(true)?;
    let mut relay = move || -> io::Result<()> {
        let mut frame = [0; FRAME_BYTES];
        loop {
            query_client.read_exact(&mut frame)?;
            for other in &mut others {
                other.write_all(&frame)?;
            }
            for other in &mut others {
                other.read_exact(&mut frame)?;
            }
            query_client.write_all(&frame)?;
        }
    };
    // It ends with an error when the connection does, which is its only end.
    std::thread::Builder::new().name("relay".to_owned()).spawn(move || drop(relay()))?;
    Ok(stream)
}
