//! The system: the road from the exchange to this subscriber, its nodes, its breakers, and what was said lately.

use super::super::state::Watch;
use super::{Canvas, age_text};
use crate::render::{
    BreakerReport, NodeReport, Reachability, breaker_header, breaker_line, elapsed,
};

pub(super) fn draw(watch: &Watch, canvas: &mut Canvas<'_>) {
    let theme = canvas.theme;
    road(watch, canvas);
    let system = &watch.system;
    if system.reports.is_empty() {
        canvas.text(1, 5, "no report so far: asking the nodes", theme.plain());
        return;
    }
    let width = usize::from(canvas.columns());
    let mut lines = vec![(
        format!(
            " {:<11} {:<8} {:>10} {:>12} {:>10}  {}",
            "NODE", "STATE", "SEQ/S", "NEXT SEQ", "BEHIND", "NOTE"
        ),
        theme.bold(),
    )];
    for report in &system.reports {
        let style = match report.condition.is_fault() {
            true => theme.bad(),
            false => theme.plain(),
        };
        lines.push((node(watch, report), style));
    }
    let breakers = system.breakers();
    if !breakers.is_empty() {
        lines.push((breaker_header(width).split_off(1), theme.bold()));
    }
    for breaker in breakers {
        let style = if is_well(breaker) { theme.plain() } else { theme.bad() };
        lines.push((breaker_line(breaker, width).split_off(1), style));
    }
    if !watch.notices.is_empty() {
        lines.push((" LATELY".to_owned(), theme.bold()));
    }
    for notice in &watch.notices {
        let age = age_text(watch.now.mono.since(notice.at));
        lines.push((format!(" {age:>6} ago  {}", notice.text), theme.plain()));
    }
    let (from, to) = (5, canvas.lines().saturating_sub(2));
    let room = usize::from(to.saturating_sub(from));
    let top = system.top.min(lines.len().saturating_sub(room));
    let below = lines.len().saturating_sub(top + room);
    for (y, (text, style)) in (from..to).zip(lines.iter().skip(top)) {
        canvas.cut(0, y, canvas.columns(), text, *style);
    }
    if top > 0 {
        canvas.right(from, &format!(" ↑ {top} more "), theme.bar());
    }
    if below > 0 {
        canvas.right(to.saturating_sub(1), &format!(" ↓ {below} more "), theme.bar());
    }
}

fn is_well(breaker: &BreakerReport) -> bool {
    breaker.state == "closed"
}

fn node(watch: &Watch, report: &NodeReport) -> String {
    let state = match report.status {
        Reachability::Ok => "ok",
        Reachability::Refused => "refused",
        Reachability::Unreachable => "no way",
        Reachability::Timeout => "silent",
        Reachability::Failed => "failed",
        Reachability::Foreign => "foreign",
    };
    let none = || "-".to_owned();
    // What the aggregator counts has no place in the sequence.
    let has_place = report.node != "aggregator";
    let rate = watch.system.rate(&report.node);
    let questions = rate.filter(|_| !has_place);
    let rate = rate.filter(|_| has_place).map_or_else(none, |rate| rate.to_string());
    let next = ["next_seq", "source.1.next_seq"];
    let next = next.iter().find_map(|name| report.figures.get(*name));
    let next = next.map_or_else(none, ToString::to_string);
    let lag = watch.system.lag(report).unwrap_or_else(none);
    let note = match &report.trouble {
        Some(trouble) => trouble.clone(),
        None => match questions {
            Some(rate) => format!("{rate} questions/s"),
            None => format!("answers in {}", elapsed(report.elapsed_us)),
        },
    };
    format!(" {:<11} {state:<8} {rate:>10} {next:>12} {lag:>10}  {note}", report.node)
}

/// How many frames a second pass each place, and where the road is cut.
fn road(watch: &Watch, canvas: &mut Canvas<'_>) {
    let theme = canvas.theme;
    let system = &watch.system;
    let exchanges: Vec<&NodeReport> =
        system.reports.iter().filter(|it| it.words.contains_key("feed.identity")).collect();
    let exchange = match exchanges.as_slice() {
        [] => "exchange".to_owned(),
        [one] => one.node.clone(),
        several => format!("{} exchanges", several.len()),
    };
    let rate_of = |node: &str| system.rate(node).map_or("-".to_owned(), |rate| format!("{rate}/s"));
    let exchange_rates: Vec<u64> =
        exchanges.iter().filter_map(|it| system.rate(&it.node)).collect();
    let exchange_rate = match exchange_rates.is_empty() {
        true => "-".to_owned(),
        false => format!("{}/s", exchange_rates.iter().copied().fold(0, u64::saturating_add)),
    };
    let is_up = |node: &str| system.node(node).is_none_or(|it| it.status == Reachability::Ok);
    let is_broker_up = is_up("broker") && watch.list_away.is_none();
    let way = |is_open: bool| if is_open { Way::Open } else { Way::Cut };
    // The place, what passes it, and how the way from there to the next one is.
    let places = [
        (exchange, exchange_rate, way_of_exchanges(system.node("core"))),
        ("core".to_owned(), rate_of("core"), way(is_up("core") && is_broker_up)),
        ("broker".to_owned(), rate_of("broker"), way(is_broker_up)),
        ("you".to_owned(), format!("{}/s", watch.frames_per_s), Way::Open),
    ];
    let mut x = 1;
    let gap = canvas.columns().saturating_sub(44) / 3;
    for (place, (name, rate, way)) in (1..).zip(&places) {
        let end = canvas.text(x, 3, name, theme.bold());
        canvas.text(x, 4, rate, theme.plain());
        if place == places.len() {
            break;
        }
        let next_x = x + 11 + gap;
        let (sign, head, style) = match way {
            Way::Open => ('─', '▶', theme.good()),
            Way::Partly => ('╌', '▶', theme.warning()),
            Way::Cut => ('╳', '╳', theme.bad()),
        };
        for x in end + 1..next_x.saturating_sub(2) {
            canvas.sign(x, 3, sign, style);
        }
        canvas.sign(next_x.saturating_sub(2), 3, head, style);
        x = next_x;
    }
}

/// A way between two places of the road.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Open,
    /// Some of several exchanges are away.
    Partly,
    Cut,
}

/// What core says of its sessions with the exchanges.
fn way_of_exchanges(core: Option<&NodeReport>) -> Way {
    let Some(core) = core else { return Way::Open };
    let is_one = |name: &str| name == "exchange" || name.starts_with("exchange.");
    let phases = core.words.iter().filter(|(name, _)| is_one(name));
    let (mut open, mut cut) = (0, 0);
    for (_, phase) in phases {
        match phase.as_str() {
            "live" | "mute" | "ended" => open += 1,
            _ => cut += 1,
        }
    }
    match (open, cut) {
        (0, _) => Way::Cut,
        (_, 0) => Way::Open,
        _ => Way::Partly,
    }
}
