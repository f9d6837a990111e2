//! `pregao breaker`: an operator's action on one circuit breaker, and what became of it.
//!
//! A breaker's name begins with its node's, so the node that has it is known before anybody is asked.

use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

use super::args::Format;
use super::exit::{Exit, Failure};
use super::output::Output;
use super::status::ask_all;
use crate::client::{ClientError, QueryClient};
use crate::config::NodeId;
use crate::render::{BreakerReport, breaker_json, breaker_text};
use crate::wire::{BreakerAction, EndStatus, ErrorCode, Op, Query, U32, padded};

/// What is to be done to which breaker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BreakerRequest {
    /// The nodes that have breakers, and where to connect to them.
    pub nodes: Vec<(NodeId, SocketAddr)>,
    /// The breaker.
    pub name: String,
    /// What to do.
    pub action: BreakerAction,
    /// For each of the two steps: sending the action, and asking what became of it.
    pub deadline: Duration,
    /// How the breaker is shown afterwards.
    pub format: Format,
}

impl BreakerRequest {
    /// The node whose breaker it is, if there is one, and where to connect to it.
    pub(super) fn owner(&self) -> Option<(NodeId, SocketAddr)> {
        let of_name = |(node, _): &&(NodeId, SocketAddr)| {
            let rest = self.name.strip_prefix(&node.to_string());
            rest.is_some_and(|rest| rest.starts_with('.'))
        };
        self.nodes.iter().find(of_name).copied()
    }
}

/// Tells the node, and shows the breaker as it is then.
///
/// # Errors
/// When no node has a breaker of this name, its node cannot be reached or refuses, or the output takes
/// no more.
pub fn run(request: &BreakerRequest, output: &mut Output<impl Write>) -> Result<Exit, Failure> {
    let Some((node, address)) = request.owner() else { return Err(unknown(request)) };
    if !send_action(request, node, address)? {
        return Err(unknown(request));
    }
    let breakers = known(&[(node, address)], request.deadline);
    let Some(breaker) = breakers.iter().find(|breaker| breaker.name == request.name) else {
        return Err(Failure::failed(format!("done, but {node} did not say how it is now")));
    };
    match request.format {
        Format::Json => output.line(&breaker_json(breaker))?,
        Format::Table => output.line(&breaker_text(breaker))?,
    }
    Ok(Exit::Complete)
}

/// Whether the node has the breaker, and has done it.
fn send_action(
    request: &BreakerRequest,
    node: NodeId,
    address: SocketAddr,
) -> Result<bool, Failure> {
    let failed = |error: ClientError| Failure::failed(error.to_string());
    let asked_as = match node {
        NodeId::Core => "core",
        NodeId::Gateway => "gateway",
        _ => "aggregator",
    };
    let mut query_client =
        QueryClient::open(asked_as, address, request.deadline).map_err(failed)?;
    let query = Query {
        op: Op::Breaker as u8,
        limit: U32::new(u32::from(request.action as u8)),
        symbol: padded(&request.name),
        ..Query::default()
    };
    let answers = query_client.ask(&[query], request.deadline).map_err(failed)?;
    let Some(answer) = answers.first() else { return Ok(false) };
    if answer.status() == EndStatus::Complete {
        return Ok(true);
    }
    match &answer.refusal {
        Some((Some(ErrorCode::NotOwner), _)) => Ok(false),
        Some((_, text)) => Err(Failure::failed(format!("{node} refused: {text}"))),
        None => Err(Failure::failed(format!("{node} did not do it"))),
    }
}

fn known(nodes: &[(NodeId, SocketAddr)], deadline: Duration) -> Vec<BreakerReport> {
    ask_all(nodes, deadline).into_iter().flat_map(|report| report.breakers).collect()
}

fn unknown(request: &BreakerRequest) -> Failure {
    let known = known(&request.nodes, request.deadline);
    let name = &request.name;
    if known.is_empty() {
        return Failure::failed(format!(
            "no breaker is known as {name}, and no node that has breakers answered; start the system \
             with `pregao all`"
        ));
    }
    let known: Vec<&str> = known.iter().map(|breaker| breaker.name.as_str()).collect();
    Failure::failed(format!("no breaker is known as {name}; there are {}", known.join(", ")))
}
