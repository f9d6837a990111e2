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
