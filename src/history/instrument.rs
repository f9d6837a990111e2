//! One instrument of a shard's index: its trades and cancellations in the order of the log, in full
//! blocks and a tail. An entry is named by its ordinal, which never changes; so a scan may rest at one
//! while new entries come, and while retention takes old ones away.
//!
//! Invariant: ordinals are in the order of `seq`, so an order by (`ts_event`, `seq`) is one by
//! (`ts_event`, ordinal).

use std::collections::VecDeque;
use std::ops::Range;

use super::block::{Block, Entry, packed_price};
use super::cancels::Cancels;
use crate::limits::INDEX_BLOCK_TRADES;
use crate::log::{Log, Read, Storage};
use crate::wire::{Frame, InstrumentId, Kind, Trade};

/// Entries of a block, as ordinals count.
pub(crate) const BLOCK: u64 = INDEX_BLOCK_TRADES as u64;

/// What looking at one entry in the log costs, in entries looked at in the index: a cache line that
/// is not there against a few nanoseconds.
pub(crate) const LOG_LOOK_COST: usize = 16;

/// One instrument.
#[derive(Debug)]
pub(crate) struct InstrumentHistory {
    pub(crate) instrument: InstrumentId,
    pub(crate) definition: Frame,
    blocks: VecDeque<Block>,
    /// Number of the first block: its ordinals begin at as many times [`BLOCK`].
    first_block: u64,
    /// What is not a full block yet.
    tail: Vec<Entry>,
    tail_received_first: u64,
    /// First ordinal that the log still has.
    start: u64,
    /// Least and greatest event time of all entries; the least may be one that was forgotten.
    span: Option<(u64, u64)>,
    pub(crate) cancels: Cancels,
}

/// Entries of one block, unpacked.
#[derive(Debug, Default)]
pub(crate) struct UnpackedBlock {
    pub(crate) ts: Vec<u64>,
    /// As [`super::block::price_of`] turns back.
    pub(crate) prices: Vec<u64>,
    pub(crate) quantities: Vec<u64>,
    /// Entries that the log no longer has as they were noted. Their time is `u64::MAX`, which no
    /// half-open range contains.
    pub(crate) damaged: u64,
    /// What loading cost, in entries looked at.
    pub(crate) cost: usize,
}

/// What a scan wants of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Columns {
    Times,
    All,
}

/// A block or the tail, as a scan sees it before it looks in.
#[derive(Clone, Debug)]
pub(crate) struct BlockRange {
    pub(crate) ordinals: Range<u64>,
    pub(crate) ts_min: u64,
    pub(crate) ts_max: u64,
    pub(crate) is_ordered: bool,
    pub(crate) has_cancels: bool,
}

impl InstrumentHistory {
    pub(crate) fn new(instrument: InstrumentId, definition: Frame) -> InstrumentHistory {
        InstrumentHistory {
            instrument,
            definition,
            blocks: VecDeque::new(),
            first_block: 0,
            tail: Vec::new(),
            tail_received_first: 0,
            start: 0,
            span: None,
            cancels: Cancels::default(),
        }
    }

    /// Takes note of a trade or cancellation that stands at `position`. The number of the block that it
    /// completed, if it did.
    pub(crate) fn add(&mut self, position: u64, frame: &Frame) -> Option<u64> {
        // A cancellation has its fields where a trade has them.
        let trade = as_trade(frame)?;
        let is_cancel = frame.kind == Kind::Cancel as u8;
        if self.tail.is_empty() {
            self.tail_received_first = frame.ts_recv.get();
        }
        if is_cancel {
            self.cancels.note(self.end());
        }
        let ts = frame.ts_event.get();
        self.span = self.span.map_or(Some((ts, ts)), |(min, max)| Some((min.min(ts), max.max(ts))));
        self.tail.push(Entry {
            position,
            seq: frame.seq.get(),
            ts,
            price: trade.price.get(),
            qty: trade.qty.get(),
            is_cancel,
        });
        if self.tail.len() < INDEX_BLOCK_TRADES {
            return None;
        }
        self.blocks.push_back(Block::pack(&self.tail, self.tail_received_first));
        // The next block is filled as slowly as its trades come; most instruments need less.
        self.tail.clear();
        Some(self.tail_block() - 1)
    }

    fn tail_block(&self) -> u64 {
        self.first_block + self.blocks.len() as u64
    }

    /// First ordinal that the log still has.
    pub(crate) fn start(&self) -> u64 {
        self.start
    }

    /// The ordinal behind the last entry.
    pub(crate) fn end(&self) -> u64 {
        self.tail_block() * BLOCK + self.tail.len() as u64
    }

    /// A full block by its number.
    pub(crate) fn block(&self, number: u64) -> Option<&Block> {
        self.blocks.get(usize::try_from(number.checked_sub(self.first_block)?).ok()?)
    }

    /// The same, to change it.
    pub(crate) fn block_mut(&mut self, number: u64) -> Option<&mut Block> {
        self.blocks.get_mut(usize::try_from(number.checked_sub(self.first_block)?).ok()?)
    }

    fn tail_entry(&self, ordinal: u64) -> Option<&Entry> {
        let index = ordinal.checked_sub(self.tail_block() * BLOCK)?;
        self.tail.get(usize::try_from(index).ok()?)
    }

    /// Position and `seq` of an entry.
    pub(crate) fn place(&self, ordinal: u64) -> Option<(u64, u64)> {
        match self.block(ordinal / BLOCK) {
            Some(block) => Some(block.place(index_in_block(ordinal))),
            None => self.tail_entry(ordinal).map(|entry| (entry.position, entry.seq)),
        }
    }

    pub(crate) fn is_cancel(&self, ordinal: u64) -> bool {
        match self.block(ordinal / BLOCK) {
            Some(block) => block.is_cancel(index_in_block(ordinal)),
            None => self.tail_entry(ordinal).is_some_and(|entry| entry.is_cancel),
        }
    }

    /// The frame of an entry; `None` when the log no longer has it as it was noted.
    pub(crate) fn frame<S: Storage>(&self, log: &Log<S>, ordinal: u64) -> Option<Frame> {
        let (position, seq) = self.place(ordinal)?;
        match log.read(position, 1) {
            Read::Frames([frame, ..])
                if frame.seq.get() == seq
                    && frame.instrument() == self.instrument
                    && as_trade(frame).is_some() =>
            {
                Some(*frame)
            }
            _ => None,
        }
    }

    /// Number of the first block of these ordinals, and the one behind the last.
    pub(crate) fn blocks_of(ordinals: &Range<u64>) -> Range<u64> {
        if ordinals.is_empty() {
            return 0..0;
        }
        ordinals.start / BLOCK..ordinals.end.div_ceil(BLOCK)
    }

    /// What block `number` has of these ordinals. `None` when that is nothing.
    pub(crate) fn piece(&self, number: u64, ordinals: &Range<u64>) -> Option<BlockRange> {
        let own = number * BLOCK..(number + 1).saturating_mul(BLOCK).min(self.end());
        let ordinals = ordinals.start.max(own.start)..ordinals.end.min(own.end);
        if ordinals.is_empty() {
            return None;
        }
        if let Some(block) = self.block(number) {
            return Some(BlockRange {
                ordinals,
                ts_min: block.ts_min,
                ts_max: block.ts_max,
                is_ordered: block.is_ordered,
                has_cancels: block.has_cancels(),
            });
        }
        if number != self.tail_block() {
            return None;
        }
        let range = index_in_block(ordinals.start)..index_in_block(ordinals.end - 1) + 1;
        let entries = self.tail.get(range)?;
        let times = entries.iter().map(|entry| entry.ts);
        Some(BlockRange {
            ordinals,
            ts_min: times.clone().min()?,
            ts_max: times.clone().max()?,
            is_ordered: times.is_sorted(),
            has_cancels: entries.iter().any(|entry| entry.is_cancel),
        })
    }

    /// Unpacks block `number`, which must be one that a [`BlockRange`] was made of.
    pub(crate) fn load<S: Storage>(
        &self,
        log: &Log<S>,
        number: u64,
        columns: Columns,
        unpacked: &mut UnpackedBlock,
    ) {
        (unpacked.damaged, unpacked.cost) = (0, INDEX_BLOCK_TRADES);
        let Some(block) = self.block(number) else {
            unpacked.cost = self.tail.len();
            unpacked.ts.clear();
            unpacked.ts.extend(self.tail.iter().map(|entry| entry.ts));
            if columns == Columns::All {
                unpacked.prices.clear();
                unpacked.quantities.clear();
                unpacked.prices.extend(self.tail.iter().map(|entry| packed_price(entry.price)));
                unpacked.quantities.extend(self.tail.iter().map(|entry| entry.qty));
            }
            return;
        };
        let has_copy = block.unpack_times(&mut unpacked.ts)
            && (columns == Columns::Times
                || block.unpack_amounts(&mut unpacked.prices, &mut unpacked.quantities));
        if !has_copy {
            self.load_from_log(log, number, unpacked);
        }
    }

    /// The slow way, for a block that keeps no copy.
    fn load_from_log<S: Storage>(&self, log: &Log<S>, number: u64, unpacked: &mut UnpackedBlock) {
        unpacked.cost = INDEX_BLOCK_TRADES * LOG_LOOK_COST;
        unpacked.ts.clear();
        unpacked.prices.clear();
        unpacked.quantities.clear();
        for ordinal in number * BLOCK..(number + 1) * BLOCK {
            let frame = self.frame(log, ordinal).filter(|_| ordinal >= self.start);
            unpacked.damaged += u64::from(frame.is_none() && ordinal >= self.start);
            let (ts, price, qty) = match frame.as_ref().and_then(as_trade) {
                Some(trade) => (trade.ts_event.get(), trade.price.get(), trade.qty.get()),
                None => (u64::MAX, 0, 0),
            };
            unpacked.ts.push(ts);
            unpacked.prices.push(packed_price(price));
            unpacked.quantities.push(qty);
        }
    }

    /// Least and greatest event time of these ordinals.
    pub(crate) fn times<S: Storage>(
        &self,
        log: &Log<S>,
        ordinals: &Range<u64>,
        unpacked: &mut UnpackedBlock,
    ) -> Option<(u64, u64)> {
        if *ordinals == (0..self.end()) {
            return self.span;
        }
        let mut found: Option<(u64, u64)> = None;
        for number in InstrumentHistory::blocks_of(ordinals) {
            let Some(piece) = self.piece(number, ordinals) else { continue };
            let is_cut =
                self.block(number).is_some() && piece.ordinals.end - piece.ordinals.start < BLOCK;
            let (min, max) = if is_cut {
                self.load(log, number, Columns::Times, unpacked);
                let cut = unpacked.ts.get(indexes_in_block(&piece.ordinals)).unwrap_or_default();
                let known = cut.iter().copied().filter(|ts| *ts != u64::MAX);
                match (known.clone().min(), known.max()) {
                    (Some(min), Some(max)) => (min, max),
                    _ => continue,
                }
            } else {
                (piece.ts_min, piece.ts_max)
            };
            let (least, most) = found.unwrap_or((min, max));
            found = Some((least.min(min), most.max(max)));
        }
        found
    }

    /// The first ordinal whose `seq` is not below this one.
    pub(crate) fn ordinal_of_seq(&self, seq: u64) -> u64 {
        let last = self.end().checked_sub(1).filter(|last| *last >= self.start);
        let Some((_, last_seq)) = last.and_then(|last| self.place(last)) else { return self.end() };
        if last_seq < seq {
            return self.end();
        }
        let block = self.blocks.partition_point(|block| block.seq_first() < seq) as u64;
        self.first_in_block(block, |ordinal| self.place(ordinal).is_some_and(|(_, own)| own < seq))
    }

    /// The first ordinal that was received at this time or later. Records that cannot be read are
    /// taken for early ones: whoever reads them finds out.
    pub(crate) fn ordinal_of_receive<S: Storage>(&self, log: &Log<S>, time: u64) -> u64 {
        let block = self.blocks.partition_point(|block| block.received_first < time) as u64;
        self.first_in_block(block, |ordinal| {
            self.frame(log, ordinal).is_none_or(|frame| frame.ts_recv.get() < time)
        })
    }

    /// The first ordinal for which `is_before` does not hold, given how many blocks begin with one for which
    /// it does.
    fn first_in_block(&self, blocks_before: u64, is_before: impl Fn(u64) -> bool) -> u64 {
        // The last of those blocks may have the place within it, or the tail may.
        let from = (self.first_block + blocks_before.saturating_sub(1)) * BLOCK;
        let (mut low, mut high) = (from.max(self.start), self.end());
        if blocks_before < self.blocks.len() as u64 {
            high = high.min((self.first_block + blocks_before) * BLOCK).max(low);
        }
        while low < high {
            let middle = low + (high - low) / 2;
            if is_before(middle) { low = middle + 1 } else { high = middle }
        }
        low
    }

    /// Forgets what the log no longer has. Entries, and bytes of copies, that went with it.
    pub(crate) fn forget_before(&mut self, first_position: u64) -> (u64, usize) {
        let mut freed = 0;
        while let Some(block) = self.blocks.front()
            && block.place(INDEX_BLOCK_TRADES - 1).0 < first_position
        {
            freed += block.copy_bytes();
            self.blocks.pop_front();
            self.first_block += 1;
        }
        let mut start = self.start.max(self.first_block * BLOCK);
        // Within one block, or within the tail.
        while self.place(start).is_some_and(|(position, _)| position < first_position) {
            start += 1;
        }
        let entries = start - self.start;
        self.start = start;
        self.cancels.forget_before(start);
        (entries, freed)
    }

    /// Bytes that the list takes, about.
    pub(crate) fn bytes(&self) -> usize {
        self.blocks.iter().map(Block::bytes).sum::<usize>()
            + self.tail.capacity() * size_of::<Entry>()
    }
}

/// A trade or cancellation, as a trade: both have the same fields.
pub(crate) fn as_trade(frame: &Frame) -> Option<&Trade> {
    let is_either = frame.kind == Kind::Trade as u8 || frame.kind == Kind::Cancel as u8;
    if is_either {
        zerocopy::FromBytes::ref_from_bytes(zerocopy::IntoBytes::as_bytes(frame)).ok()
    } else {
        None
    }
}

#[allow(clippy::cast_possible_truncation, reason = "below the entries of a block")]
pub(crate) fn index_in_block(ordinal: u64) -> usize {
    (ordinal % BLOCK) as usize
}

/// Indexes in their block of ordinals that all lie in one.
pub(crate) fn indexes_in_block(ordinals: &Range<u64>) -> Range<usize> {
    let start = index_in_block(ordinals.start);
    start..start + usize::try_from(ordinals.end - ordinals.start).unwrap_or(0)
}
