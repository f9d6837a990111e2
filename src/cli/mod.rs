//! The command line: from arguments to an exit code.
//!
//! Two stages: `args` reads each flag by itself, `resolve` reads the configuration file, applies the
//! flags over it, and checks what they demand of each other. Commands get a checked request. Nothing
//! here prints an error; that is `main.rs`'s part.

mod all;
mod args;
pub mod breaker;
mod descriptors;
pub mod exit;
mod logging;
mod market;
pub mod offline;
pub mod output;
mod progress;
pub mod publish;
pub mod report;
mod report_hints;
mod resolve;
pub mod run;
mod siblings;
pub mod status;
mod stop;
pub mod subscribe;
mod subscribe_bars;
mod subscribe_hints;
mod subscribe_past;
mod suggest;
pub mod watch;

use std::ffi::OsString;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};

use self::args::CommandLine;
pub use self::args::Format;
use self::exit::{Exit, Failure};
use self::output::Output;
use self::resolve::{Request, resolve};
use crate::supervisor::parent;

/// What `pregao --version` says behind the name: the version, and which features the build has. Whoever
/// measures a program looks for `planted` among them.
pub const VERSION: &str = match (cfg!(feature = "parquet"), cfg!(feature = "planted")) {
    (false, false) => concat!(env!("CARGO_PKG_VERSION"), "\nfeatures: none"),
    (true, false) => concat!(env!("CARGO_PKG_VERSION"), "\nfeatures: parquet"),
    (false, true) => concat!(env!("CARGO_PKG_VERSION"), "\nfeatures: planted"),
    (true, true) => concat!(env!("CARGO_PKG_VERSION"), "\nfeatures: parquet, planted"),
};

/// Does what the arguments (with the program's name first) ask for.
///
/// # Errors
/// The exit code and the one line to print.
pub fn execute(arguments: impl IntoIterator<Item = OsString>) -> Result<Exit, Failure> {
    let mut output = Output::stdout();
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let command = match CommandLine::try_parse_from(&arguments) {
        Ok(line) => line.command,
        Err(error) if is_answer(error.kind()) => {
            let text = match output.screen().color {
                true => error.render().ansi().to_string(),
                false => error.render().to_string(),
            };
            output.line(text.trim_end())?;
            output.flush()?;
            // Help that nobody asked for shows what could have been asked.
            let is_asked = error.kind() != ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;
            return Ok(if is_asked { Exit::Complete } else { Exit::Usage });
        }
        Err(error) => {
            let given = arguments.get(1).and_then(|word| word.to_str()).filter(|word| {
                CommandLine::command().get_subcommands().any(|known| known.get_name() == *word)
            });
            return Err(Failure::usage(in_one_line(&error.render().to_string(), given)));
        }
    };
    let exit = match resolve(command)? {
        Request::All(request) => all::run(&request)?,
        Request::Node { request, log, parent } => {
            if let Some(supervisor) = parent {
                parent::die_with_parent(supervisor).map_err(Failure::failed)?;
            }
            logging::start(log, parent.is_some());
            run::node(&request)?
        }
        Request::Subscribe(request) => {
            logging::start(log::LevelFilter::Warn, true);
            subscribe::run(&request, &mut output)?
        }
        Request::Report(request) => {
            logging::start(log::LevelFilter::Warn, true);
            report::run(&request, &mut output)?
        }
        Request::Publish(request) => {
            logging::start(log::LevelFilter::Warn, true);
            publish::run(&request, &mut output)?
        }
        // Without a log: its lines would stand in the middle of the screen.
        Request::Watch(request) => watch::run(&request)?,
        Request::Status(request) => status::run(&request, &mut output)?,
        Request::Breaker(request) => breaker::run(&request, &mut output)?,
        Request::Verify(request) => {
            logging::start(log::LevelFilter::Warn, true);
            offline::verify::run(&request, &mut output)?
        }
        Request::Dump(request) => {
            logging::start(log::LevelFilter::Warn, true);
            offline::dump::run(&request, &mut output)?
        }
        Request::Export(request) => {
            logging::start(log::LevelFilter::Warn, true);
            offline::export::run(&request, &mut output)?
        }
        Request::Recover(request) => {
            logging::start(log::LevelFilter::Warn, true);
            offline::recover::run(&request, &mut output)?
        }
        Request::Repartition(request) => {
            logging::start(log::LevelFilter::Warn, true);
            offline::repartition::run(&request, &mut output)?
        }
        Request::Convert(request) => {
            logging::start(log::LevelFilter::Warn, true);
            offline::convert::run(&request, &mut output)?
        }
        Request::Stop(request) => stop::run(&request, &mut output)?,
    };
    output.flush()?;
    Ok(exit)
}

/// Whether what the parser calls an error is the help or the version.
fn is_answer(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::DisplayHelp
            | ErrorKind::DisplayVersion
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
    )
}

/// The parser's message without its usage block, on one line, with where to look instead.
fn in_one_line(rendered: &str, given: Option<&str>) -> String {
    const HELP_HINT: &str = "For more information";
    const USAGE: &str = "Usage: pregao";
    let usage = rendered.lines().find_map(|line| line.strip_prefix(USAGE)).unwrap_or("");
    // The usage begins with the command, when one was recognised.
    let command = usage
        .split_whitespace()
        .next()
        .filter(|word| word.chars().all(|letter| letter.is_ascii_lowercase()))
        // An error about a value brings no usage.
        .or(given);
    let lines = rendered
        .lines()
        .take_while(|line| !line.starts_with(USAGE) && !line.starts_with(HELP_HINT));
    let mut body = String::new();
    for line in lines {
        let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
        // A tip is a paragraph of its own there.
        let (gap, text) =
            line.strip_prefix("tip: ").map_or((" ", line.as_str()), |tip| ("; ", tip));
        if !body.is_empty() && !text.is_empty() {
            body.push_str(gap);
        }
        body.push_str(text);
    }
    let body = body.strip_prefix("error: ").unwrap_or(&body);
    match command {
        Some(command) => format!("{body}; see `pregao {command} --help`"),
        None => format!("{body}; see `pregao --help`"),
    }
}

#[cfg(test)]
mod tests;
