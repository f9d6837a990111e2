//! What a request asks for: the path and the query, decoded and checked.

use super::response::Problem;
use crate::limits::{HTTP_PARAMETERS_MAX, HTTP_TARGET_BYTES_MAX};

/// A path and the parameters behind it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) path: String,
    pub(super) query: Vec<(String, String)>,
    /// The host that the target itself names (absolute form).
    pub(super) authority: Option<String>,
}

/// Reads the second word of a request line.
pub(super) fn parse(text: &str) -> Result<Target, Problem> {
    if text.len() > HTTP_TARGET_BYTES_MAX {
        let detail = format!("The URL has {} bytes; at most {HTTP_TARGET_BYTES_MAX}.", text.len());
        return Err(Problem::new(414, detail));
    }
    let (authority, text) = split_authority(text);
    if text.contains('#') {
        return Err(Problem::new(400, "A request has no fragment: leave out # and what follows."));
    }
    let (path, query) = text.split_once('?').unwrap_or((text, ""));
    // `http://host` and `http://host?query` ask for the root.
    let path = if path.is_empty() && authority.is_some() { "/" } else { path };
    Ok(Target { path: parse_path(path)?, query: parse_query(query)?, authority })
}

/// A proxy's form of the target names the host as well (RFC 9112, section 3.2.2).
fn split_authority(text: &str) -> (Option<String>, &str) {
    let scheme = ["http://", "https://"].into_iter().find(|scheme| {
        text.get(..scheme.len()).is_some_and(|front| front.eq_ignore_ascii_case(scheme))
    });
    let Some(scheme) = scheme else { return (None, text) };
    let rest = &text[scheme.len()..];
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    (Some(rest[..end].to_owned()), &rest[end..])
}

fn parse_path(text: &str) -> Result<String, Problem> {
    if !text.starts_with('/') {
        return Err(Problem::new(400, "The path must begin with a slash."));
    }
    // A slash that was encoded would be taken for a boundary between two segments.
    if text.to_ascii_lowercase().contains("%2f") {
        return Err(Problem::new(400, "The path has an encoded slash (%2F)."));
    }
    let path = decode(text, false)?;
    if path.split('/').any(|segment| matches!(segment, "." | "..")) {
        return Err(Problem::new(400, "The path has a segment . or .. in it."));
    }
    Ok(path)
}

fn parse_query(text: &str) -> Result<Vec<(String, String)>, Problem> {
    let parts = text.split('&').filter(|part| !part.is_empty());
    if parts.clone().count() > HTTP_PARAMETERS_MAX {
        let detail = format!("The query has more than {HTTP_PARAMETERS_MAX} parameters.");
        return Err(Problem::new(414, detail));
    }
    let pair = |part: &str| {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        Ok((decode(name, true)?, decode(value, true)?))
    };
    parts.map(pair).collect()
}

/// Text with its percent encoding taken away. In a query `+` is a blank, as forms write it.
fn decode(text: &str, plus_is_blank: bool) -> Result<String, Problem> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => {
                let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
                let pair = digit(bytes.next()).zip(digit(bytes.next()));
                let value = pair.and_then(|(high, low)| u8::try_from(high * 16 + low).ok());
                let wrong = "Behind a percent sign two hexadecimal digits are needed.";
                value.ok_or_else(|| Problem::new(400, wrong))?
            }
            b'+' if plus_is_blank => b' ',
            _ => byte,
        });
    }
    let decoded = String::from_utf8(decoded);
    let decoded = decoded.map_err(|_| Problem::new(400, "The URL is not UTF-8."))?;
    match decoded.chars().any(char::is_control) {
        true => Err(Problem::new(400, "The URL has a control character.")),
        false => Ok(decoded),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_decoded_into_path_and_parameters() {
        let target = parse("/v1/trades/A%C3%87%C3%83O?from=1%3A2&x&a+b=c%2Bd&&x=").unwrap();
        assert_eq!(target.path, "/v1/trades/AÇÃO");
        let pairs = [("from", "1:2"), ("x", ""), ("a b", "c+d"), ("x", "")];
        let pairs = pairs.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(target.query, pairs);
        assert_eq!(target.authority, None);
        // A plus sign is a plus sign in a path.
        assert_eq!(parse("/a+b").unwrap().path, "/a+b");
    }

    #[test]
    fn the_absolute_form_names_a_host() {
        let cases = [
            ("http://localhost:8090/a?b=c", "localhost:8090", "/a", 1),
            ("HTTPS://Localhost", "Localhost", "/", 0),
            ("http://localhost?b", "localhost", "/", 1),
        ];
        for (text, host, path, parameters) in cases {
            let target = parse(text).unwrap();
            assert_eq!(target.authority.as_deref(), Some(host), "{text}");
            assert_eq!((target.path.as_str(), target.query.len()), (path, parameters), "{text}");
        }
    }

    #[test]
    fn paths_that_climb_hide_or_break_are_refused() {
        let bad = [
            "",
            "*",
            "a",
            "localhost:80",
            "//..",
            "/../etc",
            "/a/./b",
            "/a/..",
            "/%2e%2e/x",
            "/%2E./x",
            "/.%2e",
            "/a%2Fb",
            "/a%2fb",
            "/%00",
            "/a%0d%0aX:1",
            "/%7f",
            "/%c2%85",
            "/%",
            "/%4",
            "/%zz",
            "/%+1",
            "/%ff",
            "/%c3",
            "/a#b",
            "/?a=%00",
            "/?a=%",
            "/?%ff=1",
            "/?a=%0a",
            "ftp://h/",
        ];
        for text in bad {
            assert_eq!(parse(text).map_err(|problem| problem.status), Err(400), "{text}");
        }
        let fine = ["/", "/...", "/a..b", "/.well-known", "//a", "/%5c", "/a;b", "/?a=..%2F.."];
        for text in fine {
            assert!(parse(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn long_targets_and_many_parameters_are_refused() {
        let of = |bytes: usize| format!("/{}", "a".repeat(bytes - 1));
        assert!(parse(&of(HTTP_TARGET_BYTES_MAX)).is_ok());
        assert_eq!(parse(&of(HTTP_TARGET_BYTES_MAX + 1)).unwrap_err().status, 414);
        let of = |count: usize| format!("/?{}", "a&".repeat(count));
        assert_eq!(parse(&of(HTTP_PARAMETERS_MAX)).unwrap().query.len(), HTTP_PARAMETERS_MAX);
        assert_eq!(parse(&of(HTTP_PARAMETERS_MAX + 1)).unwrap_err().status, 414);
    }
}
