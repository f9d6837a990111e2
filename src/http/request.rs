//! A request as a node sees it: small, owned, and checked.

/// What a request wants to be done. Methods are case-sensitive (RFC 9110, section 9.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Wants an answer.
    Get,
    /// Wants the head of an answer.
    Head,
    /// Brings something.
    Post,
    /// Asks what is allowed.
    Options,
    /// Any other: nothing here answers it.
    Other,
}

impl Method {
    pub(super) fn from_text(text: &str) -> Method {
        match text {
            "GET" => Method::Get,
            "HEAD" => Method::Head,
            "POST" => Method::Post,
            "OPTIONS" => Method::Options,
            _ => Method::Other,
        }
    }
}

/// One request, whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) query: Vec<(String, String)>,
    /// Kept headers only, by their names in small letters. Each name once.
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Vec<u8>,
    pub(super) is_http_1_0: bool,
}

impl Request {
    /// What is to be done.
    #[must_use]
    pub fn method(&self) -> Method {
        self.method
    }

    /// The path, decoded. It begins with `/` and has no control character and no segment `.` or `..`.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Names and values of the query, decoded, in their order. A name may come again.
    #[must_use]
    pub fn query(&self) -> &[(String, String)] {
        &self.query
    }

    /// The value of a header, by its name in any letters. Only those that something here reads are kept: `host`,
    /// `origin`, `accept`, `accept-encoding`, `if-none-match`, `last-event-id`, `range`, `if-range`, `content-type`, `connection`, `upgrade`
    /// and `sec-websocket-*`. Several lines of a list are one value, with commas between them.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(kept, _)| kept.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// The body: empty without a Content-Length.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// Whether the peer speaks HTTP/1.0: it is answered and closed.
    #[must_use]
    pub fn is_http_1_0(&self) -> bool {
        self.is_http_1_0
    }

    /// Whether a header that is a list names this token, in any letters.
    pub(super) fn has_token(&self, name: &str, token: &str) -> bool {
        let value = self.header(name).unwrap_or_default();
        value.split(',').any(|part| part.trim().eq_ignore_ascii_case(token))
    }
}
