//! The memory of all answers together: who is told to come back, and that nobody else is disturbed.

use super::*;

const QUESTION: &str = "/v1/trades/PETR4?last=400&format=csv";

/// A gateway whose answers have little memory.
fn bench(questions_max: usize) -> (Bench, ConnId) {
    let mut bench = Bench::new(64, 8);
    bench.live(10);
    let aggregator = bench.connect_aggregator();
    let memory = &mut bench.gateway.front.memory;
    (memory.questions_max, memory.all_max) = (questions_max, questions_max + 1_000);
    (bench, aggregator)
}

fn rows(count: u64) -> Vec<Frame> {
    let trades = (0..count).map(|it| trade(it + 1, 0));
    std::iter::once(definition(0, "PETR4")).chain(trades).collect()
}

/// A client that reads nothing has asked; `None` if it was refused at once.
fn ask(bench: &mut Bench, aggregator: ConnId) -> (ConnId, Option<U32>) {
    let client = bench.accept();
    bench.room(client, 0);
    bench.give(client, get(QUESTION).as_bytes());
    bench.turn();
    let query = bench.query(aggregator);
    (client, query)
}

/// What a client gets that reads now.
fn read(bench: &mut Bench, client: ConnId) -> (String, Vec<u8>) {
    bench.room(client, usize::MAX / 2);
    bench.turns(20);
    bench.response(client)
}

#[test]
fn who_asks_when_all_is_taken_is_told_to_come_back_and_nobody_else_is_disturbed() {
    let (mut bench, aggregator) = bench(100_000);
    let mut granted = Vec::new();
    let refused = loop {
        let (client, query) = ask(&mut bench, aggregator);
        bench.answer(aggregator, query.expect("some is left"), &rows(400));
        bench.turns(3);
        assert!(bench.gateway.front.memory.held() <= 100_000);
        if bench.gateway.counts.problems > 0 {
            break client;
        }
        granted.push(client);
        assert!(granted.len() < 100, "no bound");
    };
    assert!(granted.len() > 2, "{}", granted.len());
    // When nothing is left, nothing is asked of the aggregator.
    bench.gateway.front.memory.questions_max = bench.gateway.front.memory.held();
    let (at_once, query) = ask(&mut bench, aggregator);
    assert_eq!(query, None);
    for client in [refused, at_once] {
        let (head, body) = read(&mut bench, client);
        let body = String::from_utf8(body).unwrap();
        assert!(head.starts_with("HTTP/1.1 503 ") && head.contains("Retry-After: 1\r\n"), "{head}");
        assert!(head.contains("application/problem+json") && body.contains("come back"), "{body}");
    }
    // Whoever asks nothing of the market is served.
    let other = bench.accept();
    bench.give(other, get("/healthz").as_bytes());
    bench.turns(2);
    assert!(bench.text(other).starts_with("HTTP/1.1 200 "));
    // All that was granted comes whole.
    for client in granted {
        let (head, body) = read(&mut bench, client);
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        assert_eq!(String::from_utf8(body).unwrap().lines().count(), 401);
    }
    assert_eq!(bench.gateway.front.memory.held(), 0, "all was given back");
    let (client, query) = ask(&mut bench, aggregator);
    bench.answer(aggregator, query.expect("there is room again"), &rows(400));
    assert!(read(&mut bench, client).0.starts_with("HTTP/1.1 200 "));
}

#[test]
fn an_answer_that_finds_no_memory_half_way_ends_and_harms_no_other() {
    let (mut bench, aggregator) = bench(20_000);
    let (first, one) = ask(&mut bench, aggregator);
    let (second, two) = ask(&mut bench, aggregator);
    bench.answer(aggregator, one.unwrap(), &rows(400));
    bench.turns(3);
    let (head, _) = read(&mut bench, first);
    assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
    assert!(!bench.is_closed(aggregator), "it is not to blame");
    bench.answer(aggregator, two.unwrap(), &rows(20));
    let (head, body) = read(&mut bench, second);
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert_eq!(String::from_utf8(body).unwrap().lines().count(), 21);
    assert_eq!(bench.gateway.front.memory.held(), 0);
}

#[test]
fn memory_comes_back_from_whoever_goes_away() {
    let (mut bench, aggregator) = bench(usize::MAX / 2);
    // One that has all, one whose answer is long and half written, one that still waits for the rest.
    let (short, query) = ask(&mut bench, aggregator);
    bench.answer(aggregator, query.unwrap(), &rows(400));
    let (long, query) = ask(&mut bench, aggregator);
    bench.answer(aggregator, query.unwrap(), &rows(5_000));
    let (_waits, query) = ask(&mut bench, aggregator);
    bench.give_frames(
        aggregator,
        &[Frame::seal(crate::wire::Run { id: query.unwrap(), ..Default::default() })],
    );
    bench.give_frames(aggregator, &rows(10));
    bench.turns(3);
    let held = bench.gateway.front.memory.held();
    assert!(held > 5_000 * 64 + limits::GATEWAY_WRITING_BYTES_MAX, "{held}");
    bench.close(short, CloseReason::PeerClosed);
    bench.close(long, CloseReason::PeerClosed);
    assert_eq!(bench.gateway.front.memory.held(), 12 * 64, "what the aggregator has sent");
    bench.close(aggregator, CloseReason::PeerClosed);
    bench.turn();
    assert_eq!(bench.gateway.front.memory.held(), 0);
}
