//! The frames of several logs in order of `seq`, each once, and what no log has.

use crate::log::backend::StorageError;
use crate::log::inspect::{Files, Item, Reader};
use crate::wire::{Flags, Frame, U16};

/// Why logs are not one sequence.
#[derive(Debug, thiserror::Error)]
pub enum MergeError {
    /// Two logs have one seq and two frames.
    #[error(
        "{first} and {second} have different frames with seq {seq}: they are two histories. Give one of them up \
         with `pregao recover --reset NODE`"
    )]
    Disagree {
        /// The seq.
        seq: u64,
        /// Whose frame came first.
        first: String,
        /// Who has another.
        second: String,
    },
    /// A log cannot be read.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Reads logs of one sequence side by side. Void frames are left out.
#[derive(Debug)]
pub struct Merge<F> {
    sources: Vec<Source<F>>,
}

#[derive(Debug)]
struct Source<F> {
    name: String,
    reader: Reader<F>,
    /// Its next frame.
    head: Option<Frame>,
    /// Frames from this seq on are no part of the history.
    until_seq: u64,
    /// What was come upon before the head.
    beside: Vec<Item>,
}

impl<F: Files> Merge<F> {
    /// The logs of these readers, each with a name and the seq before which it is read.
    ///
    /// # Errors
    /// When a log cannot be read.
    pub fn new(readers: Vec<(String, Reader<F>, u64)>) -> Result<Merge<F>, MergeError> {
        let mut merge = Merge { sources: Vec::with_capacity(readers.len()) };
        for (name, reader, until_seq) in readers {
            let mut source = Source { name, reader, head: None, until_seq, beside: Vec::new() };
            source.advance()?;
            merge.sources.push(source);
        }
        Ok(merge)
    }

    /// The next frame, as it was sequenced.
    ///
    /// # Errors
    /// When two logs disagree, or one cannot be read.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, MergeError> {
        let heads = self.sources.iter().filter_map(|source| source.head.as_ref());
        let Some(seq) = heads.map(|frame| frame.seq.get()).min() else { return Ok(None) };
        let mut taken: Option<(usize, Frame)> = None;
        for place in 0..self.sources.len() {
            let head = self.sources[place].head.filter(|frame| frame.seq.get() == seq);
            let Some(frame) = head else { continue };
            match &taken {
                Some((first, other)) if *other != frame => {
                    let name = |place: usize| self.sources[place].name.clone();
                    return Err(MergeError::Disagree {
                        seq,
                        first: name(*first),
                        second: name(place),
                    });
                }
                Some(_) => {}
                None => taken = Some((place, frame)),
            }
            self.sources[place].advance()?;
        }
        Ok(taken.map(|(_, frame)| frame))
    }

    /// What was come upon beside the frames since the last call: statements, holes, losses.
    pub fn take_beside(&mut self) -> Vec<Item> {
        self.sources.iter_mut().flat_map(|source| source.beside.drain(..)).collect()
    }

    /// Bytes of records gone through so far.
    #[must_use]
    pub fn bytes_read(&self) -> u64 {
        self.sources.iter().map(|source| source.reader.bytes_read()).sum()
    }
}

impl<F: Files> Source<F> {
    fn advance(&mut self) -> Result<(), MergeError> {
        self.head = self.read()?;
        Ok(())
    }

    fn read(&mut self) -> Result<Option<Frame>, MergeError> {
        while let Some(item) = self.reader.next_item()? {
            match item {
                Item::Data(frame) if frame.seq.get() < self.until_seq => {
                    return Ok(Some(as_sequenced(frame)));
                }
                Item::Data(_) | Item::Mark(..) => {}
                other => self.beside.push(other),
            }
        }
        Ok(None)
    }
}

/// Without what was said about its delivery.
fn as_sequenced(mut frame: Frame) -> Frame {
    frame.flags = U16::new(frame.flags.get() & !Flags::DELIVERY);
    frame.renew_crc();
    frame
}
