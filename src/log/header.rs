//! The header page of a segment: what the file is, whose, and where its records stand in the log.
//!
//! It is written once, before the file gets its name, and never again. So a header that does not
//! check is never the trace of a crash: it is rot, or another format.

use std::ops::Range;

use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::limits::{SEGMENT_RECORDS_MAX, SEGMENT_RECORDS_MIN};
use crate::wire::{FRAME_BYTES, U32, U64};

/// Bytes before the first record of a segment.
pub const HEADER_BYTES: usize = 4096;

/// The version of FORMAT.md. Earlier ones hold frames of version 1 of the protocol and are converted: see
/// [`super::convert`].
pub const FORMAT_VERSION: u32 = 5;

/// From this version on a log's directory says which segments the retention has removed.
pub(super) const STATES_REMOVAL: u32 = 4;

const MAGIC: [u8; 8] = *b"PREGAOLG";
const ENDIANNESS: u32 = 0x0102_0304;

/// Why a file is not a segment of this log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum HeaderFault {
    #[error("it is shorter than a header")]
    Short,
    #[error("it is not a pregao log segment")]
    Magic,
    #[error("it has format version {0}, and this program knows versions up to {FORMAT_VERSION}")]
    Version(u32),
    #[error(
        "it has format version {0}, and this program reads version {FORMAT_VERSION}: `pregao convert OLD NEW` \
         writes the data directory again"
    )]
    Older(u32),
    #[error(
        "it has format version {FORMAT_VERSION}, which is this program's own: there is nothing to convert"
    )]
    Current,
    #[error("it was written on a machine of the other byte order")]
    Endianness,
    #[error("its header is damaged")]
    Crc,
    #[error("its records have {0} bytes instead of 64")]
    RecordSize(u32),
    #[error("it belongs to the log {0:?}")]
    Name(String),
    #[error("its file name does not match its segment number {0}")]
    Number(u64),
    #[error("it says it has {0} records")]
    Records(u64),
    #[error("it does not continue the segment before it")]
    Chain,
    #[error("it belongs to another journal, {0:016x}, than the segments before it")]
    Journal(u64),
    #[error("its damage reaches the end of the log, so that nothing says where the log stands")]
    NothingStands,
}

impl HeaderFault {
    /// Whether the segment can be left out: damage, and not somebody else's file.
    pub(crate) fn is_damage(&self) -> bool {
        matches!(self, HeaderFault::Short | HeaderFault::Magic | HeaderFault::Crc)
    }
}

/// The first 128 bytes of the header page; the rest is zero.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct Header {
    magic: [u8; 8],
    version: U32,
    endianness: U32,
    record_bytes: U32,
    header_bytes: U32,
    name: [u8; 16],
    segment: U64,
    previous: U64,
    base_position: U64,
    records: U64,
    created_at: U64,
    journal_id: U64,
    reserved: [u8; 36],
    crc: U32,
}

const _: () = {
    use std::mem::offset_of;
    assert!(size_of::<Header>() == 128);
    assert!(offset_of!(Header, name) == 24);
    assert!(offset_of!(Header, segment) == 40);
    assert!(offset_of!(Header, base_position) == 56);
    assert!(offset_of!(Header, records) == 64);
    assert!(offset_of!(Header, journal_id) == 80);
    assert!(offset_of!(Header, crc) == 124);
};

impl Header {
    /// The header of segment number `segment`, which begins at `base_position`, of the log with this name and
    /// identity.
    pub(super) fn new(
        (name, journal_id): ([u8; 16], u64),
        segment: u64,
        base_position: u64,
        records: u64,
        created_at: u64,
    ) -> Header {
        let mut header = Header {
            magic: MAGIC,
            version: U32::new(FORMAT_VERSION),
            endianness: U32::new(ENDIANNESS),
            record_bytes: U32::new(64),
            header_bytes: U32::new(4096),
            name,
            segment: U64::new(segment),
            previous: U64::new(segment.saturating_sub(1)),
            base_position: U64::new(base_position),
            records: U64::new(records),
            created_at: U64::new(created_at),
            journal_id: U64::new(journal_id),
            reserved: [0; 36],
            crc: U32::ZERO,
        };
        header.crc = U32::new(header.computed_crc());
        header
    }

    /// The header page as it stands in the file.
    pub(super) fn page(&self) -> [u8; HEADER_BYTES] {
        let mut page = [0; HEADER_BYTES];
        page[..size_of::<Header>()].copy_from_slice(self.as_bytes());
        page
    }

    /// Reads and checks the header of segment number `segment` of the log `name`.
    pub(super) fn read(page: &[u8], name: [u8; 16], segment: u64) -> Result<Header, HeaderFault> {
        Header::read_of(page, name, segment, FORMAT_VERSION..FORMAT_VERSION + 1)
    }

    /// The same of a header of one of these versions.
    pub(super) fn read_of(
        page: &[u8],
        name: [u8; 16],
        segment: u64,
        versions: Range<u32>,
    ) -> Result<Header, HeaderFault> {
        if page.len() < HEADER_BYTES {
            return Err(HeaderFault::Short);
        }
        let mut header = Header::new_zeroed();
        header.as_mut_bytes().copy_from_slice(&page[..size_of::<Header>()]);
        if header.magic != MAGIC {
            return Err(HeaderFault::Magic);
        }
        // Before the CRC: another version may keep its CRC elsewhere, and must be refused by name.
        let version = header.version.get();
        if !(1..=FORMAT_VERSION).contains(&version) {
            return Err(HeaderFault::Version(version));
        }
        // All known versions have it in one place. So one bit of rot makes no header one of another version.
        if header.crc.get() != header.computed_crc() {
            return Err(HeaderFault::Crc);
        }
        if !versions.contains(&version) {
            let is_older = version < FORMAT_VERSION;
            return Err(if is_older { HeaderFault::Older(version) } else { HeaderFault::Current });
        }
        if header.endianness.get() != ENDIANNESS {
            return Err(HeaderFault::Endianness);
        }
        if header.record_bytes.get() != 64 || header.header_bytes.get() != 4096 {
            return Err(HeaderFault::RecordSize(header.record_bytes.get()));
        }
        if header.name != name {
            let text = String::from_utf8_lossy(&header.name);
            return Err(HeaderFault::Name(text.trim_end_matches('\0').to_owned()));
        }
        if header.segment.get() != segment || header.previous.get() != segment.saturating_sub(1) {
            return Err(HeaderFault::Number(header.segment.get()));
        }
        let records = header.records.get();
        if !(SEGMENT_RECORDS_MIN..=SEGMENT_RECORDS_MAX).contains(&records)
            || header.base_position.get().checked_add(records).is_none()
        {
            return Err(HeaderFault::Records(records));
        }
        Ok(header)
    }

    /// Whose log an intact header says it is of.
    pub(super) fn stated_name(page: &[u8]) -> Option<[u8; 16]> {
        let mut header = Header::new_zeroed();
        header.as_mut_bytes().copy_from_slice(page.get(..size_of::<Header>())?);
        let intact = header.magic == MAGIC && header.crc.get() == header.computed_crc();
        intact.then_some(header.name)
    }

    pub(super) fn version(&self) -> u32 {
        self.version.get()
    }

    /// Says that it is of another version.
    pub(super) fn set_version(&mut self, version: u32) {
        self.version = U32::new(version);
        self.crc = U32::new(self.computed_crc());
    }

    pub(super) fn base_position(&self) -> u64 {
        self.base_position.get()
    }

    /// The identity of the journal; 0 = it says nothing: it is of a shard, or of an older program.
    pub(super) fn journal_id(&self) -> u64 {
        self.journal_id.get()
    }

    pub(super) fn records(&self) -> u64 {
        self.records.get()
    }

    fn computed_crc(&self) -> u32 {
        crc32c::crc32c(&self.as_bytes()[..124])
    }
}

/// Bytes of a whole segment file of so many records.
#[allow(clippy::cast_possible_truncation, reason = "SEGMENT_RECORDS_MAX keeps it below 2^33")]
pub(super) const fn segment_bytes(records: u64) -> usize {
    HEADER_BYTES + records as usize * FRAME_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_of_a_header_is_refused() {
        let page = Header::new((*b"journal\0\0\0\0\0\0\0\0\0", 9), 3, 40, 8, 1).page();
        assert!(Header::read(&page, *b"journal\0\0\0\0\0\0\0\0\0", 3).is_ok());
        for bit in 0..size_of::<Header>() * 8 {
            let mut bad = page;
            bad[bit / 8] ^= 1 << (bit % 8);
            let read = Header::read(&bad, *b"journal\0\0\0\0\0\0\0\0\0", 3);
            assert!(read.is_err(), "bit {bit} was not noticed");
        }
    }

    #[test]
    fn somebody_elses_segment_is_refused_by_its_name() {
        let page = Header::new((*b"shard-A\0\0\0\0\0\0\0\0\0", 0), 1, 0, 8, 1).page();
        let refused = Header::read(&page, *b"shard-B\0\0\0\0\0\0\0\0\0", 1).unwrap_err();
        assert_eq!(refused, HeaderFault::Name("shard-A".to_owned()));
    }
}
