//! The lineage of a sequence: which epochs it went through, and the identity of each.
//!
//! An epoch's number is a counter, and two histories can count alike: a journal that was restored from a copy
//! goes on counting where the copy stood. So each epoch has a random identity too. Whoever follows the sequence
//! says under which identity it received its newest frames, and the journal knows whether that is part of what it
//! has, and up to which seq.
//!
//! What it is *not*: the judgement about a follower. That is core's (`node/sequencer/`).
//!
//! # Decisions
//!
//! * The record of an epoch stands ahead of the Epoch mark that begins it. So there is no crash after which an
//!   epoch has begun and nobody knows its identity. A record whose mark never came is left out by the next open.
//! * The lineage is written again at the head of each segment, so that retention cannot take it away, and rot in
//!   one segment cannot either.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::limits::EPOCHS_KEPT_MAX;
use crate::wire::{self, FRAME_BYTES, Frame, Kind, Message, U16, U32, U64};

/// One entry of the lineage as a record of a log: FORMAT.md has the layout.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct LogEpoch {
    /// Set by [`Frame::seal`].
    pub kind: u8,
    /// Set by [`Frame::seal`].
    pub version: u8,
    /// Zero.
    pub flags: U16,
    /// The epoch's number.
    pub epoch: U32,
    /// The first seq of the epoch; of one that was given up, the first seq that was.
    pub first_seq: U64,
    /// The epoch's identity, not 0.
    pub epoch_id: U64,
    /// The identity of the journal that began it, as far as this log knows; 0 = unknown.
    pub journal_id: U64,
    /// Sum of [`LogEpoch::CHOSEN`] and [`LogEpoch::GIVEN_UP`].
    pub what: u8,
    /// Zero.
    pub reserved: [u8; 27],
    /// Set by [`Frame::seal`].
    pub crc: U32,
}

const _: () = {
    use std::mem::offset_of;
    assert!(size_of::<LogEpoch>() == FRAME_BYTES);
    assert!(offset_of!(LogEpoch, epoch) == 4);
    assert!(offset_of!(LogEpoch, first_seq) == 8);
    assert!(offset_of!(LogEpoch, epoch_id) == 16);
    assert!(offset_of!(LogEpoch, journal_id) == 24);
    assert!(offset_of!(LogEpoch, what) == 32);
    assert!(offset_of!(LogEpoch, crc) == 60);
};

impl LogEpoch {
    /// An operator began this epoch with `pregao recover`.
    pub const CHOSEN: u8 = 1;
    /// An operator decided that what followers have of this epoch, from `first_seq` on, is given up.
    pub const GIVEN_UP: u8 = 2;
}

impl Message for LogEpoch {
    const KIND: Kind = Kind::LogEpoch;

    fn is_well_formed(&self) -> bool {
        self.flags.get() == 0
            && self.reserved == [0; 27]
            && self.what <= (LogEpoch::CHOSEN | LogEpoch::GIVEN_UP)
            && self.epoch.get() != 0
            && self.epoch_id.get() != 0
            && self.first_seq.get() != 0
    }
}

/// What an open log says when it has lost the record of the epoch that it stands in. No epoch has this
/// identity, so it continues nothing.
pub const UNKNOWN_EPOCH_ID: u64 = u64::MAX;

/// The head of a segment with so many records has room for so many entries: the newest ones.
pub(super) const fn lineage_room(records: u64) -> u64 {
    records / 8
}

/// One epoch of a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochEntry {
    /// Its number.
    pub epoch: u32,
    /// Its identity: random, not 0.
    pub epoch_id: u64,
    /// Its first seq. In a shard's log, the seq from which that log follows it. Of one that was given up, the
    /// first seq that was.
    pub first_seq: u64,
    /// An operator began it with `pregao recover`.
    pub is_chosen: bool,
    /// It is no part of this sequence from `first_seq` on, and an operator decided that followers give up what
    /// they have of it.
    pub is_given_up: bool,
}

impl EpochEntry {
    pub(super) fn of(record: &LogEpoch) -> EpochEntry {
        EpochEntry {
            epoch: record.epoch.get(),
            epoch_id: record.epoch_id.get(),
            first_seq: record.first_seq.get(),
            is_chosen: record.what & LogEpoch::CHOSEN != 0,
            is_given_up: record.what & LogEpoch::GIVEN_UP != 0,
        }
    }

    /// As it travels to a broker.
    #[must_use]
    pub fn message(&self, source: u8) -> wire::Lineage {
        let chosen = if self.is_chosen { wire::Lineage::CHOSEN } else { 0 };
        let given_up = if self.is_given_up { wire::Lineage::GIVEN_UP } else { 0 };
        wire::Lineage {
            source,
            what: chosen | given_up,
            epoch: U32::new(self.epoch),
            first_seq: U64::new(self.first_seq),
            epoch_id: U64::new(self.epoch_id),
            ..wire::Lineage::default()
        }
    }

    /// What such a message says.
    #[must_use]
    pub fn of_message(message: &wire::Lineage) -> EpochEntry {
        EpochEntry {
            epoch: message.epoch.get(),
            epoch_id: message.epoch_id.get(),
            first_seq: message.first_seq.get(),
            is_chosen: message.what & wire::Lineage::CHOSEN != 0,
            is_given_up: message.what & wire::Lineage::GIVEN_UP != 0,
        }
    }

    /// Its record in the log of this journal.
    pub(super) fn record(&self, journal_id: u64) -> Frame {
        let chosen = if self.is_chosen { LogEpoch::CHOSEN } else { 0 };
        let given_up = if self.is_given_up { LogEpoch::GIVEN_UP } else { 0 };
        Frame::seal(LogEpoch {
            kind: 0,
            version: 0,
            flags: U16::ZERO,
            epoch: U32::new(self.epoch),
            first_seq: U64::new(self.first_seq),
            epoch_id: U64::new(self.epoch_id),
            journal_id: U64::new(journal_id),
            what: chosen | given_up,
            reserved: [0; 27],
            crc: U32::ZERO,
        })
    }
}

/// Where an epoch ended in a sequence that went on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochEnd {
    /// The first seq that belongs to another epoch: what was received under this one is right below it. `None`:
    /// the epoch has not ended.
    pub seq: Option<u64>,
    /// An operator chose what came behind it, so that what lies beyond may be given up.
    pub is_chosen: bool,
}

/// The epochs of a sequence, and whose sequence it is.
///
/// Invariant: `entries` ascend by number, each identity is in it once, and of two with one number at most one was not
/// given up. There are at most [`EPOCHS_KEPT_MAX`]; the oldest goes first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lineage {
    journal_id: u64,
    entries: Vec<EpochEntry>,
}

impl Lineage {
    /// The identity of the journal; 0 = unknown.
    #[must_use]
    pub fn journal_id(&self) -> u64 {
        self.journal_id
    }

    /// Oldest first.
    #[must_use]
    pub fn entries(&self) -> &[EpochEntry] {
        &self.entries
    }

    /// Takes note of whose sequence it is.
    pub fn set_journal_id(&mut self, journal_id: u64) {
        self.journal_id = journal_id;
    }

    /// Takes a record in; what is read later is right.
    pub(super) fn note_record(&mut self, record: &LogEpoch) {
        if record.journal_id.get() != 0 {
            self.journal_id = record.journal_id.get();
        }
        self.note(EpochEntry::of(record));
    }

    /// Takes an entry in; the later word about an identity, or about a number, is right.
    pub fn note(&mut self, entry: EpochEntry) {
        self.entries.retain(|known| {
            let is_replaced =
                known.epoch == entry.epoch && !known.is_given_up && !entry.is_given_up;
            known.epoch_id != entry.epoch_id && !is_replaced
        });
        let place = self.entries.partition_point(|known| known.epoch <= entry.epoch);
        self.entries.insert(place, entry);
        if self.entries.len() > EPOCHS_KEPT_MAX {
            self.entries.remove(0);
        }
    }

    /// An open has found that the log stands in this epoch: what was written of later ones has not begun.
    pub(super) fn end_at(&mut self, epoch: u32) {
        self.entries.retain(|entry| entry.epoch <= epoch || entry.is_given_up);
    }

    /// The identity of the epoch with this number; 0 when no identity was ever told (the log is of an older
    /// program, or no epoch has begun), [`UNKNOWN_EPOCH_ID`] when the log has lost it.
    #[must_use]
    pub fn id_of(&self, epoch: u32) -> u64 {
        let mut own = self.entries.iter().filter(|entry| !entry.is_given_up).peekable();
        if own.peek().is_none_or(|first| epoch < first.epoch) {
            return 0;
        }
        own.find(|entry| entry.epoch == epoch).map_or(UNKNOWN_EPOCH_ID, |entry| entry.epoch_id)
    }

    /// Where the epoch of this identity ended; `None` when this sequence does not know it.
    #[must_use]
    pub fn end_of(&self, epoch_id: u64) -> Option<EpochEnd> {
        let place = self.entries.iter().position(|entry| entry.epoch_id == epoch_id)?;
        let known = &self.entries[place];
        let behind = self.entries[place + 1..].iter().filter(|entry| !entry.is_given_up);
        let is_chosen = behind.clone().any(|entry| entry.is_chosen);
        if known.is_given_up {
            return Some(EpochEnd { seq: Some(known.first_seq), is_chosen: true });
        }
        // No epoch begins below one before it, whatever a damaged record says.
        let seq = behind.map(|entry| entry.first_seq.max(known.first_seq)).min();
        Some(EpochEnd { seq, is_chosen })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(epoch: u32, first_seq: u64) -> EpochEntry {
        let epoch_id = u64::from(epoch) * 100 + 7;
        EpochEntry { epoch, epoch_id, first_seq, is_chosen: false, is_given_up: false }
    }

    fn lineage(entries: &[EpochEntry]) -> Lineage {
        let mut lineage = Lineage::default();
        entries.iter().for_each(|entry| lineage.note(*entry));
        lineage
    }

    #[test]
    fn an_epoch_ends_where_the_next_one_begins() {
        let lineage = lineage(&[entry(1, 1), entry(2, 50), entry(5, 50), entry(6, 80)]);
        let end = |epoch: u32| lineage.end_of(u64::from(epoch) * 100 + 7);
        assert_eq!(end(1), Some(EpochEnd { seq: Some(50), is_chosen: false }));
        assert_eq!(end(2), Some(EpochEnd { seq: Some(50), is_chosen: false }));
        assert_eq!(end(5), Some(EpochEnd { seq: Some(80), is_chosen: false }));
        assert_eq!(end(6), Some(EpochEnd { seq: None, is_chosen: false }));
        assert_eq!((end(3), lineage.end_of(0)), (None, None));
        assert_eq!((lineage.id_of(5), lineage.id_of(0)), (507, 0));
        assert_eq!(lineage.id_of(3), UNKNOWN_EPOCH_ID, "its record is lost");
    }

    #[test]
    fn what_an_operator_gave_up_ends_where_he_said_and_begins_no_other() {
        let lost = EpochEntry { epoch_id: 99, is_given_up: true, ..entry(2, 30) };
        let chosen = EpochEntry { is_chosen: true, ..entry(3, 70) };
        let lineage = lineage(&[entry(1, 1), lost, entry(2, 40), chosen]);
        assert_eq!(lineage.end_of(99), Some(EpochEnd { seq: Some(30), is_chosen: true }));
        assert_eq!(lineage.end_of(107), Some(EpochEnd { seq: Some(40), is_chosen: true }));
        assert_eq!(lineage.end_of(207), Some(EpochEnd { seq: Some(70), is_chosen: true }));
        assert_eq!(lineage.end_of(307), Some(EpochEnd { seq: None, is_chosen: false }));
        assert_eq!(lineage.id_of(2), 207);
        // What came later stands behind what has the same number.
        assert_eq!(lineage.entries(), [entry(1, 1), lost, entry(2, 40), chosen]);
    }

    #[test]
    fn the_later_record_of_a_number_counts_and_what_has_not_begun_does_not() {
        let again = EpochEntry { epoch_id: 5, ..entry(2, 10) };
        let mut lineage = lineage(&[entry(1, 1), entry(3, 12), entry(2, 10), again]);
        assert_eq!(lineage.entries(), [entry(1, 1), again, entry(3, 12)]);
        lineage.end_at(2);
        assert_eq!(lineage.entries(), [entry(1, 1), again]);
    }

    #[test]
    fn the_oldest_of_too_many_goes_first() {
        let count = u32::try_from(EPOCHS_KEPT_MAX).unwrap() + 3;
        let mut lineage = Lineage::default();
        (1..=count).for_each(|epoch| lineage.note(entry(epoch, u64::from(epoch))));
        assert_eq!(lineage.entries().len(), EPOCHS_KEPT_MAX);
        assert_eq!(lineage.entries().first(), Some(&entry(4, 4)));
        assert_eq!(lineage.end_of(107), None);
    }

    #[test]
    fn a_record_says_what_its_entry_says() {
        let chosen = EpochEntry { is_chosen: true, ..entry(3, 70) };
        let record = chosen.record(12);
        assert_eq!(record.check(), Ok(()));
        let mut lineage = Lineage::default();
        lineage.note_record(record.view().unwrap());
        assert_eq!((lineage.journal_id(), lineage.entries()), (12, &[chosen][..]));
        for wrong in [4, 8, 16, 32, 40] {
            let mut bytes = record;
            let value = if wrong < 32 { 0 } else { 4 };
            zerocopy::IntoBytes::as_mut_bytes(&mut bytes)[wrong..wrong + 4].fill(value);
            bytes.renew_crc();
            let is_record = super::super::mark::Record::checked(&bytes).is_some();
            assert_eq!(is_record, wrong == 24, "byte {wrong}");
        }
    }
}
