//! Messages in any pieces, control frames that wait, and the end.

use proptest::prelude::*;

use super::*;

/// A frame as a client sends it, with a mask that is not zero.
pub(super) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [0x5A, 0x01, 0xFE, 0x33];
    let mut bytes = vec![first];
    match payload.len() {
        len @ 0..=125 => bytes.push(0x80 | u8::try_from(len).unwrap()),
        len @ 126..=0xFFFF => {
            bytes.push(0x80 | 126);
            bytes.extend_from_slice(&u16::try_from(len).unwrap().to_be_bytes());
        }
        len => {
            bytes.push(0x80 | 127);
            bytes.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    bytes.extend_from_slice(&MASK);
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

#[test]
fn a_text_comes_out_and_a_ping_is_answered() {
    let mut socket = WebSocket::new();
    let mut out = Vec::new();
    let mut bytes = frame(0x81, "{\"subscribe\":1}".as_bytes());
    bytes.extend(frame(0x89, b"there?"));
    assert_eq!(socket.handle_bytes(&bytes, &mut out), bytes.len());
    assert_eq!(out, [Incoming::Text("{\"subscribe\":1}".to_owned())]);
    assert_eq!(socket.control(), b"\x8A\x06there?");
    socket.handle_control_sent(8);
    assert!(socket.control().is_empty() && !socket.is_closing());
    socket.close(1013, "come back later");
    assert_eq!(socket.control(), [&b"\x88\x11\x03\xF5"[..], b"come back later"].concat());
    socket.handle_control_sent(19);
    assert!(socket.is_closing() && !socket.is_over());
    socket.handle_bytes(&frame(0x88, &1013_u16.to_be_bytes()), &mut out);
    assert!(socket.is_over());
}

#[test]
fn a_header_has_the_shortest_length_that_fits() {
    for (len, expected) in [
        (0, &[0x82, 0][..]),
        (125, &[0x82, 125]),
        (126, &[0x82, 126, 0, 126]),
        (65_535, &[0x82, 126, 0xFF, 0xFF]),
        (65_536, &[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
    ] {
        assert_eq!(MessageHeader::binary(len).as_bytes(), expected);
        assert_eq!(MessageHeader::text(len).as_bytes()[0], 0x81);
        assert_eq!(MessageHeader::text(len).as_bytes()[1..], expected[1..]);
    }
}

#[test]
fn an_idle_socket_keeps_no_box() {
    let mut socket = WebSocket::new();
    let mut out = Vec::new();
    socket.handle_bytes(&frame(0x01, b"a"), &mut out);
    socket.handle_bytes(&frame(0x80, b"b"), &mut out);
    socket.handle_bytes(&frame(0x89, b""), &mut out);
    socket.ping();
    assert_eq!(socket.control(), [0x8A, 0, 0x89, 0]);
    socket.handle_control_sent(3);
    assert_eq!(socket.control(), [0]);
    socket.handle_control_sent(1);
    assert!(socket.waiting.is_none() && socket.assembling.is_none());
}

/// Whole frames of the server; panics on half of one.
fn frames(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut frames = Vec::new();
    while !bytes.is_empty() {
        let end = 2 + usize::from(bytes[1]);
        frames.push((bytes[0], bytes[2..end].to_vec()));
        bytes = &bytes[end..];
    }
    frames
}

#[test]
fn a_flood_of_pings_is_bounded_and_its_last_one_is_answered() {
    let mut socket = WebSocket::new();
    let mut out = Vec::new();
    let mut sent = Vec::new();
    for number in 0..10_000_u32 {
        let payload = format!("{number:0100}");
        socket.handle_bytes(&frame(0x89, payload.as_bytes()), &mut out);
        assert!(socket.control().len() <= crate::limits::WEBSOCKET_CONTROL_BYTES_MAX);
        // The peer takes a little: a frame that it has begun to read stays whole.
        if number % 10 == 0 {
            let taken = socket.control().len().min(37);
            sent.extend_from_slice(&socket.control()[..taken]);
            socket.handle_control_sent(taken);
        }
    }
    socket.ping();
    socket.close(4001, "too slow");
    sent.extend_from_slice(socket.control());
    let frames = frames(&sent);
    let numbers: Vec<u32> = frames
        .iter()
        .filter(|(first, _)| *first == 0x8A)
        .map(|(_, payload)| std::str::from_utf8(payload).unwrap().parse().unwrap())
        .collect();
    assert!(numbers.is_sorted() && numbers.len() > 20, "{numbers:?}");
    assert_eq!(numbers.last(), Some(&9_999));
    assert_eq!(frames.last(), Some(&(0x88, [&4001_u16.to_be_bytes()[..], b"too slow"].concat())));
}

#[test]
fn after_our_close_only_the_answer_to_it_counts() {
    let mut socket = WebSocket::new();
    let mut out = Vec::new();
    socket.handle_bytes(&frame(0x01, b"half"), &mut out);
    socket.close(1001, &"ã".repeat(100));
    // The reason is cut between two characters.
    let close = [0x88, 2 + 122];
    assert_eq!(socket.control()[..2], close);
    assert!(std::str::from_utf8(&socket.control()[4..]).is_ok());
    socket.close(1008, "again");
    socket.ping();
    for bytes in [frame(0x80, b"."), frame(0x81, b"x"), frame(0x89, b"x"), frame(0x8A, b"x")] {
        assert_eq!(socket.handle_bytes(&bytes, &mut out), bytes.len());
    }
    assert_eq!((out.len(), socket.control().len()), (0, 126));
    assert_eq!(socket.closed_with(), Some(1001));
    socket.handle_control_sent(126);
    assert!(!socket.is_over());
    socket.handle_bytes(&frame(0x88, b"\x03\xE9bye"), &mut out);
    assert_eq!(out, [Incoming::Closed { code: 1001, reason: "bye".to_owned() }]);
    assert!(socket.is_over() && socket.control().is_empty());
    assert_eq!(socket.handle_bytes(b"anything", &mut out), 8);
}

/// What comes out of these bytes in pieces of these lengths, what is answered, whether it ends, and what is left.
fn read(bytes: &[u8], mut cuts: impl FnMut() -> usize) -> (Vec<Incoming>, Vec<u8>, bool, Vec<u8>) {
    let mut socket = WebSocket::new();
    let (mut out, mut offered) = (Vec::new(), Vec::new());
    let mut rest = bytes;
    while !rest.is_empty() {
        let (piece, behind) = rest.split_at(cuts().min(rest.len()));
        rest = behind;
        offered.extend_from_slice(piece);
        let consumed = socket.handle_bytes(&offered, &mut out);
        offered.drain(..consumed);
        assert!(offered.len() < WebSocket::OFFERED_BYTES_MAX);
    }
    (out, socket.control().to_vec(), socket.is_closing(), offered)
}

proptest! {
    #[test]
    fn no_cut_changes_what_comes_out(
        order in prop::collection::vec((0..10_usize, 0..300_usize), 1..8),
        cuts in prop::collection::vec(1..90_usize, 1..20),
    ) {
        let mut bytes = Vec::new();
        for (kind, len) in order {
            let first = [0x81, 0x82, 0x89, 0x8A, 0x01, 0x00, 0x80, 0x02, 0x81, 0x88][kind];
            let len = if matches!(first, 0x88..) { len.min(125) } else { len };
            // Characters of two bytes, so that a piece or a fragment ends within one.
            let text = "é".repeat(len);
            bytes.extend(frame(first, &text.as_bytes()[..len]));
        }
        let whole = read(&bytes, || bytes.len());
        let mut cuts = cuts.iter().cycle().copied();
        prop_assert_eq!(&read(&bytes, || cuts.next().unwrap()), &whole);
        prop_assert_eq!(&read(&bytes, || 1), &whole);
    }
}
