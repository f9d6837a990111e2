//! One line of JSON, readable by programs that keep numbers as floats.
//!
//! JavaScript and `jq` round integers above 2^53. So beside each number that may be larger stands a text: the
//! field `NAME_text`. A time is RFC 3339 in UTC there, every other number its decimal digits. The rule goes by the name of
//! the field, so that a field has its text in every object, also where the number is small or `null`.

use std::io;

use serde::Serialize;
use serde_json::Serializer;
use serde_json::ser::Formatter;

use crate::parse::TimeNs;

/// Fields with nanoseconds since 1970.
const TIMES: [&str; 4] = ["ts_event", "ts_recv", "start", "written_at"];
/// Fields with sequence numbers, identities and quantities, besides those that end with [`SEQ`].
const NUMBERS: [&str; 11] = [
    "seq",
    "trade_id",
    "qty",
    "bid_qty",
    "ask_qty",
    "volume",
    "missed",
    "feed",
    "as_of",
    "epoch_start",
    "upstream_feed",
];
const SEQ: &str = "_seq";
/// Ends with [`SEQ`] and has 32 bits.
const SHORT: &str = "instrument_seq";

fn is_number(key: &str) -> bool {
    NUMBERS.contains(&key) || (key.ends_with(SEQ) && key != SHORT)
}

/// One line of JSON, without its end.
pub(crate) fn json_line(value: &impl Serialize) -> String {
    let mut line = Vec::with_capacity(256);
    value
        .serialize(&mut Serializer::with_formatter(&mut line, WithTexts::default()))
        .expect("string keys and no fallible Serialize: cannot fail");
    String::from_utf8(line).expect("serde_json writes UTF-8")
}

/// Writes compact JSON, and the texts.
#[derive(Default)]
struct WithTexts {
    key: String,
    is_in_key: bool,
    /// Behind the value that is being written stands this one.
    text: Option<String>,
}

impl WithTexts {
    fn note(&mut self, number: Option<u64>) {
        let key = self.key.as_str();
        let text = match number {
            None if TIMES.contains(&key) || is_number(key) => "null".to_owned(),
            Some(number) if TIMES.contains(&key) => format!("\"{}\"", TimeNs(number)),
            Some(number) if is_number(key) => format!("\"{number}\""),
            _ => return,
        };
        self.text = Some(text);
    }
}

impl Formatter for WithTexts {
    fn begin_object_key<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        self.key.clear();
        self.is_in_key = true;
        if first { Ok(()) } else { writer.write_all(b",") }
    }

    fn end_object_key<W: ?Sized + io::Write>(&mut self, _writer: &mut W) -> io::Result<()> {
        self.is_in_key = false;
        Ok(())
    }

    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        if self.is_in_key {
            self.key.push_str(fragment);
        }
        writer.write_all(fragment.as_bytes())
    }

    fn write_null<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.note(None);
        writer.write_all(b"null")
    }

    fn write_u64<W: ?Sized + io::Write>(&mut self, writer: &mut W, value: u64) -> io::Result<()> {
        self.note(Some(value));
        write!(writer, "{value}")
    }

    fn write_i64<W: ?Sized + io::Write>(&mut self, writer: &mut W, value: i64) -> io::Result<()> {
        if let Ok(value) = u64::try_from(value) {
            self.note(Some(value));
        }
        write!(writer, "{value}")
    }

    /// A number with all its digits.
    fn write_raw_fragment<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        if is_number(&self.key) {
            self.text = Some(format!("\"{fragment}\""));
        }
        writer.write_all(fragment.as_bytes())
    }

    fn end_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        match self.text.take() {
            Some(text) => write!(writer, ",\"{}_text\":{text}", self.key),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[derive(Serialize)]
    struct Line {
        seq: u64,
        ts_event: Option<u64>,
        missed: Option<u64>,
        rows: u32,
        qty: u64,
        price: &'static str,
        names: Vec<u64>,
        figures: BTreeMap<String, i64>,
    }

    #[test]
    fn numbers_that_a_float_would_round_have_a_text_beside_them() {
        let figures = [("next_seq", 9), ("held_back", 0), ("feed", -1)];
        let line = Line {
            seq: u64::MAX - 1,
            ts_event: Some(1_340_285_400_123_456_789),
            missed: None,
            rows: 3,
            qty: 9_007_199_254_740_993,
            price: "seq",
            names: vec![u64::MAX],
            figures: figures.into_iter().map(|(name, figure)| (name.to_owned(), figure)).collect(),
        };
        assert_eq!(
            json_line(&line),
            r#"{"seq":18446744073709551614,"seq_text":"18446744073709551614","ts_event":1340285400123456789,"ts_event_text":"2012-06-21T13:30:00.123456789Z","missed":null,"missed_text":null,"rows":3,"qty":9007199254740993,"qty_text":"9007199254740993","price":"seq","names":[18446744073709551615],"figures":{"feed":-1,"held_back":0,"next_seq":9,"next_seq_text":"9"}}"#
        );
        assert!(serde_json::from_str::<serde_json::Value>(&json_line(&line)).is_ok());
    }
}
