//! NATS core: its text protocol, as <https://docs.nats.io/reference/reference-protocols/nats-protocol>
//! has it.

use std::io::Write;

use pregao::wire::{FRAME_BYTES, Frame};
use zerocopy::IntoBytes;

use super::{Event, FULL_FEED, Interest, ProtocolError, line, number, payload};

const CONNECT: &[u8] =
    b"CONNECT {\"verbose\":false,\"pedantic\":false,\"name\":\"loadgen\",\"lang\":\"rust\",\"version\":\"1\"}\r\n";
const PING: &[u8] = b"PING\r\n";
const PONG: &[u8] = b"PONG\r\n";

pub(super) fn hello_subscriber(interest: Interest<'_>) -> Vec<u8> {
    let everything = [FULL_FEED.to_owned()];
    let topics = if interest.topics.is_empty() { &everything } else { interest.topics };
    let mut out = CONNECT.to_vec();
    for (id, topic) in (1..).zip(topics) {
        out.extend_from_slice(format!("SUB {topic} {id}\r\n", id = id as u32).as_bytes());
    }
    out.extend_from_slice(PING);
    out
}

pub(super) fn hello_publisher() -> Vec<u8> {
    [CONNECT, PING].concat()
}

pub(super) fn publish(topic: &str, frame: &Frame, out: &mut Vec<u8>) {
    // Writing to a vector does not fail.
    drop(write!(out, "PUB {topic} {FRAME_BYTES}\r\n"));
    out.extend_from_slice(frame.as_bytes());
    out.extend_from_slice(b"\r\n");
}

pub(super) fn parse(bytes: &[u8], on: &mut impl FnMut(Event<'_>)) -> Result<usize, ProtocolError> {
    let wrong = |what| ProtocolError { protocol: "NATS", what };
    let mut done = 0;
    while let Some((text, next)) = line(bytes, done) {
        if let Some(head) = text.strip_prefix(b"MSG ") {
            let length = head.rsplit(|&b| b == b' ').next().and_then(number);
            let end = next + length.ok_or(wrong("a message without a length"))?;
            if bytes.len() < end + 2 {
                break;
            }
            payload(&bytes[next..end], on);
            done = end + 2;
            continue;
        }
        match text {
            b"PING" => on(Event::Reply(PONG)),
            b"PONG" => on(Event::Confirmed),
            b"+OK" => {}
            _ if text.starts_with(b"INFO ") => {}
            _ if text.starts_with(b"-ERR") => {
                on(Event::Refused(String::from_utf8_lossy(text).into_owned()));
            }
            _ => return Err(wrong("an unknown line")),
        }
        done = next;
    }
    Ok(done)
}
