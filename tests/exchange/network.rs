//! Failures that are made by routes, in a network namespace of the test's own.
//!
//! The test runs itself again inside a nameless namespace, which ends with that process: nothing has to
//! be cleaned up, and two runs share nothing.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Command;
use std::time::SystemTime;

use crate::harness::Core;
use crate::kernel::goes_through;
use crate::stand_in::{Manner, StandIn};
use crate::support::node::Reserved;

/// Set in the process that runs inside a namespace.
const INSIDE: &str = "PREGAO_TEST_NETWORK";
/// Where the sick exchange is.
const EXCHANGE: Ipv4Addr = Ipv4Addr::new(10, 98, 0, 9);

fn unshare() -> Command {
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--net", "--"]);
    command
}

/// Whether this process stands in its own namespace. If it does not, the test has been run in one, or
/// skipped.
fn is_inside(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let set_up = "ip link set lo up && ip link add v0 type veth peer name v1";
    let probe = unshare().args(["sh", "-c", set_up]).output();
    if !probe.is_ok_and(|probe| probe.status.success()) {
        println!(
            "skipped: {test} needs `unshare`, `ip` with veth, and the right to make a network namespace \
             (root, or unprivileged user namespaces)"
        );
        return false;
    }
    let mut command = unshare();
    command.arg(std::env::current_exe().unwrap()).args(["--exact", test, "--nocapture"]);
    let output = command.env(INSIDE, "1").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let wrong = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}\n{wrong}");
    said.lines().filter(|line| line.contains("after healing")).for_each(|line| println!("{line}"));
    false
}

fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split(' ')).output().unwrap();
    let wrong = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {arguments}: {wrong}");
}

/// Makes the network with these words to `ip`, follows core through it, and heals it by giving the
/// exchange's address to this machine: local addresses are looked up ahead of all other routes.
fn sick_network(test: &str, sickness: &str, commands: &[&str], error: &str) {
    if !is_inside(test) {
        return;
    }
    ip("link set lo up");
    commands.iter().for_each(|arguments| ip(arguments));
    let reserved = Reserved::on(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let address = SocketAddr::new(EXCHANGE.into(), reserved.address().port());
    let exchange = StandIn::start(reserved.listen(64), Manner::Well);
    let since = SystemTime::now();
    let mut core = Core::start(address);
    goes_through(sickness, &mut core, since, error, || {
        assert_eq!(exchange.accepts(), 0, "nothing came through while it was sick");
        ip("addr add 10.98.0.9/32 dev lo");
    });
}

#[test]
fn no_network_at_all() {
    sick_network("network::no_network_at_all", "no route", &[], "unreachable");
}

#[test]
fn an_unreachable_route() {
    let commands = ["route add unreachable 10.98.0.9"];
    sick_network("network::an_unreachable_route", "unreachable route", &commands, "unreachable");
}

#[test]
fn a_prohibiting_route() {
    let commands = ["route add prohibit 10.98.0.9"];
    sick_network("network::a_prohibiting_route", "prohibit route", &commands, "unreachable");
}

#[test]
fn a_blackholed_route() {
    let commands = ["route add blackhole 10.98.0.9"];
    sick_network("network::a_blackholed_route", "blackhole route", &commands, "unreachable");
}

/// The neighbour has a hardware address that nobody owns: every SYN leaves, and vanishes.
#[test]
fn a_syn_that_nobody_answers() {
    let commands = [
        "link add v0 type veth peer name v1",
        "addr add 10.98.0.1/24 dev v0",
        "link set v0 up",
        "link set v1 up",
        "neigh add 10.98.0.9 lladdr 02:00:00:00:00:09 dev v0",
    ];
    let test = "network::a_syn_that_nobody_answers";
    sick_network(test, "silent SYN drop", &commands, "connect deadline passed");
}

/// Nobody has the hardware address of that neighbour. The kernel would say so after three seconds; our
/// own deadline is sooner.
#[test]
fn a_neighbour_that_is_not_there() {
    let commands = [
        "link add v0 type veth peer name v1",
        "addr add 10.98.0.1/24 dev v0",
        "link set v0 up",
        "link set v1 up",
    ];
    let test = "network::a_neighbour_that_is_not_there";
    sick_network(test, "no such neighbour", &commands, "connect deadline passed");
}
