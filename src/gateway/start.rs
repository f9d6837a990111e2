//! Where a subscription goes on: a place in the sequence, and the epoch under which its reader has what is before it.

use std::fmt;
use std::str::FromStr;

use crate::wire::Seq;

/// Written as `EPOCH:SEQ`, or as `SEQ` by one who does not say under which epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Start {
    /// The identity of the epoch; 0: it is not said, or the publisher has none.
    pub(super) epoch_id: u64,
    pub(super) seq: Seq,
}

impl Start {
    /// The place of a member of JSON: a number, or a text.
    ///
    /// # Errors
    /// When it is neither.
    pub(super) fn of_json(value: &serde_json::Value) -> Result<Start, String> {
        match value {
            serde_json::Value::String(text) => text.parse(),
            value => value.to_string().parse(),
        }
    }

    /// The place behind this one.
    pub(super) fn next(self) -> Start {
        Start { seq: self.seq.next(), ..self }
    }
}

impl FromStr for Start {
    type Err = String;

    fn from_str(text: &str) -> Result<Start, String> {
        let wrong =
            || "a place is a seq, 1 or more, or EPOCH:SEQ with an epoch_id in hex".to_owned();
        let (epoch, seq) = text.split_once(':').unwrap_or(("0", text));
        let is_epoch =
            (1..=16).contains(&epoch.len()) && epoch.bytes().all(|it| it.is_ascii_hexdigit());
        let is_seq = seq.bytes().all(|it| it.is_ascii_digit());
        let epoch_id = u64::from_str_radix(epoch, 16).ok().filter(|_| is_epoch);
        let seq = seq.parse().ok().filter(|_| is_seq).and_then(Seq::new);
        let (epoch_id, seq) = epoch_id.zip(seq).ok_or_else(wrong)?;
        Ok(Start { epoch_id, seq })
    }
}

impl fmt::Display for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.epoch_id {
            0 => write!(f, "{}", self.seq.get()),
            epoch_id => write!(f, "{epoch_id:016x}:{}", self.seq.get()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_as_it_is_written_and_nothing_else_is_one() {
        for text in ["1", "18446744073709551615", "00c0ffee00000003:1003"] {
            assert_eq!(text.parse::<Start>().map(|it| it.to_string()), Ok(text.to_owned()));
        }
        let start = Start { epoch_id: 0xAB, seq: Seq::or_first(7) };
        assert_eq!("aB:7".parse(), Ok(start));
        let wrong = ["", "0", "-1", "+1", "1.5", "x", ":5", "5:", "5:0", "+5:1", "g:1", "1:2:3"];
        for text in wrong.into_iter().chain(["00000000000000001:1", "18446744073709551616", "1:é"])
        {
            assert!(text.parse::<Start>().is_err(), "{text}");
        }
    }
}
