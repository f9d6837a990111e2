//! FNV-1a: a hash that is the same in every build, for what is kept or shown.

/// The offset basis of FNV-1a with 64 bits, from its authors' page.
pub const FNV_BASIS: u64 = 0xCBF2_9CE4_8422_2325;

/// FNV-1a with 64 bits, going on from `hash`; the prime is from the same page.
#[must_use]
pub fn fnv1a_64(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_published_function() {
        assert_eq!(fnv1a_64(FNV_BASIS, b""), 0xCBF2_9CE4_8422_2325);
        assert_eq!(fnv1a_64(fnv1a_64(FNV_BASIS, b"foo"), b"bar"), 0x8594_4171_F739_67E8);
    }
}
