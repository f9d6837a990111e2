//! Deeds that break something on purpose: only where the operator has asked for a playground, and only from the page's own
//! origin.

use serde::Deserialize;

use crate::http::{Method, Problem, Request};
use crate::wire::{BreakerAction, ChaosAction};

/// One such deed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Deed {
    /// A circuit breaker of a node is forced.
    Breaker { node: String, breaker: String, action: BreakerAction },
    /// The process of a node is ended at once. Its supervisor starts it again.
    Kill { node: String },
    /// An exchange is told to misbehave, or to stop it.
    Chaos { node: String, action: ChaosAction },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    node: String,
    breaker: Option<String>,
    action: Option<String>,
}

impl Deed {
    /// Reads a deed.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn read(name: &str, request: &Request) -> Result<Deed, Problem> {
        let bad = |text: &str| Problem::new(400, text);
        if !matches!(name, "breaker" | "kill" | "chaos") {
            return Err(Problem::new(404, "There is no such deed."));
        }
        if request.method() != Method::Post {
            return Err(Problem::new(405, "This path takes POST."));
        }
        // A form of another site's page can have no such type without asking first.
        if request.header("content-type").is_none_or(|it| !it.starts_with("application/json")) {
            return Err(Problem::new(415, "The body is application/json."));
        }
        if request.header("origin").is_none() {
            return Err(Problem::new(403, "Only the page itself may do this: Origin is missing."));
        }
        let raw: Raw = serde_json::from_slice(request.body())
            .map_err(|error| bad(&format!("The body is one object of JSON: {error}.")))?;
        match (name, raw.breaker, raw.action.as_deref()) {
            ("kill", None, None) => Ok(Deed::Kill { node: raw.node }),
            ("breaker", Some(breaker), Some(action)) => {
                let action = match action {
                    "force-open" => BreakerAction::ForceOpen,
                    "close" | "force-closed" => BreakerAction::Close,
                    "reset" => BreakerAction::Reset,
                    _ => return Err(bad("`action` is force-open, close or reset.")),
                };
                Ok(Deed::Breaker { node: raw.node, breaker, action })
            }
            ("chaos", None, Some(action)) => {
                let action = match action {
                    "behave" => ChaosAction::Behave,
                    "misbehave" => ChaosAction::Misbehave,
                    "reset" => ChaosAction::Reset,
                    _ => return Err(bad("`action` is behave, misbehave or reset.")),
                };
                Ok(Deed::Chaos { node: raw.node, action })
            }
            ("chaos", ..) => Err(bad("`chaos` takes `node` and `action`.")),
            ("kill", ..) => Err(bad("`kill` takes `node` only.")),
            _ => Err(bad("`breaker` takes `node`, `breaker` and `action`.")),
        }
    }
}
