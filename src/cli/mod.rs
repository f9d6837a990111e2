//! The command line.
pub mod parse;
pub mod render;
