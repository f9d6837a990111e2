//! `pregao status`: from a request to text. The connections themselves are not here.

use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

use super::args::Format;
use super::exit::{Exit, Failure};
use super::output::Output;
use super::render::{NodeReport, Reachability, status_json, status_table};
use crate::config::NodeId;

/// Whom to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusRequest {
    /// Every node and where to connect to it.
    pub nodes: Vec<(NodeId, SocketAddr)>,
    /// For each node.
    pub deadline: Duration,
    /// How the status is shown.
    pub format: Format,
}

/// Shows the answers: complete when all nodes answered, partial when some did.
///
/// # Errors
/// When none did, or the output takes no more.
pub fn show(
    reports: &[NodeReport],
    format: Format,
    output: &mut Output<impl Write>,
) -> Result<Exit, Failure> {
    match format {
        Format::Json => reports.iter().try_for_each(|report| output.line(&status_json(report)))?,
        Format::Table => output.line(&status_table(reports))?,
    }
    output.flush()?;
    let answered = reports.iter().filter(|report| report.status == Reachability::Ok).count();
    match answered {
        0 => Err(Failure::failed("no node answered; start the system with `pregao all`")),
        answered if answered == reports.len() => Ok(Exit::Complete),
        _ => Ok(Exit::Partial),
    }
}

/// Asks every node and shows what it says.
///
/// # Errors
/// When none answers, or the output takes no more.
pub fn run(request: &StatusRequest, output: &mut Output<impl Write>) -> Result<Exit, Failure> {
    let _ = (request.nodes.len(), output);
    Err(Failure::failed("the question to the nodes is not wired yet"))
}
