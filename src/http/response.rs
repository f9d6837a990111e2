//! Answers: what they say, and their heads as bytes.

use bytes::Bytes;

/// One answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// 200 to 599.
    pub status: u16,
    /// The media type of the body.
    pub content_type: &'static str,
    /// Further headers. Those of the body's length and of the connection are added when it is sent.
    pub headers: Vec<(&'static str, String)>,
    /// The body. It is not sent to HEAD, nor with 204 and 304.
    pub body: Bytes,
}

/// Why a request has no other answer (RFC 9457).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// 400 to 599.
    pub status: u16,
    /// What such a status means. The same for each of a kind.
    pub title: &'static str,
    /// What was wrong this time, and what to do.
    pub detail: String,
}

/// A problem as it is written, in this order.
#[derive(serde::Serialize)]
struct Body<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    title: &'a str,
    status: u16,
    detail: &'a str,
}

impl Problem {
    /// A problem whose title is the usual phrase of its status.
    #[must_use]
    pub fn new(status: u16, detail: impl Into<String>) -> Problem {
        Problem { status, title: reason(status), detail: detail.into() }
    }

    /// As JSON: `type`, `title`, `status` and `detail`.
    #[must_use]
    pub fn to_json(&self) -> String {
        let Problem { status, title, detail } = self;
        let body = Body { kind: "about:blank", title, status: *status, detail };
        serde_json::to_string(&body).expect("texts and a number can always be written")
    }
}

impl Response {
    /// An answer with a body of any type.
    #[must_use]
    pub fn new(status: u16, content_type: &'static str, body: impl Into<Bytes>) -> Response {
        Response { status, content_type, headers: Vec::new(), body: body.into() }
    }

    /// An answer in JSON.
    #[must_use]
    pub fn json(status: u16, body: String) -> Response {
        Response::new(status, "application/json", body)
    }

    /// An answer in plain text.
    #[must_use]
    pub fn text(status: u16, body: String) -> Response {
        Response::new(status, "text/plain; charset=utf-8", body)
    }

    /// An answer that says why there is no other. With 426 it names the version of WebSocket that is spoken.
    #[must_use]
    pub fn problem(problem: &Problem) -> Response {
        let response = Response::new(problem.status, "application/problem+json", problem.to_json());
        match problem.status {
            426 => {
                let response = response.with_header("Upgrade", "websocket");
                let response = response.with_header("Connection", "Upgrade");
                response.with_header("Sec-WebSocket-Version", "13")
            }
            _ => response,
        }
    }

    /// The same answer with one header more.
    #[must_use]
    pub fn with_header(mut self, name: &'static str, value: impl Into<String>) -> Response {
        self.headers.push((name, value.into()));
        self
    }
}

/// How the end of a body is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// The status has no body.
    None,
    /// So many bytes.
    Length(usize),
    /// Chunks with their lengths.
    Chunked,
    /// What comes until the close.
    UntilClose,
}

/// Whether an answer with this status can have a body (RFC 9110, section 6.4.1).
pub(super) fn has_body(status: u16) -> bool {
    !matches!(status, 100..=199 | 204 | 304)
}

/// Writes a head: the status line, the headers, and the empty line.
pub(super) fn write_head<'a>(
    out: &mut Vec<u8>,
    (status, content_type): (u16, &str),
    headers: impl Iterator<Item = (&'a str, &'a str)>,
    framing: Framing,
    closes: bool,
) {
    out.extend_from_slice(format!("HTTP/1.1 {status} {}\r\n", reason(status)).as_bytes());
    if framing != Framing::None {
        write_header(out, "Content-Type", content_type);
    }
    write_header(out, "X-Content-Type-Options", "nosniff");
    for (name, value) in headers {
        write_header(out, name, value);
    }
    match framing {
        Framing::Length(bytes) => write_header(out, "Content-Length", &bytes.to_string()),
        Framing::Chunked => write_header(out, "Transfer-Encoding", "chunked"),
        Framing::None | Framing::UntilClose => {}
    }
    if closes {
        write_header(out, "Connection", "close");
    }
    out.extend_from_slice(b"\r\n");
}

/// A value may come from a peer or a file, so nothing in it can end the line.
pub(super) fn write_header(out: &mut Vec<u8>, name: &str, value: &str) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend(value.bytes().map(|byte| if byte.is_ascii_control() { b' ' } else { byte }));
    out.extend_from_slice(b"\r\n");
}

/// The usual phrase of a status (RFC 9110, section 15, and RFC 6585).
fn reason(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        101 => "Switching Protocols",
        200 => "OK",
        202 => "Accepted",
        204 => "No Content",
        206 => "Partial Content",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        416 => "Range Not Satisfiable",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        422 => "Unprocessable Content",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => match status / 100 {
            2 => "Success",
            3 => "Redirection",
            4 => "Client Error",
            _ => "Server Error",
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_json_whatever_its_detail_says() {
        let problem = Problem::new(404, "No symbol \"A\\\n\".");
        assert!(problem.to_json().starts_with("{\"type\":\"about:blank\",\"title\":"));
        let object: serde_json::Value = serde_json::from_str(&problem.to_json()).unwrap();
        assert_eq!(object["type"], "about:blank");
        assert_eq!((&object["title"], &object["status"]), (&"Not Found".into(), &404.into()));
        assert_eq!(object["detail"], problem.detail.as_str());
        let response = Response::problem(&problem);
        assert_eq!((response.status, response.headers.len()), (404, 0));
        assert_eq!(Response::problem(&Problem::new(426, "")).headers.len(), 3);
    }

    #[test]
    fn a_value_cannot_begin_a_header_of_its_own() {
        let mut out = Vec::new();
        write_header(&mut out, "Location", "/a\r\nSet-Cookie: b\0");
        assert_eq!(out, b"Location: /a  Set-Cookie: b \r\n");
    }
}
