//! The `pregao` program. The only place that prints errors and ends the process.

use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    match pregao::cli::execute(std::env::args_os()) {
        Ok(exit) => exit.into(),
        Err(failure) => {
            if let Some(message) = failure.message() {
                // Nobody can be informed when standard error is closed too.
                let _ = writeln!(std::io::stderr(), "error: {message}");
            }
            failure.exit().into()
        }
    }
}
