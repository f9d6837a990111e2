//! What a monitoring system is told: the figures of all nodes at the gateway.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;

use super::process::{PATIENCE, Process};
use super::support::node::Reserved;
use super::system::{NODES, Place, System};

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

/// Names of series in a text of any form.
fn named(text: &str) -> BTreeSet<&str> {
    let words = text.split(|it: char| !it.is_ascii_alphanumeric() && it != '_');
    words.filter(|word| word.starts_with("pregao_")).collect()
}

const DASHBOARD: &str = include_str!("../../src/gateway/dashboards/pregao.json");
const ALERTS: &str = include_str!("../../src/gateway/dashboards/alerts.yml");

/// A series that was renamed would leave a panel empty and an alert silent, and nobody would see it.
#[test]
fn the_dashboard_and_the_alerts_name_series_that_there_are() {
    let dashboard: serde_json::Value = serde_json::from_str(DASHBOARD).unwrap();
    assert!(dashboard["panels"].as_array().unwrap().len() > 10);
    let wanted: BTreeSet<&str> = named(DASHBOARD).into_iter().chain(named(ALERTS)).collect();
    assert!(wanted.len() > 25, "{wanted:?}");
    let system = System::start(&[]);
    let address = system.place.address("gateway");
    system.wait_report("PETR4", &[], |report| report["symbol"] == "PETR4");
    system.retry("every series of the dashboard and of the alerts", || {
        let text = metrics(address)?;
        let told = series(&text);
        let missing: Vec<&&str> = wanted.iter().filter(|it| !told.contains(*it)).collect();
        if missing.is_empty() { Ok(()) } else { Err(format!("missing: {missing:?}")) }
    });
    let rules = concat!(env!("CARGO_MANIFEST_DIR"), "/src/gateway/dashboards/alerts.yml");
    promtool(&["check", "rules", rules], "");
}

/// A node alone tells its own figures at an address of its own.
#[test]
fn a_node_alone_tells_its_own_figures() {
    let place = Place::new();
    let metrics_at = std::net::TcpListener::bind((place.host, 0)).unwrap().local_addr().unwrap();
    let flag = format!("--metrics={metrics_at}");
    let mut broker = place.start("broker", &[&flag]);
    broker.stderr.wait("its figures", |lines| {
        lines.iter().any(|line| line.contains("tells its figures on http://")).then_some(())
    });
    let text = metrics(metrics_at).unwrap();
    assert!(text.contains("pregao_node_up{node=\"broker\",copy=\"0\"} 1\n"), "{text}");
    assert!(text.contains("pregao_turn_seconds_count{node=\"broker\",copy=\"0\"} "), "{text}");
    assert!(text.contains("\npregao_metrics_left_out 0\n"), "{text}");
    promtool(&["check", "metrics"], &text);
    let (head, body) = get(metrics_at, "/healthz").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 ") && body == "{\"status\":\"ok\"}\n", "{head} {body}");
    broker.end_now();
}

/// Figures that only some systems have: of copies, of exchanges with a name, of lines, of several reactors.
#[test]
fn every_figure_of_every_kind_of_node_has_a_series() {
    let place = Place::new();
    let reserved = Reserved::new();
    let address = reserved.address();
    drop(reserved);
    place.configure(&format!(
        "[[exchange]]\nname = \"xnas\"\nrate = 500\n\
         [[exchange]]\nname = \"quest\"\nkind = \"lines\"\naddress = \"{address}\"\n\
         map = \"price=last\"\n"
    ));
    let all = Process::start(&place.all_arguments(&["--replicas", "2", "--reactors", "2"]));
    let nodes = ["xnas", "quest", "broker", "core", "core.1", "shard-A.1", "aggregator", "gateway"];
    let system = System::of_nodes(all, Arc::new(place), &nodes);
    let gateway = system.place.address("gateway");
    let text = system.retry("all nodes are up", || {
        let text = metrics(gateway)?;
        let away: Vec<&str> = text
            .lines()
            .filter(|line| line.starts_with("pregao_node_up{") && line.ends_with(" 0"))
            .collect();
        if away.is_empty() { Ok(text) } else { Err(format!("{away:?}")) }
    });
    assert!(text.contains("\npregao_metrics_left_out 0\n"), "{text}");
    for sample in [
        "pregao_node_up{node=\"shard-C\",copy=\"1\"} 1",
        "pregao_exchange_phase{node=\"core\",copy=\"0\",exchange=\"xnas\",phase=",
        "pregao_lines_read_total{node=\"quest\",copy=\"0\"} 0",
        "pregao_broker_reactors{node=\"broker\",copy=\"0\"} 2",
        "pregao_gather_seconds_count{node=\"aggregator\",copy=\"0\",leaf=\"shard-B.1\"} ",
    ] {
        assert!(text.contains(sample), "{sample} in {text}");
    }
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
