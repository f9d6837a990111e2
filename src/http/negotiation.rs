//! Which form of an answer a request wants: its format, its compression, and whether it has it already.

use super::request::Request;
use super::response::Problem;
use super::security::shown;

/// The form of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON object.
    Json,
    /// One JSON object a line.
    Ndjson,
    /// Comma-separated values with a line of names.
    Csv,
    /// Columns, for programs that analyse.
    Parquet,
}

/// Media types by which a format can be wanted. The first of a format is its own.
const MEDIA_TYPES: [(&str, Format); 7] = [
    ("application/json", Format::Json),
    ("application/x-ndjson", Format::Ndjson),
    ("application/ndjson", Format::Ndjson),
    ("application/jsonl", Format::Ndjson),
    ("text/csv", Format::Csv),
    ("application/vnd.apache.parquet", Format::Parquet),
    ("application/x-parquet", Format::Parquet),
];

impl Format {
    /// The name in `format=`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Format::Json => "json",
            Format::Ndjson => "ndjson",
            Format::Csv => "csv",
            Format::Parquet => "parquet",
        }
    }

    /// The type of a body in this format.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Format::Json => "application/json",
            Format::Ndjson => "application/x-ndjson",
            Format::Csv => "text/csv; charset=utf-8; header=present",
            Format::Parquet => "application/vnd.apache.parquet",
        }
    }
}

/// The format that a request wants, of those `offered`: by `format=`, else by `Accept`, else the first.
///
/// # Errors
/// 400 when `format=` names none of them, 406 when `Accept` wants none of them.
pub fn negotiate(request: &Request, offered: &[Format]) -> Result<Format, Problem> {
    let names = || offered.iter().map(|it| it.name()).collect::<Vec<_>>().join(", ");
    if let Some((_, wanted)) = request.query().iter().find(|(name, _)| name == "format") {
        let found = offered.iter().find(|it| it.name() == wanted);
        let wrong = || format!("No format {:?} here; there is {}.", shown(wanted), names());
        return found.copied().ok_or_else(|| Problem::new(400, wrong()));
    }
    let ranges = weighted(request.header("accept").unwrap_or_default());
    if ranges.is_empty() {
        let first = offered.first().copied();
        return first.ok_or_else(|| Problem::new(406, "There is no answer in any format."));
    }
    // The heaviest one. Of equal ones the more closely named, then the one that is offered first.
    let mut best: Option<(u16, u8, Format)> = None;
    for &format in offered {
        let (closeness, weight) = weight_of(&ranges, format);
        if weight > 0 && best.is_none_or(|(most, close, _)| (weight, closeness) > (most, close)) {
            best = Some((weight, closeness, format));
        }
    }
    let wrong = || format!("Accept names nothing that is here; there is {}.", names());
    best.map(|(_, _, format)| format).ok_or_else(|| Problem::new(406, wrong()))
}

/// How closely a range names the format, and its weight: the closest range counts (RFC 9110, section 12.5.1).
fn weight_of(ranges: &[(&str, u16)], format: Format) -> (u8, u16) {
    let own = MEDIA_TYPES.iter().filter(|(_, it)| *it == format).map(|(media_type, _)| media_type);
    let closeness = |range: &str, media_type: &str| {
        let (main, _) = media_type.split_once('/').unwrap_or_default();
        let range_main = range.strip_suffix("/*");
        match range {
            "*/*" => 1,
            _ if range_main.is_some_and(|it| it.eq_ignore_ascii_case(main)) => 2,
            _ if range.eq_ignore_ascii_case(media_type) => 3,
            _ => 0,
        }
    };
    let all = own.flat_map(|media_type| {
        ranges.iter().map(move |(range, weight)| (closeness(range, media_type), *weight))
    });
    all.filter(|(closeness, _)| *closeness > 0).max().unwrap_or_default()
}

/// Whether an answer may be compressed with gzip.
#[must_use]
pub fn accepts_gzip(request: &Request) -> bool {
    let codings = weighted(request.header("accept-encoding").unwrap_or_default());
    let weight = |name: &str| {
        let found = codings.iter().find(|(coding, _)| coding.eq_ignore_ascii_case(name));
        found.map(|(_, weight)| *weight)
    };
    let named = weight("gzip").or_else(|| weight("x-gzip"));
    named.or_else(|| weight("*")).is_some_and(|weight| weight > 0)
}

/// Whether the peer has what this tag names, so that the answer is 304. The tag stands in quotes: `"ab12"`.
#[must_use]
pub fn is_unchanged(request: &Request, etag: &str) -> bool {
    let tags = request.header("if-none-match").unwrap_or_default();
    let strong = |tag: &str| tag.strip_prefix("W/").unwrap_or(tag).to_owned();
    let own = strong(etag);
    tags.trim() == "*" || tags.split(',').any(|tag| strong(tag.trim()) == own)
}

/// The parts of a list with their weights in thousandths. A weight that cannot be read counts as none given.
fn weighted(list: &str) -> Vec<(&str, u16)> {
    let parts = list.split(',').filter(|part| !part.trim().is_empty());
    let weigh = |part| {
        let mut pieces = str::split(part, ';').map(str::trim);
        let name = pieces.next().unwrap_or_default();
        let mut weights = pieces.filter_map(|piece| {
            let (key, value) = piece.split_once('=')?;
            key.trim().eq_ignore_ascii_case("q").then(|| thousandths(value.trim()))?
        });
        (name, weights.next().unwrap_or(1_000))
    };
    parts.map(weigh).collect()
}

/// `0`, `1`, or up to three digits behind a point (RFC 9110, section 12.4.2).
fn thousandths(text: &str) -> Option<u16> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    if part.len() > 3 || !part.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let part: u16 = format!("{part:0<3}").parse().ok()?;
    match whole {
        "0" => Some(part),
        "1" if part == 0 => Some(1_000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::HttpConnection;
    use crate::time::Mono;

    fn request(query: &str, headers: &str) -> Request {
        let bytes = format!("GET /{query} HTTP/1.0\r\n{headers}\r\n");
        HttpConnection::new(Mono(0)).handle_bytes(Mono(0), bytes.as_bytes()).1.unwrap()
    }

    const ALL: [Format; 4] = [Format::Json, Format::Ndjson, Format::Csv, Format::Parquet];

    #[test]
    fn the_format_is_what_the_peer_wants_most() {
        let cases = [
            ("", Some(Format::Json)),
            ("*/*", Some(Format::Json)),
            ("application/json", Some(Format::Json)),
            ("APPLICATION/X-NDJSON", Some(Format::Ndjson)),
            ("application/jsonl", Some(Format::Ndjson)),
            ("text/csv", Some(Format::Csv)),
            ("text/*", Some(Format::Csv)),
            ("text/csv, */*", Some(Format::Csv)),
            ("text/csv;q=0.5, application/json", Some(Format::Json)),
            ("text/csv;header=present;q=0.9, application/json;q=0.5", Some(Format::Csv)),
            ("application/json;q=0, */*;q=0.1", Some(Format::Ndjson)),
            ("application/vnd.apache.parquet", Some(Format::Parquet)),
            ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", Some(Format::Json)),
            ("text/html", None),
            ("application/json;q=0", None),
            ("text/csv;q=0.000", None),
        ];
        for (accept, expected) in cases {
            let headers = format!("Accept: {accept}\r\n");
            let found = negotiate(&request("", &headers), &ALL);
            assert_eq!(found.as_ref().ok(), expected.as_ref(), "{accept}: {found:?}");
            assert!(found.is_ok() || found.unwrap_err().status == 406);
        }
        assert_eq!(negotiate(&request("", ""), &ALL), Ok(Format::Json));
        let csv_first = [Format::Csv, Format::Json];
        assert_eq!(negotiate(&request("", ""), &csv_first), Ok(Format::Csv));
        assert!(negotiate(&request("", "Accept: application/x-parquet\r\n"), &csv_first).is_err());
    }

    #[test]
    fn the_parameter_goes_before_the_header() {
        let wanted = request("?format=csv", "Accept: application/json\r\n");
        assert_eq!(negotiate(&wanted, &ALL), Ok(Format::Csv));
        let problem = negotiate(&request("?format=xml", ""), &ALL).unwrap_err();
        assert_eq!((problem.status, problem.detail.contains("ndjson")), (400, true));
        let not_offered = negotiate(&request("?format=parquet", ""), &ALL[..3]);
        assert_eq!(not_offered.unwrap_err().status, 400);
        for format in ALL {
            let wanted = request(&format!("?format={}", format.name()), "");
            assert_eq!(negotiate(&wanted, &ALL), Ok(format));
        }
    }

    #[test]
    fn gzip_is_used_when_it_is_accepted() {
        let cases = [
            ("gzip, deflate, br", true),
            ("GZIP;q=0.001", true),
            ("x-gzip", true),
            ("*", true),
            ("gzip;q=0, *", false),
            ("*;q=0", false),
            ("identity", false),
            ("", false),
        ];
        for (accepted, expected) in cases {
            let found = accepts_gzip(&request("", &format!("Accept-Encoding: {accepted}\r\n")));
            assert_eq!(found, expected, "{accepted}");
        }
        assert!(!accepts_gzip(&request("", "")));
    }

    #[test]
    fn a_known_tag_is_unchanged() {
        let cases = [
            ("\"a\"", true),
            ("W/\"a\"", true),
            ("\"b\", \"a\"", true),
            ("*", true),
            ("\"b\"", false),
            ("a", false),
            ("", false),
        ];
        for (tags, expected) in cases {
            let request = request("", &format!("If-None-Match: {tags}\r\n"));
            assert_eq!(is_unchanged(&request, "\"a\""), expected, "{tags}");
            assert_eq!(is_unchanged(&request, "W/\"a\""), expected, "{tags}");
        }
        assert!(!is_unchanged(&request("", ""), "\"a\""));
    }

    #[test]
    fn weights_have_three_digits_at_most() {
        let cases =
            [("1", Some(1_000)), ("1.000", Some(1_000)), ("0.5", Some(500)), ("0.", Some(0))];
        for (text, expected) in cases {
            assert_eq!(thousandths(text), expected, "{text}");
        }
        for text in ["", "2", "1.001", "0.0001", "-0", "+1", ".5", "0.+1", "1e0"] {
            assert_eq!(thousandths(text), None, "{text}");
        }
    }
}
