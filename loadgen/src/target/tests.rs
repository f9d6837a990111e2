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
    for chunk in chunks {
        held.extend_from_slice(chunk);
        let taken = target.parse(&held, &mut |event| received.note(event))?;
        held.drain(..taken);
    }
    assert!(held.is_empty(), "{} bytes were left over", held.len());
    Ok(received)
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
    assert_eq!(received.gaps, usize::from(matches!(target, Target::Pregao | Target::Bare)));
    assert_eq!(received.replies.len(), usize::from(target != Target::Redis), "{target:?}");
    assert_eq!(received.refused.len(), 1, "{target:?}");
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
        assert!(target.parse(bytes, &mut |_| {}).is_err(), "{target:?} took {bytes:?}");
    }
}

#[test]
fn a_length_that_lies_only_waits() {
    let held: [(Target, &[u8]); 3] = [
        (Target::Redis, b"*3\r\n$999999999\r\nmessage"),
        (Target::Nats, b"MSG PETR 1 999999999\r\nx"),
        (Target::Mqtt, &[0x30, 0xFF, 0xFF, 0xFF, 0x7F, 1]),
    ];
    for (target, bytes) in held {
        assert_eq!(target.parse(bytes, &mut |_| panic!("{target:?}")), Ok(0));
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
