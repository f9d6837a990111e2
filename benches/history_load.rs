//! Feeds shards as core does and asks them as a client does, over TCP, and times both: the part of
//! `benches/history_peers.py` that must not be slowed down by Python. Not a bench by itself.
//!
//! ```text
//! history_load csv   --trades N --out FILE
//! history_load feed  --trades N --shards ADDRESS,…  [--only I]
//! history_load ask   --shards ADDRESS,… [--repeat N]
//! ```
//!
//! The trades are the same for the same `N`. Instrument `i` of 500 belongs to shard `i % shards`.

#![allow(missing_docs, reason = "a bench is a program")]
#![allow(clippy::disallowed_methods, reason = "a bench measures time")]

use std::io::{self, BufRead, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use pregao::random::Random;
use pregao::wire::{
    Ack, Definition, Ended, ErrorCode, FRAME_BYTES, Frame, I64, InstrumentId, InstrumentIndex, Op,
    Query, Role, Session, Trade, U32, U64, as_frames, padded,
};
use zerocopy::IntoBytes;

const INSTRUMENTS: u32 = 500;
/// 2026-07-14T13:00:00Z
const OPENING: u64 = 1_784_034_000_000_000_000;
/// Eight hours of trading.
const SPAN_NS: u128 = 8 * 3_600_000_000_000;

fn symbol(index: u32) -> String {
    format!("SYM{index:03}")
}

/// All frames of the sequence, one after the other: definitions, then trades of instruments at random.
fn frames(trades: u64) -> impl Iterator<Item = (u32, Frame)> {
    let mut random = Random::new(11);
    let mut prices = vec![20_000_000_000_i64; INSTRUMENTS as usize];
    let definitions = (0..INSTRUMENTS).map(|index| {
        let name = symbol(index).parse().expect("a symbol");
        let definition =
            Definition::new(InstrumentId::new(1, InstrumentIndex::new(index)), name, 2);
        let seq = U64::new(u64::from(index) + 1);
        (index, Frame::seal(Definition { seq, ..definition }))
    });
    definitions.chain((0..trades).map(move |n| {
        let index = u32::try_from(random.below(u64::from(INSTRUMENTS))).expect("small");
        let price = &mut prices[index as usize];
        *price += (i64::try_from(random.below(3)).expect("small") - 1) * 10_000_000;
        let after = SPAN_NS * u128::from(n) / u128::from(trades);
        let ts = OPENING + u64::try_from(after).expect("within a day");
        let trade = Trade {
            instrument: InstrumentId::new(1, InstrumentIndex::new(index)).into(),
            seq: U64::new(u64::from(INSTRUMENTS) + 1 + n),
            ts_event: U64::new(ts),
            ts_recv: U64::new(ts + 50_000),
            price: I64::new(*price),
            qty: U64::new((1 + random.below(20)) * 100),
            trade_id: U64::new(n + 1),
            ..Trade::default()
        };
        (index, Frame::seal(trade))
    }))
}

/// Times and prices as integers, as SQL is to have them.
fn write_csv(trades: u64, path: &str) -> io::Result<()> {
    let mut out = io::BufWriter::with_capacity(1 << 20, std::fs::File::create(path)?);
    for (index, frame) in frames(trades) {
        if let Some(trade) = frame.view::<Trade>() {
            let (ts, price, qty) = (trade.ts_event, trade.price, trade.qty);
            writeln!(out, "{index},{},{ts},{price},{qty},{}", trade.seq, trade.trade_id)?;
        }
    }
    out.flush()
}

fn connect(address: &str, role: Role) -> io::Result<(TcpStream, Session)> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let epoch = if role == Role::Feeder { 1 } else { 0 };
    let session = Session {
        role: role as u8,
        source: 1,
        epoch: U32::new(epoch),
        epoch_start: U64::new(u64::from(epoch)),
        name: padded("bench"),
        ..Session::default()
    };
    stream.write_all(Frame::seal(session).as_bytes())?;
    let answer = read_frame(&mut stream)?;
    let session = answer.view::<Session>().copied();
    session.map(|session| (stream, session)).ok_or(ErrorKind::ConnectionRefused.into())
}

fn read_frame(stream: &mut TcpStream) -> io::Result<Frame> {
    let mut bytes = [0; FRAME_BYTES];
    stream.read_exact(&mut bytes)?;
    as_frames(&bytes).0.first().copied().ok_or(ErrorKind::InvalidData.into())
}

/// Sends a shard its frames until it has accepted them all, connecting again whenever its log has to
/// wait. How often that was.
fn feed(address: &str, frames: &[Frame]) -> u32 {
    let last = frames.last().map_or(0, |frame| frame.seq.get());
    let mut again = 0;
    loop {
        let Ok((mut stream, session)) = connect(address, Role::Feeder) else {
            thread::sleep(Duration::from_millis(2));
            again += 1;
            continue;
        };
        let wanted = session.next_seq.get();
        if wanted > last {
            return again;
        }
        let from = frames.partition_point(|frame| frame.seq.get() < wanted);
        let mut acks = stream.try_clone().expect("a descriptor");
        let reader = thread::spawn(move || {
            while let Ok(frame) = read_frame(&mut acks) {
                if frame.view::<Ack>().is_some_and(|ack| ack.accepted_seq.get() > last) {
                    return true;
                }
            }
            false
        });
        let sent =
            frames[from..].chunks(4096).try_for_each(|part| stream.write_all(part.as_bytes()));
        if sent.is_err() {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
        if reader.join().is_ok_and(|has_all| has_all) {
            return again;
        }
        again += 1;
    }
}

fn feed_all(trades: u64, shards: &[String], only: Option<usize>) {
    let mut parts = vec![Vec::new(); shards.len()];
    for (index, frame) in frames(trades) {
        let shard = index as usize % shards.len();
        if only.is_none_or(|only| only == shard) {
            parts[shard].push(frame);
        }
    }
    let begun = Instant::now();
    let again: u32 = thread::scope(|scope| {
        let feeds: Vec<_> = shards
            .iter()
            .zip(&parts)
            .filter(|(_, part)| !part.is_empty())
            .map(|(address, part)| scope.spawn(move || feed(address, part)))
            .collect();
        feeds.into_iter().map(|feed| feed.join().expect("a feeder")).sum()
    });
    let seconds = begun.elapsed().as_secs_f64();
    let records: usize = parts.iter().map(Vec::len).sum();
    println!("{{\"records\":{records},\"seconds\":{seconds:.6},\"connected_again\":{again}}}");
}

/// A connection that asks.
struct QueryClient {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl QueryClient {
    fn new(address: &str) -> QueryClient {
        let (stream, _) = connect(address, Role::Querier).expect("a shard");
        QueryClient { stream, buffer: vec![0; 1 << 20] }
    }

    /// Asks, takes the whole answer, and says how many rows it had.
    fn ask(&mut self, op: Op, symbol: &str, limit: u32) -> u32 {
        let query = Query {
            id: U32::new(1),
            op: op as u8,
            limit: U32::new(limit),
            symbol: padded(symbol),
            to: U64::new(u64::MAX),
            ..Query::default()
        };
        self.stream.write_all(Frame::seal(query).as_bytes()).expect("a shard");
        let mut have = 0;
        loop {
            let read = self.stream.read(&mut self.buffer[have..]).expect("a shard");
            assert!(read > 0, "the shard closed the connection");
            have += read;
            let whole = have - have % FRAME_BYTES;
            let last = as_frames(&self.buffer[..whole]).0.last();
            if let Some(end) = last.and_then(|frame| frame.view::<Ended>()) {
                // Nobody feeds it by then, so it may say that it is behind, and nothing else.
                let is_behind = end.code.get() == ErrorCode::Behind as u16;
                assert!(end.status == 0 || is_behind, "a complete answer");
                return end.rows.get();
            }
            self.buffer.copy_within(whole..have, 0);
            have -= whole;
        }
    }
}

/// Median, least and greatest of some times, in microseconds.
fn times(repeat: u32, mut run: impl FnMut()) -> String {
    let mut taken: Vec<f64> = (0..repeat)
        .map(|_| {
            let begun = Instant::now();
            run();
            begun.elapsed().as_secs_f64() * 1e6
        })
        .collect();
    taken.sort_by(f64::total_cmp);
    let (least, most) = (taken[0], taken[taken.len() - 1]);
    format!(
        "{{\"p50_us\":{:.2},\"min_us\":{least:.2},\"max_us\":{most:.2}}}",
        taken[taken.len() / 2]
    )
}

/// Sends back what it gets, one frame at a time, until the peer closes: one poll, one read and one
/// write for each, as a reactor has to.
fn serve_echo() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{}", listener.local_addr()?);
    let (stream, _) = listener.accept()?;
    stream.set_nodelay(true)?;
    stream.set_nonblocking(true)?;
    let mut stream = mio::net::TcpStream::from_std(stream);
    let mut poll = mio::Poll::new()?;
    let interest = mio::Interest::READABLE | mio::Interest::WRITABLE;
    poll.registry().register(&mut stream, mio::Token(0), interest)?;
    let mut events = mio::Events::with_capacity(16);
    let mut buffer = vec![0; 256 * 1024];
    loop {
        poll.poll(&mut events, None)?;
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(bytes) => stream.write_all(&buffer[..bytes])?,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

/// A round trip of 64 bytes to a process that does nothing else. To another process, because that is
/// where a shard is: threads of one share a core and wake each other faster.
fn echo(repeat: u32) -> String {
    let own = std::env::current_exe().expect("a program");
    let mut server = std::process::Command::new(own)
        .arg("echo")
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("a process");
    let mut address = String::new();
    let mut out = io::BufReader::new(server.stdout.take().expect("a pipe"));
    out.read_line(&mut address).expect("an address");
    let mut stream = TcpStream::connect(address.trim()).expect("the server");
    stream.set_nodelay(true).expect("a socket");
    let frame = Frame::seal(Query::default());
    let told = times(repeat, || {
        stream.write_all(frame.as_bytes()).expect("the server");
        read_frame(&mut stream).expect("the server");
    });
    drop(stream);
    server.wait().expect("the server");
    told
}

fn ask_all(shards: &[String], repeat: u32) {
    let mut askers: Vec<QueryClient> =
        shards.iter().map(|address| QueryClient::new(address)).collect();
    let place = 123 % shards.len();
    let echo_before = echo(repeat * 20);
    let last = times(repeat * 20, || {
        assert_eq!(askers[place].ask(Op::Last, &symbol(123), 10), 10);
    });
    let echo_after = echo(repeat * 20);
    let mut bars = 0;
    let one = times(repeat, || bars = askers[place].ask(Op::Bars, &symbol(123), 60));
    let mut all_bars = 0;
    let all = times(repeat.min(20), || {
        all_bars = thread::scope(|scope| {
            let asked: Vec<_> =
                askers.iter_mut().map(|own| scope.spawn(|| own.ask(Op::Bars, "*", 60))).collect();
            asked.into_iter().map(|one| one.join().expect("an answer")).sum()
        });
    });
    println!(
        "{{\"echo\":{echo_before},\"echo_after\":{echo_after},\"last_10\":{last},\"bars_of_one\":{one},\
         \"bars_of_all\":{all},\"rows_of_one\":{bars},\"rows_of_all\":{all_bars}}}"
    );
}

fn main() -> io::Result<()> {
    pregao::planted::refuse_to_measure();
    // `cargo bench` and `cargo test` add words of their own; without a command there is nothing to do.
    let words: Vec<String> = std::env::args().skip(1).collect();
    let value = |name: &str| {
        let place = words.iter().position(|word| word == name)?;
        words.get(place + 1).cloned()
    };
    let number = |name: &str| value(name).and_then(|text| text.parse::<u64>().ok());
    let trades = number("--trades").unwrap_or(1_000_000);
    let shards = value("--shards").unwrap_or_default();
    let shards: Vec<String> = shards.split(',').map(str::to_owned).collect();
    match words.first().map(String::as_str) {
        Some("csv") => write_csv(trades, &value("--out").unwrap_or("trades.csv".to_owned())),
        Some("feed") => {
            let only = number("--only").and_then(|only| usize::try_from(only).ok());
            feed_all(trades, &shards, only);
            Ok(())
        }
        Some("echo") => serve_echo(),
        Some("ask") => {
            let repeat = number("--repeat").and_then(|n| u32::try_from(n).ok()).unwrap_or(50);
            ask_all(&shards, repeat.max(1));
            Ok(())
        }
        _ => Ok(()),
    }
}
