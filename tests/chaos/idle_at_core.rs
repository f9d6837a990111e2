//! Ten thousand peers connect to core, greet it and say nothing more, and core may have 8,000 descriptors. It goes on
//! taking in the feed, makes segments, answers whom it knows, and is there for others when they leave.
//!
//! 21,000 such peers ended core once, at its next segment. That many need two client processes and a limit above
//! 20,000; what happened is the same with fewer. `tests/durability/famine.rs` has 400 peers and a core alone, and there the
//! exchange comes back too. Here the whole system goes on beside them.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use pregao::client::QueryClient;
use pregao::wire::{ErrorCode, Frame, Op, Query, Refusal, Role, Session, as_frames};
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use zerocopy::IntoBytes;

use super::crowd::{Crowd, Subscriber, descriptors};
use super::process::PATIENCE;
use super::system::{Place, System};

const IDLE: usize = 10_000;
const DESCRIPTORS_MAX: u64 = 8_000;

/// What a peer was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Welcome,
    NoDescriptor,
    /// It was closed without a word.
    Closed,
}

fn answer_of(stream: &mut TcpStream) -> Answer {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut bytes = [0; 64];
    let mut read = 0;
    while read < bytes.len() {
        match stream.read(&mut bytes[read..]) {
            Ok(0) => return Answer::Closed,
            Ok(count) => read += count,
            Err(error) => {
                assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "no answer: {error}");
                return Answer::Closed;
            }
        }
    }
    let frame = as_frames(&bytes).0[0];
    if let Some(refusal) = frame.view::<Refusal>() {
        assert_eq!(refusal.code.get(), ErrorCode::Limit as u16);
        assert!(refusal.text.starts_with(b"no free descriptor"));
        return Answer::NoDescriptor;
    }
    assert!(frame.view::<Session>().is_some(), "{frame:?}");
    Answer::Welcome
}

fn idle_peer(address: std::net::SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).unwrap();
    let session = Session { role: Role::Querier as u8, ..Session::default() };
    // One that was turned away may have been reset.
    let _ = stream.write_all(Frame::seal(session).as_bytes());
    stream
}

#[test]
fn ten_thousand_idle_at_core_stop_neither_its_feed_nor_its_segments_nor_its_answers() {
    let Some(_descriptors) = descriptors(IDLE as u64 + 1_000) else { return };
    let place = Arc::new(Place::new());
    let system = System::start_at(place, &["--rate", "8000", "--chaos", "off"]);
    system.wait_well();
    let (core, pid) = (system.place.address("core"), system.pid("core"));
    let limit = Rlimit { current: Some(DESCRIPTORS_MAX), maximum: Some(DESCRIPTORS_MAX) };
    prlimit(Pid::from_raw(pid), Resource::Nofile, limit).unwrap();
    let mut crowd = Crowd::new();
    crowd.add(Subscriber::open(system.place.address("broker"), "*", None));
    crowd.read_until("a snapshot", |members| members[0].next_seq.is_some());
    let mut known = QueryClient::open("core", core, PATIENCE).unwrap();

    let mut idle: Vec<TcpStream> = Vec::new();
    while idle.len() < IDLE {
        idle.push(idle_peer(core));
        if idle.len().is_multiple_of(64) {
            crowd.read_now();
        }
    }
    let mut answers = Vec::new();
    for peer in &mut idle {
        answers.push(answer_of(peer));
        crowd.read_now();
    }
    let count = |answer| answers.iter().filter(|it| **it == answer).count();
    let (welcome, told) = (count(Answer::Welcome), count(Answer::NoDescriptor));
    let most = usize::try_from(DESCRIPTORS_MAX).unwrap();
    assert!(welcome > most / 8 * 7 - 100 && welcome < most, "{welcome} were let in");
    assert!(told > 0, "nobody was told why");
    let open = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    assert!(open > welcome, "{open} descriptors, and {welcome} were let in");

    let segments = || {
        let names = fs::read_dir(system.place.data_dir().join("core")).unwrap();
        let is_segment = |name: &std::path::Path| name.extension().is_some_and(|it| it == "log");
        names.filter(|it| is_segment(&it.as_ref().unwrap().path())).count()
    };
    let mut metric = |name: &str| {
        let query = Query { op: Op::Status as u8, ..Query::default() };
        let answer = known.ask(&[query], PATIENCE).unwrap().remove(0);
        answer.metrics.iter().find(|(known, _)| known == name).unwrap().1
    };
    let (segments_before, upstream_before) = (segments(), metric("upstream_seq"));
    let seq = crowd.members[0].next_seq.unwrap();
    crowd.read_until("two segments beside the crowd", |members| {
        segments() >= segments_before + 2 && members[0].next_seq.unwrap() > seq + 16_384
    });
    assert!(metric("upstream_seq") > upstream_before + 16_384, "the feed stands still");
    assert_eq!(metric("held_back"), 0);
    system.wait_report("PETR4", &[], |report| !report["history"].as_array().unwrap().is_empty());
    system.wait_log("core", "cannot accept");

    drop(idle);
    system.retry("room again", || match answer_of(&mut idle_peer(core)) {
        Answer::Welcome => Ok(()),
        other => Err(format!("{other:?}")),
    });
    assert_eq!(system.pids("core").len(), 1, "core has been restarted");
    println!(
        "{IDLE} idle peers, {DESCRIPTORS_MAX} descriptors: {welcome} were let in, {told} were told why not; \
         {} segments were made beside them",
        segments() - segments_before
    );
}
