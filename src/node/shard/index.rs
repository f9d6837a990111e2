//! The shard's index: where each instrument's trades stand in the log. Rebuilt on every open from the
//! log itself, so it can never disagree with it for longer than one process lives.

use std::collections::BTreeMap;

use crate::limits;
use crate::log::{Log, Read, Storage};
use crate::wire::{Definition, Frame, Kind, Symbol};

/// Trades and cancellations of one block of an instrument's list: enough to skip it.
#[derive(Clone, Copy, Debug)]
struct Block {
    ts_min: u64,
    ts_max: u64,
}

/// One instrument.
#[derive(Debug)]
pub(super) struct Listed {
    pub(super) definition: Frame,
    /// Log positions of its trades and cancellations, ascending.
    positions: Vec<u64>,
    /// Event times of each [`limits::INDEX_BLOCK_TRADES`] of them.
    blocks: Vec<Block>,
    /// How many of the first block were removed.
    removed: usize,
    pub(super) cancels: u64,
    pub(super) ts_min: u64,
    pub(super) ts_max: u64,
}

impl Listed {
    fn new(definition: Frame) -> Listed {
        Listed {
            definition,
            positions: Vec::new(),
            blocks: Vec::new(),
            removed: 0,
            cancels: 0,
            ts_min: u64::MAX,
            ts_max: 0,
        }
    }

    fn add(&mut self, position: u64, frame: &Frame) {
        let ts = frame.ts_event.get();
        if (self.positions.len() + self.removed).is_multiple_of(limits::INDEX_BLOCK_TRADES) {
            self.blocks.push(Block { ts_min: ts, ts_max: ts });
        }
        if let Some(block) = self.blocks.last_mut() {
            block.ts_min = block.ts_min.min(ts);
            block.ts_max = block.ts_max.max(ts);
        }
        self.positions.push(position);
        self.cancels += u64::from(frame.kind == Kind::Cancel as u8);
        self.ts_min = self.ts_min.min(ts);
        self.ts_max = self.ts_max.max(ts);
    }

    /// Trades and cancellations listed.
    pub(super) fn len(&self) -> usize {
        self.positions.len()
    }

    /// Positions of its trades and cancellations, newest first.
    pub(super) fn newest_first(&self) -> impl Iterator<Item = u64> {
        self.positions.iter().rev().copied()
    }

    /// Positions in blocks that may hold event times of `[from, to)`, oldest first.
    pub(super) fn within(&self, from: u64, to: u64) -> impl Iterator<Item = u64> {
        let first = (limits::INDEX_BLOCK_TRADES - self.removed).min(self.positions.len());
        let (first, rest) = self.positions.split_at(first);
        let chunks = std::iter::once(first).chain(rest.chunks(limits::INDEX_BLOCK_TRADES));
        let blocks = chunks.zip(&self.blocks);
        let hit = move |(_, block): &(&[u64], &Block)| block.ts_max >= from && block.ts_min < to;
        blocks.filter(hit).flat_map(|(positions, _)| positions.iter().copied())
    }
}

impl Listed {
    /// Forgets what stood before this position; the log has removed it. Returns how many it were.
    fn forget_before<S: Storage>(&mut self, first_position: u64, log: &Log<S>) -> usize {
        let gone = self.positions.partition_point(|position| *position < first_position);
        if gone == 0 {
            return 0;
        }
        self.positions.drain(..gone);
        let blocks_gone = (gone + self.removed) / limits::INDEX_BLOCK_TRADES;
        self.removed = (gone + self.removed) % limits::INDEX_BLOCK_TRADES;
        self.blocks.drain(..blocks_gone.min(self.blocks.len()));
        // The times of what is left of the first block; the cancellations are counted too high from
        // here on, which costs a look and changes no answer.
        let first = (limits::INDEX_BLOCK_TRADES - self.removed).min(self.positions.len());
        if let Some(block) = self.blocks.first_mut() {
            *block = Block { ts_min: u64::MAX, ts_max: 0 };
            for position in &self.positions[..first] {
                if let Read::Frames([frame, ..]) = log.read(*position, 1) {
                    let ts = frame.ts_event.get();
                    block.ts_min = block.ts_min.min(ts);
                    block.ts_max = block.ts_max.max(ts);
                }
            }
        }
        self.ts_min = self.blocks.iter().map(|block| block.ts_min).min().unwrap_or(u64::MAX);
        self.ts_max = self.blocks.iter().map(|block| block.ts_max).max().unwrap_or(0);
        gone
    }
}

/// All instruments of a shard.
#[derive(Debug, Default)]
pub(super) struct Index {
    by_symbol: BTreeMap<Symbol, u32>,
    listed: BTreeMap<u32, Listed>,
    pub(super) trades: u64,
}

impl Index {
    /// Reads the whole log.
    pub(super) fn rebuild<S: Storage>(log: &Log<S>) -> (Index, u64) {
        let mut index = Index::default();
        let mut damaged = 0;
        let mut position = log.first_position();
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
                        if frame.kind == Kind::LogMark as u8 {
                            // An epoch may begin in the middle of what was read.
                            void_from = log.void_from(position);
                        } else if frame.seq.get() < void_from {
                            index.note(position, frame);
                        }
                    }
                    position += frames.len() as u64;
                }
            }
        }
    }

    /// Takes note of a frame that stands at `position`; marks and quotes change nothing.
    pub(super) fn note(&mut self, position: u64, frame: &Frame) {
        let instrument = frame.instrument.get();
        match frame.kind() {
            Some(Kind::Definition) => {
                let Some(definition) = frame.view::<Definition>() else { return };
                if self.listed.len() < limits::INSTRUMENTS_MAX {
                    self.by_symbol.insert(definition.symbol, instrument);
                    self.listed.entry(instrument).or_insert_with(|| Listed::new(*frame));
                }
            }
            Some(Kind::Trade | Kind::Cancel) => {
                if let Some(listed) = self.listed.get_mut(&instrument) {
                    listed.add(position, frame);
                    self.trades += 1;
                }
            }
            _ => {}
        }
    }

    /// Forgets what stood before this position: the log's retention has removed it.
    pub(super) fn forget_before<S: Storage>(&mut self, first_position: u64, log: &Log<S>) {
        for listed in self.listed.values_mut() {
            let gone = listed.forget_before(first_position, log);
            self.trades = self.trades.saturating_sub(gone as u64);
        }
    }

    /// The definitions of all instruments.
    pub(super) fn definitions(&self) -> impl Iterator<Item = Frame> {
        self.listed.values().map(|listed| listed.definition)
    }

    /// The instrument of this name.
    pub(super) fn find(&self, symbol: &Symbol) -> Option<(u32, &Listed)> {
        let instrument = *self.by_symbol.get(symbol)?;
        Some((instrument, self.listed.get(&instrument)?))
    }

    pub(super) fn len(&self) -> usize {
        self.listed.len()
    }
}
