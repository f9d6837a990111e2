//! What is wrong with a system, judged from what its nodes say in their status: the worst of each node, and the worst
//! of all. Here is no text of figures and no table; those are `render`'s.

use super::{NodeReport, Reachability, elapsed};
use crate::limits::BEHIND_AFTER_DEFAULT;
use crate::node::sequencer::OTHER_FEED_REMEDY;

/// How well a node is, or the whole system. A later one is worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Condition {
    /// It does what it has to.
    Ok,
    /// It does, and there is something to know.
    Note,
    /// The exchange's feed has ended: nothing more comes.
    Ended,
    /// The exchange is sick or away: quotes are the last known.
    Stale,
    /// A node is away, or does only a part of what it has to.
    Trouble,
    /// Nothing of the market is stored or sent on.
    Stopped,
}

impl Condition {
    /// Every condition, the best first.
    pub const ALL: [Condition; 6] = [
        Condition::Ok,
        Condition::Note,
        Condition::Ended,
        Condition::Stale,
        Condition::Trouble,
        Condition::Stopped,
    ];

    /// Its name, as JSON has it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Condition::Ok => "ok",
            Condition::Note => "note",
            Condition::Ended => "ended",
            Condition::Stale => "stale",
            Condition::Trouble => "trouble",
            Condition::Stopped => "stopped",
        }
    }

    /// Whether the system itself has a fault. A feed that has ended and an exchange that is sick are none of its own.
    #[must_use]
    pub fn is_fault(self) -> bool {
        self >= Condition::Trouble
    }
}

/// One thing that is wrong, or worth knowing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub condition: Condition,
    /// What it is.
    pub text: String,
}

/// What a node says of itself, by name.
struct Said<'a>(&'a NodeReport);

impl Said<'_> {
    fn word(&self, name: &str) -> Option<&str> {
        self.0.words.get(name).map(String::as_str)
    }

    fn figure(&self, name: &str) -> Option<i64> {
        self.0.figures.get(name).copied()
    }

    fn is(&self, name: &str, value: i64) -> bool {
        self.figure(name) == Some(value)
    }
}

/// Writes into each report the worst that its node, or core about it, says.
pub fn judge(reports: &mut [NodeReport]) {
    let of_core: Vec<(String, Finding)> = reports
        .iter()
        .filter(|report| report.node == "core")
        .flat_map(|core| reports.iter().flat_map(|it| about(core, &it.node)))
        .collect();
    let is_exchange = |report: &&NodeReport| report.words.contains_key("feed.phase");
    let exchanges = reports.iter().filter(is_exchange).count();
    for report in reports {
        let mut findings = of_node(report, exchanges > 1);
        let told = of_core.iter().filter(|(node, _)| *node == report.node);
        findings.extend(told.map(|(_, finding)| finding.clone()));
        // Of two that are as bad the first counts.
        let worst = findings
            .into_iter()
            .reduce(|worst, next| if next.condition > worst.condition { next } else { worst });
        report.condition = worst.as_ref().map_or(Condition::Ok, |worst| worst.condition);
        report.trouble = worst.map(|worst| worst.text);
    }
}

/// What is to be said first, of all nodes.
#[must_use]
pub fn overall(reports: &[NodeReport]) -> Finding {
    // What stops the market stands in core; of other nodes the first one in the order of the table counts.
    let rank = |report: &NodeReport| (report.condition, report.node == "core");
    let worst = reports.iter().reduce(|worst, it| if rank(it) > rank(worst) { it } else { worst });
    let Some(worst) = worst.filter(|it| it.condition > Condition::Note) else {
        let text = format!("the market flows; {}", last_event(reports));
        return Finding { condition: Condition::Ok, text };
    };
    let trouble = worst.trouble.as_deref().unwrap_or_default();
    let mut text = match worst.condition {
        Condition::Ended => format!("the exchange's feed has ended; {}", last_event(reports)),
        Condition::Stale if worst.node == "core" => trouble.to_owned(),
        _ => format!("{}: {trouble}", worst.node),
    };
    let more = reports.iter().filter(|it| it.condition.is_fault()).count();
    if worst.condition.is_fault() && more > 1 {
        text.push_str(&format!(" (and {} more below)", more - 1));
    }
    Finding { condition: worst.condition, text }
}

/// How long ago something came from the exchange.
fn last_event(reports: &[NodeReport]) -> String {
    let core = reports.iter().find(|report| report.node == "core").map(Said);
    let of_core = core.iter().flat_map(|core| &core.0.figures);
    let since = of_core.filter(|(name, ms)| {
        name.starts_with(EXCHANGE) && name.ends_with(".last_event_ms") && **ms >= 0
    });
    match since.map(|(_, ms)| *ms).min() {
        Some(ms) => format!("the last event came {} ago", elapsed_ms(ms)),
        None => "nothing has come since core started".to_owned(),
    }
}

/// What core's word about its exchange is called; behind a dot stands the name of one of several.
const EXCHANGE: &str = "exchange";

/// What core says of its exchanges.
fn of_exchanges(core: &Said<'_>) -> Vec<Finding> {
    let is_one = |name: &str| name == EXCHANGE || name.starts_with("exchange.");
    let phases = core.0.words.iter().filter(|(key, _)| is_one(key));
    let phases: Vec<(&str, &str)> = phases.map(|(key, phase)| (&**key, &**phase)).collect();
    let have_all_ended = phases.iter().all(|(_, phase)| *phase == "ended");
    let is_only = phases.len() == 1;
    let found = phases.into_iter().filter_map(|(key, phase)| {
        let title = match key.strip_prefix("exchange.") {
            Some(name) => format!("the exchange {name}"),
            None => "the exchange".to_owned(),
        };
        let since =
            || core.figure(&format!("{key}.last_event_ms")).map_or_else(String::new, elapsed_ms);
        let (condition, text) = match phase {
            "live" => return None,
            "mute" => {
                let text = format!("{title} is connected and has sent nothing for {}", since());
                (Condition::Note, text)
            }
            "ended" if have_all_ended => (Condition::Ended, format!("{title}'s feed has ended")),
            "ended" => (Condition::Note, format!("{title}'s feed has ended")),
            "another feed" if is_only => {
                let text = format!("takes nothing in: {title} offers {OTHER_FEED_REMEDY}");
                (Condition::Stopped, text)
            }
            "another feed" => {
                let text = format!("takes nothing of {title} in: it offers {OTHER_FEED_REMEDY}");
                (Condition::Trouble, text)
            }
            phase => (Condition::Stale, exchange_away(core, (key, &title), phase, is_only)),
        };
        Some(Finding { condition, text })
    });
    found.collect()
}

fn elapsed_ms(ms: i64) -> String {
    elapsed(u64::try_from(ms).unwrap_or(0).saturating_mul(1_000))
}

fn of_node(report: &NodeReport, is_one_of_several: bool) -> Vec<Finding> {
    let (said, mut findings) = (Said(report), Vec::new());
    let mut find = |condition, text: String| findings.push(Finding { condition, text });
    if report.status != Reachability::Ok {
        // Without core nothing flows.
        let is_core = report.node == "core";
        let condition = if is_core { Condition::Stopped } else { Condition::Trouble };
        find(condition, unreached(report));
        return findings;
    }
    if said.is("insecure", 1) {
        let text = "insecure: other machines reach it, and it asks nobody who they are";
        find(Condition::Note, text.to_owned());
    }
    let is_held_back = said.is("held_back", 1);
    for name in ["journal", "log"] {
        let Some(health) = said.word(name) else { continue };
        let problem = health.split_once(": ").map_or(health, |(_, problem)| problem);
        match (is_held_back, name) {
            (true, "journal") => find(Condition::Stopped, format!("takes nothing in: {problem}")),
            (true, _) => find(Condition::Trouble, format!("stores nothing: {problem}")),
            (false, _) => find(Condition::Trouble, format!("its {name} waits: {problem}")),
        }
    }
    if said.is("clock_refused", 1) {
        let why = said.word("clock").unwrap_or("it does not fit its log");
        find(Condition::Trouble, format!("the wall clock is not believed: {why}"));
    }
    if said.is("front_missing", 1) {
        find(Condition::Trouble, "the front of its history is missing".to_owned());
    }
    if said.word("feeder") == Some("none") {
        find(Condition::Trouble, "core does not feed it".to_owned());
    }
    if ["publisher_up", "source.1.publisher_up"].iter().any(|name| said.is(name, 0))
        || (said.word("role") == Some("broker") && said.figure("source.1.publisher_up").is_none())
    {
        find(Condition::Trouble, "core does not publish to it".to_owned());
    }
    let behind_max = i64::try_from(BEHIND_AFTER_DEFAULT.as_millis()).unwrap_or(i64::MAX);
    match said.figure("behind_ms") {
        Some(..0) => find(Condition::Trouble, "has not caught up since it started".to_owned()),
        Some(ms) if ms > behind_max => {
            find(Condition::Trouble, format!("is behind core by {}", elapsed_ms(ms)));
        }
        _ => {}
    }
    for finding in of_exchanges(&said) {
        find(finding.condition, finding.text);
    }
    if said.word("feed.phase") == Some("ended") {
        // Of several, core knows whether all have.
        let condition = if is_one_of_several { Condition::Note } else { Condition::Ended };
        find(condition, "the exchange's feed has ended".to_owned());
    }
    for breaker in &report.breakers {
        let is_to_exchange = is_to_exchange(&said, &breaker.name);
        let condition = match breaker.state.as_str() {
            "open" | "forced-open" if is_to_exchange => Condition::Note,
            "open" | "forced-open" => Condition::Trouble,
            "half-open" => Condition::Note,
            _ => continue,
        };
        find(condition, format!("the breaker {} is {}", breaker.name, breaker.state));
    }
    if said.figure("holes").is_some_and(|holes| holes > 0) && said.word("feeder").is_some() {
        find(Condition::Note, "a part of its history is lost".to_owned());
    }
    if is_held_back {
        find(Condition::Note, "waits for its log".to_owned());
    }
    findings
}

/// Why quotes are not current, as core sees it.
fn exchange_away(
    core: &Said<'_>,
    (key, title): (&str, &str),
    phase: &str,
    is_only: bool,
) -> String {
    let why = match phase {
        "silent" => {
            let silent = core.figure(&format!("{key}.silent_ms"));
            let silent = silent.map_or_else(String::new, elapsed_ms);
            format!("{title} has said nothing for {silent}")
        }
        "behind" => format!("core has not yet all that {title} has sent"),
        _ => {
            let breaker = format!("core.{}", key.strip_prefix("exchange.").unwrap_or(key));
            let breaker = core.0.breakers.iter().find(|it| it.name == breaker);
            let error = breaker.and_then(|breaker| breaker.last_error.as_deref());
            let error = error.map_or_else(String::new, |error| format!(" ({error})"));
            format!("there is no session with {title}{error}")
        }
    };
    format!("{why}; {} are the last known", if is_only { "quotes" } else { "its quotes" })
}

/// Whether a breaker of core is one of an exchange.
fn is_to_exchange(core: &Said<'_>, breaker: &str) -> bool {
    let name = breaker.strip_prefix("core.").unwrap_or_default();
    let name = name.strip_suffix(".req").unwrap_or(name);
    let is_named = || core.word(&format!("exchange.{name}")).is_some();
    ["exchange", "requests"].contains(&name) || is_named()
}

/// What core says of one of its followers.
fn about(core: &NodeReport, node: &str) -> Vec<(String, Finding)> {
    let said = Said(core);
    let find = |condition, text: String| (node.to_owned(), Finding { condition, text });
    let foreign = said.word(&format!("{node}.feed"));
    let foreign =
        foreign.map(|word| find(Condition::Trouble, format!("core does not feed it: {word}")));
    let phase = said.word(node).filter(|phase| ["snapshot", "catching up"].contains(phase));
    let phase = phase.map(|_| find(Condition::Note, "is catching up with core".to_owned()));
    foreign.into_iter().chain(phase).collect()
}

fn unreached(report: &NodeReport) -> String {
    match report.status {
        Reachability::Ok => String::new(),
        Reachability::Refused => "refused: nobody listens there".to_owned(),
        Reachability::Unreachable => "unreachable: no route to this address".to_owned(),
        Reachability::Timeout => format!("no answer in {}", elapsed(report.elapsed_us)),
        Reachability::Failed => "answered with an error".to_owned(),
        Reachability::Foreign => {
            "something else answers there: it does not speak this protocol".to_owned()
        }
    }
}

#[cfg(test)]
mod tests;
