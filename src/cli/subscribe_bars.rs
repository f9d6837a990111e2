//! `pregao subscribe bar.1m.PETR4`: live bars as lines. The bars themselves are the client library's.

use std::io::Write;
use std::time::Duration;

use super::args::Format;
use super::exit::{Exit, Failure};
use super::output::Output;
use super::subscribe::{FramePrinter, SubscribeRequest};
use super::subscribe_hints::Lonely;
use crate::client::{BarEvent, BarPattern, BarSubscription, ClientError};
use crate::config::NodeId;
use crate::feed;
use crate::parse::{DeliveryMode, Pattern};
use crate::render::{BarTable, live_bar_json};
use crate::time::Mono;
use crate::wire::FeedStatus;

/// How long to wait before the output is flushed.
const FLUSH_EVERY: Duration = Duration::from_millis(250);

/// Whether bars are asked for.
///
/// # Errors
/// When only some of the patterns are bars, or their mode would leave trades out.
pub(super) fn wants_bars(request: &SubscribeRequest) -> Result<bool, Failure> {
    let bars = request.patterns.iter().filter(|pattern| pattern.bars.is_some()).count();
    if bars == 0 {
        return Ok(false);
    }
    if bars < request.patterns.len() {
        let text = "bars and frames do not mix in one subscription; start one for each";
        return Err(Failure::usage(text));
    }
    if request.mode != DeliveryMode::Lossless {
        let text = "bars need every trade; leave --mode away, or choose lossless";
        return Err(Failure::usage(text));
    }
    Ok(true)
}

/// Runs the subscription until its count or its time.
///
/// # Errors
/// When the broker cannot be reached at the start, refuses, or the output takes no more.
pub(super) fn run(
    request: &SubscribeRequest,
    output: &mut Output<impl Write>,
) -> Result<Exit, Failure> {
    let address = |node| {
        let address = request.config.connect(node);
        address.ok_or_else(|| Failure::usage(format!("no address of {node}")))
    };
    let (core, aggregator) = (address(NodeId::Core)?, address(NodeId::Aggregator)?);
    let patterns = request.patterns.iter().map(bar_pattern).collect::<Result<Vec<_>, _>>()?;
    let failed = |error: ClientError| Failure::failed(error.to_string());
    let from_seq = request.from_seq.and_then(crate::wire::Seq::new);
    let mut bars = BarSubscription::open(request.address, core, aggregator, patterns, from_seq)
        .map_err(failed)?;
    let clock = bars.clock();
    let started = clock.now().mono;
    let end = request.duration.map_or(Mono(u64::MAX), |duration| started + duration);
    let screen = output.screen();
    let mut table = BarTable::new(screen.color, screen.lines);
    let (mut wanted, mut exit) = (request.count, Exit::Complete);
    let mut lonely = Lonely::new(request, started);
    while wanted != Some(0) && clock.now().mono < end {
        lonely.look(clock.now().mono, bars.matched(), bars.symbols());
        let until = end.min(clock.now().mono + FLUSH_EVERY);
        match bars.next_before(until).map_err(failed)? {
            Some(BarEvent::Bar(bar)) => {
                let line = match request.format {
                    Format::Json => live_bar_json(&bar, bars.symbols()),
                    Format::Table => Some(table.line(&bar, bars.symbols())),
                };
                exit = if bar.is_incomplete { Exit::Partial } else { exit };
                if let Some(line) = line {
                    output.line(&line)?;
                    wanted = wanted.map(|wanted| wanted.saturating_sub(1));
                }
            }
            Some(BarEvent::Lost(event)) => {
                let mut printer = FramePrinter::new(request, output);
                printer.lose(bars.symbols(), &event)?;
                exit = if printer.exit() == Exit::Complete { exit } else { printer.exit() };
            }
            Some(BarEvent::Stale) => tell(request, output, FeedStatus::Stale)?,
            Some(BarEvent::Ended) => tell(request, output, FeedStatus::Ended)?,
            Some(BarEvent::Current) => tell(request, output, FeedStatus::Current)?,
            Some(BarEvent::Exchange { exchange, status }) => {
                FramePrinter::new(request, output).tell_of(exchange, status)?;
            }
            None => output.flush()?,
        }
    }
    output.flush()?;
    Ok(exit)
}

fn tell(
    request: &SubscribeRequest,
    output: &mut Output<impl Write>,
    status: FeedStatus,
) -> Result<(), Failure> {
    FramePrinter::new(request, output).tell(status).map(drop)
}

fn bar_pattern(pattern: &Pattern) -> Result<BarPattern, Failure> {
    let interval = pattern.bars.ok_or_else(|| Failure::usage("not a pattern of bars"))?;
    let pattern = feed::Pattern::new(&pattern.symbols, 0).map_err(Failure::usage)?;
    Ok(BarPattern { pattern, seconds: interval.seconds() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn request(patterns: &[&str], mode: DeliveryMode) -> SubscribeRequest {
        SubscribeRequest {
            address: "127.0.0.1:8081".parse().unwrap(),
            patterns: patterns.iter().map(|text| text.parse().unwrap()).collect(),
            count: None,
            duration: None,
            mode,
            from_seq: None,
            from_time: None,
            speed: None,
            then_live: false,
            format: Format::Json,
            config: Config::default(),
        }
    }

    #[test]
    fn what_would_give_wrong_bars_is_refused() {
        let lossless = DeliveryMode::Lossless;
        assert_eq!(wants_bars(&request(&["PETR4", "trade.*"], lossless)), Ok(false));
        assert_eq!(wants_bars(&request(&["bar.1m.PETR4", "bar.5s.*"], lossless)), Ok(true));
        assert!(wants_bars(&request(&["bar.1m.PETR4", "PETR4"], lossless)).is_err());
        assert!(wants_bars(&request(&["bar.1m.PETR4"], DeliveryMode::Latest)).is_err());
    }
}
