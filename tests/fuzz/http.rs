//! Requests of HTTP, almost right: no bytes panic, what is read is what it says, and nothing depends on how the
//! bytes were cut.

use std::time::Duration;

use pregao::http::{
    AllowedHosts, Format, HttpConnection, Request, Response, accepts_gzip, check_host,
    is_unchanged, negotiate, upgrade,
};
use pregao::limits::{
    HTTP_BODY_BYTES_MAX, HTTP_HEAD_BYTES_MAX, HTTP_PARAMETERS_MAX, HTTP_TARGET_BYTES_MAX,
};
use pregao::random::Random;
use pregao::time::Mono;

use crate::mutate::{below, cases, corpus, mutate, pick};

/// What one connection does with these bytes, in pieces of these lengths: its requests, and all that it sends.
fn conversation(bytes: &[u8], mut piece_bytes: impl FnMut() -> usize) -> (Vec<Request>, Vec<u8>) {
    let now = Mono(1);
    let mut http = HttpConnection::new(now);
    let (mut requests, mut sent, mut offered) = (Vec::new(), Vec::new(), Vec::new());
    let mut rest = bytes;
    while !rest.is_empty() {
        let (piece, behind) = rest.split_at(piece_bytes().clamp(1, rest.len()));
        rest = behind;
        offered.extend_from_slice(piece);
        while http.wants_bytes() && !offered.is_empty() {
            let (consumed, request) = http.handle_bytes(now, &offered);
            offered.drain(..consumed);
            let is_stuck = consumed == 0 && request.is_none();
            if let Some(request) = request {
                assert!(!http.wants_bytes());
                http.respond(now, Response::json(200, "{}".to_owned()));
                requests.push(request);
            }
            sent.extend_from_slice(http.outgoing());
            http.handle_sent(now, http.outgoing().len());
            assert!(http.outgoing().is_empty());
            if is_stuck {
                break;
            }
        }
        let is_whole = offered.len() >= HTTP_HEAD_BYTES_MAX;
        assert!(!http.wants_bytes() || !is_whole, "{} bytes wait", offered.len());
    }
    (requests, sent)
}

/// What holds of every request that comes out, and that nothing which reads it panics.
fn examine(request: &Request) {
    let path = request.path();
    assert!(path.starts_with('/') && !path.chars().any(char::is_control), "{path:?}");
    assert!(!path.split('/').any(|segment| matches!(segment, "." | "..")), "{path:?}");
    assert!(path.len() <= HTTP_TARGET_BYTES_MAX && request.body().len() <= HTTP_BODY_BYTES_MAX);
    assert!(request.query().len() <= HTTP_PARAMETERS_MAX);
    assert!(request.is_http_1_0() || request.header("HOST").is_some());
    for format in [&[Format::Json][..], &[Format::Csv, Format::Parquet, Format::Ndjson], &[]] {
        if let Ok(found) = negotiate(request, format) {
            assert!(format.contains(&found));
        }
    }
    let _ = (accepts_gzip(request), is_unchanged(request, "\"a\""));
    let _ = check_host(request, &AllowedHosts::loopback(8090));
    if let Ok(upgraded) = upgrade(request, &["a", "b"]) {
        assert!(upgraded.response.ends_with(b"\r\n\r\n"));
    }
}

fn bytes(random: &mut Random, files: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..=below(random, 3) {
        let mut request = pick(random, files).clone();
        if random.below(3) > 0 {
            mutate(random, &mut request);
        }
        bytes.extend(request);
    }
    bytes
}

#[test]
fn every_file_of_the_corpus_is_a_request() {
    for bytes in corpus("http") {
        let (requests, sent) = conversation(&bytes, || usize::MAX);
        assert!(!requests.is_empty(), "{}", String::from_utf8_lossy(&sent));
    }
}

#[test]
fn no_request_panics_and_no_cut_changes_what_is_read() {
    let files = corpus("http");
    cases(3_000, |random| {
        let bytes = bytes(random, &files);
        let whole = conversation(&bytes, || usize::MAX);
        whole.0.iter().for_each(examine);
        let largest = *pick(random, &[1, 2, 10, 100]);
        let in_pieces = conversation(&bytes, || 1 + below(random, largest));
        assert_eq!(in_pieces, whole, "{}", String::from_utf8_lossy(&bytes));
    });
}

/// Any calls in any order, as an owner with a fault would make them, and time that passes.
#[test]
fn no_order_of_calls_panics() {
    let files = corpus("http");
    cases(3_000, |random| {
        let mut now = Mono(1);
        let mut http = HttpConnection::new(now);
        let mut offered = Vec::new();
        for _ in 0..30 {
            now = now + Duration::from_millis(random.below(20_000));
            match random.below(9) {
                0..=2 => {
                    offered.extend(bytes(random, &files));
                    let (consumed, request) = http.handle_bytes(now, &offered);
                    offered.drain(..consumed);
                    assert!(request.is_none() || !http.wants_bytes());
                }
                3 => http.respond(now, Response::text(200, "x".repeat(below(random, 40_000)))),
                4 => http.begin_stream(now, 200, "text/csv", &[("A", "b\r\nc")]),
                5 => http.push(&[b'x'; 50]),
                6 => http.end_stream(now),
                7 => http.handle_sent(now, below(random, 30_000)),
                _ if random.below(8) == 0 => http.abort(),
                _ => {
                    let is_due = http.deadline().is_some_and(|deadline| deadline <= now);
                    assert!(!http.handle_timeout(now) || is_due);
                    assert!(http.deadline().is_none_or(|deadline| deadline > now) || is_due);
                }
            }
            assert!(http.outgoing().is_empty() == (http.outgoing_bytes() == 0));
            offered.truncate(HTTP_HEAD_BYTES_MAX);
        }
    });
}
