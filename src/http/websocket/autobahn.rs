//! The cases of the Autobahn test suite (github.com/crossbario/autobahn-testsuite) that apply to a server which sends nothing
//! back: sections 1 to 7, and of section 9 this server's own limit. Those that send the same octets one by one are the pieces in
//! which every row is read here. Sections 10, 12 and 13 are about an echo and about compression. The suite itself does not run
//! with Python 3: version 25.10.1 imports its own modules as Python 2 did. It would want an echo too.
//!
//! Rows without a number are our own, and those of RFC 6455 name its section. Each is a row: what the client sends, what the
//! owner sees, and how the connection ends.

use super::tests::frame;
use super::{Incoming, WebSocket};

/// What the owner sees, in one word each: `t:TEXT`, `b`, `pong`, `close:CODE:REASON`.
fn shown(out: &[Incoming]) -> Vec<String> {
    let word = |it: &Incoming| match it {
        Incoming::Text(text) if text.len() > 200 => format!("t:{} bytes", text.len()),
        Incoming::Text(text) => format!("t:{text}"),
        Incoming::Binary => "b".to_owned(),
        Incoming::Pong => "pong".to_owned(),
        Incoming::Closed { code, reason } => format!("close:{code}:{reason}"),
    };
    out.iter().map(word).collect()
}

/// The control frames that wait, in one word each: `pong:PAYLOAD`, `close:CODE`.
fn control(mut bytes: &[u8]) -> Vec<String> {
    let mut words = Vec::new();
    while let [first, len, rest @ ..] = bytes {
        let (payload, behind) = rest.split_at(usize::from(*len));
        let payload_text = String::from_utf8_lossy(payload);
        words.push(match (first, payload) {
            (0x8A, _) => format!("pong:{payload_text}"),
            (0x88, []) => "close".to_owned(),
            (0x88, [high, low, ..]) => format!("close:{}", u16::from_be_bytes([*high, *low])),
            _ => format!("{first:x}"),
        });
        bytes = behind;
    }
    words
}

/// One case: its name, the frames, what comes out, and what is answered.
struct Case {
    name: &'static str,
    sent: Vec<u8>,
    out: Vec<String>,
    control: Vec<String>,
}

fn case(name: &'static str, frames: &[(u8, &[u8])], out: &[&str], control: &[&str]) -> Case {
    let sent = frames.iter().flat_map(|(first, payload)| frame(*first, payload)).collect();
    let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    Case { name, sent, out: owned(out), control: owned(control) }
}

/// Frames whose masks and lengths are not what a client may send.
fn raw(name: &'static str, bytes: &[u8], control: &[&str]) -> Case {
    Case { sent: bytes.to_vec(), ..case(name, &[], &[], control) }
}

const TEXT: u8 = 0x81;
const BINARY: u8 = 0x82;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
const PONG: u8 = 0x8A;
/// Not the last frame of a message.
const TEXT_BEGINS: u8 = 0x01;
const BINARY_BEGINS: u8 = 0x02;
const GOES_ON: u8 = 0x00;
const ENDS: u8 = 0x80;

fn framing_pings_and_reserved() -> Vec<Case> {
    let long = |bytes: usize| vec![b'*'; bytes];
    let (l125, l126, l127, l128) = (long(125), long(126), long(127), long(128));
    let bits = b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff";
    let star = |bytes: usize| format!("t:{}", "*".repeat(bytes));
    let bad = |name, first| {
        case(name, &[(TEXT, b"Hello"), (first, b"x"), (PING, b"")], &["t:Hello"], &["close:1002"])
    };
    vec![
        case("1.1.1", &[(TEXT, b"")], &["t:"], &[]),
        case("1.1.2", &[(TEXT, &l125)], &[&star(125)], &[]),
        case("1.1.3", &[(TEXT, &l126)], &[&star(126)], &[]),
        case("1.1.4", &[(TEXT, &l127)], &[&star(127)], &[]),
        case("1.1.5", &[(TEXT, &l128)], &[&star(128)], &[]),
        case("1.2.1", &[(BINARY, b"")], &["b"], &[]),
        case("1.2.2", &[(BINARY, &l125)], &["b"], &[]),
        case("1.2.3", &[(BINARY, &l126)], &["b"], &[]),
        case("1.2.4", &[(BINARY, &l127)], &["b"], &[]),
        case("1.2.5", &[(BINARY, &l128)], &["b"], &[]),
        case("2.1", &[(PING, b"")], &[], &["pong:"]),
        case("2.2", &[(PING, b"Hello, world!")], &[], &["pong:Hello, world!"]),
        case("2.3", &[(PING, bits)], &[], &[&format!("pong:{}", String::from_utf8_lossy(bits))]),
        case("2.4", &[(PING, &l125)], &[], &[&format!("pong:{}", "*".repeat(125))]),
        case("2.5", &[(PING, &l126)], &[], &["close:1002"]),
        case("2.7", &[(PONG, b"")], &["pong"], &[]),
        case("2.8", &[(PONG, b"unsolicited")], &["pong"], &[]),
        case("2.9", &[(PONG, b"x"), (PING, b"y")], &["pong"], &["pong:y"]),
        case(
            "2.10",
            &[(PING, b"0"), (PING, b"1"), (PING, b"2"), (PING, b"3")],
            &[],
            &["pong:0", "pong:1", "pong:2", "pong:3"],
        ),
        bad("3.2: RSV2", TEXT | 0x20),
        bad("3.1: RSV3", TEXT | 0x10),
        bad("3.3: RSV2 and RSV3", TEXT | 0x30),
        bad("3.4: RSV1", TEXT | 0x40),
        bad("3.5: RSV of a binary message", BINARY | 0x50),
        bad("3.6: RSV of a ping", PING | 0x60),
        bad("3.7: RSV of a close frame", CLOSE | 0x70),
        bad("4.1.1", 0x83),
        bad("4.1.2", 0x84),
        bad("4.1.3", 0x85),
        bad("4.1.4", 0x86),
        bad("4.1.5", 0x87),
        bad("4.2.1", 0x8B),
        bad("4.2.2", 0x8C),
        bad("4.2.3", 0x8D),
        bad("4.2.4", 0x8E),
        bad("4.2.5", 0x8F),
        raw("5.1 of RFC 6455: no mask", b"\x81\x01a", &["close:1002"]),
        raw(
            "5.2 of RFC 6455: 126 for a short length",
            b"\x81\xFE\x00\x7D\0\0\0\0",
            &["close:1002"],
        ),
        raw(
            "5.2 of RFC 6455: 127 for a short length",
            b"\x81\xFF\0\0\0\0\0\0\0\x7D\0\0\0\0",
            &["close:1002"],
        ),
    ]
}

fn fragments() -> Vec<Case> {
    vec![
        case("5.1", &[(0x09, b"a"), (ENDS, b"b")], &[], &["close:1002"]),
        case("5.2", &[(0x0A, b"a"), (ENDS, b"b")], &[], &["close:1002"]),
        case(
            "5.3",
            &[(TEXT_BEGINS, b"fragment1"), (ENDS, b"fragment2")],
            &["t:fragment1fragment2"],
            &[],
        ),
        case(
            "5.6",
            &[(TEXT_BEGINS, b"fragment1"), (PING, b"ping"), (ENDS, b"fragment2")],
            &["t:fragment1fragment2"],
            &["pong:ping"],
        ),
        case("5.9", &[(GOES_ON, b"non-continuation"), (TEXT, b"Hello")], &[], &["close:1002"]),
        case("5.12", &[(ENDS, b"non-continuation"), (TEXT, b"Hello")], &[], &["close:1002"]),
        case(
            "5.15",
            &[
                (TEXT_BEGINS, b"1"),
                (ENDS, b"2"),
                (GOES_ON, b"3"),
                (TEXT_BEGINS, b"4"),
                (ENDS, b"5"),
            ],
            &["t:12"],
            &["close:1002"],
        ),
        case(
            "5.16",
            &[(GOES_ON, b"1"), (TEXT_BEGINS, b"2"), (ENDS, b"3"), (GOES_ON, b"1")],
            &[],
            &["close:1002"],
        ),
        case(
            "5.17",
            &[(ENDS, b"1"), (TEXT_BEGINS, b"2"), (ENDS, b"3"), (ENDS, b"1")],
            &[],
            &["close:1002"],
        ),
        case("5.18", &[(TEXT_BEGINS, b"1"), (TEXT, b"2")], &[], &["close:1002"]),
        case("5.18, binary", &[(BINARY_BEGINS, b"1"), (BINARY, b"2")], &[], &["close:1002"]),
        case(
            "5.19",
            &[
                (TEXT_BEGINS, b"1"),
                (GOES_ON, b"2"),
                (PING, b"p1"),
                (GOES_ON, b"3"),
                (GOES_ON, b"4"),
                (PING, b"p2"),
                (ENDS, b"5"),
            ],
            &["t:12345"],
            &["pong:p1", "pong:p2"],
        ),
        case("6.1.1", &[(TEXT, b"")], &["t:"], &[]),
        case("6.1.2", &[(TEXT_BEGINS, b""), (GOES_ON, b""), (ENDS, b"")], &["t:"], &[]),
        case("6.1.3", &[(TEXT_BEGINS, b""), (GOES_ON, b"middle"), (ENDS, b"")], &["t:middle"], &[]),
        case(
            "binary in fragments",
            &[(BINARY_BEGINS, b"\xFF"), (PONG, b""), (ENDS, b"\xFF")],
            &["pong", "b"],
            &[],
        ),
    ]
}

fn texts() -> Vec<Case> {
    let greek = "κόσμε";
    let mut cases = vec![
        case(
            "6.2.1",
            &[(TEXT, "Hello-µ@ßöäüàá-UTF-8!!".as_bytes())],
            &["t:Hello-µ@ßöäüàá-UTF-8!!"],
            &[],
        ),
        case(
            "6.2.2",
            &[(TEXT_BEGINS, "Hello-µ@ßöä".as_bytes()), (ENDS, "üàá-UTF-8!!".as_bytes())],
            &["t:Hello-µ@ßöäüàá-UTF-8!!"],
            &[],
        ),
        case("6.3.1", &[(TEXT, b"\xce\xba\xed\xa0\x80edited")], &[], &["close:1007"]),
        // The first wrong byte ends it: what makes the message whole is not waited for.
        case(
            "6.4.1",
            &[(TEXT_BEGINS, b"\xce\xba\xcf\x8c"), (GOES_ON, b"\xf4\x90\x80\x80")],
            &[],
            &["close:1007"],
        ),
        case("6.4.2", &[(TEXT_BEGINS, b"\xce\xba\xf4"), (GOES_ON, b"\x90")], &[], &["close:1007"]),
        case(
            "cut in a character at the end of the message",
            &[(TEXT, b"\xce")],
            &[],
            &["close:1007"],
        ),
        case(
            "cut in a character, then a new message",
            &[(TEXT_BEGINS, b"\xce"), (ENDS, b"")],
            &[],
            &["close:1007"],
        ),
    ];
    let mut valid = |name, code: u32| {
        let text = char::from_u32(code).unwrap().to_string();
        cases.push(case(name, &[(TEXT, text.as_bytes())], &[&format!("t:{text}")], &[]));
    };
    [0, 0x80, 0x800, 0x1_0000].into_iter().for_each(|code| valid("6.7", code));
    [0x7F, 0x7FF, 0xFFFF, 0x10_FFFF].into_iter().for_each(|code| valid("6.9", code));
    [0xD7FF, 0xE000, 0xFFFD, 0x10_FFFF].into_iter().for_each(|code| valid("6.11", code));
    for plane in 0..=16 {
        [0xFFFE, 0xFFFF].into_iter().for_each(|last| valid("6.22", plane << 16 | last));
    }
    (0xFFF9..=0xFFFF).for_each(|code| valid("6.23", code));
    for cut in 0..=greek.len() {
        let (front, back) = greek.as_bytes().split_at(cut);
        let frames = [(TEXT_BEGINS, front), (ENDS, back)];
        cases.push(case("6.5", &frames, &[&format!("t:{greek}")], &[]));
    }
    // 6.2.3 and 6.2.4: each byte is a fragment.
    let bytes: Vec<[u8; 1]> = greek.bytes().map(|byte| [byte]).collect();
    let mut frames: Vec<(u8, &[u8])> = bytes.iter().map(|byte| (GOES_ON, &byte[..])).collect();
    frames[0].0 = TEXT_BEGINS;
    frames.last_mut().unwrap().0 = ENDS;
    cases.push(case("6.2.4", &frames, &[&format!("t:{greek}")], &[]));
    let invalid: &[&[u8]] = &[
        b"\xf8\x88\x80\x80\x80",
        b"\xfc\x84\x80\x80\x80\x80",
        b"\xf7\xbf\xbf\xbf",
        b"\xf4\x90\x80\x80",
        b"\x80",
        b"\xbf",
        b"\x80\xbf\x80",
        b"\xc0 ",
        b"\xe0 ",
        b"\xf0 ",
        b"\xf8 ",
        b"\xfe",
        b"\xff",
        b"\xc0\xaf",
        b"\xe0\x80\xaf",
        b"\xf0\x80\x80\xaf",
        b"\xc1\xbf",
        b"\xe0\x9f\xbf",
        b"\xf0\x8f\xbf\xbf",
        b"\xed\xa0\x80",
        b"\xed\xbf\xbf",
        b"\xed\xa0\x80\xed\xb0\x80",
        b"\xe1\x80",
        b"\xf1\x80\x80",
    ];
    cases.extend(
        invalid.iter().map(|text| case("6.6 to 6.21", &[(TEXT, text)], &[], &["close:1007"])),
    );
    cases
}

fn closes() -> Vec<Case> {
    let with = |code: u16, reason: &str| [&code.to_be_bytes()[..], reason.as_bytes()].concat();
    let reason_123 = "r".repeat(123);
    let mut cases = vec![
        case(
            "7.1.1",
            &[(TEXT, b"Hello"), (CLOSE, &with(1000, ""))],
            &["t:Hello", "close:1000:"],
            &["close:1000"],
        ),
        case(
            "7.1.2",
            &[(CLOSE, &with(1000, "")), (CLOSE, &with(1000, ""))],
            &["close:1000:"],
            &["close:1000"],
        ),
        case("7.1.3", &[(CLOSE, &with(1000, "")), (PING, b"x")], &["close:1000:"], &["close:1000"]),
        case("7.1.4", &[(CLOSE, &with(1000, "")), (TEXT, b"x")], &["close:1000:"], &["close:1000"]),
        case(
            "7.1.5",
            &[(TEXT_BEGINS, b"1"), (CLOSE, &with(1000, "")), (ENDS, b"2")],
            &["close:1000:"],
            &["close:1000"],
        ),
        case(
            "7.1.6, with our limit",
            &[(TEXT, &[b'*'; 16_384]), (CLOSE, &with(1000, "")), (PING, b"")],
            &["t:16384 bytes", "close:1000:"],
            &["close:1000"],
        ),
        case("7.3.1", &[(CLOSE, b"")], &["close:1005:"], &["close"]),
        case("7.3.2", &[(CLOSE, b"a")], &[], &["close:1002"]),
        case("7.3.3", &[(CLOSE, &with(1000, ""))], &["close:1000:"], &["close:1000"]),
        case(
            "7.3.4",
            &[(CLOSE, &with(1000, "Hello World!"))],
            &["close:1000:Hello World!"],
            &["close:1000"],
        ),
        case(
            "7.3.5",
            &[(CLOSE, &with(1000, &reason_123))],
            &[&format!("close:1000:{reason_123}")],
            &["close:1000"],
        ),
        case("7.3.6", &[(CLOSE, &with(1000, &"r".repeat(124)))], &[], &["close:1002"]),
        case("7.5.1", &[(CLOSE, b"\x03\xE8\xce\xba\xed\xa0\x80")], &[], &["close:1007"]),
        case("fragmented close", &[(0x08, &with(1000, ""))], &[], &["close:1002"]),
    ];
    for code in [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999] {
        let word = format!("close:{code}");
        cases.push(case("7.7", &[(CLOSE, &with(code, ""))], &[&format!("{word}:")], &[&word]));
    }
    for code in [0, 999, 1004, 1005, 1006, 1014, 1015, 1016, 1100, 2000, 2999, 5000, 65_535] {
        cases.push(case("7.9 and 7.13", &[(CLOSE, &with(code, ""))], &[], &["close:1002"]));
    }
    cases
}

fn limits() -> Vec<Case> {
    let of = |bytes: usize| vec![b'*'; bytes];
    let (whole, beyond, half) = (of(16_384), of(16_385), of(8_192));
    vec![
        case("9.1: 16 KiB", &[(TEXT, &whole)], &["t:16384 bytes"], &[]),
        case("9.1: beyond", &[(TEXT, &beyond), (TEXT, b"x")], &[], &["close:1009"]),
        case("9.2: 16 KiB", &[(BINARY, &whole)], &["b"], &[]),
        case("9.2: beyond", &[(BINARY, &beyond)], &[], &["close:1009"]),
        case("9.3: two halves", &[(TEXT_BEGINS, &half), (ENDS, &half)], &["t:16384 bytes"], &[]),
        case(
            "9.3: beyond",
            &[(TEXT_BEGINS, &half), (GOES_ON, &half), (ENDS, b"*")],
            &[],
            &["close:1009"],
        ),
        case(
            "9.4: beyond",
            &[(BINARY_BEGINS, &half), (GOES_ON, &half), (ENDS, b"*")],
            &[],
            &["close:1009"],
        ),
        // The header is enough: nobody waits for so many bytes.
        raw(
            "9.1: a length of 64 bits",
            b"\x81\xFF\x7F\xFF\xFF\xFF\xFF\xFF\xFF\xFF\0\0\0\0",
            &["close:1009"],
        ),
        raw(
            "a control frame with a length of 64 bits",
            b"\x89\xFF\0\0\0\0\x80\0\0\0\0\0\0\0",
            &["close:1002"],
        ),
    ]
}

#[test]
fn every_case_ends_as_the_suite_says_in_pieces_of_any_length() {
    let all = [framing_pings_and_reserved(), fragments(), texts(), closes(), limits()];
    for case in all.iter().flatten() {
        for piece_bytes in [1, 2, 3, 5, 7, 64, 1_000, usize::MAX] {
            let mut socket = WebSocket::new();
            let (mut out, mut offered) = (Vec::new(), Vec::new());
            for piece in case.sent.chunks(piece_bytes) {
                offered.extend_from_slice(piece);
                let consumed = socket.handle_bytes(&offered, &mut out);
                offered.drain(..consumed);
            }
            let name = format!("{} in pieces of {piece_bytes}", case.name);
            assert_eq!(shown(&out), case.out, "{name}");
            assert_eq!(control(socket.control()), case.control, "{name}");
            assert!(offered.is_empty(), "{name}");
            let closes = case.control.last().is_some_and(|word| word.starts_with("close"));
            assert_eq!(socket.is_closing(), closes, "{name}");
            socket.handle_control_sent(socket.control().len());
            assert_eq!(socket.is_over(), closes, "{name}");
        }
    }
}
