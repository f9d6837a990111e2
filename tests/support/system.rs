//! `pregao all` on a loopback address and in a directory of its own, and the commands that ask it.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde_json::Value;
use tempfile::TempDir;

use super::process::{Deadline, Finished, PATIENCE, Process, tail};

/// The nodes of the default configuration, in the order of their start.
pub(crate) const NODES: [&str; 8] =
    ["external", "broker", "core", "shard-A", "shard-B", "shard-C", "aggregator", "gateway"];

/// Their ports where the configuration says nothing.
const PORTS: [u16; 8] = [8080, 8081, 8082, 9001, 9002, 9003, 8000, 8090];

/// Where further systems of one process have their ports: below every ephemeral port, so that no
/// outgoing connection of anybody sits on one.
const FURTHER_PORTS: u16 = 10_000;

/// A system's addresses, and the file that tells them to every command.
pub(crate) struct Place {
    pub(crate) host: IpAddr,
    ports: [u16; 8],
    /// The data directory is inside.
    directory: TempDir,
}

impl Place {
    /// A place that nobody else has: the address says which process, and a process that needs more
    /// than the two bits that are left uses further ports.
    pub(crate) fn new() -> Place {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        loop {
            let count = COUNT.fetch_add(1, Ordering::Relaxed);
            // A process id has at most 22 bits.
            let bits = (std::process::id() << 2 | count & 3) & 0x00ff_ffff;
            let [_, a, b, c] = (bits ^ 0x0040_0000).to_be_bytes();
            if c == 0 || c == 255 || (a, b) == (0, 0) {
                continue;
            }
            let group = u16::try_from(count / 4).unwrap();
            let mut ports = PORTS;
            if group > 0 {
                ports = std::array::from_fn(|node| {
                    FURTHER_PORTS + group * 32 + u16::try_from(node).unwrap()
                });
            }
            let directory = tempfile::tempdir().unwrap();
            let host = IpAddr::V4(Ipv4Addr::new(127, a, b, c));
            let place = Place { host, ports, directory };
            place.configure("");
            return place;
        }
    }

    /// Writes the configuration file: ports, small segments (so that logs roll and the disk is not
    /// filled), and what the test adds.
    pub(crate) fn configure(&self, more: &str) {
        let [external, broker, core, a, b, c, aggregator, gateway] = self.ports;
        let text = format!(
            "[net]\nexternal = {external}\nbroker = {broker}\ncore = {core}\n\
             shards = [{a}, {b}, {c}]\naggregator = {aggregator}\ngateway = {gateway}\n\
             [data]\nsegment_bytes = 1048576\n{more}"
        );
        fs::write(self.config_file(), text).unwrap();
    }

    pub(crate) fn config_file(&self) -> PathBuf {
        self.directory.path().join("pregao.toml")
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// Where a node listens.
    pub(crate) fn address(&self, node: &str) -> SocketAddr {
        let index = NODES.iter().position(|it| *it == node).unwrap();
        SocketAddr::new(self.host, self.ports[index])
    }

    /// The arguments of `pregao all`.
    pub(crate) fn all_arguments(&self, flags: &[&str]) -> Vec<String> {
        let mut arguments = self.arguments("all", flags);
        arguments.push(format!("--data-dir={}", self.data_dir().display()));
        arguments
    }

    /// The arguments of a command that asks the system.
    pub(crate) fn arguments(&self, command: &str, flags: &[&str]) -> Vec<String> {
        let own = [
            command.to_owned(),
            format!("--config={}", self.config_file().display()),
            format!("--host={}", self.host),
        ];
        own.into_iter().chain(flags.iter().map(|&flag| flag.to_owned())).collect()
    }

    /// Runs `pregao all` to its end.
    pub(crate) fn all(&self, flags: &[&str]) -> Finished {
        Process::start(&self.all_arguments(flags)).finish()
    }

    /// Starts a command that asks the system.
    pub(crate) fn start(&self, command: &str, flags: &[&str]) -> Process {
        Process::start(&self.arguments(command, flags))
    }

    /// Runs a command that asks the system.
    pub(crate) fn run(&self, command: &str, flags: &[&str]) -> Finished {
        self.start(command, flags).finish()
    }

    /// Runs `pregao stop`.
    pub(crate) fn stop(&self) -> Finished {
        Process::start(&["stop".to_owned(), format!("--data-dir={}", self.data_dir().display())])
            .finish()
    }
}

/// A running system. Dropping it ends the supervisor and every node.
pub(crate) struct System {
    pub(crate) all: Process,
    pub(crate) place: Arc<Place>,
}

impl System {
    /// Starts the system and waits until all eight nodes listen.
    pub(crate) fn start(flags: &[&str]) -> System {
        System::start_at(Arc::new(Place::new()), flags)
    }

    /// Starts it at a place that was used before.
    pub(crate) fn start_at(place: Arc<Place>, flags: &[&str]) -> System {
        System::of(Process::start(&place.all_arguments(flags)), place)
    }

    /// A supervisor that was started at this place, once all its nodes listen.
    pub(crate) fn of(all: Process, place: Arc<Place>) -> System {
        System::of_nodes(all, place, &NODES)
    }

    /// The same with nodes that the configuration of the place names.
    pub(crate) fn of_nodes(all: Process, place: Arc<Place>, nodes: &[&str]) -> System {
        let system = System { all, place };
        for node in nodes {
            system.wait_log(node, "listens on");
        }
        system
    }

    /// Waits for a log line of this node that contains this text.
    pub(crate) fn wait_log(&self, node: &str, text: &str) {
        self.all.stderr.wait(&format!("{node}: {text}"), |lines| {
            lines.iter().any(|line| is_line_of(node, line) && line.contains(text)).then_some(())
        });
    }

    /// The process ids that a node had, the current one last.
    pub(crate) fn pids(&self, node: &str) -> Vec<i32> {
        pids(&self.all.stderr.all(), node)
    }

    /// The current process id of a node.
    pub(crate) fn pid(&self, node: &str) -> i32 {
        *self.pids(node).last().unwrap()
    }

    /// Kills a node as nothing can prevent, and waits until it is started again and listens.
    pub(crate) fn kill(&self, node: &str) {
        self.kill_only(node);
        self.wait_started_again(node);
    }

    /// Kills a node and waits until the supervisor has seen it.
    pub(crate) fn kill_only(&self, node: &str) {
        let ends = |lines: &[String]| {
            let ended = format!("pregao     | {node} ended");
            lines.iter().filter(|line| line.starts_with(&ended)).count()
        };
        let before = ends(&self.all.stderr.all());
        signal(self.pid(node), Signal::KILL);
        self.all
            .stderr
            .wait(&format!("{node} ended"), |lines| (ends(lines) > before).then_some(()));
    }

    /// Waits until a node has been started as often as it ended, and once more, and listens.
    pub(crate) fn wait_started_again(&self, node: &str) {
        let count = |lines: &[String], text: &str| {
            lines.iter().filter(|line| is_line_of(node, line) && line.contains(text)).count()
        };
        let ended = format!("pregao     | {node} ended");
        self.all.stderr.wait(&format!("{node} listens again"), |lines| {
            let ends = lines.iter().filter(|line| line.starts_with(&ended)).count();
            (count(lines, "listens on") > ends).then_some(())
        });
    }

    /// What `pregao status` says, by node.
    pub(crate) fn status(&self) -> BTreeMap<String, Value> {
        let status = self.place.run("status", &["--format", "json", "--deadline", "10s"]);
        let node = |value: &Value| value["node"].as_str().unwrap().to_owned();
        status.json().into_iter().map(|value| (node(&value), value)).collect()
    }

    /// Waits until all nodes say that they are well.
    pub(crate) fn wait_well(&self) {
        self.retry("eight nodes ok", || {
            let status = self.place.run("status", &["--format", "json", "--deadline", "10s"]);
            let states: Vec<String> =
                status.json().iter().map(|it| it["status"].to_string()).collect();
            match states.iter().filter(|state| *state == "\"ok\"").count() {
                8 if status.code() == 0 => Ok(()),
                _ => Err(format!("{states:?}")),
            }
        });
    }

    /// Tries until it is fine.
    pub(crate) fn retry<T>(&self, what: &str, mut try_it: impl FnMut() -> Result<T, String>) -> T {
        let deadline = Deadline::after(PATIENCE);
        loop {
            match try_it() {
                Ok(it) => return it,
                Err(problem) if deadline.is_over() => {
                    panic!("{what}: at last {problem}; the log:\n{}", tail(&self.log()));
                }
                Err(_) => self.all.stderr.pause(),
            }
        }
    }

    /// The report on a symbol.
    pub(crate) fn report(&self, symbol: &str, flags: &[&str]) -> (i32, Option<Value>, Finished) {
        let mut arguments = vec![symbol, "--format", "json"];
        arguments.extend_from_slice(flags);
        let finished = self.place.run("report", &arguments);
        (finished.code(), finished.json().pop(), finished)
    }

    /// The report on a symbol, once it is complete and `is_enough`.
    pub(crate) fn wait_report(
        &self,
        symbol: &str,
        flags: &[&str],
        is_enough: impl Fn(&Value) -> bool,
    ) -> Value {
        let flags = [flags, &["--deadline", "10s"]].concat();
        self.retry(&format!("report {symbol} {flags:?}"), || {
            let (code, report, finished) = self.report(symbol, &flags);
            match report {
                Some(report) if code == 0 && is_enough(&report) => Ok(report),
                _ => {
                    let text: String = format!("{finished:?}").chars().take(2000).collect();
                    Err(text)
                }
            }
        })
    }

    /// The shard that owns a symbol, once it has a trade of it.
    pub(crate) fn wait_owner(&self, symbol: &str) -> String {
        let report = self.wait_report(symbol, &["--last", "1"], |report| {
            report["history"].as_array().is_some_and(|rows| rows.len() == 1)
        });
        let name = |node: &Value| node["node"].as_str().unwrap().to_owned();
        let nodes = report["nodes"].as_array().unwrap().iter();
        let mut owners = nodes.filter(|node| node["status"] == "ok").map(name);
        owners.find(|node| node.starts_with("shard")).unwrap()
    }

    /// Stops it with the command and gives back the place, to start there again.
    pub(crate) fn stop(mut self) -> Arc<Place> {
        self.place.stop().expect(0);
        assert_eq!(self.all.wait().code(), Some(0));
        Arc::clone(&self.place)
    }

    /// The log so far.
    pub(crate) fn log(&self) -> Vec<String> {
        self.all.stderr.all()
    }
}

impl Drop for System {
    fn drop(&mut self) {
        self.all.end_now();
        // The supervisor ends its nodes. This is for one that was killed.
        end_leftovers(&self.log(), &self.place);
    }
}

fn end_leftovers(log: &[String], place: &Place) {
    let started = log.iter().filter_map(|line| line.split_once(" started, pid "));
    for pid in started.filter_map(|(_, pid)| pid.parse().ok()) {
        if is_node_of(pid, &place.data_dir()) {
            signal(pid, Signal::KILL);
        }
    }
}

/// Whether this number is still a living node that works on this directory.
pub(crate) fn is_node_of(pid: i32, data_dir: &Path) -> bool {
    let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&command).contains(&*data_dir.to_string_lossy())
}

/// Signals a process; one that is gone does not mind.
pub(crate) fn signal(pid: i32, signal: Signal) {
    if let Ok(process) = pidfd_open(Pid::from_raw(pid).unwrap(), PidfdFlags::empty()) {
        let _ = pidfd_send_signal(&process, signal);
    }
}

fn is_line_of(node: &str, line: &str) -> bool {
    line.split_once(" |").is_some_and(|(name, _)| name.trim_end() == node)
}

fn pids(log: &[String], node: &str) -> Vec<i32> {
    let started = format!("pregao     | {node} started, pid ");
    log.iter().filter_map(|line| line.strip_prefix(&started)?.parse().ok()).collect()
}
