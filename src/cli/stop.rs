//! `pregao stop`: stops the supervisor of a data directory and waits until it is gone.

use std::io::Write;
use std::path::{Path, PathBuf};

use super::exit::{Exit, Failure};
use super::output::Output;
use crate::limits::STOP_COMMAND_WAIT;
use crate::storage::LogFiles;
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
        Stopped::NothingRuns => {
            let nodes = lone_nodes(&request.dir).join(", ");
            Err(Failure::failed(match nodes.as_str() {
                "" => format!("nothing runs on {dir}; name the directory with --data-dir"),
                nodes => format!(
                    "no `pregao all` runs on {dir}, but these nodes do: {nodes}; end each with SIGTERM"
                ),
            }))
        }
    }
}

/// The nodes whose logs in this directory are in use, though no supervisor is there.
fn lone_nodes(dir: &Path) -> Vec<String> {
    let logs = LogFiles::find_below(dir).unwrap_or_default();
    logs.into_iter().filter(|(_, files)| files.is_in_use()).map(|(name, _)| name).collect()
}
