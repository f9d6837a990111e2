//! InfluxDB's line protocol, as QuestDB takes it: `trades,symbol=PETR4,side=buy price=41.20,amount=100 1784034439126000000`.
//!
//! The measurement is the kind. Tags and fields mean the same here. A number may end with its type (`i`, `u`, `d`), a time with
//! `n` or `t` (microseconds). Syntax: <https://docs.influxdata.com/influxdb/v2/reference/syntax/line-protocol/>.

use std::borrow::Cow;

use super::draft::{Draft, Problem};
use super::field::{Field, Mapping};

/// Whether a first line, that may be cut off, is of the protocol: a comment, or a measurement with a tag or a field.
pub(super) fn is_line(line: &[u8]) -> bool {
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    let name = line.iter().take_while(|byte| is_name(byte)).count();
    let rest = line.get(name..).unwrap_or_default();
    let begins = name > 0 && matches!(rest.first(), Some(b',' | b' ')) && rest.contains(&b'=');
    begins || line.starts_with(b"# ")
}

/// Fills in tags, fields and the time. Whether there is a record: a comment is none.
pub(super) fn fill<'a>(
    line: &'a str,
    mapping: &Mapping,
    draft: &mut Draft<'a>,
) -> Result<bool, Problem> {
    if line.starts_with('#') {
        return Ok(false);
    }
    let mut rest = Rest(line);
    draft.set_measurement(rest.until(b", ")?);
    while rest.takes(b',') {
        let name = rest.name()?;
        let value = rest.until(b", ")?;
        if value.is_empty() {
            return Err(Problem::of(name, "the tag has no value; leave it out"));
        }
        draft.set_named(mapping, name, value)?;
    }
    rest.spaces();
    loop {
        let name = rest.name()?;
        let value = rest.value(&name)?;
        draft.set_named(mapping, name, value)?;
        if !rest.takes(b',') {
            break;
        }
    }
    rest.spaces();
    let time = rest.0.trim_ascii_end();
    if !time.is_empty() {
        draft.set(Field::Time, "the timestamp", timestamp(time)?)?;
    }
    Ok(true)
}

/// The time at the end of a line, with the unit that it may name.
fn timestamp(text: &str) -> Result<Cow<'_, str>, Problem> {
    let number = text.strip_suffix(['n', 't']).unwrap_or(text);
    if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Problem::of(
            "the timestamp",
            format!(
                "{text:?} is no whole number since 1970; separate fields by commas, without spaces"
            ),
        ));
    }
    Ok(Cow::Borrowed(text))
}

/// What is left of a line.
struct Rest<'a>(&'a str);

impl<'a> Rest<'a> {
    fn takes(&mut self, byte: u8) -> bool {
        let rest = self.0.strip_prefix(char::from(byte));
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    fn spaces(&mut self) {
        self.0 = self.0.trim_start_matches(' ');
    }

    /// What stands before the next of these bytes, or before the end, that no backslash takes the meaning of.
    fn until(&mut self, ends: &[u8]) -> Result<Cow<'a, str>, Problem> {
        let bytes = self.0.as_bytes();
        let mut is_escaped = false;
        let mut at = 0;
        while let Some(byte) = bytes.get(at) {
            if *byte == b'\\'
                && bytes.get(at + 1).is_some_and(|next| matches!(next, b',' | b'=' | b' ' | b'\\'))
            {
                is_escaped = true;
                at += 2;
                continue;
            }
            if ends.contains(byte) {
                break;
            }
            at += 1;
        }
        // All ends are ASCII, so that this is a place between letters.
        let (text, rest) = self.0.split_at_checked(at).unwrap_or((self.0, ""));
        self.0 = rest;
        Ok(if is_escaped { Cow::Owned(unescaped(text, b",= \\")) } else { Cow::Borrowed(text) })
    }

    /// The name of a tag or a field, and the `=` behind it.
    fn name(&mut self) -> Result<Cow<'a, str>, Problem> {
        let name = self.until(b"=, ")?;
        if name.is_empty() || !self.takes(b'=') {
            return Err(Problem::of_line(format!(
                "{name:?} is no NAME=VALUE; write MEASUREMENT,TAG=VALUE FIELD=VALUE TIMESTAMP, and \\ before a space in a name"
            )));
        }
        Ok(name)
    }

    /// The value of a field.
    fn value(&mut self, name: &str) -> Result<Cow<'a, str>, Problem> {
        let Some(inside) = self.0.strip_prefix('"') else {
            let text = self.until(b", ")?;
            if text.is_empty() {
                return Err(Problem::of(name, "the field has no value; leave it out"));
            }
            return Ok(untyped(text));
        };
        let bytes = inside.as_bytes();
        let mut is_escaped = false;
        let mut at = 0;
        loop {
            match bytes.get(at) {
                Some(b'\\') => {
                    is_escaped = true;
                    at += 2;
                }
                Some(b'"') => break,
                Some(_) => at += 1,
                None => {
                    return Err(Problem::of(name, "its quotation mark is not closed on its line"));
                }
            }
        }
        let (text, rest) = inside.split_at_checked(at).unwrap_or((inside, ""));
        self.0 = rest.strip_prefix('"').unwrap_or(rest);
        Ok(if is_escaped { Cow::Owned(unescaped(text, b"\"\\")) } else { Cow::Borrowed(text) })
    }
}

/// The text without the backslashes that take the meaning of these bytes. Any other one is itself.
fn unescaped(text: &str, of: &[u8]) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        let escapes = |next: &char| u8::try_from(*next).is_ok_and(|next| of.contains(&next));
        match letters.peek().copied().filter(|next| letter == '\\' && escapes(next)) {
            Some(next) => {
                plain.push(next);
                letters.next();
            }
            None => plain.push(letter),
        }
    }
    plain
}

/// A number without the letter that says its type.
fn untyped(text: Cow<'_, str>) -> Cow<'_, str> {
    let is_number = text.bytes().next().is_some_and(|byte| byte.is_ascii_digit() || byte == b'-');
    match text {
        Cow::Borrowed(text) if is_number => {
            Cow::Borrowed(text.strip_suffix(['i', 'u', 'd']).unwrap_or(text))
        }
        text => text,
    }
}
