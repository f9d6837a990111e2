//! What the process under load costs, read from outside: /proc, and `perf stat` for system calls.

use std::fs;
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::leftovers::{self, Leftover};

/// One reading of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reading {
    /// CPU time of all its threads so far.
    pub(crate) cpu_ns: Option<u64>,
    /// Resident memory.
    pub(crate) rss_bytes: Option<u64>,
    /// System calls that the kernel books as reads and writes.
    pub(crate) io_calls: Option<u64>,
}

/// Reads the books of a process.
pub(crate) fn read(pid: u32) -> Reading {
    let text = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).ok();
    Reading {
        cpu_ns: cpu_ns(pid),
        rss_bytes: text("status").and_then(|t| field(&t, "VmRSS:")).map(|kib| kib * 1024),
        io_calls: text("io").and_then(|t| Some(field(&t, "syscr:")? + field(&t, "syscw:")?)),
    }
}

/// The sums of several: nothing is known where one says nothing, or where there is none.
pub(crate) fn read_all(pids: &[u32]) -> Reading {
    let readings: Vec<Reading> = pids.iter().map(|pid| read(*pid)).collect();
    let sum = |of: fn(&Reading) -> Option<u64>| {
        readings.iter().map(of).sum::<Option<u64>>().filter(|_| !pids.is_empty())
    };
    Reading {
        cpu_ns: sum(|it| it.cpu_ns),
        rss_bytes: sum(|it| it.rss_bytes),
        io_calls: sum(|it| it.io_calls),
    }
}

/// The scheduler's books of every thread, in nanoseconds; `stat` counts in ticks of 10 ms.
fn cpu_ns(pid: u32) -> Option<u64> {
    let mut sum = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task")).ok()? {
        let text = fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
        sum += text.split_whitespace().next()?.parse::<u64>().ok()?;
    }
    Some(sum)
}

/// What the kernel holds for TCP sockets, of the whole machine: what is under way and its overhead.
pub(crate) fn kernel_tcp_bytes() -> Option<u64> {
    let text = fs::read_to_string("/proc/net/sockstat").ok()?;
    let pages = text.lines().find_map(|line| line.strip_prefix("TCP:"))?.split_once(" mem ")?.1;
    Some(pages.split_whitespace().next()?.parse::<u64>().ok()? * rustix::param::page_size() as u64)
}

/// The number behind a name, whatever its unit.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// The process that listens on an address, found by the inode of its socket.
pub(crate) fn listening_on(address: SocketAddr) -> Option<u32> {
    let IpAddr::V4(ip) = address.ip() else { return None };
    let table = fs::read_to_string("/proc/net/tcp").ok()?;
    let inode = listening_inode(&table, ip, address.port())?;
    let socket = format!("socket:[{inode}]");
    let processes = fs::read_dir("/proc").ok()?.flatten();
    processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).find(|pid: &u32| {
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd"));
        descriptors.is_ok_and(|mut all| {
            all.any(|fd| {
                let target = fd.and_then(|fd| fs::read_link(fd.path()));
                target.is_ok_and(|target| target == Path::new(&socket))
            })
        })
    })
}

/// The inode of the socket that listens there; see proc(5), `/proc/net/tcp`.
fn listening_inode(table: &str, ip: Ipv4Addr, port: u16) -> Option<u64> {
    const LISTEN: &str = "0A";
    // The address stands there as a number of this machine's byte order.
    let exact = format!("{:08X}:{port:04X}", native(ip));
    let any = format!("00000000:{port:04X}");
    let mut of_any = None;
    for line in table.lines().skip(1) {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let [_, local, _, LISTEN, _, _, _, _, _, inode, ..] = columns[..] else { continue };
        if local == exact {
            return inode.parse().ok();
        }
        if local == any {
            of_any = inode.parse().ok();
        }
    }
    of_any
}

#[allow(clippy::host_endian_bytes, reason = "the kernel prints the address in host order")]
fn native(ip: Ipv4Addr) -> u32 {
    u32::from_ne_bytes(ip.octets())
}

/// How system calls were counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counted {
    /// All of them, by `perf stat`.
    All,
    /// What /proc/PID/io books: read and write, not send and recv.
    ReadsAndWrites,
}

impl Counted {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Counted::All => "all, by perf stat",
            Counted::ReadsAndWrites => {
                "read and write only, by /proc/PID/io; send and recv are not in it"
            }
        }
    }
}

/// Counts the system calls of a process with `perf stat`, where there is one that may.
pub(crate) struct SyscallCounter {
    perf: Child,
    _leftover: Leftover,
}

impl Drop for SyscallCounter {
    fn drop(&mut self) {
        // Nothing happens when it has ended already.
        drop(self.perf.kill());
        drop(self.perf.wait());
    }
}

impl SyscallCounter {
    /// Starts counting, over all of these. `None` when there is no perf, or no process.
    pub(crate) fn start(pids: &[u32]) -> Option<SyscallCounter> {
        if pids.is_empty() {
            return None;
        }
        let pids: Vec<String> = pids.iter().map(u32::to_string).collect();
        let arguments = ["stat", "-x,", "-I", "100", "-e", "raw_syscalls:sys_enter", "-p"];
        let mut command = Command::new("perf");
        command.args(arguments).arg(pids.join(","));
        let perf = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let (perf, _leftover) = leftovers::spawn(perf).ok()?;
        Some(SyscallCounter { perf, _leftover })
    }

    /// Ends counting: calls a second.
    pub(crate) fn finish(mut self) -> Option<f64> {
        let pid = i32::try_from(self.perf.id()).ok().and_then(rustix::process::Pid::from_raw)?;
        // SIGINT is how perf is told to print what it has.
        let told = rustix::process::kill_process(pid, rustix::process::Signal::INT);
        if told.is_err() {
            drop(self.perf.kill());
        }
        let mut text = String::new();
        let read: io::Result<usize> = match self.perf.stderr.take() {
            Some(mut stderr) => stderr.read_to_string(&mut text),
            None => Ok(0),
        };
        drop(self.perf.wait());
        read.ok()?;
        calls_per_second(&text)
    }
}

/// From the lines of `perf stat -x, -I`: time, count, … The first and the last interval are cut short.
fn calls_per_second(text: &str) -> Option<f64> {
    let lines = text.lines().filter_map(|line| {
        let mut columns = line.split(',');
        let at: f64 = columns.next()?.trim().parse().ok()?;
        Some((at, columns.next()?.trim().parse::<f64>().unwrap_or(0.0)))
    });
    let lines: Vec<(f64, f64)> = lines.collect();
    let ([first, inner @ .., _], true) = (&lines[..], lines.len() >= 4) else { return None };
    let span = inner.last()?.0 - first.0;
    let calls: f64 = inner.iter().map(|&(_, count)| count).sum();
    (span > 0.0).then(|| calls / span)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 2D41407F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 170850 1 x
   1: 00000000:1F91 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 173102 1 x
   2: 0100007F:1F92 0100007F:9999 01 00000000:00000000 00:00000000 00000000     0        0 7 1 x
";

    #[test]
    #[cfg(target_endian = "little")]
    fn only_a_listener_of_that_very_address_is_found() {
        let ours = Ipv4Addr::new(127, 64, 65, 45);
        assert_eq!(listening_inode(TABLE, ours, 8080), Some(170_850));
        assert_eq!(listening_inode(TABLE, Ipv4Addr::LOCALHOST, 8080), None);
        assert_eq!(
            listening_inode(TABLE, ours, 8081),
            Some(173_102),
            "it listens on all addresses"
        );
        assert_eq!(listening_inode(TABLE, Ipv4Addr::LOCALHOST, 8082), None, "it only talks there");
    }

    #[test]
    fn our_own_listener_is_found_by_its_inode() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        assert_eq!(listening_on(listener.local_addr().unwrap()), Some(std::process::id()));
        let reading = read(std::process::id());
        assert!(reading.rss_bytes.is_some_and(|bytes| bytes > 100_000));
    }

    #[test]
    fn the_cut_intervals_of_perf_do_not_count() {
        let text = "0.1,50,,e\n0.2,100,,e\n0.3,300,,e\n0.4,<not counted>,,e\n0.45,9,,e\n";
        let rate = calls_per_second(text).unwrap();
        assert!((rate - 400.0 / 0.3).abs() < 1e-6, "{rate}");
        assert_eq!(calls_per_second("0.1,50,,e\n0.2,3,,e\n"), None);
        assert_eq!(calls_per_second("perf: no permission"), None);
    }
}
