//! Bounds of producers and of other publishers.

use std::time::Duration;

/// Places in the journal that core keeps for one producer until they are durable; of more, the newest two are one.
pub const PRODUCER_ACKS_MAX: usize = 64;
/// Feeds that an exchange has left behind, of which core knows how far it has them.
pub const FEEDS_KEPT_MAX: usize = 1_024;
/// Instruments at which producers may define no more: the rest is left to exchanges that core dials, and to its own topics.
pub const INSTRUMENTS_OF_PRODUCERS_MAX: usize = super::INSTRUMENTS_MAX - 8 * 1_024;
/// Instruments that core looks at in one piece, for the definitions that a producer is told.
pub const DEFINITIONS_PER_FILL_MAX: usize = 4_096;
/// Frames that a producer keeps until core says that they are durable: 16 MiB.
pub const PRODUCER_WINDOW_FRAMES: usize = 256 * 1_024;
/// Frames that the client's publisher sends ahead of the broker's acknowledgement.
pub const PUBLISH_UNACCEPTED_MAX: u64 = 1024;
/// Connections that write lines to one node.
pub const LINE_CONNECTIONS_MAX: usize = 256;
/// Bytes of answers about wrong lines that wait for one connection; further answers are left out.
pub const LINE_ANSWERS_BYTES_MAX: usize = 4 * 1_024;
/// The port that servers of line protocol over TCP have.
pub const LINES_PORT: u16 = 9_009;
/// Silence behind which the kernel asks whether a program that writes lines is still there.
pub const LINE_KEEPALIVE: Duration = Duration::from_mins(1);
