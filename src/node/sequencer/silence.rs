//! Who is silent for much longer than is usual for it: an exchange that is connected and sends nothing, an instrument of which
//! nothing comes.
//!
//! What is usual is learned: the longest pause between two frames in the last minutes, on the monotonic clock, so at the pace at
//! which the market is played. A quiet instrument has long pauses, and is no alarm.
//!
//! # Decisions
//!
//! * The longest pause, and no average: a market comes in bursts, and the pause behind a burst is nothing new.
//! * Nothing is said before enough was learned, and nothing of instruments whose exchange is silent itself.
//! * The instruments are looked at in pieces, one a second: a table of 65,536 takes four. A silence of half a minute is told
//!   soon enough by that, and no turn has to look at all of them.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use crate::limits;
use crate::time::Mono;
use crate::wire::InstrumentIndex;

/// When something was heard, and what pauses are usual for it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pulse {
    /// When it was heard last; `None`: not yet.
    heard: Option<Mono>,
    /// When it was heard first, and how often, up to what is enough.
    first: Mono,
    count: u8,
    /// It was said that it is silent.
    is_told: bool,
    /// The longest pauses of the window before, and of the one that goes on, in milliseconds.
    pauses_ms: [u32; 2],
    window_since: Mono,
}

/// Frames after which what is usual is known.
const ENOUGH: u8 = 20;
/// Who says nothing for this many times the longest pause that is usual for it is silent.
const SILENCE_FACTOR: u64 = 8;
/// How long what is usual is remembered: twice this at most.
const USUAL_WINDOW: Duration = Duration::from_mins(5);
/// How often some of the instruments are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Somebody has become silent, or is heard again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SilenceChange {
    pub(super) is_silent: bool,
    /// How long it was silent.
    pub(super) silence: Duration,
    pub(super) usual_ms: u64,
}

/// How somebody is judged.
#[derive(Clone, Copy, Debug)]
pub(super) struct Judge {
    /// A shorter silence is none.
    pub(super) silence_min: Duration,
    /// What was heard for less time is not known well enough.
    pub(super) learned_min: Duration,
}

impl Judge {
    pub(super) const OF_EXCHANGES: Judge =
        Judge { silence_min: Duration::from_secs(5), learned_min: Duration::from_secs(10) };
    pub(super) const OF_INSTRUMENTS: Judge =
        Judge { silence_min: Duration::from_secs(30), learned_min: USUAL_WINDOW };
}

impl Pulse {
    /// A frame came. Whether it was told to be silent until now. `since`: from when on something could be expected of it. What
    /// was before, while it was away or nobody read it, is no pause of its own.
    #[inline]
    pub(super) fn hear(&mut self, now: Mono, since: Option<Mono>) -> Option<SilenceChange> {
        match (self.heard, since) {
            // Most frames come with others in one turn.
            (Some(heard), _) if heard == now => return None,
            (Some(heard), Some(since)) => self.note_pause(now, now.since(heard.max(since))),
            (Some(_), None) => {}
            (None, _) => (self.first, self.window_since) = (now, now),
        }
        let change = self.is_told.then(|| self.change(now, false));
        self.is_told = false;
        self.heard = Some(now);
        self.count = self.count.saturating_add(1).min(ENOUGH);
        change
    }

    fn note_pause(&mut self, now: Mono, pause: Duration) {
        if now.since(self.window_since) >= USUAL_WINDOW {
            // Two windows without a frame have no pause of their own but this one.
            self.pauses_ms = [self.pauses_ms[1], 0];
            self.window_since = now;
        }
        let pause_ms = u32::try_from(pause.as_millis()).unwrap_or(u32::MAX);
        self.pauses_ms[1] = self.pauses_ms[1].max(pause_ms);
    }

    /// The longest pause that is usual for it, in milliseconds.
    pub(super) fn usual_ms(&self) -> u64 {
        self.pauses_ms[0].max(self.pauses_ms[1]).into()
    }

    /// How long it may be silent; `None`: that is not known.
    fn silence_max(&self, judge: Judge) -> Option<Duration> {
        let heard = self.heard?;
        let has_learned = self.count >= ENOUGH && heard.since(self.first) >= judge.learned_min;
        let usual = Duration::from_millis(self.usual_ms().saturating_mul(SILENCE_FACTOR));
        has_learned.then_some(usual.max(judge.silence_min))
    }

    /// When it will have been silent for too long, if that is not told already. What was before `since` is not its silence.
    pub(super) fn due(&self, since: Mono, judge: Judge) -> Option<Mono> {
        let silence_max = self.silence_max(judge).filter(|_| !self.is_told)?;
        Some(self.heard?.max(since) + silence_max)
    }

    /// Whether it is silent for too long now, and that is news.
    pub(super) fn judge(&mut self, now: Mono, since: Mono, judge: Judge) -> Option<SilenceChange> {
        let is_due = self.due(since, judge)? <= now;
        is_due.then(|| {
            self.is_told = true;
            self.change(now, true)
        })
    }

    /// Whether it was told to be silent.
    pub(super) fn is_silent(&self) -> bool {
        self.is_told
    }

    fn change(&self, now: Mono, is_silent: bool) -> SilenceChange {
        let silence = self.heard.map_or(Duration::ZERO, |heard| now.since(heard));
        SilenceChange { is_silent, silence, usual_ms: self.usual_ms() }
    }
}

/// The instruments.
///
/// Invariant: `back` has an instrument once at most for each time that it was told to be silent.
#[derive(Debug, Default)]
pub(super) struct InstrumentPulses {
    /// By index, with the exchange that was heard; an instrument beyond the end was not heard yet.
    pulses: Vec<(Pulse, usize)>,
    silent: BTreeSet<InstrumentIndex>,
    /// Who is heard again and was told to be silent.
    back: VecDeque<(InstrumentIndex, SilenceChange)>,
    /// Where the next look begins, and when it is due.
    next_look: usize,
    look_at: Mono,
}

impl InstrumentPulses {
    /// A frame of this instrument came from this exchange.
    #[inline]
    pub(super) fn hear(
        &mut self,
        index: InstrumentIndex,
        (exchange, since): (usize, Option<Mono>),
        now: Mono,
    ) {
        // Most frames of an instrument come with others of it in one turn, and this stands behind each frame.
        if let Some((pulse, from)) = self.pulses.get(index.place())
            && pulse.heard == Some(now)
            && *from == exchange
        {
            return;
        }
        self.hear_anew(index, (exchange, since), now);
    }

    #[cold]
    fn hear_anew(
        &mut self,
        index: InstrumentIndex,
        (exchange, since): (usize, Option<Mono>),
        now: Mono,
    ) {
        let place = index.place();
        if self.pulses.len() <= place {
            self.pulses.resize(place + 1, Default::default());
        }
        let (pulse, from) = &mut self.pulses[place];
        *from = exchange;
        if let Some(change) = pulse.hear(now, since) {
            self.silent.remove(&index);
            self.back.push_back((index, change));
        }
    }

    /// Its venue has said why nothing comes: what is usual for it is learned anew behind that.
    pub(super) fn rest(&mut self, index: InstrumentIndex) {
        if let Some((pulse, _)) = self.pulses.get_mut(index.place()) {
            *pulse = Pulse::default();
            self.silent.remove(&index);
        }
    }

    /// Who has become silent, or is heard again: a bounded number, and what is left comes the next time. `since`: from when on
    /// an exchange can be expected to say something; `None` = it cannot now.
    pub(super) fn poll(
        &mut self,
        now: Mono,
        since: impl Fn(usize) -> Option<Mono>,
    ) -> Vec<(InstrumentIndex, SilenceChange)> {
        let back = self.back.len().min(limits::SILENCE_FRAMES_MAX);
        let mut changes: Vec<_> = self.back.drain(..back).collect();
        if now < self.look_at {
            return changes;
        }
        self.look_at = now + LOOK_EVERY;
        let end = self.pulses.len().min(self.next_look + limits::SILENCE_LOOKS_MAX);
        for place in self.next_look..end {
            self.next_look = place + 1;
            let (pulse, exchange) = &mut self.pulses[place];
            let Some(index) = InstrumentIndex::at(place) else { continue };
            let Some(since) = since(*exchange) else { continue };
            if let Some(change) = pulse.judge(now, since, Judge::OF_INSTRUMENTS) {
                self.silent.insert(index);
                changes.push((index, change));
                if changes.len() >= limits::SILENCE_FRAMES_MAX {
                    break;
                }
            }
        }
        if self.next_look >= self.pulses.len() {
            self.next_look = 0;
        }
        changes
    }

    /// When to look again.
    pub(super) fn next_due(&self) -> Option<Mono> {
        match self.back.is_empty() {
            true => (!self.pulses.is_empty()).then_some(self.look_at),
            false => Some(Mono::default()),
        }
    }

    /// Those that are silent, of exchanges that speak.
    pub(super) fn silent(
        &self,
        speaks: impl Fn(usize) -> bool,
    ) -> impl Iterator<Item = InstrumentIndex> {
        let of = |index: &InstrumentIndex| self.pulses.get(index.place()).map(|(_, from)| *from);
        self.silent.iter().filter(move |index| of(index).is_some_and(&speaks)).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at_ms(ms: u64) -> Mono {
        Mono(1_000_000_000 + ms * 1_000_000)
    }

    /// Hears it every so often for a while; when that ends.
    fn heard_every(pulse: &mut Pulse, from_ms: u64, every_ms: u64, until_ms: u64) -> u64 {
        let mut at = from_ms;
        while at <= until_ms {
            // Just before it comes.
            assert_eq!(pulse.judge(at_ms(at), Mono::default(), Judge::OF_EXCHANGES), None, "{at}");
            assert_eq!(pulse.hear(at_ms(at), Some(Mono::default())), None);
            at += every_ms;
        }
        at - every_ms
    }

    fn silent_after(pulse: &mut Pulse, last_ms: u64, judge: Judge) -> Option<u64> {
        let times = (0..4_000).map(|step| step * 500);
        times
            .into_iter()
            .find(|ms| pulse.judge(at_ms(last_ms + ms), Mono::default(), judge).is_some())
    }

    #[test]
    fn what_is_usual_is_learned_and_a_quiet_instrument_is_no_alarm() {
        // One that trades every minute, and one that does ten times a second.
        let (mut quiet, mut busy) = (Pulse::default(), Pulse::default());
        let last = heard_every(&mut quiet, 0, 60_000, 40 * 60_000);
        let after = silent_after(&mut quiet, last, Judge::OF_INSTRUMENTS);
        assert_eq!(after, Some(8 * 60_000));
        let last = heard_every(&mut busy, 0, 100, 600_000);
        let after = silent_after(&mut busy, last, Judge::OF_INSTRUMENTS);
        assert_eq!(after, Some(30_000));
        assert_eq!(silent_after(&mut busy, last, Judge::OF_INSTRUMENTS), None, "said once");
        let back = busy.hear(at_ms(last + 90_000), Some(Mono::default())).unwrap();
        assert_eq!((back.is_silent, back.silence), (false, Duration::from_secs(90)));
        // That pause is usual now, until it is forgotten.
        assert_eq!(busy.usual_ms(), 90_000);
        heard_every(&mut busy, last + 90_100, 100, last + 1_000_000);
        assert_eq!(busy.usual_ms(), 100);
    }

    #[test]
    fn nothing_is_said_before_enough_is_known() {
        let mut pulse = Pulse::default();
        let last = heard_every(&mut pulse, 0, 1_000, 18_000);
        assert_eq!(silent_after(&mut pulse, last, Judge::OF_EXCHANGES), None, "19 frames");
        let mut pulse = Pulse::default();
        let last = heard_every(&mut pulse, 0, 10, 5_000);
        assert_eq!(silent_after(&mut pulse, last, Judge::OF_EXCHANGES), None, "for 5 s only");
        let mut pulse = Pulse::default();
        let last = heard_every(&mut pulse, 0, 10, 11_000);
        assert_eq!(silent_after(&mut pulse, last, Judge::OF_EXCHANGES), Some(5_000));
    }

    #[test]
    fn an_outage_is_no_usual_pause() {
        let mut pulse = Pulse::default();
        let last = heard_every(&mut pulse, 0, 10, 20_000);
        // It was away for a minute, and is there again since a moment.
        let back = at_ms(last + 60_000);
        assert_eq!(pulse.hear(back, None), None);
        assert_eq!(pulse.hear(at_ms(last + 60_500), Some(at_ms(last + 60_490))), None);
        assert_eq!(pulse.usual_ms(), 10);
        assert_eq!(silent_after(&mut pulse, last + 60_500, Judge::OF_EXCHANGES), Some(5_000));
    }

    #[test]
    fn a_burst_makes_the_pause_behind_it_no_alarm() {
        let mut pulse = Pulse::default();
        for minute in 0..20 {
            // A thousand frames in a second, then nothing for most of a minute.
            heard_every(&mut pulse, minute * 60_000, 1, minute * 60_000 + 1_000);
        }
    }

    #[test]
    fn instruments_are_looked_at_in_pieces_and_not_while_their_exchange_is_away() {
        let mut pulses = InstrumentPulses::default();
        let count = limits::SILENCE_LOOKS_MAX + 10;
        let index = |place| InstrumentIndex::at(place).unwrap();
        for second in 0..400 {
            for place in [0, count - 1] {
                pulses.hear(index(place), (0, Some(Mono::default())), at_ms(second * 1_000));
            }
        }
        let mut found = Vec::new();
        let mut poll = |pulses: &mut InstrumentPulses, seconds: std::ops::Range<u64>, since| {
            for second in seconds {
                let changes = pulses.poll(at_ms(second * 1_000), |_| since);
                found.extend(
                    changes
                        .into_iter()
                        .map(|(index, change)| (second, index.place(), change.is_silent)),
                );
            }
            std::mem::take(&mut found)
        };
        assert_eq!(poll(&mut pulses, 400..500, None), [], "nobody can be expected to speak");
        assert_eq!(poll(&mut pulses, 500..520, Some(at_ms(499_000))), []);
        let all = poll(&mut pulses, 520..600, Some(at_ms(499_000)));
        let places: Vec<usize> = all.iter().map(|it| it.1).collect();
        assert!(places.len() == 2 && places.contains(&0) && places.contains(&(count - 1)));
        assert!(all.iter().all(|it| it.2 && it.0 < 535), "{all:?}");
        assert_eq!(pulses.silent(|_| true).count(), 2);
        assert_eq!(pulses.silent(|_| false).count(), 0, "their exchange is away");
        pulses.hear(index(0), (0, None), at_ms(700_000));
        assert!(pulses.next_due() < Some(at_ms(700_000)));
        let changes = pulses.poll(at_ms(700_000), |_| None);
        assert_eq!(
            changes.iter().map(|it| (it.0.place(), it.1.is_silent)).collect::<Vec<_>>(),
            [(0, false)]
        );
        assert!(pulses.silent(|_| true).eq([index(count - 1)]));
        pulses.rest(index(count - 1));
        assert_eq!(pulses.silent(|_| true).count(), 0, "its venue has said why");
    }
}
