//! `pregao publish`: lines of text become a feed that core journals. A file is read twice: first as a whole, so that nothing of
//! one that is wrong somewhere is published; then to send it.

pub mod args;
mod outcome;
mod send;
mod source;
mod survey;

use std::io::{self, IsTerminal, Write};
use std::net::SocketAddr;

use self::args::PublishFlags;
use self::outcome::show_survey;
use self::send::publish;
use self::source::{Source, is_stdin, is_stream};
use self::survey::Survey;
use super::exit::{Exit, Failure};
use super::output::Output;
use super::progress::Bar;
use crate::market::lines::LineOptions;

/// What to publish, and where.
#[derive(Debug)]
pub struct PublishRequest {
    /// Core.
    pub core: SocketAddr,
    /// All else.
    pub flags: PublishFlags,
}

/// Publishes lines.
///
/// # Errors
/// Names the line that is wrong, or says why core does not take the feed.
pub fn run<W: Write>(request: &PublishRequest, output: &mut Output<W>) -> Result<Exit, Failure> {
    let flags = &request.flags;
    let options = LineOptions {
        mapping: flags.map.clone().unwrap_or_default(),
        time_unit: flags.time_unit.into(),
        kind: flags.kind.map(Into::into),
        symbol: flags.symbol,
        time_ns: None,
    };
    let is_stream = is_stream(&flags.file);
    let open =
        || Source::open(&flags.file, flags.format.map(Into::into), &options, flags.allow_torn);
    if is_stdin(&flags.file) && io::stdin().is_terminal() {
        log::warn!("reading lines from the terminal; Ctrl-D on an empty line ends them");
    }
    let mut source = open()?;
    if is_stream && !flags.dry_run {
        return publish(request, None, source, Bar::new(None))?.show(flags, output);
    }
    let survey = {
        let mut bar = Bar::new(None);
        Survey::of(&mut source, |bytes| bar.show(bytes))?
    };
    if flags.dry_run {
        return show_survey(flags, &source, &survey, output);
    }
    let bar = Bar::new(Some(survey.bytes));
    publish(request, Some(&survey), open()?, bar)?.show(flags, output)
}
