//! What a run costs the processes under load.

use crate::process::{Counted, Reading};

/// Costs of the processes under load.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Costs {
    pub(crate) cpu_ns_per_delivery: Option<f64>,
    pub(crate) syscalls_per_delivery: Option<f64>,
    pub(crate) syscalls_counted: Option<Counted>,
    pub(crate) bytes_per_subscriber: Option<f64>,
    /// Resident memory before anybody subscribed, and at the end.
    pub(crate) rss_bytes_before: Option<u64>,
    pub(crate) rss_bytes_after: Option<u64>,
    /// Most memory that the kernel held for TCP, of the whole machine.
    pub(crate) kernel_tcp_bytes_max: u64,
}

/// What an idle subscriber costs. Not known where the process has not grown: it has the memory of subscribers that
/// were there before.
pub(super) fn bytes_per_subscriber(with: u64, without: u64, subscribers: usize) -> Option<f64> {
    (with > without).then(|| ratio(with - without, subscribers as u64))
}

pub(super) fn costs_of(start: Reading, end: Reading, deliveries: u64) -> Costs {
    let per_delivery = |from: Option<u64>, to: Option<u64>| {
        let spent = to?.saturating_sub(from?);
        (deliveries > 0).then(|| ratio(spent, deliveries))
    };
    let syscalls_per_delivery = per_delivery(start.io_calls, end.io_calls);
    Costs {
        cpu_ns_per_delivery: per_delivery(start.cpu_ns, end.cpu_ns),
        syscalls_per_delivery,
        syscalls_counted: syscalls_per_delivery.map(|_| Counted::ReadsAndWrites),
        ..Costs::default()
    }
}

#[allow(clippy::cast_precision_loss, reason = "a figure for people")]
fn ratio(sum: u64, count: u64) -> f64 {
    sum as f64 / count.max(1) as f64
}
