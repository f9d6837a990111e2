//! Bounds of open files.

/// Descriptors that accepted connections leave free for the files of a log and for connections of the node's own:
/// every node that an aggregator or core can dial, and some files.
pub const DESCRIPTORS_RESERVED: u64 = super::GATHER_COPIES_MAX as u64 + 32;
/// Where the limit of open files is low, the reserve is this part of it.
pub const DESCRIPTORS_RESERVED_PART: u64 = 8;
/// This part of the reserve may be taken by peers that are being told that there is no room for them.
pub const DESCRIPTORS_REFUSING_PART: u64 = 4;
