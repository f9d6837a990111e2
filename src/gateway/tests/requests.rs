//! HTTP: requests in pieces, and who is told why there is no answer.

use super::*;

#[test]
fn a_part_of_a_request_behind_another_one_is_not_forgotten() {
    let mut bench = Bench::new(64, 8);
    let client = bench.accept();
    let both = get("/healthz") + &get("/healthz");
    let cut = both.len() - 20;
    bench.give(client, &both.as_bytes()[..cut]);
    bench.turns(2);
    assert!(bench.gateway.wants_bytes(client), "the rest has to be read");
    bench.give(client, &both.as_bytes()[cut..]);
    bench.turns(2);
    let got = bench.text(client);
    assert_eq!(got.matches("HTTP/1.1 200 ").count(), 2, "{got}");
}

#[test]
fn a_message_ahead_of_the_answer_to_the_upgrade_is_told() {
    let mut bench = Bench::new(64, 8);
    let client = bench.accept();
    let mut bytes = (get("/healthz") + &upgrade_head("pregao.json.v1")).into_bytes();
    // A part of a header: what it belongs to cannot be read yet.
    bytes.extend_from_slice(&masked(r#"{"subscribe":1}"#)[..3]);
    bench.give(client, &bytes);
    bench.turns(3);
    let got = bench.take(client);
    let at = got.windows(4).rposition(|four| four == b"\r\n\r\n").unwrap() + 4;
    let messages = messages(&got[at..]);
    assert!(matches!(messages.as_slice(), [(8, why)] if why[..2] == [0x03, 0xEA]), "{messages:?}");
}

#[test]
fn a_peer_without_a_descriptor_is_told_so() {
    let mut bench = Bench::new(64, 8);
    let client = bench.open(Origin::Surplus(ListenerId(0)));
    bench.turn();
    let got = bench.text(client);
    assert!(got.starts_with("HTTP/1.1 503 ") && got.contains("descriptor"), "{got:?}");
    assert!(bench.is_closed(client));
}

#[test]
fn an_event_stream_that_is_refused_says_why() {
    let mut bench = Bench::new(64, 1);
    bench.live(10);
    let first = bench.browser("pregao.json.v1");
    bench.command(first, r#"{"subscribe":1}"#);
    bench.turn();
    let client = bench.accept();
    bench.give(client, get("/v1/events").as_bytes());
    bench.turns(3);
    let got = bench.text(client);
    assert!(got.contains("event: error\ndata: {\"kind\":\"error\""), "{got}");
    assert!(bench.is_closed(client));
}

#[test]
fn the_head_of_an_event_stream_is_no_subscription() {
    let mut bench = Bench::new(64, 8);
    bench.live(10);
    let client = bench.accept();
    bench.give(client, get("/v1/events").replace("GET", "HEAD").as_bytes());
    bench.turns(2);
    bench.give(client, get("/healthz").as_bytes());
    bench.turns(2);
    let got = bench.text(client);
    assert_eq!(got.matches("HTTP/1.1 200 ").count(), 2, "{got}");
}

#[test]
fn its_status_is_of_now_and_made_for_who_asks() {
    use crate::wire::{Metric, Op, Query, Role, unpadded};
    let mut bench = Bench::new(64, 8);
    bench.live(10);
    let asker = bench.accept();
    let session = Session { role: Role::Querier as u8, ..Session::default() };
    bench.give(asker, Frame::seal(session).as_bytes());
    bench.turn();
    bench.take(asker);
    bench.browser("pregao.json.v1");
    let query = Query { id: U32::new(1), op: Op::Status as u8, ..Query::default() };
    bench.give(asker, Frame::seal(query).as_bytes());
    bench.turn();
    let frames = frames_of(&[(2, bench.take(asker))]);
    let browsers = frames.iter().filter_map(Frame::view::<Metric>);
    let browsers = browsers.filter(|metric| unpadded(&metric.name) == "browsers");
    assert_eq!(browsers.map(|metric| metric.value.get()).collect::<Vec<_>>(), [1]);
}

#[test]
fn a_format_is_taken_by_its_name_and_its_type_as_the_document_has_it() {
    use crate::gateway::openapi::{Id, OPERATIONS};
    let accept = |path: &str, kind: &str| {
        get(path).replace("\r\n\r\n", &format!("\r\nAccept: {kind}\r\n\r\n"))
    };
    let mut bench = Bench::new(64, 8);
    bench.live(10);
    let mut ask = |text: String| {
        let client = bench.accept();
        bench.give(client, text.as_bytes());
        bench.turns(2);
        let (head, body) = bench.response(client);
        (head, String::from_utf8_lossy(&body).into_owned())
    };
    let instruments = OPERATIONS.iter().find(|it| it.id == Id::Instruments).unwrap();
    let all = [
        ("json", "application/json"),
        ("ndjson", "application/x-ndjson"),
        ("csv", "text/csv"),
        ("parquet", "application/vnd.apache.parquet"),
    ];
    for (name, kind) in all {
        let says = instruments.types.contains(&kind);
        let named = format!("/v1/instruments?format={name}");
        for (text, status) in [(get(&named), 400), (accept("/v1/instruments", kind), 406)] {
            let (head, body) = ask(text);
            let status = if says { 200 } else { status };
            assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{name}: {head}{body}");
            match says {
                true => assert!(head.contains(&format!("Content-Type: {kind}")), "{head}"),
                false => assert!(body.contains("cargo build --release --features parquet")),
            }
        }
        assert!(says || (name, cfg!(feature = "parquet")) == ("parquet", false), "{name}");
    }
    // What is no table is JSON alone, in any build.
    let (head, body) = ask(get("/v1/figures/average?format=parquet"));
    assert!(head.starts_with("HTTP/1.1 400 ") && !body.contains("cargo"), "{head}{body}");
}
