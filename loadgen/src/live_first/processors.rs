//! Which processors the nodes and the generator run on. Apart, a node that is busy does not keep the generator from
//! sending in time, and what is measured is the node.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The processors that this process may use, in two parts.
#[derive(Clone, Copy)]
pub(super) struct Processors {
    all: CpuSet,
    nodes: CpuSet,
    load: CpuSet,
}

impl Processors {
    /// The first one for nodes, all others for the generator. `None`: there are less than two, or they cannot be chosen.
    pub(super) fn apart() -> Option<Processors> {
        let all = sched_getaffinity(None).ok()?;
        let mut ours = (0..CpuSet::MAX_CPU).filter(|number| all.is_set(*number));
        let first = ours.next()?;
        ours.next()?;
        let (mut nodes, mut load) = (CpuSet::new(), all);
        nodes.set(first);
        load.unset(first);
        Some(Processors { all, nodes, load })
    }

    /// What this thread starts from here on is a node.
    pub(super) fn start_nodes(self) {
        let _ = sched_setaffinity(None, &self.nodes);
    }

    /// What this thread starts from here on may run anywhere, and so may it itself.
    pub(super) fn start_anything(self) {
        let _ = sched_setaffinity(None, &self.all);
    }

    /// What this thread starts from here on, and itself, is the generator's.
    pub(super) fn start_load(self) {
        let _ = sched_setaffinity(None, &self.load);
    }
}
