//! Which frames of a feed the subscription asked for.

use super::Follower;
use crate::wire::{Frame, Kind};

impl Follower {
    pub(super) fn wants(&self, frame: &Frame) -> bool {
        let Some(names) = self.symbols.names(frame.instrument()) else { return self.is_raw };
        if names.symbol().is_reserved() && !self.wants_system {
            return false;
        }
        let bit = frame.kind().map_or(0, Kind::mask);
        self.request.patterns.iter().any(|pattern| {
            pattern.means(names) && (frame.is_naming() || pattern.kinds() & bit != 0)
        })
    }
}
