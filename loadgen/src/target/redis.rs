//! Redis: RESP2 arrays, as <https://redis.io/docs/latest/develop/reference/protocol-spec/> has them.

use pregao::wire::{FRAME_BYTES, Frame};
use zerocopy::IntoBytes;

use super::{Event, FULL_FEED, Interest, ProtocolError, line, number, payload};

const PROTOCOL: &str = "Redis";

fn bulk(text: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(format!("${}\r\n", text.len()).as_bytes());
    out.extend_from_slice(text);
    out.extend_from_slice(b"\r\n");
}

pub(super) fn hello_subscriber(interest: Interest<'_>) -> Vec<u8> {
    let everything = [FULL_FEED.to_owned()];
    let topics = if interest.topics.is_empty() { &everything } else { interest.topics };
    let mut out = format!("*{}\r\n", topics.len() + 1).into_bytes();
    bulk(b"SUBSCRIBE", &mut out);
    for topic in topics {
        bulk(topic.as_bytes(), &mut out);
    }
    out
}

pub(super) fn hello_publisher() -> Vec<u8> {
    let mut out = b"*1\r\n".to_vec();
    bulk(b"PING", &mut out);
    out
}

pub(super) fn publish(topic: &str, frame: &Frame, out: &mut Vec<u8>) {
    const HEAD: &[u8] = b"*3\r\n$7\r\nPUBLISH\r\n";
    out.extend_from_slice(HEAD);
    bulk(topic.as_bytes(), out);
    const { assert!(FRAME_BYTES == 64) };
    out.extend_from_slice(b"$64\r\n");
    out.extend_from_slice(frame.as_bytes());
    out.extend_from_slice(b"\r\n");
}

pub(super) fn parse(bytes: &[u8], on: &mut impl FnMut(Event<'_>)) -> Result<usize, ProtocolError> {
    let mut done = 0;
    while let Some(next) = value(bytes, done, on)? {
        done = next;
    }
    Ok(done)
}

/// Reads one reply that starts at `from`; where it ends, or `None` when it is not all there.
fn value(
    bytes: &[u8],
    from: usize,
    on: &mut impl FnMut(Event<'_>),
) -> Result<Option<usize>, ProtocolError> {
    let wrong = |what| ProtocolError { protocol: PROTOCOL, what };
    let Some((text, next)) = line(bytes, from) else { return Ok(None) };
    match text.split_first() {
        Some((b'*', count)) => {
            if number(count) != Some(3) {
                return Err(wrong("a push of other than three parts"));
            }
            message(bytes, next, on)
        }
        // The count of receivers that answers PUBLISH.
        Some((b':', _)) => Ok(Some(next)),
        Some((b'+', _)) => {
            on(Event::Confirmed);
            Ok(Some(next))
        }
        Some((b'-', text)) => {
            on(Event::Refused(String::from_utf8_lossy(text).into_owned()));
            Ok(Some(next))
        }
        _ => Err(wrong("an unknown type of reply")),
    }
}

/// The three parts of a push: `message`, topic, payload, or `subscribe`, topic, count.
fn message(
    bytes: &[u8],
    from: usize,
    on: &mut impl FnMut(Event<'_>),
) -> Result<Option<usize>, ProtocolError> {
    let Some((kind, next)) = string(bytes, from)? else { return Ok(None) };
    let Some((_, next)) = string(bytes, next)? else { return Ok(None) };
    if kind == b"message" {
        let Some((content, next)) = string(bytes, next)? else { return Ok(None) };
        payload(content, on);
        return Ok(Some(next));
    }
    let Some((_, next)) = line(bytes, next) else { return Ok(None) };
    on(Event::Confirmed);
    Ok(Some(next))
}

/// A bulk string and where it ends.
fn string(bytes: &[u8], from: usize) -> Result<Option<(&[u8], usize)>, ProtocolError> {
    let Some((head, start)) = line(bytes, from) else { return Ok(None) };
    let wrong = ProtocolError { protocol: PROTOCOL, what: "a part that is no bulk string" };
    let length = head.strip_prefix(b"$").and_then(number).ok_or(wrong)?;
    let end = start + length;
    if bytes.len() < end + 2 {
        return Ok(None);
    }
    Ok(Some((&bytes[start..end], end + 2)))
}
