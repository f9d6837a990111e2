//! A small file system in memory, in a mount namespace that dies with its process: a disk that can be full.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::process::Process;

/// Mounts and becomes the program.
const MOUNT_AND_RUN: &str = "mount -t tmpfs -o size=$1 none \"$2\" && shift 2 && exec \"$@\"";

/// Runs a program on a tmpfs of this size, mounted where nobody else sees it.
pub(crate) fn on_tmpfs(size: &str, directory: &Path, program: &Path) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", MOUNT_AND_RUN, "sh", size]);
    command.arg(directory).arg(program);
    command
}

/// Whether this process may do that.
pub(crate) fn can_mount(directory: &Path) -> bool {
    let mut tried = on_tmpfs("64k", directory, Path::new("true"));
    let status = tried.stdout(Stdio::null()).stderr(Stdio::null()).status();
    let can = status.is_ok_and(|status| status.success());
    if !can {
        println!("skipped: no tmpfs may be mounted here");
    }
    can
}

/// A path in the mount namespace of a process.
pub(crate) fn seen_by(process: &Process, path: &Path) -> PathBuf {
    Path::new(&format!("/proc/{}/root", process.pid)).join(path.strip_prefix("/").unwrap())
}
