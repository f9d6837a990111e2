//! One outgoing connection of the feed.

use std::net::SocketAddr;

use crate::node::ConnId;
use crate::wire::Frame;

/// One connection to the broker or to core, and whether there is one.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) address: SocketAddr,
    pub(super) conn: Option<ConnId>,
    pub(super) is_dialing: bool,
    pub(super) is_wanted: bool,
    /// What it has to send was shown; more is asked for by who writes.
    pub(super) was_asked: bool,
    /// Frames that came while none were wanted.
    pub(super) held: Vec<Frame>,
}

impl Line {
    pub(super) fn new(address: SocketAddr) -> Line {
        Line {
            address,
            conn: None,
            is_dialing: false,
            is_wanted: false,
            was_asked: false,
            held: Vec::new(),
        }
    }
}
