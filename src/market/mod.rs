//! The market itself: prices, instruments, lines of text, recorded tapes, a synthetic market, and the ways in
//! which an exchange misbehaves. Everything here is pure: readers take bytes, never a file.

pub mod bar;
pub mod chaos;
mod civil;
pub mod instrument;
pub mod lines;
pub mod partition;
pub mod price;
pub mod quantity;
pub mod summary;
pub mod synthetic;
pub mod tape;
pub mod venue;

pub use instrument::{Instrument, Instruments, TableFull, exchange_id};
pub use price::{DecimalMark, Price, PriceError};
pub use quantity::{Quantity, QuantityError};
