//! How the exchange misbehaves on purpose: which sessions and requests it refuses or leaves
//! hanging, which frames it loses, spoils or breaks off in. This file only decides; the node does.
//!
//! Everything follows from a seed, so that a run can be repeated. Probabilities are whole numbers
//! of millionths; what is switched off draws no random number.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::limits::CHAOS_WAIT_MAX;
use crate::market::price::Price;
use crate::random::{MILLION, Random};
use crate::wire::FRAME_BYTES;

/// Units of a [`Price`] in one millionth: probabilities are read as decimals, exactly.
const UNITS_PER_MILLIONTH: i64 = 1_000;

/// A probability in millionths, 0 to 1,000,000.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Probability(u32);

impl Probability {
    /// It never happens.
    pub const NEVER: Probability = Probability(0);

    /// A probability of so many millionths; more than a million is certain.
    #[must_use]
    pub const fn from_millionths(millionths: u32) -> Probability {
        Probability(if millionths < MILLION { millionths } else { MILLION })
    }

    /// In millionths.
    #[must_use]
    pub const fn millionths(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Probability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Price(i64::from(self.0) * UNITS_PER_MILLIONTH).fmt(f)
    }
}

/// What an exchange does wrong, and how often.
///
/// Read from `off` (nothing) or from a list such as
/// `refuse=0.2,stall=0.2,stall-for=2s,drop=0.001,delay=5ms,seed=42`; keys that are not named keep
/// their [default](ChaosConfig::default). Written in the same form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChaosConfig {
    /// A session, or a request, is answered by an error, and the session closed.
    pub refuse: Probability,
    /// A session, or a request, is met with silence for [`ChaosConfig::stall_for`] first.
    pub stall: Probability,
    /// How long a stall lasts.
    pub stall_for: Duration,
    /// Per frame: the connection is closed in the middle of it.
    pub drop: Probability,
    /// Per frame: 64 random bytes are sent in its place.
    pub garbage: Probability,
    /// Per frame: it is left out.
    pub lose: Probability,
    /// Added before every answer.
    pub delay: Duration,
    /// What all decisions follow from.
    pub seed: u64,
}

impl Default for ChaosConfig {
    /// One in five refused, one in five stalled for two seconds; frames are left alone.
    fn default() -> ChaosConfig {
        ChaosConfig {
            refuse: Probability(200_000),
            stall: Probability(200_000),
            stall_for: Duration::from_secs(2),
            ..ChaosConfig::OFF
        }
    }
}

/// Why a text is no [`ChaosConfig`]. The operator is to blame; the text says what to write.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChaosError {
    /// Not `key=value`.
    #[error(
        "'{0}' is not key=value; write 'off' or a list such as refuse=0.2,stall=0.2,stall-for=2s"
    )]
    NotAPair(String),
    /// No such key.
    #[error("unknown key '{0}'; use refuse, stall, stall-for, drop, garbage, lose, delay or seed")]
    UnknownKey(String),
    /// The same key again.
    #[error("'{0}' is given twice; keep one")]
    Twice(String),
    /// No probability.
    #[error(
        "{key}={value}: write a probability from 0 to 1 with at most six decimals, such as 0.2"
    )]
    Probability {
        /// Of this key.
        key: String,
        /// What was written.
        value: String,
    },
    /// No duration.
    #[error("{key}={value}: write a whole number with ms, s or m, such as 500ms, up to 60m")]
    Duration {
        /// Of this key.
        key: String,
        /// What was written.
        value: String,
    },
    /// No seed.
    #[error("seed={0}: write a whole number from 0 to 18446744073709551615")]
    Seed(String),
    /// One outcome excludes the other.
    #[error(
        "refuse and stall exclude each other and add up to {0}; lower one so that it is at most 1"
    )]
    SessionSum(Probability),
    /// One fate excludes the others.
    #[error(
        "drop, garbage and lose exclude each other; lower one so that they add up to at most 1"
    )]
    FrameSum,
}

impl ChaosConfig {
    /// An exchange that behaves.
    pub const OFF: ChaosConfig = ChaosConfig {
        refuse: Probability::NEVER,
        stall: Probability::NEVER,
        stall_for: Duration::from_secs(2),
        drop: Probability::NEVER,
        garbage: Probability::NEVER,
        lose: Probability::NEVER,
        delay: Duration::ZERO,
        seed: 42,
    };

    /// What a playground's exchange does wrong when it is told to: everything, each often enough to be seen within seconds
    /// at hundreds of frames a second, and rarely enough for frames to come through between.
    pub const PLAYGROUND: ChaosConfig = ChaosConfig {
        refuse: Probability(200_000),
        stall: Probability(200_000),
        stall_for: Duration::from_secs(2),
        drop: Probability(500),
        garbage: Probability(500),
        lose: Probability(2_000),
        delay: Duration::from_millis(50),
        seed: 42,
    };

    /// Whether nothing is ever done wrong.
    #[must_use]
    pub fn is_off(&self) -> bool {
        let probabilities = [self.refuse, self.stall, self.drop, self.garbage, self.lose];
        probabilities.iter().all(|p| *p == Probability::NEVER) && self.delay.is_zero()
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), ChaosError> {
        match key {
            "refuse" => self.refuse = probability(key, value)?,
            "stall" => self.stall = probability(key, value)?,
            "stall-for" => self.stall_for = duration(key, value)?,
            "drop" => self.drop = probability(key, value)?,
            "garbage" => self.garbage = probability(key, value)?,
            "lose" => self.lose = probability(key, value)?,
            "delay" => self.delay = duration(key, value)?,
            "seed" => {
                self.seed = value.parse().map_err(|_| ChaosError::Seed(value.to_owned()))?;
            }
            _ => return Err(ChaosError::UnknownKey(key.to_owned())),
        }
        Ok(())
    }
}

impl FromStr for ChaosConfig {
    type Err = ChaosError;

    fn from_str(text: &str) -> Result<ChaosConfig, ChaosError> {
        if text.trim() == "off" {
            return Ok(ChaosConfig::OFF);
        }
        let mut config = ChaosConfig::default();
        let mut given: Vec<&str> = Vec::new();
        for pair in text.split(',').map(str::trim) {
            let (key, value) =
                pair.split_once('=').ok_or_else(|| ChaosError::NotAPair(pair.to_owned()))?;
            if given.contains(&key) {
                return Err(ChaosError::Twice(key.to_owned()));
            }
            config.set(key, value)?;
            given.push(key);
        }
        let session = config.refuse.0 + config.stall.0;
        if session > MILLION {
            return Err(ChaosError::SessionSum(Probability(session)));
        }
        if config.drop.0 + config.garbage.0 + config.lose.0 > MILLION {
            return Err(ChaosError::FrameSum);
        }
        Ok(config)
    }
}

impl fmt::Display for ChaosConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_off() {
            return f.write_str("off");
        }
        write!(f, "refuse={},stall={}", self.refuse, self.stall)?;
        write!(f, ",stall-for={}ms", self.stall_for.as_millis())?;
        write!(f, ",drop={},garbage={},lose={}", self.drop, self.garbage, self.lose)?;
        write!(f, ",delay={}ms,seed={}", self.delay.as_millis(), self.seed)
    }
}

fn probability(key: &str, value: &str) -> Result<Probability, ChaosError> {
    let millionths = value
        .parse::<Price>()
        .ok()
        .filter(|price| price.0 % UNITS_PER_MILLIONTH == 0)
        .and_then(|price| u32::try_from(price.0 / UNITS_PER_MILLIONTH).ok())
        .filter(|&millionths| millionths <= MILLION && !value.starts_with('-'));
    millionths
        .map(Probability)
        .ok_or_else(|| ChaosError::Probability { key: key.to_owned(), value: value.to_owned() })
}

fn duration(key: &str, value: &str) -> Result<Duration, ChaosError> {
    let digits = value.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = value.split_at(digits);
    let unit_ms = match unit {
        "ms" => Some(1),
        "s" => Some(1_000),
        "m" => Some(60_000),
        _ => None,
    };
    let ms = number.parse::<u64>().ok().zip(unit_ms).and_then(|(n, unit)| n.checked_mul(unit));
    ms.map(Duration::from_millis)
        .filter(|wait| *wait <= CHAOS_WAIT_MAX)
        .ok_or_else(|| ChaosError::Duration { key: key.to_owned(), value: value.to_owned() })
}

/// What becomes of a session or a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChaosDecision {
    /// It is served.
    Serve,
    /// It is answered by an error, and the session closed.
    Refuse,
    /// Nothing at all is sent for so long; then it is served.
    Stall(Duration),
}

/// What becomes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameAction {
    /// It is sent.
    Send,
    /// It is left out, silently.
    Lose,
    /// The first [`Chaos::cut_bytes`] bytes are sent, then the connection is closed.
    CutMidway,
    /// [`Chaos::garbage`] is sent in its place.
    Garbage,
}

/// The decisions. One stream for sessions and requests and one for frames, so that the feed's
/// length does not change who is refused.
#[derive(Clone, Debug)]
pub struct Chaos {
    config: ChaosConfig,
    sessions: Random,
    frames: Random,
    /// Whether any frame is ever touched.
    touches_frames: bool,
}

impl Chaos {
    /// Decisions for this configuration.
    #[must_use]
    pub fn new(config: ChaosConfig) -> Chaos {
        let root = Random::new(config.seed);
        let fates = [config.drop, config.garbage, config.lose];
        Chaos {
            config,
            sessions: root.fork(0),
            frames: root.fork(1),
            touches_frames: fates.iter().any(|p| *p != Probability::NEVER),
        }
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &ChaosConfig {
        &self.config
    }

    /// Whether any frame is ever touched. If not, who sends them need not ask about each.
    #[must_use]
    pub fn touches_frames(&self) -> bool {
        self.touches_frames
    }

    /// How long every answer waits.
    #[must_use]
    pub fn delay(&self) -> Duration {
        self.config.delay
    }

    /// Decides over a new session.
    pub fn session(&mut self) -> ChaosDecision {
        self.decision()
    }

    /// Decides over a request within a session.
    pub fn request(&mut self) -> ChaosDecision {
        self.decision()
    }

    /// Decides over a frame of the feed.
    #[inline]
    pub fn frame(&mut self) -> FrameAction {
        if !self.touches_frames {
            return FrameAction::Send;
        }
        let ChaosConfig { drop, garbage, lose, .. } = self.config;
        let fates = [
            (drop, FrameAction::CutMidway),
            (garbage, FrameAction::Garbage),
            (lose, FrameAction::Lose),
        ];
        pick(&mut self.frames, &fates).unwrap_or(FrameAction::Send)
    }

    /// How many bytes of a frame go out before the connection is closed in it: 1 to 63.
    pub fn cut_bytes(&mut self) -> usize {
        let within = self.frames.below(FRAME_BYTES as u64 - 1);
        usize::try_from(within).unwrap_or(0) + 1
    }

    /// Random bytes of a frame's length.
    pub fn garbage(&mut self) -> [u8; FRAME_BYTES] {
        let mut bytes = [0; FRAME_BYTES];
        for chunk in bytes.chunks_exact_mut(8) {
            chunk.copy_from_slice(&self.frames.next_u64().to_le_bytes());
        }
        bytes
    }

    fn decision(&mut self) -> ChaosDecision {
        let ChaosConfig { refuse, stall, stall_for, .. } = self.config;
        if refuse == Probability::NEVER && stall == Probability::NEVER {
            return ChaosDecision::Serve;
        }
        let verdicts = [(refuse, ChaosDecision::Refuse), (stall, ChaosDecision::Stall(stall_for))];
        pick(&mut self.sessions, &verdicts).unwrap_or(ChaosDecision::Serve)
    }
}

/// With one draw: one of several outcomes that exclude each other, or none of them.
fn pick<T: Copy>(random: &mut Random, outcomes: &[(Probability, T)]) -> Option<T> {
    let mut draw = random.below(u64::from(MILLION));
    for &(probability, outcome) in outcomes {
        match draw.checked_sub(u64::from(probability.0)) {
            None => return Some(outcome),
            Some(rest) => draw = rest,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parsed(text: &str) -> ChaosConfig {
        text.parse().unwrap()
    }

    #[test]
    fn a_list_changes_what_it_names_and_off_is_off() {
        assert_eq!(parsed("off"), ChaosConfig::OFF);
        assert!(parsed("off").is_off());
        assert_eq!(parsed("lose=0"), ChaosConfig::default());
        let text = "refuse=0.25, stall=0,stall-for=1m,drop=0.001,garbage=1,delay=5ms,seed=7";
        assert!(text.parse::<ChaosConfig>().is_err(), "drop and garbage are above 1");
        assert_eq!(
            parsed(&text.replace("garbage=1", "garbage=0.5")),
            ChaosConfig {
                refuse: Probability(250_000),
                stall: Probability::NEVER,
                stall_for: Duration::from_secs(60),
                drop: Probability(1_000),
                garbage: Probability(500_000),
                lose: Probability::NEVER,
                delay: Duration::from_millis(5),
                seed: 7,
            }
        );
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_advice() {
        for (text, says) in [
            ("", "'' is not key=value"),
            ("on", "'on' is not key=value"),
            ("refuse=0.1,", "'' is not key=value"),
            ("off,refuse=0.1", "'off' is not key=value"),
            ("explode=1", "unknown key 'explode'; use refuse"),
            ("refuse=0.1,refuse=0.2", "'refuse' is given twice"),
            ("refuse=1.000001", "refuse=1.000001: write a probability from 0 to 1"),
            ("refuse=-0.1", "refuse=-0.1: write a probability"),
            ("drop=0.0000001", "drop=0.0000001: write a probability"),
            ("lose=.5", "lose=.5: write a probability"),
            ("lose=", "lose=: write a probability"),
            ("refuse=0.9", "refuse and stall exclude each other and add up to 1.1;"),
            ("drop=0.5,lose=0.5,garbage=0.000001", "drop, garbage and lose exclude each other"),
            ("stall-for=2", "stall-for=2: write a whole number with ms, s or m"),
            ("stall-for=2.5s", "stall-for=2.5s: write a whole number"),
            ("delay=-5ms", "delay=-5ms: write a whole number"),
            ("delay=61m", "delay=61m: write a whole number"),
            ("delay=99999999999999999999s", "delay=99999999999999999999s: write"),
            ("delay=9é", "delay=9é: write"),
            ("seed=-1", "seed=-1: write a whole number"),
        ] {
            let said = text.parse::<ChaosConfig>().unwrap_err().to_string();
            assert!(said.starts_with(says), "{text:?}: {said}");
        }
    }

    #[test]
    fn switched_off_it_serves_all_and_draws_nothing() {
        let mut chaos = Chaos::new(ChaosConfig::OFF);
        let before = (chaos.sessions.clone(), chaos.frames.clone());
        for _ in 0..1_000 {
            assert_eq!(chaos.session(), ChaosDecision::Serve);
            assert_eq!(chaos.request(), ChaosDecision::Serve);
            assert_eq!(chaos.frame(), FrameAction::Send);
        }
        assert_eq!((chaos.sessions, chaos.frames), before);
    }

    #[test]
    fn the_default_refuses_a_fifth_and_stalls_a_fifth() {
        let mut chaos = Chaos::new(ChaosConfig::default());
        let mut counts = [0_u32; 3];
        for _ in 0..10_000 {
            match chaos.session() {
                ChaosDecision::Serve => counts[0] += 1,
                ChaosDecision::Refuse => counts[1] += 1,
                ChaosDecision::Stall(wait) => {
                    assert_eq!(wait, Duration::from_secs(2));
                    counts[2] += 1;
                }
            }
            assert_eq!(chaos.frame(), FrameAction::Send);
        }
        assert!((5_800..6_200).contains(&counts[0]), "{counts:?}");
        assert!(counts[1..].iter().all(|n| (1_850..2_150).contains(n)), "{counts:?}");
    }

    #[test]
    fn each_fate_comes_as_often_as_it_was_asked_for() {
        let mut chaos = Chaos::new(parsed("drop=0.1,garbage=0.2,lose=0.3"));
        let mut counts = [0_u32; 4];
        for _ in 0..100_000 {
            counts[chaos.frame() as usize] += 1;
        }
        for (count, want) in counts.into_iter().zip([40_000, 30_000, 10_000, 20_000]) {
            assert!(count.abs_diff(want) < 800, "{counts:?}");
        }
        let mut certain = Chaos::new(parsed("refuse=1,stall=0,lose=1"));
        assert!((0..1_000).all(|_| certain.request() == ChaosDecision::Refuse));
        assert!((0..1_000).all(|_| certain.frame() == FrameAction::Lose));
    }

    #[test]
    fn a_cut_is_always_inside_the_frame() {
        let mut chaos = Chaos::new(ChaosConfig::default());
        let cuts: Vec<usize> = (0..5_000).map(|_| chaos.cut_bytes()).collect();
        assert_eq!(cuts.iter().min(), Some(&1));
        assert_eq!(cuts.iter().max(), Some(&(FRAME_BYTES - 1)));
        assert_ne!(chaos.garbage(), chaos.garbage());
    }

    #[test]
    fn the_feed_does_not_change_who_is_refused() {
        let config = parsed("lose=0.5,seed=7");
        let (mut busy, mut quiet) = (Chaos::new(config), Chaos::new(config));
        for _ in 0..200 {
            busy.frame();
            assert_eq!(busy.session(), quiet.session());
        }
    }

    proptest! {
        #[test]
        fn a_configuration_survives_its_text(
            session in 0..=MILLION, refuse in 0..=MILLION,
            frame in 0..=MILLION / 3, stall_ms in 0_u64..3_600_000, seed in any::<u64>(),
        ) {
            let refuse = refuse.min(session);
            let config = ChaosConfig {
                refuse: Probability(refuse),
                stall: Probability(session - refuse),
                stall_for: Duration::from_millis(stall_ms),
                drop: Probability(frame),
                garbage: Probability(MILLION / 3 - frame),
                lose: Probability(frame / 2),
                delay: Duration::from_millis(stall_ms / 7),
                seed,
            };
            prop_assert_eq!(config.to_string().parse::<ChaosConfig>(), Ok(config));
        }

        #[test]
        fn no_text_panics(text in "[a-z=,.0-9\\-é]{0,40}") {
            let _ = text.parse::<ChaosConfig>();
        }
    }
}
