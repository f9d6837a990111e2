//! The shard's index: what each instrument has, and where in the log. Rebuilt on every open from the log
//! itself, so it can never disagree with it for longer than one process lives; and what is read through
//! it is compared with what was noted.
//!
//! It keeps six to eight bytes an entry for the place in the log, and a copy of what bars are made of (see
//! `block`), of which the oldest is given up first when there is more than
//! [`limits::INDEX_COPY_BYTES_MAX`].
//!
//! # Decisions
//!
//! * Only what bars are made of is copied. Rows are the log's own frames, compared with what was noted.
//!   Where the oldest copies were given up, bars read the log, which costs sixteen times as much.

use std::collections::{BTreeMap, VecDeque};

use super::holes::Holes;
use super::instrument::InstrumentHistory;
use crate::feed::NameTable;
use crate::limits;
use crate::log::{Log, Mark, Read, Reason, Storage, hole_in};
use crate::question::Question;
use crate::wire::{Definition, Frame, InstrumentId, Kind, NameParts, Symbol};

/// All instruments of a shard.
#[derive(Debug)]
pub(crate) struct Index {
    /// Place in `histories`.
    by_name: NameTable<u32>,
    /// Full names, of few instruments, by place in `histories`.
    full_names: BTreeMap<u32, NameParts>,
    /// Place in `histories` by the index of the instrument; `u32::MAX` = none.
    by_instrument: Vec<u32>,
    histories: Vec<InstrumentHistory>,
    pub(crate) trades: u64,
    /// Blocks that have a copy, oldest first: place in `histories`, and number.
    copies: VecDeque<(u32, u64)>,
    copy_bytes: usize,
    copy_bytes_max: usize,
    first_position: u64,
    /// What core lost before it came here.
    pub(crate) holes: Holes,
}

impl Default for Index {
    fn default() -> Index {
        Index::with_copies(limits::INDEX_COPY_BYTES_MAX)
    }
}

impl Index {
    /// An empty index whose copies take no more than this.
    fn with_copies(copy_bytes_max: usize) -> Index {
        Index {
            by_name: NameTable::default(),
            full_names: BTreeMap::new(),
            by_instrument: Vec::new(),
            histories: Vec::new(),
            trades: 0,
            copies: VecDeque::new(),
            copy_bytes: 0,
            copy_bytes_max,
            first_position: 0,
            holes: Holes::default(),
        }
    }

    /// Reads the whole log. The index, and how many records are damaged.
    ///
    /// In one turn, and as long as the log is: at a start, when nobody is served yet, and when core takes frames back
    /// that are here. Then no answer may come out of the index of before, and core's feed stands still anyway.
    pub(crate) fn rebuild<S: Storage>(log: &Log<S>) -> (Index, u64) {
        Index::rebuild_with(log, limits::INDEX_COPY_BYTES_MAX)
    }

    pub(crate) fn rebuild_with<S: Storage>(log: &Log<S>, copy_bytes_max: usize) -> (Index, u64) {
        let mut index = Index::with_copies(copy_bytes_max);
        let mut damaged = 0;
        let mut position = log.first_position();
        index.first_position = position;
        loop {
            match log.read(position, limits::FILL_FRAMES_MAX) {
                Read::End => return (index, damaged),
                Read::Damaged(range) => {
                    damaged += range.end - range.start;
                    position = range.end;
                }
                Read::Frames(frames) => {
                    let mut void_from = log.void_from(position);
                    for (frame, position) in frames.iter().zip(position..) {
                        if let Some(mark) = frame.view::<Mark>() {
                            // An epoch may begin in the middle of what was read.
                            void_from = log.void_from(position);
                            if mark.is(Reason::Epoch) {
                                index.holes.void_from(mark.epoch_start.get());
                            }
                        } else if let Some(gap) = hole_in(frame) {
                            index.holes.note(gap.from_seq.get(), gap.to_seq.get());
                        } else if frame.seq.get() < void_from {
                            index.note(position, frame);
                        }
                    }
                    position += frames.len() as u64;
                }
            }
        }
    }

    /// Takes note of a frame that stands at `position`; marks and quotes change nothing. A part of its callers,
    /// since most frames end here.
    #[inline(always)]
    pub(crate) fn note(&mut self, position: u64, frame: &Frame) {
        if frame.kind == Kind::Trade as u8 || frame.kind == Kind::Cancel as u8 {
            self.note_trade(position, frame);
        } else if frame.is_naming() {
            self.note_naming(frame);
        }
    }

    fn note_naming(&mut self, frame: &Frame) {
        let Some(definition) = frame.view::<Definition>() else {
            if let Some(place) = self.place_of(frame.instrument()) {
                self.full_names.entry(place).or_default().note(frame);
            }
            return;
        };
        let instrument = frame.instrument();
        let index = instrument.index().place();
        if index >= limits::INSTRUMENTS_MAX {
            return;
        }
        if self.by_instrument.len() <= index {
            self.by_instrument.resize(index + 1, u32::MAX);
        }
        if self.by_instrument[index] == u32::MAX {
            self.by_instrument[index] = u32::try_from(self.histories.len()).unwrap_or(u32::MAX);
            self.histories.push(InstrumentHistory::new(instrument, *frame));
        }
        self.by_name.insert(&definition.names(), self.by_instrument[index]);
    }

    fn note_trade(&mut self, position: u64, frame: &Frame) {
        let instrument = frame.instrument();
        let place = self.by_instrument.get(instrument.index().place()).copied();
        let Some((place, history)) =
            place.and_then(|place| Some((place, self.histories.get_mut(place as usize)?)))
        else {
            return;
        };
        if history.instrument != instrument {
            return;
        }
        self.trades += 1;
        if let Some(number) = history.add(position, frame) {
            self.copy_bytes += history.block(number).map_or(0, |block| block.copy_bytes());
            self.copies.push_back((place, number));
            self.bound_copies();
        }
    }

    /// Gives up the oldest copies while there are too many.
    fn bound_copies(&mut self) {
        while self.copy_bytes > self.copy_bytes_max
            && let Some((place, number)) = self.copies.pop_front()
        {
            let block =
                self.histories.get_mut(place as usize).and_then(|own| own.block_mut(number));
            self.copy_bytes -= block.map_or(0, |block| block.drop_copy());
        }
    }

    /// Forgets what retention has removed from the log. One look at all instruments, once for a removed segment.
    pub(crate) fn forget_before(&mut self, first_position: u64) {
        if first_position <= self.first_position {
            return;
        }
        self.first_position = first_position;
        for history in &mut self.histories {
            let (entries, copy_bytes) = history.forget_before(first_position);
            self.trades = self.trades.saturating_sub(entries);
            self.copy_bytes -= copy_bytes;
        }
        let history = &self.histories;
        self.copies.retain(|(place, number)| {
            history.get(*place as usize).is_some_and(|own| own.block(*number).is_some())
        });
    }

    /// The place of a defined instrument.
    fn place_of(&self, instrument: InstrumentId) -> Option<u32> {
        let place = *self.by_instrument.get(instrument.index().place())?;
        let history = self.histories.get(place as usize)?;
        (history.instrument == instrument).then_some(place)
    }

    /// The definitions of all instruments, each with the parts of its full name behind it.
    pub(crate) fn definitions(&self) -> impl Iterator<Item = Frame> {
        (0..).zip(&self.histories).flat_map(|(place, history)| {
            std::iter::once(history.definition).chain(self.full_name(place).copied())
        })
    }

    /// The parts of the full name of the instrument at this place, as far as they are known.
    pub(crate) fn full_name(&self, place: u32) -> impl Iterator<Item = &Frame> {
        self.full_names.get(&place).into_iter().flat_map(NameParts::frames)
    }

    /// Whether this part of a name is here, as it is.
    pub(crate) fn has_name(&self, part: &Frame) -> bool {
        let place = self.place_of(part.instrument());
        place.is_some_and(|place| self.full_name(place).any(|known| known.body == part.body))
    }

    /// An instrument by its place.
    pub(crate) fn at(&self, place: u32) -> Option<&InstrumentHistory> {
        self.histories.get(place as usize)
    }

    /// The same, to settle its cancellations.
    pub(crate) fn at_mut(&mut self, place: u32) -> Option<&mut InstrumentHistory> {
        self.histories.get_mut(place as usize)
    }

    /// The place of the instrument with this symbol.
    pub(crate) fn find(&self, symbol: &Symbol) -> Option<u32> {
        self.by_name.of_symbol(symbol)
    }

    /// The places of all instruments that a question is about, by symbol.
    pub(crate) fn matching(&self, question: &Question) -> Vec<u32> {
        self.by_name.matching(question.patterns())
    }

    pub(crate) fn len(&self) -> usize {
        self.histories.len()
    }

    /// Bytes that it takes, about.
    pub(crate) fn bytes(&self) -> usize {
        self.histories.iter().map(InstrumentHistory::bytes).sum()
    }
}
