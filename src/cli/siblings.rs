//! The other nodes of the same supervisor, as processes: for a playground, whose page kills one on purpose.

use std::fs;

use rustix::process::{Pid, Signal, getppid, kill_process};

/// Ends the process of a node at once, as nothing can prevent. Only a child of this process's own supervisor is looked for.
///
/// # Errors
/// When there is none of this name, or the system refuses.
pub(super) fn kill(node: &str) -> Result<(), String> {
    let supervisor = getppid().ok_or("this process has no supervisor")?;
    let parent = format!("--parent={}", supervisor.as_raw_nonzero());
    let found =
        fs::read_dir("/proc").map_err(|error| error.to_string())?.flatten().find_map(|entry| {
            let pid = Pid::from_raw(entry.file_name().to_str()?.parse().ok()?)?;
            let line = fs::read(entry.path().join("cmdline")).ok()?;
            let words: Vec<&str> =
                line.split(|byte| *byte == 0).filter_map(|it| str::from_utf8(it).ok()).collect();
            (words.contains(&parent.as_str()) && is_of(node, &words)).then_some(pid)
        });
    let pid =
        found.ok_or("this gateway was not started by `pregao all`, or the node does not run")?;
    kill_process(pid, Signal::KILL).map_err(|error| error.to_string())
}

/// Whether these are the arguments that the supervisor gives to the node of this name.
fn is_of(node: &str, words: &[&str]) -> bool {
    let Some(command) = words.get(1) else { return false };
    let value = |flag: &str| words.iter().find_map(|word| word.strip_prefix(flag));
    let replica = |name: &str| match value("--replica=") {
        Some(number) if number != "0" => format!("{name}.{number}"),
        _ => name.to_owned(),
    };
    match *command {
        "shard" => value("--partition=").is_some_and(|it| replica(&format!("shard-{it}")) == node),
        "replica" => replica("core") == node,
        "external" => value("--exchange=").unwrap_or("external") == node,
        command => command == node,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_known_by_what_its_supervisor_gives_it() {
        let of = |node: &str, words: &[&str]| is_of(node, words);
        assert!(of("shard-A", &["pregao", "shard", "--partition=A", "--parent=1"]));
        assert!(!of("shard-A", &["pregao", "shard", "--partition=A", "--replica=1"]));
        assert!(of("shard-A.1", &["pregao", "shard", "--partition=A", "--replica=1"]));
        assert!(
            of("core", &["pregao", "core"]) && of("core.1", &["pregao", "replica", "--replica=1"])
        );
        assert!(of("xnas", &["pregao", "external", "--exchange=xnas"]));
        assert!(of("external", &["pregao", "external"]) && !of("broker", &["pregao"]));
    }
}
