//! The head of a request: where it ends, what it asks, and how long its body is.

use super::request::{Method, Request};
use super::response::Problem;
use super::target::{self, Target};
use crate::limits::{
    HTTP_BODY_BYTES_MAX, HTTP_HEAD_BYTES_MAX, HTTP_HEADERS_MAX, HTTP_TARGET_BYTES_MAX,
};

/// Headers that are kept. `true`: a list, whose lines are put together; any other comes once.
const KEPT: [(&str, bool); 15] = [
    ("host", false),
    ("origin", false),
    ("accept", true),
    ("accept-encoding", true),
    ("if-none-match", true),
    ("last-event-id", false),
    ("range", false),
    ("if-range", false),
    ("content-type", false),
    ("connection", true),
    ("upgrade", true),
    ("sec-websocket-key", false),
    ("sec-websocket-version", false),
    ("sec-websocket-protocol", true),
    ("sec-websocket-extensions", true),
];

/// A method, blanks and a version: what a request line has beside its target.
const LINE_BESIDE_TARGET_BYTES: usize = 32;

/// A head that is whole and right.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) request: Request,
    /// Bytes of the head, with its empty line.
    pub(super) bytes: usize,
    pub(super) body_bytes: usize,
    /// Whether the peer wants to ask more on this connection.
    pub(super) keeps_alive: bool,
    /// Whether the peer waits for `100 Continue` before it sends the body.
    pub(super) awaits_continue: bool,
}

/// Reads a head from the front of `bytes`. `None`: it goes on behind them.
///
/// Invariant: an error does not depend on how the bytes were cut. Only what is wrong at some byte, for any bytes behind
/// it, is found before the head is whole.
pub(super) fn parse(bytes: &[u8]) -> Result<Option<Head>, Problem> {
    let front = &bytes[..bytes.len().min(HTTP_HEAD_BYTES_MAX)];
    let mut headers = [httparse::EMPTY_HEADER; HTTP_HEADERS_MAX];
    let mut parsed = httparse::Request::new(&mut headers);
    match parsed.parse(front) {
        Err(error) => Err(wrong(error)),
        Ok(httparse::Status::Partial) if front.len() == HTTP_HEAD_BYTES_MAX => Err(too_long(front)),
        Ok(httparse::Status::Partial) => Ok(None),
        Ok(httparse::Status::Complete(length)) => check(&parsed, &front[..length]).map(Some),
    }
}

fn wrong(error: httparse::Error) -> Problem {
    match error {
        httparse::Error::TooManyHeaders => {
            let detail = format!("The request has more than {HTTP_HEADERS_MAX} headers.");
            Problem::new(431, detail)
        }
        httparse::Error::Version => {
            Problem::new(505, "This server speaks HTTP/1.1 and HTTP/1.0, without TLS.")
        }
        error => Problem::new(400, format!("This is not a request of HTTP/1.1: {error}.")),
    }
}

/// A head that is longer than its bound, because of its first line or because of the others.
fn too_long(front: &[u8]) -> Problem {
    let line = front.trim_ascii_start().split(|byte| *byte == b'\n').next().unwrap_or_default();
    if line.len() > HTTP_TARGET_BYTES_MAX + LINE_BESIDE_TARGET_BYTES {
        let detail = format!("The URL has more than {HTTP_TARGET_BYTES_MAX} bytes.");
        return Problem::new(414, detail);
    }
    Problem::new(431, format!("The headers have more than {HTTP_HEAD_BYTES_MAX} bytes."))
}

fn check(parsed: &httparse::Request<'_, '_>, bytes: &[u8]) -> Result<Head, Problem> {
    // The parser takes a line feed alone for the end of a line. A proxy may not.
    let ends_early = |(at, byte): (usize, &u8)| {
        *byte == b'\n' && at.checked_sub(1).and_then(|before| bytes.get(before)) != Some(&b'\r')
    };
    if bytes.iter().enumerate().any(ends_early) {
        return Err(Problem::new(400, "Each line of a head ends with CR LF."));
    }
    let is_http_1_0 = parsed.version == Some(0);
    let Target { path, query, authority } = target::parse(parsed.path.unwrap_or_default())?;
    let headers = kept(parsed.headers)?;
    let method = Method::from_text(parsed.method.unwrap_or_default());
    let request = Request { method, path, query, headers, body: Vec::new(), is_http_1_0 };
    let host = request.header("host");
    if host.is_none() && !is_http_1_0 {
        return Err(Problem::new(400, "A request of HTTP/1.1 has the header Host."));
    }
    if let Some(authority) = authority
        && !host.is_some_and(|host| host.eq_ignore_ascii_case(&authority))
    {
        return Err(Problem::new(400, "The URL names another host than the header Host."));
    }
    let body_bytes = body_bytes(parsed.headers)?;
    let awaits_continue = awaits_continue(parsed.headers)? && body_bytes > 0 && !is_http_1_0;
    let keeps_alive = !is_http_1_0 && !request.has_token("connection", "close");
    Ok(Head { request, bytes: bytes.len(), body_bytes, keeps_alive, awaits_continue })
}

fn kept(headers: &[httparse::Header<'_>]) -> Result<Vec<(&'static str, String)>, Problem> {
    let mut kept: Vec<(&'static str, String)> = Vec::new();
    for header in headers {
        let known = KEPT.iter().find(|(name, _)| name.eq_ignore_ascii_case(header.name));
        let Some(&(name, is_list)) = known else { continue };
        let value = std::str::from_utf8(header.value);
        let value =
            value.map_err(|_| Problem::new(400, format!("The header {name} is not UTF-8.")))?;
        match kept.iter_mut().find(|(it, _)| *it == name) {
            Some((_, before)) if is_list => {
                before.push_str(", ");
                before.push_str(value);
            }
            Some(_) => return Err(Problem::new(400, format!("The header {name} comes twice."))),
            None => kept.push((name, value.to_owned())),
        }
    }
    Ok(kept)
}

fn values<'a>(
    headers: &'a [httparse::Header<'_>],
    name: &'a str,
) -> impl Iterator<Item = &'a [u8]> {
    let found = headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name));
    found.map(|header| header.value)
}

/// How long the body is. Whatever two readers could understand in two ways is refused.
fn body_bytes(headers: &[httparse::Header<'_>]) -> Result<usize, Problem> {
    let mut lengths = values(headers, "content-length");
    let length = lengths.next();
    if lengths.next().is_some() {
        return Err(Problem::new(400, "The header Content-Length comes twice."));
    }
    let mut codings = values(headers, "transfer-encoding").peekable();
    if codings.peek().is_some() {
        return Err(match length {
            Some(_) => {
                Problem::new(400, "Content-Length and Transfer-Encoding exclude each other.")
            }
            None if codings.all(|coding| coding.eq_ignore_ascii_case(b"chunked")) => {
                Problem::new(411, "A body needs a Content-Length: chunks are not read.")
            }
            None => Problem::new(501, "This Transfer-Encoding is not known: send Content-Length."),
        });
    }
    let Some(length) = length else { return Ok(0) };
    // Digits only: the number parser would take a plus sign as well.
    let is_number = !length.is_empty() && length.iter().all(u8::is_ascii_digit);
    let number = std::str::from_utf8(length).ok().filter(|_| is_number);
    let number = number.ok_or_else(|| Problem::new(400, "Content-Length is not a number."))?;
    match number.parse() {
        Ok(bytes) if bytes <= HTTP_BODY_BYTES_MAX => Ok(bytes),
        _ => {
            let detail = format!("The body has more than {HTTP_BODY_BYTES_MAX} bytes.");
            Err(Problem::new(413, detail))
        }
    }
}

fn awaits_continue(headers: &[httparse::Header<'_>]) -> Result<bool, Problem> {
    let mut expected = values(headers, "expect").peekable();
    let is_there = expected.peek().is_some();
    match expected.all(|value| value.eq_ignore_ascii_case(b"100-continue")) {
        true => Ok(is_there),
        false => Err(Problem::new(417, "Expect can say 100-continue only.")),
    }
}
