//! Whole numbers of flags, with a refusal in plain words.

/// A parser of the whole numbers from `least` to `most`, for a flag.
pub fn whole_number<T: TryFrom<u64>>(
    least: u64,
    most: u64,
) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static {
    move |text| {
        let range = match most {
            u64::MAX => format!("give a whole number from {least} on"),
            most => format!("give a whole number from {least} to {most}"),
        };
        let digits = text.strip_prefix('-').unwrap_or(text);
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(range);
        }
        let number = text.parse::<u64>().ok().filter(|number| (least..=most).contains(number));
        number.and_then(|number| T::try_from(number).ok()).ok_or(range)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_what_would_do() {
        let count = whole_number::<u64>(1, u64::MAX);
        assert_eq!(count("18446744073709551615"), Ok(u64::MAX));
        for bad in ["0", "-1", "", "1.5", "ten", "+1", "18446744073709551616", "١"] {
            assert_eq!(count(bad), Err("give a whole number from 1 on".into()), "{bad:?}");
        }
        let copies = whole_number::<u8>(1, 4);
        assert_eq!(copies("4"), Ok(4));
        assert_eq!(copies("5"), Err("give a whole number from 1 to 4".into()));
    }
}
