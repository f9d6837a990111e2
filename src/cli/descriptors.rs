//! The descriptor limit: shells start processes with a soft limit of 1,024, which is a broker of a
//! thousand subscribers. The hard limit is the administrator's word; the soft one is ours to raise.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::turn::reserved_descriptors;

/// Raises the soft limit to the hard one and returns it; `None` when there is no limit.
pub(super) fn raise_limit() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if limit.current != limit.maximum
        && let Err(error) = setrlimit(Resource::Nofile, raised)
    {
        log::warn!("the descriptor limit stays as it is: {error}");
    }
    getrlimit(Resource::Nofile).current
}

/// How many peers can be connected to this process, as far as descriptors go; `None` when there is no limit.
pub(super) fn room(limit: Option<u64>) -> Option<u64> {
    let used = std::fs::read_dir("/proc/self/fd").map_or(0, |open| open.count() as u64);
    limit.map(|limit| limit.saturating_sub(reserved_descriptors(limit)).saturating_sub(used))
}
