//! MQTT 3.1.1 at QoS 0: the OASIS standard of 2014, sections 2.2 (fixed header), 3.1 to 3.3, 3.8, 3.9.

use pregao::wire::Frame;
use zerocopy::IntoBytes;

use super::{Event, FULL_FEED, Interest, ProtocolError, payload};

/// Packet types, shifted to where they stand, with the flags that the standard fixes.
const CONNECT: u8 = 0x10;
const CONNACK: u8 = 0x20;
const PUBLISH: u8 = 0x30;
const SUBSCRIBE: u8 = 0x82;
const SUBACK: u8 = 0x90;
const PINGREQ: u8 = 0xC0;
const PINGRESP: u8 = 0xD0;

/// Appends a packet: type, length, content.
fn packet(kind: u8, content: &[u8], out: &mut Vec<u8>) {
    out.push(kind);
    length(content.len(), out);
    out.extend_from_slice(content);
}

/// Section 2.2.3: seven bits a byte, the lowest first.
#[allow(clippy::cast_possible_truncation, reason = "masked to seven bits")]
pub(super) fn length(mut rest: usize, out: &mut Vec<u8>) {
    while rest > 0x7F {
        out.push((rest & 0x7F) as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

fn string(text: &str, out: &mut Vec<u8>) {
    let bytes = u16::try_from(text.len()).unwrap_or(u16::MAX);
    out.extend_from_slice(&bytes.to_be_bytes());
    out.extend_from_slice(&text.as_bytes()[..usize::from(bytes)]);
}

pub(super) fn hello_publisher() -> Vec<u8> {
    let mut content = Vec::new();
    string("MQTT", &mut content);
    // Level 4, clean session, no keep-alive, and an empty client id: the broker chooses one.
    content.extend_from_slice(&[4, 2, 0, 0]);
    string("", &mut content);
    let mut out = Vec::new();
    packet(CONNECT, &content, &mut out);
    out
}

pub(super) fn hello_subscriber(interest: Interest<'_>) -> Vec<u8> {
    let everything = [FULL_FEED.to_owned()];
    let topics = if interest.topics.is_empty() { &everything } else { interest.topics };
    let mut content = vec![0, 1];
    for topic in topics {
        string(topic, &mut content);
        content.push(0);
    }
    let mut out = hello_publisher();
    packet(SUBSCRIBE, &content, &mut out);
    out
}

pub(super) fn publish(topic: &str, frame: &Frame, out: &mut Vec<u8>) {
    out.push(PUBLISH);
    length(2 + topic.len() + frame.as_bytes().len(), out);
    string(topic, out);
    out.extend_from_slice(frame.as_bytes());
}

pub(super) fn parse(bytes: &[u8], on: &mut impl FnMut(Event<'_>)) -> Result<usize, ProtocolError> {
    let wrong = |what| ProtocolError { protocol: "MQTT", what };
    let mut done = 0;
    while let Some((&kind, rest)) = bytes.get(done..).and_then(<[u8]>::split_first) {
        let Some((length, length_bytes)) = read_length(rest)? else { break };
        let start = done + 1 + length_bytes;
        let Some(content) = bytes.get(start..start + length) else { break };
        match kind & 0xF0 {
            PUBLISH => {
                let (head, rest) =
                    content.split_at_checked(2).ok_or(wrong("a message without a topic"))?;
                let topic_bytes = usize::from(head[0]) << 8 | usize::from(head[1]);
                payload(rest.get(topic_bytes..).ok_or(wrong("a topic beyond its message"))?, on);
            }
            CONNACK => match content {
                [_, 0] => on(Event::Confirmed),
                _ => on(Event::Refused("the broker refused CONNECT".to_owned())),
            },
            SUBACK => {
                if content.iter().skip(2).any(|&code| code == 0x80) {
                    on(Event::Refused("the broker refused a topic".to_owned()));
                }
                on(Event::Confirmed);
            }
            PINGREQ => on(Event::Reply(&[PINGRESP, 0])),
            PINGRESP => {}
            _ => return Err(wrong("an unknown packet")),
        }
        done = start + length;
    }
    Ok(done)
}

/// The length field and how many bytes it has; `None` when it is not all there.
fn read_length(bytes: &[u8]) -> Result<Option<(usize, usize)>, ProtocolError> {
    let mut length = 0;
    for (index, &byte) in bytes.iter().enumerate().take(4) {
        length |= usize::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            return Ok(Some((length, index + 1)));
        }
    }
    if bytes.len() < 4 {
        return Ok(None);
    }
    Err(ProtocolError { protocol: "MQTT", what: "a length of more than four bytes" })
}
