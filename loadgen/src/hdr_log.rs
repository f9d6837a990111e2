//! `--hdr FILE`: the time line as an interval log of HdrHistogram, which its plotters read.

use std::io::{self, Write};
use std::time::Duration;

use hdrhistogram::serialization::V2Serializer;
use hdrhistogram::serialization::interval_log::IntervalLogWriterBuilder;

use crate::measure::Measured;

/// Writes the log. Values are nanoseconds; the maximum column is in milliseconds.
///
/// # Errors
/// The writer's.
pub(crate) fn write(
    to: &mut impl Write,
    measured: &Measured,
    started_s: f64,
    interval: Duration,
) -> io::Result<()> {
    let failed = |error: &dyn std::fmt::Debug| io::Error::other(format!("{error:?}"));
    let mut serializer = V2Serializer::new();
    let started = Duration::try_from_secs_f64(started_s).unwrap_or_default();
    let since_1970 = std::time::UNIX_EPOCH + started;
    let mut builder = IntervalLogWriterBuilder::new();
    builder.add_comment("latency from the intended send to the receive, nanoseconds");
    builder.with_start_time(since_1970).with_max_value_divisor(1e6);
    let mut log = builder.begin_log_with(to, &mut serializer)?;
    for (offset, part) in &measured.intervals {
        log.write_histogram(part, *offset, interval, None).map_err(|error| failed(&error))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::histogram;

    #[test]
    fn what_is_written_is_read_back() {
        use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
        let mut part = histogram();
        part.saturating_record(5_000_000);
        let measured = Measured {
            latency: part.clone(),
            service: histogram(),
            skew: histogram(),
            intervals: vec![(Duration::ZERO, part.clone()), (Duration::from_secs(1), part)],
        };
        let mut log = Vec::new();
        write(&mut log, &measured, 1_700_000_000.0, Duration::from_secs(1)).unwrap();
        let entries: Vec<LogEntry> = IntervalLogIterator::new(&log).map(Result::unwrap).collect();
        let intervals = entries.iter().filter(|entry| matches!(entry, LogEntry::Interval(_)));
        assert_eq!(intervals.count(), 2);
    }
}
