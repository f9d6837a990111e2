//! Looks at a log whose writer goes on meanwhile.

use super::super::super::memory::MemoryStorage;
use super::*;

/// The files of a log that goes on: its writer rolls behind each of the first listings.
struct Rolling {
    disk: MemoryDisk,
    log: Log<MemoryStorage>,
    next_seq: u64,
    rolls: usize,
}

impl Files for Rolling {
    fn list(&mut self) -> Result<Listing, StorageError> {
        let listing = self.disk.clone().list()?;
        if self.rolls > 0 {
            self.rolls -= 1;
            let segments = listing.segments.len();
            // The last segment that is listed is full, and there is a frame in the one behind it.
            while self.disk.numbers().len() <= segments + 1 {
                turn(&mut self.log, [self.next_seq]);
                self.next_seq += 1;
            }
        }
        Ok(listing)
    }

    fn read_at(
        &mut self,
        number: u64,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<Option<usize>, StorageError> {
        self.disk.clone().read_at(number, offset, buffer)
    }

    fn settle(&mut self, number: u64) -> Result<(), StorageError> {
        self.disk.clone().settle(number)
    }
}

#[test]
fn a_segment_that_came_after_the_listing_is_not_missing() {
    for rolls in 0..8 {
        let disk = MemoryDisk::new(4096);
        let config = journal(8);
        let (log, _) = open(&disk, config);
        let mut files = Rolling { disk, log, next_seq: 1, rolls };
        let outline = Outline::with_rules(&mut files, config.name, rules(config)).unwrap();
        assert_eq!((outline.end_missing(), outline.refusal()), (None, None), "{rolls} rolls");
    }
}
