//! `loadgen query` against nodes that know one instrument and nothing of it: what the command makes of them.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test outside the crate: a panic is its verdict"
)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};

use pregao::wire::{
    Definition, EndStatus, Ended, FRAME_BYTES, Flags, Frame, Op, Query, Run, Session, U32,
    as_frames,
};
use zerocopy::IntoBytes;

/// A node that ends every question like this at once. It lives as long as the test.
fn node(status: EndStatus) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            // Ends with its connection.
            std::thread::spawn(move || stream.map(|stream| answer(stream, status)));
        }
    });
    address
}

fn answer(mut stream: TcpStream, status: EndStatus) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut bytes = [0; FRAME_BYTES];
    loop {
        stream.read_exact(&mut bytes)?;
        let ([frame], []) = as_frames(&bytes) else { panic!("one whole frame") };
        let mut said = Vec::new();
        if frame.view::<Session>().is_some() {
            said.push(Frame::seal(Session::default()));
        }
        if let Some(query) = frame.view::<Query>() {
            let id = query.id;
            let is_list = query.op == Op::Instruments as u8;
            if is_list {
                said.push(Frame::seal(Run { id, ..Run::default() }));
                let mut named = Definition::new(U32::new(1).into(), "PETR4".parse().unwrap(), 2);
                named.flags.set(named.flags.get() | Flags::SNAPSHOT);
                said.push(Frame::seal(named));
            }
            let status = if is_list { EndStatus::Complete } else { status } as u8;
            said.push(Frame::seal(Ended { id, status, ..Ended::default() }));
        }
        stream.write_all(said.as_bytes())?;
    }
}

/// The exit code, and each line that was printed.
fn query(aggregator: EndStatus, flags: &[&str]) -> (Option<i32>, Vec<serde_json::Value>) {
    let addresses = [aggregator, EndStatus::Complete, EndStatus::Failed].map(node);
    let [aggregator, core, shard] = addresses.map(|address| address.to_string());
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    command.args(["query", "--addr", &aggregator, "--core", &core, "--shards", &shard]);
    command.args(["--clients", "3", "--rate", "200", "--warm-up", "20ms", "--duration", "300ms"]);
    if !flags.contains(&"--mix") {
        command.args(["--mix", "last=1"]);
    }
    command.args(["--format", "json"]).args(flags).stdin(Stdio::null());
    let output = command.output().unwrap();
    eprintln!("{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    (output.status.code(), text.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

/// A gateway that answers every request alike, in two pieces.
fn gateway(status: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            std::thread::spawn(move || -> std::io::Result<()> {
                let (mut stream, mut held, mut bytes) = (stream?, Vec::new(), [0; 1_024]);
                stream.set_nodelay(true)?;
                loop {
                    let count = stream.read(&mut bytes)?;
                    if count == 0 {
                        return Ok(());
                    }
                    held.extend_from_slice(&bytes[..count]);
                    while let Some(end) = held.windows(4).position(|it| it == b"\r\n\r\n") {
                        let request = String::from_utf8(held.drain(..end + 4).collect()).unwrap();
                        assert!(request.starts_with("GET /v1/bars/PETR4?interval=1m&last=60 "));
                        stream.write_all(status.as_bytes())?;
                        stream.write_all(b"\r\nContent-Length: 2\r\n\r\n{}")?;
                    }
                }
            });
        }
    });
    address
}

#[test]
fn questions_are_asked_over_http_too() {
    for (status, code) in [("HTTP/1.1 200 OK", 0), ("HTTP/1.1 503 Busy", 3)] {
        let address = gateway(status).to_string();
        let flags = ["--over", "http", "--gateway", &address, "--mix", "bars=1"];
        let (exit, lines) = query(EndStatus::Complete, &flags);
        assert_eq!((ways(&lines), lines.len()), (vec!["http"], 1));
        // A slow machine may say that its load was late.
        assert!(exit == Some(code) || exit == Some(3), "{exit:?}: {lines:?}");
        let right = if code == 0 { &lines[0]["complete"] } else { &lines[0]["failed"] };
        assert_eq!((right, &lines[0]["lost"]), (&60.into(), &0.into()));
    }
    let (exit, lines) = query(EndStatus::Complete, &["--over", "http"]);
    assert_eq!((exit, lines.len()), (Some(4), 0), "the last trades are no path of HTTP");
}

fn ways(lines: &[serde_json::Value]) -> Vec<&str> {
    lines.iter().filter_map(|line| line["way"].as_str()).collect()
}

#[test]
fn hops_are_timed_idle_and_when_asked_for_beside_the_load() {
    let (code, lines) = query(EndStatus::Complete, &["--hops"]);
    // A slow machine may say that its load was late.
    assert!(matches!(code, Some(0 | 3)), "{code:?}: {lines:?}");
    assert_eq!(ways(&lines), ["idle", "idle", "under load", "aggregator"]);
    for hops in &lines[..3] {
        assert_eq!(hops["incomplete"], 0, "that the shard is not the owner is no fault: {hops}");
        assert!(hops["rounds"].as_u64() > Some(0), "{hops}");
        assert!(hops["answer_p50_us"].as_f64() > Some(0.0), "{hops}");
    }
    assert_eq!((&lines[3]["complete"], &lines[3]["failed"]), (&60.into(), &0.into()));
}

#[test]
fn answers_with_holes_are_no_figures() {
    let (code, lines) = query(EndStatus::Partial, &[]);
    assert_eq!((code, ways(&lines)), (Some(3), vec!["idle", "idle", "aggregator"]));
    for hops in &lines[..2] {
        assert_eq!(hops["incomplete"], hops["rounds"], "one of the two: {hops}");
    }
    assert_eq!((&lines[2]["partial"], &lines[2]["valid"]), (&60.into(), &false.into()));
}
