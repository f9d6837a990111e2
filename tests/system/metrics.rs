//! What a monitoring system is told: the figures of all nodes at the gateway.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};

use super::process::PATIENCE;
use super::system::{NODES, System};

/// The head and the body of an answer.
fn get(address: SocketAddr, path: &str) -> Result<(String, String), String> {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let head = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(head.as_bytes())?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    };
    let text = ask().map_err(|error| format!("{path}: {error}"))?;
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(|| format!("{path}: {text:?}"))?;
    Ok((head.to_owned(), body.to_owned()))
}

fn metrics(address: SocketAddr) -> Result<String, String> {
    let (head, body) = get(address, "/metrics")?;
    match head.starts_with("HTTP/1.1 200 ") && head.contains("text/plain; version=0.0.4") {
        true => Ok(body),
        false => Err(head),
    }
}

/// Names of the series in a text.
fn series(text: &str) -> BTreeSet<&str> {
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    samples.filter_map(|line| line.split(['{', ' ']).next()).collect()
}

/// Asks Prometheus' own tool, where it is installed.
fn promtool(arguments: &[&str], input: &str) {
    let started = Command::new("promtool")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = match started {
        Ok(child) => child,
        Err(error) => {
            eprintln!(
                "skipped: promtool {arguments:?}: {error} (Debian's package prometheus has it)"
            );
            return;
        }
    };
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success(), "promtool {arguments:?}: {said}");
}

#[test]
fn the_gateway_tells_the_figures_of_all_nodes() {
    let system = System::start(&[]);
    let address = system.place.address("gateway");
    let text = system.retry("metrics of nodes that are up", || {
        let text = metrics(address)?;
        let is_up = |node: &&str| {
            text.contains(&format!("pregao_node_up{{node=\"{node}\",copy=\"0\"}} 1\n"))
        };
        match NODES.iter().find(|node| !is_up(node)) {
            None if text.contains("pregao_system_ready 1\n") => Ok(text),
            missing => Err(format!("{missing:?} is not up, or the system is not ready")),
        }
    });
    // A new figure of a status needs a row in the table of series, or a reason why it has none.
    assert!(text.contains("\npregao_metrics_left_out 0\n"), "{text}");
    assert!(!text.contains("symbol="), "no series by instrument");
    assert!(series(&text).len() > 60, "{text}");
    promtool(&["check", "metrics"], &text);
}

#[test]
fn a_node_that_is_gone_is_down_in_the_figures() {
    let system = System::start(&[]);
    let address = system.place.address("gateway");
    // Its place stays empty: a stopped node answers nothing and keeps its port.
    super::system::signal(system.pid("shard-B"), rustix::process::Signal::STOP);
    system.retry("shard-B is down", || {
        let text = metrics(address)?;
        let is_down = text.contains("pregao_node_up{node=\"shard-B\",copy=\"0\"} 0\n");
        let is_told = text.contains("pregao_system_ready 0\n");
        if is_down && is_told { Ok(()) } else { Err("it is up".to_owned()) }
    });
    super::system::signal(system.pid("shard-B"), rustix::process::Signal::CONT);
}
