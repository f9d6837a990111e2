//! The code of each refusal, as the table of PROTOCOL.md has it: whoever writes a client from the text alone decides
//! by the code what to do next.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use pregao::wire::{
    Ack, ErrorCode, FRAME_BYTES, Flags, Frame, Heartbeat, Kind, Op, Query, Refusal, Role, Session,
    Subscribe, U16, U32, as_frames, padded,
};
use zerocopy::IntoBytes;

use super::process::PATIENCE;
use super::system::System;

const TEXT: &str = include_str!("../../src/wire/PROTOCOL.md");
/// The id of every query here.
const ID: u32 = 7;

/// What is sent to a node, and what has to come back.
struct Case {
    /// A part of the first cell of its row.
    row: &'static str,
    node: &'static str,
    frames: Vec<Frame>,
    code: ErrorCode,
    /// 0: the connection is closed.
    id: u32,
}

fn session(role: Role) -> Frame {
    Frame::seal(Session { role: role as u8, name: padded("reader"), ..Session::default() })
}

fn query(op: Op, symbol: &str) -> Query {
    Query {
        id: U32::new(ID),
        op: op as u8,
        symbol: padded(symbol),
        limit: U32::new(1),
        deadline_us: U32::new(5_000_000),
        ..Query::default()
    }
}

fn cases() -> Vec<Case> {
    let asks = |query: Query| vec![session(Role::Querier), Frame::seal(query)];
    let case = |row, node, frames, code, id| Case { row, node, frames, code, id };
    let mut spoiled = session(Role::Querier);
    spoiled.crc.set(spoiled.crc.get() ^ 1);
    let subscribe = |pattern: &str| {
        let pattern = padded(pattern);
        Frame::seal(Subscribe { id: U32::new(ID), source: 1, pattern, ..Subscribe::default() })
    };
    let (unexpected, owner) = (ErrorCode::Unexpected, ErrorCode::NotOwner);
    let first = "another first frame than SESSION";
    vec![
        case("a frame that fails the checks", "core", vec![spoiled], ErrorCode::BadFrame, 0),
        case(first, "core", vec![Frame::seal(query(Op::Quote, "PETR4"))], unexpected, 0),
        case(first, "broker", vec![session(Role::Feeder)], unexpected, 0),
        case(first, "broker", vec![session(Role::Subscriber); 2], unexpected, 0),
        case(
            "a frame that this role does not send",
            "shard-A",
            vec![session(Role::Querier), Frame::seal(Ack::default())],
            unexpected,
            0,
        ),
        case(
            "a frame that this role does not send",
            "shard-A",
            vec![
                session(Role::Querier),
                Frame::seal(Query { flags: U16::new(Flags::MORE), ..query(Op::Last, "*") }),
                Frame::seal(query(Op::Last, "*")),
            ],
            unexpected,
            0,
        ),
        case(
            "the id 0 of a query",
            "aggregator",
            asks(Query { id: U32::ZERO, ..query(Op::Last, "PETR4") }),
            unexpected,
            0,
        ),
        case(
            "a query with the id of one",
            "broker",
            asks(query(Op::Last, "PETR4")),
            unexpected,
            ID,
        ),
        case("an op that another node answers", "shard-A", asks(query(Op::Quote, "*")), owner, ID),
        case("an op that another node answers", "core", asks(query(Op::Bars, "*")), owner, ID),
        case(
            "a text that is no pattern",
            "aggregator",
            asks(query(Op::Last, " A")),
            ErrorCode::BadPattern,
            ID,
        ),
        case(
            "a text that is no pattern",
            "broker",
            vec![session(Role::Subscriber), subscribe(" A")],
            ErrorCode::BadPattern,
            0,
        ),
        case(
            "one symbol that the node does not know",
            "aggregator",
            asks(query(Op::Last, "NOPE")),
            ErrorCode::UnknownSymbol,
            ID,
        ),
        case(
            "one symbol that the node does not know",
            "core",
            asks(query(Op::Quote, "NOPE")),
            ErrorCode::UnknownSymbol,
            ID,
        ),
        case(
            "a deadline of 0 at the aggregator",
            "aggregator",
            asks(Query { deadline_us: U32::ZERO, ..query(Op::Last, "PETR4") }),
            ErrorCode::Deadline,
            ID,
        ),
    ]
}

/// The cells of the row of the table of refusals that begins like this.
fn row(begins: &str) -> Vec<&'static str> {
    let table = TEXT.lines().skip_while(|line| !line.starts_with("What is refused besides limits"));
    let found = table.filter(|line| line.starts_with('|')).find(|line| line.contains(begins));
    let found = found.unwrap_or_else(|| panic!("no row of the table says {begins:?}"));
    found.trim_matches('|').split('|').map(str::trim).collect()
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&address, PATIENCE).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// The next frame that is one of these kinds; none at the end of the connection.
fn next(stream: &mut TcpStream, kinds: &[Kind]) -> Option<Frame> {
    loop {
        let mut bytes = [0; FRAME_BYTES];
        stream.read_exact(&mut bytes).ok()?;
        let frame = as_frames(&bytes).0[0];
        if frame.kind().is_some_and(|kind| kinds.contains(&kind)) {
            return Some(frame);
        }
    }
}

#[test]
fn each_refusal_has_the_code_of_the_table_and_ends_what_the_table_says() {
    let system = System::start(&["--rate", "500", "--chaos", "off"]);
    system.wait_well();
    for Case { row: begins, node, frames, code, id } in cases() {
        let what = format!("{begins} at {node}");
        let cells = row(begins);
        assert!(cells[1].contains(&format!("{code:?}")), "{what}: the table says {cells:?}");
        assert_eq!(cells[2].starts_with("id") && id != 0, id != 0, "{what}: {cells:?}");
        let mut stream = connect(system.place.address(node));
        stream.write_all(frames.as_bytes()).unwrap();
        let refused = next(&mut stream, &[Kind::Error, Kind::End]);
        let refused = refused.unwrap_or_else(|| panic!("{what}: closed without a word"));
        let refusal = refused.view::<Refusal>().unwrap_or_else(|| panic!("{what}: {refused:?}"));
        let got = (ErrorCode::from_number(refusal.code.get()), refusal.id.get());
        let text = pregao::wire::unpadded(&refusal.text);
        assert_eq!(got, (Some(code), id), "{what}: {text}");
        // What concerns a query only leaves the connection as it was.
        let asks =
            Heartbeat { flags: U16::new(Flags::MORE), token: U32::new(99), ..Heartbeat::default() };
        let sent = stream.write_all(Frame::seal(asks).as_bytes());
        let answer = sent.ok().and_then(|()| next(&mut stream, &[Kind::Heartbeat]));
        let is_answered = answer.is_some_and(|frame| {
            frame.view::<Heartbeat>().is_some_and(|beat| beat.token.get() == 99)
        });
        assert_eq!(is_answered, id != 0, "{what}: whether the connection goes on");
    }
    system.stop();
}
