//! Frames of WebSocket clients, almost right: no bytes panic, nothing grows, what is kept back is less than one
//! control frame, and nothing depends on how the bytes were cut.

use pregao::http::{Incoming, WebSocket};
use pregao::limits::{WEBSOCKET_CONTROL_BYTES_MAX, WEBSOCKET_MESSAGE_BYTES_MAX};
use pregao::random::Random;

use crate::mutate::{below, cases, mutate, pick};

/// A frame whose parts are right more often than not.
fn frame(random: &mut Random) -> Vec<u8> {
    let often = [0x81, 0x81, 0x01, 0x00, 0x00, 0x80, 0x82, 0x02, 0x89, 0x8A];
    let first = match random.below(40) {
        0 => random.next_u64() as u8,
        1 => 0x88,
        _ => *pick(random, &often),
    };
    let lengths = [0, 1, 2, 60, 125, 126, 300, 9_000, WEBSOCKET_MESSAGE_BYTES_MAX + 1];
    let mut len = *pick(random, &lengths);
    if first & 8 != 0 {
        len = len.min(125 + usize::from(random.below(20) == 0));
    }
    let masked = if random.below(60) == 0 { 0 } else { 0x80 };
    let mut bytes = vec![first];
    match len {
        0..=125 => bytes.push(masked | len as u8),
        _ => {
            bytes.push(masked | 126);
            bytes.extend_from_slice(&(len as u16).to_be_bytes());
        }
    }
    let mask = if masked == 0 { [0; 4] } else { (random.next_u64() as u32).to_le_bytes() };
    if masked != 0 {
        bytes.extend_from_slice(&mask);
    }
    let text =
        pick::<&str>(random, &["{\"subscribe\":1}", "é", "\u{3E8}x", "\u{10FFFF}"]).repeat(len);
    let payload = text.as_bytes()[..len].iter().zip(mask.iter().cycle());
    bytes.extend(payload.map(|(byte, mask)| byte ^ mask));
    bytes
}

type Outcome = (Vec<Incoming>, Vec<u8>, bool, Vec<u8>);

fn read(bytes: &[u8], mut piece_bytes: impl FnMut() -> usize) -> Outcome {
    let mut socket = WebSocket::new();
    let (mut out, mut offered) = (Vec::new(), Vec::new());
    let mut rest = bytes;
    while !rest.is_empty() {
        let (piece, behind) = rest.split_at(piece_bytes().clamp(1, rest.len()));
        rest = behind;
        offered.extend_from_slice(piece);
        let consumed = socket.handle_bytes(&offered, &mut out);
        offered.drain(..consumed);
        assert!(offered.len() < WebSocket::OFFERED_BYTES_MAX, "{} bytes wait", offered.len());
        assert!(socket.control().len() <= WEBSOCKET_CONTROL_BYTES_MAX + 127);
    }
    (out, socket.control().to_vec(), socket.is_closing(), offered)
}

#[test]
fn no_frame_panics_and_no_cut_changes_what_is_read() {
    cases(3_000, |random| {
        let mut bytes: Vec<u8> = (0..=below(random, 12)).flat_map(|_| frame(random)).collect();
        if random.below(3) == 0 {
            mutate(random, &mut bytes);
        }
        let whole = read(&bytes, || usize::MAX);
        for message in &whole.0 {
            if let Incoming::Text(text) = message {
                assert!(text.len() <= WEBSOCKET_MESSAGE_BYTES_MAX);
            }
        }
        let largest = *pick(random, &[1, 3, 20, 2_000]);
        assert_eq!(read(&bytes, || 1 + below(random, largest)), whole);
    });
}

/// Any calls in any order: frames of the server stay whole, and nothing follows a close frame.
#[test]
fn no_order_of_calls_breaks_a_frame() {
    cases(3_000, |random| {
        let mut socket = WebSocket::new();
        let (mut out, mut sent) = (Vec::new(), Vec::new());
        for _ in 0..60 {
            match random.below(8) {
                0..=3 => {
                    socket.handle_bytes(&frame(random), &mut out);
                }
                4 => socket.ping(),
                5 if random.below(10) == 0 => socket.close(1013, &"é".repeat(below(random, 90))),
                _ => {
                    let bytes = below(random, socket.control().len() + 1);
                    sent.extend_from_slice(&socket.control()[..bytes]);
                    socket.handle_control_sent(bytes);
                }
            }
        }
        sent.extend_from_slice(socket.control());
        let mut rest = &sent[..];
        while let [first, len, behind @ ..] = rest {
            assert!(matches!(first, 0x88..=0x8A) && *len <= 125, "{first:x} {len}");
            rest = &behind[usize::from(*len)..];
            assert!(*first != 0x88 || rest.is_empty());
        }
        assert!(rest.is_empty());
        socket.handle_control_sent(usize::MAX);
        assert!(socket.control().is_empty());
    });
}
