//! The house rules, enforced: who may use whom, and what machines may not touch.
//!
//! The source is read as text: comments and literals are blanked, the rest is cut into tokens, and
//! every path that begins with `crate`, `super`, `self` or the name of a crate is made absolute, groups
//! in braces included. What this is *not*: a compiler. A path that begins with a name brought in by
//! an earlier `use` is not followed; the `use` itself is seen.
//!
//! A guard that cannot fail is a defect, so each rule is also shown a small text that breaks it.

mod once;
mod page;
mod text;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use text::{blanked, paths, tokens};

/// Top-level modules from the bottom up: each may use only those before it.
///
/// Invariant: there are no cycles. `wire` stands below `limits` because limits are multiples of the
/// frame; `storage` and `reactor` are the two edges to the operating system and do not know each other.
const ORDER: [&str; 33] = [
    "planted",
    "wire",
    "limits",
    "time",
    "dial",
    "duration",
    "random",
    "histogram",
    "http",
    "feed",
    "market",
    "playback",
    "question",
    "subscription",
    "producer",
    "log",
    "history",
    "breaker",
    "gather",
    "node",
    "turn",
    "reactor",
    "storage",
    "client",
    "config",
    "supervisor",
    "parse",
    "render",
    "report",
    "metrics",
    "gateway",
    "cli",
    "manual",
];

/// Modules of `node` that nodes share; all others are nodes, and no node uses another.
const SHARED_BY_NODES: [&str; 6] =
    ["breakers", "codec", "freshness", "quotes", "session", "uplink"];

/// Files that touch the operating system. Everything else is a machine.
const SHELLS: [&str; 6] = ["main.rs", "reactor/", "storage/", "supervisor/", "cli/", "client/"];

/// Who knows mio: the reactor, and the client, which a caller puts into a mio loop of its own.
const KNOW_MIO: [&str; 2] = ["reactor/", "client/"];

/// Who prints: the program, and the examples, which are programs.
const PRINTERS: [&str; 3] = ["main.rs", "cli/", "client/examples/"];

/// What a machine may not name, as beginnings of paths.
const BANNED_PATHS: [&str; 15] = [
    "std::fs",
    "std::thread",
    "std::process",
    "std::env",
    "std::os",
    "std::sync::mpsc",
    "std::time::Instant",
    "std::time::SystemTime",
    "std::collections::HashMap",
    "std::collections::HashSet",
    "crossbeam",
    "rustix",
    "signal_hook",
    "socket2",
    "tempfile",
];

/// Modules of `std` that machines may use in part only: they must name the part.
const NAMED_IN_FULL: [&str; 5] = ["std", "std::net", "std::time", "std::collections", "std::sync"];

/// The parts of `std::net` that are plain values.
const ADDRESSES: [&str; 6] =
    ["AddrParseError", "IpAddr", "Ipv4Addr", "Ipv6Addr", "SocketAddr", "SocketAddrV4"];

/// The one file that looks up the names of hosts.
const RESOLVER: &str = "config/host.rs";

/// The files of machines with `unsafe`: one part of the ring is read while another is written, and a frame's checksum is
/// made by instructions that not every processor has.
const WITH_UNSAFE: [&str; 2] = ["feed/ring.rs", "wire/crc.rs"];

/// Lines of a file, tests included.
const FILE_LINES_MAX: usize = 600;

#[test]
fn modules_use_only_what_stands_below_them() {
    check_all(direction);
}

#[test]
fn no_node_knows_a_sibling() {
    let nodes = nodes();
    assert!(nodes.contains("broker") && !nodes.contains("session"), "{nodes:?}");
    check_all(|file, text| siblings(file, text, &nodes));
}

#[test]
fn machines_touch_nothing_outside() {
    check_all(bans);
}

#[test]
fn files_stay_short() {
    check_all(|_, text| length(text));
}

#[test]
fn every_top_level_module_has_its_place_in_the_order_and_in_the_map() {
    let found = top_level();
    let named: BTreeSet<String> = ORDER.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(found.iter().map(|(name, _)| name.clone()).collect::<BTreeSet<_>>(), named);
    let file_of =
        |name: &&str| found.iter().find(|(it, _)| it == name).map(|(_, file)| file.clone());
    let in_order: Vec<String> = ORDER.iter().filter_map(file_of).collect();
    assert_eq!(page::map_rows(&page::text()), in_order, "the code map of src/ARCHITECTURE.md");
}

#[test]
fn every_file_of_the_gateways_page_is_served() {
    let folder = source_root().join("gateway/page");
    let table = std::fs::read_to_string(source_root().join("gateway/page.rs")).expect("the table");
    let files = std::fs::read_dir(folder).expect("the page");
    let names = files.map(|file| file.expect("a file").file_name().to_string_lossy().into_owned());
    let missing: Vec<String> = names
        .filter(|name| name != "README.md" && !table.contains(&format!("\"{name}\"")))
        .collect();
    assert_eq!(missing, Vec::<String>::new());
}

// ---- The rules. Each says what is wrong in one file.

fn direction(file: &str, text: &str) -> Vec<String> {
    let module = module_of(file);
    let Some(own) = module.first().and_then(|name| place(name)) else { return Vec::new() };
    let used = paths(&module, text);
    let above = used.iter().filter_map(|path| {
        let target = path.strip_prefix("crate::")?.split("::").next()?;
        match place(target) {
            Some(there) if there > own => Some(format!("{path}: {target} stands above")),
            _ => None,
        }
    });
    above.collect()
}

fn siblings(file: &str, text: &str, nodes: &BTreeSet<String>) -> Vec<String> {
    let module = module_of(file);
    let [top, own, ..] = module.as_slice() else { return Vec::new() };
    if top != "node" {
        return Vec::new();
    }
    let used = paths(&module, text);
    let wrong = used.iter().filter(|path| {
        let target = path.strip_prefix("crate::node::").and_then(|rest| rest.split("::").next());
        target.is_some_and(|target| target != own && nodes.contains(target))
    });
    wrong.map(|path| format!("{path}: nodes do not know each other")).collect()
}

fn bans(file: &str, text: &str) -> Vec<String> {
    let is_shell = SHELLS.iter().any(|shell| file == *shell || is_below(file, shell));
    let mut wrong = Vec::new();
    for path in paths(&module_of(file), text) {
        let is = |banned: &str| path == banned || path.starts_with(&format!("{banned}::"));
        if is("mio") && !KNOW_MIO.iter().any(|place| file == *place || is_below(file, place)) {
            wrong.push(format!("{path}: only reactor/ and client/ know mio"));
        }
        if is("memmap2") && !is_below(file, "storage/") {
            wrong.push(format!("{path}: only storage/ maps files"));
        }
        let is_clock = file == "time.rs" && path.starts_with("std::time::");
        let is_look_up = file == RESOLVER && path == "std::net::ToSocketAddrs";
        if is_shell || is_clock || is_look_up {
            continue;
        }
        let is_socket = path
            .strip_prefix("std::net::")
            .is_some_and(|rest| !ADDRESSES.iter().any(|&a| rest.split("::").next() == Some(a)));
        let whole = path.strip_suffix("::*").unwrap_or(&path);
        if BANNED_PATHS.iter().any(|banned| is(banned))
            || is_socket
            || NAMED_IN_FULL.contains(&whole)
        {
            wrong.push(format!("{path}: not in a machine"));
        }
    }
    let tokens = tokens(&blanked(text));
    for (index, token) in tokens.iter().enumerate() {
        let next = tokens.get(index + 1).map_or("", String::as_str);
        let may_print = PRINTERS.iter().any(|it| file == *it || is_below(file, it));
        match token.as_str() {
            "unsafe" if !is_below(file, "storage/") && !WITH_UNSAFE.contains(&file) => {
                wrong.push(format!("unsafe: only in storage/ and {}", WITH_UNSAFE.join(", ")));
            }
            "print" | "println" | "eprint" | "eprintln" | "dbg" if next == "!" && !may_print => {
                wrong.push(format!("{token}!: only main.rs, cli/ and examples print"));
            }
            "HashMap" | "HashSet" | "dyn" | "async" | "await" if !is_shell => {
                wrong.push(format!("{token}: not in a machine"));
            }
            _ => {}
        }
    }
    wrong
}

fn length(text: &str) -> Vec<String> {
    let lines = text.lines().count();
    if lines <= FILE_LINES_MAX {
        return Vec::new();
    }
    vec![format!("{lines} lines; the bound is {FILE_LINES_MAX}: is it two subjects?")]
}

// ---- The source tree.

fn source_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// Every `.rs` file under `src/`, by its path from there with `/`, and its text.
fn sources() -> Vec<(String, String)> {
    let root = source_root();
    let mut folders = vec![root.clone()];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder of the source") {
            let path = entry.expect("an entry of the source").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(&root).expect("it is under the root");
                let name = name.to_str().expect("file names are ASCII").replace('\\', "/");
                files.push((name, std::fs::read_to_string(&path).expect("source is UTF-8")));
            }
        }
    }
    files.sort();
    files
}

fn check_all(rule: impl Fn(&str, &str) -> Vec<String>) {
    let files = sources();
    assert!(files.len() > 50, "the source was not found");
    let wrong: Vec<String> = files
        .iter()
        .flat_map(|(file, text)| rule(file, text).into_iter().map(move |w| format!("{file}: {w}")))
        .collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// Top-level modules: name, and file or folder as the map names it.
fn top_level() -> Vec<(String, String)> {
    let files = sources();
    let names: BTreeSet<(String, String)> = files
        .iter()
        .filter(|(file, _)| file != "main.rs" && file != "lib.rs")
        .map(|(file, _)| match file.split_once('/') {
            Some((folder, _)) => (folder.to_owned(), format!("{folder}/")),
            None => (file.trim_end_matches(".rs").to_owned(), file.clone()),
        })
        .collect();
    names.into_iter().collect()
}

fn nodes() -> BTreeSet<String> {
    let files = sources();
    let inside = files.iter().filter_map(|(file, _)| file.strip_prefix("node/"));
    let names = inside.filter_map(|rest| rest.split(['/', '.']).next());
    names
        .filter(|name| *name != "mod" && !SHARED_BY_NODES.contains(name))
        .map(str::to_owned)
        .collect()
}

fn place(module: &str) -> Option<usize> {
    ORDER.iter().position(|name| *name == module)
}

fn is_below(file: &str, folder: &str) -> bool {
    folder.ends_with('/') && file.starts_with(folder)
}

/// The module that a file is, from the crate's root.
fn module_of(file: &str) -> Vec<String> {
    let path = file.trim_end_matches(".rs").trim_end_matches("/mod");
    path.split('/').filter(|name| !matches!(*name, "lib" | "main")).map(str::to_owned).collect()
}

// ---- Reading Rust just well enough.

// ---- The checker itself, shown texts that break each rule.

#[test]
fn an_upward_use_is_seen_in_every_form() {
    let cases = [
        ("feed/ring.rs", "use crate::node::ConnId;"),
        ("feed/ring.rs", "use crate::{limits, node::{self, Node}};"),
        ("feed/ring.rs", "fn f() -> crate::reactor::Reactor { g() }"),
        ("feed/mod.rs", "use super::node::Node;"),
        ("feed/ring.rs", "mod tests { use super::super::super::node::Node; }"),
        ("wire/frame.rs", "use crate::limits::OUTBOX_BYTES_MAX;"),
        ("config/mod.rs", "pub fn f() { crate::cli::execute() }"),
        ("subscription/follower/mod.rs", "use crate::node::ConnId;"),
        ("subscription/subscriber/mod.rs", "use crate::client::Connection;"),
    ];
    for (file, text) in cases {
        assert!(!direction(file, text).is_empty(), "{file}: {text}");
    }
}

#[test]
fn a_downward_use_and_a_mere_mention_are_fine() {
    let fine = [
        ("node/uplink.rs", "use crate::{limits, wire::{Frame, U64}}; use super::status::Status;"),
        (
            "feed/ring.rs",
            "//! See [`crate::node`].\n/* use crate::node; /* nested */ */ use crate::wire::Frame;",
        ),
        (
            "feed/ring.rs",
            r##"const A: &str = r#"crate::node"#; const B: &str = "\"crate::cli::x";"##,
        ),
        ("feed/ring.rs", "mod tests { use super::*; } use super::topic::Pattern; use log::info;"),
        (
            "log/read.rs",
            "fn f<'a>(x: &'a str) -> char { '\"' } // crate::cli::f\nuse crate::time::Now;",
        ),
        ("main.rs", "fn main() { pregao::cli::execute(); }"),
    ];
    for (file, text) in fine {
        assert_eq!(direction(file, text), Vec::<String>::new(), "{file}: {text}");
    }
}

#[test]
fn a_node_that_uses_a_sibling_is_seen() {
    let nodes: BTreeSet<String> = ["broker", "exchange", "sequencer"].map(str::to_owned).into();
    let bad = [
        ("node/broker/mod.rs", "use super::sequencer::Sequencer;"),
        ("node/broker/source.rs", "use crate::node::{ConnId, sequencer::MARKET_SOURCE};"),
        ("node/broker/tests.rs", "use super::super::sequencer;"),
        ("node/uplink.rs", "use super::broker::Broker;"),
    ];
    for (file, text) in bad {
        assert_eq!(siblings(file, text, &nodes).len(), 1, "{file}: {text}");
    }
    let fine = [
        // Its own submodule of the same name as a node.
        ("node/sequencer/mod.rs", "use self::exchange::Exchange; mod exchange;"),
        (
            "node/sequencer/followers.rs",
            "use super::exchange::ExchangeAction; use crate::node::session::Connections;",
        ),
        ("node/mod.rs", "pub mod broker; pub use breakers::f;"),
        ("cli/run.rs", "use crate::node::{broker::Broker, sequencer::Sequencer};"),
    ];
    for (file, text) in fine {
        assert_eq!(siblings(file, text, &nodes), Vec::<String>::new(), "{file}: {text}");
    }
}

#[test]
fn a_machine_that_touches_the_world_is_seen() {
    let bad = [
        "use std::net::TcpStream;",
        "use std::net::{SocketAddr, UdpSocket};",
        "use std::net;",
        "use std::{fmt, fs::File};",
        "fn f() { std::thread::spawn(g); }",
        "use std::time::{Duration, Instant};",
        "use std::time::*;",
        "fn f() -> u64 { std::time::SystemTime::now() }",
        "use std::collections::HashMap;",
        "fn f(x: Box<dyn Node>) {}",
        "async fn f() {}",
        "use mio::Poll;",
        "use memmap2::MmapRaw;",
        "fn f() { unsafe { g() } }",
        "unsafe impl Send for A {}",
        "fn f() { println!(\"{}\", 1); }",
        "use crossbeam::channel;",
    ];
    for text in bad {
        assert!(!bans("feed/topic.rs", text).is_empty(), "{text}");
    }
    let elsewhere = [
        ("cli/run.rs", "use mio::Poll;"),
        ("reactor/mod.rs", "fn f() { unsafe { g() } }"),
        ("feed/ring/tests.rs", "fn f() { unsafe { g() } }"),
        ("feed/ring.rs", "fn f() { std::thread::spawn(g); }"),
        ("supervisor/mod.rs", "fn f() { eprintln!(); }"),
        ("client/query_client.rs", "fn f() { println!(); }"),
        ("time.rs", "use std::fs::File;"),
        ("subscription/follower/mod.rs", "use std::net::TcpStream;"),
        ("subscription/subscriber/mod.rs", "use mio::Poll;"),
    ];
    for (file, text) in elsewhere {
        assert!(!bans(file, text).is_empty(), "{file}: {text}");
    }
}

#[test]
fn what_is_allowed_does_not_trip_the_bans() {
    let fine = [
        (
            "feed/topic.rs",
            "use std::{fmt, net::SocketAddr, time::Duration}; // println! unsafe dyn",
        ),
        ("feed/topic.rs", "const A: &str = \"unsafe { HashMap }\"; #![allow(unsafe_code)]"),
        ("feed/ring.rs", "unsafe impl Sync for Slots {}"),
        ("feed/ring.rs", "fn print(dynamic: u8) { print(dynamic) }"),
        ("reactor/mod.rs", "use mio::{Events, Poll}; use std::net::TcpStream; use std::thread;"),
        ("storage/mapping.rs", "use memmap2::MmapRaw; fn f() { unsafe { g() } }"),
        ("time.rs", "use std::time::{Duration, Instant, SystemTime};"),
        ("cli/output.rs", "fn f() { println!(); }"),
        ("client/examples/ask.rs", "fn f() { println!(); }"),
        ("client/connection.rs", "use std::net::TcpStream;"),
        ("client/nonblocking.rs", "use mio::net::TcpStream;"),
    ];
    for (file, text) in fine {
        assert_eq!(bans(file, text), Vec::<String>::new(), "{file}: {text}");
    }
}

#[test]
fn long_files_are_seen() {
    assert_eq!(length(&"\n".repeat(FILE_LINES_MAX)).len(), 0);
    assert_eq!(length(&"\n".repeat(FILE_LINES_MAX + 1)).len(), 1);
}
