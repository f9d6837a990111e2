//! History: where the trades of each instrument stand in a log, and answers that are read from there, a
//! bounded piece at a time. A shard keeps one [`Index`] over its log.
//!
//! Invariant: the index can be rebuilt from the log alone, and then is the same.
//!
//! Not here: who asks, whose turn it is, and what is waited for. That is the shard's (see
//! `node/shard/querier.rs`).

mod answer;
mod bars;
mod block;
mod cancels;
mod count;
mod holes;
mod index;
mod instrument;
mod rows;
mod scan_range;

pub(crate) use answer::{AnswerContext, AnswerProgress, HistoryAnswer};
pub(crate) use holes::record as hole_record;
pub(crate) use index::Index;
pub(crate) use instrument::UnpackedBlock;
