//! How often days did what they are there for: a bound that never has an effect is not tested by them.

use std::fmt;

/// What fills a message whose frames were overtaken.
pub(crate) const FILLERS: &str = "frames that only fill a message";

/// How often what is looked at here had an effect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// The bound of a flush, and that of a round of the fan-out.
    pub(crate) bounded_flushes: u64,
    pub(crate) full_rounds: u64,
    /// Connections that further reactors were given, and messages that they took.
    pub(crate) handed_over: u64,
    pub(crate) messages: u64,
    /// Turns of a further reactor that stood still in the middle.
    pub(crate) broken_turns: u64,
    /// Turns that had no more to spend on bulk, and on looking patterns up.
    pub(crate) full_bulk: u64,
    pub(crate) full_looks: u64,
    /// Logs without a descriptor for a segment, and without their directory.
    pub(crate) lacking: u64,
    pub(crate) displaced: u64,
    /// Peers that were told that there is no descriptor.
    pub(crate) surplus: u64,
    /// Segments that went by their age alone.
    pub(crate) removed_by_age: u64,
    /// What browsers were sent, and what of it only filled a message; answers over HTTP.
    pub(crate) browser_frames: u64,
    pub(crate) fillers: u64,
    pub(crate) http_answers: u64,
}

impl Counts {
    pub(crate) fn by_name(&self) -> [(&'static str, u64); 14] {
        [
            ("flushes cut short by their bound", self.bounded_flushes),
            ("full rounds of the fan-out", self.full_rounds),
            ("connections handed over", self.handed_over),
            ("mailbox messages taken", self.messages),
            ("turns that stood still in the middle", self.broken_turns),
            ("turns with all the bulk they may have", self.full_bulk),
            ("turns with all the looks at patterns they may have", self.full_looks),
            ("logs without a descriptor", self.lacking),
            ("logs without their directory", self.displaced),
            ("peers told that there is no descriptor", self.surplus),
            ("segments removed by age", self.removed_by_age),
            ("frames and lines for browsers", self.browser_frames),
            (FILLERS, self.fillers),
            ("answers over HTTP", self.http_answers),
        ]
    }

    pub(crate) fn add(&mut self, other: &Counts) {
        self.bounded_flushes += other.bounded_flushes;
        self.full_rounds += other.full_rounds;
        self.handed_over += other.handed_over;
        self.messages += other.messages;
        self.broken_turns += other.broken_turns;
        self.full_bulk += other.full_bulk;
        self.full_looks += other.full_looks;
        self.lacking += other.lacking;
        self.displaced += other.displaced;
        self.surplus += other.surplus;
        self.removed_by_age += other.removed_by_age;
        self.browser_frames += other.browser_frames;
        self.fillers += other.fillers;
        self.http_answers += other.http_answers;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = self.by_name().map(|(name, count)| format!("{count} {name}"));
        write!(to, "    {}", counts.join(", "))
    }
}
