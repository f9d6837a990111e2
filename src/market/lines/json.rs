//! One object a line, as `subscribe --format json` writes them.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::draft::{Draft, Problem};
use super::field::{Field, Mapping};

/// Fills in the fields of an object. Numbers are kept as they are written.
pub(super) fn fill<'a>(
    line: &'a str,
    mapping: &Mapping,
    draft: &mut Draft<'a>,
) -> Result<(), Problem> {
    let mut problem = None;
    let mut reader = serde_json::Deserializer::from_str(line);
    let object = Object { mapping, draft, problem: &mut problem };
    let read = object.deserialize(&mut reader).and_then(|()| reader.end());
    match (problem, read) {
        (Some(problem), _) => Err(problem),
        (None, Err(error)) => Err(Problem::of_line(format!("no object of JSON: {error}"))),
        (None, Ok(())) => Ok(()),
    }
}

#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

struct Object<'m, 'd, 'a> {
    mapping: &'m Mapping,
    draft: &'d mut Draft<'a>,
    /// What is wrong with a value. The rest of the object is read all the same.
    problem: &'d mut Option<Problem>,
}

impl<'a> DeserializeSeed<'a> for Object<'_, '_, 'a> {
    type Value = ();

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'a> Visitor<'a> for Object<'_, '_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(Name(name)) = map.next_key::<Name<'a>>()? {
            let value = map.next_value::<&'a RawValue>()?.get();
            let taken = match self.mapping.field(&name) {
                Some(field) => text(field, value)
                    .ok_or_else(|| {
                        Problem::of(
                            name.as_ref(),
                            format!("{value} is no value of it; write a text or a number"),
                        )
                    })
                    .and_then(|value| self.draft.set(field, &name, value)),
                None => self.draft.set_named(self.mapping, name, Cow::Borrowed("")),
            };
            if let Err(problem) = taken {
                self.problem.get_or_insert(problem);
            }
        }
        Ok(())
    }
}

/// A value as text; empty for null.
fn text(field: Field, value: &str) -> Option<Cow<'_, str>> {
    match value.as_bytes().first()? {
        b'"' => {
            let Name(text) = serde_json::from_str(value).ok()?;
            Some(text)
        }
        b'n' => Some(Cow::Borrowed("")),
        b'[' if field == Field::Flags => {
            let words: Vec<Name<'_>> = serde_json::from_str(value).ok()?;
            let words: Vec<&str> = words.iter().map(|Name(word)| word.as_ref()).collect();
            Some(Cow::Owned(words.join(" ")))
        }
        b'[' | b'{' => None,
        _ => Some(Cow::Borrowed(value)),
    }
}
