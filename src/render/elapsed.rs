//! A span of time for people, in the unit that fits it.

/// A time of so many microseconds, with at most four digits: `94 us`, `1.2 ms`, `250 ms`, `35.0 s`, `12 min`.
#[must_use]
pub fn elapsed(us: u64) -> String {
    let tenths = |unit: u64, name: &str| {
        let tenths = us / (unit / 10);
        format!("{}.{} {name}", tenths / 10, tenths % 10)
    };
    match us {
        0..1_000 => format!("{us} us"),
        1_000..10_000 => tenths(1_000, "ms"),
        10_000..1_000_000 => format!("{} ms", us / 1_000),
        1_000_000..600_000_000 => tenths(1_000_000, "s"),
        600_000_000..36_000_000_000 => format!("{} min", us / 60_000_000),
        36_000_000_000..864_000_000_000 => format!("{} h", us / 3_600_000_000),
        _ => format!("{} d", us / 86_400_000_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_time_has_the_unit_that_fits_it() {
        for (us, text) in [
            (0, "0 us"),
            (999, "999 us"),
            (1_000, "1.0 ms"),
            (9_999, "9.9 ms"),
            (250_000, "250 ms"),
            (1_000_000, "1.0 s"),
            (357_152_000, "357.1 s"),
            (3_571_520_000, "59 min"),
            (u64::MAX, "213503982 d"),
        ] {
            assert_eq!(elapsed(us), text);
        }
    }
}
