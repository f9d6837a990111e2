//! Keys out of the bytes of a terminal in raw mode. What is not a key that means something here is passed over.

/// A key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    /// A printable ASCII character.
    Char(char),
    /// Arrow up.
    Up,
    /// Arrow down.
    Down,
    /// Arrow left.
    Left,
    /// Arrow right.
    Right,
    /// A screenful up.
    PageUp,
    /// A screenful down.
    PageDown,
    /// To the first.
    Home,
    /// To the last.
    End,
    /// Return.
    Enter,
    /// Tabulator.
    Tab,
    /// Tabulator with shift.
    BackTab,
    /// Backspace or delete.
    Backspace,
    /// Escape alone.
    Escape,
    /// Ctrl-C.
    Interrupt,
    /// Ctrl-L: draw everything anew.
    Redraw,
}

/// The longest sequence of one key; a longer one is none of ours.
const SEQUENCE_BYTES_MAX: usize = 16;

/// Cuts bytes into keys. A sequence may come in several pieces.
#[derive(Debug, Default)]
pub(super) struct Keys {
    begun: Vec<u8>,
}

impl Keys {
    /// Whether an escape waits for what may follow it.
    pub(super) fn is_waiting(&self) -> bool {
        !self.begun.is_empty()
    }

    /// Nothing followed for a while: an escape that stands alone is the key of that name.
    pub(super) fn end_wait(&mut self) -> Option<Key> {
        let is_alone = self.begun == [0x1b];
        self.begun.clear();
        is_alone.then_some(Key::Escape)
    }

    /// The keys that these bytes complete.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Vec<Key> {
        bytes.iter().filter_map(|&byte| self.byte(byte)).collect()
    }

    fn byte(&mut self, byte: u8) -> Option<Key> {
        match (self.begun.as_slice(), byte) {
            ([], 0x1b) => {
                self.begun.push(byte);
                None
            }
            ([], byte) => plain(byte),
            // Two escapes: the first stood alone.
            ([0x1b], 0x1b) => Some(Key::Escape),
            ([0x1b], b'[' | b'O') => {
                self.begun.push(byte);
                None
            }
            // A letter with the key Alt is none of ours.
            ([0x1b], _) => {
                self.begun.clear();
                None
            }
            (_, 0x40..=0x7e) => {
                let key = sequence(&self.begun, byte);
                self.begun.clear();
                key
            }
            _ => {
                self.begun.push(byte);
                if self.begun.len() > SEQUENCE_BYTES_MAX {
                    self.begun.clear();
                }
                None
            }
        }
    }
}

fn plain(byte: u8) -> Option<Key> {
    match byte {
        b'\r' | b'\n' => Some(Key::Enter),
        b'\t' => Some(Key::Tab),
        0x03 => Some(Key::Interrupt),
        0x0c => Some(Key::Redraw),
        0x08 | 0x7f => Some(Key::Backspace),
        b' '..=b'~' => Some(Key::Char(char::from(byte))),
        _ => None,
    }
}

/// What a sequence means: `ESC [ … last`, with a number for some keys.
fn sequence(begun: &[u8], last: u8) -> Option<Key> {
    let number = begun.get(2..).unwrap_or_default();
    // Behind a semicolon stand the keys that were held with it.
    let number = number.split(|byte| *byte == b';').next().unwrap_or_default();
    match (last, number) {
        (b'A', _) => Some(Key::Up),
        (b'B', _) => Some(Key::Down),
        (b'C', _) => Some(Key::Right),
        (b'D', _) => Some(Key::Left),
        (b'H', _) | (b'~', b"1" | b"7") => Some(Key::Home),
        (b'F', _) | (b'~', b"4" | b"8") => Some(Key::End),
        (b'Z', _) => Some(Key::BackTab),
        (b'~', b"3") => Some(Key::Backspace),
        (b'~', b"5") => Some(Key::PageUp),
        (b'~', b"6") => Some(Key::PageDown),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn keys(pieces: &[&[u8]]) -> Vec<Key> {
        let mut keys = Keys::default();
        let mut all: Vec<Key> = pieces.iter().flat_map(|piece| keys.take(piece)).collect();
        all.extend(keys.end_wait());
        all
    }

    #[test]
    fn a_sequence_is_one_key_however_it_is_cut() {
        let bytes =
            b"q\x1b[A\x1b[B\x1bOC\x1b[1;5D\x1b[5~\x1b[6~\x1b[H\x1b[4~\x1b[Z\r\t\x7f\x03\x0c";
        let want = [
            Key::Char('q'),
            Key::Up,
            Key::Down,
            Key::Right,
            Key::Left,
            Key::PageUp,
            Key::PageDown,
            Key::Home,
            Key::End,
            Key::BackTab,
            Key::Enter,
            Key::Tab,
            Key::Backspace,
            Key::Interrupt,
            Key::Redraw,
        ];
        assert_eq!(keys(&[bytes]), want);
        for at in 0..bytes.len() {
            assert_eq!(keys(&[&bytes[..at], &bytes[at..]]), want, "cut at {at}");
        }
    }

    #[test]
    fn an_escape_that_nothing_follows_is_the_key() {
        assert_eq!(keys(&[b"\x1b"]), [Key::Escape]);
        assert_eq!(keys(&[b"\x1b\x1b"]), [Key::Escape, Key::Escape]);
        assert_eq!(keys(&[b"\x1bx", b"\x1b["]), [], "Alt and x, and a sequence without an end");
        assert_eq!(keys(&["é\x1b[200~".as_bytes()]), []);
    }

    proptest! {
        #[test]
        fn any_bytes_end(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut keys = Keys::default();
            prop_assert!(keys.take(&bytes).len() <= bytes.len());
            prop_assert!(keys.begun.len() <= SEQUENCE_BYTES_MAX);
        }
    }
}
