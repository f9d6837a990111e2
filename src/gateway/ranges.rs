//! Parts of answers: programs that read tables ask for the end of a file first, then for what that says (RFC 9110,
//! section 14.2).
//!
//! # Decisions
//!
//! * An answer whose part was asked for is kept for some seconds, and what is asked of it next comes from there. Made anew,
//!   it may have other rows, and its parts would not fit each other.
//! * A place from the beginning belongs to an answer that was seen; the end and the length begin a new one. Of several
//!   answers to one question of one client, that of the same connection counts, else the newest.

use std::collections::VecDeque;
use std::net::IpAddr;

use bytes::Bytes;

use crate::http::{Format, Method, Request, Response};
use crate::limits;
use crate::node::ConnId;
use crate::time::Mono;

/// Which part of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// Only how long it is.
    Head,
    /// From this byte on, to the end or to another byte, which is included.
    From(usize, Option<usize>),
    /// So many bytes at the end.
    Last(usize),
}

impl Part {
    /// One range of bytes. Any other is not looked at, as is allowed.
    fn of(request: &Request) -> Option<Part> {
        if request.method() == Method::Head {
            return Some(Part::Head);
        }
        // It says which answer is meant, by a name that none has here: so the whole one is sent.
        if request.header("if-range").is_some() {
            return None;
        }
        let (first, last) = request.header("range")?.strip_prefix("bytes=")?.split_once('-')?;
        if first.is_empty() {
            return last.parse().ok().map(Part::Last);
        }
        let first: usize = first.parse().ok()?;
        let last: Option<usize> = match last {
            "" => None,
            last => Some(last.parse().ok()?),
        };
        last.is_none_or(|last| last >= first).then_some(Part::From(first, last))
    }
}

/// A part of the answer to one question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    part: Part,
    /// The question, whole.
    asked: String,
}

impl Wanted {
    /// What a request wants of its answer, if not all.
    pub(super) fn of(request: &Request, format: Format) -> Option<Wanted> {
        let part = Part::of(request)?;
        let mut asked = format!("{}\n{}", format.name(), request.path());
        for (name, value) in request.query() {
            asked.push_str(&format!("\n{name}={value}"));
        }
        Some(Wanted { part, asked })
    }

    /// The part. Of what is behind the end, the status says that there is nothing.
    pub(super) fn cut(&self, body: &Bytes, kind: &'static str) -> Response {
        let total = body.len();
        let (first, end) = match self.part {
            Part::Head => return Response::new(200, kind, body.clone()),
            Part::From(first, last) => {
                (first, last.map_or(total, |last| last.saturating_add(1).min(total)))
            }
            Part::Last(bytes) => (total.saturating_sub(bytes), total),
        };
        if first >= end {
            let nothing = Response::new(416, kind, Bytes::new());
            return nothing.with_header("Content-Range", format!("bytes */{total}"));
        }
        let response = Response::new(206, kind, body.slice(first..end));
        response.with_header("Content-Range", format!("bytes {first}-{}/{total}", end - 1))
    }
}

#[derive(Debug)]
struct Kept {
    from: IpAddr,
    conn: ConnId,
    asked: String,
    kind: &'static str,
    body: Bytes,
    until: Mono,
}

/// Answers of which parts were asked for, the oldest first.
#[derive(Debug, Default)]
pub(super) struct KeptAnswers {
    all: VecDeque<Kept>,
    bytes: usize,
}

impl KeptAnswers {
    /// Keeps an answer for a while, unless it is too long.
    pub(super) fn keep(
        &mut self,
        now: Mono,
        (conn, from): (ConnId, IpAddr),
        wanted: &Wanted,
        kind: &'static str,
        body: &Bytes,
    ) {
        self.forget_old(now);
        if body.len() > limits::GATEWAY_KEPT_BYTES_MAX {
            return;
        }
        while self.all.len() >= limits::GATEWAY_KEPT_ANSWERS_MAX
            || self.bytes + body.len() > limits::GATEWAY_KEPT_BYTES_MAX
        {
            self.drop_oldest();
        }
        self.bytes += body.len();
        let until = now + limits::GATEWAY_KEPT_FOR;
        let (asked, body) = (wanted.asked.clone(), body.clone());
        self.all.push_back(Kept { from, conn, asked, kind, body, until });
    }

    /// The part of an answer that this client was shown before.
    pub(super) fn find(
        &mut self,
        now: Mono,
        (conn, from): (ConnId, IpAddr),
        wanted: &Wanted,
    ) -> Option<Response> {
        self.forget_old(now);
        if !matches!(wanted.part, Part::From(..)) {
            return None;
        }
        let is_it = |it: &&Kept| it.from == from && it.asked == wanted.asked;
        let mut newest = self.all.iter().rev().filter(is_it);
        let own = newest.clone().find(|it| it.conn == conn);
        own.or_else(|| newest.next()).map(|it| wanted.cut(&it.body, it.kind))
    }

    /// Drops what is over.
    pub(super) fn forget_old(&mut self, now: Mono) {
        while self.all.front().is_some_and(|it| it.until <= now) {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        if let Some(oldest) = self.all.pop_front() {
            self.bytes -= oldest.body.len();
        }
    }

    /// Bytes of all of them.
    #[cfg(test)]
    fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::http::HttpConnection;

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn wanted(text: &str) -> Option<Wanted> {
        let bytes = format!("{text}\r\n\r\n");
        let request = HttpConnection::new(Mono(0)).handle_bytes(Mono(0), bytes.as_bytes()).1;
        Wanted::of(&request.unwrap(), Format::Csv)
    }

    fn range(of: &str) -> Option<Wanted> {
        wanted(&format!("GET /v1/quotes?symbols=A HTTP/1.0\r\nRange: {of}"))
    }

    fn conn(number: u32) -> ConnId {
        ConnId { slot: number, generation: 1 }
    }

    #[test]
    fn a_part_is_what_was_asked_for_or_nothing() {
        let body = Bytes::from_static(b"0123456789");
        let cases = [
            ("bytes=0-0", 206, "0", "bytes 0-0/10"),
            ("bytes=4-", 206, "456789", "bytes 4-9/10"),
            ("bytes=4-99", 206, "456789", "bytes 4-9/10"),
            ("bytes=-3", 206, "789", "bytes 7-9/10"),
            ("bytes=-99", 206, "0123456789", "bytes 0-9/10"),
            ("bytes=10-", 416, "", "bytes */10"),
            ("bytes=-0", 416, "", "bytes */10"),
            ("bytes=0-18446744073709551615", 206, "0123456789", "bytes 0-9/10"),
        ];
        for (of, status, part, says) in cases {
            let response = range(of).unwrap().cut(&body, "text/csv");
            assert_eq!((response.status, &response.body[..]), (status, part.as_bytes()), "{of}");
            assert_eq!(response.headers, [("Content-Range", says.to_owned())], "{of}");
        }
        for not in [
            "bytes=-",
            "bytes=a-b",
            "bytes=3-2",
            "bytes=0-1,3-4",
            "lines=0-1",
            "bytes=99999999999999999999-",
        ] {
            assert_eq!(range(not), None, "{not}");
        }
        assert_eq!(range("bytes=0-1\r\nIf-Range: \"a\""), None);
        let head = wanted("HEAD /v1/quotes?symbols=A HTTP/1.0").unwrap();
        assert_eq!(head.cut(&body, "text/csv").body.len(), 10, "its length is said");
        assert_eq!(wanted("GET / HTTP/1.0"), None);
    }

    #[test]
    fn parts_are_of_the_answer_that_the_client_saw() {
        let mut kept = KeptAnswers::default();
        let (end, start) = (range("bytes=-2").unwrap(), range("bytes=0-3").unwrap());
        let [first, second] = ["first", "SECOND"].map(|text| Bytes::from_static(text.as_bytes()));
        kept.keep(Mono(0), (conn(1), HERE), &end, "text/csv", &first);
        kept.keep(Mono(0), (conn(2), HERE), &end, "text/csv", &second);
        let mut found = |number, from, wanted: &Wanted, at| {
            let found = kept.find(at, (conn(number), from), wanted);
            found.map(|it| String::from_utf8(it.body.to_vec()).unwrap())
        };
        assert_eq!(found(1, HERE, &start, Mono(1)).as_deref(), Some("firs"));
        assert_eq!(found(2, HERE, &start, Mono(1)).as_deref(), Some("SECO"));
        assert_eq!(found(3, HERE, &start, Mono(1)).as_deref(), Some("SECO"), "the newest");
        assert_eq!(found(1, HERE, &end, Mono(1)), None, "an end is a new answer's");
        let other = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
        assert_eq!(found(1, other, &start, Mono(1)), None, "of another client");
        let another = wanted("GET /v1/quotes?symbols=B HTTP/1.0\r\nRange: bytes=0-3").unwrap();
        assert_eq!(found(1, HERE, &another, Mono(1)), None, "another question");
        assert_eq!(found(1, HERE, &start, Mono(0) + limits::GATEWAY_KEPT_FOR), None, "too old");
        assert_eq!(kept.bytes(), 0);
    }

    #[test]
    fn kept_answers_have_a_bound() {
        let mut kept = KeptAnswers::default();
        let end = range("bytes=-2").unwrap();
        let long = Bytes::from(vec![0; limits::GATEWAY_KEPT_BYTES_MAX / 3 + 1]);
        for number in 0..5 {
            kept.keep(Mono(0), (conn(number), HERE), &end, "text/csv", &long);
            assert!(kept.bytes() <= limits::GATEWAY_KEPT_BYTES_MAX);
        }
        assert_eq!(kept.all.len(), 2);
        let too_long = Bytes::from(vec![0; limits::GATEWAY_KEPT_BYTES_MAX + 1]);
        kept.keep(Mono(0), (conn(9), HERE), &end, "text/csv", &too_long);
        assert_eq!(kept.all.len(), 2, "it takes nobody's place");
        for number in 0..2 * u32::try_from(limits::GATEWAY_KEPT_ANSWERS_MAX).unwrap() {
            kept.keep(Mono(0), (conn(number), HERE), &end, "text/csv", &Bytes::from_static(b"a"));
        }
        assert_eq!(kept.all.len(), limits::GATEWAY_KEPT_ANSWERS_MAX);
    }
}
