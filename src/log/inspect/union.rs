//! Several shards' logs as one sequence: in order of `seq`, each frame once.
//!
//! Shards of one system have disjoint parts, replicas the same part. A shard that was away when core
//! began an epoch still holds frames that never happened; the other logs know, so each learns of all
//! epochs.

use super::{Files, Item, Reader};
use crate::log::backend::StorageError;

/// One log, or the union of several.
#[derive(Debug)]
pub struct Union<F> {
    readers: Vec<Reader<F>>,
    /// The next item of each reader; `None` = not fetched yet, or at its end.
    heads: Vec<Option<Item>>,
    is_begun: bool,
    last_seq: u64,
}

impl<F: Files> Union<F> {
    /// The union of these logs.
    #[must_use]
    pub fn new(mut readers: Vec<Reader<F>>) -> Union<F> {
        if let [one, others @ ..] = &readers[..] {
            let mut epochs = one.epochs().clone();
            others.iter().for_each(|other| epochs.merge(other.epochs()));
            readers.iter_mut().for_each(|reader| reader.learn(&epochs));
        }
        let heads = readers.iter().map(|_| None).collect();
        Union { readers, heads, is_begun: false, last_seq: 0 }
    }

    /// Its logs.
    #[must_use]
    pub fn readers(&self) -> &[Reader<F>] {
        &self.readers
    }

    /// Bytes of records gone through so far, in all logs.
    #[must_use]
    pub fn bytes_read(&self) -> u64 {
        self.readers.iter().map(Reader::bytes_read).sum()
    }

    /// The next item; `None` at the end of all.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn next_item(&mut self) -> Result<Option<Item>, StorageError> {
        if let [one] = &mut self.readers[..] {
            return one.next_item();
        }
        if !self.is_begun {
            self.is_begun = true;
            for index in 0..self.readers.len() {
                self.heads[index] = self.readers[index].next_item()?;
            }
        }
        loop {
            let heads = self.heads.iter().enumerate();
            let first =
                heads.filter_map(|(index, head)| Some((order(head.as_ref()?), index))).min();
            let Some((_, index)) = first else { return Ok(None) };
            let item = self.heads[index].take();
            self.heads[index] = self.readers[index].next_item()?;
            match item {
                // A replica's copy of what has been handed out already.
                Some(Item::Data(frame)) if frame.seq.get() <= self.last_seq => {}
                Some(Item::Data(frame)) => {
                    self.last_seq = frame.seq.get();
                    return Ok(Some(Item::Data(frame)));
                }
                item => return Ok(item),
            }
        }
    }
}

/// Statements, holes, marks and losses go out as soon as they are come upon.
fn order(item: &Item) -> u64 {
    match item {
        Item::Data(frame) => frame.seq.get(),
        Item::Statement(_)
        | Item::Hole(..)
        | Item::Mark(..)
        | Item::Epoch(..)
        | Item::Lost { .. } => 0,
    }
}
