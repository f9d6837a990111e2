//! What may be asked beyond the one question that each part needs: a bucket that every first question fills
//! a little and every question beyond it empties by one.

/// What one question costs.
const QUESTION: u32 = 1_000;

/// One kind of question's bucket. It begins full.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    /// Thousandths of a question.
    left: u32,
    per_ask: u32,
    most: u32,
}

impl Budget {
    pub(super) fn new(per_ask: u32, most: u32) -> Budget {
        Budget { left: most, per_ask, most }
    }

    /// A part is asked for the first time.
    pub(super) fn earn(&mut self) {
        self.left = self.left.saturating_add(self.per_ask).min(self.most);
    }

    /// Whether one more question may be asked now; then it is paid.
    pub(super) fn take(&mut self) -> bool {
        let left = self.left.checked_sub(QUESTION);
        self.left = left.unwrap_or(self.left);
        left.is_some()
    }

    /// Whether more than half of what can be saved is there.
    pub(super) fn is_ample(&self) -> bool {
        self.left > self.most / 2
    }
}
