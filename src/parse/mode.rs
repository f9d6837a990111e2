//! What a subscriber wants to happen when it is too slow: `lossless`, `latest`, `conflate=250ms`.

use std::str::FromStr;
use std::time::Duration;

use crate::duration::{self, DurationError};
use crate::limits::CONFLATE_MAX;
use crate::wire::Mode;

/// A delivery mode with its parameter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeliveryMode {
    /// Gaps are shown, and filled from history.
    #[default]
    Lossless,
    /// After a gap, on from the last values.
    Latest,
    /// The last value of each kind and instrument, at most once in so many milliseconds (not 0).
    Conflate {
        /// The interval.
        interval_ms: u32,
    },
}

/// Why a text is no mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum ModeError {
    #[error("a mode is lossless, latest, or conflate with an interval, as in conflate=250ms")]
    Unknown,
    #[error("the interval of conflate: {0}")]
    Duration(#[from] DurationError),
    #[error("the interval of conflate is whole milliseconds from 1ms to 1h")]
    Interval,
}

impl DeliveryMode {
    /// As it stands in a SUBSCRIBE frame.
    #[must_use]
    pub fn wire_mode(self) -> Mode {
        match self {
            DeliveryMode::Lossless => Mode::Lossless,
            DeliveryMode::Latest => Mode::Latest,
            DeliveryMode::Conflate { .. } => Mode::Conflate,
        }
    }

    /// As it stands in a SUBSCRIBE frame; 0 for the other modes.
    #[must_use]
    pub fn conflate_ms(self) -> u32 {
        match self {
            DeliveryMode::Conflate { interval_ms } => interval_ms,
            DeliveryMode::Lossless | DeliveryMode::Latest => 0,
        }
    }
}

impl FromStr for DeliveryMode {
    type Err = ModeError;

    fn from_str(text: &str) -> Result<DeliveryMode, ModeError> {
        match text.split_once('=') {
            None if text == "lossless" => Ok(DeliveryMode::Lossless),
            None if text == "latest" => Ok(DeliveryMode::Latest),
            Some(("conflate", interval)) => {
                let interval = duration::parse(interval)?;
                let range = Duration::from_millis(1)..=CONFLATE_MAX;
                let whole = interval.subsec_nanos().is_multiple_of(1_000_000);
                if !whole || !range.contains(&interval) {
                    return Err(ModeError::Interval);
                }
                let interval_ms =
                    u32::try_from(interval.as_millis()).map_err(|_| ModeError::Interval)?;
                Ok(DeliveryMode::Conflate { interval_ms })
            }
            _ => Err(ModeError::Unknown),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mode_is_read() {
        for (text, mode) in [
            ("lossless", DeliveryMode::Lossless),
            ("latest", DeliveryMode::Latest),
            ("conflate=250ms", DeliveryMode::Conflate { interval_ms: 250 }),
            ("conflate=1h", DeliveryMode::Conflate { interval_ms: 3_600_000 }),
        ] {
            assert_eq!(text.parse(), Ok(mode), "{text}");
        }
    }

    #[test]
    fn hostile_modes_are_refused() {
        for bad in ["", "Latest", "conflate", "latest=1s", "=", "lossless "] {
            assert_eq!(bad.parse::<DeliveryMode>(), Err(ModeError::Unknown), "{bad:?}");
        }
        for bad in ["conflate=", "conflate=250", "conflate==1s", "conflate=-1s"] {
            let error = bad.parse::<DeliveryMode>().unwrap_err();
            assert!(matches!(error, ModeError::Duration(_)), "{bad:?}: {error}");
        }
        for bad in ["conflate=0ms", "conflate=1500us", "conflate=999us", "conflate=2h"] {
            assert_eq!(bad.parse::<DeliveryMode>(), Err(ModeError::Interval), "{bad:?}");
        }
    }
}
