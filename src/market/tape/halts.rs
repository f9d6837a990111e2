//! Which instruments are halted while a tape is told: a halt becomes a quote that says so, and every quote until trading
//! goes on says so too. So a halt reaches every reader of quotes, late ones also, and needs no kind of its own.

use super::merge::Placed;
use super::{Tape, TapeBody, TapeEvent};
use crate::market::price::Price;
use crate::wire::{Flags, InstrumentIndex};

/// The quote of an instrument that had none.
const NO_QUOTE: TapeBody =
    TapeBody::Quote { bid: Price::UNDEFINED, ask: Price::UNDEFINED, bid_qty: 0, ask_qty: 0 };

#[derive(Clone, Copy)]
struct Known {
    quote: TapeBody,
    is_halted: bool,
}

/// What is known of each instrument.
pub(super) struct Halts(Vec<Known>);

impl Halts {
    /// Of so many instruments, of which none is halted.
    pub(super) fn new(instruments: usize) -> Halts {
        Halts(vec![Known { quote: NO_QUOTE, is_halted: false }; instruments])
    }

    /// An event as it is told.
    pub(super) fn told(&mut self, event: &TapeEvent, index: InstrumentIndex) -> TapeEvent {
        let mut told = *event;
        let Some(known) = self.0.get_mut(index.place()) else { return told };
        match event.body {
            TapeBody::Halt { is_halted } => {
                known.is_halted = is_halted;
                told.body = known.quote;
                told.flags |= Flags::LAST;
            }
            // A journal's quote says it itself.
            TapeBody::Quote { .. } => known.quote = event.body,
            TapeBody::Trade { .. } | TapeBody::Cancel { .. } => return told,
        }
        if known.is_halted {
            told.flags |= Flags::HALTED;
        }
        told
    }
}

/// Leaves out halts that change nothing: what has been said already.
pub(super) fn leave_out_unchanged(
    placed: &mut Vec<Placed>,
    tapes: &[Tape],
    indexes: &[Vec<InstrumentIndex>],
    instruments: usize,
) {
    let mut halted = vec![false; instruments];
    placed.retain(|at| {
        let event = &tapes[at.tape].events[at.event];
        let TapeBody::Halt { is_halted } = event.body else { return true };
        let index = indexes[at.tape][event.instrument.place()];
        std::mem::replace(&mut halted[index.place()], is_halted) != is_halted
    });
}
