//! The configuration of a breaker: the table `[breaker]` in TOML, its defaults and its checks.
//!
//! Names are those of resilience4j where the meaning is the same. Not the place where anything is
//! decided: [`Rules`] is the same in the integers that the machine computes with.

use std::time::Duration;

use serde::Deserialize;

use crate::duration::{self, show};
use crate::limits::{BREAKER_WINDOW_CALLS_MAX, BREAKER_WINDOW_SECONDS_MAX};
use crate::time::nanos;

/// Over what the failure rate and the slow rate are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum WindowType {
    /// The last `sliding_window_size` calls.
    #[serde(rename = "COUNT_BASED", alias = "count_based")]
    CountBased,
    /// The last `sliding_window_size` seconds, in steps of 100 ms.
    #[serde(rename = "TIME_BASED", alias = "time_based")]
    TimeBased,
}

/// The configuration of one breaker. Durations are texts such as `"500ms"`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Refused or unreachable this many times in a row: open at once, whatever the window says. 0 = never.
    pub consecutive_refusals_threshold: u32,
    /// Percentage of failed calls in the window from which the breaker opens.
    pub failure_rate_threshold: f64,
    /// Percentage of slow calls in the window from which the breaker opens.
    pub slow_call_rate_threshold: f64,
    /// An answer that took longer than this is slow.
    #[serde(deserialize_with = "duration::deserialize")]
    pub slow_call_duration_threshold: Duration,
    /// What the window counts.
    pub sliding_window_type: WindowType,
    /// Calls, or seconds, that the window holds.
    pub sliding_window_size: u32,
    /// No rate is judged over fewer calls.
    pub minimum_number_of_calls: u32,
    /// How long the first open state lasts.
    #[serde(deserialize_with = "duration::deserialize")]
    pub wait_duration_in_open_state: Duration,
    /// Each open state that follows without a closed one between lasts this many times longer.
    pub exponential_backoff_multiplier: f64,
    /// No open state that the breaker chose itself lasts longer.
    #[serde(deserialize_with = "duration::deserialize")]
    pub exponential_max_wait_duration_in_open_state: Duration,
    /// Each wait is drawn from the interval of this fraction around it: 0.2 = ±20 %.
    pub randomized_wait_factor: f64,
    /// When the peer says when to come back, no later instant than this far away is believed.
    #[serde(deserialize_with = "duration::deserialize")]
    pub max_come_back_duration: Duration,
    /// Probes that may be under way at once in the half-open state.
    pub permitted_number_of_calls_in_half_open_state: u32,
    /// Answered probes that close the breaker.
    pub required_successes_in_half_open_state: u32,
    /// How long probing may go on without a verdict, from the first probe, before it counts as failed.
    #[serde(deserialize_with = "duration::deserialize")]
    pub max_wait_duration_in_half_open_state: Duration,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            consecutive_refusals_threshold: 3,
            failure_rate_threshold: 50.0,
            slow_call_rate_threshold: 80.0,
            slow_call_duration_threshold: Duration::from_secs(1),
            sliding_window_type: WindowType::CountBased,
            sliding_window_size: 20,
            minimum_number_of_calls: 10,
            wait_duration_in_open_state: Duration::from_millis(500),
            exponential_backoff_multiplier: 1.5,
            exponential_max_wait_duration_in_open_state: Duration::from_secs(10),
            randomized_wait_factor: 0.2,
            max_come_back_duration: Duration::from_secs(300),
            permitted_number_of_calls_in_half_open_state: 1,
            required_successes_in_half_open_state: 1,
            max_wait_duration_in_half_open_state: Duration::from_secs(5),
        }
    }
}

/// What is wrong with a [`Config`], and what to do. Whoever wrote the configuration is to blame.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum ConfigError {
    #[error("{name} is {value}; set it to a percentage above 0 and at most 100")]
    Percentage { name: &'static str, value: f64 },
    #[error("{name} is 0; set it to at least 1")]
    Zero { name: &'static str },
    #[error("{name} is 0s; set it to a duration such as 500ms")]
    ZeroDuration { name: &'static str },
    #[error("sliding_window_size is {size}; set it to at most {max} {unit}")]
    WindowSize { size: u32, max: u32, unit: &'static str },
    #[error(
        "minimum_number_of_calls is {minimum}, but the window holds only {size} calls, so no rate \
         would ever be judged; lower it to {size} or raise sliding_window_size"
    )]
    Minimum { minimum: u32, size: u32 },
    #[error("exponential_backoff_multiplier is {0}; set it between 1 (no growth) and 1000")]
    Multiplier(f64),
    #[error("randomized_wait_factor is {0}; set it to at least 0 (no jitter) and below 1")]
    Jitter(f64),
    #[error(
        "exponential_max_wait_duration_in_open_state is {}, shorter than \
         wait_duration_in_open_state ({}); raise it or lower the wait",
        show(*.cap), show(*.wait)
    )]
    Cap { cap: Duration, wait: Duration },
}

impl Config {
    /// Checks the values against each other.
    ///
    /// # Errors
    /// The first value that makes no sense, in a sentence that says what to set instead.
    pub fn validate(&self) -> Result<(), ConfigError> {
        for (name, value) in [
            ("failure_rate_threshold", self.failure_rate_threshold),
            ("slow_call_rate_threshold", self.slow_call_rate_threshold),
        ] {
            // Written so that a NaN fails too. Below 0.01 the threshold would round to zero.
            if !(0.01..=100.0).contains(&value) {
                return Err(ConfigError::Percentage { name, value });
            }
        }
        for (name, number) in [
            ("sliding_window_size", self.sliding_window_size),
            ("minimum_number_of_calls", self.minimum_number_of_calls),
            (
                "permitted_number_of_calls_in_half_open_state",
                self.permitted_number_of_calls_in_half_open_state,
            ),
            ("required_successes_in_half_open_state", self.required_successes_in_half_open_state),
        ] {
            if number == 0 {
                return Err(ConfigError::Zero { name });
            }
        }
        for (name, duration) in [
            ("slow_call_duration_threshold", self.slow_call_duration_threshold),
            ("wait_duration_in_open_state", self.wait_duration_in_open_state),
            ("max_come_back_duration", self.max_come_back_duration),
            ("max_wait_duration_in_half_open_state", self.max_wait_duration_in_half_open_state),
        ] {
            if duration.is_zero() {
                return Err(ConfigError::ZeroDuration { name });
            }
        }
        self.validate_window()?;
        if !(1.0..=1000.0).contains(&self.exponential_backoff_multiplier) {
            return Err(ConfigError::Multiplier(self.exponential_backoff_multiplier));
        }
        if !(0.0..1.0).contains(&self.randomized_wait_factor) {
            return Err(ConfigError::Jitter(self.randomized_wait_factor));
        }
        let cap = self.exponential_max_wait_duration_in_open_state;
        if cap < self.wait_duration_in_open_state {
            return Err(ConfigError::Cap { cap, wait: self.wait_duration_in_open_state });
        }
        Ok(())
    }

    fn validate_window(&self) -> Result<(), ConfigError> {
        let size = self.sliding_window_size;
        let (max, unit) = match self.sliding_window_type {
            WindowType::CountBased => (BREAKER_WINDOW_CALLS_MAX, "calls"),
            WindowType::TimeBased => (BREAKER_WINDOW_SECONDS_MAX, "seconds"),
        };
        if size > max {
            return Err(ConfigError::WindowSize { size, max, unit });
        }
        let minimum = self.minimum_number_of_calls;
        if self.sliding_window_type == WindowType::CountBased && minimum > size {
            return Err(ConfigError::Minimum { minimum, size });
        }
        Ok(())
    }
}

/// A valid [`Config`] in the integers that decisions are made with, so that the same seed gives the
/// same run on every machine.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    pub(super) refusals_max: u32,
    /// Rates are in basis points: hundredths of a percent.
    pub(super) failure_basis_points: u64,
    pub(super) slow_basis_points: u64,
    pub(super) slow_over: Duration,
    pub(super) calls_min: u32,
    pub(super) wait_ns: u64,
    pub(super) wait_ns_max: u64,
    /// Growth and jitter in thousandths.
    pub(super) growth_per_mille: u64,
    pub(super) jitter_per_mille: u64,
    pub(super) come_back_max: Duration,
    pub(super) probes_max: u32,
    pub(super) successes_min: u32,
    pub(super) half_open_max: Duration,
}

impl Rules {
    pub(super) fn new(config: &Config) -> Rules {
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "validate() keeps these between 0 and 1,000; `as` saturates anyway"
        )]
        let scaled = |value: f64, scale: f64| (value * scale).round() as u64;
        Rules {
            refusals_max: config.consecutive_refusals_threshold,
            failure_basis_points: scaled(config.failure_rate_threshold, 100.0),
            slow_basis_points: scaled(config.slow_call_rate_threshold, 100.0),
            slow_over: config.slow_call_duration_threshold,
            calls_min: config.minimum_number_of_calls,
            wait_ns: nanos(config.wait_duration_in_open_state),
            wait_ns_max: nanos(config.exponential_max_wait_duration_in_open_state),
            growth_per_mille: scaled(config.exponential_backoff_multiplier, 1000.0),
            jitter_per_mille: scaled(config.randomized_wait_factor, 1000.0),
            come_back_max: config.max_come_back_duration,
            probes_max: config.permitted_number_of_calls_in_half_open_state,
            successes_min: config.required_successes_in_half_open_state,
            half_open_max: config.max_wait_duration_in_half_open_state,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_table_is_the_defaults_and_they_are_valid() {
        let config: Config = toml::from_str("").unwrap();
        assert_eq!(config, Config::default());
        assert_eq!(config.validate(), Ok(()));
    }

    #[test]
    fn names_from_resilience4j_are_understood() {
        let config: Config = toml::from_str(
            r#"
            failure_rate_threshold = 25
            slow_call_rate_threshold = 12.5
            slow_call_duration_threshold = "200ms"
            sliding_window_type = "TIME_BASED"
            sliding_window_size = 30
            minimum_number_of_calls = 100
            wait_duration_in_open_state = "2s"
            exponential_backoff_multiplier = 2.0
            exponential_max_wait_duration_in_open_state = "1m"
            randomized_wait_factor = 0.5
            permitted_number_of_calls_in_half_open_state = 3
            max_wait_duration_in_half_open_state = "4s"
            "#,
        )
        .unwrap();
        assert_eq!(config.validate(), Ok(()));
        assert_eq!(config.failure_rate_threshold, 25.0);
        assert_eq!(config.slow_call_duration_threshold, Duration::from_millis(200));
        assert_eq!(config.sliding_window_type, WindowType::TimeBased);
        assert_eq!(Rules::new(&config).slow_basis_points, 1250);
    }

    #[test]
    fn misspelt_names_and_bare_numbers_are_refused_with_a_hint() {
        let error = toml::from_str::<Config>("failure_rate = 1").unwrap_err().to_string();
        assert!(error.contains("unknown field"), "{error}");
        let error = toml::from_str::<Config>("wait_duration_in_open_state = 5").unwrap_err();
        assert!(error.to_string().contains("\"500ms\""), "{error}");
    }

    #[test]
    fn each_senseless_value_is_refused_by_name() {
        type Change = fn(&mut Config);
        let table: [(&str, Change); 17] = [
            ("failure_rate_threshold is 0", |c| c.failure_rate_threshold = 0.0),
            ("failure_rate_threshold is NaN", |c| c.failure_rate_threshold = f64::NAN),
            ("slow_call_rate_threshold is 101", |c| c.slow_call_rate_threshold = 101.0),
            ("sliding_window_size is 0", |c| c.sliding_window_size = 0),
            ("at most 10000 calls", |c| c.sliding_window_size = 10_001),
            ("at most 600 seconds", |c| {
                c.sliding_window_type = WindowType::TimeBased;
                c.sliding_window_size = 601;
            }),
            ("minimum_number_of_calls is 0", |c| c.minimum_number_of_calls = 0),
            ("lower it to 20", |c| c.minimum_number_of_calls = 21),
            ("wait_duration_in_open_state is 0s", |c| {
                c.wait_duration_in_open_state = Duration::ZERO;
            }),
            ("shorter than wait_duration_in_open_state (11s)", |c| {
                c.wait_duration_in_open_state = Duration::from_secs(11);
            }),
            ("multiplier is 0.5", |c| c.exponential_backoff_multiplier = 0.5),
            ("factor is 1;", |c| c.randomized_wait_factor = 1.0),
            ("permitted_number_of_calls_in_half_open_state is 0", |c| {
                c.permitted_number_of_calls_in_half_open_state = 0;
            }),
            ("required_successes_in_half_open_state is 0", |c| {
                c.required_successes_in_half_open_state = 0;
            }),
            ("max_wait_duration_in_half_open_state is 0s", |c| {
                c.max_wait_duration_in_half_open_state = Duration::ZERO;
            }),
            ("slow_call_duration_threshold is 0s", |c| {
                c.slow_call_duration_threshold = Duration::ZERO;
            }),
            ("max_come_back_duration is 0s", |c| c.max_come_back_duration = Duration::ZERO),
        ];
        for (words, change) in table {
            let mut config = Config::default();
            change(&mut config);
            let error = config.validate().unwrap_err().to_string();
            assert!(error.contains(words), "{words:?} is not in {error:?}");
        }
    }
}
