//! A core of our own: a process with a directory of its own, whose exchange is the generator.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use pregao::client::QueryClient;
use pregao::wire::{Op, Query};
use rustix::process::{Pid, Signal, kill_process};

use crate::leftovers::{self, Leftover, Thing};
use crate::limits;
use crate::nobody::Nobody;
use crate::timebase::Timebase;

/// A started core; it ends with this value, and its files go with it.
pub(super) struct Core {
    child: Child,
    pub(super) address: SocketAddr,
    /// Where it dials its exchange.
    pub(super) exchange: TcpListener,
    directory: PathBuf,
    _nobody: [Nobody; 2],
    _leftovers: [Leftover; 2],
}

impl Core {
    /// Starts it. Without a broker it has no follower.
    ///
    /// # Errors
    /// A sentence, when it does not start.
    pub(super) fn start(
        program: &Path,
        host: IpAddr,
        broker: Option<SocketAddr>,
    ) -> Result<Core, String> {
        let failed = |error: io::Error| format!("core cannot be set up: {error}");
        let bind = || TcpListener::bind((host, 0)).map_err(failed);
        let address_of = |listener: &TcpListener| listener.local_addr().map_err(failed);
        let (exchange, own) = (bind()?, bind()?);
        let nobody = [Nobody::new(host).map_err(failed)?, Nobody::new(host).map_err(failed)?];
        let address = address_of(&own)?;
        drop(own);
        let broker = broker.unwrap_or(nobody[0].address);
        let shard = nobody[1].address;
        let name = format!("loadgen-core-{}-{}", std::process::id(), address.port());
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&directory).map_err(failed)?;
        let files = Leftover::new(Thing::Path(directory.clone()));
        let text = format!(
            "[net]\nexternal = \"{}\"\ncore = \"{address}\"\nbroker = \"{broker}\"\n\
             shards = [\"{shard}\"]\n",
            address_of(&exchange)?
        );
        let config = directory.join("pregao.toml");
        std::fs::write(&config, text).map_err(failed)?;
        let mut command = Command::new(program);
        command.args(["core", "--log", "error", "--config"]).arg(&config);
        command.arg("--data-dir").arg(directory.join("data"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let (child, leftover) = leftovers::spawn(&mut command).map_err(|error| {
            drop(std::fs::remove_dir_all(&directory));
            format!("{} does not start: {error}", program.display())
        })?;
        let leftovers = [files, leftover];
        Ok(Core { child, address, exchange, directory, _nobody: nobody, _leftovers: leftovers })
    }

    /// Waits until its journal has so many frames.
    ///
    /// # Errors
    /// A sentence, when that takes too long.
    pub(super) fn await_journal(&self, frames: u64, timebase: Timebase) -> Result<(), String> {
        let deadline = timebase.mono() + limits::CONNECT_ALL_MAX;
        let open = QueryClient::open("core", self.address, limits::CONFIRM_MAX);
        let mut client = open.map_err(|error| error.to_string())?;
        let query = Query { op: Op::Status as u8, ..Query::default() };
        while timebase.mono() < deadline {
            let answers = client.ask(&[query], limits::CONFIRM_MAX);
            let metrics = answers.map_err(|error| error.to_string())?;
            let mut metrics = metrics.iter().flat_map(|answer| &answer.metrics);
            let next_seq = metrics.find(|(name, _)| name == "next_seq").map(|(_, value)| *value);
            if next_seq.and_then(|it| u64::try_from(it).ok()).is_some_and(|it| it > frames) {
                return Ok(());
            }
            std::thread::park_timeout(Duration::from_millis(20));
        }
        Err(format!("core's journal has no {frames} frames in time"))
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if pid.is_none_or(|pid| kill_process(pid, Signal::TERM).is_err()) {
            drop(self.child.kill());
        }
        // A node that is told to stop ends in bounded time.
        drop(self.child.wait());
        drop(std::fs::remove_dir_all(&self.directory));
    }
}
