//! Days of the calendar as numbers.

/// Later dates do not fit a frame's time, which ends in 2554.
const YEAR_MAX: u64 = 2500;

/// Days from 1 January 1970 to a Gregorian date; none for a date that does not exist, is
/// earlier, or comes after [`YEAR_MAX`]. Formula: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms",
/// `days_from_civil` (<https://howardhinnant.github.io/date_algorithms.html>), for years that are
/// not negative. The year has at most four digits, so nothing here overflows.
pub(in crate::market) fn days_from_civil(year: u64, month: u64, day: u64) -> Option<u64> {
    let is_leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let days_in_month = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if is_leap => 29,
        2 => 28,
        _ => return None,
    };
    if !(1970..=YEAR_MAX).contains(&year) || !(1..=days_in_month).contains(&day) {
        return None;
    }
    // The formula's year begins in March, so that the leap day is its last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (era, year_of_era) = (year / 400, year % 400);
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    (era * 146_097 + day_of_era).checked_sub(719_468)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn civil_days_agree_with_known_dates() {
        assert_eq!(days_from_civil(1970, 1, 1), Some(0));
        assert_eq!(days_from_civil(2000, 2, 29), Some(11_016));
        assert_eq!(days_from_civil(2026, 7, 14), Some(20_648));
        for (year, month, day) in [
            (1969, 12, 31),
            (9999, 1, 1),
            (2100, 2, 29),
            (2026, 13, 1),
            (2026, 4, 31),
            (2026, 1, 0),
        ] {
            assert_eq!(days_from_civil(year, month, day), None);
        }
        // Each day of two centuries follows the one before.
        let mut expected = 0;
        for year in 1970..2170 {
            for (month, day) in (1..=12).flat_map(|month| (1..=31).map(move |day| (month, day))) {
                if let Some(days) = days_from_civil(year, month, day) {
                    assert_eq!(days, expected, "{year}-{month}-{day}");
                    expected += 1;
                }
            }
        }
        assert_eq!(expected, 200 * 365 + 49);
    }
}
