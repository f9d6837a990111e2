//! The log of a node: lines on standard error.
//!
//! Under the supervisor a line is `LEVEL message`, since the supervisor puts the node's name before
//! it; alone it begins with the time in UTC.

use std::io::Write;

use log::LevelFilter;

/// Sends log lines of at least this level to standard error, from now on. A second call changes
/// nothing.
pub(super) fn start(level: LevelFilter, supervised: bool) {
    let mut builder = env_logger::Builder::new();
    builder.filter_level(level).format(move |buffer, record| {
        let style = buffer.default_level_style(record.level());
        if !supervised {
            let time = buffer.timestamp_millis();
            write!(buffer, "{time} ")?;
        }
        writeln!(buffer, "{style}{:<5}{style:#} {}", record.level(), record.args())
    });
    // Fails when a logger is set already, which then stays.
    let _ = builder.try_init();
}
