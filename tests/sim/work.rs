//! What one turn may spend: bounds that a day draws so small that a few subscribers have what thousands have in
//! production, and what must hold of them behind each turn.

use pregao::limits;
use pregao::node::broker::Fanout;
use pregao::node::{Work, WorkSpent};
use pregao::random::Random;
use pregao::turn::Bounds;

use crate::hosts::AnyNode;
use crate::world::World;

/// What a turn may make beyond its bound: what belongs to the last frame of its last piece, and the write. What that
/// piece looks at may cost as much again as the frames of the turn.
const FRAMES_OVER_MAX: usize = 48;
/// The same of a shard, whose pieces have a least size.
const ANSWER_FRAMES_OVER_MAX: usize = 512;
/// What a turn may look up beyond its bound: the last piece of it puts a longest list of patterns in order.
const STEPS_OVER_MAX: usize = limits::PATTERNS_MAX / 4;

/// The bounds of every host's turns.
#[derive(Clone, Copy)]
pub(crate) struct WorkBounds {
    pub(crate) turn: Bounds,
    /// Frames of bulk; `None`: as in production. The same of the others.
    pub(crate) frames_max: Option<usize>,
    pub(crate) steps_max: Option<usize>,
    pub(crate) replays_max: Option<usize>,
}

impl WorkBounds {
    pub(crate) const PRODUCTION: fn() -> WorkBounds = || WorkBounds {
        turn: Bounds::default(),
        frames_max: None,
        steps_max: None,
        replays_max: None,
    };

    /// Small ones.
    pub(crate) fn tight(turn: Bounds, draw: &mut Random) -> WorkBounds {
        let mut at_most = |most| usize::try_from(draw.between(1, most)).unwrap();
        let turn = Bounds { reads_max: at_most(4), read_bytes_max: 64 * at_most(6), ..turn };
        WorkBounds {
            turn,
            frames_max: Some(at_most(30)),
            steps_max: Some(at_most(6)),
            replays_max: Some(at_most(3)),
        }
    }

    fn bound(&self, work: &mut Work) {
        if let Some(frames_max) = self.frames_max {
            work.bound_frames(frames_max);
        }
        if let Some(steps_max) = self.steps_max {
            work.bound_steps(steps_max);
        }
    }

    /// A node that starts with them.
    pub(crate) fn of(&self, mut node: AnyNode) -> AnyNode {
        match &mut node {
            AnyNode::Core(core) => {
                self.bound(core.work_mut());
                core.bound_replays(self.replays_max.unwrap_or(limits::REPLAYS_MAX));
            }
            AnyNode::Broker(broker) => self.bound(broker.work_mut()),
            AnyNode::Shard(shard) => self.bound(shard.work_mut()),
            _ => {}
        }
        node
    }

    /// A further reactor that starts with them.
    pub(crate) fn of_fanout(&self, mut fanout: Fanout) -> Fanout {
        self.bound(fanout.work_mut());
        fanout
    }
}

/// What a node's turns have spent, and how much more than its bound the last piece of a turn may be.
pub(crate) fn spent(node: &AnyNode) -> Option<(WorkSpent, usize)> {
    let (work, over) = match node {
        AnyNode::Core(core) => (core.work(), FRAMES_OVER_MAX),
        AnyNode::Broker(broker) => (broker.work(), FRAMES_OVER_MAX),
        AnyNode::Fanout(fanout, _) => (fanout.work(), FRAMES_OVER_MAX),
        AnyNode::Shard(shard) => (shard.work(), ANSWER_FRAMES_OVER_MAX),
        _ => return None,
    };
    Some((work.spent(), over))
}

impl World {
    /// No turn is without a bound on its work. Whether the node had all the looks that a turn may have, which is work
    /// though nobody sees it.
    pub(crate) fn watch_work(&mut self, host: usize, node: &AnyNode) -> bool {
        let Some((spent, over)) = spent(node) else { return false };
        let name = &self.hosts[host].name;
        self.hold(spent.frames <= 2 * spent.frames_max + over, "bulk-has-a-part-of-a-turn", || {
            format!("{name} spent {} frames of {} in one turn", spent.frames, spent.frames_max)
        });
        let is_bounded = spent.steps <= spent.steps_max + STEPS_OVER_MAX;
        self.hold(is_bounded, "looking-up-has-a-part-of-a-turn", || {
            format!("{name} took {} steps of {} in one turn", spent.steps, spent.steps_max)
        });
        let seen = &mut self.hosts[host].reactors.full_seen;
        let (frames, steps) = (spent.full_frames, spent.full_steps);
        self.counts.full_bulk += frames.saturating_sub(seen.0);
        self.counts.full_looks += steps.saturating_sub(seen.1);
        let has_looked = steps > seen.1;
        *seen = (frames, steps);
        has_looked
    }
}
