//! Messages in any pieces, control frames that wait, and the end.

use super::*;

/// A frame as a client sends it, with a mask that is not zero.
pub(super) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [0x5A, 0x01, 0xFE, 0x33];
    let mut bytes = vec![first];
    match payload.len() {
        len @ 0..=125 => bytes.push(0x80 | len as u8),
        len @ 126..=0xFFFF => {
            bytes.push(0x80 | 126);
            bytes.extend_from_slice(&(len as u16).to_be_bytes());
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
