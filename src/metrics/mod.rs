//! What nodes say about themselves, as time series in Prometheus' text format.
//!
//! [`table`] says what each figure of a status is called there, and [`text`] writes it. A figure that stands in no row of
//! the table becomes no series; [`Text::left_out`] counts those, and a test names them.
//!
//! # Decisions
//!
//! * The nodes keep no registry. Their status has each figure already, so a scrape is a status that is written in
//!   another way. `prometheus-client` writes it.
//! * No series by instrument. There may be a hundred thousand of them, and whoever wants one asks for its quote. The
//!   labels are nodes, exchanges, sources, followers, leaves, breakers and words of this program: as many as are
//!   configured.
//! * What is not known has no sample. A zero or a minus one would be drawn as if it were measured.

mod door;
mod table;
mod text;

pub(crate) use door::WithMetrics;
pub(crate) use text::Text;
