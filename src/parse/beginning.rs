//! Where a subscription begins: a sequence number, or a time.

use std::str::FromStr;

use super::TimeNs;

/// What `subscribe --from` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beginning {
    /// The first sequence number wanted.
    Seq(u64),
    /// The first time of receipt wanted.
    Time(TimeNs),
}

impl FromStr for Beginning {
    type Err = String;

    fn from_str(text: &str) -> Result<Beginning, String> {
        let digits = text.strip_prefix('-').unwrap_or(text);
        if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
            let number = text.parse().ok().filter(|number| *number > 0);
            return number.map(Beginning::Seq).ok_or_else(|| {
                "give a sequence number from 1 on, or a time as 2012-06-21T13:30:00Z".to_owned()
            });
        }
        text.parse().map(Beginning::Time).map_err(|error| format!("{error}; a number is a seq"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_a_number_of_the_sequence_and_all_else_is_a_time() {
        assert_eq!("1".parse(), Ok(Beginning::Seq(1)));
        assert_eq!("18446744073709551615".parse(), Ok(Beginning::Seq(u64::MAX)));
        let time = "2012-06-21T13:30:00Z".parse().unwrap();
        assert_eq!("2012-06-21T13:30:00Z".parse(), Ok(Beginning::Time(time)));
        for bad in ["0", "-1", "18446744073709551616"] {
            let said = bad.parse::<Beginning>().unwrap_err();
            assert!(said.starts_with("give a sequence number from 1 on"), "{said}");
        }
        let said = "yesterday".parse::<Beginning>().unwrap_err();
        assert!(said.contains("2012-06-21T13:30:00Z") && said.ends_with("a number is a seq"));
    }
}
