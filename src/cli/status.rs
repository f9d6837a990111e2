//! `pregao status`: from a request to text. The connections themselves are the client library's.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::thread::ScopedJoinHandle;
use std::time::Duration;

use super::args::Format;
use super::exit::{Exit, Failure};
use super::output::Output;
use crate::client::{Answer, ClientError, QueryClient};
use crate::config::NodeId;
use crate::render::health::{Condition, judge, overall};
use crate::render::{Detail, NodeReport, Reachability, status_json, status_table, take_breakers};
use crate::time::Clock;
use crate::wire::{Op, Query};

/// Whom to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusRequest {
    /// Every node and where to connect to it.
    pub nodes: Vec<(NodeId, SocketAddr)>,
    /// For each node.
    pub deadline: Duration,
    /// How the status is shown.
    pub format: Format,
    /// How much of it is shown as a table.
    pub detail: Detail,
}

/// Judges the answers and shows them: complete when all nodes answered and none has a fault, partial when some did.
///
/// # Errors
/// When none did, or the output takes no more.
pub fn show(
    reports: &mut [NodeReport],
    format: Format,
    detail: Detail,
    output: &mut Output<impl Write>,
) -> Result<Exit, Failure> {
    judge(reports);
    match format {
        Format::Json => reports.iter().try_for_each(|report| output.line(&status_json(report)))?,
        Format::Table => output.line(&status_table(reports, detail, output.screen()))?,
    }
    output.flush()?;
    let answered = reports.iter().filter(|report| report.status == Reachability::Ok).count();
    match answered {
        0 => Err(Failure::failed("no node answered; start the system with `pregao all`")),
        _ if overall(reports).condition.is_fault() => Ok(Exit::Partial),
        _ => Ok(Exit::Complete),
    }
}

/// Asks every node at once and shows what each says.
///
/// # Errors
/// When none answers, or the output takes no more.
pub fn run(request: &StatusRequest, output: &mut Output<impl Write>) -> Result<Exit, Failure> {
    let deadline = request.deadline;
    show(&mut ask_all(&request.nodes, deadline), request.format, request.detail, output)
}

/// Asks these nodes at once what each says about itself.
#[must_use]
pub fn ask_all(nodes: &[(NodeId, SocketAddr)], deadline: Duration) -> Vec<NodeReport> {
    std::thread::scope(|scope| {
        let ask = |&(node, address)| (node, address, scope.spawn(move || ask(address, deadline)));
        let asked: Vec<_> = nodes.iter().map(ask).collect();
        let report = |(node, address, thread): (NodeId, SocketAddr, ScopedJoinHandle<'_, _>)| {
            let answer = thread.join().unwrap_or((Err(Reachability::Failed), Duration::ZERO));
            report(node, address, answer)
        };
        asked.into_iter().map(report).collect()
    })
}

/// What one node answered, and how long that (or waiting for it in vain) took.
type Asked = (Result<Answer, Reachability>, Duration);

fn ask(address: SocketAddr, deadline: Duration) -> Asked {
    let clock = Clock::start();
    let start = clock.now().mono;
    let mut query_client = match QueryClient::open("the node", address, deadline) {
        Ok(query_client) => query_client,
        Err(error) => return (Err(unreached(&error)), clock.now().mono.since(start)),
    };
    let start = clock.now().mono;
    let query = Query { op: Op::Status as u8, ..Query::default() };
    let answer = match query_client.ask(&[query], deadline) {
        Ok(mut answers) => answers.pop().ok_or(Reachability::Failed),
        Err(error) => Err(unreached(&error)),
    };
    (answer, clock.now().mono.since(start))
}

fn unreached(error: &ClientError) -> Reachability {
    match error {
        ClientError::Deadline { .. } => Reachability::Timeout,
        ClientError::Unreachable { error, .. } if error.kind() == io::ErrorKind::TimedOut => {
            Reachability::Timeout
        }
        ClientError::Unreachable { error, .. } if is_no_way(error) => Reachability::Unreachable,
        ClientError::Unreachable { .. } | ClientError::Broken { .. } => Reachability::Refused,
        ClientError::BadFrame { .. } => Reachability::Foreign,
        ClientError::Refused { .. } | ClientError::UnknownKind { .. } => Reachability::Failed,
    }
}

/// Whether the network has no way to the address.
fn is_no_way(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::AddrNotAvailable
            | io::ErrorKind::NetworkDown
    )
}

fn report(node: NodeId, address: SocketAddr, (answer, elapsed): Asked) -> NodeReport {
    let status = answer.as_ref().err().copied().unwrap_or(Reachability::Ok);
    let answer = answer.unwrap_or_default();
    let (mut figures, mut words) =
        (answer.metrics.into_iter().collect(), answer.texts.into_iter().collect());
    NodeReport {
        node: node.to_string(),
        address,
        status,
        elapsed_us: u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX),
        breakers: take_breakers(&mut words, &mut figures),
        figures,
        words,
        condition: Condition::Ok,
        trouble: None,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::TcpListener;

    use super::*;

    /// Something that is not pregao: it says its own words to whoever comes.
    #[test]
    fn another_server_on_a_nodes_port_is_told_from_a_node() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.write_all(&b"HTTP/1.1 400 Bad Request\r\n\r\n".repeat(8));
            // Not before the other side has gone, or its bytes could be lost with the connection.
            let _ = io::copy(&mut stream, &mut io::sink());
        });
        let mut reports = ask_all(&[(NodeId::Core, address)], Duration::from_secs(20));
        server.join().unwrap();
        judge(&mut reports);
        assert_eq!(reports[0].status, Reachability::Foreign);
        let trouble = reports[0].trouble.as_deref().unwrap();
        assert!(trouble.contains("does not speak this protocol"), "{trouble}");
    }
}
