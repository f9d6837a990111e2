//! What the caller plans: the parts of a query, and the nodes that hold a copy of each. Not here: how the
//! parts are found, which the caller knows.

use crate::question::Question;

/// A node that can be asked. The caller gives the numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LeafId(pub u32);

/// What the caller knows about a leaf before asking it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Availability {
    /// It can be asked.
    Ready,
    /// There is no connection to it.
    Refused,
    /// Its circuit breaker is open.
    BreakerOpen,
}

/// One node that holds a copy of a part.
#[derive(Clone, Copy, Debug)]
pub struct Replica {
    /// Which node.
    pub leaf: LeafId,
    /// Its name, for the answer.
    pub name: [u8; 16],
    /// Whether it can be asked.
    pub availability: Availability,
}

/// One part of a query: what is asked, and who can answer it.
#[derive(Clone, Debug)]
pub struct PartPlan {
    /// What to ask. Its id and deadline are filled in here. Of one name that several parts may have, each is asked for a
    /// list: an unknown name is no error of a list.
    pub question: Question,
    /// The nodes that hold it, the first copy first.
    pub replicas: Vec<Replica>,
    /// Nothing of the query belongs to this part: nobody is asked.
    pub is_pruned: bool,
}
