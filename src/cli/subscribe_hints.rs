//! What a subscription says that matches no instrument: what may have been meant, or what there is.

use std::time::Duration;

use super::subscribe::SubscribeRequest;
use super::suggest::suggestion;
use crate::client::{QueryClient, Symbols};
use crate::config::NodeId;
use crate::parse::Pattern;
use crate::time::Mono;
use crate::wire::{Definition, Frame, Names, Op, Query, padded};

/// How long the aggregator may take. The subscription waits meanwhile.
const ASK_WAIT: Duration = Duration::from_millis(500);

/// How long a subscription that matches nothing waits before it says so.
const LONELY_AFTER: Duration = Duration::from_secs(2);

/// Says once that a subscription waits in vain so far.
pub(super) struct Lonely<'a> {
    request: &'a SubscribeRequest,
    /// When the subscription began.
    since: Mono,
    is_told: bool,
}

impl Lonely<'_> {
    pub(super) fn new(request: &SubscribeRequest, since: Mono) -> Lonely<'_> {
        Lonely { request, since, is_told: false }
    }

    /// `matched` and `symbols` are what the subscription has found so far.
    pub(super) fn look(&mut self, now: Mono, matched: Option<u32>, symbols: &Symbols) {
        if !self.is_told && matched == Some(0) && now.since(self.since) > LONELY_AFTER {
            self.is_told = true;
            if symbols.is_empty() {
                let known = known(self.request).unwrap_or_default();
                log::warn!("{}", sentence(&self.request.patterns, &known));
            }
        }
    }
}

fn sentence(patterns: &[Pattern], known: &[Names]) -> String {
    let instead = patterns.iter().find_map(|pattern| suggestion(&pattern.symbols, known));
    let instead = instead.map_or_else(String::new, |instead| format!("; {instead}"));
    format!("no instrument matches so far, waiting for one that does{instead}")
}

/// All instruments, where the aggregator answers.
fn known(request: &SubscribeRequest) -> Option<Vec<Names>> {
    let aggregator = request.config.connect(NodeId::Aggregator)?;
    let mut query_client = QueryClient::open("aggregator", aggregator, ASK_WAIT).ok()?;
    let all = Query { op: Op::Instruments as u8, symbol: padded("*"), ..Query::default() };
    let answer = query_client.ask(&[all], ASK_WAIT).ok()?.pop()?;
    let definitions = answer.definitions.iter().filter_map(Frame::view::<Definition>);
    Some(definitions.map(Definition::names).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_in_vain_reads_what_may_have_been_meant() {
        let known = ["PETR4", "VALE3"].map(|text| Names::of(text.parse().unwrap()));
        let said = |text: &str, known: &[Names]| sentence(&[text.parse().unwrap()], known);
        let waits = "no instrument matches so far, waiting for one that does";
        for (asked, instead) in [
            ("trades.X", "; did you mean trade.X?"),
            ("bars.1m.PETR4", "; did you mean bar.1m.PETR4?"),
            ("quote.petr4", "; did you mean PETR4?"),
            ("XYZ", "; there are 2 instruments: PETR4, VALE3"),
        ] {
            assert_eq!(said(asked, &known), format!("{waits}{instead}"));
        }
        assert_eq!(said("XYZ", &[]), waits);
    }
}
