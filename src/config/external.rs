//! Section `[external]`: how an exchange of ours is played.

use std::fmt;
use std::path::PathBuf;

use serde::Deserialize;

use super::{ConfigError, Speed, within};
use crate::limits;
use crate::market::chaos::{ChaosConfig, ChaosError};
use crate::market::tape::TapeSelection;

/// How several tapes lie beside each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Align {
    /// By the time at which they were recorded.
    #[default]
    Clock,
    /// All from their beginning.
    Start,
}

impl fmt::Display for Align {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Align::Clock => "clock",
            Align::Start => "start",
        })
    }
}

/// Section `[external]`: the exchange, replayed or generated.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct External {
    /// `tapes`: files to replay. Default none: a synthetic market.
    pub tapes: Vec<PathBuf>,
    /// `align`: how several tapes lie beside each other: `"clock"` (default) or `"start"`.
    pub align: Align,
    /// `allow_torn`: take what is whole of a tape that ends in the middle of a record. Default false.
    pub allow_torn: bool,
    /// What of the tapes is wanted. The flags `--from`, `--to` and `--symbol` say it for one start; no file does.
    #[serde(skip)]
    pub selection: TapeSelection,
    /// `speed`: `"1"` real time (default), `"10"`, `"0.5"`, `"max"`; `"0"`: nothing moves.
    pub speed: Speed,
    /// `loop`: begin again at the end of the tapes. Default false.
    #[serde(rename = "loop")]
    pub looped: bool,
    /// `rate`: events a second of the synthetic market. Not together with `tapes`. Default 1000.
    pub rate: Option<u64>,
    /// `seed`: of the synthetic market and of the chaos. Default 1.
    pub seed: u64,
    /// `chaos`: how the exchange misbehaves on purpose: `"off"`, or a list such as
    /// `"refuse=0.2,stall=0.2,stall-for=2s,drop=0.001"`. Default empty: a fifth of the sessions and
    /// requests fail, another fifth stalls for two seconds.
    pub chaos: String,
}

/// Events a second of a synthetic market that does not say.
const RATE_DEFAULT: u64 = 1000;

impl External {
    /// Events a second of the synthetic market.
    #[must_use]
    pub fn rate(&self) -> u64 {
        self.rate.unwrap_or(RATE_DEFAULT)
    }

    /// How the exchange misbehaves.
    ///
    /// # Errors
    /// When the text is no chaos specification.
    pub fn chaos(&self) -> Result<ChaosConfig, ChaosError> {
        if self.chaos.is_empty() {
            return Ok(ChaosConfig { seed: self.seed, ..ChaosConfig::default() });
        }
        self.chaos.parse()
    }
}

impl Default for External {
    fn default() -> External {
        External {
            tapes: Vec::new(),
            align: Align::default(),
            allow_torn: false,
            selection: TapeSelection::default(),
            speed: Speed::REAL_TIME,
            looped: false,
            rate: None,
            seed: 1,
            chaos: String::new(),
        }
    }
}

impl External {
    pub(super) fn validate(&self, section: &str) -> Result<(), ConfigError> {
        if self.tapes.len() > limits::TAPES_MAX {
            let problem =
                format!("{} tapes; replay at most {}", self.tapes.len(), limits::TAPES_MAX);
            return Err(ConfigError::new(format!("{section} tapes"), problem));
        }
        if let Some(rate) = self.rate {
            if !self.tapes.is_empty() {
                let problem = "belongs to a synthetic market and tapes are given; leave out one \
                               (the pace of tapes is set by speed)";
                return Err(ConfigError::new(format!("{section} rate"), problem));
            }
            within(&format!("{section} rate"), rate, &(1..=limits::RATE_EVENTS_PER_S_MAX))?;
        }
        let place = || format!("{section} chaos (--chaos)");
        self.chaos().map(drop).map_err(|error| ConfigError::new(place(), error.to_string()))
    }
}
