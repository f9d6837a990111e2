//! One node as a process: started, waited for, killed.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};
use tempfile::TempDir;

/// What only a broken system reaches.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A port that is ours, with nobody listening on it: no other process can take it, and a node that
/// allows reuse can.
pub(crate) struct Reserved(Socket);

impl Reserved {
    pub(crate) fn new() -> Reserved {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_reuse_address(true).unwrap();
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
        Reserved(socket)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap().as_socket().unwrap()
    }
}

/// Where one node lives: its configuration, its directory, its port.
pub(crate) struct Place {
    directory: TempDir,
    /// The node's logs are here unless a test put them elsewhere.
    pub(crate) data: PathBuf,
    reserved: Reserved,
    key: &'static str,
}

impl Place {
    /// `key` is the node's own in `[net]`; `more` is the rest of the configuration.
    pub(crate) fn new(key: &'static str, net: &str, more: &str) -> Place {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("data");
        let place = Place { directory, data, reserved: Reserved::new(), key };
        place.configure(net, more);
        place
    }

    pub(crate) fn configure(&self, net: &str, more: &str) {
        let address = self.address();
        let own = match self.key {
            "shards" => format!("shards = [\"{address}\"]"),
            key => format!("{key} = \"{address}\""),
        };
        let mut text = String::new();
        let _ = write!(text, "[net]\n{own}\n{net}\n{more}\n");
        std::fs::write(self.directory.path().join("pregao.toml"), text).unwrap();
    }

    /// The same data directory at another address.
    pub(crate) fn sharing(mut self, other: &Place) -> Place {
        self.data.clone_from(&other.data);
        self
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.reserved.address()
    }

    /// The directory of this log.
    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.data.join(name)
    }

    pub(crate) fn start(&self, arguments: &[&str]) -> Node {
        self.start_command(Command::new(env!("CARGO_BIN_EXE_pregao")), arguments)
    }

    /// Starts it through another program, which must become it.
    pub(crate) fn start_command(&self, mut command: Command, arguments: &[&str]) -> Node {
        command
            .args(arguments)
            .arg("--config")
            .arg(self.directory.path().join("pregao.toml"))
            .arg("--data-dir")
            .arg(&self.data)
            .env_remove("RUST_BACKTRACE")
            .stdout(Stdio::null());
        Node::of(&mut command)
    }
}

/// A running node. Dropping it kills it.
pub(crate) struct Node {
    child: Child,
    lines: Receiver<String>,
    pub(crate) seen: Vec<String>,
}

/// How a node ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Code(i32),
    Signal(i32),
}

impl Node {
    /// Any process, with its standard error read.
    pub(crate) fn of(command: &mut Command) -> Node {
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let pipe = child.stderr.take().unwrap();
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        Node { child, lines, seen: Vec::new() }
    }

    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    /// Waits for a log line with this text.
    pub(crate) fn wait_line(&mut self, text: &str) -> String {
        let until = Instant::now() + PATIENCE;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    self.seen.push(line.clone());
                    if line.contains(text) {
                        return line;
                    }
                }
                Err(_) => panic!("no line with {text:?}; these came: {:#?}", self.seen),
            }
        }
    }

    pub(crate) fn wait_listening(&mut self) {
        self.wait_line("listens on");
    }

    /// Lets it run for so long, or until it ends by itself.
    pub(crate) fn run_for(&mut self, time: Duration) {
        let until = Instant::now() + time;
        loop {
            match self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) => self.seen.push(line),
                Err(RecvTimeoutError::Timeout) => return,
                Err(RecvTimeoutError::Disconnected) => panic!("it ended: {:#?}", self.seen),
            }
        }
    }

    /// Ends it as nothing can prevent. It must have lived until now.
    pub(crate) fn kill(&mut self) {
        let ended = self.child.try_wait().unwrap();
        assert_eq!(ended, None, "it ended by itself: {:#?}", self.seen);
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for its end.
    pub(crate) fn finish(&mut self) -> End {
        let until = Instant::now() + PATIENCE;
        loop {
            match self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) => self.seen.push(line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("no end in time: {:#?}", self.seen),
            }
        }
        let status = self.child.wait().unwrap();
        match status.code() {
            Some(code) => End::Code(code),
            None => End::Signal(status.signal().unwrap()),
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
