//! Everything that reads bytes or text from outside, given almost right ones: nothing may panic, and
//! what is accepted must be what it says. Cases follow from their number, so a failure names what to
//! run again. `PREGAO_FUZZ_CASES=1000000 cargo test --test fuzz` looks longer than the few thousand of
//! a plain run; `PREGAO_FUZZ_FIRST=N` starts at a case. Valid input to begin from is in `corpus/`.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::cast_possible_truncation,
    reason = "these are tests"
)]

mod frames;
mod gateway;
mod http;
mod lines;
mod mutate;
mod recovery;
mod tapes;
mod text;
mod websocket;
