//! Readers for the values of flags. Each says in its error what it would have taken.

mod beginning;
mod interval;
mod mode;
mod number;
mod pattern;
mod time;

use std::time::Duration;

pub use beginning::Beginning;
pub use interval::{BarInterval, IntervalError};
pub use mode::{DeliveryMode, ModeError};
pub use number::whole_number;
pub use pattern::{Pattern, PatternError};
pub use time::{TimeError, TimeNs};

use crate::duration;
use crate::limits::{DEADLINE_MAX, DEADLINE_MIN};

/// Reads a deadline: a duration within the limits.
///
/// # Errors
/// What it would have taken.
pub fn deadline(text: &str) -> Result<Duration, String> {
    let deadline = duration::parse(text).map_err(|error| error.to_string())?;
    if (DEADLINE_MIN..=DEADLINE_MAX).contains(&deadline) {
        return Ok(deadline);
    }
    let [least, most] = [DEADLINE_MIN, DEADLINE_MAX].map(|d| duration::show(d).to_string());
    Err(format!("a deadline is {least} to {most}"))
}
