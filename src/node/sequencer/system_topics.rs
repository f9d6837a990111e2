//! What core itself says in its sequence: frames on the topics below `$sys.`, which it defines when they are first needed.

use super::Sequencer;
use crate::log::{AppendError, Storage};
use crate::time::Now;
use crate::wire::{Definition, Frame, InstrumentId, Message, Symbol};

impl<S: Storage> Sequencer<S> {
    /// Gives a frame its place on a topic of the system.
    ///
    /// # Errors
    /// When the journal does not take it.
    pub(super) fn publish_on<M: Message>(
        &mut self,
        now: Now,
        topic: Symbol,
        message: M,
    ) -> Result<(), AppendError> {
        // Neither prices nor quantities.
        let stated = Definition::new(InstrumentId::default(), topic, 0);
        if let Some(definition) = self.market.define_local(&stated, self.journal.next_seq(), now) {
            self.append_local(&definition)?;
        }
        // There is no number left for it.
        let Some(instrument) = self.market.instrument_of(&topic) else {
            return Err(AppendError::Full);
        };
        let frame = Frame::seal(message);
        let frame = self.market.stamp_local(now, frame, instrument, self.journal.next_seq());
        self.append_local(&frame)
    }
}
