//! What the log of an earlier program becomes: its headers and records as this format has them. Bytes to bytes; not here:
//! files.
//!
//! Formats 1 to 4 hold frames of version 1 of the protocol. There quantities were whole numbers, and the size at a side of a
//! quote had 32 bits. Every record stays at its position. What does not check stays as it is, so that it is rot, torn or never
//! written to this program too.

use zerocopy::IntoBytes;

use super::header::{FORMAT_VERSION, HEADER_BYTES, Header, HeaderFault, STATES_REMOVAL};
use crate::wire::{FRAME_BYTES, Frame, Kind, Quote, Size, U32, VERSION};

/// The version of the frames in formats 1 to 4.
const FRAME_VERSION: u8 = 1;

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Converted {
    /// It was never written.
    Empty,
    /// It says the same.
    Same,
    /// It is a quote with a size above 268,435,455, of which the first eight digits are left.
    Shortened,
    /// It is a quote with a size that said "4,294,967,295 or more", and says 4,294,967,200 now.
    Saturated,
    /// It does not check, and was left as it is.
    Unreadable,
}

/// Makes a record of formats 1 to 4 one of this format.
///
/// A record with one wrong bit is converted too, and has the same wrong bit then: core can mend it as before.
pub fn convert_record(frame: &mut Frame) -> Converted {
    if *frame == Frame::ZERO {
        return Converted::Empty;
    }
    if is_right(frame) {
        return convert(frame);
    }
    for bit in 0..FRAME_BYTES * 8 {
        let mut mended = *frame;
        flip(&mut mended, bit);
        if is_right(&mended) {
            let _ = convert(&mut mended);
            flip(&mut mended, bit);
            *frame = mended;
            break;
        }
    }
    Converted::Unreadable
}

fn is_right(frame: &Frame) -> bool {
    frame.version == FRAME_VERSION && frame.crc.get() == crc32c::crc32c(&frame.as_bytes()[..60])
}

fn flip(frame: &mut Frame, bit: usize) {
    if let Some(byte) = frame.as_mut_bytes().get_mut(bit / 8) {
        *byte ^= 1 << (bit % 8);
    }
}

fn convert(frame: &mut Frame) -> Converted {
    let mut converted = Converted::Same;
    if frame.kind == Kind::Quote as u8 {
        let sizes = std::mem::offset_of!(Quote, bid_qty);
        let sizes = sizes..sizes + 2 * size_of::<U32>();
        if let Some(bytes) = frame.as_mut_bytes().get_mut(sizes) {
            for side in bytes.chunks_exact_mut(size_of::<U32>()) {
                let units = side.try_into().map_or(0, u32::from_le_bytes);
                let size = Size::new(units.into());
                if units == u32::MAX {
                    converted = Converted::Saturated;
                } else if size.units() != u128::from(units) && converted == Converted::Same {
                    converted = Converted::Shortened;
                }
                side.copy_from_slice(size.as_bytes());
            }
        }
    }
    frame.version = VERSION;
    frame.renew_crc();
    converted
}

/// What a header of formats 1 to 4 becomes.
#[derive(Debug)]
pub struct ConvertedHeader {
    /// The header page.
    pub page: [u8; HEADER_BYTES],
    /// The directory says which segments the retention has removed. Before that a first segment that was missing
    /// could not be told from one that was removed.
    pub states_removal: bool,
}

/// Makes the header page of a segment one of this format: segment `number` of the log of this name.
///
/// # Errors
/// Why it is not such a page.
pub fn convert_header(
    page: &[u8],
    name: [u8; 16],
    number: u64,
) -> Result<ConvertedHeader, HeaderFault> {
    let mut header = Header::read_of(page, name, number, 1..FORMAT_VERSION)?;
    let states_removal = header.version() >= STATES_REMOVAL;
    header.set_version(FORMAT_VERSION);
    Ok(ConvertedHeader { page: header.page(), states_removal })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Definition, I64, InstrumentId, InstrumentIndex, Trade, U64};

    /// A frame as the program before wrote it.
    fn old(frame: Frame, sizes: Option<[u32; 2]>) -> Frame {
        let mut frame = frame;
        frame.version = FRAME_VERSION;
        if let Some([bid, ask]) = sizes {
            frame.as_mut_bytes()[48..52].copy_from_slice(&bid.to_le_bytes());
            frame.as_mut_bytes()[52..56].copy_from_slice(&ask.to_le_bytes());
        }
        frame.renew_crc();
        frame
    }

    #[test]
    fn a_record_says_the_same_in_the_new_format() {
        let instrument = InstrumentId::new(1, InstrumentIndex::FIRST);
        let definition = Frame::seal(Definition::new(instrument, "PETR4".parse().unwrap(), 2));
        let trade =
            Frame::seal(Trade { qty: U64::new(u64::MAX), seq: U64::new(7), ..Trade::default() });
        for frame in [definition, trade] {
            let mut converted = old(frame, None);
            assert_eq!(convert_record(&mut converted), Converted::Same);
            assert_eq!(converted, frame);
        }
        let quote = Quote { bid: I64::new(-5), seq: U64::new(9), ..Quote::default() };
        for (sizes, what) in [
            ([300, 268_435_455], Converted::Same),
            ([268_435_460, 3_000_000_000], Converted::Same),
            ([0, 268_435_457], Converted::Shortened),
            ([u32::MAX, 1], Converted::Saturated),
            ([u32::MAX, 268_435_457], Converted::Saturated),
        ] {
            let mut converted = old(Frame::seal(quote), Some(sizes));
            assert_eq!(convert_record(&mut converted), what, "{sizes:?}");
            let [bid_qty, ask_qty] = sizes.map(|size| Size::new(size.into()));
            assert_eq!(converted, Frame::seal(Quote { bid_qty, ask_qty, ..quote }));
        }
    }

    #[test]
    fn what_does_not_check_stays_as_it_is() {
        let mut never = Frame::ZERO;
        assert_eq!(convert_record(&mut never), Converted::Empty);
        let mut rotten = old(Frame::seal(Trade::default()), None);
        rotten.instrument = U32::new(3);
        let mut newer = Frame::seal(Trade::default());
        for frame in [&mut rotten, &mut newer] {
            let before = *frame;
            assert_eq!(convert_record(frame), Converted::Unreadable);
            assert_eq!(*frame, before);
        }
        assert!(rotten.check().is_err());
    }

    #[test]
    fn a_record_with_one_wrong_bit_can_be_mended_as_before() {
        let whole = Frame::seal(Trade { seq: U64::new(7), ..Trade::default() });
        for bit in [0, 8, 9, 70, 300, 511] {
            let mut rotten = old(whole, None);
            flip(&mut rotten, bit);
            assert_eq!(convert_record(&mut rotten), Converted::Unreadable);
            assert!(rotten.check().is_err(), "bit {bit}");
            flip(&mut rotten, bit);
            assert_eq!(rotten, whole, "bit {bit}");
        }
    }

    #[test]
    fn headers_of_every_earlier_format_are_converted_and_no_other_ones() {
        let name = *b"core\0\0\0\0\0\0\0\0\0\0\0\0";
        for version in 0..=FORMAT_VERSION + 1 {
            let mut header = Header::new((name, 77), 3, 40, 64, 9);
            header.set_version(version);
            let converted = convert_header(&header.page(), name, 3);
            assert_eq!(converted.is_ok(), (1..FORMAT_VERSION).contains(&version), "{version}");
            if version == FORMAT_VERSION {
                assert_eq!(converted.as_ref().unwrap_err(), &HeaderFault::Current);
            }
            let Ok(converted) = converted else { continue };
            assert_eq!(converted.states_removal, version >= STATES_REMOVAL);
            let read = Header::read(&converted.page, name, 3).unwrap();
            assert_eq!((read.base_position(), read.records(), read.journal_id()), (40, 64, 77));
        }
        let mut old = Header::new((name, 0), 3, 40, 64, 9);
        old.set_version(4);
        assert!(matches!(convert_header(&old.page(), name, 4), Err(HeaderFault::Number(3))));
        let refused = Header::read(&old.page(), name, 3).unwrap_err();
        assert_eq!(refused, HeaderFault::Older(4));
        assert!(refused.to_string().contains("pregao convert"), "{refused}");
    }
}
