//! How the lines of an exchange are read that programs write to.

use serde::Deserialize;

use crate::market::lines::{LineOptions, MappingError, TimeUnit};
use crate::producer::QUANTITY_DECIMALS_DEFAULT;

/// What a time in lines counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "the names say it")]
pub enum LinesTimeUnit {
    #[default]
    Ns,
    Us,
    Ms,
    S,
}

impl From<LinesTimeUnit> for TimeUnit {
    fn from(unit: LinesTimeUnit) -> TimeUnit {
        match unit {
            LinesTimeUnit::Ns => TimeUnit::Nanoseconds,
            LinesTimeUnit::Us => TimeUnit::Microseconds,
            LinesTimeUnit::Ms => TimeUnit::Milliseconds,
            LinesTimeUnit::S => TimeUnit::Seconds,
        }
    }
}

/// How lines are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinesSettings {
    /// Names of fields, and what a time counts.
    pub options: LineOptions,
    /// Decimals of a unit of quantities, of instruments that core does not have.
    pub quantity_decimals: u8,
}

impl LinesSettings {
    /// What an entry says, and what holds where it says nothing.
    pub(super) fn new(
        map: Option<&str>,
        time_unit: Option<LinesTimeUnit>,
        quantity_decimals: Option<u8>,
    ) -> Result<LinesSettings, MappingError> {
        let mapping = map.map(str::parse).transpose()?.unwrap_or_default();
        let time_unit = time_unit.unwrap_or_default().into();
        let quantity_decimals = quantity_decimals.unwrap_or(QUANTITY_DECIMALS_DEFAULT);
        let options = LineOptions { mapping, time_unit, ..LineOptions::default() };
        Ok(LinesSettings { options, quantity_decimals })
    }
}

impl Default for LinesSettings {
    fn default() -> LinesSettings {
        let (options, quantity_decimals) = (LineOptions::default(), QUANTITY_DECIMALS_DEFAULT);
        LinesSettings { options, quantity_decimals }
    }
}
