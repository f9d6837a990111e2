//! The `pregao` program. The only place that prints errors and ends the process.

use std::io::Write;
use std::process::ExitCode;

use pregao::cli::output::Screen;
use pregao::render::wrap;

fn main() -> ExitCode {
    match pregao::cli::execute(std::env::args_os()) {
        Ok(exit) => exit.into(),
        Err(failure) => {
            if let Some(message) = failure.message() {
                let mut stderr = std::io::stderr();
                let columns = Screen::of(&stderr).columns;
                let line = format!("error: {message}");
                // For scripts it is one line. For eyes no word is cut at the edge of the screen.
                let line = columns.map_or(line.clone(), |columns| wrap(&line, columns as usize, 2));
                // Nobody can be informed when standard error is closed too.
                let _ = writeln!(stderr, "{line}");
            }
            failure.exit().into()
        }
    }
}
