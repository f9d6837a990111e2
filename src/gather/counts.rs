//! Counters of what the machine did and refused to do.

use super::gathering::AttemptKind;

/// Counters since the machine was made. They only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Queries taken.
    pub begun: u64,
    /// Queries not taken.
    pub refused: u64,
    /// Answers with everything in them.
    pub complete: u64,
    /// Answers with something missing.
    pub partial: u64,
    /// Queries that failed.
    pub failed: u64,
    /// Queries whose client left or stopped them.
    pub abandoned: u64,
    /// Frames from leaves that matched nothing.
    pub late: u64,
    /// Frames from leaves that broke the protocol.
    pub unexpected: u64,
    /// Questions sent or to be sent, of all kinds.
    pub asked: u64,
    /// Questions to another copy because the first took long.
    pub hedged: u64,
    /// Hedges whose answer was the one taken.
    pub hedges_won: u64,
    /// Parts that another copy should have been asked for as well, and no budget allowed it.
    pub hedges_denied: u64,
    /// Questions to another copy because one failed.
    pub retried: u64,
    /// Questions to another copy because all that were asked are silent.
    pub failed_over: u64,
    /// Questions to a silent copy beside another, to see whether it answers again.
    pub probed: u64,
}

impl Counts {
    /// A copy of a part is asked.
    pub(super) fn note_asked(&mut self, kind: AttemptKind) {
        self.asked += 1;
        match kind {
            AttemptKind::First => {}
            AttemptKind::Hedge => self.hedged += 1,
            AttemptKind::Retry => self.retried += 1,
            AttemptKind::Failover => self.failed_over += 1,
        }
    }
}
