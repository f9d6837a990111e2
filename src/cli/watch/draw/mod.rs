//! What the machine looks like: cells of a buffer, and nothing else. The same state gives the same cells.
//!
//! Colours only repeat what stands there as text or as a sign, so that nothing is lost without them.

mod canvas;
mod chart;
mod chosen;
mod help;
mod list;
mod system;
mod theme;

use std::time::Duration;

use ratatui_core::buffer::Buffer;

use self::canvas::Canvas;
pub(super) use self::theme::Theme;
use super::state::{View, Watch};
use crate::limits::{WATCH_SCREEN_MIN, WATCH_STATUS_EVERY};
use crate::parse::TimeNs;
use crate::render::health::Condition;
use crate::time::Mono;
use crate::wire::FeedStatus;

/// Reports older than this are not of now.
const REPORTS_LATE: Duration = Duration::from_secs(5);
/// Screens from this width on have room for all keys.
const KEYS_COLUMNS: u16 = 80;
const _: () = assert!(REPORTS_LATE.as_secs() > 2 * WATCH_STATUS_EVERY.as_secs());

/// Draws all of it.
pub(super) fn draw(watch: &Watch, theme: Theme, buffer: &mut Buffer) {
    let mut canvas = Canvas::new(buffer, theme);
    if !watch.has_room() {
        let (columns, lines) = watch.size;
        let (wanted_columns, wanted_lines) = WATCH_SCREEN_MIN;
        canvas.text(0, 0, &format!("This terminal has {columns}x{lines}."), theme.plain());
        canvas.text(0, 1, &format!("watch needs {wanted_columns}x{wanted_lines}."), theme.plain());
        canvas.text(0, 2, "q quits", theme.plain());
        return;
    }
    head(watch, &mut canvas);
    match watch.view {
        View::List => list::draw(watch, &mut canvas),
        View::Chosen => chosen::draw(watch, &mut canvas),
        View::System => system::draw(watch, &mut canvas),
    }
    foot(watch, &mut canvas);
    if watch.shows_help {
        help::draw(&mut canvas);
    }
}

/// Two lines: how current all of it is, and which view this is.
fn head(watch: &Watch, canvas: &mut Canvas<'_>) {
    let theme = canvas.theme;
    let ago = |since: Mono| age_text(watch.now.mono.since(since));
    let feeds = &watch.list.feeds;
    let stale_ones: Vec<String> =
        feeds.stale_ones().map(|number| watch.list.venues.name(number)).collect();
    let (word, style) = match feeds.all() {
        _ if watch.list_away.is_some() => ("NO BROKER".to_owned(), theme.bad()),
        None => ("CONNECTING".to_owned(), theme.warning()),
        Some(FeedStatus::Stale) => (format!("STALE for {}", ago(feeds.since())), theme.bad()),
        Some(FeedStatus::Ended) => ("ENDED".to_owned(), theme.warning()),
        Some(FeedStatus::Current) if !stale_ones.is_empty() => {
            (format!("STALE: {}", stale_ones.join(", ")), theme.warning())
        }
        Some(FeedStatus::Current) => ("LIVE".to_owned(), theme.good()),
    };
    canvas.fill_line(0, theme.bar());
    let x = canvas.text(1, 0, "pregao watch", theme.bar());
    let x = canvas.text(x + 2, 0, &format!(" {word} "), style);
    let count = watch.list.len();
    let plural = if count == 1 { "" } else { "s" };
    let time = TimeNs(watch.now.wall_ns).time_of_day();
    let time = format!("{} UTC ", time.get(..8).unwrap_or(&time));
    canvas.right(0, &time, theme.bar());
    let room = usize::from(canvas.columns().saturating_sub(x + 4)).saturating_sub(time.len());
    let instruments = format!("{count} instrument{plural}");
    let rate = format!("{instruments}, {} updates/s", watch.frames_per_s);
    if let Some(text) = [rate, instruments].into_iter().find(|text| text.len() <= room) {
        canvas.text(x + 2, 0, &text, theme.bar());
    }
    let chosen = watch.chosen.as_ref().map(|it| watch.list.shown(it.instrument).to_owned());
    let chosen = chosen.unwrap_or_else(|| "instrument".to_owned());
    let tabs = [(View::List, "list"), (View::Chosen, chosen.as_str()), (View::System, "system")];
    let mut x = 1;
    for (number, (view, name)) in (1..).zip(tabs) {
        let style = if view == watch.view { theme.selected() } else { theme.plain() };
        // The sign tells the view where there is no colour.
        let mark = if view == watch.view { '▸' } else { ' ' };
        x = canvas.text(x, 1, &format!("{mark}{number} {name} "), style) + 1;
    }
    if watch.view == View::List {
        canvas.right(1, &format!("{} ", list::order(watch)), theme.plain());
    }
}

/// Two lines: what is worst or newest, and the keys.
fn foot(watch: &Watch, canvas: &mut Canvas<'_>) {
    let theme = canvas.theme;
    let line = canvas.lines().saturating_sub(2);
    let overall = watch.system.overall();
    let is_late = watch.system.at.is_some_and(|at| watch.now.mono.since(at) > REPORTS_LATE);
    let (text, style) = if let Some(why) = &watch.list_away {
        (format!("NO BROKER: {why}; trying again"), theme.bad())
    } else if let Some(missing) = watch.missing() {
        (missing, theme.warning())
    } else if let Some(bad) = overall.as_ref().filter(|it| it.condition > Condition::Note) {
        (format!("{}: {}", condition_name(bad.condition), bad.text), theme.bad())
    } else if let Some(notice) = watch.notice() {
        (notice.text.clone(), theme.warning())
    } else if is_late {
        ("the nodes have not been heard for some seconds".to_owned(), theme.warning())
    } else {
        match overall {
            Some(finding) => (format!("OK: {}", finding.text), theme.plain()),
            None => ("asking the nodes how they are".to_owned(), theme.plain()),
        }
    };
    canvas.cut(1, line, canvas.columns().saturating_sub(2), &text, style);
    let keys = match (watch.view, &watch.typed) {
        (_, Some(_)) => "type to filter   Enter keeps it   Esc shows all",
        (View::List, _) if canvas.columns() < KEYS_COLUMNS => {
            "↑↓ Enter choose  / filter  s sort  Tab view  ? help  q quit"
        }
        (View::Chosen, _) if canvas.columns() < KEYS_COLUMNS => {
            "↑↓ next  b bar length  Tab view  Esc list  ? help  q quit"
        }
        (View::List, _) => {
            "↑↓ move  Enter choose  / filter  s sort  r reverse  Tab view  ? help  q quit"
        }
        (View::Chosen, _) => "↑↓ next instrument  b bar length  Tab view  Esc list  ? help  q quit",
        (View::System, _) => "↑↓ scroll  Tab view  Esc list  ? help  q quit",
    };
    canvas.fill_line(line + 1, theme.bar());
    canvas.text(1, line + 1, keys, theme.bar());
}

fn condition_name(condition: Condition) -> &'static str {
    match condition {
        Condition::Ok | Condition::Note => "OK",
        Condition::Ended => "ENDED",
        Condition::Stale => "STALE",
        Condition::Trouble => "TROUBLE",
        Condition::Stopped => "STOPPED",
    }
}

/// A time that has passed, in at most five characters where it is less than a day.
fn age_text(age: Duration) -> String {
    match age.as_secs() {
        0 => format!("{}.{}s", 0, age.subsec_millis() / 100),
        seconds @ 1..10 => format!("{seconds}.{}s", age.subsec_millis() / 100),
        seconds @ 10..600 => format!("{seconds}s"),
        seconds @ 600..36_000 => format!("{}min", seconds / 60),
        seconds @ 36_000..864_000 => format!("{}h", seconds / 3_600),
        seconds => format!("{}d", seconds / 86_400),
    }
}
