//! Open-loop load and end-to-end latency for pregao and its peers.
fn main() {}
