//! What every node with a log says about it: the log's notices as log lines, its state in a status answer.

use super::{Connections, Status};
use crate::log::{Health, Log, Storage};
use crate::node::Level;

/// Logs what the log has to say.
pub(crate) fn report_log<S: Storage, P>(log: &mut Log<S>, connections: &mut Connections<P>) {
    while let Some(notice) = log.poll_notice() {
        let level = if notice.is_problem() { Level::Error } else { Level::Info };
        connections.log(level, notice.to_string());
    }
}

/// Adds the log's state to a status answer, under this name when it is not simply open, and what is held against
/// the wall clock.
pub(crate) fn describe_log<S: Storage>(name: &str, log: &Log<S>, status: &mut Status) {
    if !matches!(log.health(), Health::Open) {
        status.text(name, log.health().to_string());
    }
    let (syncs, waits) = log.durations();
    status.histogram("log_sync_us", syncs);
    status.histogram("log_commit_us", waits);
    let objection = log.clock().objection();
    status.metric("clock_refused", i64::from(objection.is_some()));
    if let Some(objection) = objection {
        status.text("clock", objection.to_string());
    }
}
