//! One node as a process, at a port and in a directory of its own.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::Command;

use socket2::{Domain, Socket, Type};
use tempfile::TempDir;

use super::process::{PROGRAM, Process};

/// A port that is ours, with nobody listening on it: a dial is refused, no other process can take it, and
/// a node that allows reuse can.
pub(crate) struct Reserved(Socket);

impl Reserved {
    pub(crate) fn new() -> Reserved {
        Reserved::on(Ipv4Addr::LOCALHOST.into())
    }

    pub(crate) fn on(ip: IpAddr) -> Reserved {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_reuse_address(true).unwrap();
        socket.bind(&SocketAddr::new(ip, 0).into()).unwrap();
        Reserved(socket)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap().as_socket().unwrap()
    }

    /// Listens, with room for so many connections that nobody has accepted.
    pub(crate) fn listen(self, backlog: i32) -> TcpListener {
        self.0.listen(backlog).unwrap();
        self.0.into()
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
        let text = format!("[net]\n{own}\n{net}\n{more}\n");
        std::fs::write(self.config_file(), text).unwrap();
    }

    fn config_file(&self) -> PathBuf {
        self.directory.path().join("pregao.toml")
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

    pub(crate) fn start(&self, arguments: &[&str]) -> Process {
        self.start_command(Command::new(PROGRAM), arguments)
    }

    /// Starts it through another program, which must become it.
    pub(crate) fn start_command(&self, mut command: Command, arguments: &[&str]) -> Process {
        self.complete(&mut command, arguments);
        Process::of(&mut command)
    }

    /// The command that starts it.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        self.complete(&mut command, arguments);
        command
    }

    fn complete(&self, command: &mut Command, arguments: &[&str]) {
        command.args(arguments).arg("--config").arg(self.config_file());
        command.arg("--data-dir").arg(&self.data);
    }
}
