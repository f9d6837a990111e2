//! What of a screen is the same in every run: the words, and their order. This is the one place that knows what changes
//! from run to run.

/// Behind this much room a line goes on with the text of the one above it.
const CONTINUATION: &str = "    ";

/// Units behind a number, which change with it.
const UNITS: [&str; 6] = ["us", "ms", "s", "min", "h", "d"];

/// The lines of a screen without what changes. Lines that are then equal to the one above are left out, so that the
/// number of rows does not count.
pub(crate) fn normal(screen: &str) -> Vec<String> {
    let mut unfolded: Vec<String> = Vec::new();
    for line in screen.lines() {
        match (line.strip_prefix(CONTINUATION), unfolded.last_mut()) {
            (Some(rest), Some(last)) if is_sentence(rest) => {
                last.push(' ');
                last.push_str(rest.trim());
            }
            // A line that was folded above it has pushed it from the screen in some runs.
            (None, Some(last)) if line.is_empty() && last.starts_with("[ ") => {}
            _ => unfolded.push(line.to_owned()),
        }
    }
    let mut lines: Vec<String> = unfolded.iter().filter_map(|line| normal_line(line)).collect();
    lines.dedup();
    lines
}

/// The folded rest of a text, and no cell of a table.
fn is_sentence(rest: &str) -> bool {
    let word = rest.trim_start();
    let is_about_feed =
        ["stale ", "current ", "gap ", "ended "].iter().any(|it| word.starts_with(it));
    !word.is_empty() && !is_about_feed
}

/// One line; `None` where it stands in some runs only.
fn normal_line(line: &str) -> Option<String> {
    if line.starts_with("$ ") {
        // What was typed is the same to the letter.
        return Some(line.to_owned());
    }
    if line.starts_with('{') {
        return Some("{JSON}".to_owned());
    }
    let mut words = line.split_whitespace();
    let first = words.next().unwrap_or_default();
    if is_time_of_day(first) || line.starts_with("TIME UTC") {
        // How many lines there are, and between which a header stands, depends on the market.
        return Some("FRAMES".to_owned());
    }
    if ["stale", "current", "gap"].contains(&first) || first == "[" {
        // The exchange refuses a part of what it is asked, at random.
        return None;
    }
    if ["core.", "aggregator.", "gateway."].iter().any(|of| first.starts_with(of)) {
        let state = words.next().unwrap_or_default();
        // The requests' breaker lives with refusals.
        let state = if first == "core.requests" { "" } else { state };
        return Some(format!("{first} {state}").trim_end().to_owned());
    }
    let line = line.split("; the breaker core.requests is").next().unwrap_or_default();
    let mut out: Vec<String> = Vec::new();
    for word in line.split_whitespace() {
        let word = normal_word(word);
        let bare = word.trim_end_matches([',', ';', ')']);
        let follows_number = out.last().is_some_and(|last| last.ends_with('0'));
        if follows_number && UNITS.contains(&bare) {
            let mark = &word[bare.len()..];
            out.last_mut().into_iter().for_each(|last| last.push_str(mark));
        } else {
            out.push(word);
        }
    }
    Some(out.join(" "))
}

/// A number, a time, a symbol or a side as what it is; any other word as it stands.
fn normal_word(word: &str) -> String {
    let core = word.trim_matches(['(', ')', ',', ';']);
    let has_digit = core.contains(|letter: char| letter.is_ascii_digit());
    let is_hex = core.chars().all(|it| it.is_ascii_digit() || ('a'..='f').contains(&it));
    let normal = if ["buy", "sell", "-"].contains(&core) {
        "-"
    } else if core.len() == 16 && is_hex {
        "IDENTITY"
    } else if !has_digit {
        return word.to_owned();
    } else if core.len() >= 4
        && core.starts_with(|it: char| it.is_ascii_uppercase())
        && core.chars().all(|it| it.is_ascii_uppercase() || it.is_ascii_digit())
    {
        "SYMBOL"
    } else if core.chars().all(|it| it.is_ascii_digit() || "x.,:%+-TZusminhd".contains(it)) {
        "0"
    } else {
        // A path or a version: its digits are of no account.
        return digits_as_one(word);
    };
    word.replace(core, normal)
}

fn digits_as_one(word: &str) -> String {
    let mut out = String::new();
    for letter in word.chars() {
        match letter.is_ascii_digit() {
            true if out.ends_with('0') => {}
            true => out.push('0'),
            false => out.push(letter),
        }
    }
    out
}

/// As `00:17:33.234`.
fn is_time_of_day(word: &str) -> bool {
    let bytes = word.as_bytes();
    bytes.len() >= 8 && bytes[2] == b':' && bytes[5] == b':' && bytes[0].is_ascii_digit()
}

#[test]
fn numbers_change_and_words_do_not() {
    let screen = |seq: &str, age: &str, more: &str| {
        format!(
            "OK: the market flows; the last event came {age} ago\n\n\
             core       127.0.0.1:8082        ok, {age}, next seq {seq}\n  \
             core.requests      closed         7.9s     -  {more}\n"
        )
    };
    let one = normal(&screen("7241", "1.0 ms", "-"));
    assert_eq!(one, normal(&screen("9", "250 us", "request deadline")));
    assert_eq!(one[0], "OK: the market flows; the last event came 0 ago");
    assert_eq!(one[2], "core 0 ok, 0, next seq 0");
    let other = screen("7241", "1.0 ms", "-").replace("flows", "stands");
    assert_ne!(one, normal(&other));
}

#[test]
fn how_many_frames_there_are_does_not_count_and_that_there_are_some_does() {
    let frame = "00:17:33.234 quote  PETR4             41.12      41.13   8800x2000 snap\n";
    let gap = "             stale   the feed or a link to it is down: not known to be current\n";
    let header = "TIME UTC     KIND   SYMBOL\n";
    let once = normal(&["$ pregao subscribe\n", header, frame].concat());
    assert_eq!(once, normal(&["$ pregao subscribe\n", frame, gap, header, frame].concat()));
    assert_ne!(once, normal(&["$ pregao subscribe\n", gap].concat()));
}

#[test]
fn a_sentence_is_the_same_however_it_is_folded() {
    let wide =
        normal("core       127.0.0.1:8082        takes nothing in: no space left for /d/1.log");
    let folded = "core       127.9.0.1:8082        takes nothing in: no space left\n                                 for /d/2.log";
    assert_eq!(wide, normal(folded));
}

#[test]
fn a_blank_line_at_the_upper_edge_of_a_screen_does_not_count() {
    let screen =
        |left: &str, top: &str| normal(&format!("[ {left} lines have left\n{top}core  ok"));
    assert_eq!(screen("1", "\n"), screen("2", ""));
    assert_ne!(screen("1", "broker  ok\n"), screen("2", ""));
}
