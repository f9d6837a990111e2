//! What readers are interested in, shared: readers with the same patterns share one [`Interest`], so
//! that a thousand equal watch lists cost one table.
//!
//! Patterns meet instruments in two directions, and each is a search in an order: a new interest looks its
//! patterns up among the names of the instruments, a new instrument looks its name up among all patterns
//! (`index`). What takes long is counted in *steps*, each about one look-up or one entry of a table. Whoever
//! owns the interests says how many steps there are now, and what is left goes on where it stopped.
//!
//! Invariant: what an instrument's definition means for interests is settled before anybody is handed a frame
//! of the instrument ([`Interests::is_settled`]).
//!
//! # Decisions
//!
//! * An interest keeps two bytes for each instrument up to the last that it wants. A delivery looks one up,
//!   which is all that it may cost.
//! * What has left goes first, then definitions, then newcomers. So what waits to be taken out is never more than
//!   what was put in while somebody wanted it, and a newcomer finds every instrument that is known.

mod index;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::num::NonZeroU32;
use std::sync::Arc;

use slab::Slab;

use super::Pattern;
use crate::wire::{Frame, InstrumentIndex, Names, Symbol};
use index::{Entry, PatternIndex, Walk};

/// How much work there may be now, and how much there was: about so many look-ups.
#[derive(Clone, Copy, Debug)]
pub struct Steps {
    left: usize,
    taken: usize,
}

impl Steps {
    /// So many may be taken. The last piece of work may take some more.
    #[must_use]
    pub fn new(left: usize) -> Steps {
        Steps { left, taken: 0 }
    }

    /// How many may be taken still.
    #[must_use]
    pub fn left(&self) -> usize {
        self.left
    }

    /// How many have been taken.
    #[must_use]
    pub fn taken(&self) -> usize {
        self.taken
    }

    /// So many were taken.
    pub fn take(&mut self, steps: usize) {
        self.left = self.left.saturating_sub(steps);
        self.taken = self.taken.saturating_add(steps);
    }
}

/// Names an interest of one [`Interests`] table.
///
/// The place in the table, plus one: so a reader that has none yet costs no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InterestId(NonZeroU32);

impl InterestId {
    fn of(key: u32) -> InterestId {
        InterestId(NonZeroU32::MIN.saturating_add(key))
    }

    fn key(self) -> u32 {
        self.0.get() - 1
    }
}

/// A set of patterns, resolved to instruments.
#[derive(Debug)]
pub struct Interest {
    /// In order, each set of instruments once.
    patterns: Arc<[Pattern]>,
    /// By instrument index: the kinds wanted of it.
    kinds: Vec<u16>,
    /// How many of them are wanted.
    matched: usize,
    is_everything: bool,
    readers: usize,
    /// Where the patterns stand in the index, as many as have been looked up. `NOWHERE`: it matches nothing.
    places: Vec<u32>,
    /// The last pattern of `places` is a prefix, and names before this one have been looked at.
    looked_until: Option<(Symbol, InstrumentIndex)>,
    is_ready: bool,
    /// It stands in the line of those that are taken out.
    is_leaving: bool,
    /// Newcomers with the same patterns find it.
    is_shared: bool,
}

/// The place of a pattern that no symbol can match.
const NOWHERE: u32 = u32::MAX;

/// Patterns that are put in order in the time of one step.
const PATTERNS_SORTED_PER_STEP: usize = 8;
/// Bytes of a growing table that are copied in the time of one step.
const BYTES_COPIED_PER_STEP: usize = 2048;

impl Interest {
    /// Whether every frame of the source is wanted, so that nothing needs to be looked at.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.is_everything
    }

    /// Whether a data frame is wanted.
    #[must_use]
    pub fn wants(&self, frame: &Frame) -> bool {
        let kinds = self.kinds_of(frame.instrument().index());
        // What an instrument is called is wanted with anything of it.
        frame.is_naming() && kinds != 0 || frame.kind < 16 && kinds & (1 << frame.kind) != 0
    }

    /// The kinds wanted of the instrument with this index.
    #[must_use]
    pub fn kinds_of(&self, index: InstrumentIndex) -> u16 {
        self.kinds.get(index.place()).copied().unwrap_or(0)
    }

    /// How many instruments are wanted now.
    #[must_use]
    pub fn matched(&self) -> usize {
        self.matched
    }

    /// What it holds on the heap, or close to it.
    fn bytes(&self) -> usize {
        self.kinds.capacity() * size_of::<u16>()
            + self.patterns.len() * Interests::BYTES_PER_PATTERN
            + size_of::<Interest>()
    }

    /// Wants other kinds of an instrument than before. The steps that it took.
    fn set(&mut self, index: InstrumentIndex, kinds: u16) -> usize {
        let mut steps = 1;
        if self.kinds.len() <= index.place() {
            if kinds == 0 {
                return steps;
            }
            let before = self.kinds.capacity();
            self.kinds.resize(index.place() + 1, 0);
            if self.kinds.capacity() != before {
                steps += self.kinds.len() * size_of::<u16>() / BYTES_COPIED_PER_STEP;
            }
        }
        if let Some(place) = self.kinds.get_mut(index.place()) {
            self.matched += usize::from(kinds != 0);
            self.matched -= usize::from(*place != 0);
            *place = kinds;
        }
        steps
    }
}

/// What a definition changes for interests.
#[derive(Debug)]
struct Change {
    index: InstrumentIndex,
    walk: Walk,
    /// The instrument has this name now; or it had it before.
    is_new: bool,
}

/// All interests in one source.
#[derive(Debug, Default)]
pub struct Interests {
    table: Slab<Interest>,
    /// Those that a newcomer may share, by their patterns and whether they are everything.
    shared: BTreeMap<(Arc<[Pattern]>, bool), u32>,
    index: PatternIndex,
    /// All instruments by each of their names. Several may have one name.
    names: BTreeSet<(Symbol, InstrumentIndex)>,
    /// What definitions change and is not settled yet, in their order.
    changes: VecDeque<Change>,
    /// Keys of interests that nobody wanted any more when they came here.
    leaving: VecDeque<u32>,
    /// What all of them hold.
    bytes: usize,
}

impl Interests {
    /// What a pattern takes at most: itself, its place, and its part of the index, which for a pattern that
    /// nobody else has is a key, a list of one entry and their share of a tree.
    pub const BYTES_PER_PATTERN: usize = size_of::<Pattern>() + size_of::<u32>() + 128;
    /// What the names of an instrument take with their share of a tree: its symbol and its short form.
    pub const BYTES_PER_INSTRUMENT: usize = 2 * 64;

    /// Adds a reader with these patterns. Its interest can be used when [`Interests::resolve`] says so.
    pub fn join(&mut self, mut patterns: Vec<Pattern>, steps: &mut Steps) -> InterestId {
        steps.take(2 + patterns.len() / PATTERNS_SORTED_PER_STEP);
        let is_everything = patterns.iter().any(Pattern::is_everything);
        patterns.sort_unstable();
        patterns.dedup_by(|next, kept| kept.absorb(next));
        let patterns: Arc<[Pattern]> = patterns.into();
        let shared = (Arc::clone(&patterns), is_everything);
        if let Some((&key, same)) =
            self.shared.get(&shared).and_then(|key| Some((key, self.table.get_mut(*key as usize)?)))
        {
            same.readers += 1;
            return InterestId::of(key);
        }
        let interest = Interest {
            places: Vec::with_capacity(patterns.len()),
            patterns,
            kinds: Vec::new(),
            matched: 0,
            is_everything,
            readers: 1,
            looked_until: None,
            is_ready: false,
            is_leaving: false,
            is_shared: true,
        };
        self.bytes += interest.bytes();
        let key = u32::try_from(self.table.insert(interest)).unwrap_or(u32::MAX);
        self.shared.insert(shared, key);
        InterestId::of(key)
    }

    /// Looks patterns up among the instruments, as far as the steps go. Whether the interest is complete.
    pub fn resolve(&mut self, id: InterestId, steps: &mut Steps) -> bool {
        if !self.is_settled() {
            return false;
        }
        let Some(interest) = self.table.get_mut(id.key() as usize) else { return true };
        let capacity = interest.kinds.capacity();
        while !interest.is_ready && steps.left() > 0 {
            let taken = interest.look_up_next(id.key(), &mut self.index, &self.names, steps.left());
            steps.take(taken);
        }
        self.bytes += (interest.kinds.capacity() - capacity) * size_of::<u16>();
        interest.is_ready
    }

    /// Takes a reader away.
    pub fn leave(&mut self, id: InterestId) {
        let Some(interest) = self.table.get_mut(id.key() as usize) else { return };
        interest.readers = interest.readers.saturating_sub(1);
        if interest.readers == 0 && !interest.is_leaving {
            interest.is_leaving = true;
            self.leaving.push_back(id.key());
        }
    }

    /// A new instrument, or one with other names than `before`: every interest has to decide whether it is
    /// meant ([`Interests::settle`]).
    pub fn note_definition(
        &mut self,
        index: InstrumentIndex,
        names: &Names,
        before: Option<Names>,
    ) {
        if let Some(before) = before {
            self.note_void_definition(index, &before);
        }
        for name in names.iter() {
            self.names.insert((name, index));
            self.note_change(index, name, true);
        }
    }

    fn note_change(&mut self, index: InstrumentIndex, name: Symbol, is_new: bool) {
        if !self.index.is_empty() {
            self.changes.push_back(Change { index, walk: Walk::of(name), is_new });
        }
    }

    /// An instrument is defined no more: its definition was void.
    pub fn note_void_definition(&mut self, index: InstrumentIndex, names: &Names) {
        for name in names.iter() {
            self.names.remove(&(name, index));
            self.note_change(index, name, false);
        }
    }

    /// Whether all interests have decided about all instruments.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.changes.is_empty()
    }

    /// Whether [`Interests::settle`] has something to do.
    #[must_use]
    pub fn has_work(&self) -> bool {
        !self.changes.is_empty() || !self.leaving.is_empty()
    }

    /// Takes out what has left, and lets interests decide about new instruments, as far as the steps go.
    pub fn settle(&mut self, steps: &mut Steps) {
        while steps.left() > 0
            && let Some(&key) = self.leaving.front()
        {
            self.take_out(key, steps);
        }
        while steps.left() > 0
            && let Some(change) = self.changes.front_mut()
        {
            let Some(entries) = self.index.next(&mut change.walk, steps.left()) else {
                self.changes.pop_front();
                steps.take(1);
                continue;
            };
            let mut taken = 1;
            for entry in entries {
                let Some(interest) = self.table.get_mut(entry.interest as usize) else { continue };
                let before = interest.kinds.capacity();
                let known = if change.is_new { interest.kinds_of(change.index) } else { 0 };
                let wanted = if change.is_new { entry.kinds } else { 0 };
                taken += interest.set(change.index, known | wanted);
                self.bytes += (interest.kinds.capacity() - before) * size_of::<u16>();
            }
            steps.take(taken);
        }
    }

    /// Takes an interest's patterns out of the index, and at the end the interest, unless somebody wants it again.
    fn take_out(&mut self, key: u32, steps: &mut Steps) {
        steps.take(1);
        let Some(interest) = self.table.get_mut(key as usize) else {
            self.leaving.pop_front();
            return;
        };
        if interest.readers > 0 {
            interest.is_leaving = false;
            self.leaving.pop_front();
            return;
        }
        if std::mem::take(&mut interest.is_shared) {
            self.shared.remove(&(Arc::clone(&interest.patterns), interest.is_everything));
        }
        while steps.left() > 0
            && let Some(interest) = self.table.get_mut(key as usize)
            && let Some(place) = interest.places.pop()
        {
            steps.take(2);
            let pattern = interest.patterns.get(interest.places.len()).copied();
            let moved = pattern.and_then(|pattern| self.index.remove(&pattern, place));
            if let Some(Entry { interest, pattern, .. }) = moved
                && let Some(moved) = self.table.get_mut(interest as usize)
                && let Some(known) = moved.places.get_mut(usize::from(pattern))
            {
                *known = place;
            }
        }
        if self.table.get(key as usize).is_some_and(|interest| interest.places.is_empty()) {
            let interest = self.table.remove(key as usize);
            self.bytes = self.bytes.saturating_sub(interest.bytes());
            self.leaving.pop_front();
        }
    }

    /// What all interests hold in memory.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The interest with this id.
    #[must_use]
    pub fn get(&self, id: InterestId) -> Option<&Interest> {
        self.table.get(id.key() as usize)
    }
}

impl Interest {
    /// Looks the next pattern up, or a part of what it matches, in about so many steps. How many it took.
    fn look_up_next(
        &mut self,
        key: u32,
        index: &mut PatternIndex,
        names: &BTreeSet<(Symbol, InstrumentIndex)>,
        steps_max: usize,
    ) -> usize {
        let patterns = Arc::clone(&self.patterns);
        if self.looked_until.is_none() {
            let number = self.places.len();
            let Some(pattern) = patterns.get(number) else {
                self.is_ready = true;
                return 0;
            };
            let number = u16::try_from(number).unwrap_or(u16::MAX);
            let entry = Entry { interest: key, pattern: number, kinds: pattern.kinds() };
            self.places.push(index.insert(pattern, entry).unwrap_or(NOWHERE));
            self.looked_until = pattern.key().map(|key| (key, InstrumentIndex::FIRST));
            return 1;
        }
        let Some((from, pattern)) = self
            .looked_until
            .take()
            .zip(self.places.len().checked_sub(1).and_then(|at| patterns.get(at)))
        else {
            return 1;
        };
        let mut steps = 1;
        for &(symbol, index) in names.range(from..) {
            let is_meant =
                if pattern.is_prefix() { pattern.begins(&symbol) } else { symbol == from.0 };
            if !is_meant {
                break;
            }
            if steps > steps_max {
                self.looked_until = Some((symbol, index));
                break;
            }
            steps += 1;
            if pattern.matches(&symbol) {
                let known = self.kinds_of(index);
                steps += self.set(index, known | pattern.kinds()) - 1;
            }
        }
        steps
    }
}

#[cfg(test)]
mod tests;
