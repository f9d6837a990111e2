//! What the heads of a log's segments state: definitions, and in a journal the last value of each kind of each
//! instrument, as a node that kept the log would.

use std::collections::BTreeMap;

use crate::limits;
use crate::log::mark::{is_statement, is_uncertain};
use crate::wire::{Definition, Flags, Frame, InstrumentId, InstrumentIndex, Kind, Symbol, U16};

/// The symbol in a definition that defines nothing: the flag STALE makes it one, whatever stands here.
const NO_SYMBOL: &str = "$lost";

/// All that the frames so far say.
///
/// Invariant: it has at most [`limits::INSTRUMENTS_MAX`] instruments, each with a frame of each data kind.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// By index and kind: the newest frame, and whether it may not be the newest.
    frames: BTreeMap<(InstrumentIndex, u8), (Frame, bool)>,
    /// Frames that nobody has, of which each may have been a definition.
    lost: usize,
}

impl Known {
    /// Takes in a frame, or a statement of one.
    pub(super) fn note(&mut self, frame: &Frame) {
        let index = frame.instrument().index();
        if index.place() >= limits::INSTRUMENTS_MAX {
            return;
        }
        let mut plain = *frame;
        plain.flags = U16::new(frame.flags.get() & !(Flags::SNAPSHOT | Flags::STALE));
        plain.renew_crc();
        let is_uncertain = is_uncertain(frame);
        let known = self.frames.entry((index, frame.kind)).or_insert((plain, is_uncertain));
        // What was said again says no more than the frame did.
        if !is_statement(frame) || frame.seq >= known.0.seq {
            *known = (plain, is_uncertain);
        }
    }

    /// So many frames are lost: no value is known to be the last.
    pub(super) fn note_lost(&mut self, count: u64) {
        self.lost = self.lost.saturating_add(usize::try_from(count).unwrap_or(usize::MAX));
        for ((_, kind), (_, is_uncertain)) in &mut self.frames {
            *is_uncertain |= *kind != Kind::Definition as u8;
        }
    }

    /// The symbol of an instrument, when it is defined.
    pub(super) fn symbol(&self, instrument: InstrumentId) -> Option<Symbol> {
        let (definition, is_uncertain) =
            self.frames.get(&(instrument.index(), Kind::Definition as u8))?;
        let definition = definition.view::<Definition>()?;
        (!is_uncertain && definition.instrument() == instrument).then_some(definition.symbol)
    }

    /// What the head of a journal's segment states.
    pub(super) fn statements(&self) -> Vec<Frame> {
        let stated = self.frames.values().map(|(frame, is_uncertain)| {
            frame.delivered(if *is_uncertain { Flags::STALE } else { 0 })
        });
        let last = self.frames.keys().map(|(index, _)| index.place()).max();
        let behind = last.map_or(0, |last| last + 1);
        // More than that are a front that was trimmed: then the heads of the shards' logs state what was defined.
        let reserved = (1..=limits::LOST_NUMBERS_MAX)
            .contains(&self.lost)
            .then(|| InstrumentIndex::at(behind.saturating_add(self.lost).saturating_sub(1)))
            .flatten();
        let reserved = reserved.filter(|index| index.place() < limits::INSTRUMENTS_MAX);
        let reserved = reserved.and_then(|index| {
            let source = self.frames.values().next()?.0.instrument().source();
            let instrument = InstrumentId::new(source, index);
            let definition = Definition::new(instrument, NO_SYMBOL.parse().ok()?, 0);
            Some(Frame::seal(definition).delivered(Flags::STALE))
        });
        stated.chain(reserved).collect()
    }
}
