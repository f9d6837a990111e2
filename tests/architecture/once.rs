//! What exists once: work that every node needs is done in one place, and stays there. What it is not: a
//! search for copies.

use crate::{check_all, text::blanked};

/// Text of the source, and the only files in which it may stand.
const ONLY_IN: [(&str, &[&str]); 5] = [
    // A role is read out of a SESSION, and decided on, at one door.
    ("Role::from_number", &["wire/control.rs", "node/session/admission.rs"]),
    ("Role::Feeder =>", &["node/session/admission.rs"]),
    // A question is put together out of its frames by the session layer.
    (".take_more(", &["question.rs", "node/session/mod.rs"]),
    // How far a connection that we dial is: the machine of those who dial, and the socket itself.
    ("Dialing {", &["dial.rs", "reactor/"]),
    // The order of a turn.
    (".handle_timers(now);\n        node.commit(now);", &["turn.rs"]),
];

/// What stands where it may not.
fn misplaced(file: &str, text: &str) -> Vec<String> {
    let text = blanked(text);
    let is_here = |&&(part, only): &&(&str, &[&str])| {
        text.contains(part) && !only.iter().any(|allowed| file.starts_with(allowed))
    };
    let found = ONLY_IN.iter().filter(is_here);
    found.map(|(part, only)| format!("`{part}` stands in {only:?} only")).collect()
}

#[test]
fn what_every_node_needs_is_done_once() {
    check_all(|file, text| if file.contains("tests") { Vec::new() } else { misplaced(file, text) });
}

#[test]
fn a_second_place_is_seen() {
    let door = "match Role::from_number(session.role) { Some(Role::Feeder) => {} }";
    assert_eq!(misplaced("node/shard/mod.rs", door).len(), 1);
    assert!(misplaced("node/session/admission.rs", door).is_empty());
    let dialer = "enum State { Dialing { since: Mono } }";
    assert_eq!(misplaced("client/connection.rs", dialer).len(), 1);
    let turn = "        node.handle_timers(now);\n        node.commit(now);";
    assert_eq!(misplaced("reactor/mod.rs", turn).len(), 1);
    assert!(misplaced("turn.rs", turn).is_empty());
}
