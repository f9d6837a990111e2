//! Values between commas or semicolons, behind a header of names.
//!
//! It is cut here, and not by the crate `csv`: that one reads a stream, and a value in quotation marks may swallow all of it.
//! Here a line is a line, and costs no more than its bound.

use std::borrow::Cow;

use super::draft::{Draft, Problem};
use super::field::{Field, Mapping, is_known, is_of_other_kinds};

/// Where the fields stand in a line.
#[derive(Clone, Debug)]
pub(super) struct Columns {
    separator: char,
    /// Of each column its name, and the field that it means.
    columns: Vec<(String, Option<Field>)>,
}

/// Whether a first line, that may be cut off, is a header: a name that means something stands between separators.
pub(super) fn is_header(line: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(line.get(..line.len().min(64)).unwrap_or_default()) else {
        return false;
    };
    let Some(separator) = separator(text).filter(|_| !text.contains('=')) else { return false };
    text.split(separator).any(|name| Field::of(unquoted(name)).is_some())
}

/// The separator of a header: the first one in it.
fn separator(header: &str) -> Option<char> {
    header.chars().find(|letter| matches!(letter, ',' | ';'))
}

fn unquoted(name: &str) -> &str {
    let name = name.trim_ascii();
    name.strip_prefix('"').and_then(|name| name.strip_suffix('"')).unwrap_or(name)
}

impl Columns {
    pub(super) fn of_header(header: &str, mapping: &Mapping) -> Result<Columns, Problem> {
        let separator = separator(header).ok_or_else(|| {
            Problem::of_line(
                "a header names its columns between , or ;, as in symbol,ts_event,bid,ask",
            )
        })?;
        let mut columns: Vec<(String, Option<Field>)> = Vec::new();
        let names = Values { text: Some(header), separator };
        for name in names {
            let name = name?.trim_ascii().to_owned();
            let field = mapping.field(&name);
            if field.is_some() && columns.iter().any(|(_, other)| *other == field) {
                return Err(Problem::of(
                    name,
                    "another column means the same; leave one out, or map the right one",
                ));
            }
            columns.push((name, field));
        }
        if columns.iter().all(|(_, field)| field.is_none()) {
            return Err(Problem::of_line(
                "no column has a known name; the first line is a header, as in symbol,ts_event,bid,ask",
            ));
        }
        Ok(Columns { separator, columns })
    }

    /// Names of columns that mean nothing.
    pub(super) fn unread(&self) -> impl Iterator<Item = &str> {
        // Where lines say their kind, those of other kinds have columns too.
        let has_kinds = self.columns.iter().any(|(_, field)| *field == Some(Field::Kind));
        let unread = self.columns.iter().filter(|(_, field)| field.is_none());
        unread
            .map(|(name, _)| name.as_str())
            .filter(move |name| !(is_known(name) || has_kinds && is_of_other_kinds(name)))
    }

    pub(super) fn fill<'a>(&self, line: &'a str, draft: &mut Draft<'a>) -> Result<(), Problem> {
        let mut values = Values { text: Some(line), separator: self.separator };
        for (name, field) in &self.columns {
            let value = values.next().ok_or_else(|| {
                Problem::of(name.as_str(), "the line ends before it; is it cut off?")
            })??;
            if let Some(field) = field {
                draft.set(*field, name, value)?;
            }
        }
        match values.next() {
            None => Ok(()),
            Some(_) => {
                let columns = self.columns.len();
                Err(Problem::of_line(format!(
                    "more values than the {columns} columns of the header; put a text that has the separator in \
                     quotation marks"
                )))
            }
        }
    }
}

/// The values of a line.
struct Values<'a> {
    text: Option<&'a str>,
    separator: char,
}

impl<'a> Iterator for Values<'a> {
    type Item = Result<Cow<'a, str>, Problem>;

    fn next(&mut self) -> Option<Self::Item> {
        let text = self.text?;
        let Some(inside) = text.strip_prefix('"') else {
            let (value, rest) = match text.split_once(self.separator) {
                Some((value, rest)) => (value, Some(rest)),
                None => (text, None),
            };
            self.text = rest;
            return Some(Ok(Cow::Borrowed(value.trim_ascii())));
        };
        self.text = None;
        let mut value = Cow::Borrowed("");
        let mut rest = inside;
        loop {
            let Some((part, behind)) = rest.split_once('"') else {
                return Some(Err(Problem::of_line("a quotation mark is not closed on its line")));
            };
            match value.is_empty() {
                true => value = Cow::Borrowed(part),
                false => value.to_mut().push_str(part),
            }
            // Two of them are one that is meant.
            if let Some(more) = behind.strip_prefix('"') {
                value.to_mut().push('"');
                rest = more;
                continue;
            }
            match behind.strip_prefix(self.separator) {
                Some(next) => self.text = Some(next),
                None if behind.trim_ascii().is_empty() => {}
                None => {
                    return Some(Err(Problem::of_line(
                        "text stands behind a closed quotation mark; double the marks inside of a value",
                    )));
                }
            }
            return Some(Ok(value));
        }
    }
}
