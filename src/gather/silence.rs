//! Whether one node has gone silent: it keeps a question for much longer than it ever needed lately, and
//! sends nothing else meanwhile. A stopped process, a lost route and a disk that hangs look like that; their
//! connections stand.
//!
//! The rule is pure: from the oldest open question or the last frame, whichever is later, several times the
//! node's own observed 95th percentile, with a floor. A node that lost twice against another copy without
//! a frame between is silent too. It is so until it answers a question within that same time, and since it is
//! asked no more while another copy can be, it is probed: asked what another copy is asked anyway. What this
//! is not: the breaker, which judges deadlines and is slower by orders of magnitude.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::gathering::RowKind;
use super::latency::Latency;
use super::request::RequestId;
use crate::limits::{
    LEAF_PROBE_WAIT_MAX, LEAF_PROBE_WAIT_MIN, LEAF_RACES_LOST_MAX, LEAF_SILENT_AFTER_DEFAULT,
    LEAF_SILENT_AFTER_MIN, LEAF_SILENT_P95S,
};
use crate::time::Mono;
use crate::wire::ErrorCode;

/// How long a node may keep a question of one kind without a frame.
pub(super) fn silence_timeout(latency: Option<&Latency>) -> Duration {
    let p95 = latency.and_then(Latency::p95);
    p95.map_or(LEAF_SILENT_AFTER_DEFAULT, |p95| p95 * LEAF_SILENT_P95S).max(LEAF_SILENT_AFTER_MIN)
}

/// A question that only shows whether a silent node answers again. Its rows are dropped.
#[derive(Clone, Copy, Debug)]
pub(super) struct Probe {
    pub(super) request: RequestId,
    pub(super) rows: RowKind,
    pub(super) asked: Mono,
    /// When it is given up.
    pub(super) due: Mono,
}

/// What came of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ProbeOutcome {
    /// Nothing came.
    NoAnswer,
    /// A whole answer.
    Complete,
    /// Another answer, with its code.
    Incomplete(Option<ErrorCode>),
}

/// When a silent node is probed next.
#[derive(Clone, Copy, Debug)]
struct Silence {
    next_probe: Mono,
    wait: Duration,
}

/// What is known about one node's silence.
#[derive(Debug, Default)]
pub(super) struct SilenceDetector {
    /// Open questions that another copy could answer, by kind, oldest first.
    open: BTreeMap<RowKind, BTreeSet<(Mono, RequestId)>>,
    /// When a frame last came for a question that was open.
    heard: Mono,
    /// Questions in a row that another copy answered first, with nothing heard between.
    races_lost: u32,
    silence: Option<Silence>,
    /// When it fell silent, until that has been looked at.
    unhandled_since: Option<Mono>,
    probe: Option<Probe>,
}

impl SilenceDetector {
    pub(super) fn note_asked(&mut self, rows: RowKind, asked: Mono, request: RequestId) {
        self.open.entry(rows).or_default().insert((asked, request));
    }

    /// A question is over, however it ended.
    pub(super) fn note_over(&mut self, rows: RowKind, asked: Mono, request: RequestId) {
        if let Some(open) = self.open.get_mut(&rows) {
            open.remove(&(asked, request));
        }
    }

    pub(super) fn note_heard(&mut self, now: Mono) {
        self.heard = now;
        self.races_lost = 0;
    }

    /// It answered a question after so long, which is soon enough or not.
    pub(super) fn note_answered(&mut self, took: Duration, silence_timeout: Duration) {
        if took <= silence_timeout {
            self.silence = None;
            self.unhandled_since = None;
        }
    }

    /// Another copy answered a question first that was put to this one before. Whether it is silent now.
    pub(super) fn note_race_lost(
        &mut self,
        now: Mono,
        asked: Mono,
        silence_timeout: Duration,
    ) -> bool {
        self.races_lost = self.races_lost.saturating_add(1);
        if self.races_lost >= LEAF_RACES_LOST_MAX
            || now.since(asked.max(self.heard)) >= silence_timeout
        {
            self.fall_silent(now);
        }
        self.is_silent()
    }

    /// Since when it has kept a question of this kind without a frame.
    fn quiet_since(&self, open: &BTreeSet<(Mono, RequestId)>) -> Option<Mono> {
        open.first().map(|(asked, _)| (*asked).max(self.heard))
    }

    /// For how long it has kept any question without a frame.
    pub(super) fn quiet_for(&self, now: Mono) -> Duration {
        let since = self.open.values().filter_map(|open| self.quiet_since(open)).min();
        since.map_or(Duration::ZERO, |since| now.since(since))
    }

    /// For how long it has kept any question, with or without a frame.
    pub(super) fn oldest_open_for(&self, now: Mono) -> Duration {
        let asked = self.open.values().filter_map(BTreeSet::first).map(|(asked, _)| *asked).min();
        asked.map_or(Duration::ZERO, |asked| now.since(asked))
    }

    /// When it is silent, if nothing is heard until then, or since when, if nobody has looked yet.
    pub(super) fn silent_at(&self, latencies: &BTreeMap<RowKind, Latency>) -> Option<Mono> {
        if self.is_silent() {
            return self.unhandled_since;
        }
        let at = |(rows, open): (&RowKind, &BTreeSet<(Mono, RequestId)>)| {
            Some(self.quiet_since(open)? + silence_timeout(latencies.get(rows)))
        };
        self.open.iter().filter_map(at).min()
    }

    pub(super) fn is_silent(&self) -> bool {
        self.silence.is_some()
    }

    pub(super) fn fall_silent(&mut self, now: Mono) {
        if self.silence.is_none() {
            let wait = LEAF_PROBE_WAIT_MIN;
            self.silence = Some(Silence { next_probe: now + wait, wait });
            self.unhandled_since = Some(now);
        }
    }

    /// What it keeps is looked at now.
    pub(super) fn note_handled(&mut self) {
        self.unhandled_since = None;
    }

    /// Whether it is time to ask it something, to see whether it answers.
    pub(super) fn is_probe_due(&self, now: Mono) -> bool {
        self.probe.is_none() && self.silence.is_some_and(|silence| silence.next_probe <= now)
    }

    /// When its next probe is due, or was.
    pub(super) fn next_probe(&self) -> Option<Mono> {
        self.silence.map(|silence| silence.next_probe)
    }

    /// A probe is sent; the next one waits for the end of this one, and longer than this one did.
    pub(super) fn begin_probe(&mut self, probe: Probe) {
        self.probe = Some(probe);
        if let Some(silence) = &mut self.silence {
            silence.wait = (silence.wait * 2).min(LEAF_PROBE_WAIT_MAX);
            silence.next_probe = probe.asked + silence.wait;
        }
    }

    pub(super) fn probe(&self) -> Option<Probe> {
        self.probe
    }

    pub(super) fn end_probe(&mut self) {
        self.probe = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn silence_ends_with_an_answer_in_time_and_not_with_a_late_one() {
        let mut detector = SilenceDetector::default();
        detector.fall_silent(Mono(0));
        detector.note_answered(MS * 100, MS * 2);
        assert!(detector.is_silent());
        detector.note_answered(MS * 2, MS * 2);
        assert!(!detector.is_silent());
    }

    #[test]
    fn probes_come_one_at_a_time_and_ever_more_rarely() {
        let mut detector = SilenceDetector::default();
        detector.fall_silent(Mono(0));
        let (mut now, mut waits) = (Mono(0), Vec::new());
        while waits.len() < 7 {
            let begun = now;
            while !detector.is_probe_due(now) {
                now = now + MS;
            }
            waits.push(now.since(begun).as_millis());
            let probe =
                Probe { request: RequestId(1), rows: RowKind::Quote, asked: now, due: now + MS };
            detector.begin_probe(probe);
            assert!(!detector.is_probe_due(now + MS * 1_000), "one is open");
            detector.end_probe();
        }
        assert_eq!(waits, [20, 40, 80, 160, 320, 500, 500]);
    }

    #[test]
    fn two_lost_races_without_a_frame_are_silence_and_a_frame_between_is_none() {
        let mut detector = SilenceDetector::default();
        assert!(!detector.note_race_lost(Mono(1), Mono(0), MS));
        detector.note_heard(Mono(2));
        assert!(!detector.note_race_lost(Mono(3), Mono(2), MS));
        assert!(detector.note_race_lost(Mono(5), Mono(4), MS));
        let mut detector = SilenceDetector::default();
        assert!(detector.note_race_lost(Mono(0) + MS, Mono(0), MS), "one that took long enough");
    }
}
