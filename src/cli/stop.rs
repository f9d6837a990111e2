//! `pregao stop`: stops the supervisor of a data directory and waits until it is gone.

use std::io::Write;
use std::path::PathBuf;

use super::exit::{Exit, Failure};
use super::output::Output;
use crate::limits::STOP_COMMAND_WAIT;
use crate::supervisor::lock::{self, Stopped};

#[derive(Debug)]
pub(super) struct StopRequest {
    pub(super) dir: PathBuf,
}

pub(super) fn run(request: &StopRequest, output: &mut Output<impl Write>) -> Result<Exit, Failure> {
    let dir = request.dir.display();
    match lock::stop(&request.dir, STOP_COMMAND_WAIT).map_err(Failure::failed)? {
        Stopped::Pid(pid) => {
            output.line(&format!("stopped pregao (pid {pid}) on {dir}"))?;
            Ok(Exit::Complete)
        }
        Stopped::NothingRuns => Err(Failure::failed(format!(
            "nothing runs on {dir}; name the directory with --data-dir"
        ))),
    }
}
