//! Instruments and their data.

pub mod partition;
