//! The harness of all tests that start the program as a process: it is started on ports that nobody else
//! has and in a directory of its own, watched by its lines, and ended with the test, however that ends.
//!
//! `process` is one process, `node` one node of a system, `system` all of them, `terminal` what one draws, `tmpfs` a disk that can be full, `web` a client of HTTP and WebSocket, and `checks` what must hold
//! of what a subscriber was given.

#![allow(dead_code, reason = "each test binary uses a part of it")]

pub(crate) mod checks;
pub(crate) mod node;
pub(crate) mod process;
pub(crate) mod system;
pub(crate) mod terminal;
pub(crate) mod tmpfs;
pub(crate) mod web;
