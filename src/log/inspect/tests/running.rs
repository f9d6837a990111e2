//! Looks at a log whose writer goes on meanwhile.

use super::super::super::memory::MemoryStorage;
use super::*;

/// The files of a log that goes on between two looks: what a listing shows is asked of `list`.
struct Running<L> {
    disk: MemoryDisk,
    list: L,
}

impl<L: FnMut(&mut MemoryDisk) -> Result<Listing, StorageError>> Files for Running<L> {
    fn list(&mut self) -> Result<Listing, StorageError> {
        (self.list)(&mut self.disk)
    }

    fn read_at(
        &mut self,
        number: u64,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<Option<usize>, StorageError> {
        self.disk.read_at(number, offset, buffer)
    }

    fn settle(&mut self, number: u64) -> Result<(), StorageError> {
        self.disk.settle(number)
    }
}

/// The files of `disk`, whose first listing is from `before`.
pub(super) fn listed_before(disk: MemoryDisk, before: Listing) -> impl Files {
    let mut before = Some(before);
    Running {
        disk,
        list: move |disk: &mut MemoryDisk| before.take().map_or_else(|| disk.list(), Ok),
    }
}

/// The files of a log whose writer rolls behind each of the first listings.
fn rolling(disk: MemoryDisk, mut log: Log<MemoryStorage>, mut rolls: usize) -> impl Files {
    let mut next_seq = 1;
    let list = move |disk: &mut MemoryDisk| {
        let listing = disk.list()?;
        if rolls > 0 {
            rolls -= 1;
            // The last segment that is listed is full, and there is a frame in the one behind it.
            while disk.numbers().len() <= listing.segments.len() + 1 {
                turn(&mut log, [next_seq]);
                next_seq += 1;
            }
        }
        Ok(listing)
    };
    Running { disk, list }
}

#[test]
fn a_segment_that_came_after_the_listing_is_not_missing() {
    for rolls in 0..8 {
        let disk = MemoryDisk::new(4096);
        let config = journal(8);
        let (log, _) = open(&disk, config);
        let mut files = rolling(disk, log, rolls);
        let outline = Outline::with_rules(&mut files, config.name, rules(config)).unwrap();
        assert_eq!((outline.end_missing(), outline.refusal()), (None, None), "{rolls} rolls");
    }
}

#[test]
fn segments_that_the_retention_removes_after_the_listing_are_no_loss() {
    let mut disk = many();
    let before = disk.list().unwrap();
    let keeps = Retention { bytes_max: Some(4 * (4096 + 8 * 64)), age_max: None };
    let (mut log, _) =
        Log::open(disk.storage(), LogConfig { retention: keeps, ..journal(8) }, at(2)).unwrap();
    for _ in 0..20 {
        log.handle_timers(at(2));
        log.handle_completions(at(2));
    }
    drop(log);
    let mut files = listed_before(disk.clone(), before);
    let rules = rules(journal(8));
    let outline = Outline::with_rules(&mut files, journal(8).name, rules).unwrap();
    assert_eq!(outline.listing, disk.list().unwrap());
    assert_eq!((outline.missing_front(), outline.refusal()), (None, None));
    let mut found = Found::default();
    let summary = verify(&mut files, &outline, true, &mut found).unwrap();
    assert_eq!(summary.verdict, Verdict::Clean, "{:#?}", found.0);
}
