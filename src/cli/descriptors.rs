//! The descriptor limit: shells start processes with a soft limit of 1,024, which is a broker of a
//! thousand subscribers. The hard limit is the administrator's word; the soft one is ours to raise.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

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
