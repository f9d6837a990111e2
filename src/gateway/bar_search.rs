//! The last bars before a time, where there may have been a pause. Pure: it says which span is asked for next.
//!
//! # Decisions
//!
//! * History is asked by time, and nobody knows how long a pause was. So where a span has too few bars, the one before it is
//!   asked, eight times as long; and a shorter one where that has more than an answer may bring.
//! * At last all is asked once more, from the oldest bar that is wanted. So an answer is of one cut.
//! * The number of questions has a bound. Behind it the client is told to ask by time.

use crate::limits;

/// Each span is so many times as long as the one behind it.
const GROWTH: u64 = 8;

/// A search, between two of its questions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BarSearch {
    interval_ns: u64,
    wanted: usize,
    /// Behind the newest bar.
    to: u64,
    /// The span that is asked for now.
    asked: (u64, u64),
    span: u64,
    /// Bars behind that span, and where the oldest of them begins.
    found: usize,
    oldest: u64,
    is_last: bool,
    questions: u32,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// This span is asked for.
    Ask(u64, u64),
    /// The answer that has come is the one.
    Done,
    /// There were too many questions.
    GivenUp,
}

impl BarSearch {
    /// The last `wanted` bars up to `to`, when nothing is at or behind `end`.
    pub(super) fn new(interval_s: u32, wanted: u32, end: u64, to: u64) -> BarSearch {
        let interval_ns = u64::from(interval_s.max(1)) * 1_000_000_000;
        let bars =
            u64::from(wanted).saturating_mul(GROWTH).min(u64::from(limits::REPORT_ROWS_MAX) / 4);
        let span = interval_ns.saturating_mul(bars.max(1));
        let mut search = BarSearch {
            interval_ns,
            wanted: usize::try_from(wanted).unwrap_or(usize::MAX),
            to,
            asked: (0, to),
            span,
            found: 0,
            oldest: to,
            is_last: false,
            questions: 1,
        };
        search.asked.0 = search.begin(end.min(to));
        search
    }

    /// The span that is asked for now.
    pub(super) fn asked(&self) -> (u64, u64) {
        self.asked
    }

    /// Where the span before this time begins: where a bar does.
    fn begin(&self, end: u64) -> u64 {
        let begin = end.saturating_sub(self.span);
        begin - begin.checked_rem(self.interval_ns).unwrap_or(0)
    }

    fn ask(&mut self, from: u64, to: u64) -> Step {
        self.questions += 1;
        if self.questions > limits::GATEWAY_BAR_QUESTIONS_MAX {
            return Step::GivenUp;
        }
        self.asked = (from, to);
        Step::Ask(from, to)
    }

    fn ask_all(&mut self, from: u64) -> Step {
        self.is_last = true;
        self.ask(from, self.to)
    }

    /// Where the bars of the answer begin, the oldest first.
    pub(super) fn take(&mut self, starts: &[u64]) -> Step {
        let (from, to) = self.asked;
        let lacks = self.wanted.saturating_sub(self.found);
        let is_first = to == self.to;
        if self.is_last || is_first && (starts.len() >= lacks || from == 0) {
            return Step::Done;
        }
        if let Some(start) = starts.len().checked_sub(lacks).and_then(|at| starts.get(at)) {
            return self.ask_all(*start);
        }
        self.found += starts.len();
        self.oldest = starts.first().copied().unwrap_or(self.oldest).min(self.oldest);
        if from == 0 {
            return self.ask_all(self.oldest.min(to));
        }
        self.span = self.span.saturating_mul(GROWTH);
        self.ask(self.begin(from), from)
    }

    /// The span has more than an answer may bring.
    pub(super) fn shorten(&mut self) -> Step {
        let (_, to) = self.asked;
        self.span /= GROWTH;
        if self.is_last || to == self.to || self.span < self.interval_ns {
            return Step::Done;
        }
        self.ask(self.begin(to), to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// What a history with these bars, by second, answers: the last span, and after how many questions.
    fn search(history: &[u64], wanted: u32, rows_max: usize) -> (Vec<u64>, u32, Step) {
        let end = history.last().map_or(0, |last| last + 1) * SECOND;
        let mut search = BarSearch::new(1, wanted, end, u64::MAX);
        loop {
            let (from, to) = search.asked();
            let is_in = |start: &u64| (from..to).contains(start);
            let starts: Vec<u64> = history.iter().map(|at| at * SECOND).filter(is_in).collect();
            let step = match starts.len() > rows_max {
                true => search.shorten(),
                false => search.take(&starts),
            };
            if !matches!(step, Step::Ask(..)) {
                return (starts, search.questions, step);
            }
        }
    }

    fn last(history: &[u64], wanted: usize) -> Vec<u64> {
        let first = history.len().saturating_sub(wanted);
        history[first..].iter().map(|at| at * SECOND).collect()
    }

    #[test]
    fn bars_before_a_pause_are_found_however_long_it_was() {
        for pause in [0, 100, 5_000, 200_000, 90_000_000] {
            let begin = 100_000_000;
            let mut history: Vec<u64> = (begin..begin + 1_000).collect();
            history.extend((0..50).map(|at| begin + 1_000 + pause + at));
            let (found, questions, step) = search(&history, 400, usize::MAX);
            let found = &found[found.len().saturating_sub(400)..];
            assert_eq!((found, step), (&last(&history, 400)[..], Step::Done), "{pause}");
            assert!(questions < 12, "{pause}: {questions}");
        }
    }

    #[test]
    fn a_span_with_too_many_rows_is_asked_in_shorter_ones() {
        let mut history: Vec<u64> = (1_000_000..1_200_000).collect();
        history.extend((0..50).map(|at| 2_000_000 + at));
        let (found, questions, step) = search(&history, 400, 30_000);
        assert_eq!((found, step), (last(&history, 400), Step::Done), "{questions}");
    }

    #[test]
    fn a_history_with_fewer_bars_is_answered_whole() {
        let history = [5, 90_000, 1_000_000_000];
        let (found, _, step) = search(&history, 400, usize::MAX);
        assert_eq!((found, step), (last(&history, 400), Step::Done));
        assert_eq!(search(&[], 400, usize::MAX).0, Vec::<u64>::new());
    }

    #[test]
    fn the_number_of_questions_has_a_bound() {
        // No span is short enough, or long enough, to end it.
        let mut search = BarSearch::new(1, 400, u64::MAX / 2, u64::MAX);
        let mut step = search.take(&[]);
        let mut questions = 1;
        while matches!(step, Step::Ask(..)) {
            questions += 1;
            step = if questions % 2 == 0 { search.shorten() } else { search.take(&[]) };
        }
        assert_eq!(step, Step::GivenUp);
        assert_eq!(questions, limits::GATEWAY_BAR_QUESTIONS_MAX);
    }
}
