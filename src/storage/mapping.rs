//! A file mapped for one writer: the one place with `unsafe`.
//!
//! Invariant: bytes change only through [`Mapping::write`], which takes `&mut self`, so no slice that
//! [`Mapping::read`] lent is alive then. Other processes are kept out by the directory's lock; the
//! storage thread touches the pages through the kernel only and changes no byte.
//!
//! What this cannot prevent: a program that ignores the lock and shortens the file makes the next
//! access die of SIGBUS, as does a device that cannot deliver a page. Recovery is made for that.

#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::sync::Arc;

use memmap2::{Advice, MmapOptions, MmapRaw, UncheckedAdvice};

/// The pages of the kernel are not larger where this matters; where they are, nothing is released.
const PAGE_BYTES: usize = 4096;

/// A mapping's pages without its bytes: can be touched, not read or written.
#[derive(Debug)]
pub(super) struct Pages {
    map: Option<Arc<MmapRaw>>,
}

impl Pages {
    /// Makes these bytes' pages present and writable, so that storing to them takes no fault. Only a
    /// speed-up: an old kernel that cannot is no error.
    pub(super) fn touch(&self, offset: usize, len: usize) {
        if let Some(map) = &self.map {
            let offset = offset.min(map.len());
            let len = len.min(map.len() - offset);
            let _ = map.advise_range(Advice::PopulateWrite, offset, len);
        }
    }

    /// Takes the whole pages of these bytes out of this process's page table; what was stored stays in
    /// the file's cache, and the next access brings a page back. Before a sync: the kernel protects
    /// each page that it writes back against stores, and where the page is in the table that is an
    /// interrupt of every other core that runs this process, a third of all time at the highest rate.
    /// Here it is one for all of them. Only a speed-up.
    pub(super) fn release(&self, offset: usize, end: usize) {
        let Some(map) = &self.map else { return };
        let start = offset.next_multiple_of(PAGE_BYTES).min(map.len());
        let len = end.min(map.len()).saturating_sub(start) / PAGE_BYTES * PAGE_BYTES;
        if len == 0 {
            return;
        }
        // SAFETY: the range is within the mapping. Bytes of a shared mapping of a file are the file's:
        // without the page table's entry they are found again there, with what was last stored to
        // them, so no byte that anybody reads is changed.
        let _ = unsafe { map.unchecked_advise_range(UncheckedAdvice::DontNeed, start, len) };
    }
}

/// A shared, writable mapping of a whole file.
#[derive(Debug)]
pub(super) struct Mapping {
    /// `None` for an empty file, which cannot be mapped.
    map: Option<Arc<MmapRaw>>,
}

impl Mapping {
    /// Maps as many bytes of the file as it has.
    pub(super) fn new(file: &File, len: usize) -> io::Result<Mapping> {
        if len == 0 {
            return Ok(Mapping { map: None });
        }
        let map = MmapOptions::new().len(len).map_raw(file)?;
        Ok(Mapping { map: Some(Arc::new(map)) })
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.map.as_ref().map_or(0, |map| map.len())
    }

    /// The pages, for another thread to touch.
    pub(super) fn pages(&self) -> Pages {
        Pages { map: self.map.clone() }
    }

    /// The bytes of this range, as far as the file has them.
    pub(super) fn read(&self, offset: usize, len: usize) -> &[u8] {
        let Some(map) = &self.map else { return &[] };
        let start = offset.min(map.len());
        let len = len.min(map.len() - start);
        // SAFETY: `start` is at most the mapping's length, so this stays within or one behind it.
        let first = unsafe { map.as_ptr().add(start) };
        // SAFETY: `start + len` is within the mapping, which lives as long as `self`; and nobody
        // writes while the slice lives, by this module's invariant.
        unsafe { std::slice::from_raw_parts(first, len) }
    }

    /// Stores the bytes.
    ///
    /// # Panics
    /// When the range is not within the mapping.
    #[inline]
    pub(super) fn write(&mut self, offset: usize, bytes: &[u8]) {
        let map_len = self.len();
        assert!(
            offset <= map_len && bytes.len() <= map_len - offset,
            "a store outside the mapped segment"
        );
        let Some(map) = &self.map else { return };
        // SAFETY: `offset` is within the mapping, as just asserted.
        let target = unsafe { map.as_mut_ptr().add(offset) };
        // SAFETY: target and its `bytes.len()` bytes are within the mapping, which is writable;
        // `bytes` cannot overlap it, because a slice of it would borrow `self`.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), target, bytes.len()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg_attr(miri, ignore = "a mapping of a file")]
    fn released_pages_come_back_with_what_was_stored() {
        let file = tempfile::tempfile().unwrap();
        let len = 8 * PAGE_BYTES;
        file.set_len(len as u64).unwrap();
        let mut mapping = Mapping::new(&file, len).unwrap();
        let stored: Vec<u8> = (0..=250).cycle().take(len).collect();
        for (offset, end) in [(0, len), (1, len - 1), (PAGE_BYTES, PAGE_BYTES), (len, usize::MAX)] {
            mapping.write(0, &stored);
            mapping.pages().release(offset, end);
            assert_eq!(mapping.read(0, len), stored, "{offset}..{end}");
            // And a store finds its page again.
            mapping.write(3 * PAGE_BYTES, b"new");
            assert_eq!(mapping.read(3 * PAGE_BYTES, 3), b"new");
            assert_eq!(mapping.read(4 * PAGE_BYTES, 9), &stored[4 * PAGE_BYTES..][..9]);
        }
    }
}
