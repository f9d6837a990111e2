//! Every codec against a sample stream cut at every place, and against nonsense.

use ::pregao::wire::{
    ErrorCode, Flags, Frame, Gap, GapReason, Heartbeat, Refusal, Session, SnapshotEnd, Subscribed,
    Trade, U16, U64,
};
use zerocopy::IntoBytes;

use super::*;

fn trade(seq: u64) -> Frame {
    // A payload full of line ends must not look like the end of a line.
    let noise = u64::from_le_bytes(*b"\r\n\r\n$-*\n");
    Frame::seal(Trade { seq: U64::new(seq), trade_id: U64::new(noise), ..Trade::default() })
}

/// What a subscriber's stream means, with runs of payloads flattened.
#[derive(Debug, Default, PartialEq, Eq)]
struct Received {
    seqs: Vec<u64>,
    confirmed: usize,
    gaps: usize,
    replies: Vec<Vec<u8>>,
    refused: Vec<String>,
}

impl Received {
    fn note(&mut self, event: Event<'_>) {
        match event {
            Event::Frames(frames) => {
                assert!(frames.iter().all(|frame| frame.check().is_ok()));
                self.seqs.extend(frames.iter().map(|frame| frame.seq.get()));
            }
            Event::Confirmed => self.confirmed += 1,
            Event::Gap(_) => self.gaps += 1,
            Event::Reply(bytes) => self.replies.push(bytes.to_vec()),
            Event::Refused(text) => self.refused.push(text),
        }
    }
}

/// Feeds the stream in chunks and keeps what the parser leaves, as a subscriber does.
fn receive<'a>(
    target: Target,
    chunks: impl Iterator<Item = &'a [u8]>,
) -> Result<Received, ProtocolError> {
    let (mut received, mut held) = (Received::default(), Vec::new());
    let mut unwrapping = greeting(target).1;
    for chunk in chunks {
        held.extend_from_slice(chunk);
        let taken = target.parse(&mut unwrapping, &held, &mut |event| received.note(event))?;
        held.drain(..taken);
    }
    assert!(held.is_empty(), "{} bytes were left over", held.len());
    Ok(received)
}

fn greeting(target: Target) -> (Vec<u8>, Unwrapping) {
    target.greet(([127, 0, 0, 1], 1).into(), Interest { source: 1, topics: &[] })
}

/// What a server agrees to a WebSocket with, for the key of the example in RFC 6455.
const AGREED: &[u8] =
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// A message of a server.
fn wrapped(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    match u8::try_from(payload.len()) {
        Ok(short @ 0..=125) => out.push(short),
        _ => {
            out.push(126);
            out.extend_from_slice(&u16::try_from(payload.len()).unwrap().to_be_bytes());
        }
    }
    out.extend_from_slice(payload);
    out
}

/// The bytes of the protocol within in messages of so many bytes, with pings between them.
fn in_messages(payload: &[u8], size: usize) -> Vec<u8> {
    let mut out = AGREED.to_vec();
    for (number, piece) in payload.chunks(size).enumerate() {
        // Whole messages, and one whose end comes as a continuation behind a ping.
        if number == 1 {
            let cut = piece.len() / 128 * 64;
            out.extend(wrapped(0x02, &piece[..cut]));
            out.extend(wrapped(0x89, b"alive?"));
            out.extend(wrapped(0x80, &piece[cut..]));
        } else {
            out.extend(wrapped(0x82, piece));
        }
    }
    out.extend(wrapped(0x8A, b""));
    out
}

fn frames_of(messages: &[Frame]) -> Vec<u8> {
    messages.iter().flat_map(|frame| frame.as_bytes().to_vec()).collect()
}

/// A stream as each target sends it: greetings, three payloads (2, 3, 4) with other things between.
fn sample(target: Target) -> Vec<u8> {
    let raw = |seq| trade(seq).as_bytes().to_vec();
    match target {
        Target::Pregao => frames_of(&[
            Frame::seal(Session::default()),
            Frame::seal(Subscribed::default()),
            trade(1).delivered(Flags::SNAPSHOT),
            Frame::seal(SnapshotEnd::default()),
            trade(2),
            trade(3),
            Frame::seal(Heartbeat { flags: U16::new(Flags::MORE), ..Heartbeat::default() }),
            Frame::seal(Heartbeat::default()),
            Frame::seal(Gap { reason: GapReason::Lapped as u8, ..Gap::default() }),
            trade(4),
            Frame::seal(Refusal::new(ErrorCode::Stopping, 0, "bye")),
        ]),
        Target::Redis => [
            b"*3\r\n$9\r\nsubscribe\r\n$4\r\nPETR\r\n:1\r\n".to_vec(),
            b"*3\r\n$7\r\nmessage\r\n$4\r\nPETR\r\n$64\r\n".to_vec(),
            raw(2),
            b"\r\n:17\r\n*3\r\n$7\r\nmessage\r\n$4\r\nPETR\r\n$64\r\n".to_vec(),
            raw(3),
            b"\r\n*3\r\n$7\r\nmessage\r\n$4\r\nPETR\r\n$64\r\n".to_vec(),
            raw(4),
            b"\r\n-bye\r\n".to_vec(),
        ]
        .concat(),
        Target::Nats => [
            b"INFO {\"server_id\":\"x\"}\r\nPONG\r\nMSG PETR 1 64\r\n".to_vec(),
            raw(2),
            b"\r\nMSG PETR 1 reply.to 64\r\n".to_vec(),
            raw(3),
            b"\r\nPING\r\n+OK\r\nMSG PETR 1 64\r\n".to_vec(),
            raw(4),
            b"\r\n-ERR bye\r\n".to_vec(),
        ]
        .concat(),
        Target::Bare => sample(Target::Pregao),
        // The text that ends the others is no part of frames here: a gateway says it in words.
        Target::PregaoWs => {
            let frames = sample(Target::Pregao);
            let mut out = in_messages(&frames[..frames.len() - 64], 256);
            out.extend(wrapped(0x81, b"{\"kind\":\"subscribed\",\"id\":1}"));
            out.extend(wrapped(0x88, b"\x0f\xa1too slow"));
            out
        }
        Target::NatsWs => in_messages(&sample(Target::Nats), 150),
        Target::Mqtt => {
            let mut out = vec![0x20, 2, 0, 0, 0x90, 3, 0, 1, 0];
            publish_all(target, &[2, 3], &mut out);
            out.extend_from_slice(&[0xC0, 0, 0xD0, 0]);
            publish_all(target, &[4], &mut out);
            out.extend_from_slice(&[0x20, 2, 0, 5]);
            out
        }
    }
}

fn publish_all(target: Target, seqs: &[u64], out: &mut Vec<u8>) {
    for &seq in seqs {
        target.publish("PETR", &trade(seq), out);
    }
}

fn check(target: Target, received: &Received) {
    assert_eq!(received.seqs, [2, 3, 4], "{target:?}");
    let interest = Interest { source: 2, topics: &[] };
    assert_eq!(received.confirmed, target.confirmations(interest), "{target:?}");
    let is_ours = matches!(target, Target::Pregao | Target::Bare | Target::PregaoWs);
    assert_eq!(received.gaps, usize::from(is_ours));
    let replies: Vec<&[u8]> = received.replies.iter().map(Vec::as_slice).collect();
    let pong = websocket::message(0xA, b"alive?");
    match target {
        Target::Redis => assert!(replies.is_empty()),
        Target::PregaoWs => assert_eq!(replies, [&own_hello(target)[..], &pong]),
        Target::NatsWs => {
            let within = websocket::message(2, b"PONG\r\n");
            // The ping of NATS stands in the piece before the ping of the WebSocket.
            assert_eq!(replies, [&own_hello(target)[..], &within, &pong]);
        }
        _ => assert_eq!(replies.len(), 1, "{target:?}"),
    }
    assert_eq!(received.refused.len(), 1, "{target:?}");
}

fn own_hello(target: Target) -> Vec<u8> {
    target.hello_subscriber(Interest { source: 1, topics: &[] })
}

#[test]
fn a_message_cut_anywhere_is_whole_when_its_rest_arrives() {
    for target in Target::ALL {
        let stream = sample(target);
        for first in 0..=stream.len() {
            for second in [first, first + 1, first + 7, stream.len()] {
                let second = second.min(stream.len());
                let chunks = [&stream[..first], &stream[first..second], &stream[second..]];
                check(target, &receive(target, chunks.into_iter()).unwrap());
            }
        }
    }
}

#[test]
fn every_size_of_chunk_reads_the_same() {
    for target in Target::ALL {
        let stream = sample(target);
        for size in 1..=stream.len() {
            check(target, &receive(target, stream.chunks(size)).unwrap());
        }
    }
}

#[test]
fn nonsense_is_refused_and_never_overruns() {
    let wrong: [(Target, &[u8]); 8] = [
        (Target::Pregao, &[0xEE; 64]),
        (Target::Redis, b"hello\r\n"),
        (Target::Redis, b"*9999999999\r\n"),
        (Target::Redis, b"*3\r\n$x\r\nmessage\r\n"),
        (Target::Nats, b"MSG PETR 1 -5\r\n"),
        (Target::Nats, b"HTTP/1.1 400\r\n"),
        (Target::Mqtt, &[0x30, 0xFF, 0xFF, 0xFF, 0xFF, 0x01]),
        (Target::Mqtt, &[0x30, 3, 0xFF, 0xFF, 0]),
    ];
    for (target, bytes) in wrong {
        let parsed = target.parse(&mut Unwrapping::default(), bytes, &mut |_| {});
        assert!(parsed.is_err(), "{target:?} took {bytes:?}");
    }
    let wrong_frames: [&[u8]; 5] = [
        // Masked; a reserved bit; an opcode of nobody; no run of frames; longer than anything.
        &[0x82, 0x80 | 64, 0, 0, 0, 0],
        &[0xC2, 64],
        &[0x83, 0],
        &[0x82, 65],
        &[0x82, 127, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF],
    ];
    for frame in wrong_frames {
        let stream = [AGREED, frame].concat();
        let parsed = receive(Target::PregaoWs, [&stream[..]].into_iter());
        assert!(parsed.is_err(), "{frame:?}: {parsed:?}");
    }
    let unproved = String::from_utf8(AGREED.to_vec()).unwrap().replace("s3p", "S3P");
    assert!(receive(Target::NatsWs, [unproved.as_bytes()].into_iter()).is_err());
}

#[test]
fn a_server_that_does_not_agree_is_told_of() {
    let said = b"HTTP/1.1 403 Forbidden\r\n\r\n";
    let received = receive(Target::PregaoWs, [&said[..]].into_iter()).unwrap();
    assert_eq!(received.refused, ["HTTP/1.1 403 Forbidden"]);
    let error = wrapped(0x81, b"{\"kind\":\"error\",\"id\":1,\"text\":\"no\"}");
    let stream = [AGREED, &error].concat();
    let received = receive(Target::PregaoWs, [&stream[..]].into_iter()).unwrap();
    assert!(received.refused[0].contains("\"text\":\"no\""));
}

#[test]
fn what_we_say_is_masked_whatever_its_length() {
    for (length, head) in [(0, 6), (125, 6), (126, 8), (65_535, 8), (65_536, 14)] {
        let payload = vec![7; length];
        let said = websocket::message(1, &payload);
        assert_eq!((said.len(), said[0], said[1] & 0x80), (head + length, 0x81, 0x80));
        let mask = &said[head - 4..head];
        let heard = said[head..].iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask);
        assert!(heard.eq(payload));
    }
}

#[test]
fn a_long_message_is_handed_on_before_its_end_has_come() {
    let frames: Vec<Frame> = (1..=100).map(trade).collect();
    let stream = [AGREED, &wrapped(0x82, frames.as_bytes())].concat();
    let (mut unwrapping, mut seen) = (greeting(Target::PregaoWs).1, 0);
    let mut on = |event: Event<'_>| {
        if let Event::Frames(frames) = event {
            seen += frames.len();
        }
    };
    let cut = AGREED.len() + 4 + 64 * 50 + 10;
    let taken = Target::PregaoWs.parse(&mut unwrapping, &stream[..cut], &mut on).unwrap();
    assert_eq!(taken, cut - 10, "a half frame comes again");
    Target::PregaoWs.parse(&mut unwrapping, &stream[taken..], &mut on).unwrap();
    assert_eq!(seen, 100);
}

#[test]
fn a_length_that_lies_only_waits() {
    let held: [(Target, &[u8]); 3] = [
        (Target::Redis, b"*3\r\n$999999999\r\nmessage"),
        (Target::Nats, b"MSG PETR 1 999999999\r\nx"),
        (Target::Mqtt, &[0x30, 0xFF, 0xFF, 0xFF, 0x7F, 1]),
    ];
    for (target, bytes) in held {
        let mut unwrapping = Unwrapping::default();
        let parsed = target.parse(&mut unwrapping, bytes, &mut |_| panic!("{target:?}"));
        assert_eq!(parsed, Ok(0));
    }
}

#[test]
fn mqtt_lengths_are_as_in_the_standards_table() {
    for (length, bytes) in
        [(0, vec![0]), (127, vec![0x7F]), (128, vec![0x80, 1]), (16_384, vec![0x80, 0x80, 1])]
    {
        let mut out = Vec::new();
        super::mqtt::length(length, &mut out);
        assert_eq!(out, bytes);
    }
}
