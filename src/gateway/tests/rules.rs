//! What is promised to every browser: defaults, bounds in time, and who may break things.

use super::*;

/// The code of the message that closes a WebSocket, if it has come.
fn close_code(messages: &[(u8, Vec<u8>)]) -> Option<u16> {
    let (_, payload) = messages.iter().find(|(opcode, _)| *opcode == 8)?;
    Some(u16::from_be_bytes([payload[0], payload[1]]))
}

#[test]
fn lines_are_conflated_and_frames_are_not_unless_said_otherwise() {
    let mut bench = Bench::new(64, 8);
    bench.live(10);
    for (protocol, mode) in [("pregao.json.v1", "conflate=250ms"), ("pregao.frames.v1", "lossless")]
    {
        let browser = bench.browser(protocol);
        bench.command(browser, r#"{"subscribe":1}"#);
        bench.turns(3);
        let lines = lines_of(&messages(&bench.take(browser)));
        assert!(lines[0].contains(&format!(r#""mode":"{mode}""#)), "{lines:?}");
    }
}

#[test]
fn a_line_is_made_once_for_all_who_get_it() {
    let mut bench = Bench::new(64, 8);
    let broker = bench.live(10);
    let browsers: Vec<ConnId> = (0..5).map(|_| bench.browser("pregao.json.v1")).collect();
    for browser in &browsers {
        bench.command(*browser, r#"{"subscribe":1,"mode":"lossless"}"#);
    }
    bench.turns(3);
    let made = bench.gateway.lines.made;
    bench.give_frames(broker, &trades(10, 30));
    bench.turns(3);
    for browser in browsers {
        let lines = lines_of(&messages(&bench.take(browser)));
        assert_eq!(lines.iter().filter(|line| line.contains(r#""kind":"trade""#)).count(), 20);
    }
    assert_eq!(bench.gateway.lines.made - made, 20);
}

#[test]
fn who_takes_nothing_of_what_is_live_is_closed_with_a_reason() {
    let mut bench = Bench::new(64, 8);
    let broker = bench.live(10);
    let browser = bench.browser("pregao.frames.v1");
    bench.command(browser, r#"{"subscribe":1}"#);
    let events = bench.accept();
    bench.give(events, get("/v1/events?mode=lossless").as_bytes());
    bench.turns(3);
    bench.take(browser);
    for conn in [browser, events] {
        bench.room(conn, 0);
    }
    let mut closed = None;
    for seq in 10..60 {
        bench.give_frames(broker, &[trade(seq, 0)]);
        bench.pass(Duration::from_secs(1));
        // It is there, and reads nothing.
        bench.give(browser, &[0x8A, 0x80, 0, 0, 0, 0]);
        if closed.is_none() && bench.gateway.counts.closed_slow > 0 {
            bench.room(browser, usize::MAX / 2);
            bench.turns(3);
            closed = close_code(&messages(&bench.take(browser)));
        }
    }
    assert_eq!(closed, Some(super::super::stream::CLOSE_SLOW));
    assert!(bench.is_closed(events));
}

#[test]
fn a_silent_browser_is_closed_and_one_that_answers_pings_is_not() {
    let mut bench = Bench::new(64, 8);
    let broker = bench.live(10);
    let (silent, there) = (bench.browser("pregao.frames.v1"), bench.browser("pregao.frames.v1"));
    for _ in 0..limits::GATEWAY_SILENCE_MAX.as_secs() + 5 {
        bench.pass(Duration::from_secs(1));
        let next_seq = U64::new(10);
        bench.give_frames(broker, &[Frame::seal(Heartbeat { next_seq, ..Heartbeat::default() })]);
        let pings = messages(&bench.take(there)).into_iter().filter(|(opcode, _)| *opcode == 9);
        for _ in pings.collect::<Vec<_>>() {
            bench.give(there, &[0x8A, 0x80, 0, 0, 0, 0]);
        }
    }
    assert_eq!(close_code(&messages(&bench.take(silent))), Some(1000));
    assert_eq!(close_code(&messages(&bench.take(there))), None);
    assert_eq!(bench.gateway.counts.closed_silent, 1);
}

#[test]
fn a_head_that_comes_too_slowly_is_answered_408() {
    let mut bench = Bench::new(64, 8);
    bench.live(10);
    let slow = bench.accept();
    for byte in get("/healthz").as_bytes().iter().take(12) {
        bench.give(slow, &[*byte]);
        bench.pass(Duration::from_secs(1));
    }
    bench.turns(2);
    assert!(bench.text(slow).starts_with("HTTP/1.1 408 "));
    assert!(bench.is_closed(slow));
}

#[test]
fn instruments_may_lack_some_while_the_feed_is_away() {
    let mut bench = Bench::new(64, 8);
    let broker = bench.live(10);
    let asked = |bench: &mut Bench| {
        let conn = bench.accept();
        bench.give(conn, get("/v1/instruments").as_bytes());
        bench.turns(2);
        let (head, body) = bench.response(conn);
        (head.split(' ').nth(1).unwrap().to_owned(), String::from_utf8(body).unwrap())
    };
    let (status, body) = asked(&mut bench);
    assert!(status == "200" && body.contains(r#""complete":true"#), "{body}");
    bench.close(broker, CloseReason::PeerClosed);
    bench.turns(2);
    let (status, body) = asked(&mut bench);
    assert!(status == "206" && body.contains(r#""complete":false"#), "{body}");
}

#[test]
fn only_the_page_itself_may_break_things_and_only_where_that_is_wanted() {
    let own = "http://localhost:8090";
    for (playground, origin, status) in [
        (false, Some(own), "403"),
        (true, Some("http://localhost.example"), "403"),
        (true, Some("http://localhost:8091"), "403"),
        (true, Some("null"), "403"),
        (true, None, "403"),
        // It is let through: here is no core.
        (true, Some(own), "404"),
    ] {
        let mut bench = Bench::new(64, 8);
        bench.live(10);
        bench.gateway.playground = playground;
        let origin = origin.map_or_else(String::new, |origin| format!("Origin: {origin}\r\n"));
        let body = r#"{"node":"core","breaker":"core.exchange","action":"force-open"}"#;
        let conn = bench.accept();
        let head = format!(
            "POST /v1/playground/breaker HTTP/1.1\r\nHost: localhost:8090\r\n{origin}\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        bench.give(conn, head.as_bytes());
        bench.turns(2);
        let text = bench.text(conn);
        assert_eq!(text.split(' ').nth(1), Some(status), "{playground} {origin} {text}");
    }
}
