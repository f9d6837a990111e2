//! Starting what is compared: our broker and whichever peers are installed, each on a free loopback
//! port, with persistence off and otherwise as it comes.

use std::io::{self, BufRead, BufReader};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use pregao::planted::ARE_COMPILED_IN;
use pregao::time::Clock;

use crate::leftovers::{self, Leftover, Thing};
use crate::limits::{PEER_START_MAX, PEER_STOP_MAX};
use crate::nobody::Nobody;
use crate::target::Target;

/// A started server; it ends with this value.
pub(crate) struct PeerBroker {
    child: Child,
    address: SocketAddr,
    /// Where messages are published, if elsewhere.
    publish_address: Option<SocketAddr>,
    /// The broker behind a gateway, and what else a gateway has addresses of.
    behind: Option<(Box<PeerBroker>, [Nobody; 4])>,
    /// Configuration that it reads from a file.
    files: Option<PathBuf>,
    /// It and its file, for the case that a signal ends us.
    _leftovers: Vec<Leftover>,
    /// What it said of its memory when it started.
    memory: Arc<OnceLock<String>>,
}

/// How our broker is started.
#[derive(Clone, Debug)]
pub(crate) struct OurBroker {
    pub(crate) program: PathBuf,
    /// More flags of `pregao broker`.
    pub(crate) flags: Vec<String>,
    /// More lines of its section in the configuration.
    pub(crate) settings: String,
}

impl OurBroker {
    /// Refuses what is not the program that ships: a build with bugs for the simulator, whether the program
    /// or this one. A program that cannot be asked is told of when it is to be started.
    ///
    /// # Errors
    /// A sentence, when planted bugs are compiled in.
    pub(crate) fn refuse_planted(&self) -> Result<(), String> {
        let asked = Command::new(&self.program).arg("--version").stdin(Stdio::null()).output();
        let version = asked.map(|asked| asked.stdout).unwrap_or_default();
        if ARE_COMPILED_IN || names_planted(&String::from_utf8_lossy(&version)) {
            let program = self.program.display();
            return Err(format!(
                "{program} or loadgen has planted bugs, so the figures would be of nothing that ships; \
                 build both with `cargo build --release`"
            ));
        }
        Ok(())
    }
}

/// Whether `planted` is among the features of a version.
fn names_planted(version: &str) -> bool {
    let mut features = version.lines().filter_map(|line| line.strip_prefix("features: "));
    features.any(|names| names.split(", ").any(|name| name == "planted"))
}

/// Why a target takes no part.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PeerError {
    /// It is not there.
    #[error("{program} is not installed")]
    Missing { program: String },
    /// It is there and does not run.
    #[error("{program} does not start: {why}")]
    Broken { program: String, why: String },
}

impl PeerBroker {
    /// Starts a target for this many subscribers.
    ///
    /// # Errors
    /// When it is not installed, or does not listen in time.
    pub(crate) fn start(
        target: Target,
        host: IpAddr,
        subscribers: usize,
        ours: &OurBroker,
    ) -> Result<PeerBroker, PeerError> {
        let program = match target {
            Target::Pregao | Target::PregaoWs => ours.program.clone(),
            Target::Bare => std::env::current_exe().unwrap_or_else(|_| "loadgen".into()),
            Target::Redis => find("redis-server"),
            Target::Nats | Target::NatsWs => find("nats-server"),
            Target::Mqtt => find("mosquitto"),
        };
        let name = program.display().to_string();
        let broken = |why: String| PeerError::Broken { program: name.clone(), why };
        // Both are held until both are known.
        let bind = || TcpListener::bind((host, 0)).and_then(|it| Ok((it.local_addr()?, it)));
        let no_port = |error: io::Error| broken(format!("no free port on {host}: {error}"));
        let (own, other) = (bind().map_err(no_port)?, bind().map_err(no_port)?);
        let (address, plain) = (own.0, other.0);
        drop((own, other));
        let behind = match target {
            Target::PregaoWs => {
                let broker = PeerBroker::start(Target::Pregao, host, 1, ours)?;
                let nobody = || Nobody::new(host).map_err(no_port);
                Some((Box::new(broker), [nobody()?, nobody()?, nobody()?, nobody()?]))
            }
            _ => None,
        };
        let publish_address = match (&behind, target) {
            (Some((broker, _)), _) => Some(broker.address),
            (None, Target::NatsWs) => Some(plain),
            _ => None,
        };
        let text = match &behind {
            Some((broker, nobody)) => Some(gateway_configuration(
                address,
                broker.address,
                nobody.each_ref().map(|it| it.address),
                subscribers,
            )),
            None => configuration(target, address, plain, subscribers, &ours.settings),
        };
        let files = text
            .map(|text| write_configuration(address, &text))
            .transpose()
            .map_err(|error| broken(format!("its configuration cannot be written: {error}")))?;
        let mut command = Command::new(&program);
        command.args(arguments(target, address, subscribers, files.as_deref()));
        if target == Target::Pregao {
            command.args(&ours.flags);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let child = leftovers::spawn(&mut command).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => PeerError::Missing { program: name.clone() },
            _ => broken(error.to_string()),
        });
        let mut leftovers: Vec<Leftover> =
            files.iter().map(|file| Leftover::new(Thing::Path(file.clone()))).collect();
        let mut peer = match child {
            Ok((child, leftover)) => {
                leftovers.push(leftover);
                let memory = Arc::default();
                PeerBroker {
                    child,
                    address,
                    publish_address,
                    behind,
                    files,
                    _leftovers: leftovers,
                    memory,
                }
            }
            Err(error) => {
                remove(files.as_deref());
                return Err(error);
            }
        };
        peer.await_listening().map_err(broken)?;
        Ok(peer)
    }

    /// Where its subscribers connect.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where messages are published, if elsewhere.
    pub(crate) fn publish_address(&self) -> Option<SocketAddr> {
        self.publish_address
    }

    /// All of its processes, the one with the subscribers first.
    pub(crate) fn pids(&self) -> Vec<u32> {
        let behind = self.behind.iter().map(|(broker, _)| broker.pid());
        [self.pid()].into_iter().chain(behind).collect()
    }

    /// What it said of its memory when it started; our broker does.
    pub(crate) fn memory(&self) -> Option<&str> {
        self.memory.get().map(String::as_str)
    }

    fn await_listening(&mut self) -> Result<(), String> {
        let clock = Clock::start();
        let deadline = clock.now().mono + PEER_START_MAX;
        loop {
            if TcpStream::connect_timeout(&self.address, Duration::from_secs(1)).is_ok() {
                break;
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                let words = self.child.stderr.take().map(BufReader::new);
                let last = words.and_then(|words| words.lines().map_while(Result::ok).last());
                return Err(format!("{status}; {}", last.unwrap_or_default()));
            }
            if clock.now().mono > deadline {
                return Err(format!("it did not listen within {} s", PEER_START_MAX.as_secs()));
            }
            std::thread::park_timeout(Duration::from_millis(20));
        }
        // Nobody shows what it says from here on, and a full pipe must not hold it up.
        if let Some(words) = self.child.stderr.take() {
            let memory = Arc::clone(&self.memory);
            let drain = move || {
                for line in BufReader::new(words).split(b'\n').map_while(Result::ok) {
                    let line = String::from_utf8_lossy(&line);
                    if let Some((_, said)) = line.split_once("memory at most: ") {
                        memory.get_or_init(|| said.to_owned());
                    }
                }
            };
            std::thread::Builder::new().spawn(drain).map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    fn stop(&mut self) {
        let pid = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw);
        let terminate = |pid| rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        if pid.is_none_or(|pid| terminate(pid).is_err()) {
            drop(self.child.kill());
        }
        let clock = Clock::start();
        let deadline = clock.now().mono + PEER_STOP_MAX;
        while matches!(self.child.try_wait(), Ok(None)) {
            if clock.now().mono > deadline {
                drop(self.child.kill());
                break;
            }
            std::thread::park_timeout(Duration::from_millis(5));
        }
        drop(self.child.wait());
        remove(self.files.as_deref());
    }
}

impl Drop for PeerBroker {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A server is often installed where only root looks.
fn find(program: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    let found = places.map(|place: PathBuf| place.join(program)).find(|file| file.is_file());
    found.unwrap_or_else(|| program.into())
}

fn arguments(
    target: Target,
    address: SocketAddr,
    subscribers: usize,
    files: Option<&Path>,
) -> Vec<std::ffi::OsString> {
    let (ip, port) = (address.ip().to_string(), address.port().to_string());
    // Room for the publisher and a few more.
    let clients = (subscribers + 100).to_string();
    let text: Vec<&str> = match target {
        Target::Pregao => vec!["broker", "--log", "info"],
        Target::PregaoWs => vec!["gateway", "--log", "warn"],
        Target::Redis => vec![
            "--bind",
            &ip,
            "--port",
            &port,
            "--save",
            "",
            "--appendonly",
            "no",
            "--maxclients",
            &clients,
            "--tcp-backlog",
            "4096",
        ],
        Target::Nats => vec!["-a", &ip, "-p", &port],
        Target::Mqtt | Target::NatsWs => vec![],
        Target::Bare => vec!["bare", "--listen"],
    };
    let flag = match target {
        Target::Pregao | Target::PregaoWs => Some("--config"),
        Target::Mqtt | Target::NatsWs => Some("-c"),
        Target::Redis | Target::Nats | Target::Bare => None,
    };
    let mut all: Vec<std::ffi::OsString> = text.into_iter().map(Into::into).collect();
    if target == Target::Bare {
        all.push(address.to_string().into());
    }
    if let (Some(flag), Some(file)) = (flag, files) {
        all.extend([flag.into(), file.as_os_str().to_owned()]);
    }
    all
}

/// What cannot be said by flags.
fn configuration(
    target: Target,
    address: SocketAddr,
    plain: SocketAddr,
    subscribers: usize,
    settings: &str,
) -> Option<String> {
    let (ip, port) = (address.ip(), address.port());
    match target {
        Target::Pregao => Some(format!(
            "[net]\nbroker = \"{address}\"\n[broker]\nsubscribers_max = {}\n{settings}",
            subscribers + 100
        )),
        Target::Mqtt => Some(format!(
            "listener {port} {ip}\nallow_anonymous true\npersistence false\nlog_type none\n"
        )),
        Target::NatsWs => Some(format!(
            "listen: \"{plain}\"\nwebsocket {{ listen: \"{address}\", no_tls: true }}\n"
        )),
        Target::Redis | Target::Nats | Target::Bare | Target::PregaoWs => None,
    }
}

/// A gateway that has a broker, and none of the nodes that answer questions.
fn gateway_configuration(
    address: SocketAddr,
    broker: SocketAddr,
    [external, core, shard, aggregator]: [SocketAddr; 4],
    subscribers: usize,
) -> String {
    format!(
        "[net]\nexternal = \"{external}\"\nbroker = \"{broker}\"\ncore = \"{core}\"\nshards = [\"{shard}\"]\n\
         aggregator = \"{aggregator}\"\ngateway = \"{address}\"\n[gateway]\nsubscriptions_max = {}\n",
        subscribers + 100
    )
}

fn write_configuration(address: SocketAddr, text: &str) -> io::Result<PathBuf> {
    let name = format!("loadgen-{}-{}.conf", std::process::id(), address.port());
    let file = std::env::temp_dir().join(name);
    std::fs::write(&file, text)?;
    Ok(file)
}

fn remove(file: Option<&Path>) {
    if let Some(file) = file {
        drop(std::fs::remove_file(file));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ours(program: &str) -> OurBroker {
        OurBroker { program: program.into(), flags: Vec::new(), settings: String::new() }
    }

    #[test]
    fn a_missing_server_is_missing_and_not_broken() {
        let nowhere = ours("/nonexistent/pregao");
        let started = PeerBroker::start(Target::Pregao, [127, 0, 0, 1].into(), 1, &nowhere);
        assert!(matches!(started, Err(PeerError::Missing { .. })));
    }

    #[test]
    fn a_server_that_ends_at_once_says_why_it_is_broken() {
        let Err(error) =
            PeerBroker::start(Target::Pregao, [127, 0, 0, 1].into(), 1, &ours("false"))
        else {
            panic!("`false` does not listen");
        };
        assert!(error.to_string().contains("does not start: exit status: 1"), "{error}");
    }
}
