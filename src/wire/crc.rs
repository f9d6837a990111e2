//! The checksum of a frame: CRC-32C (Castagnoli, reflected, polynomial `0x1EDC6F41`) of its first 60 bytes.
//!
//! # Decisions
//!
//! * The length is fixed, so there is nothing to align and no loop: eight instructions of SSE 4.2 where the `crc32c` crate,
//!   which takes any length, needs 89 in all. Each node checks each frame, and core makes a second checksum of it: that was
//!   178 of the 870 instructions that it spends on one. Where the instructions are missing, the crate does it.

#![allow(unsafe_code)]

/// The bytes of a frame that its checksum covers.
pub(super) const COVERED: usize = 60;

/// The checksum of these bytes.
#[inline]
pub(super) fn crc_of(covered: &[u8; COVERED]) -> u32 {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("sse4.2") {
        // SAFETY: the processor has the instructions, as was found out above. Nothing else is asked of the caller.
        return unsafe { by_instruction(covered) };
    }
    crc32c::crc32c(covered)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "sse4.2")]
fn by_instruction(covered: &[u8; COVERED]) -> u32 {
    use std::arch::x86_64::{_mm_crc32_u32, _mm_crc32_u64};

    let (words, _) = covered.as_chunks::<8>();
    let sum = words
        .iter()
        .fold(u64::from(u32::MAX), |sum, word| _mm_crc32_u64(sum, u64::from_le_bytes(*word)));
    // The instruction leaves the upper half zero.
    let sum = u32::try_from(sum).unwrap_or(0);
    let last = covered.last_chunk::<4>().map_or(0, |last| u32::from_le_bytes(*last));
    !_mm_crc32_u32(sum, last)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All bytes, one at a time and mixed: each bit is in its place.
    #[test]
    fn the_checksum_is_the_one_of_the_crate() {
        let mut covered = [0; COVERED];
        assert_eq!(crc_of(&covered), crc32c::crc32c(&covered));
        for place in 0..COVERED {
            for bit in 0..8 {
                covered[place] ^= 1 << bit;
                assert_eq!(crc_of(&covered), crc32c::crc32c(&covered), "byte {place}, bit {bit}");
            }
            covered[place] = u8::try_from(place * 37 % 251).unwrap();
        }
    }
}
