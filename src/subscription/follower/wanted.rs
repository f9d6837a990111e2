//! Which frames of a feed the subscription asked for.

use super::Follower;
use crate::wire::{Frame, Kind};

impl Follower {
    pub(super) fn wants(&self, frame: &Frame) -> bool {
        let symbol = self.symbols.symbol(frame.instrument());
        let Some(symbol) = symbol else { return self.is_raw };
        if symbol.as_str().starts_with('$') && !self.wants_system {
            return false;
        }
        let bit = frame.kind().map_or(0, Kind::mask);
        let is_definition = frame.kind == Kind::Definition as u8;
        self.request
            .patterns
            .iter()
            .any(|pattern| pattern.matches(symbol) && (is_definition || pattern.kinds() & bit != 0))
    }
}
