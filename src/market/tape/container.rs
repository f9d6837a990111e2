//! What a tape comes in: compressed by zstd or gzip or as it is, and never more than its bound. What is known to be
//! something else is named.

use std::fmt;
use std::io::{self, BufRead, BufReader, Cursor, Read};

use ::dbn::Compression;
use ::dbn::decode::DynReader;
use flate2::bufread::{GzDecoder, MultiGzDecoder};

use super::TapeError;
use crate::planted::{Bug, is_planted};

/// How much of a tape its format is recognized by.
pub(super) const HEAD_BYTES: usize = 64;

/// The first bytes of a zstd frame (RFC 8878, section 3.1.1).
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xB5, 0x2F, 0xFD];

/// The first bytes of a skippable zstd frame but for the lowest four bits of the first one (section 3.1.2). Some
/// compressors begin with one.
const ZSTD_SKIPPABLE_MAGIC: [u8; 4] = [0x50, 0x2A, 0x4D, 0x18];

/// The first bytes of a gzip member (RFC 1952, section 2.3.1).
const GZIP_MAGIC: [u8; 2] = [0x1F, 0x8B];

/// First bytes of what cannot be read, and what to do.
const KNOWN: [(&[u8], &str); 7] = [
    (b"PK\x03\x04", "a zip archive; unpack it"),
    (b"BZh", "compressed by bzip2; unpack it"),
    (b"\xFD7zXZ\0", "compressed by xz; unpack it"),
    (b"7z\xBC\xAF\x27\x1C", "a 7z archive; unpack it"),
    (b"PAR1", "a Parquet file; export it with --format csv"),
    (b"\xFF\xFE", "text in UTF-16; convert it to UTF-8"),
    (b"\xFE\xFF", "text in UTF-16; convert it to UTF-8"),
];

/// What a file that is no tape is known to be.
pub(super) fn known(head: &[u8]) -> Option<&'static str> {
    let found = KNOWN.iter().find(|(magic, _)| head.starts_with(magic));
    let is_utf16 = || {
        let (letters, zeros) = (head.iter().step_by(2), head.iter().skip(1).step_by(2));
        let is_text = |byte: &u8| byte.is_ascii_graphic() || *byte == b' ';
        head.len() >= 8 && letters.clone().all(is_text) && zeros.clone().all(|byte| *byte == 0)
    };
    found.map(|(_, what)| *what).or_else(|| is_utf16().then_some(KNOWN[5].1))
}

/// The bytes of a tape, whatever they are compressed by.
enum Inside<'a, R: BufRead> {
    Plain(R),
    Zstd(DynReader<'a, R>),
    Gzip(MultiGzDecoder<R>),
    /// A planted bug.
    GzipMember(GzDecoder<R>),
}

impl<R: BufRead> Read for Inside<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Inside::Plain(reader) => reader.read(buffer),
            Inside::Zstd(reader) => reader.read(buffer),
            Inside::Gzip(reader) => reader.read(buffer),
            Inside::GzipMember(reader) => reader.read(buffer),
        }
    }
}

/// The bytes inside, whatever they are compressed by, and the first of them.
///
/// # Errors
/// When they cannot be read.
pub fn unpacked(reader: impl BufRead) -> Result<(Vec<u8>, impl BufRead), TapeError> {
    let (head, reader) = peek(reader)?;
    let is_skippable = head.first().is_some_and(|first| first & 0xF0 == ZSTD_SKIPPABLE_MAGIC[0])
        && head.get(1..4) == Some(&ZSTD_SKIPPABLE_MAGIC[1..]);
    let inside = if head.starts_with(&ZSTD_MAGIC) || is_skippable {
        let inside = DynReader::with_buffer(reader, Compression::Zstd);
        Inside::Zstd(inside.map_err(|error| TapeError::Metadata(error.to_string()))?)
    } else if head.starts_with(&GZIP_MAGIC) && is_planted(Bug::FirstMemberOnly) {
        Inside::GzipMember(GzDecoder::new(reader))
    } else if head.starts_with(&GZIP_MAGIC) {
        Inside::Gzip(MultiGzDecoder::new(reader))
    } else {
        Inside::Plain(reader)
    };
    peek(BufReader::new(inside))
}

/// The first bytes of a reader, and the reader as if nobody had looked.
fn peek<R: BufRead>(mut reader: R) -> Result<(Vec<u8>, impl BufRead), TapeError> {
    let mut head = Vec::with_capacity(HEAD_BYTES);
    let limit = HEAD_BYTES as u64;
    reader.by_ref().take(limit).read_to_end(&mut head).map_err(|source| read_error(0, source))?;
    Ok((head.clone(), Cursor::new(head).chain(reader)))
}

/// Names the bound when that is what stopped the reader, and the place when the input ended early
/// (the decompressors say so themselves).
pub(super) fn read_error(records: u64, source: io::Error) -> TapeError {
    if source.get_ref().is_some_and(|inner| inner.is::<OverBound>()) {
        TapeError::TooManyBytes
    } else if source.kind() == io::ErrorKind::UnexpectedEof {
        TapeError::Truncated { record: records.saturating_add(1) }
    } else {
        TapeError::Read { records, source }
    }
}

/// The beginning of a file for an error message.
pub(super) struct Head<'a>(pub(super) &'a [u8]);

impl fmt::Display for Head<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("nothing at all");
        }
        write!(f, "\"{}\"", self.0[..self.0.len().min(16)].escape_ascii())
    }
}

/// A reader that fails, instead of ending, once it gave more than its bound.
pub(super) struct Bounded<R> {
    pub(super) reader: R,
    pub(super) left: u64,
}

#[derive(Debug, thiserror::Error)]
#[error("too many bytes")]
struct OverBound;

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        self.left = self
            .left
            .checked_sub(count as u64)
            .ok_or_else(|| io::Error::new(io::ErrorKind::FileTooLarge, OverBound))?;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::write::GzEncoder;

    use super::super::{Reading, Tape, b3};
    use super::*;
    use crate::limits::TAPE_BYTES_MAX;

    const ESU4: &[u8] = include_bytes!("../../../tests/data/esu4-2024-07-01.mbp-1.dbn.zst");

    fn plain() -> Vec<u8> {
        let mut plain = Vec::new();
        let mut inside = DynReader::with_buffer(ESU4, Compression::Zstd).unwrap();
        inside.read_to_end(&mut plain).unwrap();
        plain
    }

    fn read(bytes: &[u8]) -> Result<Tape, TapeError> {
        Tape::read(bytes, &Reading::default())
    }

    #[test]
    fn other_files_are_named_by_their_first_bytes() {
        for (bytes, begins) in [
            (&b""[..], "nothing at all"),
            (b"\x7fELF\x02", "\"\\x7fELF\\x02\""),
            (b"DB", "\"DB\""),
            (b"Date;Price\n", "\"Date;Price\\n\""),
        ] {
            let said = read(bytes).unwrap_err().to_string();
            let want = format!("not a tape: it begins with {begins};");
            assert!(said.starts_with(&want), "{said}");
        }
        for (bytes, what) in [
            (&b"PK\x03\x04\x14\0\0\0"[..], "a zip archive; unpack it"),
            (b"\xFF\xFED\0a\0", "text in UTF-16"),
            (b"D\0a\0t\0a\0R\0e\0", "text in UTF-16"),
            (b"\xFD7zXZ\0\0", "compressed by xz"),
        ] {
            let said = read(bytes).unwrap_err().to_string();
            assert!(said.starts_with("the tape is ") && said.contains(what), "{said}");
        }
    }

    #[test]
    fn zstd_around_something_else_is_no_tape() {
        // A raw zstd frame of the text "hello": header, one raw last block.
        let frame = b"\x28\xB5\x2F\xFD\x20\x05\x29\x00\x00hello";
        let said = read(&frame[..]).unwrap_err().to_string();
        assert!(said.contains("\"hello\""), "{said}");
    }

    #[test]
    fn gzip_and_skippable_frames_are_looked_into() {
        let whole = read(ESU4).unwrap();
        let mut packed = GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(&plain()).unwrap();
        assert_eq!(read(&packed.finish().unwrap()).unwrap().events, whole.events);
        for skippable in 0x50..=0x5F {
            let mut bytes = vec![skippable, 0x2A, 0x4D, 0x18, 3, 0, 0, 0, 1, 2, 3];
            bytes.extend_from_slice(ESU4);
            assert_eq!(read(&bytes).unwrap().events, whole.events);
        }
    }

    #[test]
    fn a_reader_of_single_bytes_reads_the_same_tape() {
        let whole = read(ESU4).unwrap();
        let dripping =
            |bytes| Tape::read(BufReader::with_capacity(1, bytes), &Reading::default()).unwrap();
        assert_eq!(dripping(ESU4).events, whole.events);
        // Uncompressed, too, where the metadata arrives in pieces.
        assert_eq!(dripping(&plain()).events, whole.events);
    }

    #[test]
    fn an_endless_tape_ends_with_the_bound() {
        let mut endless = Bounded { reader: io::repeat(b'7'), left: 1_000 };
        let error = io::copy(&mut endless, &mut io::sink()).unwrap_err();
        assert!(matches!(read_error(3, error), TapeError::TooManyBytes));
        // One line without an end fills no more memory than the bound either.
        let header = "DataReferencia;CodigoInstrumento;AcaoAtualizacao;PrecoNegocio;";
        let text = header.as_bytes().chain(io::repeat(b'7').take(5_000));
        let bounded = Bounded { reader: text, left: 1_000 };
        let read = b3::read(bounded, &Reading::default());
        assert!(matches!(read, Err(TapeError::TooManyBytes)));
        const { assert!(TAPE_BYTES_MAX > 1 << 30) };
    }
}
